//! Size and checksum: what is wrong does not stay.

use std::fs;

use pspikessm::data::archive::{Archive, Checksum, Size};
use pspikessm::data::download::Fetched;
use pspikessm::error::Error;
use tempfile::tempdir;

use super::server::{Reply, Server};
use super::{MD5, SHA256, data, fetch, listing, network_error, plain, set};

/// [`data`] with one other byte.
fn forged() -> Vec<u8> {
    let mut forged = data();
    forged[123_456] ^= 1;
    forged
}

#[test]
fn a_wrong_checksum_is_named_with_the_right_one_and_nothing_stays() {
    for (checksum, wanted) in [(Checksum::Sha256(SHA256.into()), SHA256), (Checksum::Md5(MD5.into()), MD5)] {
        let dir = tempdir().unwrap();
        let server = Server::of(&[("/data.bin", &forged())]);
        let archive = Archive { checksum: Some(checksum), ..plain() };
        let error = network_error(&set(&[server.url("")], &[archive]), dir.path());
        let sums: Vec<&str> = error.split(|c: char| !c.is_ascii_hexdigit()).filter(|word| word.len() == wanted.len()).collect();
        assert!(sums.len() == 2 && sums[0] != wanted && sums[1] == wanted, "{error}");
        assert!(listing(dir.path()).is_empty());
    }
}

#[test]
fn a_checksum_in_capitals_is_the_same() {
    let dir = tempdir().unwrap();
    let server = Server::of(&[("/data.bin", &data())]);
    let archive = Archive { checksum: Some(Checksum::Md5(MD5.to_uppercase())), ..plain() };
    assert_eq!(fetch(&set(&[server.url("")], &[archive]), dir.path()).unwrap(), Fetched::Complete);
}

#[test]
fn a_part_of_another_file_is_found_out_and_removed() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("data.bin.part"), [7; 1_000]).unwrap();
    let server = Server::of(&[("/data.bin", &data())]);
    let set = set(&[server.url("")], &[plain()]);
    network_error(&set, dir.path());
    assert!(listing(dir.path()).is_empty());
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::Complete);
}

#[test]
fn too_short_a_file_is_refused() {
    let dir = tempdir().unwrap();
    let server = Server::new(|_, _| Reply::ok(&data()[..199_999]).announcing(None));
    let archive = Archive { size: Size::Exactly(200_000), checksum: None, ..plain() };
    let error = network_error(&set(&[server.url("")], &[archive]), dir.path());
    assert!(error.contains("has 199999 bytes, not 200000"), "{error}");
    assert!(listing(dir.path()).is_empty());
}

#[test]
fn an_archive_that_was_put_there_by_hand_is_checked_and_taken() {
    let archive = Archive { there: vec!["elsewhere".into()], ..plain() };
    let server = Server::of(&[]);
    let set = set(&[server.url("")], &[archive]);
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("data.bin"), data()).unwrap();
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::Complete);
    fs::write(dir.path().join("data.bin"), forged()).unwrap();
    let error = fetch(&set, dir.path()).unwrap_err();
    assert!(matches!(error, Error::Value { .. }), "{error:?}");
    assert!(error.to_string().contains(SHA256) && error.to_string().contains("remove it"), "{error}");
    // It is someone's own file.
    assert_eq!(listing(dir.path()), ["data.bin"]);
    assert!(server.requests().is_empty());
}
