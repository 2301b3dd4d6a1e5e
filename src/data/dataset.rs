//! A data set: labelled sequences, in memory or read when they are asked for, handed out in padded batches.

#[cfg(feature = "train")]
mod digest;

use super::{Batch, Encoding, Faults, Inputs, TargetScale, Vocabulary};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Labelled sequences, or pairs of them, of any lengths.
///
/// In memory they are stored end to end, a token (of up to 256 symbols) or a level in one byte, and for each sequence 16 bytes to find it: 96,000 sequences of
/// 1,000 tokens are 98 MB. A sequence of many pairs is stored once, where [`push_pair_of`](Self::push_pair_of) appends them: 147,000
/// pairs of 20,000 documents of 4,000 tokens are 83 MB, not 1.2 GB. What does not fit is read from a [`Source`] whenever a batch wants it.
#[derive(Clone, Debug)]
pub struct Dataset {
    encoding: Encoding,
    /// Sequences in a sample.
    ways: usize,
    store: Store,
    /// Stored sequence `i` is the time steps `ends[i - 1]..ends[i]`.
    ends: Vec<usize>,
    /// Sequence `way` of sample `i` is stored sequence `rows[i * ways + way]`; of remote samples there is none.
    rows: Vec<usize>,
    labels: Vec<usize>,
    classes: usize,
    about: About,
    /// The numbers that are to be found, in the order of the samples, where there is a scale of them.
    targets: Vec<f64>,
}

/// What is known of a set beside its samples and how they are encoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct About {
    /// What the classes are called, where the data say so.
    pub names: Vec<String>,
    /// The scale of the numbers that are to be found instead of classes.
    pub scale: Option<TargetScale>,
    /// How the samples were read, in the words of whoever read them: what one needs to know to read another.
    pub reading: BTreeMap<String, String>,
}

const BATCH: &str = "Dataset::batch";

/// Where the samples are.
#[derive(Clone, Debug)]
enum Store {
    Bytes(Vec<u8>),
    /// Token ids that do not fit in a byte.
    Ids(Vec<u32>),
    Values(Vec<f32>),
    /// Sample `i` is number `numbers[i]` of the source.
    Remote {
        source: Arc<dyn Source>,
        numbers: Vec<usize>,
        faults: Faults,
    },
}

impl Store {
    /// An empty one.
    fn of_tokens(vocabulary: &Vocabulary) -> Self {
        if vocabulary.fits_bytes() { Store::Bytes(Vec::new()) } else { Store::Ids(Vec::new()) }
    }
}

/// Samples that are read when they are asked for, from several threads at once.
pub trait Source: fmt::Debug + Send + Sync {
    /// The number of time steps of every sample.
    fn length(&self) -> usize;

    /// Reads sample `number` into `values`: (length, d_input), row-major, not yet standardised.
    ///
    /// # Errors
    /// What is wrong with the sample, with the name of its file.
    fn read(&self, number: usize, values: &mut [f32]) -> Result<()>;

    /// The file of sample `number`, where it is one: a run that goes on looks at its name and size to know the sample again.
    fn file(&self, number: usize) -> Option<PathBuf> {
        let _ = number;
        None
    }
}

impl PartialEq for Dataset {
    fn eq(&self, other: &Self) -> bool {
        // The samples are compared, not how they are stored. With as many labels and ways, there are as many rows.
        let shapes = (self.ways, self.classes, &self.labels, &self.about, &self.targets)
            == (other.ways, other.classes, &other.labels, &other.about, &other.targets);
        let mut rows = self.rows.iter().zip(&other.rows);
        shapes
            && self.encoding == other.encoding
            && match (&self.store, &other.store) {
                (Store::Bytes(a), Store::Bytes(b)) => rows.all(|(&i, &j)| a[self.places(i)] == b[other.places(j)]),
                (Store::Ids(a), Store::Ids(b)) => rows.all(|(&i, &j)| a[self.places(i)] == b[other.places(j)]),
                (Store::Values(a), Store::Values(b)) => rows.all(|(&i, &j)| a[self.places(i)] == b[other.places(j)]),
                (Store::Remote { source: a, numbers: i, .. }, Store::Remote { source: b, numbers: j, .. }) => Arc::ptr_eq(a, b) && i == j,
                _ => false,
            }
    }
}

