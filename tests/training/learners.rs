//! What a trainer trains beside the classifier of a recipe: other models, losses, metrics and data, and who watches.

use std::ops::ControlFlow;

use crate::common::{assert_close, gradient};
use crate::runs::{changed, go, mentions, metrics, names, recipe, splits, trainer_of};
use pspikessm::autodiff::{Gradients, Tape};
use pspikessm::backend::*;
use pspikessm::data::{Splits, order};
use pspikessm::nn::{
    AdamConfig, AdamWConfig, BlockConfig, Context, Encoder, Input, Linear, LinearDecay, LionConfig, Model, ModelConfig, Module, Moved,
    NormKind, OneCycle, OptimizerConfig, Param, Plateau, RateSchedule, SgdConfig, SpikeSource, SsmConfig, Step, StepDecay, UpdateRule,
};
use pspikessm::train::{
    Better, Ending, Event, FitOptions, Learner, Length, Metric, Output, Plan, Samples, Schedule, Scored, SpikePenalty, Trainer,
    TrainingSpikes, fit, fit_with,
};
use pspikessm::{Error, Result};

type B = Cpu<f64>;

// ---------------------------------------------------------------- regression

/// A plane through points (x1, x2, y), with a setting that a run must keep.
struct Plane {
    linear: Linear<B>,
    setting: &'static str,
}

impl Learner<B> for Plane {
    type Samples = Vec<[f64; 3]>;

    fn module(&self) -> &dyn Module<B> {
        &self.linear
    }

    fn metric(&self) -> Metric {
        Metric { name: "absolute_error", better: Better::Lower }
    }

    fn score(&self, cx: &Context<'_, B>, batch: &Vec<[f64; 3]>) -> Result<Scored<B>> {
        let constant = |values: Vec<f64>, width| Ok::<_, Error>(cx.tape().constant(&cx.backend().from_vec(values, &[batch.len(), width])?));
        let x = constant(batch.iter().flat_map(|point| [point[0], point[1]]).collect(), 2)?;
        let error = self.linear.forward(cx, &x)?.sub(&constant(batch.iter().map(|point| point[2]).collect(), 1)?)?;
        let absolute: f64 = error.to_vec()?.iter().map(|error| error.abs()).sum();
        Ok(Scored::new(error.square()?.mean()?)?.metric(absolute, batch.len() as f64))
    }

    fn settings(&self) -> std::collections::BTreeMap<String, String> {
        [("setting".to_string(), self.setting.to_string())].into()
    }
}

/// y = 2 x1 - x2 + 1/2.
fn points(count: u64, seed: u64) -> Vec<[f64; 3]> {
    let mut words = Key::new(seed).words(0);
    let unit = |word: u32| f64::from(word) / f64::from(u32::MAX) - 0.5;
    let point = |_| {
        let draw = words.next_lanes();
        let [a, b] = [unit(draw[0]), unit(draw[1])];
        [a, b, 2.0 * a - b + 0.5]
    };
    (0..count).map(point).collect()
}

fn plan(epochs: u64) -> Plan {
    Plan::new(5, Length::Epochs(epochs), AdamWConfig::new(0.05, 0.0))
}

fn plane_with(plan: Plan, setting: &'static str) -> Trainer<B, Plane> {
    let cpu = B::new();
    let learner = Plane { linear: Linear::new(&cpu, Key::new(7), 2, 1).unwrap(), setting };
    Trainer::of(&cpu, "plane", plan, learner, Splits { train: points(23, 1), val: points(8, 2), test: points(9, 3) }).unwrap()
}

fn plane(epochs: u64) -> Trainer<B, Plane> {
    plane_with(plan(epochs), "as it is")
}

fn weights(trainer: &Trainer<B, Plane>) -> Vec<u64> {
    let cpu = B::new();
    let all = trainer.learner().module().parameters();
    all.iter().flat_map(|(_, param)| cpu.to_vec(&param.value()).unwrap()).map(f64::to_bits).collect()
}

