//! Arrays of numpy: series (N, L) or (N, L, C), and their labels (N).

use super::OP;
use super::assemble::canonical;
use super::rows::Table;
use super::sample::{Place, Sample, Spot};
use super::series::Series;
use crate::data::Faults;
use crate::data::npy::{MAGIC, entry, header, strings};
use crate::error::{Error, Result};
use crate::kind;
use std::path::Path;
use std::sync::Arc;

/// An array as it lies in its file.
struct Array<'a> {
    path: &'a Path,
    /// What numpy calls its elements, as <f4.
    kind: &'a str,
    shape: Vec<usize>,
    by_columns: bool,
    data: &'a [u8],
    /// The byte of the first element.
    start: usize,
}

/// The series in an array with the labels in another file; without labels, a sample (L) or (L, C) alone or samples (N, L, C).
///
/// # Errors
/// `Binary` where a file is no array of numbers, was cut, or has another shape; `Value` where there are not as many labels as samples.
pub(super) fn read(path: &Path, labels: Option<&Path>, faults: &Faults) -> Result<Table> {
    let (bytes, shared): (Vec<u8>, Arc<Path>) = (load(path)?, path.into());
    let array = Array::parse(path, &bytes)?;
    let labels = labels.map(labels_in).transpose()?;
    let [count, length, channels] = array.sizes(labels.is_some())?;
    if let Some(labels) = &labels
        && labels.len() != count
    {
        return Err(Error::value(
            OP,
            format!("there are {} labels for the {count} samples in {}: give one for each", labels.len(), path.display()),
        ));
    }
    let size = array.element()?;
    let mut samples = Vec::with_capacity(count);
    for sample in 0..count {
        let steps = (0..length).flat_map(|step| (0..channels).map(move |channel| [sample, step, channel]));
        let values = steps.map(|at| array.number(array.place(at, [count, length, channels]))).collect();
        let byte = array.start + array.place([sample, 0, 0], [count, length, channels]) * size;
        let place = Place { path: shared.clone(), spot: Spot::Byte(byte as u64) };
        let series = Series { channels, values }.ended().filled();
        match series.map_err(|help| place.error(format!("sample {sample} (from 0): {help}"))) {
            Ok(content) => {
                let label = labels.as_ref().map_or(String::new(), |labels| labels[sample].clone());
                samples.push(Sample { content, label, place });
            }
            Err(error) => faults.meet(error)?,
        }
    }
    if samples.is_empty() {
        return Err(Error::binary(path, array.start as u64, "there is no sample in this array that can be read"));
    }
    Ok(Table::of_series(samples))
}

fn load(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::io("read", path, source))
}

/// The labels in a file: numbers, or strings.
fn labels_in(path: &Path) -> Result<Vec<String>> {
    let bytes = load(path)?;
    let array = Array::parse(path, &bytes)?;
    let count = match array.shape[..] {
        [count] | [count, 1] | [1, count] => count,
        _ => return Err(array.wrong(format!("labels are an array (N), and this one is {:?}: give one label for each sample", array.shape))),
    };
    if let Some((character, width)) = strings(&format!("'{}'", array.kind)) {
        let size = width * character.size();
        if size.checked_mul(count) != Some(array.data.len()) {
            return Err(array.cut());
        }
        let string = |at: usize| {
            let characters = array.data[at * size..(at + 1) * size].chunks_exact(character.size()).map(|bytes| character.read(bytes));
            let text: Option<String> = characters.take_while(|character| *character != Some('\0')).collect();
            text.map(|text| canonical(&text)).ok_or_else(|| Error::binary(path, (array.start + at * size) as u64, "this is no text"))
        };
        return (0..count).map(string).collect();
    }
    array.element()?;
    array.whole(count)?;
    Ok((0..count).map(|at| canonical(&array.number64(at).to_string())).collect())
}

