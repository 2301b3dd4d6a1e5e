//! Recipes: the embedded ones against the official numbers, TOML there and back, every kind of mistake, and `--set`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::pinned;
use crate::runs::{QUICK, mentions};
use proptest::prelude::*;
use pspikessm::Error;
use pspikessm::backend::{Cpu, Discretisation, DtTransform, Key, Lif, Surrogate};
use pspikessm::data::{Dataset, Vocabulary};
use pspikessm::nn::hippo::{DiagInit, Measure};
use pspikessm::nn::{Activation, AdamWConfig, BlockConfig, Cosine, Model, Module, NormKind, Pooling, SpikeSource, SsmConfig, SsmInit};
use pspikessm::train::{Length, Recipe, Schedule, tasks};

/// Every recipe of the crate under its file's name.
fn embedded() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/train/recipes");
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_string(), text(&path))).collect()
}

fn named(name: &str) -> Recipe {
    Recipe::parse(&embedded()[name], format!("{name}.toml")).unwrap()
}

#[test]
fn every_recipe_is_read_printed_and_read_again() {
    let all = embedded();
    assert_eq!(all.len(), 17);
    for (name, text) in &all {
        let recipe = Recipe::parse(text, name).unwrap();
        assert_eq!(name.split_once('-').unwrap().1, recipe.name);
        let printed = recipe.to_toml().unwrap();
        assert_eq!(Recipe::parse(&printed, name).unwrap(), recipe, "{printed}");
    }
    // What a task offers is among them.
    for task in tasks::ALL {
        for preset in task.presets() {
            let recipe = task.recipe(Some(preset.name)).unwrap();
            assert_eq!(recipe, named(&format!("{}-{}", task.name(), preset.name)));
            assert_eq!(recipe.name, preset.name);
        }
        assert_eq!(task.recipe(None).unwrap().name, task.presets()[0].name);
        mentions(&task.recipe(Some("huge")).unwrap_err().to_string(), &["--preset = huge", task.presets()[0].name]);
    }
}

/// What the published configurations say, one line a recipe.
struct Paper {
    file: &'static str,
    /// d_model, layers, d_state.
    size: [usize; 3],
    /// Both directions, a residual, norm before the block.
    shape: [bool; 3],
    norm: NormKind,
    dropout: f64,
    /// `None`: a copy for each channel.
    n_ssm: Option<usize>,
    l_max: Option<usize>,
    batch: usize,
    /// Rate and weight decay.
    rates: [f64; 2],
    schedule: Schedule,
    epochs: u64,
    seed: u64,
    /// Whether dt and C learn at 1e-3 too.
    ssm_lr_for_all: bool,
    /// Symbols of the vocabulary or `None` for one value a time step.
    symbols: Option<usize>,
    classes: usize,
    parameters: usize,
}

fn cosine(warmup: u64, total: u64) -> Schedule {
    Schedule::Cosine(Cosine { warmup, total })
}

const PLATEAU: Schedule = Schedule::Plateau { decay: 0.2, patience: 20 };

#[rustfmt::skip]
fn papers() -> Vec<Paper> {
    use NormKind::{Batch, Layer};
    let paper = |file, size, shape, norm, dropout, n_ssm, l_max, batch, rates, schedule, epochs, seed, ssm_lr_for_all, symbols, classes, parameters| Paper {
        file, size, shape, norm, dropout, n_ssm, l_max, batch, rates, schedule, epochs, seed, ssm_lr_for_all, symbols, classes, parameters,
    };
    let (one, long) = (Some(1), Some(16000));
    vec![
        paper("listops-paper", [128, 4, 16], [true, true, false], Batch, 0.0, one, Some(2048), 32, [8e-4, 0.01], cosine(12_000, 120_000), 200, 3333, false, Some(18), 10, 174_474),
        paper("text-paper", [128, 4, 16], [true, true, true], Batch, 0.05, one, Some(4096), 32, [5e-3, 0.05], cosine(5_000, 50_000), 200, 64, false, Some(135), 2, 188_674),
        paper("retrieval-paper", [200, 4, 24], [true, true, true], Batch, 0.0, one, Some(4000), 36, [3e-3, 0.05], cosine(5_000, 50_000), 20, 3333, false, Some(98), 2, 588_378),
        paper("image-paper", [512, 6, 64], [true, true, false], Layer, 0.1, one, None, 50, [5e-3, 0.01], cosine(18_000, 180_000), 200, 2222, true, None, 10, 3_980_554),
        paper("pathfinder-paper", [256, 6, 64], [true, true, true], Batch, 0.1, None, Some(1024), 100, [2e-4, 0.0], cosine(50_000, 500_000), 500, 100, true, None, 2, 1_790_978),
        paper("psmnist-paper", [400, 2, 64], [false, false, true], Batch, 0.1, one, Some(784), 64, [5e-4, 0.01], PLATEAU, 200, 64, false, None, 10, 435_594),
        paper("speech_commands-paper", [400, 2, 64], [true, true, true], Batch, 0.05, one, long, 32, [1e-3, 0.0], PLATEAU, 300, 10, true, None, 35, 871_603),
        paper("speech_commands-paper-10", [400, 2, 64], [true, true, true], Batch, 0.05, one, long, 32, [1e-3, 0.0], PLATEAU, 300, 10, true, None, 10, 861_578),
    ]
}

