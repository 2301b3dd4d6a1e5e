//! Ctrl-C: what has arrived is kept.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pspikessm::data::download::{self, Fetched, Options};
use tempfile::tempdir;

use super::server::{Reply, Server};
use super::tape::Tape;
use super::{data, fetch, listing, options, plain, set, words};

#[test]
fn a_transfer_stops_and_the_next_one_goes_on() {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    // Set while the body is on its way, so that the body is never read to its end.
    let server = Server::new(move |number, request| {
        flag.store(number == 0, Ordering::SeqCst);
        Reply::ranged(request, &data())
    });
    let dir = tempdir().unwrap();
    let part = dir.path().join("data.bin.part");
    fs::write(&part, &data()[..5_000]).unwrap();
    let set = set(&[server.url("")], &[plain()]);
    assert_eq!(download::fetch(&set, dir.path(), &options(), &|_| (), &stop).unwrap(), Fetched::Stopped);
    assert_eq!(listing(dir.path()), ["data.bin.part"]);
    let kept = fs::metadata(&part).unwrap().len() as usize;
    assert!((5_000..200_000).contains(&kept));
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(server.starts(), [Some(5_000), Some(kept)]);
    assert!(fs::read(dir.path().join("data.bin")).unwrap() == data());
}

#[test]
fn a_stop_before_the_first_request_asks_for_nothing() {
    let server = Server::of(&[("/data.bin", &data())]);
    let dir = tempdir().unwrap();
    let fetched = download::fetch(&set(&[server.url("")], &[plain()]), dir.path(), &options(), &|_| (), &AtomicBool::new(true)).unwrap();
    assert_eq!(fetched, Fetched::Stopped);
    assert!(server.requests().is_empty() && listing(dir.path()).is_empty());
}

#[test]
fn a_pause_between_tries_is_cut_short() {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let server = Server::new(move |_, _| {
        flag.store(true, Ordering::SeqCst);
        Reply::new("503 Service Unavailable", b"")
    });
    // A test that waited for it would never end.
    let options = Options { pause: Duration::from_secs(1 << 30), ..options() };
    let dir = tempdir().unwrap();
    let fetched = download::fetch(&set(&[server.url("")], &[plain()]), dir.path(), &options, &|_| (), &stop).unwrap();
    assert_eq!((fetched, server.requests().len()), (Fetched::Stopped, 1));
}

#[test]
fn checking_stops_and_keeps_the_file() {
    let dir = tempdir().unwrap();
    let mut archive = plain();
    archive.there = vec!["elsewhere".into()];
    fs::write(dir.path().join("data.bin"), data()).unwrap();
    let fetched = download::fetch(&set(&[], &[archive]), dir.path(), &options(), &|_| (), &AtomicBool::new(true)).unwrap();
    assert_eq!(fetched, Fetched::Stopped);
    assert_eq!(listing(dir.path()), ["data.bin"]);
}

#[test]
fn stopped_unpacking_leaves_the_archive_and_nothing_else() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("words.tar.gz"), Tape::default().file("yes/1.wav", b"yes").gz()).unwrap();
    let set = set(&[], &[words()]);
    assert_eq!(download::fetch(&set, dir.path(), &options(), &|_| (), &AtomicBool::new(true)).unwrap(), Fetched::Stopped);
    assert_eq!(listing(dir.path()), ["words.tar.gz"]);
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(listing(dir.path()), ["words/", "words/yes/", "words/yes/1.wav"]);
}
