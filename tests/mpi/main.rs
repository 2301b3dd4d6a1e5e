//! Processes that MPI connects: the bits of one, and one end for all where one of them is killed, stopped or left without a disk.
//!
//! The tests start `mpirun`, or what `PSPIKESSM_MPIRUN` names, with this program as its processes. More of them than processors are allowed.
#![cfg(unix)]

#[cfg(feature = "nccl")]
mod nccl;
#[path = "../common/runs.rs"]
mod runs;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pspikessm::train::{Origin, cli};
use runs::{Tiny, figures, flags, metrics, names, printed, without_seconds};

const ARGUMENTS: &str = "PSPIKESSM_TEST_ARGUMENTS";
/// A folder in which every process notes its number.
const NUMBERS: &str = "PSPIKESSM_TEST_NUMBERS";
/// Within this time all processes end after one has. Far less is needed; the machine may be busy.
const SOON: Duration = Duration::from_secs(60);

/// Not a test: what the processes do.
#[test]
#[ignore = "a process of the other tests"]
fn the_process() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    if let Some(dir) = std::env::var_os(NUMBERS) {
        let rank = ["OMPI_COMM_WORLD_RANK", "PMI_RANK"].iter().find_map(|name| std::env::var(name).ok()).unwrap();
        fs::write(Path::new(&dir).join(rank), std::process::id().to_string()).unwrap();
    }
    std::process::exit(cli::exit_code(&Tiny, arguments.lines()).into());
}

