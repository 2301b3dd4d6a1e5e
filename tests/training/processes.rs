//! Many processes, played by threads: the bits of one process, whatever their number, and one end for all.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::{assert_close, host};
use crate::runs::{
    Tiny, bits, changed, figures, flags, go, halt, mentions, metrics, names, parse, printed, recipe, run_error, set, splits,
    without_seconds,
};
use pspikessm::backend::*;
use pspikessm::data::{Dataset, Splits, Vocabulary};
use pspikessm::nn::{Activation, Context, Linear, Module, NormKind, PlifConfig, SpikeSource, SsmInit, hippo};
use pspikessm::train::cli::{self, Outcome};
use pspikessm::train::{
    Alone, BackendChoice, BatchNorms, Communicator, Ending, FitOptions, Launched, Learner, Length, Output, Plan, Recipe, Reduce, Samples,
    Schedule, Scored, SpikePenalty, StepReport, Threads, Trainer, Transport, fit_with,
};
use pspikessm::{Error, Result};

const PROCESSES: [usize; 4] = [2, 3, 4, 8];

/// What every process of so many makes of its end.
pub(crate) fn together<T: Send>(processes: usize, work: impl Fn(Arc<dyn Communicator>) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let all: Vec<_> = Threads::new(processes).into_iter().map(|own| scope.spawn(|| work(Arc::new(own)))).collect();
        all.into_iter().map(|process| process.join().unwrap()).collect()
    })
}

/// The recipe with eight micro-batches of one sample each.
fn in_eight(recipe: Recipe) -> Recipe {
    changed(recipe, |r| (r.run.batch, r.run.accumulate, r.model.layers, r.schedule) = (8, 8, 1, Schedule::Constant))
}

/// Everything that a run of so many steps and its validations leave: reports, weights, moments, evaluations, the checkpoint's bytes.
type Trace = (Vec<StepReport>, Vec<(String, Vec<u32>)>, String, Vec<u8>);

fn trace(recipe: &Recipe, sets: &Splits, steps: u64, own: Arc<dyn Communicator>) -> Trace {
    let trainer = Trainer::new(&Cpu::<f32>::new(), "tiny", recipe.clone(), sets.clone()).unwrap();
    let rank = own.rank();
    // Each parameter leaves by itself.
    let mut trainer = trainer.in_messages_of(1).across(own, Reduce::Fixed).unwrap();
    let (mut reports, mut found) = (Vec::new(), Vec::new());
    while trainer.steps_done() < steps {
        reports.extend(trainer.step().unwrap());
        if trainer.validation_due() && trainer.epochs_done().is_multiple_of(5) {
            found.push(trainer.validate(&go()).unwrap().unwrap());
        }
    }
    found.push(trainer.test(2, &go()).unwrap().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("{rank}.safetensors"));
    trainer.save(&path).unwrap();
    (reports, bits(&trainer), format!("{found:?} {:?}", trainer.best()), std::fs::read(path).unwrap())
}

/// Holds every number of processes to the trace of one.
fn the_bits_of_one(name: &str, recipe: &Recipe, sets: &Splits) {
    let one = trace(recipe, sets, 50, Arc::new(Alone));
    assert_ne!(one.0.first(), one.0.last(), "{name}: nothing was learnt");
    for processes in PROCESSES {
        for (rank, other) in together(processes, |own| trace(recipe, sets, 50, own)).into_iter().enumerate() {
            assert_eq!(other.0, one.0, "{name}: the reports of process {rank} of {processes}");
            assert_eq!(other.1, one.1, "{name}: the weights and moments of process {rank} of {processes}");
            assert_eq!(other.2, one.2, "{name}: the evaluations of process {rank} of {processes}");
            assert!(other.3 == one.3, "{name}: the checkpoint of process {rank} of {processes}");
        }
    }
}

/// A recipe of 50 steps in eight micro-batches whose block is changed.
fn block(change: impl FnOnce(&mut Recipe)) -> Recipe {
    in_eight(changed(recipe(50), change))
}

const LIF: Lif = Lif { decay: 0.5, threshold: 0.3, soft_reset: false, surrogate: Surrogate::Sigmoid { alpha: 4.0 } };