#[test]
fn a_regression_is_learnt_and_its_best_epoch_has_the_smallest_error() {
    let mut trainer = plane(60);
    let mut errors = Vec::new();
    let ending = fit_with(&mut trainer, None, FitOptions::default(), &go(), &mut |_, event| {
        if let Event::Validated(found) = event {
            assert!(found.confusion.is_empty() && found.spike_rate.is_nan());
            errors.push(found.metric);
        }
        Ok(ControlFlow::Continue(()))
    });
    assert_eq!((ending.unwrap(), errors.len()), (Ending::Finished, 60));
    let smallest = errors.iter().copied().fold(f64::INFINITY, f64::min);
    let epoch = 1 + errors.iter().position(|&error| error == smallest).unwrap() as u64;
    assert_eq!(trainer.best(), Some((epoch, smallest)));
    let test = trainer.test(1, &go()).unwrap().unwrap();
    assert!(test.metric < 0.02 && test.loss < 1e-3, "{test:?}");
}

#[test]
fn a_plateau_of_an_error_is_where_it_no_longer_falls() {
    // Without a rate nothing changes, and the second epoch is as good as the first.
    let still = Plan::new(5, Length::Epochs(2), AdamWConfig::new(0.0, 0.0));
    let mut trainer = plane_with(still.schedule(Schedule::Plateau { decay: 0.5, patience: 0 }), "");
    fit(&mut trainer, None, FitOptions::default(), &go()).unwrap();
    assert_eq!(trainer.rate_factor(), 0.5);
    let mut falling = plane_with(plan(3).schedule(Schedule::Plateau { decay: 0.5, patience: 0 }), "");
    fit(&mut falling, None, FitOptions::default(), &go()).unwrap();
    assert_eq!(falling.rate_factor(), 1.0);
}

#[test]
fn any_learner_goes_on_from_its_checkpoint_with_the_bits_of_an_uninterrupted_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut output = Output::create(dir.path()).unwrap();
    let (mut whole, mut first) = (plane(4), plane(2));
    fit(&mut whole, None, FitOptions::default(), &go()).unwrap();
    output.begin(&first, &[]).unwrap();
    fit(&mut first, Some(&mut output), FitOptions { metrics_every: 1, ..FitOptions::default() }, &go()).unwrap();
    assert_eq!(names(dir.path()), [".lock", "best.safetensors", "checkpoint.safetensors", "metrics.jsonl"]);
    let lines = metrics(dir.path());
    assert!(lines[0]["recipe"].as_str().unwrap().contains("[optimizer]") && lines[0]["parameters"] == 3, "{}", lines[0]);
    assert!(lines[1..].iter().all(|line| line["absolute_error"].is_f64() && line["accuracy"].is_null()));
    let mut second = plane(4).resume(output.checkpoint()).unwrap();
    assert_eq!(second.steps_done(), 10);
    fit(&mut second, None, FitOptions::default(), &go()).unwrap();
    assert_eq!((weights(&second), second.best()), (weights(&whole), whole.best()));
    // Only the weights.
    let other = plane(1).with_weights(output.checkpoint()).unwrap();
    assert_eq!((weights(&other), other.steps_done()), (weights(&first), 0));
}

#[test]
fn every_rule_trains_and_goes_on_from_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    let rules: [OptimizerConfig; 4] = [
        AdamWConfig::new(0.05, 0.01).into(),
        AdamConfig::new(0.05).into(),
        SgdConfig::new(0.1).momentum(0.9).into(),
        LionConfig::new(0.02, 0.01).into(),
    ];
    for rule in rules {
        let run = |epochs| plane_with(Plan::new(5, Length::Epochs(epochs), rule), "as it is");
        let (mut whole, mut first) = (run(20), run(3));
        let begun = whole.step().unwrap().unwrap().loss;
        fit(&mut whole, None, FitOptions::default(), &go()).unwrap();
        assert!(whole.recent(5).unwrap().loss < 0.2 * begun, "{rule:?}");
        fit(&mut first, None, FitOptions::default(), &go()).unwrap();
        first.save(&path).unwrap();
        let mut second = run(20).resume(&path).unwrap();
        fit(&mut second, None, FitOptions::default(), &go()).unwrap();
        assert_eq!(weights(&second), weights(&whole), "{rule:?}");
        let other = plane_with(Plan::new(5, Length::Epochs(20), AdamWConfig::new(0.5, 0.0)), "as it is");
        assert!(other.resume(&path).is_err(), "{rule:?}");
    }
}

