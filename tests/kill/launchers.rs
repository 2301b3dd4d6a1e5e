//! A launcher starts several processes of a build that knows no others: none of them begins.
#![cfg(not(feature = "mpi"))]

use std::process::Stdio;

use crate::process::{code, command};
use crate::runs::{mentions, names};

#[test]
fn processes_that_cannot_find_each_other_do_not_begin() {
    for (name, size, wanted) in [("OMPI_COMM_WORLD_SIZE", "3", 2), ("PMI_SIZE", "2", 2), ("PMI_SIZE", "1", 0)] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = command("tiny", "--steps 2 --eval-passes 1 --quiet", Some(dir.path()), "");
        let output = command.env(name, size).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(code(output.status), wanted, "{said}");
        if wanted != 0 {
            mentions(said.trim_end(), &[&format!("processes = {size}"), "--features mpi"]);
            assert!(names(dir.path()).is_empty());
        }
    }
}
