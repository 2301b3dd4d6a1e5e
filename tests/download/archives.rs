//! The official archives, as every recipe of every task names its own.

use std::collections::BTreeMap;

use pspikessm::data::archive::{Archive, Checksum, Content, Selection, Set};
use pspikessm::train::tasks;

/// The sets of all recipes, by task and recipe.
fn sets() -> Vec<(String, Set)> {
    let mut all = Vec::new();
    for task in tasks::ALL {
        for preset in task.presets() {
            let set = task.archive(&task.recipe(Some(preset.name)).unwrap());
            all.extend(set.map(|set| (format!("{} {}", task.name(), preset.name), set)));
        }
    }
    all
}

/// All archives by their names.
fn archives() -> BTreeMap<String, Archive> {
    sets().into_iter().flat_map(|(_, set)| set.archives).map(|archive| (archive.name.clone(), archive)).collect()
}

#[test]
fn every_mirror_is_a_folder_on_the_web() {
    for (name, set) in sets() {
        assert!(!set.mirrors.is_empty() && !set.archives.is_empty(), "{name}");
        for mirror in &set.mirrors {
            assert!(mirror.starts_with("http") && mirror.contains("://") && mirror.ends_with('/'), "{name}: {mirror}");
        }
        assert!(set.address().starts_with(&set.mirrors[0]), "{name}");
    }
}

#[test]
fn every_checksum_has_as_many_hexadecimal_digits_as_its_kind() {
    for (name, archive) in archives() {
        let (digits, length) = match archive.checksum {
            Some(Checksum::Md5(digits)) => (digits, 32),
            Some(Checksum::Sha256(digits)) => (digits, 64),
            None => {
                assert_eq!(name, "lra_release.gz");
                continue;
            }
            Some(other) => panic!("{name}: {other:?} is not known here"),
        };
        assert_eq!(digits.len(), length, "{name}");
        assert!(digits.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)), "{name}");
    }
    // Those of the published data: four files of MNIST, and one of each of the others.
    assert_eq!(archives().len(), 8);
}

#[test]
fn what_a_fetch_makes_is_what_is_looked_for() {
    for (name, set) in sets() {
        for archive in set.archives {
            let made = match &archive.content {
                Content::Plain => vec![archive.name.clone()],
                Content::TarGz { selection: Selection::Into(folder), .. } => vec![folder.clone()],
                Content::TarGz { selection: Selection::Folders(folders), .. } => folders.clone(),
                other => panic!("{name}: {other:?} is not known here"),
            };
            assert!(made.contains(&archive.there[0]), "{name}: {}", archive.name);
            assert!(!archive.name.contains(['/', '\\']) && !archive.name.starts_with('.'), "{name}: {}", archive.name);
        }
    }
}