#[test]
fn the_paper_recipes_have_the_official_numbers() {
    for paper in papers() {
        let recipe = named(paper.file);
        let [d_model, layers, d_state] = paper.size;
        let [bidirectional, residual, prenorm] = paper.shape;
        let ssm = SsmConfig::new(d_model, d_state)
            .n_ssm(paper.n_ssm)
            .init(SsmInit::Dplr(Measure::LegS))
            .dt_min(1e-3)
            .dt_max(1e-1)
            .dt_transform(DtTransform::Softplus)
            .l_max(paper.l_max)
            .bidirectional(true)
            .dropout(paper.dropout)
            .gelu(true)
            .lr(1e-3)
            .lr_for_all(paper.ssm_lr_for_all);
        let block = BlockConfig::new(ssm)
            .bidirectional(bidirectional)
            .residual(residual)
            .norm(paper.norm)
            .prenorm(prenorm)
            .dropout(paper.dropout)
            .activation(Activation::Gelu)
            .source(SpikeSource::Probability(Surrogate::Clamp))
            .own_noise(false)
            .flip_reverse(false)
            .clamp_residual(false);
        let [lr, weight_decay] = paper.rates;
        let want = Recipe {
            name: recipe.name.clone(),
            data: recipe.data.clone(),
            block,
            layers,
            pooling: Pooling::Mean,
            retrieval: paper.file.starts_with("retrieval"),
            batch: paper.batch,
            accumulate: 1,
            optimizer: AdamWConfig::new(lr, weight_decay).beta1(0.9).beta2(0.999).eps(1e-8),
            clip: None,
            schedule: paper.schedule,
            length: Length::Epochs(paper.epochs),
            early_stop: None,
            seed: paper.seed,
        };
        assert_eq!(recipe, want, "{}", paper.file);
    }
}

#[test]
fn the_paper_models_have_the_official_number_of_parameters() {
    for paper in papers() {
        let symbols = |count: usize| Vocabulary::new((3..count).map(|id| format!("s{id}"))).unwrap();
        let set = match paper.symbols {
            Some(count) if paper.file.starts_with("retrieval") => Dataset::pairs(symbols(count), paper.classes),
            Some(count) => Dataset::tokens(symbols(count), paper.classes),
            None => Dataset::values(1, paper.classes).unwrap(),
        };
        let model = Model::new(&Cpu::<f32>::new(), Key::new(0), &named(paper.file).model(&set)).unwrap();
        assert_eq!(model.num_parameters(), paper.parameters, "{}", paper.file);
    }
    let listops = named("listops-paper");
    assert_eq!((listops.steps(96_000), listops.steps_per_epoch(96_000)), (120_000, 3_000));
}

#[test]
fn the_digits_are_those_of_the_learning_curve() {
    // d_model 64, 2 layers, d_state 16, lr 2e-3, decay .01, psMNIST's block, l_max 64, dropout .1, batch 64, 400 steps, warm-up 40.
    let (digits, psmnist) = (named("psmnist-digits"), named("psmnist-paper"));
    let ssm = SsmConfig::new(64, 16).l_max(64).dropout(0.1);
    assert_eq!(digits.block, psmnist.block.ssm(ssm));
    assert_eq!((digits.layers, digits.batch, digits.optimizer), (2, 64, AdamWConfig::new(2e-3, 0.01)));
    assert_eq!((digits.schedule, digits.length), (cosine(40, 400), Length::Steps(400)));
}

