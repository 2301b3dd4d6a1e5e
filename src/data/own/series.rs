//! A time series: its values, and what becomes of missing ones.

/// Values of shape (length, channels), row-major; NaN where one is missing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub channels: usize,
    pub values: Vec<f32>,
}

impl Series {
    /// Of channels that are all equally long.
    pub fn of_channels(channels: &[Vec<f32>]) -> Self {
        let length = channels.first().map_or(0, Vec::len);
        let values = (0..length).flat_map(|step| channels.iter().map(move |channel| channel[step])).collect();
        Series { channels: channels.len(), values }
    }

    /// The same without the time steps at its end at which all values are missing.
    pub fn ended(mut self) -> Self {
        let mut steps = self.values.chunks_exact(self.channels.max(1));
        let kept = steps.rposition(|step| step.iter().any(|value| !value.is_nan())).map_or(0, |last| last + 1);
        self.values.truncate(kept * self.channels);
        self
    }

    /// The same with missing values on the line between their neighbours; before the first and behind the last they equal it. The error
    /// says what cannot be filled.
    pub fn filled(mut self) -> Result<Self, String> {
        if self.values.is_empty() {
            return Err("there is no value in this series: leave it out".into());
        }
        for channel in 0..self.channels {
            self.fill(channel)?;
        }
        Ok(self)
    }

    /// The same with each channel's differences from one time step to the next as channels behind the others; that of the first step is 0.
    pub fn with_differences(self) -> Self {
        let mut values = Vec::with_capacity(2 * self.values.len());
        let mut before: Option<&[f32]> = None;
        for step in self.values.chunks_exact(self.channels.max(1)) {
            values.extend(step);
            values.extend(step.iter().zip(before.unwrap_or(step)).map(|(value, before)| value - before));
            before = Some(step);
        }
        Series { channels: 2 * self.channels, values }
    }

    fn fill(&mut self, channel: usize) -> Result<(), String> {
        let (channels, length) = (self.channels, self.values.len() / self.channels);
        let at = |step: usize| step * channels + channel;
        let known: Vec<usize> = (0..length).filter(|&step| !self.values[at(step)].is_nan()).collect();
        if let Some(step) = known.iter().find(|&&step| self.values[at(step)].is_infinite()) {
            return Err(format!("value {} of channel {} is infinite, or too large for f32: correct it", step + 1, channel + 1));
        }
        let (Some(&first), Some(&last)) = (known.first(), known.last()) else {
            let which = if channels == 1 { "this series".into() } else { format!("channel {} of this series", channel + 1) };
            return Err(format!("all values of {which} are missing: leave it out"));
        };
        for step in 0..first {
            self.values[at(step)] = self.values[at(first)];
        }
        for step in last + 1..length {
            self.values[at(step)] = self.values[at(last)];
        }
        for pair in known.windows(2) {
            let [from, to] = [pair[0], pair[1]].map(|step| f64::from(self.values[at(step)]));
            for step in pair[0] + 1..pair[1] {
                let share = (step - pair[0]) as f64 / (pair[1] - pair[0]) as f64;
                self.values[at(step)] = (from + share * (to - from)) as f32;
            }
        }
        Ok(())
    }
}

/// A number as it is written; NaN for what stands for a missing one. `None` for anything else.
pub(super) fn number(text: &str) -> Option<f32> {
    let text = text.trim();
    let missing = || text.is_empty() || text == "?" || ["nan", "na", "null"].iter().any(|word| text.eq_ignore_ascii_case(word));
    if missing() { Some(f32::NAN) } else { text.parse::<f64>().ok().map(|value| value as f32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;

    fn of(values: &[f32]) -> Series {
        Series { channels: 1, values: values.into() }
    }

    #[test]
    fn missing_values_lie_between_their_neighbours() {
        assert_eq!(of(&[NAN, 1.0, NAN, NAN, 4.0, NAN]).filled().unwrap().values, [1.0, 1.0, 2.0, 3.0, 4.0, 4.0]);
        assert_eq!(of(&[7.0]).filled().unwrap().values, [7.0]);
        let two = Series { channels: 2, values: vec![0.0, NAN, NAN, 5.0, 2.0, NAN] };
        assert_eq!(two.filled().unwrap().values, [0.0, 5.0, 1.0, 5.0, 2.0, 5.0]);
    }

    #[test]
    fn differences_stand_behind_the_values() {
        let two = Series { channels: 2, values: vec![1.0, 10.0, 4.0, 8.0] };
        assert_eq!(two.with_differences(), Series { channels: 4, values: vec![1.0, 10.0, 0.0, 0.0, 4.0, 8.0, 3.0, -2.0] });
    }

    #[test]
    fn a_series_ends_where_all_channels_do() {
        let two = Series { channels: 2, values: vec![1.0, NAN, NAN, 2.0, NAN, NAN, NAN, NAN] };
        assert_eq!(two.ended().values.len(), 4);
        assert!(of(&[NAN, NAN]).ended().values.is_empty());
    }

    #[test]
    fn what_cannot_be_filled_is_said() {
        assert!(of(&[]).filled().unwrap_err().contains("no value"));
        assert!(of(&[NAN]).filled().unwrap_err().contains("all values of this series"));
        let two = Series { channels: 2, values: vec![1.0, NAN] };
        assert!(two.filled().unwrap_err().contains("channel 2"));
        assert!(of(&[1.0, f32::INFINITY]).filled().unwrap_err().contains("value 2"));
    }

    #[test]
    fn numbers_and_what_is_missing() {
        assert_eq!(["1", " -2.5e3 ", "+4"].map(|text| number(text).unwrap()), [1.0, -2500.0, 4.0]);
        assert!(["", "?", "NaN", "nan", "NA", "null"].iter().all(|text| number(text).unwrap().is_nan()));
        assert!(["1,5", "one", "1 2", "--"].iter().all(|text| number(text).is_none()));
    }
}
