//! The command line of a task: which flags there are, what they change, and what is refused.

use std::fs;
use std::path::Path;

use crate::runs::{QUICK, Tiny, changed, flags, go, halt, mentions, metrics, parse, result, run_error, without_seconds};
use pspikessm::Error;
use pspikessm::backend::{Cpu, Driver};
use pspikessm::train::cli::{self, Outcome};
use pspikessm::train::tasks::ListOps;
use pspikessm::train::{BackendChoice, Command, Flags, Length, Origin, Reduce, Schedule, Task, Transport};

// Reading.

#[test]
fn flags_that_make_no_sense_are_errors() {
    for (line, parts) in [
        ("--steps 0", &["--steps = 0", "at least 1"][..]),
        ("--batch-size 0", &["--batch-size = 0", "at least 1"]),
        ("--eval-passes 0", &["--eval-passes = 0", "at least 1"]),
        ("--threads 0", &["--threads = 0", "at least 1"]),
        ("--checkpoint-every 0", &["--checkpoint-every = 0", "at least 1"]),
        ("--backend gpu", &["--backend = gpu", "auto and cpu, wgpu, cuda"]),
        ("--backend CPU", &["--backend = CPU", "auto and cpu, wgpu, cuda"]),
        ("--backend auto:0", &["--backend = auto:0", "no index"]),
        ("--backend cpu:", &["--backend = cpu:", "whole number"]),
        ("--backend cpu:-1", &["--backend = cpu:-1", "whole number"]),
        ("--steps many", &["--steps = many", "whole number"]),
        ("--seed -1", &["--seed = -1", "whole number"]),
        ("--set lr", &["--set = lr", "key=value"]),
        ("--threads 1000000", &["--threads = 1000000", "at most 4096"]),
        ("--threads 18446744073709551616", &["--threads = 18446744073709551616", "whole number"]),
        ("--resume", &["--resume", "--out"]),
        ("--overwrite", &["--overwrite = without --out"]),
        ("--overwrite --resume --out x", &["--overwrite = with --resume"]),
        ("--report", &["--report", "--out"]),
        ("--report-every 5", &["--report-every = without --out"]),
        ("--report-every 0 --out x", &["--report-every = 0", "at least 1"]),
        ("--tensorboard", &["--tensorboard = without --out"]),
        ("--rates-every -1", &["--rates-every = -1", "whole number"]),
        ("--seeds 0", &["--seeds = 0", "at least 1"]),
        ("--seeds 2 --resume", &["--resume", "--out"]),
        ("--seeds 2 --eval-only --checkpoint x", &["--seeds = with --checkpoint"]),
        ("--eval-only", &["--eval-only", "--checkpoint"]),
        ("--predict x", &["--predict", "--checkpoint"]),
        ("--predict-text x", &["--predict", "--checkpoint"]),
        ("--predict x --predict-text y --checkpoint z", &["--predict-text = with --predict"]),
        ("--eval-only --predict-text x --checkpoint y", &["--predict = with --eval-only"]),
        ("--checkpoint x", &["--checkpoint", "--eval-only or --predict"]),
        ("--eval-only --predict x --checkpoint y", &["--predict = with --eval-only"]),
        ("--eval-only --checkpoint y --resume --out x", &["--resume = with --checkpoint"]),
        ("--start-from x --resume --out y", &["--start-from = with --resume"]),
        ("--start-from x --eval-only --checkpoint y", &["--start-from = with --checkpoint"]),
        ("--energy --expected", &["--energy = with --expected"]),
        ("--votes", &["--votes = without --eval-only"]),
        ("--votes --expected --eval-only --checkpoint y", &["--votes = with --expected"]),
        ("--energy --predict x --checkpoint y", &["--energy = with --predict"]),
        ("--preset quick --recipe mine.toml", &["--recipe = with --preset"]),
        ("--download", &["--download = without --data"]),
        ("--data-url x", &["--data-url = without --download"]),
        ("--speed 3", &["--speed", "--help"]),
        ("--out", &["--out", "--help"]),
        ("listops", &["listops", "--help"]),
    ] {
        mentions(&parse(line).unwrap_err().to_string(), parts);
    }
    for flag in ["--out", "--data", "--recipe", "--checkpoint", "--start-from"] {
        mentions(&Flags::parse([flag, ""]).unwrap_err().to_string(), &[&format!("{flag} = ''"), "is empty"]);
    }
    if cfg!(not(feature = "download")) {
        mentions(&parse("--download --data x").unwrap_err().to_string(), &["--download = in this build", "--features download"]);
    }
}