#[test]
fn a_bidirectional_block_with_batch_norm_gives_the_bits_of_one_process() {
    the_bits_of_one("bidirectional", &block(|_| ()), &splits());
}

#[test]
fn a_causal_block_that_is_normalised_before_and_drops_gives_the_bits_of_one_process() {
    let causal = block(|r| {
        (r.model.causal, r.model.block.bidirectional, r.model.block.prenorm) = (true, false, true);
        (r.model.block.dropout, r.model.block.own_noise, r.run.clip) = (0.3, true, Some(0.5));
        r.optimizer = pspikessm::nn::SgdConfig::new(0.05).momentum(0.9).into();
    });
    the_bits_of_one("causal", &causal, &splits());
}

/// Eight different sequences of one length: their parts are padded as the whole batch is.
fn of_one_length() -> Dataset {
    let mut set = Dataset::tokens(Vocabulary::new(["a", "b"]).unwrap(), 2);
    (0..8u8).for_each(|i| set.push_tokens(&[3, 4, 3 + i % 2, 3 + i / 2 % 2, 3 + i / 4], usize::from(i % 2)).unwrap());
    set
}

#[test]
fn batch_norms_that_see_the_whole_batch_give_the_bits_of_one_process() {
    let synchronised = |r: &mut Recipe| r.run.batch_norm = BatchNorms::Synchronised;
    the_bits_of_one("synchronised", &block(synchronised), &splits());
    // Before the first sampler, where it is folded into the affine, and run again.
    let before = block(|r| (r.model.block.prenorm, r.run.recompute, r.run.batch_norm) = (true, true, BatchNorms::Synchronised));
    the_bits_of_one("synchronised, prenorm, run again", &before, &splits());
}

#[test]
fn neurons_that_integrate_and_layer_norm_give_the_bits_of_one_process() {
    let lif = block(|r| {
        (r.model.block.source, r.model.block.norm, r.model.block.flip_reverse) = (SpikeSource::Lif(LIF), Some(NormKind::Layer), true);
        r.model.block.activation = Activation::Relu;
    });
    the_bits_of_one("lif", &lif, &splits());
    let learnt = PlifConfig::new(0.5).threshold(0.3).soft_reset(true);
    let plif = block(|r| (r.model.block.source, r.model.block.norm, r.model.block.own_noise) = (SpikeSource::Plif(learnt), None, true));
    the_bits_of_one("plif", &plif, &splits());
}

#[test]
fn kernels_that_grow_with_the_lengths_give_the_bits_of_one_process() {
    // Low-rank kernels of no fixed length: which length comes first, and which next, makes their parameters.
    let grows = block(|r| {
        (r.model.block.ssm.init, r.model.block.ssm.l_max) = (SsmInit::Dplr(hippo::Measure::LegS), None);
        r.model.block.residual = false;
    });
    the_bits_of_one("low rank", &grows, &splits());
}

#[test]
fn pairs_with_a_penalty_on_spikes_give_the_bits_of_one_process() {
    let mut pairs = Dataset::pairs(Vocabulary::new(["a", "b"]).unwrap(), 2);
    for i in 0..22u8 {
        pairs.push_pair(&[3, 4, 3 + i % 2], &[4, 3, 3 + i / 2 % 2, 4], usize::from(i % 3 == 0)).unwrap();
    }
    let sets = Splits { val: pairs.subset(&[0, 1, 2, 3, 4]).unwrap(), test: pairs.subset(&[7, 8, 9]).unwrap(), train: pairs };
    let penalised = block(|r| {
        r.run.spike_penalty = Some(SpikePenalty { weight: 2.0, rate: 0.1 });
        r.model.block.clamp_residual = true;
    });
    the_bits_of_one("pairs", &penalised, &sets);
}

