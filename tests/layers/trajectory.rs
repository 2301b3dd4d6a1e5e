//! Twelve steps of training beside PyTorch, in f64, with the same weights, batches and noise: losses before each step, weights after the last.
//!
//! `TRAJECTORY=DIR cargo test --test layers trajectory` follows the runs of another folder.

use std::path::{Path, PathBuf};

use crate::common::{fixture_path, host, largest};
use pspikessm::autodiff::Tape;
use pspikessm::backend::*;
use pspikessm::nn::official::import;
use pspikessm::nn::store::Archive;
use pspikessm::nn::{AdamWConfig, BlockConfig, Context, Encoder, Input, Model, ModelConfig, Module, NormKind, Optimizer, SsmConfig};
use serde_json::Value;

type B = Cpu<f64>;

/// What losses may be off by.
const LOSS: f64 = 1e-12;
/// What weights may be off by, after Adam has divided small gradients by their size.
const WEIGHT: f64 = 1e-6;

/// A run of PyTorch's: `NAME.json`, and beside it weights before and after, batches and noise.
struct Run {
    folder: PathBuf,
    name: String,
    sizes: Value,
}

impl Run {
    /// All runs of a folder.
    fn all(folder: &Path) -> Vec<Run> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut names: Vec<String> =
            entries.filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".json")?.to_owned())).collect();
        names.sort();
        let read = |name: String| {
            let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
            Run { folder: folder.into(), name, sizes: serde_json::from_str(&text).unwrap() }
        };
        names.into_iter().map(read).collect()
    }

    fn file(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}{what}.safetensors", self.name))
    }

    fn number(&self, field: &str) -> f64 {
        self.sizes[field].as_f64().unwrap_or_else(|| panic!("{}: no {field}", self.name))
    }

    fn size(&self, field: &str) -> usize {
        self.number(field) as usize
    }

    fn flag(&self, field: &str) -> bool {
        self.sizes[field].as_bool().unwrap_or(false)
    }

    fn config(&self) -> ModelConfig {
        assert_eq!(self.number("drop"), 0.0, "{}: the noise of dropout is not in the file", self.name);
        // Without the field there is one copy; null is one a channel.
        let n_ssm = self.sizes.get("n_ssm").map_or(1, |n| n.as_u64().map_or(self.size("H"), |n| n as usize));
        let l_max = self.sizes["lmax"].as_u64().map(|l_max| l_max as usize);
        let ssm = SsmConfig::new(self.size("H"), self.size("N")).n_ssm(n_ssm).l_max(l_max).lr_for_all(self.flag("all_lr"));
        let norm = if self.sizes["norm"] == "layer" { NormKind::Layer } else { NormKind::Batch };
        let block =
            BlockConfig::new(ssm).bidirectional(self.flag("bi")).residual(self.flag("res")).norm(norm).prenorm(self.flag("prenorm"));
        let vocabulary = self.sizes["vocab"].as_u64();
        let encoder = vocabulary.map_or_else(|| Encoder::Values(self.size("d_in")), |size| Encoder::Tokens(size as usize));
        ModelConfig::new(encoder, block, self.size("out")).layers(self.size("layers"))
    }

    fn model(&self, cpu: &B, weights: &str) -> Model<B> {
        let model = Model::new(cpu, Key::new(1), &self.config()).unwrap();
        import(cpu, &model, self.file(weights)).unwrap();
        model
    }

    /// Trains as the file says: the losses before each step.
    fn train(&self, cpu: &B, model: &Model<B>) -> Vec<f64> {
        let (batches, steps) = (Archive::read(self.file(".run")).unwrap(), self.size("steps"));
        let mut optimizer = Optimizer::new(AdamWConfig::new(self.number("lr"), self.number("wd"))).unwrap();
        let step = |step| {
            let stored = |what: &str| batches.tensors.get(&format!("{step}.{what}"));
            let values = |what: &str| stored(what).unwrap_or_else(|| panic!("no {step}.{what}")).to_f64().unwrap();
            let whole = |what: &str| values(what).into_iter().map(|v| v as usize).collect::<Vec<_>>();
            let (x, labels) = (stored("x").unwrap(), whole("y"));
            let tokens: Vec<u32> = values("x").into_iter().map(|token| token as u32).collect();
            let lengths = stored("l").map(|_| whole("l"));
            let draws: Vec<Tensor<B>> =
                (0..).map_while(|i| stored(&format!("u{i}"))).map(|u| cpu.from_vec(u.to_f64().unwrap(), &u.shape).unwrap()).collect();
            model.prepare(cpu, x.shape[1]).unwrap();
            let tape = Tape::new(cpu);
            let input = match model.config().encoder {
                Encoder::Tokens(_) => Input::tokens(&tokens, labels.len()),
                _ => {
                    let sequence = cpu.permute(&cpu.from_vec(values("x"), &x.shape).unwrap(), &[0, 2, 1]).unwrap();
                    Input::sequence(&tape.constant(&sequence))
                }
            };
            let input = if let Some(lengths) = &lengths { input.lengths(lengths) } else { input };
            let logits = model.forward(&Context::training(&tape, Key::new(0)).given(&draws), input).unwrap();
            let loss = logits.cross_entropy(&labels).unwrap();
            let factor = 0.5 + 0.5 * (std::f64::consts::PI * step as f64 / steps as f64).cos();
            optimizer.update(cpu, model, &loss.backward().unwrap(), factor).unwrap();
            loss.item().unwrap()
        };
        (0..steps).map(step).collect()
    }
}

fn difference(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    largest(&got.iter().zip(want).map(|(got, want)| got - want).collect::<Vec<_>>())
}

#[test]
fn training_follows_pytorch() {
    let folder = std::env::var_os("TRAJECTORY").map_or_else(|| fixture_path("trajectory"), PathBuf::from);
    let (cpu, runs) = (B::new(), Run::all(&folder));
    assert!(!runs.is_empty(), "{}: no runs", folder.display());
    for run in runs {
        let (model, name) = (run.model(&cpu, ""), &run.name);
        let losses: Vec<f64> = run.sizes["losses"].as_array().unwrap().iter().map(|loss| loss.as_f64().unwrap()).collect();
        let off = difference(&run.train(&cpu, &model), &losses);
        println!("{name}: losses to {off:.1e}");
        assert!(off <= LOSS, "{name}: a loss is off by {off:e}");
        let block = &model.config().block;
        let cancelled = block.prenorm && block.norm == Some(NormKind::Batch);
        for ((parameter, got), (_, want)) in model.parameters().into_iter().zip(run.model(&cpu, ".final").parameters()) {
            // A BatchNorm takes out what is added to its input: the gradient is rounding alone, and Adam makes steps of it.
            if cancelled && parameter.ends_with("forward.sampler.shift") {
                continue;
            }
            let off = difference(&host(&cpu, &got.value()), &host(&cpu, &want.value()));
            assert!(off <= WEIGHT, "{name}: {parameter} is off by {off:e}");
        }
    }
}
