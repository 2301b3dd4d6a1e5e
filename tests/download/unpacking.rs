//! Unpacking: good tars to their place, bad ones to nowhere.

use std::fs;
use std::path::Path;

use pspikessm::data::archive::{Archive, Content, Selection};
use pspikessm::data::download::Fetched;
use pspikessm::error::Error;
use tempfile::{TempDir, tempdir};

use super::server::Server;
use super::tape::{Tape, gz};
use super::{fetch, listing, set, words};

/// A folder that holds `archive` as if it had been put there by hand.
fn holding(archive: &[u8]) -> TempDir {
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/words.tar.gz"), archive).unwrap();
    dir
}

/// The text of the error that `archive` is refused with; nothing may have come out of it.
fn refusal(archive: &[u8]) -> String {
    let dir = holding(archive);
    let error = fetch(&set(&[], &[words()]), &dir.path().join("data")).unwrap_err();
    assert!(matches!(error, Error::Value { .. }), "{error:?}");
    assert!(error.to_string().contains("words.tar.gz"), "{error}");
    assert_eq!(listing(dir.path()), ["data/", "data/words.tar.gz"], "{error}");
    error.to_string()
}

/// [`words`] that takes only these folders.
fn folders(names: &[&str]) -> Archive {
    let selection = Selection::Folders(names.iter().map(|&name| name.into()).collect());
    let there = vec![names[0].into()];
    Archive { there, content: Content::TarGz { selection, max_bytes: 20_000_000, max_entries: 100 }, ..words() }
}

fn read(path: &Path, name: &str) -> Vec<u8> {
    fs::read(path.join(name)).unwrap()
}

#[test]
fn a_fetched_tar_is_unpacked_once_and_removed() {
    let long = vec![7; 100_000];
    let tape = Tape::default().folder("./").folder("./yes/").file("./yes/1.wav", b"yes").file("no/2.wav", &long).file("list.txt", b"");
    let server = Server::of(&[("/words.tar.gz", &tape.gz())]);
    let set = set(&[server.url("")], &[words()]);
    let dir = tempdir().unwrap();
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::Complete);
    let all = ["words/", "words/list.txt", "words/no/", "words/no/2.wav", "words/yes/", "words/yes/1.wav"];
    assert_eq!(listing(dir.path()), all);
    assert_eq!(read(dir.path(), "words/yes/1.wav"), b"yes");
    assert_eq!(read(dir.path(), "words/no/2.wav"), long);
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::There);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn of_selected_folders_the_rest_is_left_out_however_deep_they_are() {
    // More than the head of an entry may have, to be read over.
    let large = vec![1; 3 << 20];
    let tape = Tape::default()
        .file("release/other/large.bin", &large)
        .entry("release/other/link", b'2', "/etc/passwd", b"")
        .file("release/release/a/1", b"1")
        .folder("release/release/b/empty")
        .file("release/release/b/c/2", b"2")
        .file("release/release/b/3", b"3")
        .file("release/ab/4", b"4");
    let dir = holding(&tape.gz());
    let data = dir.path().join("data");
    assert_eq!(fetch(&set(&[], &[folders(&["a", "b/c", "d"])]), &data).unwrap(), Fetched::Complete);
    assert_eq!(listing(&data), ["a/", "a/1", "b/", "b/c/", "b/c/2"]);
}

#[test]
fn a_folder_that_is_there_already_is_left_as_it_is() {
    let dir = holding(&Tape::default().file("a/1", b"new").file("b/2", b"new").gz());
    let data = dir.path().join("data");
    fs::create_dir(data.join("b")).unwrap();
    fs::write(data.join("b/mine"), b"old").unwrap();
    assert_eq!(fetch(&set(&[], &[folders(&["a", "b"])]), &data).unwrap(), Fetched::Complete);
    assert_eq!(listing(&data), ["a/", "a/1", "b/", "b/mine"]);
}

#[test]
fn a_tar_without_what_is_wanted_is_refused() {
    let dir = holding(&Tape::default().file("b/2", b"").gz());
    let error = fetch(&set(&[], &[folders(&["a", "c"])]), &dir.path().join("data")).unwrap_err();
    assert!(matches!(error, Error::Value { .. }) && error.to_string().contains("holds no a"), "{error}");
    assert_eq!(listing(dir.path()), ["data/", "data/words.tar.gz"]);
}

#[test]
fn what_an_interrupted_unpacking_left_is_removed() {
    let dir = holding(&Tape::default().file("1", b"1").gz());
    let data = dir.path().join("data");
    fs::create_dir_all(data.join(".words.tar.gz.unpacking/words")).unwrap();
    fs::write(data.join(".words.tar.gz.unpacking/words/half"), b"").unwrap();
    assert_eq!(fetch(&set(&[], &[words()]), &data).unwrap(), Fetched::Complete);
    assert_eq!(listing(&data), ["words/", "words/1"]);
}

#[test]
fn long_names_and_comments_are_understood() {
    let name = format!("{}/1.wav", "n".repeat(150));
    let tape = Tape::default()
        .entry("pax_global_header", b'g', "", b"16 comment=none\n")
        .entry("././@LongLink", b'L', "", format!("{name}\0").as_bytes())
        .file("cut", b"1");
    let dir = holding(&tape.gz());
    assert_eq!(fetch(&set(&[], &[words()]), &dir.path().join("data")).unwrap(), Fetched::Complete);
    assert_eq!(read(dir.path(), &format!("data/words/{name}")), b"1");
}