#[test]
fn values_and_blocks_that_are_run_again_give_the_bits_of_one_process() {
    let mut values = Dataset::values(2, 3).unwrap();
    (0..22u8).for_each(|i| values.push_values(&[0.1 * f32::from(i), 0.5, -0.3, 0.2, 0.9, f32::from(i % 3)], usize::from(i % 3)).unwrap());
    let sets = Splits { val: values.subset(&[0, 1, 2, 3, 4]).unwrap(), test: values.subset(&[7, 8, 9]).unwrap(), train: values };
    // Micro-batches of two samples, so that there are fewer of them than processes.
    let again = changed(block(|r| r.run.recompute = true), |r| (r.run.accumulate, r.model.layers) = (4, 2));
    the_bits_of_one("values", &again, &sets);
}

// What a micro-batch is.

#[test]
fn a_micro_batch_draws_the_random_numbers_of_the_whole_batch() {
    // In f64 and without a BatchNorm the parts of a batch add up to it, spikes and dropout included.
    let run = |accumulate: usize| {
        let random = changed(recipe(6), |r| {
            (r.run.batch, r.run.accumulate, r.model.block.norm, r.model.block.dropout) = (8, accumulate, Some(NormKind::Layer), 0.4);
        });
        let mut trainer: Trainer<Cpu<f64>> = Trainer::new(&Cpu::new(), "tiny", random, splits()).unwrap();
        let (report, gradients) = trainer.gradients().unwrap().unwrap();
        let all = trainer.model().parameters().into_iter().filter(|(_, param)| param.is_trained());
        let all: Vec<f64> = all.flat_map(|(_, param)| host(&Cpu::<f64>::new(), gradients.of(&param).unwrap())).collect();
        (report.loss, all)
    };
    let (loss, whole) = run(1);
    for accumulate in [2, 3, 8] {
        let (in_parts, parts) = run(accumulate);
        assert!((in_parts - loss).abs() < 1e-12, "{accumulate} parts: {in_parts} and {loss}");
        assert_close("gradients", &parts, &whole, 1e-10);
    }
}

#[test]
fn batch_norms_that_see_the_whole_batch_do_what_they_do_on_it() {
    let same = of_one_length();
    for prenorm in [false, true] {
        let run = |accumulate: usize| {
            let recipe = changed(recipe(6), |r| {
                (r.run.batch, r.run.accumulate, r.run.batch_norm) = (8, accumulate, BatchNorms::Synchronised);
                (r.model.block.prenorm, r.model.block.source) = (prenorm, SpikeSource::Lif(LIF));
            });
            let sets = Splits { train: same.clone(), ..splits() };
            let mut trainer: Trainer<Cpu<f64>> = Trainer::new(&Cpu::new(), "tiny", recipe, sets).unwrap();
            let (report, gradients) = trainer.gradients().unwrap().unwrap();
            let values = |param: &pspikessm::nn::Param<Cpu<f64>>| match param.is_trained() {
                true => host(&Cpu::<f64>::new(), gradients.of(param).unwrap()),
                false => host(&Cpu::<f64>::new(), &param.value()),
            };
            (report.loss, trainer.model().parameters().iter().flat_map(|(_, param)| values(param)).collect::<Vec<f64>>())
        };
        let (loss, whole) = run(1);
        for accumulate in [2, 4, 8] {
            let (in_parts, parts) = run(accumulate);
            assert!((in_parts - loss).abs() < 1e-11, "{accumulate} parts: {in_parts} and {loss}");
            assert_close("gradients and running statistics", &parts, &whole, 1e-9);
        }
    }
}

#[test]
fn running_statistics_move_once_a_step_by_the_mean_over_the_micro_batches() {
    // What enters the first norm of a prenorm block does not depend on any norm: the mean of the parts' means is the batch's, of equal parts
    // and sequences of one length.
    let same = of_one_length();
    let after = |accumulate: usize| {
        let prenorm = changed(recipe(6), |r| (r.run.batch, r.run.accumulate, r.model.block.prenorm) = (8, accumulate, true));
        let mut trainer: Trainer<Cpu<f64>> =
            Trainer::new(&Cpu::new(), "tiny", prenorm, Splits { train: same.clone(), ..splits() }).unwrap();
        trainer.step().unwrap();
        let mean = trainer.model().parameters().into_iter().find(|(name, _)| name.ends_with("0.norm.running_mean")).unwrap().1;
        host(&Cpu::<f64>::new(), &mean.value())
    };
    let whole = after(1);
    assert!(whole.iter().any(|mean| mean.abs() > 1e-4), "{whole:?}");
    for accumulate in [2, 4, 8] {
        assert_close("running means", &after(accumulate), &whole, 1e-12);
    }
}