#[test]
fn flags_are_read() {
    assert!(matches!(parse("--steps 3 -h"), Ok(Command::Help)) && matches!(parse("--help"), Ok(Command::Help)));
    assert_eq!(parse("").unwrap(), Command::Run(Flags::default()));
    assert_eq!(parse("--report --out here").unwrap(), Command::Report("here".into()));
    let some = flags("--seed 3", None);
    assert_eq!(parse("--print-recipe --seed 3").unwrap(), Command::PrintRecipe(some));
    let line = "--recipe r --set a.b=1 --set c.d=x=y --steps=50 --batch-size 7 --accumulate 3 --seed 11 --regression --data d --skip-bad --backend cpu --threads 2 --reduce fast \
                --transport nccl --out o --checkpoint-every 5 --resume --seeds 4 --report-every 6 --rates-every 0 --tensorboard --eval-passes 2 --energy --quiet";
    let all = Flags {
        preset: None,
        recipe: Some("r".into()),
        set: vec![("a.b".into(), "1".into()), ("c.d".into(), "x=y".into())],
        steps: Some(50),
        batch_size: Some(7),
        accumulate: Some(3),
        seed: Some(11),
        regression: true,
        data: Some("d".into()),
        download: false,
        data_url: None,
        skip_bad: true,
        backend: BackendChoice::Device(Driver::Cpu, 0),
        threads: Some(2),
        reduce: Reduce::Fast,
        transport: Transport::Nccl,
        out: Some("o".into()),
        checkpoint_every: 5,
        resume: true,
        start_from: None,
        overwrite: false,
        seeds: Some(4),
        report_every: 6,
        rates_every: 0,
        tensorboard: true,
        eval_passes: 2,
        expected: false,
        votes: false,
        eval_only: false,
        checkpoint: None,
        predict: None,
        predict_text: None,
        energy: true,
        quiet: true,
    };
    assert_eq!(parse(line).unwrap(), Command::Run(all));
    let some = Flags { preset: Some("p".into()), expected: true, eval_only: true, checkpoint: Some("c".into()), ..Flags::default() };
    assert_eq!(parse("--preset p --expected --eval-only --checkpoint c").unwrap(), Command::Run(some));
    let some = Flags { start_from: Some("c".into()), ..Flags::default() };
    assert_eq!(parse("--start-from c").unwrap(), Command::Run(some));
    let some = Flags { predict: Some("s".into()), checkpoint: Some("c".into()), ..Flags::default() };
    assert_eq!(parse("--predict s --checkpoint c").unwrap(), Command::Run(some));
    let some = Flags { predict_text: Some("a b".into()), checkpoint: Some("c".into()), ..Flags::default() };
    assert_eq!(Flags::parse(["--predict-text", "a b", "--checkpoint", "c"]).unwrap(), Command::Run(some));
}

#[test]
fn the_help_text_names_every_flag_preset_and_device() {
    let help = Flags::help(&ListOps);
    let known = [
        "preset",
        "recipe",
        "set",
        "steps",
        "batch-size",
        "accumulate",
        "seed",
        "regression",
        "print-recipe",
        "data",
        "download",
        "data-url",
        "skip-bad",
        "backend",
        "threads",
        "reduce",
        "transport",
        "out",
        "checkpoint-every",
        "resume",
        "start-from",
        "overwrite",
        "seeds",
        "report",
        "report-every",
        "rates-every",
        "tensorboard",
        "compare",
        "eval-passes",
        "expected",
        "votes",
        "eval-only",
        "checkpoint",
        "predict",
        "predict-text",
        "energy",
        "quiet",
        "help",
    ];
    for flag in known {
        assert!(help.lines().any(|line| line.starts_with(&format!("  --{flag} "))), "--{flag} is not in the help text");
    }
    assert_eq!(help.lines().filter(|line| line.starts_with("  --")).count(), known.len());
    assert!(help.starts_with(ListOps.about()) && help.contains("Presets: quick, paper.\n"));
    let listed = pspikessm::devices().iter().map(|device| format!("  {device}\n")).collect::<String>();
    assert!(help.ends_with(&listed));
}

