//! Campaign: processes that may write no file beyond a size, at every size, and on a disk that is full at every size.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use pspikessm::train::Origin;

use crate::process::{code, command};
use crate::runs::{metrics, names, without_seconds};

const LINE: &str = "--steps 40 --checkpoint-every 2 --set data=hard --set schedule=constant";

/// A run into `dir` behind some shell commands; its exit code, and whether it printed its result.
fn run(dir: &Path, more: &str, shell: &str) -> (i32, bool) {
    let line = format!("{LINE} {more}");
    let output = command("tiny", &line, Some(dir), shell).stdout(Stdio::piped()).stderr(Stdio::null()).output().unwrap();
    (code(output.status), String::from_utf8(output.stdout).unwrap().contains("result task=tiny"))
}

/// Goes on with what a run left, and compares the end with that of a run that nothing happened to.
fn recover(dir: &Path, whole: &Path) {
    let checkpoint = dir.join("checkpoint.safetensors");
    let more = match Origin::read(&checkpoint) {
        Ok(_) => "--resume",
        Err(error) => {
            assert!(!checkpoint.exists(), "{error}");
            "--overwrite"
        }
    };
    assert_eq!(run(dir, more, ""), (0, true));
    for file in ["checkpoint.safetensors", "best.safetensors", "raster.svg", "kernels.svg"] {
        assert!(fs::read(dir.join(file)).unwrap() == fs::read(whole.join(file)).unwrap(), "{file} differs");
    }
    assert_eq!(without_seconds(metrics(dir)), without_seconds(metrics(whole)));
    let kept = |dir: &Path| names(dir).into_iter().filter(|name| !name.contains(".previous.")).collect::<Vec<_>>();
    assert_eq!(kept(dir), kept(whole));
}

fn undisturbed() -> tempfile::TempDir {
    let whole = tempfile::tempdir().unwrap();
    assert_eq!(run(whole.path(), "", ""), (0, true));
    whole
}

#[test]
#[ignore = "a campaign"]
fn campaign_of_files_that_may_not_grow() {
    let whole = undisturbed();
    let largest = names(whole.path()).iter().map(|name| fs::metadata(whole.path().join(name)).unwrap().len()).max().unwrap();
    let (mut runs, mut failed) = (0, 0);
    // In blocks of 512 bytes.
    for blocks in 0..=largest / 512 + 1 {
        let dir = tempfile::tempdir().unwrap();
        let (code, printed) = run(dir.path(), "", &format!("trap '' XFSZ; ulimit -f {blocks}"));
        assert!(code == 1 || (code == 0 && printed), "{blocks} blocks: exit code {code}");
        (runs, failed) = (runs + 1, failed + code);
        recover(dir.path(), whole.path());
    }
    println!("{runs} runs with a limit from 0 to {largest} bytes a file, {failed} of which failed; all went on to the same bits");
}

#[test]
#[ignore = "a campaign, which mounts file systems: for root"]
fn campaign_of_full_disks() {
    let shell = |line: String| Command::new("sh").args(["-c", &line]).stderr(Stdio::null()).status().unwrap().success();
    let whole = undisturbed();
    let all: u64 = names(whole.path()).iter().map(|name| fs::metadata(whole.path().join(name)).unwrap().len().div_ceil(4096) + 1).sum();
    let disk = tempfile::tempdir().unwrap();
    let at = disk.path().display();
    let (mut runs, mut failed) = (0, 0);
    for pages in 1..=all + 8 {
        assert!(shell(format!("mount -t tmpfs -o size={}k tmpfs {at}", 4 * pages)), "no file system can be mounted here");
        let dir = disk.path().join("out");
        let (code, printed) = run(&dir, "", "");
        assert!(code == 1 || (code == 0 && printed), "{pages} pages: exit code {code}");
        (runs, failed) = (runs + 1, failed + code);
        assert!(shell(format!("mount -o remount,size=100m {at}")));
        recover(&dir, whole.path());
        assert!(shell(format!("umount {at}")));
    }
    println!("{runs} runs on disks of 4 kB to {} kB, {failed} of which failed; all went on to the same bits", 4 * (all + 8));
}