// The command line.

fn across(line: &str, dir: Option<&Path>, stop: &AtomicBool, own: Arc<dyn Communicator>) -> (Result<Outcome>, String) {
    let mut printed = Vec::new();
    let outcome = cli::run_across(&Cpu::<f32>::new(), &Tiny, &flags(line, dir), stop, &mut printed, own);
    (outcome, String::from_utf8(printed).unwrap())
}

fn same_folders(a: &Path, b: &Path) {
    assert_eq!(names(a), names(b));
    for file in ["checkpoint.safetensors", "best.safetensors", "raster.svg", "kernels.svg"] {
        assert!(std::fs::read(a.join(file)).unwrap() == std::fs::read(b.join(file)).unwrap(), "{file} differs");
    }
    assert_eq!(without_seconds(metrics(a)), without_seconds(metrics(b)));
}

#[test]
fn a_whole_command_does_on_many_processes_what_it_does_on_one() {
    let whole = tempfile::tempdir().unwrap();
    const LINE: &str = "--accumulate 3 --batch-size 6 --steps 9 --eval-passes 2 --rates-every 4 --quiet";
    let want = printed(&Tiny, &flags(LINE, Some(whole.path())));
    for processes in [2, 3, 4] {
        let dir = tempfile::tempdir().unwrap();
        let ends = together(processes, |own| across(LINE, Some(dir.path()), &go(), own));
        assert_eq!(figures(&ends[0].1), figures(&want));
        for (rank, (outcome, printed)) in ends.into_iter().enumerate() {
            assert!(matches!(outcome.unwrap(), Outcome::Finished(_)) && (rank == 0 || printed.is_empty()));
        }
        same_folders(dir.path(), whole.path());
    }
    // Its model is evaluated by many, too.
    let evaluate = format!("--eval-only --checkpoint {}", whole.path().join("checkpoint.safetensors").display());
    let want = printed(&Tiny, &flags(&evaluate, None));
    for (rank, (outcome, printed)) in together(3, |own| across(&evaluate, None, &go(), own)).into_iter().enumerate() {
        assert!(matches!(outcome.unwrap(), Outcome::Finished(_)));
        let before_seconds = |text: &str| text.split(" seconds=").next().unwrap().to_string();
        assert!(rank > 0 || before_seconds(&printed) == before_seconds(&want), "{printed}");
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    let (whole, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Nobody says how many micro-batches: a new run has as many as processes, and its recipe keeps them.
    let line = |steps: u64| format!("--batch-size 6 --steps {steps} --eval-passes 1 --set schedule=constant --set data=hard --quiet");
    printed(&Tiny, &flags(&format!("{} --accumulate 2", line(14)), Some(whole.path())));
    let run = |processes: usize, line: &str| {
        let ends = together(processes, |own| across(line, Some(dir.path()), &go(), own).0);
        ends.into_iter().for_each(|end| assert!(matches!(end.unwrap(), Outcome::Finished(_))));
    };
    run(2, &line(4));
    run(3, "--resume --steps 7 --eval-passes 1");
    run(1, "--resume --steps 9 --eval-passes 1");
    run(4, "--resume --steps 14 --eval-passes 1");
    let checkpoint = |dir: &tempfile::TempDir| std::fs::read(dir.path().join("checkpoint.safetensors")).unwrap();
    assert!(checkpoint(&dir) == checkpoint(&whole), "the checkpoints differ");
    assert_eq!(without_seconds(metrics(dir.path())), without_seconds(metrics(whole.path())));
}

#[test]
fn a_run_that_starts_from_a_model_has_as_many_micro_batches_as_processes() {
    let [first, whole, parts] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    printed(&Tiny, &flags("--batch-size 6 --steps 3 --eval-passes 1 --quiet", Some(first.path())));
    let file = first.path().join("checkpoint.safetensors");
    let line = format!("--start-from {} --steps 4 --eval-passes 1 --quiet", file.display());
    printed(&Tiny, &flags(&format!("{line} --accumulate 2"), Some(whole.path())));
    let ends = together(2, |own| across(&line, Some(parts.path()), &go(), own).0);
    ends.into_iter().for_each(|end| assert!(matches!(end.unwrap(), Outcome::Finished(_))));
    same_folders(parts.path(), whole.path());
}

#[test]
fn flags_of_many_processes_are_read() {
    assert_eq!((flags("--accumulate 3", None).accumulate, flags("--reduce fast", None).reduce), (Some(3), Reduce::Fast));
    mentions(&parse("--reduce sometimes").unwrap_err().to_string(), &["--reduce = sometimes", "fixed", "fast"]);
    mentions(&parse("--transport air").unwrap_err().to_string(), &["--transport = air", "mpi", "nccl"]);
    mentions(&parse("--accumulate 0").unwrap_err().to_string(), &["--accumulate = 0"]);
    mentions(&run_error(&Tiny, &flags("--accumulate 9 --batch-size 4", None)), &["accumulate = 9"]);
}

#[test]
fn nccl_is_refused_by_a_build_without_it() {
    let carried = Launched::join().unwrap().carry_by(Transport::Nccl, BackendChoice::default());
    match cfg!(feature = "nccl") {
        // Nobody is there to reach.
        true => carried.unwrap(),
        false => mentions(&carried.unwrap_err().to_string(), &["--transport = nccl", "--features nccl"]),
    }
}

// One end for all.

fn trainer_across(own: Arc<dyn Communicator>, recipe: Recipe) -> Result<Trainer<Cpu<f32>>> {
    Trainer::new(&Cpu::new(), "tiny", recipe, splits())?.across(own, Reduce::Fixed)
}

#[test]
fn who_is_stopped_stops_all_of_them_saved() {
    let dir = tempfile::tempdir().unwrap();
    let ends = together(3, |own| {
        let rank = own.rank();
        let mut trainer = trainer_across(own, in_eight(recipe(50))).unwrap();
        let mut output = (rank == 0).then(|| Output::create(dir.path()).unwrap());
        let stop = AtomicBool::new(false);
        let options = FitOptions { checkpoint_every: 1000, quiet: true, ..FitOptions::default() };
        let ending = fit_with(&mut trainer, output.as_mut(), options, &stop, &mut |trainer, _| {
            stop.store(rank == 2 && trainer.steps_done() == 5, Ordering::Relaxed);
            Ok(ControlFlow::Continue(()))
        });
        (ending.unwrap(), trainer.steps_done())
    });
    assert_eq!(ends, [(Ending::Stopped, 5); 3]);
    let saved = Trainer::new(&Cpu::<f32>::new(), "tiny", in_eight(recipe(50)), splits()).unwrap();
    assert_eq!(saved.resume(dir.path().join("checkpoint.safetensors")).unwrap().steps_done(), 5);
    // Before the first step, and in the middle of an evaluation.
    let stopped = together(2, |own| {
        let halted = AtomicBool::new(own.rank() == 1);
        let trainer = trainer_across(own, in_eight(recipe(50))).unwrap();
        trainer.test(1, &halted).unwrap().is_none()
    });
    assert_eq!(stopped, [true, true]);
    let outcomes = together(2, |own| {
        let stop = if own.rank() == 1 { halt() } else { go() };
        across("--steps 9 --quiet", None, &stop, own).0.unwrap()
    });
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Stopped(0, None)));
}

