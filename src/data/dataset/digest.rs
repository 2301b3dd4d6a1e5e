//! What tells a data set from another one of as many samples: a checksum of everything in it.

use std::fs;

use crc32fast::Hasher;

use super::{Dataset, Source, Store};
use crate::data::{Encoding, Vocabulary};

impl Dataset {
    /// What tells this set from others: its size and its digest.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{} samples with checksum {:08x}", self.len(), self.digest())
    }

    /// A CRC-32 that changes with the encoding and with the samples, their order and their labels, but not with how they are stored. Of
    /// samples that are read when they are asked for, it takes the names and sizes of their files instead of reading them all.
    fn digest(&self) -> u32 {
        let mut digest = Digest::default();
        digest.number(self.classes);
        digest.encoding(&self.encoding);
        // A sequence of many pairs is read once.
        let sequences: Vec<u32> = match &self.store {
            Store::Remote { .. } => Vec::new(),
            Store::Bytes(bytes) => (0..self.ends.len()).map(|row| crc32fast::hash(&bytes[self.places(row)])).collect(),
            Store::Ids(ids) => (0..self.ends.len()).map(|row| Digest::of_ids(&ids[self.places(row)])).collect(),
            Store::Values(values) => (0..self.ends.len()).map(|row| Digest::of_values(&values[self.places(row)])).collect(),
        };
        self.targets.iter().for_each(|target| digest.number(target.to_bits() as usize));
        for (index, &label) in self.labels.iter().enumerate() {
            digest.number(label);
            if let Store::Remote { source, numbers, .. } = &self.store {
                digest.file(source.as_ref(), numbers[index]);
                continue;
            }
            for &row in &self.rows[index * self.ways..(index + 1) * self.ways] {
                digest.number(self.steps(row).len());
                digest.number(sequences[row] as usize);
            }
        }
        digest.0.finalize()
    }
}

#[derive(Default)]
struct Digest(Hasher);

impl Digest {
    fn number(&mut self, number: usize) {
        self.0.update(&(number as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.update(text.as_bytes());
    }

    fn values(&mut self, values: &[f32]) {
        for chunk in values.chunks(256) {
            let mut bytes = [0; 4 * 256];
            bytes.as_chunks_mut::<4>().0.iter_mut().zip(chunk).for_each(|(to, value)| *to = value.to_le_bytes());
            self.0.update(&bytes[..4 * chunk.len()]);
        }
    }

    fn of_values(values: &[f32]) -> u32 {
        let mut digest = Digest::default();
        digest.values(values);
        digest.0.finalize()
    }

    fn of_ids(ids: &[u32]) -> u32 {
        let mut digest = Digest::default();
        ids.iter().for_each(|id| digest.0.update(&id.to_le_bytes()));
        digest.0.finalize()
    }

    fn encoding(&mut self, encoding: &Encoding) {
        match encoding {
            Encoding::Tokens(vocabulary) => {
                self.number(vocabulary.len());
                let own = Vocabulary::SPECIALS.len()..vocabulary.len();
                own.filter_map(|id| vocabulary.symbol(id as u32)).for_each(|symbol| self.text(symbol));
            }
            Encoding::Values(d_input) => self.number(*d_input),
            Encoding::Levels(table) => self.values(table),
            Encoding::Standardized(statistics) | Encoding::Channels(statistics) => {
                [&statistics.mean, &statistics.factor].into_iter().for_each(|all| self.values(all))
            }
        }
    }

    /// A sample that is not read: its number, and the name and size of its file.
    fn file(&mut self, source: &dyn Source, number: usize) {
        self.number(number);
        let Some(path) = source.file(number) else { return };
        self.text(&path.file_name().unwrap_or_default().to_string_lossy());
        self.number(fs::metadata(&path).map_or(usize::MAX, |file| file.len() as usize));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Standardization;

    fn tokens(samples: &[(&[u8], usize)]) -> Dataset {
        let mut set = Dataset::tokens(Vocabulary::new(["a", "b"]).unwrap(), 3);
        samples.iter().for_each(|(ids, label)| set.push_tokens(ids, *label).unwrap());
        set
    }

    fn values(encoding: Encoding, samples: &[f32]) -> Dataset {
        let mut set = Dataset::new(encoding, 3).unwrap();
        samples.iter().for_each(|value| set.push_values(&[*value], 0).unwrap());
        set
    }

    #[test]
    fn whatever_differs_between_two_sets_shows_in_their_digests() {
        let standardized = |mean| Encoding::Standardized(Standardization { mean: vec![mean], factor: vec![2.0] });
        let other = Dataset::tokens(Vocabulary::new(["a", "c"]).unwrap(), 3);
        let mut letters = other.clone();
        [&[3, 4][..], &[4]].iter().for_each(|ids| letters.push_tokens(ids, 0).unwrap());
        let digests = [
            tokens(&[(&[3, 4], 0), (&[4], 0)]),
            tokens(&[(&[3, 3], 0), (&[4], 0)]),
            tokens(&[(&[4], 0), (&[3, 4], 0)]),
            tokens(&[(&[3], 0), (&[4, 4], 0)]),
            tokens(&[(&[3, 4], 1), (&[4], 0)]),
            tokens(&[(&[3, 4], 0)]),
            tokens(&[]),
            letters,
            other,
            values(Encoding::Values(1), &[1.0, 2.0]),
            values(Encoding::Values(1), &[1.0, -2.0]),
            values(standardized(0.5), &[1.0, 2.0]),
            values(standardized(0.25), &[1.0, 2.0]),
        ]
        .map(|set| set.digest());
        assert!((1..digests.len()).all(|i| !digests[..i].contains(&digests[i])), "{digests:x?}");
    }

    #[test]
    fn how_a_set_is_stored_makes_no_difference() {
        let set = tokens(&[(&[3, 4], 0), (&[4], 1), (&[3], 2)]);
        assert_eq!(set.subset(&[2, 1]).unwrap().digest(), tokens(&[(&[3], 2), (&[4], 1)]).digest());
        let pairs = || Dataset::pairs(Vocabulary::new(["a", "b"]).unwrap(), 2);
        let (mut each, mut once) = (pairs(), pairs());
        each.push_pair(&[3, 4], &[4], 0).unwrap();
        each.push_pair(&[4], &[3, 4], 1).unwrap();
        let [first, second] = [&[4][..], &[3, 4]].map(|ids| once.store_tokens(ids).unwrap());
        once.push_pair_of(second, first, 0).unwrap();
        once.push_pair_of(first, second, 1).unwrap();
        assert_eq!(once.digest(), each.digest());
    }
}