impl Dataset {
    /// An empty data set in memory, in `classes` classes.
    ///
    /// # Errors
    /// `Config` where the encoding makes no sense: no value a time step, a table that has not 256 entries.
    pub fn new(encoding: Encoding, classes: usize) -> Result<Self> {
        encoding.check()?;
        let store = match &encoding {
            Encoding::Tokens(vocabulary) => Store::of_tokens(vocabulary),
            Encoding::Levels(_) => Store::Bytes(Vec::new()),
            Encoding::Values(_) | Encoding::Standardized(_) | Encoding::Channels(_) => Store::Values(Vec::new()),
        };
        Ok(Self::empty(encoding, store, classes))
    }

    /// An empty data set of token sequences over `vocabulary`, in `classes` classes.
    pub fn tokens(vocabulary: Vocabulary, classes: usize) -> Self {
        let store = Store::of_tokens(&vocabulary);
        Self::empty(Encoding::Tokens(vocabulary), store, classes)
    }

    fn empty(encoding: Encoding, store: Store, classes: usize) -> Self {
        let (about, targets) = (About::default(), Vec::new());
        Dataset { encoding, ways: 1, store, ends: Vec::new(), rows: Vec::new(), labels: Vec::new(), classes, about, targets }
    }

    /// The same of pairs of sequences.
    pub fn pairs(vocabulary: Vocabulary, classes: usize) -> Self {
        Dataset { ways: 2, ..Self::tokens(vocabulary, classes) }
    }

    /// An empty data set of sequences of `d_input` values a time step, in `classes` classes.
    ///
    /// # Errors
    /// `Config` where `d_input` is 0.
    pub fn values(d_input: usize, classes: usize) -> Result<Self> {
        Self::new(Encoding::Values(d_input), classes)
    }

    /// The samples of `source` with these labels, read when a batch wants them; `faults` says what becomes of one that cannot be read.
    ///
    /// # Errors
    /// `Config` where the encoding is not one of values, or makes no sense for this source; `Value` for a label that is too large.
    pub fn remote(encoding: Encoding, classes: usize, labels: Vec<usize>, source: Arc<dyn Source>, faults: Faults) -> Result<Self> {
        encoding.check()?;
        let length = source.length();
        match &encoding {
            Encoding::Tokens(_) | Encoding::Levels(_) => {
                return Err(Error::config("encoding", "tokens or levels", "a source gives values"));
            }
            Encoding::Standardized(statistics) if statistics.mean.len() != length => {
                let help = format!("there must be one for each of the {length} time steps");
                return Err(Error::config("standardization", format!("{} means", statistics.mean.len()), help));
            }
            _ if length == 0 => return Err(Error::config("length", 0, "a sample has at least one time step")),
            _ => {}
        }
        if let Some(&label) = labels.iter().find(|&&label| label >= classes) {
            return Err(outside("Dataset::remote", label, classes));
        }
        let store = Store::Remote { source, numbers: (0..labels.len()).collect(), faults };
        Ok(Dataset { labels, ..Self::empty(encoding, store, classes) })
    }

    /// Appends a token sequence of class `label`, an id of the vocabulary in each byte; [`push_ids`](Self::push_ids) takes wider ids.
    ///
    /// # Errors
    /// `Value` where the sequence is empty, a token is outside the vocabulary, the label is not below the number of classes, or
    /// this is a data set of values or of pairs.
    pub fn push_tokens(&mut self, sequence: &[u8], label: usize) -> Result<()> {
        self.push("Dataset::push_tokens", &[sequence], label)
    }

    /// Appends a token sequence of class `label`, as [`Vocabulary::encode`] makes one.
    ///
    /// # Errors
    /// As [`push_tokens`](Self::push_tokens).
    pub fn push_ids(&mut self, sequence: &[u32], label: usize) -> Result<()> {
        self.push("Dataset::push_ids", &[sequence], label)
    }