#[test]
fn what_fails_on_one_process_is_an_error_on_all() {
    let dir = tempfile::tempdir().unwrap();
    let errors = together(3, |own| {
        let rank = own.rank();
        let mut trainer = trainer_across(own, in_eight(recipe(50))).unwrap();
        let options = FitOptions { quiet: true, ..FitOptions::default() };
        let mut output = (rank == 0).then(|| Output::create(dir.path()).unwrap());
        fit_with(&mut trainer, output.as_mut(), options, &go(), &mut |trainer, _| match (rank, trainer.steps_done()) {
            (1, 3) => Err(Error::value("disk", "is full")),
            _ => Ok(ControlFlow::Continue(())),
        })
        .unwrap_err()
        .to_string()
    });
    assert_eq!(errors[1], "disk: is full");
    mentions(&errors[0], &["process 1", "disk: is full"]);
    assert_eq!(errors[0], errors[2]);

    // In the middle of a step that all compute at once.
    let errors = together(2, |own| {
        let synchronised = changed(in_eight(recipe(50)), |r| r.run.batch_norm = BatchNorms::Synchronised);
        let mut trainer = trainer_across(own, synchronised).unwrap();
        trainer.step().unwrap();
        let cpu = Cpu::<f32>::new();
        let (_, bias) = trainer.model().parameters().into_iter().find(|(name, _)| name == "decoder.bias").unwrap();
        bias.set(cpu.full(bias.value().shape(), f64::NAN).unwrap()).unwrap();
        trainer.step().unwrap_err().to_string()
    });
    errors.iter().for_each(|error| mentions(error, &["step 2", "decoder.bias, and with it the loss,"]));

    // A file that only the first one writes: its folder is a file by then.
    let errors = together(2, |own| {
        let blocked = dir.path().join("blocked");
        let _ = std::fs::write(&blocked, "");
        across("--steps 3 --quiet", Some(&blocked), &go(), own).0.unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| error.contains("blocked")), "{errors:?}");
}