impl<'a> Array<'a> {
    fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(MAGIC) {
            let what = kind::of(bytes).map_or("this is no array of numpy".into(), |kind| format!("this is {kind}"));
            return Err(Error::binary(path, 0, format!("{what}: write it with numpy.save")));
        }
        let wrong = |help: &str| Error::binary(path, MAGIC.len() as u64, help);
        let (header, start) = header(bytes).ok_or_else(|| wrong("the header of this numpy array was cut"))?;
        let kind = entry(header, "'descr': ", ",").trim_matches('\'');
        let axes = entry(header, "'shape': (", ")").split(',').map(str::trim).filter(|axis| !axis.is_empty());
        let shape: Option<Vec<usize>> = axes.map(|axis| axis.parse().ok()).collect();
        let by_columns = entry(header, "'fortran_order': ", ",") == "True";
        let shape = shape.ok_or_else(|| wrong("the header of this numpy array names no shape"))?;
        Ok(Array { path, kind, shape, by_columns, data: &bytes[start..], start })
    }

    fn wrong(&self, help: String) -> Error {
        Error::binary(self.path, MAGIC.len() as u64, help)
    }

    fn cut(&self) -> Error {
        let help = format!("{} bytes are no array {:?} of {}: the file was cut, write it again", self.data.len(), self.shape, self.kind);
        Error::binary(self.path, self.start as u64, help)
    }

    /// (N, L, C) of an array of samples, or, where they have no labels, of one sample.
    fn sizes(&self, labelled: bool) -> Result<[usize; 3]> {
        let sizes = match (labelled, &self.shape[..]) {
            (true, &[count, length]) => [count, length, 1],
            (false, &[length]) => [1, length, 1],
            (false, &[length, channels]) => [1, length, channels],
            (_, &[count, length, channels]) => [count, length, channels],
            (true, _) => return Err(self.wrong(format!("samples are an array (N, L) or (N, L, C), and this one is {:?}", self.shape))),
            (false, _) => return Err(self.wrong(format!("a sample is an array (L) or (L, C), and this one is {:?}", self.shape))),
        };
        if sizes.contains(&0) {
            return Err(self.wrong(format!("an array {:?} holds nothing: write one with samples", self.shape)));
        }
        let count = sizes.into_iter().try_fold(1usize, usize::checked_mul).ok_or_else(|| self.cut())?;
        self.element()?;
        self.whole(count).map(|()| sizes)
    }

    /// Refuses a file that has not so many elements.
    fn whole(&self, count: usize) -> Result<()> {
        if count.checked_mul(self.element()?) == Some(self.data.len()) { Ok(()) } else { Err(self.cut()) }
    }

    /// The size of an element, a number, in bytes.
    fn element(&self) -> Result<usize> {
        match self.kind.get(1..) {
            Some("f4" | "i4" | "u4") => Ok(4),
            Some("f8" | "i8" | "u8") => Ok(8),
            Some("i2" | "u2") => Ok(2),
            Some("i1" | "u1" | "b1") => Ok(1),
            _ => Err(self.wrong(format!("the elements of this array are {}: write it with astype('float32')", self.kind))),
        }
    }

    /// Which element stands at these indices of (N, L, C).
    fn place(&self, [sample, step, channel]: [usize; 3], [count, length, channels]: [usize; 3]) -> usize {
        match self.by_columns {
            true => sample + count * (step + length * channel),
            false => (sample * length + step) * channels + channel,
        }
    }

    fn number(&self, at: usize) -> f32 {
        self.number64(at) as f32
    }

    /// Element `at`, which the array has.
    fn number64(&self, at: usize) -> f64 {
        fn of<const N: usize>(bytes: &[u8], at: usize, big: bool) -> [u8; N] {
            let mut own = [0; N];
            own.copy_from_slice(&bytes[at * N..(at + 1) * N]);
            if big {
                own.reverse();
            }
            own
        }
        let (bytes, big) = (self.data, self.kind.starts_with('>'));
        match &self.kind[1..] {
            "f4" => f32::from_le_bytes(of(bytes, at, big)).into(),
            "f8" => f64::from_le_bytes(of(bytes, at, big)),
            "i8" => i64::from_le_bytes(of(bytes, at, big)) as f64,
            "u8" => u64::from_le_bytes(of(bytes, at, big)) as f64,
            "i4" => i32::from_le_bytes(of(bytes, at, big)).into(),
            "u4" => u32::from_le_bytes(of(bytes, at, big)).into(),
            "i2" => i16::from_le_bytes(of(bytes, at, big)).into(),
            "u2" => u16::from_le_bytes(of(bytes, at, big)).into(),
            "i1" => i8::from_le_bytes(of(bytes, at, big)).into(),
            _ => u8::from_le_bytes(of(bytes, at, big)).into(),
        }
    }
}