#[test]
fn steps_set_the_length_of_a_cosine_and_a_tenth_of_warm_up() {
    let short = named("listops-paper").with_steps(50);
    assert_eq!((short.schedule, short.length), (cosine(5, 50), Length::Steps(50)));
    assert_eq!(named("listops-quick").schedule, cosine(60, 600));
    let constant = Recipe { schedule: Schedule::Constant, ..short }.with_steps(7);
    assert_eq!((constant.schedule, constant.length), (Schedule::Constant, Length::Steps(7)));
}

// There and back.

fn any_ssm() -> impl Strategy<Value = SsmConfig> {
    let measure =
        prop_oneof![Just(Measure::LegS), Just(Measure::LegT), Just(Measure::LagT), Just(Measure::Fourier), Just(Measure::FourierDecay)];
    let diagonal = prop_oneof![Just(DiagInit::Lin), Just(DiagInit::Inv), Just(DiagInit::Real), Just(DiagInit::LegS)];
    let discretisation = prop_oneof![Just(Discretisation::Zoh), Just(Discretisation::Bilinear)];
    let init = prop_oneof![measure.prop_map(SsmInit::Dplr), (diagonal, discretisation).prop_map(|(init, how)| SsmInit::Diag(init, how))];
    let transform = prop_oneof![Just(DtTransform::Softplus), Just(DtTransform::Exp)];
    let sizes = (1usize..300, 1usize..40, any::<bool>(), prop::option::of(1usize..20_000));
    let steps = (1e-9f64..1e-3, 1e-3f64..10.0, transform);
    let rest = (any::<bool>(), 0.0f64..1.0, any::<bool>(), prop::option::of(0.0f64..1.0), any::<bool>());
    (sizes, init, steps, rest).prop_map(|((d_model, half, copies, l_max), init, (dt_min, dt_max, dt_transform), rest)| {
        let (bidirectional, dropout, gelu, lr, lr_for_all) = rest;
        let n_ssm = if copies { None } else { Some(1) };
        let d_state = 2 * half;
        let config = SsmConfig::new(d_model, d_state).n_ssm(n_ssm).init(init).dt_min(dt_min).dt_max(dt_max).dt_transform(dt_transform);
        config.l_max(l_max).bidirectional(bidirectional).dropout(dropout).gelu(gelu).lr(lr).lr_for_all(lr_for_all)
    })
}

fn any_source() -> impl Strategy<Value = SpikeSource> {
    let surrogate = (0..4, 1e-3f64..1e3).prop_map(|(kind, alpha)| match kind {
        0 => Surrogate::Clamp,
        1 => Surrogate::Sigmoid { alpha },
        2 => Surrogate::Atan { alpha },
        _ => Surrogate::FastSigmoid { alpha },
    });
    let lif = prop::option::of((0.0f64..1.0, 0.1f64..3.0, any::<bool>()));
    (surrogate, lif).prop_map(|(surrogate, lif)| match lif {
        None => SpikeSource::Probability(surrogate),
        Some((decay, threshold, soft_reset)) => SpikeSource::Lif(Lif { decay, threshold, soft_reset, surrogate }),
    })
}

fn any_block() -> impl Strategy<Value = BlockConfig> {
    let norm = prop_oneof![Just(None), Just(Some(NormKind::Batch)), Just(Some(NormKind::Layer))];
    let activation = prop_oneof![Just(Activation::Gelu), Just(Activation::Relu)];
    (any_ssm(), any_source(), norm, activation, 0.0f64..1.0, any::<[bool; 6]>()).prop_map(
        |(ssm, source, norm, activation, dropout, [bidirectional, residual, prenorm, own_noise, flip_reverse, clamp_residual])| {
            let config = BlockConfig::new(ssm).bidirectional(bidirectional).residual(residual).norm(norm).prenorm(prenorm).dropout(dropout);
            let config = config.activation(activation).source(source).own_noise(own_noise);
            config.flip_reverse(flip_reverse).clamp_residual(clamp_residual)
        },
    )
}

