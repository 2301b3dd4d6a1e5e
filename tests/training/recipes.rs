//! Recipes: the embedded ones against the official numbers, TOML there and back, every kind of mistake, and `--set`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::pinned;
use crate::runs::{QUICK, changed, mentions};
use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::Error;
use pspikessm::backend::{Adaptation, Cpu, Discretization, DtTransform, Key, Lif, Surrogate};
use pspikessm::data::{Dataset, Vocabulary};
use pspikessm::nn::hippo::{DiagInit, Measure};
use pspikessm::nn::{
    Activation, AdamWConfig, BlockConfig, Cosine, Encoder, LinearDecay, Model, ModelConfig, Module, NormKind, ParamOptions, PlifConfig,
    Pooling, SgdConfig, SpikeSource, SsmConfig, SsmInit,
};
use pspikessm::train::{BatchNorms, Length, Recipe, Schedule, SpikePenalty, TrainingSpikes, tasks};

/// Every recipe of the crate under its task and its file's name, as in "listops-quick".
fn embedded() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/train/tasks");
    let paths = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_string();
    let mut all = BTreeMap::new();
    for task in paths(&folder).into_iter().filter(|path| path.is_dir()) {
        for file in paths(&task).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
            all.insert(format!("{}-{}", stem(&task), stem(&file)), fs::read_to_string(&file).unwrap());
        }
    }
    all
}

fn named(name: &str) -> Recipe {
    Recipe::parse(&embedded()[name], format!("{name}.toml")).unwrap()
}

#[test]
fn every_recipe_is_read_printed_and_read_again() {
    let all = embedded();
    for (name, text) in &all {
        let recipe = Recipe::parse(text, name).unwrap();
        assert_eq!(name.split_once('-').unwrap().1, recipe.name);
        let printed = recipe.to_toml().unwrap();
        assert_eq!(Recipe::parse(&printed, name).unwrap(), recipe, "{printed}");
    }
    // They are those that the tasks offer.
    let mut offered = Vec::new();
    for task in tasks::ALL {
        for preset in task.presets() {
            let recipe = task.recipe(Some(preset.name)).unwrap();
            offered.push(format!("{}-{}", task.name(), preset.name));
            assert_eq!(recipe, named(offered.last().unwrap()));
            assert_eq!(recipe.name, preset.name);
        }
        assert_eq!(task.recipe(None).unwrap().name, task.presets()[0].name);
        mentions(&task.recipe(Some("huge")).unwrap_err().to_string(), &["--preset = huge", task.presets()[0].name]);
    }
    offered.sort();
    assert_eq!(all.into_keys().collect::<Vec<_>>(), offered);
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
    n_ssm: usize,
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
    let (one, long) = (1, Some(16000));
    vec![
        paper("listops-paper", [128, 4, 16], [true, true, false], Batch, 0.0, one, Some(2048), 32, [8e-4, 0.01], cosine(12_000, 120_000), 200, 3333, false, Some(18), 10, 174_474),
        paper("text-paper", [128, 4, 16], [true, true, true], Batch, 0.05, one, Some(4096), 32, [5e-3, 0.05], cosine(5_000, 50_000), 200, 64, false, Some(135), 2, 188_674),
        paper("retrieval-paper", [200, 4, 24], [true, true, true], Batch, 0.0, one, Some(4000), 36, [3e-3, 0.05], cosine(5_000, 50_000), 20, 3333, false, Some(98), 2, 588_378),
        paper("image-paper", [512, 6, 64], [true, true, false], Layer, 0.1, one, None, 50, [5e-3, 0.01], cosine(18_000, 180_000), 200, 2222, true, None, 10, 3_980_554),
        paper("pathfinder-paper", [256, 6, 64], [true, true, true], Batch, 0.1, 256, Some(1024), 100, [2e-4, 0.0], cosine(50_000, 500_000), 500, 100, true, None, 2, 1_790_978),
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
        let mut ssm = SsmConfig::new(d_model, d_state);
        (ssm.n_ssm, ssm.l_max, ssm.dropout, ssm.lr_for_all) = (paper.n_ssm, paper.l_max, paper.dropout, paper.ssm_lr_for_all);
        let mut block = BlockConfig::new(ssm);
        (block.bidirectional, block.residual, block.prenorm) = (bidirectional, residual, prenorm);
        (block.norm, block.dropout) = (Some(paper.norm), paper.dropout);
        let [lr, weight_decay] = paper.rates;
        let mut want = recipe.clone();
        (want.model.block, want.model.layers, want.model.pooling, want.model.causal) = (block, layers, Pooling::Mean, false);
        (want.optimizer, want.schedule) = (AdamWConfig::new(lr, weight_decay).into(), paper.schedule);
        (want.run.batch, want.run.length, want.run.seed) = (paper.batch, Length::Epochs(paper.epochs), paper.seed);
        (want.run.accumulate, want.run.early_stop, want.run.clip) = (1, None, None);
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
        let model = Model::new(&Cpu::<f32>::new(), Key::new(0), &named(paper.file).model_for(&set)).unwrap();
        assert_eq!(model.num_parameters(), paper.parameters, "{}", paper.file);
    }
    let listops = named("listops-paper");
    assert_eq!((listops.steps(96_000), listops.steps_per_epoch(96_000)), (120_000, 3_000));
}