/// Whether this build has the driver: the processor's is always there, the others are features of the same names.
fn is_built(driver: Driver) -> bool {
    match driver.to_string().as_str() {
        "cpu" => true,
        "wgpu" => cfg!(feature = "wgpu"),
        "cuda" => cfg!(feature = "cuda"),
        new => panic!("no feature {new} is known here"),
    }
}

#[test]
fn a_backend_is_named_with_or_without_an_index() {
    let choice = |line: &str| parse(line).map(|command| if let Command::Run(flags) = command { flags.backend } else { panic!("{line}") });
    assert_eq!((choice("").unwrap(), choice("--backend auto").unwrap()), (BackendChoice::Auto, BackendChoice::Auto));
    assert_eq!(choice("--backend cpu").unwrap(), BackendChoice::Device(Driver::Cpu, 0));
    assert_eq!(choice("--backend=cpu:2 --threads 3").unwrap(), BackendChoice::Device(Driver::Cpu, 2));
    for driver in Driver::ALL {
        let (name, built) = (driver.to_string(), is_built(driver));
        for (index, line) in [(0, format!("--backend {name}")), (1, format!("--backend {name}:1"))] {
            match choice(&line) {
                Ok(choice) => assert!(built && choice == BackendChoice::Device(driver, index)),
                Err(error) => {
                    assert!(!built && matches!(error, Error::Config { .. }));
                    mentions(&error.to_string(), &["--backend", &format!("build with --features {name}")]);
                }
            }
        }
    }
}

// Recipes.

#[test]
fn flags_change_the_recipe() {
    let of = |line: &str| flags(line, None).recipe(&ListOps).unwrap();
    let paper = ListOps.recipe(Some("paper")).unwrap();
    assert_eq!(of(""), ListOps.recipe(Some("quick")).unwrap());
    assert_eq!(of("--preset paper"), paper);
    let found = of("--preset paper --steps=50 --batch-size 7 --seed 11 --set model.block.ssm.d_model=64 --set run.early_stop=3");
    let mut want = changed(paper.with_steps(50), |r| (r.run.batch, r.run.seed, r.run.early_stop) = (7, 11, Some(3)));
    want.model.block.ssm.d_model = 64;
    assert_eq!(found, want);
    let fails = |line: &str| flags(line, None).recipe(&ListOps).unwrap_err().to_string();
    mentions(&fails("--preset huge"), &["--preset = huge", "listops has quick, paper"]);
    mentions(&fails("--set model.block.ssm.d_modell=3"), &["--set = model.block.ssm.d_modell=3", "unknown field"]);
    mentions(&fails("--batch-size 2 --set run.accumulate=3"), &["accumulate = 3"]);
    mentions(&fails("--seed 18446744073709551615"), &["seed = 18446744073709551615", "2^63"]);
    mentions(&fails("--set model.block.ssm.d_state=9223372036854775806"), &["d_state = 9223372036854775806", "at most 1024"]);
    mentions(&fails("--set model.block.ssm.l_max=9223372036854775807"), &["l_max = 9223372036854775807", "at most 8388608"]);
}

#[test]
fn a_recipe_that_was_printed_is_the_recipe_of_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    let change = "--set schedule.plateau={} --set run.length.epochs=3 --set run.clip=0.5 --seed 4";
    fs::write(&path, flags(change, None).recipe(&Tiny).unwrap().to_toml().unwrap()).unwrap();
    let line = format!("--recipe {}", path.display());
    let recipe = flags(&line, None).recipe(&Tiny).unwrap();
    assert_eq!((recipe.schedule, recipe.run.length), (Schedule::Plateau { decay: 0.2, patience: 20 }, Length::Epochs(3)));
    assert_eq!(result(&Tiny, &flags(&line, None)).1, result(&Tiny, &flags(change, None)).1);
    fs::write(&path, QUICK.replace("batch = 4", "badge = 4")).unwrap();
    mentions(&run_error(&Tiny, &flags(&line, None)), &["mine.toml:6:1: unknown field `badge`"]);
    fs::remove_file(&path).unwrap();
    mentions(&run_error(&Tiny, &flags(&line, None)), &["could not read the recipe", "mine.toml"]);
}

