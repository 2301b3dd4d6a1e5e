//! Whole models with the official code's weights: logits, loss and gradient norms, and what the importer says of files that do not fit.

use std::path::Path;

use crate::common::{Array, assert_close, fixture, fixture_path, gradient, host, numbers, official, whole_numbers};
use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::{Backend, Cpu, Key};
use pspikessm::nn::official::import;
use pspikessm::nn::store::{Archive, Stored};
use pspikessm::nn::{BlockConfig, Context, Encoder, Input, Model, ModelConfig, Module, NormKind, SpikeMeter, SsmConfig};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde_json::Value;

type B = Cpu<f32>;

/// What logits and losses are held to: they are f32, and a spike more or less would move them by 1e-3.
const F32: f64 = 1e-4;

const TASKS: [&str; 4] = ["listops", "aan", "cifar", "mnist"];

/// The task's row of the recipes, in small.
fn config(task: &str, l_max: usize) -> ModelConfig {
    let base = BlockConfig::new(SsmConfig::new(8, 8).l_max(l_max));
    let (encoder, block, classes) = match task {
        "listops" => (Encoder::Tokens(18), base, 10),
        "aan" => (Encoder::Tokens(98), base.prenorm(true), 2),
        // Its l_max is not set: the first length seen.
        "cifar" => {
            let ssm = base.ssm.clone().l_max(None);
            (Encoder::Values(1), base.ssm(ssm).norm(NormKind::Layer), 10)
        }
        "mnist" => (Encoder::Values(1), base.prenorm(true).bidirectional(false).residual(false), 10),
        _ => panic!("no task {task}"),
    };
    ModelConfig::new(encoder, block, classes).layers(2).retrieval(task == "aan")
}

/// A model of random weights, from which an import must take over everything.
fn fresh<C: Backend>(device: &C, task: &str) -> Model<C> {
    let l_max = fixture(&format!("model_{task}"))["l_max"].as_u64().unwrap() as usize;
    Model::new(device, Key::new(11), &config(task, l_max)).unwrap()
}

fn weights(task: &str) -> std::path::PathBuf {
    fixture_path(&format!("model_{task}.safetensors"))
}

/// Logits for the fixture's input and the uniform numbers of one of its passes.
fn logits<C: Backend>(model: &Model<C>, cx: &Context<'_, C>, fixture: &Value, pass: &str) -> Var<C> {
    let input = Array::read(&fixture["input"]);
    let lengths = whole_numbers(&fixture["lengths"]);
    let draws: Vec<_> =
        fixture[pass]["uniforms"].as_array().unwrap().iter().map(|u| Array::read(u).sequence().tensor(cx.backend())).collect();
    let (tokens, values): (Vec<u32>, Vec<f32>) = input.values.iter().map(|&v| (v as u32, v as f32)).unzip();
    let input_of = match model.config().encoder {
        Encoder::Tokens(_) => Input::tokens(&tokens, input.shape[0]),
        _ => Input::values(&values, input.shape[0]),
    };
    let input_of = if let Some(lengths) = &lengths { input_of.lengths(lengths) } else { input_of };
    model.forward(&cx.clone().given(&draws), input_of).unwrap()
}

/// Panics unless the gradient's norm is the official one to `relative`, give or take round-off of 1e-6.
fn check_norm(what: &str, got: &[f64], want: f64, relative: f64) {
    let norm = got.iter().map(|g| g * g).sum::<f64>().sqrt();
    println!("{what}: {:.1e} of {want:.1e}", (norm - want).abs() / want);
    assert!((norm - want).abs() <= relative * want + 1e-6, "{what}: |gradient| is {norm:e}, not {want:e}");
}