#[test]
fn the_digits_are_psmnist_in_small() {
    // d_model 64, 2 layers, d_state 16, lr 6e-3, decay .01, psMNIST's block without dropout, l_max 64, batch 64, 3,000 steps, warm-up 300.
    let (digits, psmnist) = (named("psmnist-digits"), named("psmnist-paper"));
    let mut block = psmnist.model.block;
    block.ssm = SsmConfig::new(64, 16);
    (block.ssm.l_max, block.dropout) = (Some(64), 0.0);
    assert_eq!(digits.model.block, block);
    assert_eq!((digits.model.layers, digits.run.batch, digits.optimizer), (2, 64, AdamWConfig::new(6e-3, 0.01).into()));
    assert_eq!((digits.schedule, digits.run.length), (cosine(300, 3000), Length::Steps(3000)));
}

#[test]
fn steps_set_the_length_of_a_cosine_and_a_tenth_of_warm_up() {
    let short = named("listops-paper").with_steps(50);
    assert_eq!((short.schedule, short.run.length), (cosine(5, 50), Length::Steps(50)));
    assert_eq!(named("listops-quick").schedule, cosine(400, 4000));
    let constant = changed(short, |r| r.schedule = Schedule::Constant).with_steps(7);
    assert_eq!((constant.schedule, constant.run.length), (Schedule::Constant, Length::Steps(7)));
}

#[test]
fn one_key_makes_a_model_causal() {
    let mut set = Dataset::values(1, 2).unwrap();
    set.push_values(&[0.0, 1.0], 0).unwrap();
    let config = |recipe: Recipe| recipe.model_for(&set).block;
    let both = config(Recipe::parse(QUICK, "").unwrap());
    assert!(both.bidirectional && both.ssm.bidirectional);
    let causal = config(Recipe::parse(QUICK, "").unwrap().set("model.causal", "true").unwrap());
    assert!(!causal.bidirectional && !causal.ssm.bidirectional);
}

#[test]
fn causal_presets_are_the_others_sizes_and_stream() {
    let mut set = Dataset::values(1, 10).unwrap();
    set.push_values(&[0.0, 1.0], 0).unwrap();
    for (causal, like) in [
        ("psmnist-causal", "psmnist-paper"),
        ("psmnist-digits-causal", "psmnist-digits"),
        ("speech_commands-causal", "speech_commands-paper"),
    ] {
        let recipe = named(causal);
        let config = recipe.model_for(&set);
        assert!(!config.block.bidirectional && !config.block.ssm.bidirectional, "{causal}");
        let alike = changed(recipe, |r| (r.name, r.model.causal) = (named(like).name, false));
        assert_eq!(alike, named(like), "{causal}");
        // Its smallest relative takes as long to make as it should in a test.
        let small = ModelConfig::new(config.encoder, config.block.clone(), config.classes).layers(1);
        let small = small.block(config.block.clone().ssm(config.block.ssm.clone().d_model(4).d_state(4)));
        let cpu = Cpu::<f32>::new();
        let mut stream = Model::new(&cpu, Key::new(0), &small).unwrap().stream(&cpu, 1).unwrap();
        assert_eq!(stream.step(&[0.5f32]).unwrap().len(), 10, "{causal}");
    }
}