#[test]
fn a_resumed_run_has_the_recipe_of_its_checkpoint() {
    let (dir, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = "--seed 6 --set optimizer.lr=3e-3 --set schedule=constant";
    result(&Tiny, &flags(&format!("{own} --steps 7"), Some(dir.path())));
    let resumed = flags("--resume --steps 15", Some(dir.path()));
    assert_eq!(
        resumed.recipe(&Tiny).unwrap().to_toml().unwrap(),
        flags(&format!("{own} --steps 15"), None).recipe(&Tiny).unwrap().to_toml().unwrap()
    );
    // With a constant rate a longer run is the continuation of a shorter one.
    assert_eq!(result(&Tiny, &resumed).1, result(&Tiny, &flags(&format!("{own} --steps 15"), Some(whole.path()))).1);
    assert_eq!(
        fs::read(dir.path().join("checkpoint.safetensors")).unwrap(),
        fs::read(whole.path().join("checkpoint.safetensors")).unwrap()
    );
    assert_eq!(without_seconds(metrics(dir.path())), without_seconds(metrics(whole.path())));
    // Who names another recipe is told what differs.
    mentions(&run_error(&Tiny, &flags("--resume --preset quick", Some(dir.path()))), &["optimizer.lr = 0.003", "optimizer.lr = 0.01"]);
    mentions(&run_error(&Tiny, &flags("--resume --seed 7", Some(dir.path()))), &["run.seed = 6", "run.seed = 7"]);
}

#[test]
fn checkpoints_come_as_often_as_asked() {
    // A run whose rate breaks it keeps the last of them.
    let kept = |every: &str| {
        let dir = tempfile::tempdir().unwrap();
        let line = format!("{every} --set optimizer.lr=1e37 --set schedule.cosine.warmup=9 --steps 10");
        mentions(&run_error(&Tiny, &flags(&line, Some(dir.path()))), &["is not finite", "lower the learning rate"]);
        Origin::read(dir.path().join("checkpoint.safetensors")).map(|origin| origin.step).ok()
    };
    assert!(kept("--checkpoint-every 1").is_some());
    assert_eq!(kept(""), None);
}

// Folders.

#[test]
fn a_folder_that_cannot_be_written_is_an_error_before_anything_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    for out in [file.clone(), file.join("below")] {
        let mut printed = Vec::new();
        let error = cli::run_on(&Cpu::<f32>::new(), &Tiny, &flags("", Some(&out)), &go(), &mut printed).unwrap_err();
        assert!(matches!(error, Error::Io { .. }));
        mentions(&error.to_string(), &["could not", "file"]);
        assert!(printed.is_empty());
    }
    fs::create_dir_all(dir.path().join("taken/metrics.jsonl")).unwrap();
    mentions(&run_error(&Tiny, &flags("", Some(&dir.path().join("taken")))), &["could not open", "metrics.jsonl"]);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
}

