//! Training: what a step computes, what is learnt, when a run ends, and what it writes.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{assert_close, distance, host, parameter};
use crate::runs::{
    Tiny, advance, bits, changed, flags, go, hard_splits, mentions, metrics, names, recipe, result, splits, take, trainer, trainer_of,
};
use pspikessm::Error;
use pspikessm::backend::*;
use pspikessm::data::{Dataset, Splits, Vocabulary};
use pspikessm::nn::{
    AdamConfig, AdamWConfig, Cosine, LinearDecay, LionConfig, Module, NormKind, OneCycle, OptimizerConfig, SgdConfig, SpikeSource,
    StepDecay,
};
use pspikessm::train::{Ending, FitOptions, Length, Origin, Output, Recipe, Schedule, Trainer, fit};

// What is learnt.

#[test]
fn an_easy_task_is_learnt() {
    let mut trainer = trainer_of(recipe(90));
    let first = trainer.step().unwrap().unwrap();
    assert_eq!(fit(&mut trainer, None, FitOptions::default(), &go()).unwrap(), Ending::Finished);
    let (last, test) = (trainer.recent(20).unwrap(), trainer.test(3, &go()).unwrap().unwrap());
    assert!(last.loss < 0.6 * first.loss, "the loss went from {} to {}", first.loss, last.loss);
    assert!(test.metric > 0.85 && test.spike_rate > 0.0 && test.spike_rate < 1.0, "{test:?}");
}

#[test]
fn an_epoch_sees_every_sample_but_a_last_single_one() {
    let recipe = recipe(16);
    assert_eq!([1, 3, 4, 5, 6, 8, 9].map(|samples| recipe.steps_per_epoch(samples)), [1, 1, 1, 1, 2, 2, 2]);
    assert_eq!(changed(recipe, |r| (r.run.length, r.schedule) = (Length::Epochs(3), Schedule::Constant)).steps(22), 18);
}

#[test]
fn a_plateau_lowers_the_rate_after_epochs_without_a_rise() {
    let schedule = Schedule::Plateau { decay: 0.5, patience: 0 };
    let mut trainer = trainer_of(changed(recipe(1), |r| (r.schedule, r.run.length) = (schedule, Length::Epochs(4))));
    assert_eq!(trainer.rate_factor(), 1.0);
    // Eight validation samples have few accuracies: in four epochs not all of them rise.
    fit(&mut trainer, None, FitOptions::default(), &go()).unwrap();
    assert!(trainer.rate_factor() < 1.0);
    assert_eq!((trainer.steps_done(), trainer.epochs_done()), (24, 4));
}

#[test]
fn every_rule_and_schedule_goes_on_from_a_checkpoint_as_if_it_had_never_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let rules: [OptimizerConfig; 5] = [
        AdamWConfig::new(1e-2, 0.01).into(),
        AdamConfig::new(1e-2).weight_decay(0.01).into(),
        SgdConfig::new(0.05).into(),
        SgdConfig::new(0.05).momentum(0.9).nesterov(true).into(),
        LionConfig::new(1e-3, 0.01).into(),
    ];
    let schedules = [
        Schedule::Constant,
        Schedule::Linear(LinearDecay::new(2, 12, 0.1).unwrap()),
        Schedule::Step(StepDecay::new(3, 0.5).unwrap()),
        Schedule::OneCycle(OneCycle::new(12).unwrap()),
        Schedule::Cosine(Cosine::new(2, 12).unwrap()),
    ];
    let mut ends = BTreeSet::new();
    for (i, (rule, schedule)) in rules.into_iter().zip(schedules).enumerate() {
        let recipe = changed(recipe(12), |r| (r.optimizer, r.schedule) = (rule, schedule));
        let path = dir.path().join(format!("{i}.safetensors"));
        let mut whole = trainer_of(recipe.clone());
        advance(&mut whole, 5);
        whole.save(&path).unwrap();
        advance(&mut whole, 10);
        let mut resumed = trainer_of(recipe.clone()).resume(&path).unwrap();
        advance(&mut resumed, 10);
        assert_eq!(bits(&whole), bits(&resumed), "{rule:?}");
        assert!(ends.insert(bits(&whole)), "{rule:?} does what another rule does");
        // Another rule's run does not go on from it.
        let other = changed(recipe, |r| r.optimizer = SgdConfig::new(0.5).momentum(0.5).into());
        mentions(&trainer_of(other).resume(&path).unwrap_err().to_string(), &["optimizer."]);
    }
}