// There and back.

fn any_ssm() -> impl Strategy<Value = SsmConfig> {
    let (init, transform) = (select(SsmInit::all()), select(&DtTransform::ALL[..]));
    let sizes = (1usize..300, 1usize..40, any::<bool>(), prop::option::of(1usize..20_000));
    let steps = (1e-9f64..1e-3, 1e-3f64..10.0, transform);
    let rest = (any::<bool>(), 0.0f64..1.0, select(&Activation::ALL[..]), prop::option::of(0.0f64..1.0), any::<bool>());
    (sizes, init, steps, rest).prop_map(|((d_model, half, copies, l_max), init, (dt_min, dt_max, dt_transform), rest)| {
        let (bidirectional, dropout, activation, lr, lr_for_all) = rest;
        let n_ssm = if copies { d_model } else { 1 };
        let mut ssm = SsmConfig::new(d_model, 2 * half);
        (ssm.n_ssm, ssm.init, ssm.dt_min, ssm.dt_max, ssm.dt_transform, ssm.l_max) = (n_ssm, init, dt_min, dt_max, dt_transform, l_max);
        (ssm.bidirectional, ssm.dropout, ssm.activation, ssm.lr, ssm.lr_for_all) = (bidirectional, dropout, activation, lr, lr_for_all);
        ssm
    })
}

fn any_source() -> impl Strategy<Value = SpikeSource> {
    let surrogate = (select(Surrogate::ALL.to_vec()), 1e-3f64..1e3).prop_map(|(surrogate, alpha)| surrogate.with_alpha(alpha));
    let lif = prop::option::of((1e-3f64..1.0, 0.1f64..3.0, any::<bool>()));
    let learnt = prop::option::of(prop::option::of((0.0f64..1.0, 0.0f64..=1.0)));
    (surrogate, lif, learnt).prop_map(|(surrogate, lif, learnt)| match (lif, learnt) {
        (None, _) => SpikeSource::Probability(surrogate),
        (Some((decay, threshold, soft_reset)), None) => SpikeSource::Lif(Lif { decay, threshold, soft_reset, surrogate }),
        (Some((decay, threshold, soft_reset)), Some(adaptation)) => {
            let adaptation = adaptation.map(|(strength, fading)| Adaptation { strength, fading });
            let plif = PlifConfig::new(decay).threshold(threshold).soft_reset(soft_reset).surrogate(surrogate);
            SpikeSource::Plif(plif.adaptation(adaptation))
        }
    })
}