#[test]
fn a_data_folder_must_be_there_and_may_be_empty() {
    let dir = tempfile::tempdir().unwrap();
    let data = |path: &Path| Flags { data: Some(path.into()), ..flags("--steps 1 --batch-size 2 --eval-passes 1", None) };
    mentions(&run_error(&ListOps, &data(&dir.path().join("absent"))), &["--data", "absent", "is not there"]);
    let row = "Source\tTarget\n[MAX 1 2 ]\t2\n[MIN 7 8 ]\t7\n";
    for part in ["train", "val", "test"] {
        fs::write(dir.path().join(format!("basic_{part}.tsv")), row).unwrap();
    }
    assert!(result(&ListOps, &data(dir.path())).0.contains(" steps=1 "));
    mentions(&run_error(&ListOps, &data(&dir.path().join("basic_val.tsv"))), &["--data", "not a folder"]);
    fs::write(dir.path().join("basic_val.tsv"), "Source\tTarget\n").unwrap();
    mentions(&run_error(&ListOps, &data(dir.path())), &["basic_val.tsv:2:1", "no row"]);
    // Someone's own files are not filled up with generated ones; into an empty folder a whole set is generated.
    fs::remove_file(dir.path().join("basic_val.tsv")).unwrap();
    mentions(&run_error(&ListOps, &data(dir.path())), &["basic_train.tsv", "never mixed"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    let empty = tempfile::tempdir().unwrap();
    let recipe = ListOps.recipe(None).unwrap();
    let said = |dir: &Path| ListOps.generates(&recipe, Some(dir)).unwrap();
    mentions(&said(empty.path()).unwrap(), &["generating", "basic_train.tsv", "\"easy\", seed 0"]);
    assert_eq!(ListOps.load(&recipe, Some(empty.path()), &pspikessm::data::Faults::refused()).unwrap().train.len(), 40_000);
    assert_eq!(said(empty.path()), None);
    assert_eq!(fs::read_to_string(empty.path().join("basic_val.tsv")).unwrap().lines().count(), 501);
    // Which is refused where the recipe wants another one.
    mentions(
        &run_error(&ListOps, &Flags { data: Some(empty.path().into()), ..flags("--preset paper --steps 1", None) }),
        &["generated by other rules", "train 40000, not 96000"],
    );
}

#[test]
fn listops_has_its_variants_and_reads_an_expression() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("out"));
    fs::create_dir(&data).unwrap();
    let row = "Source\tTarget\n[MAX 1 2 ]\t2\n[MIN 7 8 ]\t7\n";
    for part in ["train", "val", "test"] {
        fs::write(data.join(format!("basic_{part}.tsv")), row).unwrap();
    }
    let of = |line: &str| Flags { data: Some(data.clone()), ..flags(&format!("--steps 1 --batch-size 2 {line}"), Some(&out)) };
    mentions(&run_error(&ListOps, &of("--set data=huge")), &["data = huge", "small and official"]);
    result(&ListOps, &of("--quiet"));
    let predict =
        |sample: &str| Flags { predict: Some(sample.into()), checkpoint: Some(out.join("checkpoint.safetensors")), ..Flags::default() };
    let text = crate::runs::printed(&ListOps, &predict("[MAX 2 9 [MIN 4 7 ] 0 ]"));
    let mut classes: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    classes.sort_unstable();
    assert_eq!(classes, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    fs::write(dir.path().join("sample.txt"), "[MAX 2 9 [MIN 4 7 ] 0 ]\n").unwrap();
    assert_eq!(crate::runs::printed(&ListOps, &predict(dir.path().join("sample.txt").to_str().unwrap())), text);
    mentions(&run_error(&ListOps, &predict("[MEAN 1 2 ]")), &["MEAN"]);
    for (sample, says) in
        [("", "there is no expression"), ("[MAX", "behind token 1"), ("[MAX 1 2 ] 3", "token 4 of 5"), ("no.txt", "column 1")]
    {
        mentions(&run_error(&ListOps, &predict(sample)), &["--predict", says]);
    }
}

/// A run with these flags, and the exit code that it has as a program.
#[track_caller]
fn exits(line: &str, code: u8) {
    assert_eq!(cli::exit_code(&Tiny, line.split_whitespace()), code, "{line}");
}

#[test]
fn exit_codes_tell_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    exits(&format!("--backend cpu --quiet --steps 2 --out {out}"), 0);
    exits("--print-recipe", 0);
    exits(&format!("--report --out {out}"), 0);
    for wrong in ["--preset huge", "--set model.layers=0", "--set a.b=1", "--threads 1000000", "--speed 3", "--data=", "--backend cpu:x"] {
        exits(wrong, 2);
    }
    exits(&format!("--backend cpu --out {out}"), 2);
    exits("--backend cpu --set model.block.ssm.d_model=1000000", 2);
    exits("--backend cpu --set model.layers=9223372036854775807", 2);
    exits("--backend cpu --set model.block.ssm.d_model=9223372036854775807", 2);
    exits("--recipe absent.toml", 1);
    exits(&format!("--report --out {}", dir.path().display()), 1);
    exits("--backend cpu --quiet --steps 4 --set optimizer.lr=1e37", 1);
    // Numbers of which no sum and no product may overflow.
    let most = "9223372036854775807";
    exits(&format!("--backend cpu --quiet --steps 2 --set run.batch={most} --set run.early_stop={most} --checkpoint-every {most}"), 0);
}

#[test]
fn a_reader_of_the_results_who_has_gone_stops_nothing() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let outcome = cli::run_on(&Cpu::<f32>::new(), &Tiny, &flags("", Some(dir.path())), &go(), &mut Closed).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
    assert!(dir.path().join("report.html").exists());
}

#[test]
fn the_standard_output_has_the_result_alone() {
    assert_eq!(crate::runs::printed(&Tiny, &flags("", None)).lines().count(), 1);
}

// Devices.

