//! Archives on their way from a server: what it answers, and what it sends.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use flate2::{Compression, write::GzEncoder};
use pspikessm::data::archive::{Archive, Content, Selection, Set, Size};
use pspikessm::data::download::{self, Options};

use super::place;

/// An archive of at most a few entries, unpacked into `words`.
fn words(mirrors: Vec<String>) -> Set {
    let content = Content::TarGz { selection: Selection::Into("words".into()), max_bytes: 1 << 20, max_entries: 10 };
    let archive = Archive { name: "words.tar.gz".into(), size: Size::AtMost(1 << 20), checksum: None, there: vec!["words".into()], content };
    Set { mirrors, archives: vec![archive] }
}

fn fetch(set: &Set, dir: &Path) {
    let quick = Duration::from_millis(200);
    let options = Options { tries: 1, pause: Duration::ZERO, connect_timeout: quick, read_timeout: quick, ..Options::default() };
    let _ = download::fetch(set, dir, &options, &|_| (), &AtomicBool::new(false));
}

/// A folder for one fetch, and the folder around it, in which nothing else may appear.
fn empty() -> std::path::PathBuf {
    let (dir, _) = place("fetch/outside", b"");
    let around = dir.join("fetch");
    let _ = fs::remove_dir_all(&around);
    fs::create_dir_all(around.join("into")).expect("the folder can be written to");
    around
}

/// Nothing was written beside the folder, and no link into it.
fn stayed_inside(around: &Path) {
    let names: Vec<_> = fs::read_dir(around).expect("the folder is there").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["into"], "written beside the folder");
    no_links(&around.join("into"));
}

fn no_links(folder: &Path) {
    for entry in fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry")) {
        let kind = entry.file_type().expect("a type");
        assert!(!kind.is_symlink(), "a link: {:?}", entry.path());
        assert!(entry.path().components().all(|part| part != Component::ParentDir));
        if kind.is_dir() {
            no_links(&entry.path());
        }
    }
}

/// The bytes are a tar, or, where the first is odd, a gzipped one already.
pub fn tar(bytes: &[u8]) {
    let Some((&turn, bytes)) = bytes.split_first() else { return };
    let around = empty();
    let packed = if turn % 2 == 0 {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(bytes).and_then(|()| packer.finish()).expect("memory can be written to")
    } else {
        bytes.to_vec()
    };
    fs::write(around.join("into/words.tar.gz"), packed).expect("the folder can be written to");
    fetch(&words(vec!["http://127.0.0.1:1/".into()]), &around.join("into"));
    stayed_inside(&around);
}

/// The bytes are all that a server ever says, to whatever it is asked.
pub fn http(bytes: &[u8]) {
    let around = empty();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its number");
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if asked(&mut stream) == *b"GET /end" {
                    return;
                }
                let _ = stream.write_all(bytes);
            }
        });
        fetch(&words(vec![format!("http://{address}/")]), &around.join("into"));
        if let Ok(mut last) = TcpStream::connect(address) {
            let _ = last.write_all(b"GET /end");
        }
        server.join().expect("the server ends");
    });
    stayed_inside(&around);
}

/// The beginning of a request.
fn asked(stream: &mut TcpStream) -> [u8; 8] {
    let mut begin = [0; 8];
    let _ = stream.read_exact(&mut begin);
    begin
}
