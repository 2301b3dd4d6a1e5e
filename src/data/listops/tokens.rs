//! The symbols of ListOps, how a source is split into them, and what an expression is worth.

use super::super::Vocabulary;
use crate::error::{Error, Result};

/// The symbols in the order of their ids. The end of a list is X, as in the official loader.
const SYMBOLS: [&str; 15] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "[MIN", "[MAX", "[MED", "[SM", "X"];

/// The id of the digit 0; those of 1 to 9 follow.
pub(super) const DIGIT: u8 = Vocabulary::SPECIALS.len() as u8;
/// The id of the first operator, MIN; MAX, MED and SM follow.
pub(super) const OPERATOR: u8 = DIGIT + 10;
/// The number of operators.
pub(super) const OPERATORS: u8 = 4;
/// The id of the end of a list.
pub(super) const CLOSE: u8 = OPERATOR + OPERATORS;

/// What a source may consist of, for error messages.
pub(super) const WANTED: &str = "a source consists of 0 to 9, [MIN, [MAX, [MED, [SM, ], ( and ), with blanks between them";

/// The 18 symbols: padding, unknown, end of sequence; the ten digits; `[MIN`, `[MAX`, `[MED`, `[SM`; and X for `]`.
pub fn vocabulary() -> Vocabulary {
    Vocabulary::distinct(&SYMBOLS)
}

/// The symbol of a token as it stands in a source.
pub(super) fn spelling(token: u8) -> &'static str {
    match token {
        CLOSE => "]",
        _ => SYMBOLS.get(usize::from(token.wrapping_sub(DIGIT))).copied().unwrap_or("?"),
    }
}

/// The id of an operator.
fn operator(word: &[u8]) -> Option<u8> {
    Some(match word {
        b"[MIN" => OPERATOR,
        b"[MAX" => OPERATOR + 1,
        b"[MED" => OPERATOR + 2,
        b"[SM" => OPERATOR + 3,
        _ => return None,
    })
}

/// What a word of one character stands for: an id, or one of the two below.
const SINGLE: [u8; 256] = {
    let mut table = [UNKNOWN; 256];
    let mut digit = 0;
    while digit < 10 {
        table[b'0' as usize + digit] = DIGIT + digit as u8;
        digit += 1;
    }
    table[b']' as usize] = CLOSE;
    table[b'(' as usize] = DROPPED;
    table[b')' as usize] = DROPPED;
    table
};
const UNKNOWN: u8 = u8::MAX;
const DROPPED: u8 = u8::MAX - 1;

/// Puts the ids of `source` into `ids`, parentheses dropped. The error is the first unknown word and where it starts, in bytes.
///
/// Nearly all words are of one character, half of them parentheses, in no order that a processor could predict: the official set has
/// 300 million of them, hence the table, and a write that a dropped word undoes.
pub(super) fn split<'a>(source: &'a str, ids: &mut Vec<u8>) -> Result<(), (usize, &'a str)> {
    let bytes = source.as_bytes();
    ids.clear();
    ids.resize(bytes.len() / 2 + 1, 0);
    let (mut start, mut count) = (0, 0);
    while start < bytes.len() {
        let id = SINGLE[usize::from(bytes[start])];
        if bytes.get(start + 1).is_none_or(|&next| next == b' ') && id != UNKNOWN {
            ids[count] = id;
            count += usize::from(id != DROPPED);
            start += 2;
            continue;
        }
        let word = bytes[start..].split(|&byte| byte == b' ').next().unwrap_or_default();
        match operator(word) {
            Some(id) => {
                ids[count] = id;
                count += 1;
            }
            None if word.is_empty() => {}
            // Blanks are ASCII, so a word's ends are character boundaries.
            None => return Err((start, source.get(start..start + word.len()).unwrap_or_default())),
        }
        start += word.len() + 1;
    }
    ids.truncate(count);
    Ok(())
}

/// The ids of a source with or without parentheses, `<eos>` not appended (Long Range Arena's loader: `]` becomes X, parentheses are
/// dropped).
///
/// # Errors
/// `Value` where a word is unknown.
pub fn encode(source: &str) -> Result<Vec<u8>> {
    let mut ids = Vec::new();
    match split(source, &mut ids) {
        Ok(()) => Ok(ids),
        Err((at, word)) => {
            let column = source[..at].chars().count() + 1;
            Err(Error::value("listops::encode", format!("unknown token {word:?} at column {column}: {WANTED}")))
        }
    }
}

/// The value of a source with or without parentheses, a digit.
///
/// # Errors
/// `Value` where a word is unknown or the source is not one whole expression.
pub fn evaluate(source: &str) -> Result<u8> {
    value(&encode(source)?)
}

/// The value of an expression given by its token ids, a digit; `<eos>` at its end is ignored.
///
/// # Errors
/// `Value` where the tokens are not one whole expression, as in a sequence that was cut.
pub fn value(tokens: &[u8]) -> Result<u8> {
    let tokens = tokens.strip_suffix(&[Vocabulary::EOS]).unwrap_or(tokens);
    let refuse = |at: usize, why: &str| {
        Err(Error::value("listops::value", format!("token {} of {}: {why}: give one whole expression", at + 1, tokens.len())))
    };
    // The open lists: the operator, and how often each digit came among the arguments so far.
    let mut open: Vec<(u8, [usize; 10])> = Vec::new();
    for (at, &token) in tokens.iter().enumerate() {
        let result = match token {
            DIGIT..OPERATOR => token - DIGIT,
            OPERATOR..CLOSE => {
                open.push((token, [0; 10]));
                continue;
            }
            CLOSE => match open.pop().and_then(|(operator, counts)| apply(operator, &counts)) {
                Some(result) => result,
                None => return refuse(at, "this ] closes no list, or one without arguments"),
            },
            _ => return refuse(at, "this is neither a digit nor an operator nor ]"),
        };
        match open.last_mut() {
            Some((_, counts)) => counts[usize::from(result)] += 1,
            None if at + 1 == tokens.len() => return Ok(result),
            None => return refuse(at, "the expression ends here, but tokens follow"),
        }
    }
    let last = tokens.len();
    let why =
        if last == 0 { "there is no expression".into() } else { format!("the expression is not finished behind token {last}, its last") };
    Err(Error::value("listops::value", format!("{why}: give one whole expression")))
}

/// The operator's value of arguments given by how often each digit is among them; `None` where there is no argument.
fn apply(operator: u8, counts: &[usize; 10]) -> Option<u8> {
    let total: usize = counts.iter().sum();
    // The argument at position `rank` in ascending order.
    let ranked = |rank: usize| {
        let mut behind = 0;
        (0u8..10).find(|&digit| {
            behind += counts[usize::from(digit)];
            behind > rank
        })
    };
    let last = total.checked_sub(1)?;
    match operator - OPERATOR {
        0 => ranked(0),
        1 => ranked(last),
        // The mean of the middle two, which are one where the number is odd; its integer part.
        2 => Some((ranked(last / 2)? + ranked(total / 2)?) / 2),
        _ => Some((counts.iter().enumerate().map(|(digit, count)| digit * (count % 10)).sum::<usize>() % 10) as u8),
    }
}
