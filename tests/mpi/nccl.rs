//! `--transport nccl` between processes without a GPU: what the crate asks of CUDA's driver and of NCCL is done by a stand-in for both
//! libraries, over MPI. The bits are those of MPI alone; a failure ends all; a library or a device that is missing is an error.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pspikessm::train::{BackendChoice, Launched, Transport};

use super::{LINES, SOON, mpirun, result, same_folders};

/// Set for what is a process of a test.
const PROCESS: &str = "PSPIKESSM_TEST_COMMUNICATOR";

/// A folder with the stand-in under the names of both libraries, which MPI's compiler (`mpicc`, or what `PSPIKESSM_MPICC` names) makes.
fn stand_in() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let driver = dir.path().join("libcuda.so");
    let mut compiler = Command::new(std::env::var("PSPIKESSM_MPICC").unwrap_or("mpicc".into()));
    compiler.args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"]).arg(&driver);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mpi/nccl_stand_in.c");
    assert!(compiler.arg(source).status().expect("mpicc, which comes with MPI").success());
    // One file, so that the loader opens one library.
    std::os::unix::fs::symlink(&driver, dir.path().join("libnccl.so")).unwrap();
    dir
}

/// Has the processes find the libraries in this folder first.
fn with(mut command: Command, libraries: &Path, settings: &[(&str, &str)]) -> Command {
    let further = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = [libraries.into()].into_iter().chain(std::env::split_paths(&further));
    command.env("LD_LIBRARY_PATH", std::env::join_paths(paths).unwrap()).envs(settings.iter().copied());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What has come of a run by NCCL.
fn run(processes: usize, line: &str, dir: Option<&Path>, libraries: &Path, settings: &[(&str, &str)]) -> Output {
    with(mpirun(processes, &format!("{line} --transport nccl"), dir, None, ""), libraries, settings).output().unwrap()
}

/// How much every process says the stand-in has carried, as (messages, sums).
fn carried(output: &Output) -> Vec<(u64, u64)> {
    let said = text(&output.stderr);
    let numbers = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some((words.get(5)?.parse().ok()?, words.get(8)?.parse().ok()?))
    };
    said.lines().filter(|line| line.starts_with("stand-in: ")).map(|line| numbers(line).expect(line)).collect()
}

#[test]
fn gradients_that_nccl_carries_are_the_same_bits() {
    let libraries = stand_in();
    for line in LINES {
        let by_mpi = tempfile::tempdir().unwrap();
        result(2, line, Some(by_mpi.path()));
        for processes in [1, 2, 3] {
            let dir = tempfile::tempdir().unwrap();
            let output = run(processes, line, Some(dir.path()), libraries.path(), &[]);
            assert!(output.status.success(), "{processes} processes: {}", text(&output.stderr));
            same_folders(dir.path(), by_mpi.path());
            let carried = carried(&output);
            assert!(carried.len() == processes && carried.iter().all(|&(sent, _)| (sent > 0) == (processes > 1)), "{carried:?}");
        }
    }
}

#[test]
fn the_fast_way_is_a_sum_of_nccl() {
    let libraries = stand_in();
    let line = "--reduce fast --quiet --steps 1 --batch-size 6 --eval-passes 1";
    let output = run(3, line, None, libraries.path(), &[]);
    let loss = |line: &str| line.split_whitespace().find(|word| word.starts_with("train_loss=")).map(String::from);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let by_mpi = loss(&result(3, line, None));
    assert!(by_mpi.is_some() && loss(&text(&output.stdout)) == by_mpi, "{}", text(&output.stdout));
    assert!(carried(&output).iter().all(|&(_, summed)| summed > 0), "{}", text(&output.stderr));
}

