//! The official archives: addresses, checksums, what is unpacked, and limits, some twice what the true archives need.

use super::set::{Archive, Checksum, Content, Selection, Set, Size};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.into()).collect()
}

/// MNIST: four gzipped files, which are read as they are (12 MB). Those that are there unpacked are not fetched.
pub fn mnist() -> Set {
    const FILES: [(&str, &str); 4] = [
        ("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c"),
    ];
    let archive = |(name, md5): (&str, &str)| Archive {
        name: format!("{name}.gz"),
        size: Size::AtMost(16 * MIB),
        checksum: Some(Checksum::Md5(md5.into())),
        there: ["", "mnist/", "MNIST/raw/"].iter().flat_map(|folder| [format!("{folder}{name}.gz"), format!("{folder}{name}")]).collect(),
        content: Content::Plain,
    };
    Set {
        mirrors: owned(&["https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"]),
        archives: FILES.map(archive).into(),
    }
}

/// CIFAR-10 in its binary version, unpacked to `cifar-10-batches-bin` (170 MB, 184 MB unpacked).
pub fn cifar10() -> Set {
    one(
        "https://www.cs.toronto.edu/~kriz/",
        Archive {
            name: "cifar-10-binary.tar.gz".into(),
            size: Size::Exactly(170_052_171),
            checksum: Some(Checksum::Sha256("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd".into())),
            there: owned(&["cifar-10-batches-bin", "test_batch.bin"]),
            content: Content::TarGz {
                selection: Selection::Folders(owned(&["cifar-10-batches-bin"])),
                max_bytes: 384 * MIB,
                max_entries: 100,
            },
        },
    )
}

/// The film reviews of IMDB, unpacked to `aclImdb` (84 MB, about 100,000 small files unpacked).
pub fn imdb() -> Set {
    one(
        "https://ai.stanford.edu/~amaas/data/sentiment/",
        Archive {
            name: "aclImdb_v1.tar.gz".into(),
            size: Size::AtMost(GIB),
            checksum: Some(Checksum::Md5("7c2ac02c03563afcf9b574c7e56c153a".into())),
            there: owned(&["aclImdb", "train/pos"]),
            content: Content::TarGz { selection: Selection::Folders(owned(&["aclImdb"])), max_bytes: 2 * GIB, max_entries: 250_000 },
        },
    )
}

/// Speech Commands v0.02, unpacked to `speech_commands_v0.02` (2.4 GB, about 106,000 files and 4 GB unpacked).
pub fn speech_commands() -> Set {
    one(
        "http://download.tensorflow.org/data/",
        Archive {
            name: "speech_commands_v0.02.tar.gz".into(),
            size: Size::AtMost(4 * GIB),
            checksum: Some(Checksum::Sha256("af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58".into())),
            there: owned(&["speech_commands_v0.02", "testing_list.txt"]),
            content: Content::TarGz {
                // Its files are at the top level of the tar.
                selection: Selection::Into("speech_commands_v0.02".into()),
                max_bytes: 8 * GIB,
                max_entries: 250_000,
            },
        },
    )
}

/// The pairs of papers of the Long Range Arena, `tsv_data` (7.7 GB, for they come in one archive with Pathfinder; see [`pathfinder`]).
pub fn aan() -> Set {
    lra(&["tsv_data", "lra_release/tsv_data", "lra_release/lra_release/tsv_data", "new_aan_pairs.train.tsv"])
}

/// The pictures of the Long Range Arena of side `size` (32 or 128), `pathfinder32/curv_contour_length_14` (7.7 GB).
///
/// The archive holds all tasks: `listops-1000`, `tsv_data` ([`aan`]) and, of both sizes, the pictures with lines of 14 bars are unpacked,
/// so that no other task fetches it again; the other pictures, most of its files, are not. No checksum is published for it.
pub fn pathfinder(size: usize) -> Set {
    let set = format!("pathfinder{size}/curv_contour_length_14");
    lra(&[&set, &format!("lra_release/{set}"), &format!("lra_release/lra_release/{set}"), "curv_contour_length_14"])
}

fn lra(there: &[&str]) -> Set {
    let folders = owned(&["listops-1000", "tsv_data", "pathfinder32/curv_contour_length_14", "pathfinder128/curv_contour_length_14"]);
    one(
        "https://storage.googleapis.com/long-range-arena/",
        Archive {
            // A tar all the same.
            name: "lra_release.gz".into(),
            size: Size::AtMost(16 * GIB),
            checksum: None,
            there: owned(there),
            content: Content::TarGz { selection: Selection::Folders(folders), max_bytes: 64 * GIB, max_entries: 8_000_000 },
        },
    )
}

fn one(mirror: &str, archive: Archive) -> Set {
    Set { mirrors: owned(&[mirror]), archives: vec![archive] }
}

#[cfg(test)]
mod tests {
    use super::super::set::is_web;
    use super::*;

    /// Every official set.
    fn all() -> Vec<Set> {
        vec![mnist(), cifar10(), imdb(), speech_commands(), aan(), pathfinder(32), pathfinder(128)]
    }

    #[test]
    fn every_mirror_is_a_folder_on_the_web() {
        for mirror in all().iter().flat_map(|set| &set.mirrors) {
            assert!(is_web(mirror) && mirror.ends_with('/'), "{mirror}");
        }
        assert!(all().iter().all(|set| !set.mirrors.is_empty() && !set.archives.is_empty()));
    }

    #[test]
    fn every_checksum_has_as_many_hexadecimal_digits_as_its_kind() {
        let mut without = 0;
        for archive in all().into_iter().flat_map(|set| set.archives) {
            let (digits, length) = match archive.checksum {
                Some(Checksum::Md5(digits)) => (digits, 32),
                Some(Checksum::Sha256(digits)) => (digits, 64),
                None => {
                    assert_eq!(archive.name, "lra_release.gz");
                    without += 1;
                    continue;
                }
            };
            assert_eq!(digits.len(), length, "{}", archive.name);
            assert!(digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)), "{}", archive.name);
        }
        assert_eq!(without, 3);
    }

    #[test]
    fn what_a_fetch_makes_is_what_is_looked_for() {
        for archive in all().into_iter().flat_map(|set| set.archives) {
            let made = match &archive.content {
                Content::Plain => vec![archive.name.clone()],
                Content::TarGz { selection: Selection::Into(folder), .. } => vec![folder.clone()],
                Content::TarGz { selection: Selection::Folders(folders), .. } => folders.clone(),
            };
            assert!(made.contains(&archive.there[0]), "{}", archive.name);
            assert!(!archive.name.contains(['/', '\\']) && !archive.name.starts_with('.'), "{}", archive.name);
        }
    }
}