/// So many processes that do what `line` says, in `dir` where they are to write; `shell` comes before each of them.
fn mpirun(processes: usize, line: &str, dir: Option<&Path>, numbers: Option<&Path>, shell: &str) -> Command {
    let mut arguments: Vec<String> = line.split_whitespace().map(String::from).collect();
    arguments.extend(["--backend", "cpu", "--threads", "1"].map(String::from));
    arguments.extend(dir.into_iter().flat_map(|dir| ["--out".into(), dir.to_str().unwrap().into()]));
    let mut command = Command::new(std::env::var("PSPIKESSM_MPIRUN").unwrap_or("mpirun".into()));
    command
        .args(["-n", &processes.to_string(), "sh", "-c", &format!("{shell}\nexec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_process", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(ARGUMENTS, arguments.join("\n"))
        .envs(
            [
                "OMPI_ALLOW_RUN_AS_ROOT",
                "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
                "OMPI_MCA_rmaps_base_oversubscribe",
                "OMPI_MCA_mpi_yield_when_idle",
            ]
            .map(|name| (name, "1")),
        )
        .env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
        .stdin(Stdio::null());
    if let Some(numbers) = numbers {
        command.env(NUMBERS, numbers);
    }
    command
}

/// What a run prints, which must come to its end.
fn result(processes: usize, line: &str, dir: Option<&Path>) -> String {
    let output = mpirun(processes, line, dir, None, "").output().expect("mpirun, which comes with MPI");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{processes} processes: {}", text(output.stderr));
    // The test harness has begun the line with words of its own.
    let printed = text(output.stdout);
    printed[printed.find("result task=tiny").expect("a result")..].lines().next().expect("a line").to_string()
}

fn same_folders(a: &Path, b: &Path) {
    assert_eq!(names(a), names(b));
    for file in ["checkpoint.safetensors", "best.safetensors", "raster.svg", "kernels.svg"] {
        assert!(fs::read(a.join(file)).unwrap() == fs::read(b.join(file)).unwrap(), "{file} differs");
    }
    assert_eq!(without_seconds(metrics(a)), without_seconds(metrics(b)));
}

/// Both kinds of norm and dropout, 50 steps in four micro-batches; and a model of which parts are sent while the tape runs backwards.
const LINES: [&str; 3] = [
    "--quiet --steps 50 --batch-size 8 --accumulate 4 --eval-passes 2",
    "--quiet --steps 50 --batch-size 8 --accumulate 4 --eval-passes 2 --set model.block.norm=layer --set model.block.dropout=0.3",
    "--quiet --steps 6 --batch-size 8 --accumulate 4 --eval-passes 1 --set model.block.ssm.d_model=96",
];

#[test]
fn any_number_of_processes_gives_the_bits_of_one() {
    for line in LINES {
        let whole = tempfile::tempdir().unwrap();
        let want = figures(&printed(&Tiny, &flags(line, Some(whole.path()))));
        for processes in [1, 2, 3, 4, 8] {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(figures(&result(processes, line, Some(dir.path()))), want);
            same_folders(dir.path(), whole.path());
        }
    }
}

#[test]
fn the_fast_way_comes_to_an_end_too() {
    let first = |line: &str| result(3, &format!("{line} --quiet --steps 1 --batch-size 6 --eval-passes 1"), None);
    let loss = |line: &str| line.split_whitespace().find(|word| word.starts_with("train_loss=")).unwrap().to_string();
    assert_eq!(loss(&first("--reduce fast")), loss(&first("")));
}

/// A run that ends long after what is done to it, and goes on where it was.
fn line(steps: u64, begin: &str) -> String {
    format!(
        "{begin} --quiet --steps {steps} --checkpoint-every 2 --batch-size 6 --accumulate 3 --eval-passes 1 --set data=hard --set schedule=constant"
    )
}

/// A run of three that has written so many lines, and the numbers of its processes.
struct Running {
    child: Child,
    numbers: Vec<u32>,
    _folder: tempfile::TempDir,
}

impl Running {
    fn begin(dir: &Path, lines: usize, shell: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = mpirun(3, &line(1_000_000, "--overwrite"), Some(dir), Some(folder.path()), shell);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        while fs::read_to_string(dir.join("metrics.jsonl")).map_or(0, |text| text.lines().count()) < lines {
            assert_eq!(child.try_wait().unwrap(), None, "it has ended");
            thread::sleep(Duration::from_millis(20));
        }
        let number = |rank: u32| fs::read_to_string(folder.path().join(rank.to_string())).unwrap().parse().unwrap();
        Running { child, numbers: (0..3).map(number).collect(), _folder: folder }
    }

    fn send(&self, signal: &str, rank: usize) {
        let number = self.numbers[rank].to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &number]).status().unwrap().success());
    }

    /// How it ended, and what it said: soon, and with all its processes.
    fn end(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if start.elapsed() > SOON {
                self.child.kill().unwrap();
                panic!("the others go on");
            }
            thread::sleep(Duration::from_millis(20));
        }
        let alive = |number: &u32| Command::new("kill").args(["-0", &number.to_string()]).stderr(Stdio::null()).status().unwrap().success();
        while self.numbers.iter().any(alive) {
            assert!(start.elapsed() < SOON, "a process is left");
            thread::sleep(Duration::from_millis(20));
        }
        let output = self.child.wait_with_output().unwrap();
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Goes on with another number of processes, and compares with a run that nothing happened to.
fn finish(dir: &Path) {
    let steps = Origin::read(dir.join("checkpoint.safetensors")).unwrap().step + 9;
    result(2, &line(steps, "--resume"), Some(dir));
    let whole = tempfile::tempdir().unwrap();
    printed(&Tiny, &flags(&line(steps, ""), Some(whole.path())));
    for file in ["checkpoint.safetensors", "raster.svg", "kernels.svg"] {
        assert!(fs::read(dir.join(file)).unwrap() == fs::read(whole.path().join(file)).unwrap(), "{file} differs");
    }
    assert_eq!(without_seconds(metrics(dir)), without_seconds(metrics(whole.path())));
}

#[test]
fn a_process_that_is_killed_ends_the_others_and_the_last_checkpoint_is_whole() {
    for rank in [1, 0] {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::begin(dir.path(), 4, "");
        running.send("KILL", rank);
        let (status, said) = running.end();
        assert!(!status.success(), "{said}");
        finish(dir.path());
    }
}

#[test]
fn a_process_that_is_told_to_stop_stops_all_of_them_saved() {
    for (signal, rank) in [("TERM", 2), ("INT", 0)] {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::begin(dir.path(), 4, "");
        running.send(signal, rank);
        let (status, said) = running.end();
        let step = Origin::read(dir.path().join("checkpoint.safetensors")).unwrap().step;
        assert!(!status.success() && said.contains(&format!("stopped after step {step}: saved ")), "{said}");
        finish(dir.path());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_ends_all_of_them_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    // The limit comes once MPI has the files that it needs: no file of the first process grows any more.
    let running = Running::begin(dir.path(), 4, "trap '' XFSZ");
    let limited = Command::new("prlimit").args(["--fsize=1024", "--pid", &running.numbers[0].to_string()]).status();
    assert!(limited.expect("prlimit, of util-linux").success());
    let (status, said) = running.end();
    assert!(!status.success() && said.contains("error: could not write"), "{said}");
}

#[test]
fn without_a_launcher_it_is_a_run_of_one() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process", "--ignored", "--nocapture", "--test-threads", "1"])
        .env(ARGUMENTS, "--steps\n3\n--eval-passes\n1\n--backend\ncpu")
        .output()
        .unwrap();
    assert!(output.status.success() && String::from_utf8(output.stdout).unwrap().contains("result task=tiny"));
}
