//! Random ListOps expressions, distinct and of bounded length.

use super::super::random::{Purpose, below, mix, stream};
use super::tokens::{CLOSE, DIGIT, OPERATOR, OPERATORS, value};
use crate::error::{Error, Result};
use rand_core::Rng;
use rand_pcg::Pcg32;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// How many nodes may be drawn in vain before the rules are taken to allow no further expression: less than a second, and thousands of
/// times what an expression of the official rules takes.
const PATIENCE: u64 = 1 << 26;

/// The largest `max_tokens`: it bounds the memory that one tree takes while it grows.
const MOST_TOKENS: usize = 1 << 20;

/// What expressions there are, and how many are wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The depth at which a node is always a digit; the root is at depth 1.
    pub max_depth: usize,
    /// The least number of arguments of an operator.
    pub min_args: usize,
    /// The largest number of arguments of an operator; every number between the two has the same probability.
    pub max_args: usize,
    /// The probability that a node above `max_depth` is an operator: each of the four has a quarter of it, and the digits share the
    /// rest evenly.
    pub p_operator: f64,
    /// The least length in tokens. A digit counts 1; an operator, with its `]`, 2 and the lengths of its arguments. `<eos>` is not counted.
    pub min_tokens: usize,
    /// The largest length in tokens, a million or so at most.
    pub max_tokens: usize,
    /// The number of training samples.
    pub train: usize,
    /// The number of validation samples.
    pub val: usize,
    /// The number of test samples.
    pub test: usize,
    /// Whether the files are written with the official nested parentheses, which no model reads.
    pub parentheses: bool,
}

impl Rules {
    /// The rules of the Long Range Arena: 501 to 1,999 tokens; 96,000, 2,000 and 2,000 samples.
    pub fn official() -> Self {
        Rules {
            max_depth: 10,
            min_args: 2,
            max_args: 10,
            p_operator: 0.25,
            min_tokens: 501,
            max_tokens: 1999,
            train: 96_000,
            val: 2_000,
            test: 2_000,
            parentheses: true,
        }
    }

    /// A small set that trains in minutes: operators nested to 4 deep, 16 to 127 tokens; 10,000, 500 and 1,000 samples.
    pub fn small() -> Self {
        Rules {
            max_depth: 5,
            min_args: 2,
            max_args: 5,
            p_operator: 0.4,
            min_tokens: 16,
            max_tokens: 127,
            train: 10_000,
            val: 500,
            test: 1_000,
            parentheses: false,
        }
    }

    /// An easier one, which a small model learns in seconds: operators nested to 2 deep, of 2 or 3 arguments, 4 to 20 tokens; 40,000, 500
    /// and 1,000 samples.
    pub fn easy() -> Self {
        Rules { max_depth: 3, max_args: 3, min_tokens: 4, max_tokens: 20, train: 40_000, ..Rules::small() }
    }

    fn check(&self) -> Result<()> {
        let at_least_one = [
            ("max_depth", self.max_depth),
            ("min_args", self.min_args),
            ("min_tokens", self.min_tokens),
            ("train", self.train),
            ("val", self.val),
            ("test", self.test),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|&(_, count)| count == 0) {
            return Err(Error::config(name, 0, "must be at least 1"));
        }
        if !(0.0..=1.0).contains(&self.p_operator) {
            return Err(Error::config("p_operator", self.p_operator, "a probability is from 0 to 1"));
        }
        if self.max_args < self.min_args {
            return Err(Error::config("max_args", self.max_args, format!("must be at least min_args, which is {}", self.min_args)));
        }
        if self.max_tokens < self.min_tokens {
            return Err(Error::config("max_tokens", self.max_tokens, format!("must be at least min_tokens, which is {}", self.min_tokens)));
        }
        if self.max_tokens > MOST_TOKENS {
            return Err(Error::config("max_tokens", self.max_tokens, format!("must be at most {MOST_TOKENS}")));
        }
        let longest = self.longest();
        if longest < self.min_tokens {
            let help = format!("no expression has more than {longest} tokens: lower it, or raise max_depth, max_args or p_operator");
            return Err(Error::config("min_tokens", self.min_tokens, help));
        }
        Ok(())
    }