/// An imported model's training pass against the fixture; the share of ones among its spikes.
fn check_training<C: Backend>(device: &C, task: &str) -> f64 {
    let (fixture, model) = (fixture(&format!("model_{task}")), fresh(device, task));
    import(device, &model, weights(task)).unwrap();
    let (train, tape, meter) = (&fixture["train"], Tape::new(device), SpikeMeter::default());
    let logits = logits(&model, &Context::training(&tape, Key::new(0)).metered(&meter), &fixture, "train");
    assert_close(&format!("{task} train logits"), &host(device, logits.value()), &Array::read(&train["logits"]).values, F32);
    let loss = logits.cross_entropy(&whole_numbers(&train["labels"]).unwrap()).unwrap();
    assert_close(&format!("{task} loss"), &[loss.item().unwrap()], &[train["loss"].as_f64().unwrap()], F32);
    let gradients = loss.backward().unwrap();
    let norms = train["grad_norms"].as_object().unwrap();
    let trained: Vec<_> = model.parameters().into_iter().filter(|(_, param)| param.is_trained()).collect();
    assert_eq!(trained.len(), norms.len());
    for (name, param) in trained {
        let name = official(&name, model.config().block.bidirectional);
        let grad = gradient(device, &gradients, &param);
        let after_norm = model.config().block.prenorm;
        if after_norm && name.ends_with(".inp_b") {
            // Zero in exact arithmetic: a BatchNorm takes out what is added to its input.
            assert!(grad.iter().all(|g| g.abs() < 1e-6), "{task} {name}: {grad:?}");
            continue;
        }
        // Almost zero by the same BatchNorm, and so mostly round-off.
        let cancelled = after_norm && name.ends_with(".inp_a") || task == "mnist" && name.starts_with("encoder.");
        check_norm(&format!("{task} d{name}"), &grad, norms[&name].as_f64().unwrap(), if cancelled { 2e-2 } else { 1e-3 });
    }
    meter.rate()
}

/// An imported model's evaluation pass against the fixture; the share of ones among its spikes.
fn check_evaluation<C: Backend>(device: &C, task: &str) -> f64 {
    let (fixture, model) = (fixture(&format!("model_{task}")), fresh(device, task));
    import(device, &model, weights(task)).unwrap();
    let (tape, meter) = (Tape::off(device), SpikeMeter::default());
    let y = logits(&model, &Context::evaluation(&tape, Key::new(0)).metered(&meter), &fixture, "eval");
    assert_close(&format!("{task} eval logits"), &host(device, y.value()), &Array::read(&fixture["eval"]["logits"]).values, F32);
    meter.rate()
}

#[test]
fn training_passes_are_the_official_ones() {
    TASKS.iter().for_each(|task| _ = check_training(&B::new(), task));
}

#[test]
fn evaluation_passes_are_the_official_ones() {
    TASKS.iter().for_each(|task| _ = check_evaluation(&B::new(), task));
}