/// Not a test: what a process does with a communicator. What is wrong ends it, and with it the others.
#[test]
#[ignore = "a process of the other tests"]
fn the_communicator() {
    if std::env::var_os(PROCESS).is_none() {
        return;
    }
    let mut launched = Launched::join().unwrap();
    launched.carry_by(Transport::Nccl, BackendChoice::default()).unwrap();
    let own = launched.communicator();
    let (rank, size) = (own.rank(), own.size());
    assert_eq!((own.local_rank(), own.local_size()), (rank, size));
    for round in 0..50u8 {
        // Of different lengths, empty ones among them.
        let message = |from: usize, to: usize| vec![round ^ (from * 16 + to) as u8; (from * 7 + to * 30 + usize::from(round)) % 50];
        let want: Vec<_> = (0..size).map(|from| message(from, rank)).collect();
        let lengths: Vec<_> = want.iter().map(Vec::len).collect();
        let mut exchange = own.begin_exchange((0..size).map(|to| message(rank, to)).collect(), &lengths).unwrap();
        // One waits, another asks.
        while (usize::from(round) + rank).is_multiple_of(2) && !exchange.has_arrived().unwrap() {
            thread::yield_now();
        }
        assert_eq!(exchange.wait().unwrap(), want);
        assert_eq!(own.all_gather(vec![rank as u8, round]).unwrap(), (0..size).map(|from| vec![from as u8, round]).collect::<Vec<_>>());
    }
    assert!(own.begin_exchange(Vec::new(), &[]).is_err());
    let want = (1..=size).sum::<usize>();
    let (mut short, mut long) = ([rank as f32 + 1.0, 0.5], [rank as f64 + 1.0, 2f64.powi(-40), 0.0]);
    own.sum_f32(&mut short).unwrap();
    own.sum_f64(&mut long).unwrap();
    own.sum_f64(&mut []).unwrap();
    assert_eq!((short, long), ([want as f32, 0.5 * size as f32], [want as f64, 2f64.powi(-40) * size as f64, 0.0]));
    drop(own);
    launched.leave(false);
}

#[test]
fn every_message_and_every_sum_arrives() {
    let libraries = stand_in();
    for processes in [1, 2, 3] {
        let mut command = Command::new(std::env::var("PSPIKESSM_MPIRUN").unwrap_or("mpirun".into()));
        let like = mpirun(processes, "", None, None, "");
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?)))).args(["-n", &processes.to_string()]);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "nccl::the_communicator", "--ignored", "--nocapture", "--test-threads", "1"]);
        let output = with(command, libraries.path(), &[(PROCESS, "1")]).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{processes} processes: {}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(carried(&output).len(), processes, "{}", text(&output.stderr));
    }
}

#[test]
fn a_failure_of_nccl_ends_all_of_them_with_an_error() {
    let libraries = stand_in();
    for (fails, why) in [("send:1:20", "ncclSystemError"), ("later:2:20", "ncclRemoteError")] {
        let dir = tempfile::tempdir().unwrap();
        let line = "--quiet --steps 1000000 --checkpoint-every 2 --batch-size 6 --accumulate 3 --eval-passes 1 --transport nccl";
        let settings = [("NCCL_STAND_IN_FAILS", fails)];
        let mut command = with(mpirun(3, line, Some(dir.path()), None, ""), libraries.path(), &settings);
        let (start, mut child) = (Instant::now(), command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > SOON {
                child.kill().unwrap();
                panic!("{fails}: the others go on");
            }
            thread::sleep(Duration::from_millis(20));
        }
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(&format!("error: NCCL: the devices no longer reach each other: {why}")),
            "{said}"
        );
        assert!(!said.contains("panicked"), "{said}");
        assert!(fs::read(dir.path().join("checkpoint.safetensors")).is_ok(), "steps before it were saved");
    }
}

#[test]
fn what_is_missing_is_an_error() {
    let line = "--quiet --steps 1 --eval-passes 1";
    let refused = |libraries: &Path, settings: &[(&str, &str)], parts: &[&str]| {
        let output = run(2, line, None, libraries, settings);
        let said = text(&output.stderr);
        assert!(!output.status.success() && !said.contains("panicked"), "{said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{part:?} is not in: {said}"));
    };
    // What is no library stands before one that the machine may have.
    let none = tempfile::tempdir().unwrap();
    ["libcuda.so", "libcuda.so.1", "libnvcuda.so", "libnccl.so"]
        .iter()
        .for_each(|name| fs::write(none.path().join(name), "no library").unwrap());
    refused(none.path(), &[], &["error: nccl: the driver (libcuda) is not installed"]);
    let driver = stand_in();
    fs::remove_file(driver.path().join("libnccl.so")).unwrap();
    fs::write(driver.path().join("libnccl.so"), "no library").unwrap();
    refused(driver.path(), &[], &["error: nccl: NCCL (libnccl.so) is not found"]);
    let both = stand_in();
    refused(both.path(), &[("NCCL_STAND_IN_DEVICES", "0")], &["there is no device 0: none was found"]);
    refused(both.path(), &[("NCCL_STAND_IN_DEVICES", "1")], &["error: nccl: the devices cannot be linked (ncclInvalidUsage)"]);
}