    /// Appends a pair of token sequences of class `label`, as [`Vocabulary::encode`] makes them.
    ///
    /// # Errors
    /// As [`push_tokens`](Self::push_tokens).
    pub fn push_id_pair(&mut self, first: &[u32], second: &[u32], label: usize) -> Result<()> {
        self.push("Dataset::push_id_pair", &[first, second], label)
    }

    /// Appends a pair of token sequences of class `label`.
    ///
    /// # Errors
    /// As [`push_tokens`](Self::push_tokens).
    pub fn push_pair(&mut self, first: &[u8], second: &[u8], label: usize) -> Result<()> {
        self.push("Dataset::push_pair", &[first, second], label)
    }

    /// Stores a token sequence that [`push_pair_of`](Self::push_pair_of) is to make pairs of; returns its number. By itself it is no
    /// sample.
    ///
    /// # Errors
    /// As [`push_tokens`](Self::push_tokens), and `Value` where this is no data set of pairs.
    pub fn store_tokens(&mut self, sequence: &[u8]) -> Result<usize> {
        const OP: &str = "Dataset::store_tokens";
        self.check_ways(OP, 2)?;
        self.check_ids(OP, sequence)?;
        Ok(self.store_ids(sequence))
    }

    /// Appends a pair of stored token sequences, of the numbers that [`store_tokens`](Self::store_tokens) gave, of class `label`.
    ///
    /// # Errors
    /// `Value` where there is no such sequence, the label is not below the number of classes, or this is no data set of pairs.
    pub fn push_pair_of(&mut self, first: usize, second: usize, label: usize) -> Result<()> {
        const OP: &str = "Dataset::push_pair_of";
        self.check_ways(OP, 2)?;
        self.check_label(OP, label)?;
        if let Some(number) = [first, second].into_iter().find(|&number| number >= self.ends.len()) {
            return Err(Error::value(OP, format!("sequence {number} is asked of {} stored ones, which count from 0", self.ends.len())));
        }
        self.rows.extend([first, second]);
        self.labels.push(label);
        Ok(())
    }

    fn push<T: Copy + Into<u32>>(&mut self, op: &'static str, sequences: &[&[T]], label: usize) -> Result<()> {
        self.check_ways(op, sequences.len())?;
        self.check_label(op, label)?;
        sequences.iter().try_for_each(|sequence| self.check_ids(op, sequence))?;
        for sequence in sequences {
            let row = self.store_ids(sequence);
            self.rows.push(row);
        }
        self.labels.push(label);
        Ok(())
    }

    /// Stores checked ids; returns their row.
    fn store_ids<T: Copy + Into<u32>>(&mut self, sequence: &[T]) -> usize {
        let (row, ids) = (self.ends.len(), sequence.iter().map(|&id| id.into()));
        match &mut self.store {
            // Checked ids of a vocabulary of this store fit.
            Store::Bytes(stored) => stored.extend(ids.map(|id| id as u8)),
            Store::Ids(stored) => stored.extend(ids),
            Store::Values(_) | Store::Remote { .. } => return row,
        }
        self.ends.push(self.ends.last().unwrap_or(&0) + sequence.len());
        row
    }

    /// Appends a sequence of levels, one byte a time step, of class `label`.
    ///
    /// # Errors
    /// `Value` where the sequence is empty, the label is not below the number of classes, or this is a data set of something else.
    pub fn push_levels(&mut self, sequence: &[u8], label: usize) -> Result<()> {
        const OP: &str = "Dataset::push_levels";
        self.check(OP, sequence.len(), label)?;
        let (Encoding::Levels(_), Store::Bytes(bytes)) = (&self.encoding, &mut self.store) else {
            return Err(Error::value(OP, "this data set does not hold levels: use push_tokens or push_values"));
        };
        bytes.extend_from_slice(sequence);
        self.rows.push(self.ends.len());
        self.ends.push(bytes.len());
        self.labels.push(label);
        Ok(())
    }