#[test]
fn schedules_of_a_plan_multiply_the_rates() {
    let factors = |schedule| {
        let mut trainer = plane_with(plan(9).schedule(schedule), "");
        (0..6).map(|_| (trainer.rate_factor(), trainer.step().unwrap()).0).collect::<Vec<_>>()
    };
    assert_eq!(factors(Schedule::Step(StepDecay::new(2, 0.5).unwrap())), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
    let line = factors(Schedule::Linear(LinearDecay::new(2, 10, 0.0).unwrap()));
    assert_close("a line", &line, &[0.0, 0.5, 1.0, 0.875, 0.75, 0.625], 1e-15);
    assert_eq!(plane_with(plan(9).schedule(Schedule::Linear(LinearDecay::new(2, 10, 0.0).unwrap())), "").steps_total(), 10);
    let cycle = OneCycle::new(20).unwrap();
    assert_eq!(factors(Schedule::OneCycle(cycle)), (0..6).map(|step| cycle.factor(step)).collect::<Vec<_>>());
}

/// Steps of the rate's size in the direction of the gradient's sign.
struct SignDescent;

impl UpdateRule<B> for SignDescent {
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn lr(&self) -> f64 {
        0.125
    }

    fn slots(&self) -> &'static [&'static str] {
        &[]
    }

    fn moved(&self, backend: &B, step: &Step, value: &Tensor<B>, _: &[Tensor<B>], grad: &Tensor<B>) -> Result<Moved<B>> {
        let size = backend.unary(Unary::Linear(1.0 / step.lr, 0.0), &backend.unary(Unary::Sqrt, &backend.unary(Unary::Square, grad)?)?)?;
        Ok((backend.binary(Binary::Sub, value, &backend.binary(Binary::Div, grad, &size)?)?, Vec::new()))
    }
}

#[test]
fn a_rule_and_a_schedule_of_ones_own_stand_in_the_place_of_the_plans() {
    let mut trainer = plane(3).with_rule(SignDescent).unwrap().with_schedule(|step: u64| if step == 1 { 0.5 } else { 1.0 });
    let values = |trainer: &Trainer<B, Plane>| weights(trainer).into_iter().map(f64::from_bits).collect::<Vec<_>>();
    for want in [0.125, 0.0625, 0.125] {
        let before = values(&trainer);
        trainer.step().unwrap();
        let moved: Vec<f64> = values(&trainer).iter().zip(before).map(|(after, before)| (after - before).abs()).collect();
        assert_close("moves", &moved, &[want; 3], 1e-12);
    }
    // A plateau of one's own is told of every validation: here of a run that stands still.
    let still = Plan::new(5, Length::Epochs(2), SgdConfig::new(0.0));
    let mut still = plane_with(still, "").with_schedule(Plateau::new(0.25, 0).unwrap());
    fit(&mut still, None, FitOptions::default(), &go()).unwrap();
    assert_eq!(still.rate_factor(), 0.25);
}

#[test]
fn a_checkpoint_of_another_plan_other_data_or_settings_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("checkpoint.safetensors");
    let mut trainer = plane(2);
    trainer.step().unwrap();
    trainer.save(&path).unwrap();
    let refused = |trainer: Trainer<B, Plane>| trainer.resume(&path).unwrap_err().to_string();
    mentions(&refused(plane_with(plan(2).seed(1), "as it is")), &["run.seed = 0", "run.seed = 1"]);
    mentions(&refused(plane_with(plan(2), "another")), &["setting = as it is", "setting = another"]);
    let cpu = B::new();
    let learner = Plane { linear: Linear::new(&cpu, Key::new(7), 2, 1).unwrap(), setting: "as it is" };
    let fewer = Splits { train: points(22, 1), val: points(8, 2), test: points(9, 3) };
    mentions(&refused(Trainer::of(&cpu, "plane", plan(2), learner, fewer).unwrap()), &["training data = 23 samples", "22 samples"]);
    assert!(plane(2).resume(&path).is_ok());
}

