//! What a fetch tells whoever watches it.

use std::cell::RefCell;
use std::sync::atomic::AtomicBool;

use pspikessm::data::download::{self, Event, Fetched};
use tempfile::tempdir;

use super::server::Server;
use super::tape::Tape;
use super::{options, set, words};

#[test]
fn progress_is_told_from_beginning_to_end_and_a_missing_checksum_too() {
    let gz = Tape::default().file("1", b"1").gz();
    let (server, dir) = (Server::of(&[("/words.tar.gz", &gz)]), tempdir().unwrap());
    let (lines, work) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let watch = |event: Event<'_>| match event {
        Event::Line(line) => lines.borrow_mut().push(line.to_string()),
        Event::Begin { what, done, total } => work.borrow_mut().push((what.to_string(), done, total, false)),
        Event::Done(done) => work.borrow_mut().last_mut().unwrap().1 = done,
        Event::End => work.borrow_mut().last_mut().unwrap().3 = true,
        other => panic!("{other:?} is not known here"),
    };
    let fetched = download::fetch(&set(&[server.url("")], &[words()]), dir.path(), &options(), &watch, &AtomicBool::new(false)).unwrap();
    assert_eq!(fetched, Fetched::Complete);
    let all = gz.len() as u64;
    let done = |what: &str| (format!("{what} words.tar.gz"), all, Some(all), true);
    // Without a checksum nothing is gone through, and the check is over as it begins.
    let (fetching, unpacking) = (done("fetching"), done("unpacking"));
    let work = work.into_inner();
    assert_eq!((work.first(), work.last()), (Some(&fetching), Some(&unpacking)));
    assert!(work.iter().all(|(.., ended)| *ended), "{work:?}");
    let lines = lines.into_inner();
    assert!(lines[0].contains(&server.url("/words.tar.gz")), "{lines:?}");
    assert!(lines[1].contains("words.tar.gz: no checksum of it is published"), "{lines:?}");
}