    /// Appends a sequence of values of shape (length, d_input), row-major, of class `label`; not yet standardised.
    ///
    /// # Errors
    /// `Value` where the sequence is empty, is no whole number of time steps, holds NaN or infinity, has more time steps than there are
    /// statistics of, the label is not below the number of classes, or this is a data set of something else.
    pub fn push_values(&mut self, sequence: &[f32], label: usize) -> Result<()> {
        const OP: &str = "Dataset::push_values";
        self.check(OP, sequence.len(), label)?;
        let (Store::Values(values), Some(d_input)) = (&mut self.store, self.encoding.d_input()) else {
            return Err(Error::value(OP, "this data set does not hold values: use push_tokens or push_levels"));
        };
        if !sequence.len().is_multiple_of(d_input) {
            return Err(Error::value(OP, format!("{} values are no whole number of time steps of {d_input} values", sequence.len())));
        }
        if let Encoding::Standardized(statistics) = &self.encoding
            && sequence.len() > statistics.mean.len()
        {
            let help = format!("{} time steps are more than the {} that there are statistics of", sequence.len(), statistics.mean.len());
            return Err(Error::value(OP, help));
        }
        if let Some(at) = sequence.iter().position(|value| !value.is_finite()) {
            return Err(Error::value(OP, format!("value {at} is {}: every value must be finite", sequence[at])));
        }
        values.extend_from_slice(sequence);
        self.rows.push(self.ends.len());
        self.ends.push(values.len() / d_input);
        self.labels.push(label);
        Ok(())
    }

    fn check(&self, op: &'static str, length: usize, label: usize) -> Result<()> {
        if length == 0 {
            return Err(Error::value(op, "the sequence is empty: it must have at least one time step"));
        }
        self.check_label(op, label)
    }

    fn check_label(&self, op: &'static str, label: usize) -> Result<()> {
        if label < self.classes { Ok(()) } else { Err(outside(op, label, self.classes)) }
    }

    fn check_ways(&self, op: &'static str, ways: usize) -> Result<()> {
        if self.ways == ways {
            return Ok(());
        }
        Err(Error::value(op, format!("a sample of this data set has {} sequences, not {ways}", self.ways)))
    }

