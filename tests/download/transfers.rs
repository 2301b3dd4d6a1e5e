//! The way of the bytes: resumed, redirected, retried, refused.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use pspikessm::data::archive::{Archive, Checksum, Size};
use pspikessm::data::download::{self, Fetched, Options};
use pspikessm::error::Error;
use tempfile::tempdir;

use super::server::{Reply, Request, Server};
use super::{MD5, data, fetch, listing, network_error, options, plain, set};

#[test]
fn whole_files_arrive_and_the_second_call_asks_for_nothing() {
    let other = Archive { name: "other.bin".into(), checksum: Some(Checksum::Md5(MD5.into())), there: vec!["other.bin".into()], ..plain() };
    let dir = tempdir().unwrap();
    let into = dir.path().join("new/folder");
    let server = Server::of(&[("/data.bin", &data()), ("/other.bin", &data())]);
    let set = set(&[server.url("/")], &[plain(), other]);
    assert_eq!(fetch(&set, &into).unwrap(), Fetched::Complete);
    assert_eq!(listing(&into), ["data.bin", "other.bin"]);
    assert!(fs::read(into.join("data.bin")).unwrap() == data() && fs::read(into.join("other.bin")).unwrap() == data());
    assert_eq!(fetch(&set, &into).unwrap(), Fetched::There);
    assert_eq!(server.paths(), ["/data.bin", "/other.bin"]);
    assert_eq!(server.starts(), [None, None]);
}