/// A learner of one number that counts on which process a sample has been read.
struct Number(Linear<Cpu<f64>>);

/// Samples that are their numbers, of which one may be unreadable; counts what is read.
#[derive(Clone)]
struct Counted {
    len: usize,
    bad: Option<usize>,
    skipped: bool,
    read: Arc<AtomicU64>,
}

impl Samples for Counted {
    type Batch = Vec<usize>;

    fn len(&self) -> usize {
        self.len
    }

    fn batch(&self, indices: &[usize]) -> Result<Option<Vec<usize>>> {
        self.read.fetch_add(indices.len() as u64, Ordering::Relaxed);
        let good: Vec<usize> = indices.iter().copied().filter(|&index| Some(index) != self.bad).collect();
        match good.len() < indices.len() && !self.skipped {
            true => Err(Error::value("Counted", format!("sample {} cannot be read", self.bad.unwrap()))),
            false => Ok((!good.is_empty()).then_some(good)),
        }
    }

    fn count(batch: &Vec<usize>) -> usize {
        batch.len()
    }
}

impl Learner<Cpu<f64>> for Number {
    type Samples = Counted;

    fn module(&self) -> &dyn Module<Cpu<f64>> {
        &self.0
    }

    fn score(&self, cx: &Context<'_, Cpu<f64>>, batch: &Vec<usize>) -> Result<Scored<Cpu<f64>>> {
        let x: Vec<f64> = batch.iter().map(|&index| index as f64 / 100.0).collect();
        let x = cx.tape().constant(&cx.backend().from_vec(x, &[batch.len(), 1])?);
        Scored::new(self.0.forward(cx, &x)?.sub(&x.square()?)?.square()?.mean()?)
    }
}

fn counted(own: Arc<dyn Communicator>, bad: Option<usize>, skipped: bool, read: &Arc<AtomicU64>) -> Trainer<Cpu<f64>, Number> {
    let cpu = Cpu::<f64>::new();
    let set = |read: &Arc<AtomicU64>| Counted { len: 24, bad, skipped, read: read.clone() };
    let mut plan = Plan::new(8, Length::Steps(30), pspikessm::nn::AdamWConfig::new(0.05, 0.0));
    plan.run.accumulate = 8;
    let splits = Splits { train: set(read), val: set(&Arc::default()), test: set(&Arc::default()) };
    let learner = Number(Linear::new(&cpu, Key::new(7), 1, 1).unwrap());
    Trainer::of(&cpu, "numbers", plan, learner, splits).unwrap().across(own, Reduce::Fixed).unwrap()
}

fn weights(trainer: &Trainer<Cpu<f64>, Number>) -> Vec<u64> {
    let all = trainer.learner().module().parameters().into_iter();
    all.flat_map(|(_, param)| host(&Cpu::<f64>::new(), &param.value())).map(f64::to_bits).collect()
}