/// What a run on the device that the flags name prints last.
fn result_on_device(task: &dyn Task, flags: &Flags) -> String {
    let mut printed = Vec::new();
    let outcome = cli::run(task, flags, &go(), &mut printed).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
    crate::runs::figures(&String::from_utf8(printed).unwrap())
}

#[test]
fn the_cpu_by_name_is_the_cpu_bit_for_bit() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let plain = result(&Tiny, &flags("", Some(dirs[0].path()))).1;
    let same = |dir: &Path| {
        let file = |dir: &Path| fs::read(dir.join("checkpoint.safetensors")).unwrap();
        assert_eq!(file(dir), file(dirs[0].path()));
        assert_eq!(without_seconds(metrics(dir)), without_seconds(metrics(dirs[0].path())));
    };
    assert_eq!(result_on_device(&Tiny, &flags("--backend cpu", Some(dirs[1].path()))), plain);
    same(dirs[1].path());
    // Where no GPU is there to be taken, and software that plays one is not, the CPU is the default too.
    if pspikessm::devices().iter().all(|device| device.driver == Driver::Cpu || device.name.starts_with("llvmpipe")) {
        assert_eq!(result_on_device(&Tiny, &flags("", Some(dirs[2].path()))), plain);
        same(dirs[2].path());
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error_of_the_device() {
    let error = |flags| cli::run(&Tiny, &flags, &halt(), &mut Vec::new()).unwrap_err();
    for driver in Driver::ALL {
        let built = is_built(driver);
        let count = pspikessm::devices().iter().filter(|device| device.driver == driver).count();
        let error = error(Flags { backend: BackendChoice::Device(driver, count), ..Flags::default() });
        // Where the flags come from elsewhere than the command line, a driver may be unknown to this build.
        assert_eq!(matches!(error, Error::Config { .. }), !built, "{error}");
        assert_eq!(matches!(error, Error::Device { .. }), built, "{error}");
        mentions(&error.to_string(), &[&driver.to_string()]);
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn a_run_on_wgpu_goes_on_on_the_cpu() {
    use crate::runs::{advance, bits, recipe, splits, take, trainer};
    use pspikessm::backend::*;
    use pspikessm::nn::Module;
    use pspikessm::train::Trainer;
    let Some(device) = pspikessm::devices().into_iter().find(|device| device.driver == Driver::Wgpu) else { return };
    let (out, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for part in ["train", "val", "test"] {
        fs::write(data.path().join(format!("basic_{part}.tsv")), "Source\tTarget\n[MAX 1 2 ]\t2\n[MIN 7 8 ]\t7\n").unwrap();
    }
    let flags =
        |line: &str| Flags { data: Some(data.path().into()), ..flags(&format!("{line} --steps 3 --batch-size 2"), Some(out.path())) };
    let there = result_on_device(&ListOps, &flags(&format!("--backend wgpu:{} --eval-passes 1", device.index)));
    mentions(&there, &["backend=wgpu-f32 steps=3 "]);
    assert_eq!(metrics(out.path())[0]["backend"], "wgpu-f32");
    // The run is done: the CPU evaluates, and knows the losses of the other device.
    let here = result_on_device(&ListOps, &flags("--backend cpu --resume"));
    mentions(&here, &["backend=cpu-f32 steps=3 "]);
    let loss = |line: &str| line.split(' ').find(|field| field.starts_with("train_loss=")).unwrap().to_string();
    assert_eq!(loss(&here), loss(&there));

    // Saved after three steps of many: all bits arrive, and training goes on.
    let (gpu, path) = (Wgpu::nth(device.index).unwrap(), out.path().join("at.safetensors"));
    let mut part = Trainer::new(&gpu, "tiny", recipe(16), splits()).unwrap();
    take(&mut part, 3);
    part.save(&path).unwrap();
    let mut rest = trainer().resume(&path).unwrap();
    let arrived = bits(&rest);
    for (name, param) in part.model().parameters() {
        let sent = gpu.to_vec(&param.value()).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert!(arrived.contains(&(name, sent)));
    }
    advance(&mut rest, 16);
    assert!(rest.recent(13).unwrap().loss.is_finite());
    // And back.
    rest.save(&path).unwrap();
    assert_eq!(Trainer::new(&gpu, "tiny", recipe(16), splits()).unwrap().resume(&path).unwrap().recent(16), rest.recent(16));
}
