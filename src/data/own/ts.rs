//! Time series in the `.ts` format of the UEA archive.
//!
//! Lines that begin with `#` or `%` are comments. A header of lines `@name value` ends with `@data`; behind it each line is a sample: its
//! channels with colons between them, values with commas between them, and behind the last colon the label.
//!
//! ```text
//! @problemName Steps
//! @timeStamps false
//! @dimensions 2
//! @classLabel true walking running
//! @data
//! 1.0,2.5,?,3.0:0.1,0.2,0.3,0.4:walking
//! ```

use super::assemble::canonical;
use super::rows::Table;
use super::sample::{Place, Sample};
use super::series::{Series, number};
use crate::data::{Faults, text_lines};
use crate::error::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// What a header says.
#[derive(Default)]
struct Header {
    /// Channels, where it says how many.
    dimensions: Option<usize>,
    /// Time steps, where it says how many.
    length: Option<usize>,
    equal_length: Option<bool>,
    /// Whether a label follows the channels.
    labelled: bool,
    /// Whether it is a number to find.
    numbers: bool,
    classes: Vec<String>,
}

/// What is wrong, and in which column.
type Wrong = (usize, String);

/// The series in a file, in their order. Where labels are not wanted, any label will do.
///
/// # Errors
/// `Data` with line and column for a header or a sample that is not as described above, has time stamps, or contradicts the header.
pub(super) fn read(path: &Path, labelled: bool, faults: &Faults) -> Result<Table> {
    let text = text_lines::read(path)?;
    let shared: Arc<Path> = path.into();
    let mut header = Header::default();
    let (mut samples, mut data) = (Vec::new(), false);
    for (line, text) in text_lines::lines(path, &text)? {
        let start = text.trim_start();
        if start.is_empty() || start.starts_with(['#', '%']) {
            continue;
        }
        if !data {
            data = header.take(start).map_err(|(column, help)| Error::data(path, line, text.len() - start.len() + column, help))?;
            continue;
        }
        match header.sample(text, labelled) {
            Ok((content, label)) => samples.push(Sample { content, label, place: Place::line(&shared, line) }),
            Err((column, help)) => faults.meet(Error::data(path, line, column, help))?,
        }
    }
    if samples.is_empty() {
        let help = if data {
            "there is no sample behind @data that can be read"
        } else {
            "there is no line @data, behind which the samples stand"
        };
        return Err(Error::data(path, 1, 1, format!("{help}: is this the right file, whole?")));
    }
    if labelled && !header.labelled {
        return Err(Error::data(path, 1, 1, "the header names no labels: give @classLabel true and the classes, or @targetLabel true"));
    }
    let declared = header.classes;
    Ok(Table { numbers: header.numbers, declared, ..Table::of_series(samples) })
}

impl Header {
    /// Takes a line of the header; true where it is the last.
    fn take(&mut self, line: &str) -> Result<bool, Wrong> {
        let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim();
        let truth = || match value.split_whitespace().next().map(str::to_lowercase).as_deref() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err((1, format!("{name} is {value:?}: it must be true or false"))),
        };
        let count = || match value.parse() {
            Ok(0) | Err(_) => Err((1, format!("{name} is {value:?}: it must be a whole number, 1 or above"))),
            Ok(count) => Ok(Some(count)),
        };
        match name.to_lowercase().as_str() {
            "@data" => return Ok(true),
            "@timestamps" if truth()? => {
                let help = "the values have time stamps, which are not read: write the values alone, at equal times, and @timeStamps false";
                return Err((1, help.into()));
            }
            "@univariate" if truth()? => self.dimensions = self.dimensions.or(Some(1)),
            "@dimensions" | "@dimension" => self.dimensions = count()?,
            "@serieslength" => self.length = count()?,
            "@equallength" => self.equal_length = Some(truth()?),
            "@classlabel" => {
                self.labelled |= truth()?;
                self.classes = value.split_whitespace().skip(1).map(canonical).collect();
            }
            "@targetlabel" => (self.numbers, self.labelled) = (truth()?, self.labelled || truth()?),
            // What the problem is called, whether values are missing.
            _ if name.starts_with('@') => {}
            _ => {
                let help = "a line of the header begins with @, and the samples follow behind a line @data";
                return Err((1, help.into()));
            }
        }
        Ok(false)
    }

    /// A sample and its label.
    fn sample(&self, line: &str, wanted: bool) -> Result<(Series, String), Wrong> {
        if line.trim_start().starts_with('(') {
            return Err((1, "the values have time stamps, which are not read: write the values alone, at equal times".into()));
        }
        let (channels, label) = if self.labelled {
            let (channels, label) = line.rsplit_once(':').ok_or((1, "there is no colon with a label behind it".to_string()))?;
            (channels, self.label(label, wanted).map_err(|help| (column(line, channels.len() + 1), help))?)
        } else {
            (line, String::new())
        };
        let mut found = Vec::new();
        let mut at = 0;
        for channel in channels.split(':') {
            found.push(values(line, channel, at)?);
            at += channel.len() + 1;
        }
        self.check(&found)?;
        let series = Series::of_channels(&found).filled().map_err(|help| (1, help))?;
        Ok((series, label))
    }

    fn label(&self, label: &str, wanted: bool) -> Result<String, String> {
        let label = canonical(label);
        if !wanted || self.classes.is_empty() || self.classes.contains(&label) {
            return Ok(label);
        }
        let classes: String = self.classes.join(" ").chars().take(100).collect();
        Err(format!("the label {label:?} is none of those in the header (@classLabel true {classes}): correct the one or the other"))
    }

    fn check(&self, channels: &[Vec<f32>]) -> Result<(), Wrong> {
        if let Some(wanted) = self.dimensions.filter(|&wanted| wanted != channels.len()) {
            return Err((1, format!("there are {} channels, and the header says {wanted}: correct the one or the other", channels.len())));
        }
        let length = channels[0].len();
        if let Some(at) = channels.iter().position(|channel| channel.len() != length) {
            let help = format!("channel {} has {} values and channel 1 has {length}: give all as many", at + 1, channels[at].len());
            return Err((1, help));
        }
        match self.length.filter(|&wanted| self.equal_length != Some(false) && wanted != length) {
            Some(wanted) => {
                Err((1, format!("there are {length} values, and the header says {wanted} (@seriesLength): correct the one or the other")))
            }
            None => Ok(()),
        }
    }
}

/// The values of a channel that begins at byte `at` of a line.
fn values(line: &str, channel: &str, mut at: usize) -> Result<Vec<f32>, Wrong> {
    let mut values = Vec::new();
    for field in channel.split(',') {
        values.push(number(field).ok_or_else(|| {
            let shown: String = field.chars().take(20).collect();
            (column(line, at), format!("{shown:?} is no number (a missing one is ? or NaN)"))
        })?);
        at += field.len() + 1;
    }
    Ok(values)
}

/// The column of a byte of a line.
fn column(line: &str, at: usize) -> usize {
    line.get(..at).map_or(at, |before| before.chars().count()) + 1
}