#[test]
fn a_cut_transfer_goes_on_where_it_ended() {
    let dir = tempdir().unwrap();
    let server = Server::new(|number, request| Reply::ranged(request, &data()).cut(if number < 2 { 70_000 } else { usize::MAX }));
    assert_eq!(fetch(&set(&[server.url("")], &[plain()]), dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(server.starts(), [None, Some(70_000), Some(140_000)]);
    assert!(fs::read(dir.path().join("data.bin")).unwrap() == data());
    assert_eq!(listing(dir.path()), ["data.bin"]);
}

#[test]
fn tries_are_bounded_and_what_came_is_kept_for_the_next_call() {
    let dir = tempdir().unwrap();
    let server = Server::new(|number, request| Reply::ranged(request, &data()).cut(if number < 3 { 1_000 } else { usize::MAX }));
    let set = set(&[server.url("")], &[plain()]);
    let error = network_error(&set, dir.path());
    assert!(error.contains(&server.url("/data.bin")) && error.contains("3000 bytes"), "{error}");
    assert_eq!(listing(dir.path()), ["data.bin.part"]);
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(server.starts(), [None, Some(1_000), Some(2_000), Some(3_000)]);
    assert!(fs::read(dir.path().join("data.bin")).unwrap() == data());
}

#[test]
fn a_long_file_may_be_cut_more_often_than_there_are_tries() {
    let long: Vec<u8> = (0..8u64 << 20).map(|index| (index % 251) as u8).collect();
    let archive = Archive { size: Size::Exactly(8 << 20), checksum: None, ..plain() };
    let dir = tempdir().unwrap();
    let file = long.clone();
    let server = Server::new(move |_, request| Reply::ranged(request, &file).cut((1 << 20) + 1));
    assert_eq!(fetch(&set(&[server.url("")], &[archive]), dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(server.requests().len(), 8);
    assert!(fs::read(dir.path().join("data.bin")).unwrap() == long);
}

#[test]
fn what_an_earlier_run_left_is_continued() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("data.bin.part"), &data()[..1_234]).unwrap();
    let server = Server::of(&[("/data.bin", &data())]);
    assert_eq!(fetch(&set(&[server.url("")], &[plain()]), dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(server.starts(), [Some(1_234)]);
    assert!(fs::read(dir.path().join("data.bin")).unwrap() == data());
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let dir = tempdir().unwrap();
    let server = Server::new(|number, _| Reply::ok(&data()).cut(if number == 0 { 150_000 } else { usize::MAX }));
    assert_eq!(fetch(&set(&[server.url("")], &[plain()]), dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(server.starts(), [None, Some(150_000)]);
    assert!(fs::read(dir.path().join("data.bin")).unwrap() == data());
}

#[test]
fn another_range_than_the_wanted_one_starts_anew() {
    let shifted =
        |request: &Request| Reply::ranged(request, &data()).with("X: -").announcing(Some(10)).with("Content-Range: bytes 5-14/200000");
    for status in ["a wrong range", "no range"] {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("data.bin.part"), &data()[..1_000]).unwrap();
        let server = Server::new(move |_, request| match (request.start(), status) {
            (None, _) => Reply::ok(&data()),
            (_, "no range") => Reply::new("206 Partial Content", &data()[1_000..]),
            _ => shifted(request),
        });
        assert_eq!(fetch(&set(&[server.url("")], &[plain()]), dir.path()).unwrap(), Fetched::Complete, "{status}");
        assert_eq!(server.starts(), [Some(1_000), None], "{status}");
        assert!(fs::read(dir.path().join("data.bin")).unwrap() == data(), "{status}");
    }
}

#[test]
fn a_piece_of_the_wanted_range_is_followed_by_the_rest() {
    let dir = tempdir().unwrap();
    let server = Server::new(|_, request| {
        let start = request.start().unwrap_or(0);
        let end = (start + 90_000).min(200_000);
        let range = format!("Content-Range: bytes {start}-{}/200000", end - 1);
        Reply::new("206 Partial Content", &data()[start..end]).with(&range)
    });
    assert_eq!(fetch(&set(&[server.url("")], &[plain()]), dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(server.starts(), [None, Some(90_000), Some(180_000)]);
    assert!(fs::read(dir.path().join("data.bin")).unwrap() == data());
}

#[test]
fn a_part_that_is_whole_is_taken_and_one_that_is_too_long_is_not() {
    let server = Server::of(&[("/data.bin", &data())]);
    let set = set(&[server.url("")], &[plain()]);
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("data.bin.part"), data()).unwrap();
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(server.starts(), [Some(200_000)]);
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("data.bin.part"), vec![1; 200_001]).unwrap();
    assert_eq!(fetch(&set, dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(server.starts(), [Some(200_000), Some(200_001), None]);
    assert!(fs::read(dir.path().join("data.bin")).unwrap() == data());
}

#[test]
fn a_part_of_the_published_length_is_checked_without_a_request() {
    let archive = Archive { size: Size::Exactly(200_000), ..plain() };
    let server = Server::of(&[]);
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("data.bin.part"), data()).unwrap();
    assert_eq!(fetch(&set(&[server.url("")], &[archive]), dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(listing(dir.path()), ["data.bin"]);
    assert!(server.requests().is_empty());
}

#[test]
fn a_missing_file_is_asked_for_once_and_its_address_named() {
    let dir = tempdir().unwrap();
    let server = Server::of(&[]);
    let error = network_error(&set(&[server.url("/there")], &[plain()]), dir.path());
    for part in [&server.url("/there/data.bin"), "404", "`url`", "data.bin", dir.path().to_str().unwrap()] {
        assert!(error.contains(part), "{part} in {error}");
    }
    assert_eq!(server.requests().len(), 1);
    assert!(listing(dir.path()).is_empty());
}

#[test]
fn a_server_that_is_not_ready_is_asked_again() {
    for status in ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests"] {
        let dir = tempdir().unwrap();
        let server = Server::new(move |number, _| if number < 2 { Reply::new(status, b"later") } else { Reply::ok(&data()) });
        assert_eq!(fetch(&set(&[server.url("")], &[plain()]), dir.path()).unwrap(), Fetched::Complete, "{status}");
        assert_eq!(server.requests().len(), 3, "{status}");
    }
    let dir = tempdir().unwrap();
    let server = Server::new(|_, _| Reply::new("500 Internal Server Error", b"never"));
    let error = network_error(&set(&[server.url("")], &[plain()]), dir.path());
    assert!(error.contains("500") && error.contains(&server.url("/data.bin")), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn redirections_are_followed_with_the_range_but_not_for_ever() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("data.bin.part"), &data()[..500]).unwrap();
    let server = Server::new(|_, request| match request.path.as_str() {
        "/data.bin" => Reply::new("302 Found", b"").with("Location: /moved/data.bin"),
        _ => Reply::ranged(request, &data()),
    });
    assert_eq!(fetch(&set(&[server.url("")], &[plain()]), dir.path()).unwrap(), Fetched::Complete);
    assert_eq!(server.paths(), ["/data.bin", "/moved/data.bin"]);
    assert_eq!(server.starts()[1], Some(500));
    assert!(fs::read(dir.path().join("data.bin")).unwrap() == data());

    let dir = tempdir().unwrap();
    let server = Server::new(|_, _| Reply::new("302 Found", b"").with("Location: /data.bin"));
    let error = network_error(&set(&[server.url("")], &[plain()]), dir.path());
    assert!(error.contains("redirect"), "{error}");
    assert!(server.requests().len() < 20);
}

#[test]
fn a_length_that_is_never_reached_is_a_cut() {
    let dir = tempdir().unwrap();
    let server = Server::new(|_, _| Reply::ok(&data()[..1_000]).announcing(Some(2_000)));
    let error = network_error(&set(&[server.url("")], &[plain()]), dir.path());
    assert!(error.contains("after 1000 bytes"), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn more_than_there_may_be_is_not_fetched() {
    let exactly = Archive { size: Size::Exactly(199_999), ..plain() };
    let at_most = Archive { size: Size::AtMost(199_999), ..plain() };
    for (archive, length, text) in [
        (&exactly, Some(200_000), "has 200000 bytes, not 199999"),
        (&at_most, Some(200_000), "has more than 199999 bytes"),
        (&exactly, None, "has more than 199999 bytes"),
        (&at_most, None, "has more than 199999 bytes"),
    ] {
        let dir = tempdir().unwrap();
        let server = Server::new(move |_, _| Reply::ok(&data()).announcing(length));
        let error = network_error(&set(&[server.url("")], std::slice::from_ref(archive)), dir.path());
        assert!(error.contains(text), "{error}");
        assert_eq!(server.requests().len(), 1);
        assert!(listing(dir.path()).is_empty());
    }
}

#[test]
fn a_body_without_a_length_arrives() {
    let dir = tempdir().unwrap();
    let server = Server::new(|_, _| Reply::ok(&data()).announcing(None));
    assert_eq!(fetch(&set(&[server.url("")], &[plain()]), dir.path()).unwrap(), Fetched::Complete);
    assert!(fs::read(dir.path().join("data.bin")).unwrap() == data());
}

#[test]
fn a_server_that_falls_silent_counts_as_cut() {
    let impatient = Options { read_timeout: Duration::from_secs(2), tries: 1, ..options() };
    let dir = tempdir().unwrap();
    let server = Server::new(|_, request| Reply::ranged(request, &data()).cut(300).hanging());
    let set = set(&[server.url("")], &[plain()]);
    let error = download::fetch(&set, dir.path(), &impatient, &|_| (), &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("timeout"), "{error}");
    assert_eq!(fs::read(dir.path().join("data.bin.part")).unwrap(), &data()[..300]);
}

#[test]
fn an_address_with_https_is_spoken_to_in_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut first = [0; 3];
        listener.accept().unwrap().0.read_exact(&mut first).unwrap();
        first
    });
    let dir = tempdir().unwrap();
    let once = Options { tries: 1, ..options() };
    let error =
        download::fetch(&set(std::slice::from_ref(&url), &[plain()]), dir.path(), &once, &|_| (), &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, Error::Network { .. }) && error.to_string().contains(&url), "{error:?}");
    // A handshake record of TLS 1.0 or later.
    assert_eq!(server.join().unwrap()[..2], [22, 3]);
}