#[cfg(feature = "wgpu")]
#[test]
fn training_passes_are_the_official_ones_on_wgpu() {
    let gpu = pspikessm::backend::Wgpu::new().expect("a device");
    for task in TASKS {
        assert_eq!(check_training(&gpu, task), check_training(&B::new(), task), "the number of spikes of {task}");
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn evaluation_passes_are_the_official_ones_on_wgpu() {
    let gpu = pspikessm::backend::Wgpu::new().expect("a device");
    for task in TASKS {
        assert_eq!(check_evaluation(&gpu, task), check_evaluation(&B::new(), task), "the number of spikes of {task}");
    }
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs an NVIDIA GPU: run by benches/gpu.sh"]
fn passes_are_the_official_ones_on_cuda() {
    let gpu = pspikessm::backend::Cuda::<f32>::new().expect("a device");
    for task in TASKS {
        assert_eq!(check_training(&gpu, task), check_training(&B::new(), task), "the number of spikes of {task}");
        assert_eq!(check_evaluation(&gpu, task), check_evaluation(&B::new(), task), "the number of spikes of {task}");
    }
}

// ---------------------------------------------------------------- the importer

#[test]
fn what_the_official_code_never_uses_is_skipped_by_name() {
    let cpu = B::new();
    for task in TASKS {
        let model = fresh(&cpu, task);
        let skipped = import(&cpu, &model, weights(task)).unwrap().skipped;
        let all = Archive::read(weights(task)).unwrap().tensors;
        assert_eq!(skipped.len() + model.parameters().len(), all.len(), "{task}");
        let expected: &[&str] = match task {
            "mnist" => &["inp2_", "output_linear", "num_batches_tracked"],
            "cifar" => &["bidirectional_linear1", "bidirectional_linear2", "output_linear"],
            _ => &["bidirectional_linear1", "bidirectional_linear2", "output_linear", "num_batches_tracked"],
        };
        for kind in expected {
            assert!(skipped.iter().any(|name| name.contains(kind)), "{task}: no {kind} in {skipped:?}");
        }
        assert!(skipped.iter().all(|name| expected.iter().any(|kind| name.contains(kind))), "{task}: {skipped:?}");
    }
}

/// What importing the ListOps file says after `change`; the model must keep what it had.
fn refusal(change: impl FnOnce(&mut Archive)) -> String {
    let cpu = B::new();
    let folder = tempfile::tempdir().unwrap();
    let mut archive = Archive::read(weights("listops")).unwrap();
    change(&mut archive);
    let path = folder.path().join("changed.safetensors");
    archive.write(&path).unwrap();
    refused(&cpu, &fresh(&cpu, "listops"), &path)
}

fn refused(cpu: &B, model: &Model<B>, path: &Path) -> String {
    let values =
        |model: &Model<B>| -> Vec<_> { model.parameters().iter().map(|(name, param)| (name.clone(), host(cpu, &param.value()))).collect() };
    let before = values(model);
    let message = import(cpu, model, path).expect_err("the file does not fit").to_string();
    assert!(values(model) == before, "a refused file changed the model");
    assert!(message.contains(path.file_name().unwrap().to_str().unwrap()), "{message}");
    message
}

#[test]
fn a_tensor_too_many_too_few_or_of_another_shape_is_named() {
    let with = |name: &str, shape: &[usize]| {
        let (name, stored) = (name.to_owned(), Stored::new(&vec![0.5f32; shape.iter().product()], shape));
        refusal(move |archive| _ = archive.tensors.insert(name, stored))
    };
    for name in ["model.layers.0.surprise", "model.layers.2.inp_a", "decoder.0.output_transform.scale", "encoder.0.bias"] {
        let message = with(name, &[8]);
        assert!(message.contains(name) && message.contains("does not have"), "{message}");
    }
    for name in ["model.layers.1.reverse_layer.layer.kernel.C", "encoder.0.weight", "model.layers.0.norm.norm.running_var"] {
        let message = refusal(|archive| _ = archive.tensors.remove(name).unwrap());
        assert!(message.contains(name) && message.contains("missing"), "{message}");
        let message = with(name, &[3, 7]);
        assert!(message.contains(name) && message.contains("[3, 7]"), "{message}");
    }
    // As many numbers in another layout.
    let message = with("model.layers.0.bidirectional_linear.weight", &[16, 8]);
    assert!(message.contains("bidirectional_linear.weight") && message.contains("[16, 8]") && message.contains("[8, 16]"), "{message}");
}

#[test]
fn a_file_of_another_architecture_is_refused() {
    let cpu = B::new();
    let message = refused(&cpu, &fresh(&cpu, "listops"), &weights("mnist"));
    assert!(message.contains("encoder.0.weight") && message.contains("[8, 1]"), "{message}");
    let message = refused(&cpu, &fresh(&cpu, "mnist"), &weights("cifar"));
    assert!(message.contains("layers.0.bidirectional_linear1.weight") && message.contains("[4, 8]"), "{message}");
    // The file has a LayerNorm, the model a BatchNorm.
    let mut config = config("cifar", 64);
    config.block.norm = Some(NormKind::Batch);
    let message = refused(&cpu, &Model::new(&cpu, Key::new(0), &config).unwrap(), &weights("cifar"));
    assert!(message.contains("model.layers.0.norm.norm.running_mean is missing"), "{message}");
}

#[test]
fn a_type_that_is_not_read_is_named() {
    let cpu = B::new();
    let bytes = std::fs::read(weights("listops")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let eighths = vec![0; 18 * 8];
    let views = file.tensors().into_iter().map(|(name, view)| match name.as_str() {
        "encoder.0.weight" => (name, TensorView::new(Dtype::F8_E4M3, vec![18, 8], &eighths).unwrap()),
        _ => (name, view),
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eighths.safetensors");
    std::fs::write(&path, serialize(views, None).unwrap()).unwrap();
    let message = refused(&cpu, &fresh(&cpu, "listops"), &path);
    assert!(message.contains("encoder.0.weight") && message.contains("F8_E4M3") && message.contains("F32"), "{message}");
}

#[test]
fn a_broken_file_is_refused_wherever_it_is_cut() {
    let cpu = B::new();
    let model = fresh(&cpu, "listops");
    let bytes = std::fs::read(weights("listops")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.safetensors");
    for length in [0, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let message = refused(&cpu, &model, &path);
        assert!(message.contains("truncated"), "{length} bytes: {message}");
    }
    let message = refused(&cpu, &model, &folder.path().join("none.safetensors"));
    assert!(message.contains("could not read"), "{message}");
}

#[test]
fn other_uniform_numbers_give_other_logits() {
    // A check of the checks above: their agreement is no accident.
    let cpu = B::new();
    let (fixture, model) = (fixture("model_listops"), fresh(&cpu, "listops"));
    import(&cpu, &model, weights("listops")).unwrap();
    let tape = Tape::off(&cpu);
    let y = logits(&model, &Context::evaluation(&tape, Key::new(0)), &fixture, "train");
    assert!(crate::common::distance(&host(&cpu, y.value()), &numbers(&fixture["eval"]["logits"]["data"])) > 1e-3);
}