fn any_recipe() -> impl Strategy<Value = Recipe> {
    let schedule = prop_oneof![
        Just(Schedule::Constant),
        (0u64..100, 100u64..10_000).prop_map(|(warmup, total)| cosine(warmup, total)),
        (0.01f64..0.99, 0u64..50).prop_map(|(decay, patience)| Schedule::Plateau { decay, patience })
    ];
    let length = (any::<bool>(), 1u64..=i64::MAX as u64).prop_map(|(steps, n)| if steps { Length::Steps(n) } else { Length::Epochs(n) });
    let names = ("[a-z \"\\\\\u{e4}]{0,8}", "[a-z0-9]{1,5}");
    let counts = (1usize..20, 1usize..9, 0usize..50, prop::option::of(1u64..9), 0u64..=i64::MAX as u64);
    let rates = (0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0, 0.0f64..1e-3, 0.0f64..0.99, prop::option::of(1e-6f64..1e6));
    let rest = (any::<bool>(), any::<bool>());
    (names, any_block(), counts, rates, schedule, length, rest).prop_map(
        |((name, data), block, (layers, accumulate, more, early_stop, seed), rates, schedule, length, (last, retrieval))| {
            let (lr, weight_decay, beta1, eps, beta2, clip) = rates;
            let pooling = if last { Pooling::Last } else { Pooling::Mean };
            let optimizer = AdamWConfig::new(lr, weight_decay).beta1(beta1).beta2(beta2).eps(eps);
            let batch = accumulate + more;
            Recipe { name, data, block, layers, pooling, retrieval, batch, accumulate, optimizer, clip, schedule, length, early_stop, seed }
        },
    )
}

proptest! {
    #![proptest_config(pinned(300))]

    #[test]
    fn any_recipe_is_printed_and_read_again(recipe in any_recipe()) {
        let printed = recipe.to_toml().unwrap();
        prop_assert_eq!(Recipe::parse(&printed, "any").unwrap(), recipe, "{}", printed);
    }
}

#[test]
fn a_recipe_file_is_read_and_one_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    mentions(&Recipe::read(&path).unwrap_err().to_string(), &["could not read the recipe", "mine.toml"]);
    fs::write(&path, QUICK).unwrap();
    assert_eq!(Recipe::read(&path).unwrap(), Recipe::parse(QUICK, "").unwrap());
    fs::write(&path, QUICK.replace("batch = 4", "batch = 0")).unwrap();
    mentions(&Recipe::read(&path).unwrap_err().to_string(), &["mine.toml:8:1: batch = 0", "at least 1"]);
}

// Mistakes.