#[test]
fn a_gzip_file_of_several_members_is_read_to_its_end() {
    let mut tar = Tape::default().file("1", b"1").file("2", b"2").0;
    tar.extend([0; 1024]);
    let archive = [gz(&tar[..700]), gz(&tar[700..])].concat();
    let dir = holding(&archive);
    assert_eq!(fetch(&set(&[], &[words()]), &dir.path().join("data")).unwrap(), Fetched::Complete);
    assert_eq!(listing(&dir.path().join("data")), ["words/", "words/1", "words/2"]);
}

#[test]
fn paths_that_lead_out_are_refused() {
    for name in ["../evil", "a/../../evil", "a/..", "/evil", "//evil", "C:/evil", "a/C:evil", "\\evil", "a\\..\\..\\evil"] {
        for kind in [b'0', b'5'] {
            let error = refusal(&Tape::default().file("good", b"1").entry(name, kind, "", b"").gz());
            assert!(error.contains(&format!("{name:?}")), "{name}: {error}");
        }
    }
}

#[test]
fn a_path_that_leads_out_is_refused_in_a_long_name_too() {
    for name in ["../evil".to_string(), format!("{}/../../../evil", "n".repeat(150))] {
        let tape = Tape::default().entry("././@LongLink", b'L', "", format!("{name}\0").as_bytes()).file("good", b"1");
        assert!(refusal(&tape.gz()).contains("has .. in its path"), "{name}");
        let value = format!("path={name}\n");
        let record = (1..4).map(|digits| digits + 1 + value.len()).find(|length| length.to_string().len() + 1 + value.len() == *length);
        let record = format!("{} {value}", record.unwrap());
        let tape = Tape::default().entry("pax", b'x', "", record.as_bytes()).file("good", b"1");
        assert!(refusal(&tape.gz()).contains("has .. in its path"), "{name}");
    }
}

#[test]
fn links_and_devices_are_refused() {
    let outside = tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    // '1' hard link, '2' symbolic link, '3' and '4' devices, '6' pipe, '7' and 'S' files of kinds that nobody needs.
    for kind in [b'1', b'2', b'3', b'4', b'6', b'7', b'S'] {
        for target in ["good", "../../outside", target] {
            let tape = Tape::default().file("good", b"1").entry("bad", kind, target, b"").file("bad/evil", b"evil");
            let error = refusal(&tape.gz());
            assert!(kind == b'S' || error.contains("\"bad\""), "{}: {error}", char::from(kind));
        }
    }
    assert!(listing(outside.path()).is_empty());
}

#[test]
fn a_bomb_is_stopped() {
    // `words` may have 1,000,000 bytes.
    let zeros = vec![0; 5_000_000];
    let error = refusal(&Tape::default().file("good", b"1").file("bomb", &zeros).gz());
    assert!(error.contains("\"bomb\"") && error.contains("1000000"), "{error}");
    let many = (0..9).fold(Tape::default(), |tape, number| tape.file(&number.to_string(), &zeros[..120_000]));
    assert!(refusal(&many.gz()).contains("1000000"));
    // After the end of the tar.
    let mut behind = Tape::default().file("good", b"1");
    behind.0.extend([0; 1024]);
    behind.0.extend(&zeros);
    assert!(refusal(&gz(&behind.0)).contains("1000000"));
}

#[test]
fn a_head_that_would_fill_the_memory_is_refused() {
    let name = vec![b'n'; 2 << 20];
    for kind in [b'L', b'K', b'x'] {
        let dir = holding(&Tape::default().file("a/good", b"1").entry("././@LongLink", kind, "", &name).file("a/bad", b"").gz());
        let error = fetch(&set(&[], &[folders(&["a"])]), &dir.path().join("data")).unwrap_err().to_string();
        assert!(error.contains("\"a/good\"") && error.contains("too long"), "{error}");
        assert_eq!(listing(dir.path()), ["data/", "data/words.tar.gz"]);
    }
}

#[test]
fn too_many_entries_are_refused() {
    // `words` may have 10.
    let tape = |count: u32| (0..count).fold(Tape::default(), |tape, number| tape.file(&number.to_string(), b""));
    let error = refusal(&tape(11).gz());
    assert!(error.contains("\"10\"") && error.contains("there may be 10"), "{error}");
    assert_eq!(fetch(&set(&[], &[words()]), &holding(&tape(10).gz()).path().join("data")).unwrap(), Fetched::Complete);
}

#[test]
fn a_broken_archive_is_refused_wherever_it_breaks() {
    let noise = super::data();
    let whole = Tape::default().file("1", &noise[..3_000]).file("2", &noise[3_000..9_000]).gz();
    for length in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        refusal(&whole[..length]);
    }
    // The checksum, and a byte of the content.
    for place in [whole.len() - 6, whole.len() / 2] {
        let mut broken = whole.clone();
        broken[place] ^= 1;
        refusal(&broken);
    }
    assert!(refusal(b"<html>no archive</html>").contains("at its beginning"));
    refusal(&[&whole[..], b"something behind"].concat());
}

#[test]
fn a_tar_that_breaks_in_a_whole_gzip_file_is_refused() {
    let tape = Tape::default().file("1", &[1; 600]).file("2", &[2; 600]);
    for length in [512, 1_100, 2_048, 2_600] {
        let error = refusal(&gz(&tape.0[..length]));
        assert!(error.contains("of its 600 bytes"), "{length}: {error}");
    }
    // In a header, and in what fills a block.
    for length in [100, 1_120, 1_600, 2_650] {
        refusal(&gz(&tape.0[..length]));
    }
}
