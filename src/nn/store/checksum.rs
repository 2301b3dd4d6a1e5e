//! The checksum of an archive's content, and its place: the first entry of this crate's note.
//!
//! A CRC-32: it changes with certainty where up to 32 bits in a row do, as in a flipped byte, and costs less than reading the file.

use std::collections::BTreeMap;

use crc32fast::Hasher;

use super::Stored;

/// What a note with a checksum begins with.
const HEAD: &str = "{\"checksum\":\"";

/// The checksum of an archive: of every tensor's name, type, shape and values, and of every note, this crate's without the checksum.
pub(super) fn of(tensors: &BTreeMap<String, Stored>, notes: &BTreeMap<String, String>) -> u32 {
    let mut hasher = Hasher::new();
    let mut add = |bytes: &[u8]| {
        // The length keeps neighbours apart.
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (name, value) in notes {
        [name, value].into_iter().for_each(|part| add(part.as_bytes()));
    }
    for (name, stored) in tensors {
        let (kind, values) = stored.parts();
        [name.as_bytes(), kind.as_bytes(), values].into_iter().for_each(&mut add);
    }
    hasher.finalize()
}

/// The note, a JSON object, with a checksum; `None` where it is no object.
pub(super) fn sealed(note: &str, sum: u32) -> Option<String> {
    let rest = note.strip_prefix('{')?;
    let comma = if rest.starts_with('}') { "" } else { "," };
    Some(format!("{HEAD}{sum:08x}\"{comma}{rest}"))
}

/// The note as it was before [`sealed`], and the checksum; `None` where it has none.
pub(super) fn unsealed(note: &str) -> Option<(String, String)> {
    let (sum, rest) = note.strip_prefix(HEAD)?.split_at_checked(8)?;
    let rest = rest.strip_prefix('"')?;
    Some((format!("{{{}", rest.strip_prefix(',').unwrap_or(rest)), sum.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_the_same_after_its_checksum_is_taken_out() {
        for note in ["{}", r#"{"a":1}"#, r#"{"a":",","b":{}}"#] {
            let with = sealed(note, 0xab).unwrap();
            assert!(serde_json::from_str::<serde_json::Value>(&with).unwrap()["checksum"] == "000000ab", "{with}");
            assert_eq!(unsealed(&with), Some((note.into(), "000000ab".into())));
            assert_eq!(unsealed(note), None);
        }
        assert_eq!(sealed("[]", 0), None);
        assert_eq!(unsealed(HEAD), None);
    }

    #[test]
    fn everything_in_an_archive_counts() {
        let tensors = |name: &str, shape: &[usize], values: &[f32]| BTreeMap::from([(name.to_string(), Stored::new(values, shape))]);
        let notes = |name: &str, value: &str| BTreeMap::from([(name.to_string(), value.to_string())]);
        let sums = [
            of(&tensors("a", &[2], &[1.0, 2.0]), &notes("n", "v")),
            of(&tensors("b", &[2], &[1.0, 2.0]), &notes("n", "v")),
            of(&tensors("a", &[2, 1], &[1.0, 2.0]), &notes("n", "v")),
            of(&tensors("a", &[2], &[1.0, -2.0]), &notes("n", "v")),
            of(&tensors("a", &[2], &[1.0, 2.0]), &notes("n", "w")),
            of(&tensors("a", &[2], &[1.0, 2.0]), &notes("nv", "")),
            of(&tensors("a", &[2], &[1.0, 2.0]), &BTreeMap::new()),
            of(&BTreeMap::new(), &notes("n", "v")),
        ];
        assert!((1..sums.len()).all(|i| !sums[..i].contains(&sums[i])), "{sums:x?}");
    }
}