#[test]
fn a_mistake_in_a_file_is_shown_with_line_and_column() {
    // QUICK: [data] is line 3, [run] 6, seed 7, batch 8, steps 9, [optimizer] 11, lr 12, [schedule] 16, kind 17, [model] 21, d_model 22.
    for (from, to, place, parts) in [
        // Unknown.
        ("batch = 4", "batch_size = 4", "8:1", &["unknown field `batch_size`", "`batch`"][..]),
        ("[data]", "[date]", "3:2", &["unknown field `date`", "`data`"]),
        ("variant = \"tiny\"", "variant = \"tiny\"\n  colour = 1", "5:3", &["unknown field `colour`"]),
        ("norm = \"batch\"", "norm = \"group\"", "27:8", &["unknown variant `group`", "`layer`"]),
        ("kind = \"cosine\"", "kind = \"linear\"", "17:8", &["unknown variant `linear`", "`plateau`"]),
        // Of the wrong type.
        ("seed = 0", "seed = \"zero\"", "7:8", &["invalid type: string \"zero\"", "u64"]),
        ("batch = 4", "batch = -4", "8:9", &["invalid value: integer `-4`"]),
        ("lr = 1e-2", "lr = true", "12:6", &["invalid type: boolean `true`", "f64"]),
        ("residual = true", "residual = 1", "26:12", &["invalid type: integer `1`", "boolean"]),
        ("variant = \"tiny\"", "variant = 3", "4:11", &["invalid type: integer `3`", "string"]),
        // Missing.
        ("batch = 4\n", "", "6:1", &["missing field `batch`"]),
        ("lr = 1e-2\nweight", "weight", "11:1", &["missing field `lr`"]),
        ("d_model = 4\n", "", "21:1", &["missing field `d_model`"]),
        ("steps = 16\n", "", "6:2", &["run.steps = missing", "run.epochs"]),
        // Two lengths.
        ("steps = 16\n", "steps = 16\nepochs = 3\n", "10:1", &["run.epochs", "one length"]),
        // Not TOML.
        ("seed = 0", "seed 0", "7:6", &["expected"]),
        ("[model]", "[model", "21:7", &["table"]),
        ("batch = 4", "batch = 4\nbatch = 4", "9:1", &["duplicate key"]),
        // Values that make no sense.
        ("batch = 4", "accumulate = 9\nbatch = 4", "8:1", &["accumulate = 9", "batch of 4"]),
        ("seed = 0", "seed = 0\nearly_stop = 0", "8:1", &["early_stop = 0"]),
        ("lr = 1e-2\nweight", "clip = -1.0\nlr = 1e-2\nweight", "12:1", &["clip = -1"]),
        ("lr = 1e-2\nweight", "lr = -1e-2\nweight", "12:1", &["lr = -0.01"]),
        ("ssm_lr = 1e-3", "ssm_lr = inf", "14:1", &["ssm_lr = inf"]),
        ("lr = 1e-2\nweight", "beta2 = 1.0\nlr = 1e-2\nweight", "12:1", &["beta2 = 1"]),
        ("warmup = 1\n", "warmup = 17\n", "18:1", &["warmup = 17", "total of 16"]),
        ("d_state = 2", "d_state = 3", "24:1", &["d_state = 3", "even"]),
        ("d_state = 2", "d_state = 2\nn_ssm = 3", "25:1", &["n_ssm = 3", "divide"]),
        ("d_state = 2", "d_state = 2\ndt_min = 0.5", "25:1", &["[dt_min, dt_max] = [0.5, 0.1]"]),
        ("l_max = 8", "dropout = 1.0", "25:1", &["dropout = 1"]),
        ("l_max = 8", "\u{e4} = 1", "25:1", &[""]),
        // Values that would be ignored, or lack another one.
        ("l_max = 8", "lif_decay = 0.5", "25:1", &["model.lif_decay = 0.5", "neuron"]),
        ("l_max = 8", "surrogate_alpha = 0.5", "25:1", &["model.surrogate_alpha = 0.5", "clamp"]),
        ("l_max = 8", "surrogate = \"atan\"", "21:2", &["model.surrogate_alpha = missing", "steepness"]),
        ("l_max = 8", "neuron = \"lif\"", "21:2", &["model.lif_decay = missing", "LIF"]),
    ] {
        let text = QUICK.replacen(from, to, 1);
        assert_ne!(text, QUICK, "{from} is not there");
        let error = Recipe::parse(&text, "dir/tiny.toml").unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error:?}");
        let message = error.to_string();
        assert!(message.starts_with(&format!("dir/tiny.toml:{place}: ")), "{to:?} should be at {place}: {message}");
        mentions(&message, parts);
    }
}

// --set.

#[test]
fn every_kind_of_value_can_be_set() {
    let base = || Recipe::parse(QUICK, "").unwrap();
    type Change = fn(&mut Recipe);
    let cases: [(&str, &str, Change); 30] = [
        ("data.variant", "other", |r| r.data = "other".into()),
        ("data.variant", "\"35\"", |r| r.data = "35".into()),
        ("run.seed", "7", |r| r.seed = 7),
        ("run.batch", "1_000", |r| r.batch = 1000),
        ("run.accumulate", "4", |r| r.accumulate = 4),
        ("run.steps", "9", |r| r.length = Length::Steps(9)),
        ("run.epochs", "3", |r| r.length = Length::Epochs(3)),
        ("run.early_stop", "2", |r| r.early_stop = Some(2)),
        ("run.early_stop", "none", |r| r.early_stop = None),
        ("optimizer.lr", "1", |r| r.optimizer.lr = 1.0),
        ("optimizer.weight_decay", "5e-2", |r| r.optimizer.weight_decay = 0.05),
        ("optimizer.beta1", "0.8", |r| r.optimizer.beta1 = 0.8),
        ("optimizer.clip", "1.5", |r| r.clip = Some(1.5)),
        ("optimizer.ssm_lr", "none", |r| r.block.ssm.lr = None),
        ("optimizer.ssm_lr_for_all", "true", |r| r.block.ssm.lr_for_all = true),
        ("schedule.total", "40", |r| r.schedule = cosine(1, 40)),
        ("schedule.kind", "constant", |r| r.schedule = Schedule::Constant),
        ("schedule.kind", "plateau", |r| r.schedule = PLATEAU),
        ("schedule.kind", "cosine", |_| {}),
        ("model.d_model", "64", |r| r.block.ssm.d_model = 64),
        ("model.l_max", "none", |r| r.block.ssm.l_max = None),
        ("model.n_ssm", "0", |r| r.block.ssm.n_ssm = None),
        ("model.norm", "none", |r| r.block.norm = None),
        ("model.norm", "layer", |r| r.block.norm = Some(NormKind::Layer)),
        ("model.residual", "false", |r| r.block.residual = false),
        ("model.init", "diag-inv", |r| r.block.ssm.init = SsmInit::Diag(DiagInit::Inv, Discretisation::Zoh)),
        ("model.init", "fourier-decay", |r| r.block.ssm.init = SsmInit::Dplr(Measure::FourierDecay)),
        ("model.pooling", "last", |r| r.pooling = Pooling::Last),
        ("model.dt_transform", "exp", |r| r.block.ssm.dt_transform = DtTransform::Exp),
        ("model.activation", "\"relu\"", |r| r.block.activation = Activation::Relu),
    ];
    for (key, value, change) in cases {
        let mut want = base();
        change(&mut want);
        assert_eq!(base().set(key, value).unwrap(), want, "{key}={value}");
    }
}