#[test]
fn blocks_that_are_run_again_change_nothing_but_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.safetensors");
    let again = |recomputes: bool| changed(recipe(6), |r| r.run.recompute = recomputes);
    let (mut kept, mut run_again) = (trainer_of(again(false)), trainer_of(again(true)));
    advance(&mut kept, 3);
    advance(&mut run_again, 3);
    assert_eq!(bits(&kept), bits(&run_again));
    // Either goes on as the other.
    kept.save(&path).unwrap();
    let mut resumed = trainer_of(again(true)).resume(&path).unwrap();
    advance(&mut resumed, 6);
    advance(&mut kept, 6);
    assert_eq!(bits(&kept), bits(&resumed));
}

#[test]
fn an_empty_set_is_an_error() {
    let empty = || Dataset::tokens(Vocabulary::new(["a", "b"]).unwrap(), 2);
    for (splits, name) in [
        (Splits { train: empty(), ..splits() }, "training"),
        (Splits { val: empty(), ..splits() }, "validation"),
        (Splits { test: empty(), ..splits() }, "test"),
    ] {
        let error = Trainer::new(&Cpu::<f32>::new(), "tiny", recipe(2), splits).unwrap_err();
        mentions(&error.to_string(), &[name, "empty"]);
    }
}

// Parts of a batch.

/// A recipe without random numbers in a step: LIF neurons, no dropout, and a norm that knows no batch.
fn certain(batch: usize, accumulate: usize) -> Recipe {
    let mut recipe = changed(recipe(6), |r| (r.run.batch, r.run.accumulate, r.schedule) = (batch, accumulate, Schedule::Constant));
    let surrogate = Surrogate::Sigmoid { alpha: 4.0 };
    recipe.model.block.source = SpikeSource::Lif(Lif { decay: 0.5, threshold: 0.3, soft_reset: false, surrogate });
    recipe.model.block.norm = Some(NormKind::Layer);
    recipe
}

/// In f64, where a sum in another order flips no spike.
fn exact(recipe: Recipe) -> Trainer<Cpu<f64>> {
    Trainer::new(&Cpu::new(), "tiny", recipe, splits()).unwrap()
}

/// The gradients of the first step: 1 / (1 - beta1) of the first moments.
fn first_gradients(trainer: &Trainer<Cpu<f64>>) -> BTreeMap<String, Vec<f64>> {
    assert_eq!(trainer.steps_done(), 1);
    let gradient = |m| host(&Cpu::<f64>::new(), m).into_iter().map(|m| m / (1.0 - 0.9)).collect();
    let remembered = |(name, param)| Some((name, gradient(&trainer.optimizer().state(&param)?.slots[0])));
    trainer.model().parameters().into_iter().filter_map(remembered).collect()
}

fn norm(gradients: &BTreeMap<String, Vec<f64>>) -> f64 {
    gradients.values().flatten().map(|g| g * g).sum::<f64>().sqrt()
}

