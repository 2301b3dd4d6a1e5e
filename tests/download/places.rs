//! Where from: mirrors, another address; where to: what is there already, what another process is at.

use std::fs;
use std::sync::atomic::AtomicBool;

use pspikessm::data::archive::Archive;
use pspikessm::data::download::{self, Fetched, Options};
use pspikessm::error::Error;
use tempfile::tempdir;

use super::server::{Reply, Server};
use super::{data, fetch, listing, network_error, options, plain, set};

#[test]
fn mirrors_are_tried_in_order() {
    let (empty, good, spare) = (Server::of(&[]), Server::of(&[("/b/data.bin", &data())]), Server::of(&[("/data.bin", &data())]));
    let set = set(&[empty.url("/a"), good.url("/b/"), spare.url("")], &[plain()]);
    let dir = tempdir().unwrap();
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::Complete);
    assert_eq!((empty.paths(), good.paths()), (vec!["/a/data.bin".to_string()], vec!["/b/data.bin".to_string()]));
    assert!(spare.requests().is_empty());
}

#[test]
fn a_mirror_with_a_wrong_file_is_passed_over() {
    let (wrong, good) = (Server::of(&[("/data.bin", b"<html>")]), Server::of(&[("/data.bin", &data())]));
    let dir = tempdir().unwrap();
    assert_eq!(fetch(&set(&[wrong.url(""), good.url("")], &[plain()]), dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(good.starts(), [None]);
    assert_eq!(listing(dir.path()), ["data.bin"]);
}

#[test]
fn a_mirror_goes_on_where_another_broke_off() {
    let broken = Server::new(|number, request| match number {
        0 => Reply::ranged(request, &data()).cut(5_000),
        _ => Reply::new("503 Service Unavailable", b""),
    });
    let good = Server::of(&[("/data.bin", &data())]);
    let dir = tempdir().unwrap();
    assert_eq!(fetch(&set(&[broken.url(""), good.url("")], &[plain()]), dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(good.starts(), [Some(5_000)]);
}

#[test]
fn where_all_mirrors_fail_all_are_named() {
    let (first, second) = (Server::of(&[]), Server::new(|_, _| Reply::new("403 Forbidden", b"")));
    let dir = tempdir().unwrap();
    let error = network_error(&set(&[first.url(""), second.url("")], &[plain()]), dir.path());
    for part in [&first.url("/data.bin"), "404", &second.url("/data.bin"), "403"] {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    // A port that no server has.
    let dir = tempdir().unwrap();
    let error = network_error(&set(&["http://127.0.0.1:1/".into()], &[plain()]), dir.path());
    assert!(error.contains("http://127.0.0.1:1/data.bin"), "{error}");
}

#[test]
fn a_given_address_is_of_the_folder_or_of_the_file() {
    let other = Archive { name: "other.bin".into(), there: vec!["other.bin".into()], ..plain() };
    for (url, first, second) in [
        ("/f", "/f/data.bin", "/f/other.bin"),
        ("/f/", "/f/data.bin", "/f/other.bin"),
        ("", "/data.bin", "/other.bin"),
        ("/f/data.bin", "/f/data.bin", "/f/other.bin"),
        ("/f/other.bin", "/f/data.bin", "/f/other.bin"),
        ("/f/data.bin?key=a/b", "/f/data.bin?key=a/b", "/f/other.bin?key=a/b"),
        ("/f?key=1", "/f/data.bin?key=1", "/f/other.bin?key=1"),
        ("/f/not-data.bin", "/f/not-data.bin/data.bin", "/f/not-data.bin/other.bin"),
    ] {
        let (server, mirror) = (Server::new(|_, _| Reply::ok(&data())), Server::of(&[]));
        let set = set(&[mirror.url("")], &[plain(), other.clone()]);
        let options = Options { url: Some(server.url(url)), ..options() };
        let dir = tempdir().unwrap();
        let fetched = download::fetch(&set, dir.path(), &options, &|_| (), &AtomicBool::new(false)).unwrap();
        assert_eq!(fetched, Fetched::Complete, "{url}");
        assert_eq!(server.paths(), [first, second], "{url}");
        assert!(mirror.requests().is_empty(), "{url}");
    }
}

#[test]
fn a_given_address_that_is_none_is_refused() {
    for url in ["", "data", "/srv/data", "file:///srv/data", "ftp://127.0.0.1/data", "http://", "https:///data.bin"] {
        let options = Options { url: Some(url.into()), ..options() };
        let dir = tempdir().unwrap();
        let error = download::fetch(&set(&[], &[plain()]), dir.path(), &options, &|_| (), &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(error, Error::Config { name: "url", .. }), "{url}: {error:?}");
    }
}

#[test]
fn an_address_that_is_no_address_is_an_error() {
    let dir = tempdir().unwrap();
    let error = network_error(&set(&["http://127.0.0.1:port of call/".into()], &[plain()]), dir.path());
    assert!(error.contains("port of call"), "{error}");
}

#[test]
fn a_set_without_addresses_says_so() {
    let dir = tempdir().unwrap();
    let error = network_error(&set(&[], &[plain()]), dir.path());
    assert!(error.contains("data.bin") && error.contains("no address"), "{error}");
}

#[test]
fn data_that_are_there_under_any_name_are_not_fetched() {
    let archive = Archive { there: vec!["data.bin".into(), "raw/data".into()], ..plain() };
    let server = Server::of(&[]);
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("raw")).unwrap();
    fs::write(dir.path().join("raw/data"), b"my own").unwrap();
    assert_eq!(fetch(&set(&[server.url("")], &[archive]), dir.path()).unwrap(), Fetched::There);
    assert!(server.requests().is_empty());
}

#[test]
fn a_folder_that_is_a_file_is_an_error() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = fetch(&set(&["http://127.0.0.1:1".into()], &[plain()]), &file).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error:?}");
}

#[cfg(unix)]
#[test]
fn two_processes_do_not_fetch_into_one_folder() {
    let server = Server::of(&[("/data.bin", &data())]);
    let set = set(&[server.url("")], &[plain()]);
    let dir = tempdir().unwrap();
    let other = fs::File::open(dir.path()).unwrap();
    other.lock().unwrap();
    let error = fetch(&set, dir.path()).unwrap_err();
    assert!(matches!(error, Error::Config { name: "dir", .. }), "{error:?}");
    assert!(server.requests().is_empty());
    drop(other);
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::Complete);
    // And the lock is given back.
    fs::File::open(dir.path()).unwrap().try_lock().unwrap();
}