#[test]
fn values_that_go_together_are_set_together_in_any_order() {
    let base = Recipe::parse(QUICK, "").unwrap();
    let lif = [("model.lif_decay", "0.5"), ("model.neuron", "lif"), ("model.surrogate", "sigmoid"), ("model.surrogate_alpha", "4")];
    let source = SpikeSource::Lif(Lif { decay: 0.5, threshold: 1.0, soft_reset: false, surrogate: Surrogate::Sigmoid { alpha: 4.0 } });
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        assert_eq!(base.set_all(order.map(|at| lif[at])).unwrap().block.source, source);
    }
    let epochs = base.set_all([("schedule.kind", "plateau"), ("run.epochs", "5")]).unwrap();
    assert_eq!((epochs.schedule, epochs.length), (PLATEAU, Length::Epochs(5)));
    let slower = base.set_all([("schedule.patience", "3"), ("schedule.kind", "plateau")]).unwrap();
    assert_eq!(slower.schedule, Schedule::Plateau { decay: 0.2, patience: 3 });
    // A cosine takes its length from the run's steps, which epochs are not.
    let again = epochs.set_all([("schedule.kind", "cosine"), ("run.steps", "50")]).unwrap();
    assert_eq!((again.schedule, again.length), (cosine(5, 50), Length::Steps(50)));
    let named = epochs.set_all([("schedule.total", "90"), ("schedule.warmup", "9"), ("schedule.kind", "cosine")]).unwrap();
    assert_eq!((named.schedule, named.length), (cosine(9, 90), Length::Epochs(5)));
    mentions(&epochs.set("schedule.kind", "cosine").unwrap_err().to_string(), &["schedule.kind=cosine", "schedule.total"]);
}

#[test]
fn what_cannot_be_set_is_an_error_that_says_why() {
    let base = Recipe::parse(QUICK, "").unwrap();
    for (key, value, parts) in [
        ("model.width", "3", &["--set = model.width=3", "unknown field `width`", "d_model"][..]),
        ("modell.d_model", "3", &["--set = modell.d_model=3", "no section modell", "model"]),
        ("d_model", "3", &["--set = d_model=3", "section"]),
        ("model.ssm.d_model", "3", &["--set = model.ssm.d_model=3", "section"]),
        ("model.d_model", "wide", &["--set = model.d_model=wide", "invalid type: string \"wide\"", "d_model"]),
        ("model.d_model", "-3", &["model.d_model=-3", "-3"]),
        ("model.d_model", "1.5", &["model.d_model=1.5", "floating point"]),
        ("model.d_model", "none", &["model.d_model=none", "missing field `d_model`"]),
        ("optimizer.lr", "true", &["optimizer.lr=true", "boolean"]),
        ("model.residual", "maybe", &["model.residual=maybe", "boolean"]),
        ("model.norm", "group", &["model.norm=group", "unknown variant `group`"]),
        ("schedule.kind", "linear", &["schedule.kind=linear", "unknown variant `linear`"]),
        ("schedule.kind", "none", &["schedule.kind=none", "unknown variant `none`"]),
        ("schedule.patience", "3", &["schedule.patience=3", "unknown field `patience`"]),
        ("schedule.total", "none", &["schedule.total=none", "schedule.total"]),
        ("run.steps", "none", &["run.steps", "run.epochs"]),
        ("run.batch", "0", &["batch = 0"]),
        ("model.lif_decay", "0.5", &["model.lif_decay = 0.5", "neuron"]),
    ] {
        let error = base.set(key, value).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
        mentions(&error.to_string(), parts);
    }
}