    /// The length of the longest expression without `max_tokens`, or any number from `min_tokens` on where it is longer than that.
    fn longest(&self) -> usize {
        let mut longest: usize = 1;
        for _ in 1..self.max_depth {
            if self.p_operator == 0.0 || longest >= self.min_tokens {
                break;
            }
            longest = longest.saturating_mul(self.max_args).saturating_add(2);
        }
        longest
    }
}

/// An endless stream of distinct expressions, the same for the same rules and seed on every machine.
#[derive(Clone, Debug)]
pub struct Generator {
    rules: Rules,
    /// A node is an operator where a 32-bit draw is below this.
    threshold: u64,
    rng: Pcg32,
    /// A hash of every expression that was given out. Where two expressions share a hash, the second is left out.
    seen: HashSet<u64>,
    tokens: Vec<u8>,
    /// For each open operator, how many of its arguments are still to come.
    open: Vec<usize>,
}

impl Generator {
    /// The stream of `rules` and `seed`.
    ///
    /// # Errors
    /// `Config` where a rule makes no sense.
    pub fn new(rules: &Rules, seed: u64) -> Result<Self> {
        rules.check()?;
        Ok(Generator {
            rules: rules.clone(),
            threshold: (rules.p_operator * 4_294_967_296.0).round() as u64,
            rng: stream(seed, Purpose::ListOps, 0),
            seen: HashSet::new(),
            tokens: Vec::new(),
            open: Vec::new(),
        })
    }

    /// The next expression: its token ids, `<eos>` not appended, and its value.
    ///
    /// # Errors
    /// `Value` where the rules seem to allow no further expression.
    pub fn sample(&mut self) -> Result<(&[u8], u8)> {
        let mut drawn = 0;
        while drawn < PATIENCE {
            if self.grow(&mut drawn) {
                self.fill();
                if self.seen.insert(hash(&self.tokens)) {
                    let target = value(&self.tokens)?;
                    return Ok((&self.tokens, target));
                }
            }
        }
        let found = self.seen.len();
        let help = "widen max_depth, the arguments or the tokens, make operators likelier or rarer, or ask for fewer samples";
        Err(Error::value("listops::generate", format!("the rules seem to allow only {found} distinct expressions: {help}")))
    }

    /// Draws the shape of a tree into `tokens`, and says whether its length is allowed. A tree too long is given up as soon as that is
    /// sure. What is refused is refused for its length alone and every tree is drawn from fresh numbers, so the allowed ones come out
    /// with the probabilities that they would have if all were drawn to their end.
    fn grow(&mut self, drawn: &mut u64) -> bool {
        let Rules { max_depth, min_args, max_args, min_tokens, max_tokens, .. } = self.rules;
        self.tokens.clear();
        self.open.clear();
        // The length if all arguments still to come were digits: it only grows, and is the length in the end.
        let mut length: usize = 1;
        loop {
            *drawn += 1;
            if self.open.len() + 1 < max_depth && u64::from(self.rng.next_u32()) < self.threshold {
                let arguments = min_args + below(&mut self.rng, (max_args - min_args) as u64 + 1) as usize;
                length = length.saturating_add(arguments).saturating_add(1);
                if length > max_tokens {
                    return false;
                }
                self.tokens.push(OPERATOR);
                self.open.push(arguments);
                continue;
            }
            self.tokens.push(DIGIT);
            while let Some(left) = self.open.last_mut() {
                *left -= 1;
                if *left > 0 {
                    break;
                }
                self.open.pop();
                self.tokens.push(CLOSE);
            }
            if self.open.is_empty() {
                return (min_tokens..=max_tokens).contains(&length);
            }
        }
    }

    /// Draws which operator and which digit each token of a shape is. Few shapes are kept, so this is worth a pass of its own.
    fn fill(&mut self) {
        for token in &mut self.tokens {
            *token += match *token {
                DIGIT => below(&mut self.rng, 10) as u8,
                OPERATOR => below(&mut self.rng, u64::from(OPERATORS)) as u8,
                _ => 0,
            };
        }
    }
}

/// A 64-bit hash that stays the same on every machine and with every compiler.
fn hash(tokens: &[u8]) -> u64 {
    let word = |chunk: &[u8]| chunk.iter().fold(0, |word, &token| word << 8 | u64::from(token));
    tokens.chunks(8).fold(mix(tokens.len() as u64), |hash, chunk| mix(hash ^ word(chunk)))
}
