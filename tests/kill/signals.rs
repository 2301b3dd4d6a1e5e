//! SIGTERM, SIGHUP and Ctrl-C: a run saves and leaves with the code that shells expect; where nothing is to be saved it leaves at once.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use pspikessm::train::Origin;

use crate::kills::{MANY, finish, line};
use crate::process::{Waiting, code, command, last_step, send, start, until, until_lines};
use crate::runs::{Tiny, flags, mentions, metrics, names, printed, run_error};

const SIGNALS: [(&str, i32); 3] = [("TERM", 143), ("HUP", 129), ("INT", 130)];

#[test]
fn every_signal_saves_the_last_step() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = dir.path().join("checkpoint.safetensors");
    for (round, (signal, wanted)) in SIGNALS.into_iter().cycle().take(9).enumerate() {
        // The next checkpoint would come long after.
        let line = line(MANY, checkpoint.exists()).replace("--checkpoint-every 2", "--checkpoint-every 1000000");
        let mut child = command("tiny", &line, Some(dir.path()), "").stderr(Stdio::piped()).spawn().unwrap();
        until_lines(&mut child, dir.path(), 2 + round % 4);
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        assert_eq!(code(output.status), wanted, "{signal}");
        let (step, text) = (Origin::read(&checkpoint).unwrap().step, String::from_utf8(output.stderr).unwrap());
        assert!(step >= last_step(dir.path()) && step > 0);
        assert!(text.contains(&format!("stopped after step {step}: saved ")) && text.contains("go on with --resume"), "{text}");
    }
    finish(dir.path());
}

#[test]
fn where_nothing_is_to_be_saved_the_first_signal_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    printed(&Tiny, &flags("--steps 2", Some(&out)));
    let predict = format!("--predict ab --checkpoint {}", out.join("checkpoint.safetensors").display());
    for (signal, wanted) in SIGNALS {
        for (place, line, out) in [("loading", "", Some(dir.path().join(signal))), ("predicting", predict.as_str(), None)] {
            let mark = dir.path().join(format!("{signal}-{place}"));
            let mut child = Waiting::command(place, line, out.as_deref(), &mark).stderr(Stdio::piped()).spawn().unwrap();
            until(&mut child, place, || mark.exists());
            send(&child, signal);
            let output = child.wait_with_output().unwrap();
            assert_eq!(code(output.status), wanted, "{place}, {signal}");
            assert_eq!(String::from_utf8(output.stderr).unwrap(), "stopped: there was nothing to save\n");
        }
        // The folder is as good as new.
        printed(&Tiny, &flags("--steps 2", Some(&dir.path().join(signal))));
    }
}

#[test]
fn what_is_just_being_generated_goes() {
    let dir = tempfile::tempdir().unwrap();
    let line = format!("--data {}", dir.path().display());
    let mut child = command("listops", &line, None, "").spawn().unwrap();
    until(&mut child, "a temporary file", || names(dir.path()).iter().any(|name| name.ends_with(".tmp")));
    send(&child, "TERM");
    assert_eq!(code(child.wait().unwrap()), 143);
    assert!(names(dir.path()).iter().all(|name| !name.ends_with(".tmp")), "{:?}", names(dir.path()));
}

#[test]
fn the_second_signal_leaves_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mark, words) = (dir.path().join("mark"), dir.path().join("words"));
    let stderr = fs::File::create(&words).unwrap();
    let mut child = Waiting::command("reading", "", None, &mark).stderr(stderr).spawn().unwrap();
    until(&mut child, "reading", || mark.exists());
    send(&child, "TERM");
    until(&mut child, "its answer", || fs::read_to_string(&words).unwrap().contains("a second signal leaves at once\n"));
    send(&child, "INT");
    assert_eq!(code(child.wait().unwrap()), 130);
}