fn any_block() -> impl Strategy<Value = BlockConfig> {
    let norm = prop::option::of(select(NormKind::ALL.to_vec()));
    let activation = select(Activation::ALL.to_vec());
    (any_ssm(), any_source(), norm, activation, 0.0f64..1.0, any::<[bool; 6]>()).prop_map(
        |(ssm, source, norm, activation, dropout, [bidirectional, residual, prenorm, own_noise, flip_reverse, clamp_residual])| {
            let mut block = BlockConfig::new(ssm);
            (block.bidirectional, block.residual, block.norm, block.prenorm) = (bidirectional, residual, norm, prenorm);
            (block.dropout, block.activation, block.source) = (dropout, activation, source);
            (block.own_noise, block.flip_reverse, block.clamp_residual) = (own_noise, flip_reverse, clamp_residual);
            block
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
        |((name, data), block, (layers, accumulate, more, early_stop, seed), rates, schedule, length, (last, causal))| {
            let (lr, weight_decay, beta1, eps, beta2, clip) = rates;
            let mut recipe = Recipe::parse(QUICK, "").unwrap();
            (recipe.name, recipe.data, recipe.schedule) = (name, data, schedule);
            let mut optimizer = AdamWConfig::new(lr, weight_decay);
            (optimizer.beta1, optimizer.beta2, optimizer.eps) = (beta1, beta2, eps);
            recipe.optimizer = optimizer.into();
            let pooling = if last { Pooling::Last } else { Pooling::Mean };
            (recipe.model.layers, recipe.model.pooling, recipe.model.causal, recipe.model.block) = (layers, pooling, causal, block);
            (recipe.run.batch, recipe.run.accumulate, recipe.run.clip) = (accumulate + more, accumulate, clip);
            (recipe.run.length, recipe.run.early_stop, recipe.run.seed) = (length, early_stop, seed);
            recipe
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
    mentions(&Recipe::read(&path).unwrap_err().to_string(), &["mine.toml:6:1: batch = 0", "at least 1"]);
}

#[test]
fn a_recipe_file_may_have_a_mark_and_other_line_ends_but_is_utf_8() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mine.toml");
    let recipe = named("listops-quick");
    let text = recipe.to_toml().unwrap();
    fs::write(&path, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    assert_eq!(Recipe::read(&path).unwrap(), recipe);
    fs::write(&path, text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    mentions(&Recipe::read(&path).unwrap_err().to_string(), &["mine.toml:1:2", "UTF-16"]);
}

// Mistakes.

#[test]
fn a_mistake_in_a_file_is_shown_with_line_and_column() {
    // QUICK: data is line 2, [run] 4, seed 5, batch 6, length 7, [optimizer] 9, lr 10, [schedule.cosine] 13, warmup 14, [model] 17,
    // [model.block] 20, residual 21, norm 22, [model.block.ssm] 25, d_model 26, d_state 27, n_ssm 28, l_max 29, lr 30.
    let mut wrong = Vec::new();
    for (from, to, place, parts) in [
        // Unknown.
        ("batch = 4", "batch_size = 4", "6:1", &["unknown field `batch_size`", "`batch`"][..]),
        ("data = ", "date = ", "2:1", &["unknown field `date`", "`data`"]),
        ("[model.block.ssm]", "  colour = 1\n[model.block.ssm]", "25:3", &["unknown field `colour`", "`clamp_residual`"]),
        ("d_model = 4", "d_modell = 4", "26:1", &["unknown field `d_modell`", "`d_model`"]),
        ("norm = \"batch\"", "norm = \"group\"", "22:8", &["unknown variant `group`", "`layer`"]),
        ("[schedule.cosine]", "[schedule.square]", "13:11", &["unknown variant `square`", "`plateau`"]),
        ("warmup = 1", "warm = 1", "14:1", &["unknown field `warm`", "`warmup`"]),
        ("l_max = 8", "init.dplr = \"hermite\"", "29:13", &["unknown variant `hermite`", "`legs`"]),
        ("{ steps = 16 }", "{ days = 3 }", "7:12", &["unknown variant `days`", "`epochs`"]),
        ("prenorm = false", "source.lif = { decay = 0.5, threshold = 1.0, sof = 1 }", "23:46", &["unknown field `sof`", "`soft_reset`"]),
        // Of the wrong type.
        ("seed = 0", "seed = \"zero\"", "5:8", &["invalid type: string \"zero\"", "u64"]),
        ("batch = 4", "batch = -4", "6:9", &["invalid value: integer `-4`"]),
        ("lr = 1e-2", "lr = true", "10:6", &["invalid type: boolean `true`", "f64"]),
        ("residual = true", "residual = 1", "21:12", &["invalid type: integer `1`", "boolean"]),
        ("data = \"tiny\"", "data = 3", "2:8", &["invalid type: integer `3`", "string"]),
        // Missing.
        ("batch = 4\n", "", "4:1", &["missing field `batch`"]),
        ("lr = 1e-2\n", "", "9:1", &["missing field `lr`"]),
        ("d_model = 4\n", "", "25:1", &["missing field `d_model`"]),
        ("length = { steps = 16 }\n", "", "4:1", &["missing field `length`"]),
        ("prenorm = false", "source.probability.atan = {}", "23:27", &["missing field `alpha`"]),
        ("prenorm = false", "source.lif = {}", "23:14", &["missing field `decay`"]),
        // Two lengths.
        ("{ steps = 16 }", "{ steps = 16, epochs = 3 }", "7:10", &["choice", "one of them"]),
        // Not TOML.
        ("seed = 0", "seed 0", "5:6", &["expected"]),
        ("[model]", "[model", "17:7", &["table"]),
        ("batch = 4", "batch = 4\nbatch = 4", "7:1", &["duplicate key"]),
        // Values that make no sense.
        ("batch = 4", "accumulate = 9\nbatch = 4", "6:1", &["accumulate = 9", "batch of 4"]),
        ("seed = 0", "seed = 0\nearly_stop = 0", "6:1", &["early_stop = 0"]),
        ("seed = 0", "seed = 0\nclip = -1.0", "6:1", &["clip = -1"]),
        ("steps = 16", "steps = 0", "7:12", &["steps = 0"]),
        ("lr = 1e-2", "lr = -1e-2", "10:1", &["lr = -0.01"]),
        ("lr = 1e-3", "lr = inf", "30:1", &["lr = inf"]),
        ("lr = 1e-2", "beta2 = 1.0\nlr = 1e-2", "10:1", &["beta2 = 1"]),
        ("warmup = 1\n", "warmup = 17\n", "14:1", &["warmup = 17", "total of 16"]),
        ("d_state = 2", "d_state = 3", "27:1", &["d_state = 3", "even"]),
        ("n_ssm = 1", "n_ssm = 3", "28:1", &["n_ssm = 3", "divide"]),
        ("d_state = 2", "d_state = 2\ndt_min = 0.5", "28:1", &["[dt_min, dt_max] = [0.5, 0.1]"]),
        ("layers = 2", "layers = 0", "18:1", &["layers = 0"]),
        ("l_max = 8", "dropout = 1.0", "29:1", &["dropout = 1"]),
        ("prenorm = false", "dropout = 1.0", "23:1", &["dropout = 1"]),
        ("l_max = 8", "\u{e4} = 1", "29:1", &[""]),
    ] {
        let text = QUICK.replacen(from, to, 1);
        assert_ne!(text, QUICK, "{from} is not there");
        let error = Recipe::parse(&text, "dir/tiny.toml").unwrap_err();
        let (data, message) = (matches!(error, Error::Data { .. }), error.to_string());
        if !data || !message.starts_with(&format!("dir/tiny.toml:{place}: ")) || !says(&message, parts) {
            wrong.push(format!("{to:?} should be at {place} with {parts:?}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a message is one line and has all parts.
fn says(message: &str, parts: &[&str]) -> bool {
    !message.contains('\n') && parts.iter().all(|part| message.contains(part))
}

// --set.

#[test]
fn every_kind_of_value_can_be_set() {
    let base = || Recipe::parse(QUICK, "").unwrap();
    type Change = fn(&mut Recipe);
    let cases: [(&str, &str, Change); 48] = [
        ("data", "other", |r| r.data = "other".into()),
        ("data", "35", |r| r.data = "35".into()),
        ("data", "\"35\"", |r| r.data = "35".into()),
        ("run.seed", "7", |r| r.run.seed = 7),
        ("run.batch", "1_000", |r| r.run.batch = 1000),
        ("run.accumulate", "4", |r| r.run.accumulate = 4),
        ("run.length.steps", "9", |r| r.run.length = Length::Steps(9)),
        ("run.length.epochs", "3", |r| r.run.length = Length::Epochs(3)),
        ("run.length", "{ epochs = 3 }", |r| r.run.length = Length::Epochs(3)),
        ("run.early_stop", "2", |r| r.run.early_stop = Some(2)),
        ("run.early_stop", "none", |r| r.run.early_stop = None),
        ("run.clip", "1.5", |r| r.run.clip = Some(1.5)),
        ("run.batch_norm", "synchronised", |r| r.run.batch_norm = BatchNorms::Synchronised),
        ("run.recompute", "true", |r| r.run.recompute = true),
        ("optimizer.lr", "1", |r| r.optimizer.set_lr(1.0)),
        ("optimizer.weight_decay", "5e-2", |r| r.optimizer = AdamWConfig::new(0.01, 0.05).into()),
        ("optimizer.beta1", "0.8", |r| r.optimizer = AdamWConfig::new(0.01, 0.01).beta1(0.8).into()),
        ("schedule.cosine.total", "40", |r| r.schedule = cosine(1, 40)),
        ("optimizer", "{ rule = 'sgd', lr = 0.1, momentum = 0.9, weight_decay = 0 }", |r| {
            r.optimizer = SgdConfig::new(0.1).momentum(0.9).into();
        }),
        ("schedule.linear", "{ warmup = 1, total = 9 }", |r| r.schedule = Schedule::Linear(LinearDecay::new(1, 9, 0.0).unwrap())),
        ("run.spikes", "expected", |r| r.run.spikes = TrainingSpikes::Expected),
        ("run.spikes.annealed", "300", |r| r.run.spikes = TrainingSpikes::Annealed(300)),
        ("run.freeze", "['blocks.*.output', 'decoder']", |r| r.run.freeze = vec!["blocks.*.output".into(), "decoder".into()]),
        ("run.spike_penalty.weight", "0.5", |r| r.run.spike_penalty = Some(SpikePenalty { weight: 0.5, rate: 0.0 })),
        ("schedule", "constant", |r| r.schedule = Schedule::Constant),
        ("schedule.plateau", "{}", |r| r.schedule = PLATEAU),
        ("schedule.plateau.patience", "3", |r| r.schedule = Schedule::Plateau { decay: 0.2, patience: 3 }),
        ("model.layers", "3", |r| r.model.layers = 3),
        ("model.pooling", "last", |r| r.model.pooling = Pooling::Last),
        ("model.causal", "true", |r| r.model.causal = true),
        ("model.block.norm", "none", |r| r.model.block.norm = None),
        ("model.block.norm", "layer", |r| r.model.block.norm = Some(NormKind::Layer)),
        ("model.block.residual", "false", |r| r.model.block.residual = false),
        ("model.block.activation", "\"relu\"", |r| r.model.block.activation = Activation::Relu),
        ("model.block.source.probability.atan.alpha", "3", |r| {
            r.model.block.source = SpikeSource::Probability(Surrogate::Atan { alpha: 3.0 });
        }),
        ("model.block.source.plif.decay", "0.5", |r| r.model.block.source = SpikeSource::Plif(PlifConfig::new(0.5))),
        ("model.block.source", "{ plif = { decay = 0.5, adaptation = { strength = 0.1, fading = 0.9 } } }", |r| {
            let plif = PlifConfig::new(0.5).adaptation(Adaptation { strength: 0.1, fading: 0.9 });
            r.model.block.source = SpikeSource::Plif(plif);
        }),
        ("model.block.ssm.activation", "identity", |r| r.model.block.ssm.activation = Activation::Identity),
        ("model.block.ssm.d_model", "64", |r| r.model.block.ssm.d_model = 64),
        ("model.block.ssm.l_max", "none", |r| r.model.block.ssm.l_max = None),
        ("model.block.ssm.n_ssm", "4", |r| r.model.block.ssm.n_ssm = 4),
        ("model.block.ssm.n_ssm", "none", |r| r.model.block.ssm.n_ssm = 1),
        ("model.block.ssm.lr", "none", |r| r.model.block.ssm.lr = None),
        ("model.block.ssm.lr_for_all", "true", |r| r.model.block.ssm.lr_for_all = true),
        ("model.block.ssm.init.dplr", "fourier_decay", |r| r.model.block.ssm.init = SsmInit::Dplr(Measure::FourierDecay)),
        ("model.block.ssm.init.diag", "[\"inv\", \"zoh\"]", |r| {
            r.model.block.ssm.init = SsmInit::Diag(DiagInit::Inv, Discretization::Zoh);
        }),
        ("model.block.ssm.init", "{ dplr = 'legt' }", |r| r.model.block.ssm.init = SsmInit::Dplr(Measure::LegT)),
        ("model.block.ssm.dt_transform", "exp", |r| r.model.block.ssm.dt_transform = DtTransform::Exp),
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
    let lif = [
        ("model.block.source.lif.decay", "0.5"),
        ("model.block.source.lif.threshold", "1"),
        ("model.block.source.lif.soft_reset", "false"),
        ("model.block.source.lif.surrogate.sigmoid.alpha", "4"),
    ];
    let source = SpikeSource::Lif(Lif { decay: 0.5, threshold: 1.0, soft_reset: false, surrogate: Surrogate::Sigmoid { alpha: 4.0 } });
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        assert_eq!(base.set_all(order.map(|at| lif[at])).unwrap().model.block.source, source);
    }
    let epochs = base.set_all([("schedule.plateau", "{}"), ("run.length.epochs", "5")]).unwrap();
    assert_eq!((epochs.schedule, epochs.run.length), (PLATEAU, Length::Epochs(5)));
    for [first, second] in [[0, 1], [1, 0]] {
        let parts = [("schedule.plateau.patience", "3"), ("schedule.plateau.decay", "0.5")];
        assert_eq!(base.set_all([parts[first], parts[second]]).unwrap().schedule, Schedule::Plateau { decay: 0.5, patience: 3 });
    }
    let again = epochs.set_all([("schedule.cosine.total", "90"), ("schedule.cosine.warmup", "9")]).unwrap();
    assert_eq!((again.schedule, again.run.length), (cosine(9, 90), Length::Epochs(5)));
    mentions(&epochs.set("schedule.cosine.total", "90").unwrap_err().to_string(), &["schedule.cosine.total=90", "missing field `warmup`"]);
}

#[test]
fn every_parameter_is_in_its_recipe_group() {
    let cpu = Cpu::<f32>::new();
    // One's own data are not the paper's.
    let papers: Vec<_> = tasks::ALL.iter().filter(|task| task.name() != "classify").collect();
    assert_eq!(papers.len(), 7);
    for task in papers {
        let block = task.recipe(Some("paper")).unwrap().model.block;
        let lr_for_all = block.ssm.lr_for_all;
        let config = ModelConfig::new(Encoder::Tokens(18), block, 10).layers(2).retrieval(task.name() == "retrieval");
        let model = Model::new(&cpu, Key::new(0), &config).unwrap();
        for (name, param) in model.parameters() {
            let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
            let state = ends(&["kernel.A_real", "kernel.A_imag", "kernel.B", "kernel.P"]);
            let in_norm = name.starts_with("norm.") || name.contains(".norm.");
            let own_lr = state || lr_for_all && ends(&["kernel.inv_dt", "kernel.C"]);
            let spared = state || ends(&["kernel.inv_dt", "mixer.bias"]) || in_norm;
            let want = if ends(&["running_mean", "running_var", "l_kernel"]) {
                ParamOptions::Buffer
            } else {
                ParamOptions::Trained { lr: own_lr.then_some(1e-3), decay: !spared }
            };
            assert_eq!(param.options(), want, "{name} of {}", task.name());
        }
    }
}

#[test]
fn what_cannot_be_set_is_an_error_that_says_why() {
    let base = Recipe::parse(QUICK, "").unwrap();
    let mut wrong = Vec::new();
    for (key, value, parts) in [
        ("model.width", "3", &["--set = model.width=3", "unknown field `width`", "layers"][..]),
        ("modell.layers", "3", &["--set = modell.layers=3", "unknown field `modell`", "model"]),
        ("d_model", "3", &["--set = d_model=3", "unknown field `d_model`"]),
        ("model.ssm.d_model", "3", &["--set = model.ssm.d_model=3", "unknown field `ssm`"]),
        ("model.block.ssm.d_model", "wide", &["d_model=wide", "invalid type: string \"wide\"", "d_model"]),
        ("model.block.ssm.d_model", "-3", &["d_model=-3", "-3"]),
        ("model.block.ssm.d_model", "1.5", &["d_model=1.5", "floating point"]),
        ("model.block.ssm.d_model", "none", &["d_model=none", "missing field `d_model`"]),
        ("model.layers.more", "3", &["model.layers.more=3", "invalid type: map"]),
        ("optimizer.lr", "true", &["optimizer.lr=true", "boolean"]),
        ("model.block.residual", "maybe", &["residual=maybe", "boolean"]),
        ("model.block.norm", "group", &["norm=group", "unknown variant `group`"]),
        ("schedule", "square", &["schedule=square", "unknown variant `square`"]),
        ("schedule", "none", &["schedule=none", "missing field `schedule`"]),
        ("schedule", "plateau", &["schedule=plateau", "plateau"]),
        ("schedule.cosine.patience", "3", &["schedule.cosine.patience=3", "unknown field `patience`"]),
        ("run.length.days", "3", &["run.length.days=3", "unknown variant `days`", "epochs"]),
        ("run.length", "none", &["missing field `length`"]),
        ("run.batch", "0", &["batch = 0"]),
        ("model.block.source.lif.threshold", "0.5", &["source.lif.threshold=0.5", "missing field `decay`"]),
    ] {
        let error = base.set(key, value).unwrap_err();
        if !matches!(error, Error::Config { .. }) || !says(&error.to_string(), parts) {
            wrong.push(format!("{key}={value} should say {parts:?}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