    fn check_ids<T: Copy + Into<u32>>(&self, op: &'static str, sequence: &[T]) -> Result<()> {
        let (Encoding::Tokens(vocabulary), Store::Bytes(_) | Store::Ids(_)) = (&self.encoding, &self.store) else {
            return Err(Error::value(op, "this data set holds values: use push_values or push_levels"));
        };
        if sequence.is_empty() {
            return Err(Error::value(op, "the sequence is empty: it must have at least one time step"));
        }
        match sequence.iter().map(|&id| id.into()).find(|&id| id as usize >= vocabulary.len()) {
            Some(id) => Err(Error::value(op, format!("token {id} is outside the vocabulary of {} symbols", vocabulary.len()))),
            None => Ok(()),
        }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The class of every sample, in the order of the samples.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// This set of one class with a number to find for every sample in the class's place; what is learnt is on this scale.
    ///
    /// ```
    /// use pspikessm::data::{Dataset, TargetScale};
    /// let mut set = Dataset::values(1, 1)?;
    /// set.push_values(&[0.5, 0.25], 0)?;
    /// set.push_values(&[2.0], 0)?;
    /// let set = set.with_targets(TargetScale { mean: 10.0, deviation: 2.0 }, vec![12.0, 9.0])?;
    /// assert_eq!(set.batch(&[0, 1])?.targets, [1.0, -0.5]);
    /// # Ok::<(), pspikessm::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Value` where there is not one finite number a sample, or there are several classes; `Config` where the scale has no finite mean
    /// or no deviation above 0.
    pub fn with_targets(mut self, scale: TargetScale, targets: Vec<f64>) -> Result<Self> {
        const OP: &str = "Dataset::with_targets";
        scale.check()?;
        if self.classes != 1 {
            return Err(Error::value(OP, format!("there are {} classes: a set with numbers to find is made with one", self.classes)));
        }
        if targets.len() != self.len() {
            return Err(Error::value(OP, format!("there are {} numbers for {} samples: give one for each", targets.len(), self.len())));
        }
        if let Some(at) = targets.iter().position(|target| !target.is_finite()) {
            return Err(Error::value(OP, format!("number {at} is {}: every one must be finite", targets[at])));
        }
        (self.about.scale, self.targets) = (Some(scale), targets);
        Ok(self)
    }

    /// The numbers that are to be found, one for each sample; empty where there are classes.
    pub fn targets(&self) -> &[f64] {
        &self.targets
    }

    /// The scale of the numbers that are to be found; `None` where there are classes.
    pub fn scale(&self) -> Option<TargetScale> {
        self.about.scale
    }

    /// What the classes are called; empty where the data do not say so.
    pub fn class_names(&self) -> &[String] {
        &self.about.names
    }

    /// How the samples were read, in the words of the reader: what must be known to read another one alike.
    pub fn reading(&self) -> &BTreeMap<String, String> {
        &self.about.reading
    }

    /// What is known beside the samples.
    #[cfg(feature = "train")]
    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    /// The same set with this known of it.
    #[cfg(feature = "data")]
    pub(crate) fn with_about(self, about: About) -> Self {
        Dataset { about, ..self }
    }

    /// The numbers that are to be found of some samples, on the scale they are learnt on. A sample that was appended without one, for a
    /// prediction, has the mean.
    fn learnt_targets(&self, indices: &[usize]) -> Vec<f32> {
        let Some(scale) = self.about.scale else { return Vec::new() };
        indices.iter().map(|&index| self.targets.get(index).map_or(0.0, |&target| scale.learnt(target) as f32)).collect()
    }

    /// How samples become what a model reads.
    pub fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// Whether a sample is two sequences.
    pub fn is_paired(&self) -> bool {
        self.ways == 2
    }

    /// Whether samples are read only when a batch wants them.
    pub fn is_remote(&self) -> bool {
        matches!(self.store, Store::Remote { .. })
    }

    /// The vocabulary, or `None` where the samples are values.
    pub fn vocabulary(&self) -> Option<&Vocabulary> {
        match &self.encoding {
            Encoding::Tokens(vocabulary) => Some(vocabulary),
            _ => None,
        }
    }

    /// The number of values at one time step, or `None` where the samples are tokens.
    pub fn d_input(&self) -> Option<usize> {
        self.encoding.d_input()
    }

    /// The token ids of sample `index`, of a pair the first, in a byte each; `None` where there is no such sample, the samples are values, or
    /// ids do not fit in bytes: then [`ids`](Self::ids) has them.
    pub fn sequence(&self, index: usize) -> Option<&[u8]> {
        match (&self.encoding, &self.store) {
            (Encoding::Tokens(_), Store::Bytes(ids)) if index < self.len() => Some(&ids[self.steps(self.rows[index * self.ways])]),
            _ => None,
        }
    }

    /// The token ids of sample `index`, of a pair the first; `None` where there is no such sample or the samples are values.
    pub fn ids(&self, index: usize) -> Option<Vec<u32>> {
        match &self.store {
            Store::Ids(ids) if index < self.len() => Some(ids[self.steps(self.rows[index * self.ways])].to_vec()),
            _ => self.sequence(index).map(|ids| ids.iter().copied().map(u32::from).collect()),
        }
    }

    /// Bytes of memory that the samples take, with what is held in reserve for more; of remote ones, what finds them.
    pub fn bytes(&self) -> usize {
        let samples = match &self.store {
            Store::Bytes(bytes) => bytes.capacity(),
            Store::Ids(ids) => size_of::<u32>() * ids.capacity(),
            Store::Values(values) => size_of::<f32>() * values.capacity(),
            Store::Remote { numbers, .. } => size_of::<usize>() * numbers.capacity(),
        };
        let places = [&self.ends, &self.rows, &self.labels].map(|numbers| size_of::<usize>() * numbers.capacity());
        samples + places.iter().sum::<usize>() + size_of::<f64>() * self.targets.capacity()
    }

    /// The number of time steps of the longest sequence; 0 where there is none.
    pub fn longest(&self) -> usize {
        match &self.store {
            Store::Remote { source, numbers, .. } if !numbers.is_empty() => source.length(),
            _ => self.rows.iter().map(|&row| self.steps(row).len()).max().unwrap_or(0),
        }
    }

    /// The share of the most common label, from 0 to 1: what a model reaches that always says the same. 0 where there is no sample.
    pub fn majority(&self) -> f64 {
        let mut counts = vec![0usize; self.classes];
        for &label in &self.labels {
            counts[label] += 1;
        }
        counts.into_iter().max().unwrap_or(0) as f64 / self.len().max(1) as f64
    }

    /// A data set of the samples at `indices`, in that order; a sequence that several of them name is stored once.
    ///
    /// # Errors
    /// `Value` where one of them is not below [`len`](Self::len).
    pub fn subset(&self, indices: &[usize]) -> Result<Dataset> {
        self.check_indices("Dataset::subset", indices)?;
        let (kept, rows) = match self.is_remote() {
            true => (Vec::new(), Vec::new()),
            false => self.renumbered(indices),
        };
        let store = match &self.store {
            Store::Bytes(bytes) => Store::Bytes(kept.iter().flat_map(|&row| &bytes[self.places(row)]).copied().collect()),
            Store::Ids(ids) => Store::Ids(kept.iter().flat_map(|&row| &ids[self.places(row)]).copied().collect()),
            Store::Values(values) => Store::Values(kept.iter().flat_map(|&row| &values[self.places(row)]).copied().collect()),
            Store::Remote { source, numbers, faults } => {
                let numbers = indices.iter().map(|&index| numbers[index]).collect();
                Store::Remote { source: source.clone(), numbers, faults: faults.clone() }
            }
        };
        let ends = kept.iter().scan(0, |end, &row| {
            *end += self.steps(row).len();
            Some(*end)
        });
        Ok(Dataset {
            encoding: self.encoding.clone(),
            ways: self.ways,
            store,
            ends: ends.collect(),
            rows,
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            classes: self.classes,
            about: self.about.clone(),
            targets: indices.iter().filter_map(|&index| self.targets.get(index).copied()).collect(),
        })
    }

    /// The stored rows of the samples at `indices`, each once, and these samples' rows by their new numbers.
    fn renumbered(&self, indices: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let (mut kept, mut number) = (Vec::new(), vec![None; self.ends.len()]);
        let rows = indices.iter().flat_map(|&index| &self.rows[index * self.ways..(index + 1) * self.ways]).map(|&row| {
            *number[row].get_or_insert_with(|| {
                kept.push(row);
                kept.len() - 1
            })
        });
        let rows = rows.collect();
        (kept, rows)
    }

    /// The samples at `indices`, in that order, padded to the longest of them; without those that cannot be read, where these are
    /// [skipped](Faults::skipped).
    ///
    /// # Errors
    /// `Value` where `indices` is empty or one of them is not below [`len`](Self::len), or no sample can be read; what the source answers.
    pub fn batch(&self, indices: &[usize]) -> Result<Batch> {
        let none = || Error::value(BATCH, format!("none of {} samples can be read: {}", indices.len(), self.first_fault()));
        self.try_batch(indices)?.ok_or_else(none)
    }

    /// As [`batch`](Self::batch), but `None` where all samples are skipped because they cannot be read.
    ///
    /// # Errors
    /// As [`batch`](Self::batch), apart from that.
    pub fn try_batch(&self, indices: &[usize]) -> Result<Option<Batch>> {
        if indices.is_empty() {
            return Err(Error::value(BATCH, "the batch is empty: give at least one index"));
        }
        self.check_indices(BATCH, indices)?;
        if let Store::Remote { source, numbers, faults } = &self.store {
            return self.read_batch(source.as_ref(), numbers, faults, indices);
        }
        // Of pairs all first sequences, then all second ones.
        let sequences = (0..self.ways).flat_map(|way| indices.iter().map(move |index| index * self.ways + way));
        let steps: Vec<Range<usize>> = sequences.map(|sequence| self.steps(self.rows[sequence])).collect();
        let lengths: Vec<usize> = steps.iter().map(Range::len).collect();
        let length = lengths.iter().copied().max().unwrap_or(0);
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        let targets = self.learnt_targets(indices);
        Ok(Some(Batch { inputs: self.pad(&steps, length), lengths, labels, targets, batch: steps.len(), length }))
    }

    fn check_indices(&self, op: &'static str, indices: &[usize]) -> Result<()> {
        match indices.iter().find(|&&index| index >= self.len()) {
            Some(index) => {
                Err(Error::value(op, format!("sample {index} is asked of a data set of {} samples, which count from 0", self.len())))
            }
            None => Ok(()),
        }
    }

    fn first_fault(&self) -> String {
        match &self.store {
            Store::Remote { faults, .. } => faults.reports(1).concat(),
            _ => String::new(),
        }
    }

    fn read_batch(&self, source: &dyn Source, numbers: &[usize], faults: &Faults, indices: &[usize]) -> Result<Option<Batch>> {
        let (length, d_input) = (source.length(), self.encoding.d_input().unwrap_or(1));
        let (mut values, mut read) = (Vec::with_capacity(indices.len() * length * d_input), Vec::new());
        for &index in indices {
            let start = values.len();
            values.resize(start + length * d_input, 0.0);
            match source.read(numbers[index], &mut values[start..]) {
                Ok(()) => read.push(index),
                Err(error) => {
                    faults.meet(error)?;
                    values.truncate(start);
                    continue;
                }
            }
            self.encoding.standardize(&mut values[start..]);
        }
        let (batch, labels, targets) = (read.len(), read.iter().map(|&index| self.labels[index]).collect(), self.learnt_targets(&read));
        let found = Batch { inputs: Inputs::Values { values, d_input }, lengths: vec![length; batch], labels, targets, batch, length };
        Ok((batch > 0).then_some(found))
    }

    /// The inputs at `steps`, each filled up with padding to `length` time steps.
    fn pad(&self, steps: &[Range<usize>], length: usize) -> Inputs {
        let d_input = self.encoding.d_input().unwrap_or(1);
        if let (Encoding::Tokens(_), Store::Bytes(ids)) = (&self.encoding, &self.store) {
            let mut tokens = vec![u32::from(Vocabulary::PAD); steps.len() * length];
            for (row, steps) in tokens.chunks_exact_mut(length).zip(steps) {
                row.iter_mut().zip(&ids[steps.clone()]).for_each(|(to, &id)| *to = u32::from(id));
            }
            return Inputs::Tokens(tokens);
        }
        if let Store::Ids(ids) = &self.store {
            let mut tokens = vec![u32::from(Vocabulary::PAD); steps.len() * length];
            for (row, steps) in tokens.chunks_exact_mut(length).zip(steps) {
                row[..steps.len()].copy_from_slice(&ids[steps.clone()]);
            }
            return Inputs::Tokens(tokens);
        }
        let mut values = vec![0.0; steps.len() * length * d_input];
        for (row, steps) in values.chunks_exact_mut(length * d_input).zip(steps) {
            let row = &mut row[..steps.len() * d_input];
            match (&self.store, &self.encoding) {
                (Store::Bytes(bytes), Encoding::Levels(table)) => {
                    row.iter_mut().zip(&bytes[steps.clone()]).for_each(|(to, &byte)| *to = table[usize::from(byte)]);
                }
                (Store::Values(all), encoding) => {
                    row.copy_from_slice(&all[steps.start * d_input..steps.end * d_input]);
                    encoding.standardize(row);
                }
                // Bytes are tokens or levels, and what is remote is not padded.
                (Store::Bytes(_) | Store::Ids(_) | Store::Remote { .. }, _) => {}
            }
        }
        Inputs::Values { values, d_input }
    }

    /// The time steps of stored sequence `row`, counted over all of them.
    fn steps(&self, row: usize) -> Range<usize> {
        match self.ends.get(row) {
            Some(&end) => row.checked_sub(1).map_or(0, |before| self.ends[before])..end,
            None => 0..0,
        }
    }

    /// Where stored sequence `row` is in the store.
    fn places(&self, row: usize) -> Range<usize> {
        let (steps, d_input) = (self.steps(row), self.d_input().unwrap_or(1));
        steps.start * d_input..steps.end * d_input
    }
}

fn outside(op: &'static str, label: usize, classes: usize) -> Error {
    Error::value(op, format!("label {label} is outside the {classes} classes, which count from 0"))
}