#[test]
fn parts_of_a_batch_add_up_to_the_batch() {
    // Parts of 4 and 4; of 3, 3 and 2; of 1 each.
    for accumulate in [2, 3, 8] {
        let (mut whole, mut parts) = (exact(certain(8, 1)), exact(certain(8, accumulate)));
        let (want, got) = (whole.step().unwrap().unwrap(), parts.step().unwrap().unwrap());
        assert!((got.loss - want.loss).abs() < 1e-12, "{} and {}", got.loss, want.loss);
        assert_eq!(got.metric, want.metric);
        let (want, got) = (first_gradients(&whole), first_gradients(&parts));
        assert_eq!(want.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>());
        let scale = norm(&want);
        for (name, want) in &want {
            let worst = want.iter().zip(&got[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-11 * scale, "{accumulate} parts, {name}: off by {worst:e} of {scale:e}");
        }
    }
}

#[test]
fn a_smaller_last_part_counts_for_its_samples() {
    // Of three samples the part of one counts a third: half, as much as the other part, would be something else.
    let gradients = |recipe: Recipe, indices: &[usize]| {
        let train = splits().train.subset(indices).unwrap();
        let mut trainer = Trainer::new(&Cpu::<f64>::new(), "tiny", recipe, Splits { train, ..splits() }).unwrap();
        trainer.step().unwrap();
        first_gradients(&trainer)
    };
    let order = pspikessm::data::order(3, 0, 0);
    let both = gradients(certain(3, 2), &[0, 1, 2]);
    let first = gradients(certain(2, 1), &order[..2]);
    let last = gradients(certain(1, 1), &order[2..]);
    let weighted = |a: f64, b: f64| -> Vec<f64> {
        both.keys().flat_map(|name| first[name].iter().zip(&last[name]).map(move |(x, y)| a * x + b * y)).collect()
    };
    let both: Vec<f64> = both.values().flatten().copied().collect();
    assert_close("two thirds and one", &both, &weighted(2.0 / 3.0, 1.0 / 3.0), 1e-11);
    assert!(distance(&both, &weighted(0.5, 0.5)) > 1e-3);
}

#[test]
fn every_part_of_a_batch_draws_spikes_of_its_own() {
    // The same sample in every part: with the same spikes too, the mean of two losses would be that of four.
    let loss = |parts: usize| {
        let train = splits().train.subset(&vec![0; parts]).unwrap();
        let mut recipe = changed(recipe(6), |r| (r.run.accumulate, r.run.batch) = (parts, parts));
        recipe.model.block.norm = None;
        Trainer::new(&Cpu::<f64>::new(), "tiny", recipe, Splits { train, ..splits() }).unwrap().step().unwrap().unwrap().loss
    };
    assert!((loss(2) - loss(4)).abs() > 1e-6, "{} and {}", loss(2), loss(4));
}

// Clipping.

#[test]
fn clipping_scales_all_gradients_to_the_limit() {
    let mut plain = exact(certain(8, 1));
    plain.step().unwrap();
    let plain = first_gradients(&plain);
    let limit = norm(&plain) / 3.0;
    let mut clipped = exact(changed(certain(8, 1), |r| r.run.clip = Some(limit)));
    clipped.step().unwrap();
    let clipped = first_gradients(&clipped);
    assert!((norm(&clipped) - limit).abs() < 1e-12 * limit, "{} and {limit}", norm(&clipped));
    for (name, values) in &plain {
        let scaled: Vec<f64> = values.iter().map(|g| g / 3.0).collect();
        if scaled.iter().any(|&g| g != 0.0) {
            assert_close(name, &clipped[name], &scaled, 1e-12);
        }
    }
}

#[test]
fn a_norm_below_the_limit_changes_no_bit() {
    let (mut plain, mut clipped) = (trainer(), trainer_of(changed(recipe(16), |r| r.run.clip = Some(1e6))));
    take(&mut plain, 4);
    take(&mut clipped, 4);
    assert_eq!(bits(&plain), bits(&clipped));
}

// Early stopping.

fn hard(recipe: Recipe) -> Trainer<Cpu<f32>> {
    Trainer::new(&Cpu::new(), "tiny", changed(recipe, |r| r.data = "hard".into()), hard_splits()).unwrap()
}

/// A name and bits under it.
type NamedBits = (String, Vec<u32>);

/// The validation accuracy after every epoch of a whole run, and all bits then.
fn epochs(count: u64) -> Vec<(f64, Vec<NamedBits>)> {
    let mut trainer = hard(recipe(6 * count));
    let epoch = |_| {
        take(&mut trainer, 6);
        let accuracy = trainer.validate(&go()).unwrap().unwrap().metric;
        (accuracy, bits(&trainer))
    };
    (0..count).map(epoch).collect()
}

/// After which epoch a run ends whose last `patience` ones were not better than all before, and which epoch was the first best.
fn expected_end(accuracies: &[f64], patience: usize) -> (usize, usize) {
    let mut best = 0;
    for epoch in 1..accuracies.len() {
        if accuracies[epoch] > accuracies[best] {
            best = epoch;
        } else if epoch - best == patience {
            return (epoch + 1, best + 1);
        }
    }
    (accuracies.len(), best + 1)
}

#[test]
fn a_run_ends_after_epochs_without_a_better_validation() {
    let epochs = epochs(12);
    let accuracies: Vec<f64> = epochs.iter().map(|(accuracy, _)| *accuracy).collect();
    let ends = [1, 2, 3].map(|patience| expected_end(&accuracies, patience));
    assert!(ends[0].0 < ends[2].0 && ends[2].0 < 12 && ends[2].1 > 1, "{accuracies:?} tell little: {ends:?}");
    for (patience, (end, best)) in (1..).zip(ends) {
        let dir = tempfile::tempdir().unwrap();
        let recipe = changed(recipe(72), |r| r.run.early_stop = Some(patience));
        let mut output = Output::open(dir.path()).unwrap();
        let mut trainer = hard(recipe.clone());
        assert_eq!(fit(&mut trainer, Some(&mut output), FitOptions::default(), &go()).unwrap(), Ending::Finished);
        assert_eq!((trainer.steps_done(), trainer.is_finished()), (6 * end as u64, true));
        assert_eq!(trainer.best(), Some((best as u64, accuracies[best - 1])));
        assert!(bits(&trainer) == epochs[end - 1].1);

        // The best epoch's file has that epoch's weights, which come before the moments.
        assert_eq!(Origin::read(output.best()).unwrap().step, 6 * best as u64);
        let kept = bits(&hard(recipe.clone()).with_weights(output.best()).unwrap());
        assert!(kept[..] == epochs[best - 1].1[..kept.len()]);

        // Stopped on the way and gone on with, the run ends at the same step; one that has ended does not go on.
        for at in [2, 6 * best as u64, 6 * end as u64 - 1] {
            let path = dir.path().join("at.safetensors");
            let mut part = hard(recipe.clone());
            advance(&mut part, at);
            part.save(&path).unwrap();
            let mut rest = hard(recipe.clone()).resume(&path).unwrap();
            fit(&mut rest, None, FitOptions::default(), &go()).unwrap();
            assert_eq!(rest.steps_done(), 6 * end as u64);
            assert!(bits(&rest) == bits(&trainer));
        }
        let mut ended = hard(recipe).resume(output.checkpoint()).unwrap();
        fit(&mut ended, None, FitOptions::default(), &go()).unwrap();
        assert_eq!(ended.steps_done(), 6 * end as u64);
    }
}

// What is written.

#[test]
fn metrics_have_the_documented_fields() {
    let dir = tempfile::tempdir().unwrap();
    result(&Tiny, &flags("--eval-passes 2", Some(dir.path())));
    let lines = metrics(dir.path());
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let fields =
        |kind: &str| of(kind).iter().map(|l| l.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>()).next().unwrap();
    assert_eq!(["run", "train", "validation", "test"].map(|kind| of(kind).len()), [1, 1, 2, 1]);
    assert_eq!(fields("run"), ["backend", "classes", "kind", "parameters", "recipe", "samples", "seconds", "step", "steps", "task"]);
    assert_eq!(fields("train"), ["accuracy", "epoch", "kind", "loss", "lr", "seconds", "step"]);
    let evaluation = ["accuracy", "epoch", "kind", "layers", "loss", "passes", "seconds", "spike_rate", "step"];
    assert_eq!(fields("validation"), evaluation);
    assert_eq!(fields("test"), [&evaluation[..1], &["confusion"], &evaluation[1..]].concat());

    let run = of("run")[0];
    assert_eq!((&run["task"], &run["backend"], &run["steps"]), (&"tiny".into(), &"cpu-f32".into(), &16.into()));
    assert_eq!((&run["samples"], &run["step"]), (&22.into(), &0.into()));
    assert_eq!(run["classes"], serde_json::json!(["mostly-a", "mostly-b"]));
    assert_eq!(Recipe::parse(run["recipe"].as_str().unwrap(), "run").unwrap(), recipe(16));
    assert_eq!((&of("train")[0]["step"], &of("validation")[1]["step"], &of("test")[0]["step"]), (&10.into(), &12.into(), &16.into()));
    assert_eq!((&of("validation")[1]["epoch"], &of("test")[0]["passes"]), (&2.into(), &2.into()));
    for line in lines.iter().filter(|line| line["kind"] != "run") {
        for field in ["loss", "accuracy", "seconds"] {
            assert!(line[field].is_f64(), "{field} of {line}");
        }
    }
    // The rate of the coming step: half a cosine over steps 1 to 16, at step 10.
    let lr = 1e-2 * 0.5 * (1.0 + (std::f64::consts::PI * 9.0 / 15.0).cos());
    assert!((of("train")[0]["lr"].as_f64().unwrap() - lr).abs() < 1e-15);
    let places: Vec<_> = of("test")[0]["layers"].as_array().unwrap().iter().map(|l| (l["layer"].as_u64(), l["site"].as_str())).collect();
    let sites = ["input", "output", "reverse_input", "reverse_output"].map(Some);
    let want: Vec<_> = [Some(0), Some(1)].into_iter().flat_map(|layer| sites.map(|site| (layer, site))).collect();
    assert!(places.iter().all(|place| want.contains(place)) && places.len() >= 6, "{places:?}");
}

#[test]
fn metrics_and_checkpoints_come_as_often_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut output = Output::open(dir.path()).unwrap();
    let mut trainer = trainer();
    let options = FitOptions { metrics_every: 5, checkpoint_every: 4, quiet: true, ..FitOptions::default() };
    fit(&mut trainer, Some(&mut output), options, &go()).unwrap();
    let steps =
        |kind: &str| metrics(dir.path()).iter().filter(|l| l["kind"] == kind).map(|l| l["step"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!((steps("train"), steps("validation")), (vec![5, 10, 15], vec![6, 12]));
    assert_eq!(Origin::read(output.checkpoint()).unwrap().step, 16);
}

#[test]
fn a_run_that_breaks_off_leaves_its_last_checkpoint() {
    // A rate that overflows at the peak of the warm-up, after two small steps.
    let mut recipe = changed(recipe(10), |r| r.schedule = Schedule::Cosine(Cosine { warmup: 9, total: 10 }));
    recipe.optimizer.set_lr(1e37);
    let good = |every: u64| {
        let dir = tempfile::tempdir().unwrap();
        let mut output = Output::open(dir.path()).unwrap();
        let options = FitOptions { checkpoint_every: every, ..FitOptions::default() };
        let Error::NonFinite { step, .. } = fit(&mut trainer_of(recipe.clone()), Some(&mut output), options, &go()).unwrap_err() else {
            panic!("another error")
        };
        (step, Origin::read(output.checkpoint()).map(|origin| origin.step).ok())
    };
    let (step, kept) = good(1);
    assert_eq!(kept, Some(step - 1));
    assert_eq!(good(100), (step, None));
}

#[test]
fn a_finished_folder_holds_these_files() {
    let dir = tempfile::tempdir().unwrap();
    result(&Tiny, &flags("", Some(dir.path())));
    let left = names(dir.path());
    for name in ["best.safetensors", "checkpoint.safetensors", "curves.svg", "kernels.svg", "metrics.jsonl", "raster.svg"] {
        assert!(left.contains(&name.into()), "{name} is not among {left:?}");
    }
    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
}

// What stops a run.

#[test]
fn a_recipe_that_makes_no_sense_is_an_error() {
    for (recipe, part) in [
        (changed(recipe(2), |r| r.run.batch = 0), "batch = 0"),
        (changed(recipe(2), |r| r.run.accumulate = 0), "accumulate = 0"),
        (changed(recipe(2), |r| r.run.accumulate = 5), "accumulate = 5"),
        (changed(recipe(2), |r| r.run.clip = Some(0.0)), "clip = 0"),
        (changed(recipe(2), |r| r.run.clip = Some(f64::NAN)), "clip = NaN"),
        (changed(recipe(2), |r| r.run.early_stop = Some(0)), "early_stop = 0"),
        (changed(recipe(2), |r| r.run.seed = 1 << 63), "seed = 9223372036854775808"),
        (recipe(0), "steps = 0"),
        (changed(recipe(2), |r| (r.run.length, r.schedule) = (Length::Epochs(0), Schedule::Constant)), "epochs = 0"),
        (changed(recipe(2), |r| r.model.layers = 0), "layers = 0"),
        (changed(recipe(2), |r| r.optimizer = AdamWConfig::new(f64::NAN, 0.0).into()), "lr = NaN"),
        (changed(recipe(2), |r| r.schedule = Schedule::Plateau { decay: 2.0, patience: 1 }), "decay = 2"),
    ] {
        mentions(&recipe.check().unwrap_err().to_string(), &[part]);
        mentions(&Trainer::new(&Cpu::<f32>::new(), "tiny", recipe, splits()).unwrap_err().to_string(), &[part]);
    }
}

#[test]
fn a_learning_rate_out_of_bounds_stops_the_run() {
    let mut recipe = changed(recipe(4), |r| r.schedule = Schedule::Constant);
    recipe.optimizer.set_lr(1e300);
    let error = fit(&mut trainer_of(recipe), None, FitOptions::default(), &go()).unwrap_err();
    assert!(matches!(error, Error::NonFinite { step: 1, .. }));
    mentions(&error.to_string(), &["step 1: encoder.weight is not finite", "learning rate"]);
}

#[test]
fn a_loss_gradient_or_statistic_that_overflows_is_named() {
    // The first half of the parameter's values becomes `value`, the other half its negative.
    let broken = |name: &str, value: f32| {
        let (mut trainer, cpu) = (trainer(), Cpu::<f32>::new());
        let param = parameter(trainer.model(), name);
        let count = param.value().numel();
        let values = (0..count).map(|i| if 2 * i < count { value } else { -value }).collect();
        param.set(cpu.from_vec(values, param.value().shape()).unwrap()).unwrap();
        trainer.step().unwrap_err().to_string()
    };
    mentions(&broken("decoder.weight", 3e38), &["step 1: the loss is not finite"]);
    mentions(&broken("blocks.0.forward.ssm.kernel.A_real", 3e38), &["step 1: the gradient of encoder.weight is not finite"]);
    mentions(&broken("encoder.weight", 1e20), &["step 1: blocks.0.norm.running_var is not finite"]);
}

#[test]
fn a_step_that_failed_is_tried_again_on_its_own_batch() {
    // One that failed must not have used up its batch: the next try sees the same samples.
    let (mut failing, mut plain) = (trainer(), trainer());
    take(&mut failing, 2);
    take(&mut plain, 2);
    let (bias, cpu) = (parameter(failing.model(), "decoder.bias"), Cpu::<f32>::new());
    let before = bias.value();
    bias.set(cpu.full(before.shape(), f64::NAN).unwrap()).unwrap();
    failing.step().unwrap_err();
    bias.set(before.clone()).unwrap();
    let (a, b) = (failing.step().unwrap(), plain.step().unwrap());
    // BatchNorm's running statistics have seen the batch twice; the loss knows nothing of them.
    assert_eq!(a, b);
}

#[cfg(feature = "parallel")]
#[test]
fn threads_change_no_bit() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainer = trainer();
            advance(&mut trainer, 8);
            (bits(&trainer), result(&Tiny, &flags("--steps 3", None)).1)
        })
    };
    assert_eq!(run(1), run(2));
}
