//! What is fuzzed: every reader of foreign bytes, and the tape. A target takes bytes and must neither panic, nor hang, nor eat memory.
//!
//! A reader of a folder gets the bytes as one of its files, beside others that are sound.

mod archives;
mod graph;
mod readers;
mod weights;

pub use archives::{http, tar};
pub use graph::tape;
pub use readers::{aan_tsv, cifar, digits, idx, listops_tsv, npy, own, png, predict, recipe, set, wav};
pub use weights::{pickle, pytorch, weights};

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

thread_local! {
    /// One folder for a whole run, in memory where the system has such.
    static FOLDER: TempDir = {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder for the inputs")
    };
}

/// Writes `bytes` as the file `name` of the run's folder; the folder, and the file in it.
fn place(name: &str, bytes: &[u8]) -> (PathBuf, PathBuf) {
    let dir = FOLDER.with(|folder| folder.path().to_path_buf());
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a file in the folder")).expect("the folder can be written to");
    fs::write(&path, bytes).expect("the folder can be written to");
    (dir, path)
}