#[test]
fn every_process_reads_its_own_samples_and_no_other() {
    let read: Vec<u64> = together(4, |own| {
        let read = Arc::default();
        let mut trainer = counted(own, None, false, &read);
        for _ in 0..3 {
            trainer.step().unwrap();
        }
        drop(trainer);
        read.load(Ordering::Relaxed)
    });
    // Two samples a step, and batches are made ahead: by three at most.
    assert!(read.iter().all(|&read| (6..=12).contains(&read)), "{read:?}");
}

#[test]
fn samples_that_cannot_be_read_are_left_out_or_end_all() {
    let nine_steps = |skipped: bool| {
        move |own: Arc<dyn Communicator>| {
            let mut trainer = counted(own, Some(5), skipped, &Arc::default());
            let ends = (0..9).map(|_| trainer.step().map(|report| report.map(|report| report.loss.to_bits())));
            let ends: Result<Vec<_>> = ends.collect();
            ends.map(|ends| (ends, weights(&trainer))).map_err(|error| error.to_string())
        }
    };
    let want = nine_steps(true)(Arc::new(Alone)).unwrap();
    for processes in [2, 3, 8] {
        together(processes, nine_steps(true)).into_iter().for_each(|end| assert_eq!(end.unwrap(), want));
        let errors = together(processes, nine_steps(false));
        errors.into_iter().for_each(|end| mentions(&end.unwrap_err(), &["sample 5 cannot be read"]));
    }
}

#[test]
fn processes_that_differ_are_refused() {
    let differ = |change: fn(usize, &mut Recipe)| {
        together(2, |own| {
            let recipe = changed(recipe(9), |r| change(own.rank(), r));
            trainer_across(own, recipe).map(|_| ()).unwrap_err().to_string()
        })
    };
    for error in differ(|rank, r| r.run.batch = 4 + rank) {
        mentions(&error, &["settings of the processes differ"]);
    }
    let errors = together(2, |own| {
        let sets = Splits { train: set(22, 1 + own.rank() as u64, false), ..splits() };
        Trainer::new(&Cpu::<f32>::new(), "tiny", recipe(9), sets).unwrap().across(own, Reduce::Fixed).map(|_| ()).unwrap_err().to_string()
    });
    errors.iter().for_each(|error| mentions(error, &["data of the processes differ"]));
}

#[test]
fn a_process_that_is_gone_is_an_error_for_the_others() {
    let ends = together(3, |own| {
        // One takes four steps, and leaves without a word.
        let steps = if own.rank() == 1 { 4 } else { 50 };
        let mut trainer = trainer_across(own, in_eight(recipe(50))).unwrap();
        (0..steps).try_for_each(|_| trainer.step().map(|_| ())).map_err(|error| (error.to_string(), trainer.steps_done()))
    });
    assert_eq!(ends[1], Ok(()));
    for end in [&ends[0], &ends[2]] {
        let (error, steps) = end.as_ref().unwrap_err();
        mentions(error, &["a process of this run has ended"]);
        assert_eq!(*steps, 4);
    }
}

// The fast way.

#[test]
fn the_fast_way_gives_nearly_the_same() {
    let run = |reduce: Reduce| {
        together(3, |own| {
            let mut trainer = Trainer::new(&Cpu::<f32>::new(), "tiny", in_eight(recipe(9)), splits()).unwrap().across(own, reduce).unwrap();
            let (report, gradients) = trainer.gradients().unwrap().unwrap();
            let all = trainer.model().parameters().into_iter().filter(|(_, param)| param.is_trained());
            let all: Vec<f64> = all.flat_map(|(_, param)| host(&Cpu::<f32>::new(), gradients.of(&param).unwrap())).collect();
            (report, all)
        })
    };
    let (fixed, fast) = (run(Reduce::Fixed), run(Reduce::Fast));
    let size = fixed[0].1.iter().fold(0.0f64, |size, g| size.max(g.abs()));
    for ((report, exact), (other, near)) in fixed.iter().zip(&fast) {
        assert_eq!(report, other);
        assert_eq!(near, &fast[0].1, "every process has the same");
        let worst = exact.iter().zip(near).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-5 * size, "off by {worst:e} of {size:e}");
    }
}