#[test]
fn a_process_that_is_to_outlive_its_terminal_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command("tiny", &line(MANY, false), Some(dir.path()), "trap '' HUP").spawn().unwrap();
    until_lines(&mut child, dir.path(), 2);
    send(&child, "HUP");
    until_lines(&mut child, dir.path(), 3);
    send(&child, "TERM");
    assert_eq!(code(child.wait().unwrap()), 143);
}

#[test]
fn readers_who_have_gone_stop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let line = line(300, false).replace("--quiet", "");
    let mut child = command("tiny", &line, Some(dir.path()), "").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What the test program itself prints it prints before.
    until_lines(&mut child, dir.path(), 2);
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(code(child.wait().unwrap()), 0);
    assert_eq!(Origin::read(dir.path().join("checkpoint.safetensors")).unwrap().step, 300);
    assert!(dir.path().join("report.html").exists());
}

#[test]
fn the_last_lines_say_what_was_reached_and_where_to_look() {
    let dir = tempfile::tempdir().unwrap();
    let end = |more: &str, out: Option<&Path>| {
        let output = command("tiny", &format!("--steps 8 {more}"), out, "").stderr(Stdio::piped()).output().unwrap();
        assert_eq!(code(output.status), 0);
        String::from_utf8(output.stderr).unwrap()
    };
    let text = end("", Some(dir.path()));
    let accuracy = metrics(dir.path()).pop().unwrap()["accuracy"].as_f64().unwrap();
    let reached = format!("test accuracy {accuracy:.4}; whoever always says the most common class has 0.5000\n");
    let in_folder = |name: &str| dir.path().join(name).display().to_string();
    assert!(text.contains(&reached) && text.contains(&in_folder("report.html")), "{text}");
    // What was tested are the weights at the end, and these are another epoch's than the best one's.
    let weights = format!("--eval-only: --checkpoint {}\nweights of epoch 1, the best", in_folder("checkpoint.safetensors"));
    assert!(text.contains(&weights) && text.ends_with(&format!("{}\n", in_folder("best.safetensors"))), "{text}");
    let text = end("--overwrite --steps 6", Some(dir.path()));
    assert!(text.ends_with(&format!("--eval-only: --checkpoint {}\n", in_folder("best.safetensors"))), "{text}");
    assert!(end("", None).contains("nothing was kept: --out DIR"));
    assert!(!end("--quiet", None).contains("accuracy"));
}

#[test]
fn a_folder_is_locked_while_its_process_lives() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start("tiny", &line(MANY, false), dir.path());
    until_lines(&mut child, dir.path(), 3);
    for more in ["", "--resume", "--overwrite"] {
        let error = run_error(&Tiny, &flags(&format!("--set data=hard {more}"), Some(dir.path())));
        mentions(&error, &["--out = ", &format!("locked by process {}, ", child.id())]);
    }
    assert_eq!(code(start("tiny", "--overwrite", dir.path()).wait().unwrap()), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    finish(dir.path());
}

#[test]
fn what_is_said_of_checkpoints_is_true() {
    let words = |more: &str, out: Option<&Path>| {
        let line = format!("--set optimizer.lr=1e37 --set schedule.cosine.warmup=9 --steps 10 {more}");
        let output = command("tiny", &line, out, "").stderr(Stdio::piped()).output().unwrap();
        assert_eq!(code(output.status), 1);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("is not finite: lower the learning rate"), "{text}");
        text
    };
    let dir = tempfile::tempdir().unwrap();
    assert!(!words("", None).contains("checkpoint"));
    assert!(!words("", Some(&dir.path().join("none"))).contains("checkpoint"));
    let text = words("--checkpoint-every 1", Some(&dir.path().join("some")));
    let checkpoint = dir.path().join("some/checkpoint.safetensors");
    let step = Origin::read(&checkpoint).unwrap().step;
    assert!(text.contains(&format!("the checkpoint of step {step} is kept: {}\n", checkpoint.display())), "{text}");
}
