//! Which file is training, validation or test: by the official lists, or drawn.

use super::OP;
use super::clips::Clips;
use crate::data::{Faults, folder, hold_out, text_lines};
use crate::error::{Error, Result};
use std::path::Path;

/// What a file is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    Val,
    Test,
}

/// The official lists: what is in neither is training.
pub(super) fn by_lists(root: &Path, clips: &Clips, faults: &Faults) -> Result<Vec<Part>> {
    let mut parts = vec![Part::Train; clips.len()];
    for (name, part) in [("validation_list.txt", Part::Val), ("testing_list.txt", Part::Test)] {
        let help = "it stands in the archive of v0.02, beside the words: unpack the whole archive";
        let path = folder::near(root, name, &[""]).ok_or_else(|| folder::missing(OP, &root.join(name), help))?;
        let list = text_lines::read(&path)?;
        for (line, text) in text_lines::lines(&path, &list)?.filter(|(_, text)| !text.is_empty()) {
            let listed = number(clips, text).and_then(|number| match parts[number] {
                Part::Train => Ok(number),
                _ => Err((1, format!("{text} was listed before: leave one of the two lines out"))),
            });
            match listed {
                Ok(number) => parts[number] = part,
                Err((column, help)) => faults.meet(Error::data(&path, line, column, help))?,
            }
        }
    }
    Ok(parts)
}

/// The number of the file that a line `word/file.wav` names; otherwise the column of what is wrong with the line, and the help.
fn number(clips: &Clips, text: &str) -> Result<usize, (usize, String)> {
    let Some((word, name)) = text.split_once('/') else {
        return Err((1, format!("{text:?} names no file: a line is a word, a slash, and the name of a WAV file")));
    };
    let Some(class) = clips.words().iter().position(|known| *known == word) else {
        return Err((1, format!("{word:?} is none of the {} words: correct the line or leave it out", clips.words().len())));
    };
    // Words are ASCII, so bytes are columns.
    clips.find(class, name).ok_or_else(|| (word.len() + 2, format!("there is no file {text}: unpack it again, or leave the line out")))
}

/// Of every word 70% training, rounded down, half of the rest validation, rounded down, and what remains test.
pub(super) fn drawn(clips: &Clips) -> Result<Vec<Part>> {
    /// Never changed: a result is only comparable on the same split.
    const SEED: u64 = 0x5eec;
    let mut parts = vec![Part::Train; clips.len()];
    for (class, word) in clips.words().iter().enumerate() {
        let numbers = clips.of_word(class);
        let held = numbers.len() - numbers.len() * 7 / 10;
        if held < 2 || held == numbers.len() {
            let help = "at least 4 are needed for three parts: unpack the whole archive of v0.02";
            return Err(Error::value(OP, format!("there are {} files of the word {word}: {help}", numbers.len())));
        }
        // An own stream for each of the two draws of each word.
        let seed = SEED + 2 * class as u64;
        let (_, rest) = hold_out(numbers.len(), held, seed)?;
        let (val, test) = hold_out(held, held.div_ceil(2), seed + 1)?;
        for (places, part) in [(val, Part::Val), (test, Part::Test)] {
            places.into_iter().for_each(|place| parts[numbers.start + rest[place]] = part);
        }
    }
    Ok(parts)
}
