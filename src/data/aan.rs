//! Retrieval of the Long Range Arena: two papers (AAN), character by character, and whether one cites the other.
//!
//! The files are new_aan_pairs.train.tsv, new_aan_pairs.eval.tsv and new_aan_pairs.test.tsv of the official archive: 147,086, 18,090 and
//! 17,437 rows, each a label (0 or 1, also written 0.0 or 1.0), two paper ids, and the two texts, with tabs between them. A text
//! is what stands there: the official ones are written as Python writes bytes, `b'..'`, in printable ASCII, and so they are learnt.

pub use super::characters::encode;

use super::archive::Set;
use super::characters::{Counts, Ids, beginning};
use super::text_lines::{self, Blocks};
use super::{Dataset, Faults, Splits, Vocabulary, folder, lra};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The number of classes: unrelated and related.
pub const CLASSES: usize = 2;

/// The files of the training, the validation and the test set.
const FILES: [&str; 3] = ["new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv", "new_aan_pairs.test.tsv"];

/// Reads the three files in the folder `dir`, in its folder `tsv_data`, or in `lra_release/tsv_data`. A text is cut at
/// `longest - 1` characters, and `<eos>` appended.
///
/// The vocabulary is that of all characters of the training texts, as far as these are read: with the three special symbols 98 in the
/// official set, the printable ASCII. Each distinct text of a file is in memory once, however many pairs it is in.
///
/// # Errors
/// `Config` where `longest` is below 2, `Value` where a file is missing, `Io` where it cannot be read, `Data` where it has no row. Of a
/// row, as `faults` says, `Data` with line and column: it is not UTF-8, has not five columns, a label that is not 0 or 1, or an empty
/// text.
pub fn load(dir: impl AsRef<Path>, longest: usize, faults: &Faults) -> Result<Splits> {
    if longest < 2 {
        return Err(Error::config("longest", longest, "must be at least 2: a character and <eos>"));
    }
    let [train, val, test] = find(dir.as_ref())?;
    let train = Pairs::read(&train, longest - 1, faults)?;
    let vocabulary = train.counts().vocabulary(1)?;
    let encoded = |pairs: Pairs| pairs.encoded(&vocabulary, longest);
    let train = encoded(train)?;
    // One file after the other: the texts of one at a time are in memory twice, as text and as ids.
    let val = encoded(Pairs::read(&val, longest - 1, faults)?)?;
    let test = encoded(Pairs::read(&test, longest - 1, faults)?)?;
    Ok(Splits { train, val, test })
}

/// The pairs as they are published, `tsv_data` (7.7 GB, for they come in one archive with Pathfinder).
pub fn archive() -> Set {
    lra::archive(&["tsv_data", "lra_release/tsv_data", "lra_release/lra_release/tsv_data", FILES[0]])
}

/// The three files, all of which are there.
fn find(dir: &Path) -> Result<[PathBuf; 3]> {
    let path = |place: &Path, name: &str| folder::near(place, name, &[""]);
    // The folder that has one of them is told about the others.
    let holds = |place: &Path| FILES.iter().any(|name| path(place, name).is_some());
    let dir = folder::find(dir, &["tsv_data", "lra_release"], holds).unwrap_or_else(|| dir.into());
    let help = "give the folder tsv_data of the official archive lra_release, unpacked";
    let found = |name: &str| path(&dir, name).ok_or_else(|| folder::missing("aan::load", &dir.join(name), help));
    Ok([found(FILES[0])?, found(FILES[1])?, found(FILES[2])?])
}

/// Bytes that are read at a time.
const BLOCK: u64 = 1 << 20;

/// The pairs of a file, each distinct text once.
#[derive(Default)]
struct Pairs {
    /// The texts and their numbers.
    numbers: HashMap<String, usize>,
    /// Two numbers of texts and a label.
    pairs: Vec<([usize; 2], usize)>,
}

impl Pairs {
    /// The pairs of a file, of each text the first `most` characters.
    fn read(path: &Path, most: usize, faults: &Faults) -> Result<Self> {
        let (mut blocks, mut block, mut number) = (Blocks::open(path)?, Vec::new(), 0);
        let mut all = Self::default();
        while blocks.next(&mut block, BLOCK)? {
            for line in block.split_inclusive(|&byte| byte == b'\n') {
                number += 1;
                match text_lines::line(path, number, line).and_then(|text| row(path, number, text)) {
                    Ok((texts, label)) => {
                        let numbers = texts.map(|text| all.number(beginning(text, most)));
                        all.pairs.push((numbers, label));
                    }
                    Err(error) => faults.meet(error)?,
                }
            }
        }
        match all.pairs.is_empty() {
            true => Err(Error::data(path, 1, 1, format!("the file has no row that can be read: {WANTED}"))),
            false => Ok(all),
        }
    }

    fn number(&mut self, text: &str) -> usize {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = self.numbers.len();
        self.numbers.insert(text.into(), number);
        number
    }

    /// How often each character comes in the texts of all pairs.
    fn counts(&self) -> Counts {
        let mut times = vec![0; self.numbers.len()];
        self.pairs.iter().flat_map(|(numbers, _)| numbers).for_each(|&number| times[number] += 1);
        let mut counts = Counts::default();
        self.numbers.iter().for_each(|(text, &number)| counts.add(text, times[number]));
        counts
    }

    fn encoded(self, vocabulary: &Vocabulary, longest: usize) -> Result<Dataset> {
        let (ids, mut sequence) = (Ids::new(vocabulary), Vec::new());
        let mut set = Dataset::pairs(vocabulary.clone(), CLASSES);
        // In the order of the file, not in that of the map, which is another one in every run.
        let mut texts: Vec<(String, usize)> = self.numbers.into_iter().collect();
        texts.sort_unstable_by_key(|&(_, number)| number);
        let mut stored = Vec::with_capacity(texts.len());
        for (text, _) in &texts {
            ids.encode(text, longest, &mut sequence);
            stored.push(set.store_tokens(&sequence)?);
        }
        self.pairs.iter().try_for_each(|&([first, second], label)| set.push_pair_of(stored[first], stored[second], label))?;
        Ok(set)
    }
}

const WANTED: &str = "a row is a label, two paper ids, and two texts, with tabs between them";

/// The two texts and the label of line `number` of the file `path`.
fn row<'a>(path: &Path, number: usize, text: &'a str) -> Result<([&'a str; 2], usize)> {
    let error = |before: &str, help: String| Error::data(path, number, before.chars().count() + 1, help);
    let columns: Vec<&str> = text.split('\t').collect();
    let before = |column: usize| &text[..columns[..column].iter().map(|column| column.len() + 1).sum()];
    let &[label, _, _, first, second] = &columns[..] else {
        let place = if columns.len() < 5 { text } else { before(5) };
        return Err(error(place, format!("there are {} columns, not five: {WANTED}", columns.len())));
    };
    let label = match label {
        "0" | "0.0" => 0,
        "1" | "1.0" => 1,
        _ => {
            let shown: String = label.chars().take(20).collect();
            return Err(error("", format!("the label is {shown:?}: it must be 0 (unrelated) or 1 (related)")));
        }
    };
    match [first, second].iter().position(|text| text.trim().is_empty()) {
        Some(text) => Err(error(before(3 + text), format!("text {} is empty: {WANTED}", text + 1))),
        None => Ok(([first, second], label)),
    }
}