#[test]
fn a_callback_sees_every_step_and_ends_the_run_where_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut output = Output::create(dir.path()).unwrap();
    let mut trainer = plane(9);
    output.begin(&trainer, &[]).unwrap();
    let mut seen = Vec::new();
    let ending = fit_with(&mut trainer, Some(&mut output), FitOptions::default(), &go(), &mut |trainer, event| {
        if let Event::Step(report) = event {
            seen.push((trainer.steps_done(), report.unwrap().loss));
        }
        Ok(if trainer.steps_done() == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert_eq!(ending.unwrap(), Ending::Stopped);
    assert_eq!(seen.iter().map(|(step, _)| *step).collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
    assert_eq!(plane(9).resume(output.checkpoint()).unwrap().steps_done(), 7);
    // One that fails ends it too, with its own error.
    let error = fit_with(&mut trainer, None, FitOptions::default(), &go(), &mut |_, _| Err(Error::value("callback", "enough")));
    mentions(&error.unwrap_err().to_string(), &["callback: enough"]);
}

#[test]
fn a_step_in_two_halves_is_a_step_and_gradients_may_be_changed_between_them() {
    let (mut whole, mut halves, mut doubled) = (plane(2), plane(2), plane(2));
    for step in 0..6 {
        let report = whole.step().unwrap().unwrap();
        let (found, gradients) = halves.gradients().unwrap().unwrap();
        assert_eq!((found, halves.steps_done()), (report, step));
        halves.take(found, gradients).unwrap();
        let (found, mut gradients) = doubled.gradients().unwrap().unwrap();
        gradients.scale(2.0).unwrap();
        doubled.take(found, gradients).unwrap();
    }
    assert_eq!(weights(&halves), weights(&whole));
    let first = |trainer: &Trainer<B, Plane>| {
        let all = trainer.learner().module().parameters();
        all.iter()
            .flat_map(|(_, param)| B::new().to_vec(&trainer.optimizer().state(param).unwrap().slots[0]).unwrap())
            .collect::<Vec<f64>>()
    };
    assert!(first(&doubled).iter().zip(first(&whole)).any(|(a, b)| (a - b).abs() > 1e-6));
}

#[test]
fn plans_and_data_that_make_no_sense_are_refused() {
    let cpu = B::new();
    let of = |plan: Plan, train: Vec<[f64; 3]>| {
        let learner = Plane { linear: Linear::new(&cpu, Key::new(7), 2, 1).unwrap(), setting: "" };
        Trainer::of(&cpu, "plane", plan, learner, Splits { train, val: points(8, 2), test: points(9, 3) }).unwrap_err().to_string()
    };
    mentions(&of(plan(1), Vec::new()), &["training set is empty"]);
    mentions(&of(Plan::new(0, Length::Steps(1), AdamWConfig::new(0.1, 0.0)), points(4, 1)), &["batch = 0"]);
    mentions(&of(Plan::new(2, Length::Steps(1), AdamWConfig::new(-0.1, 0.0)), points(4, 1)), &["lr = -0.1"]);
    let mut penalised = plan(1);
    penalised.run.spike_penalty = Some(SpikePenalty { weight: 1.0, rate: 0.1 });
    let learner = Plane { linear: Linear::new(&cpu, Key::new(7), 2, 1).unwrap(), setting: "" };
    let sets = Splits { train: points(4, 1), val: points(8, 2), test: points(9, 3) };
    let error = Trainer::of(&cpu, "plane", penalised, learner, sets).unwrap().step().unwrap_err();
    mentions(&error.to_string(), &["no spikes were observed"]);
}

// ---------------------------------------------------------------- a label a time step

/// Sequences of one length, each step with a class: whether the running sum of its bits is odd.
#[derive(Clone)]
struct Parities(Vec<Vec<u32>>);

struct Labelled {
    tokens: Vec<u32>,
    labels: Vec<usize>,
    batch: usize,
}

impl Samples for Parities {
    type Batch = Labelled;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn batch(&self, indices: &[usize]) -> Result<Option<Labelled>> {
        let sequences = indices.iter().map(|&index| &self.0[index]);
        let labels = sequences.clone().flat_map(|bits| bits.iter().scan(0, |sum, bit| Some(*sum ^ bit)).map(|odd| odd as usize));
        Ok(Some(Labelled { labels: labels.collect(), tokens: sequences.flatten().copied().collect(), batch: indices.len() }))
    }

    fn count(batch: &Labelled) -> usize {
        batch.labels.len()
    }

    fn classes(&self) -> usize {
        2
    }
}

struct EachStep(Model<B>);

impl Learner<B> for EachStep {
    type Samples = Parities;

    fn module(&self) -> &dyn Module<B> {
        &self.0
    }

    fn score(&self, cx: &Context<'_, B>, batch: &Labelled) -> Result<Scored<B>> {
        let logits = self.0.forward_each_step(cx, Input::tokens(&batch.tokens, batch.batch))?;
        let logits = logits.permute(&[0, 2, 1])?.reshape(&[batch.labels.len(), 2])?;
        let taken = logits.to_vec()?.chunks(2).map(|row| usize::from(row[1] > row[0])).collect::<Vec<_>>();
        Ok(Scored::new(logits.cross_entropy(&batch.labels)?)?.classes(batch.labels.iter().copied().zip(taken).collect()))
    }
}

fn each_step(accumulate: usize) -> Trainer<B, EachStep> {
    let cpu = B::new();
    let lif = Lif { decay: 0.5, threshold: 0.3, soft_reset: false, surrogate: Surrogate::Sigmoid { alpha: 4.0 } };
    let block = BlockConfig::new(SsmConfig::new(4, 4).l_max(6)).causal().norm(NormKind::Layer).source(SpikeSource::Lif(lif));
    let model = Model::new(&cpu, Key::new(5), &ModelConfig::new(Encoder::Tokens(2), block, 2).layers(1)).unwrap();
    let sequence = |seed: u32| (0..6).map(move |t| (seed >> t) & 1).collect();
    let set = Parities((0..12).map(|seed| sequence(seed * 5 + 1)).collect());
    let mut plan = Plan::new(6, Length::Steps(40), AdamWConfig::new(0.02, 0.0));
    plan.run.accumulate = accumulate;
    Trainer::of(&cpu, "parities", plan, EachStep(model), Splits { train: set.clone(), val: set.clone(), test: set }).unwrap()
}

#[test]
fn a_label_a_time_step_is_learnt_and_counted_step_by_step() {
    let mut trainer = each_step(1);
    let first = trainer.step().unwrap().unwrap();
    fit(&mut trainer, None, FitOptions::default(), &go()).unwrap();
    let (test, last) = (trainer.test(1, &go()).unwrap().unwrap(), trainer.recent(5).unwrap());
    assert!(last.loss < first.loss, "{} and {}", last.loss, first.loss);
    assert_eq!(test.confusion.iter().flatten().sum::<u64>(), 12 * 6);
    assert_eq!(test.metric, (test.confusion[0][0] + test.confusion[1][1]) as f64 / 72.0);
}

#[test]
fn parts_of_any_learners_batch_add_up_to_the_batch() {
    let gradients = |trainer: &mut Trainer<B, EachStep>| {
        let (report, gradients): (_, Gradients<B>) = trainer.gradients().unwrap().unwrap();
        let of = |(_, param): (String, Param<B>)| gradient(&B::new(), &gradients, &param);
        let trained = trainer.learner().0.parameters().into_iter().filter(|(_, param)| param.is_trained());
        (report, trained.flat_map(of).collect::<Vec<_>>())
    };
    let (report, want) = gradients(&mut each_step(1));
    for accumulate in [2, 3, 6] {
        let (found, got) = gradients(&mut each_step(accumulate));
        assert!((found.loss - report.loss).abs() < 1e-12 && (found.metric - report.metric).abs() < 1e-12);
        assert_close("gradients", &got, &want, 1e-11);
    }
}

// ---------------------------------------------------------------- a penalty on spikes

#[test]
fn a_recipes_spike_penalty_lowers_the_rate_and_stays_out_of_the_loss() {
    let run = |weight: Option<f64>| {
        let mut trainer =
            trainer_of(changed(recipe(15), |r| r.run.spike_penalty = weight.map(|weight| SpikePenalty { weight, rate: 0.0 })));
        let first = trainer.step().unwrap().unwrap();
        fit(&mut trainer, None, FitOptions::default(), &go()).unwrap();
        (first, trainer.test(2, &go()).unwrap().unwrap().spike_rate)
    };
    let (without, free) = run(None);
    let (with, lowered) = run(Some(100.0));
    assert_eq!(with, without, "the first step's report");
    assert!(lowered < 0.9 * free, "{lowered} and {free}");
    // A weight of 0 is none.
    assert_eq!(run(Some(0.0)).1, free);
}

// ---------------------------------------------------------------- what stands for spikes, and what is not trained

#[test]
fn a_step_on_expectations_is_the_same_under_every_key() {
    let mut trainer = trainer_of(changed(recipe(12), |r| {
        r.run.spikes = TrainingSpikes::Expected;
        (r.model.block.dropout, r.model.block.ssm.dropout) = (0.0, 0.0);
    }));
    let (cpu, run) = (Cpu::<f32>::new(), trainer.plan().run.clone());
    let first = order(trainer.splits().train.len(), run.seed, 0)[..run.batch].to_vec();
    let batch = trainer.splits().train.batch(&first).unwrap();
    let by_hand = |key| {
        let tape = Tape::new(&cpu);
        trainer.learner().score(&Context::training(&tape, Key::new(key)).expected(), &batch).unwrap().read().unwrap().value
    };
    let wanted = by_hand(1);
    assert_eq!(by_hand(2), wanted);
    assert_eq!(trainer.step().unwrap().unwrap().loss, wanted);
    assert_ne!(trainer_of(recipe(12)).step().unwrap().unwrap().loss, wanted);
}

#[test]
fn annealing_begins_on_expectations_and_ends_on_spikes() {
    let losses = |spikes| -> Vec<f64> {
        let mut trainer = trainer_of(changed(recipe(6), |r| r.run.spikes = spikes));
        (0..6).map(|_| trainer.step().unwrap().unwrap().loss).collect()
    };
    let (expected, annealed) = (losses(TrainingSpikes::Expected), losses(TrainingSpikes::Annealed(4)));
    // Of the first four steps 1/8, 4/8, 9/8 and 16/8 are drawn ones by then: the third and the fourth.
    assert_eq!(annealed[..2], expected[..2]);
    assert!((2..6).all(|step| annealed[step] != expected[step]));
}

#[test]
fn what_a_recipe_freezes_stays_as_it_was() {
    let freeze = |parts: &[&str]| changed(recipe(4), |r| r.run.freeze = parts.iter().map(ToString::to_string).collect());
    let mut trainer = trainer_of(freeze(&["blocks.*.forward.sampler", "blocks.*.reverse", "blocks.*.output", "decoder.bias"]));
    let cpu = Cpu::<f32>::new();
    let values = |trainer: &Trainer<Cpu<f32>>| -> Vec<(String, Vec<f32>)> {
        trainer.model().parameters().into_iter().map(|(name, param)| (name, cpu.to_vec(&param.value()).unwrap())).collect()
    };
    let before = values(&trainer);
    for _ in 0..4 {
        trainer.step().unwrap();
    }
    let (mut frozen, mut moved) = (0, 0);
    for ((name, old), (_, new)) in before.iter().zip(values(&trainer)) {
        let still = [".forward.sampler.", ".reverse.", ".output.", "decoder.bias"].iter().any(|part| name.contains(part));
        if still {
            assert_eq!(*old, new, "{name}");
            frozen += 1;
        }
        moved += usize::from(*old != new);
    }
    // Scale and shift of both draws, the reverse branch, the decoder's bias.
    assert!(frozen > 5 * trainer.recipe().model.layers, "{frozen}");
    assert!(moved > 5 * trainer.recipe().model.layers, "{moved} of the rest");
    let refused = Trainer::new(&cpu, "tiny", freeze(&["blocks.*.nothing"]), splits()).err().unwrap().to_string();
    assert!(refused.contains("blocks.*.nothing"), "{refused}");
}

#[test]
fn a_model_is_a_learner_by_itself() {
    let cpu = Cpu::<f32>::new();
    let recipe = recipe(12);
    let model = Model::new(&cpu, Key::new(recipe.run.seed).fold(0), &recipe.model_for(&splits().train)).unwrap();
    let mut plain = Trainer::of(&cpu, "tiny", recipe.plan(), model, splits()).unwrap();
    let mut usual = trainer_of(recipe);
    for _ in 0..3 {
        assert_eq!(plain.step().unwrap(), usual.step().unwrap());
    }
    let values = |param: &Param<Cpu<f32>>| cpu.to_vec(&param.value()).unwrap();
    for ((name, a), (_, b)) in plain.learner().parameters().iter().zip(usual.model().parameters()) {
        assert_eq!(values(a), values(&b), "{name}");
    }
}
