//! Weights that come in from files: PyTorch's own forms of them, values that are no numbers, damage of any byte.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{fixture_path, host, says};
use pspikessm::Result;
use pspikessm::backend::{Cpu, Key};
use pspikessm::nn::official::import;
use pspikessm::nn::store::{self, Archive, Stored};
use pspikessm::nn::{BlockConfig, Encoder, Model, ModelConfig, Module, SsmConfig};

type B = Cpu<f32>;

/// The model of the files in `fixtures/pytorch`.
fn tiny() -> Model<B> {
    let mut block = BlockConfig::new(SsmConfig::new(2, 2)).bidirectional(false).residual(false);
    block.norm = None;
    Model::new(&B::new(), Key::new(3), &ModelConfig::new(Encoder::Values(1), block, 3).layers(1)).unwrap()
}

fn file(name: &str) -> PathBuf {
    fixture_path(&format!("pytorch/{name}"))
}

fn bits(model: &Model<B>) -> Vec<(String, Vec<u64>)> {
    let of = |(name, param): (String, pspikessm::nn::Param<B>)| {
        (name, host(&B::new(), &param.value()).into_iter().map(f64::to_bits).collect::<Vec<_>>())
    };
    model.parameters().into_iter().map(of).collect()
}

/// What an import makes of the tiny model.
fn imported(path: &Path) -> Result<Vec<(String, Vec<u64>)>> {
    let model = tiny();
    import(&B::new(), &model, path).map(|_| bits(&model))
}

/// What an import of bytes says; the model keeps what it had, and the message is one line.
#[track_caller]
fn refusal(bytes: &[u8], parts: &[&str]) {
    let (folder, model) = (tempfile::tempdir().unwrap(), tiny());
    let (path, before) = (folder.path().join("given.pt"), bits(&model));
    fs::write(&path, bytes).unwrap();
    let message = import(&B::new(), &model, &path).expect_err("accepted").to_string();
    assert!(bits(&model) == before, "a refused file changed the model");
    for part in ["given.pt"].iter().chain(parts) {
        assert!(message.contains(part) && !message.contains('\n'), "{part:?} is not in {message:?}");
    }
}

// ---------------------------------------------------------------- PyTorch

#[test]
fn every_form_of_one_set_of_weights_imports_to_the_same_bits() {
    let plain = imported(&file("plain.safetensors")).unwrap();
    assert_ne!(plain, bits(&tiny()));
    for form in ["plain.pt", "lightning.ckpt", "wrapped.pt", "types.pt", "complex.safetensors"] {
        assert_eq!(imported(&file(form)).unwrap(), plain, "{form}");
    }
    // By the content, whatever the name.
    let folder = tempfile::tempdir().unwrap();
    fs::copy(file("plain.pt"), folder.path().join("pytorch_model.bin")).unwrap();
    assert_eq!(imported(&folder.path().join("pytorch_model.bin")).unwrap(), plain);
}

#[test]
fn objects_in_a_checkpoint_are_named_and_never_made() {
    refusal(&fs::read(file("hostile.pt")).unwrap(), &["encoder.0.weight", "posix.system", "state_dict()"]);
    refusal(&fs::read(file("whole.pt")).unwrap(), &["torch.nn.modules.linear.Linear", "would run code", "state_dict()"]);
    for folder in [Path::new("."), &fixture_path("pytorch")] {
        assert!(!folder.join("hostile-code-was-run").exists());
    }
}

#[test]
fn files_of_other_kinds_are_called_by_their_names() {
    refusal(&fs::read(file("legacy.pt")).unwrap(), &["before PyTorch 1.6", "torch.save(torch.load("]);
    refusal(b"\x80\x04\x95\x0a", &["Python pickle", "torch.save"]);
    refusal(br#"{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}"#, &["index", "several files", "save_file("]);
    refusal(br#"{"d_model": 4}"#, &["JSON", "no weights"]);
    refusal(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", &["Git LFS", "git lfs pull"]);
    refusal(b"<!DOCTYPE html><html></html>", &["web page"]);
    refusal(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00", &["gzip", "unpack it"]);
    refusal(b"\x89HDF\r\n\x1a\n", &["HDF5", "safetensors"]);
    refusal(b"\xfd7zXZ\0", &["xz", "unpack it"]);
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    refusal(&tar, &["tar archive"]);
    refusal(b"PK\x03\x04 and no more", &["truncated or no zip archive"]);
    refusal(b"what is this?", &["truncated or not a safetensors file"]);
    // Where no weights of the official code are wanted, the way to them is named.
    let message = store::load(&B::new(), &tiny(), file("plain.pt")).unwrap_err().to_string();
    assert!(message.contains("PyTorch") && message.contains("nn::official::import"), "{message}");
}

#[test]
fn what_wrappers_put_before_names_is_taken_off() {
    let plain = Archive::read(file("plain.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("renamed.safetensors");
    let renamed = |rename: &dyn Fn(&str) -> String| {
        let tensors = plain.tensors.iter().map(|(name, stored)| (rename(name), stored.clone())).collect();
        Archive { tensors, ..Archive::default() }.write(&path).unwrap();
        imported(&path)
    };
    let expected = imported(&file("plain.safetensors")).unwrap();
    for prefix in ["module.", "model.", "_orig_mod.", "module.model.", "model._orig_mod.", "model.model.module."] {
        assert_eq!(renamed(&|name| format!("{prefix}{name}")).unwrap(), expected, "{prefix}");
    }
    // A part of the model alone was compiled.
    assert_eq!(renamed(&|name| name.replace("model.layers", "model._orig_mod.layers")).unwrap(), expected);
    let message = renamed(&|name| format!("student.{name}")).unwrap_err().to_string();
    assert!(message.contains("encoder.0.weight is missing"), "{message}");
    let mut twice = plain.clone();
    twice.tensors.insert("module.encoder.0.bias".into(), twice.tensors["encoder.0.bias"].clone());
    twice.write(&path).unwrap();
    let message = imported(&path).unwrap_err().to_string();
    assert!(message.contains("encoder.0.bias twice"), "{message}");
}

#[test]
fn a_pytorch_file_with_any_byte_changed_is_refused_or_the_same() {
    let (whole, expected) = (fs::read(file("plain.pt")).unwrap(), imported(&file("plain.pt")).unwrap());
    refused_or_same(&whole, |path| imported(path).ok().is_none_or(|found| found == expected));
}

// ---------------------------------------------------------------- damage

/// Flips one bit of every byte, and all of them; `holds` says of the file whether that did no harm.
fn refused_or_same(whole: &[u8], holds: impl Fn(&Path) -> bool) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flipped");
    let mut bytes = whole.to_vec();
    for at in 0..bytes.len() {
        for flip in [1 << (at % 8), 0xff] {
            bytes[at] ^= flip;
            fs::write(&path, &bytes).unwrap();
            assert!(holds(&path), "byte {at} changed by {flip:#04x} was read as something else");
            bytes[at] ^= flip;
        }
    }
}

#[test]
fn a_model_file_with_any_byte_changed_is_refused_or_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (cpu, model, path) = (B::new(), tiny(), folder.path().join("model.safetensors"));
    model.save(&cpu, &path).unwrap();
    let (expected, config) = (bits(&model), model.config());
    refused_or_same(&fs::read(&path).unwrap(), |path| {
        Model::open(&cpu, path).ok().is_none_or(|found| found.config() == config && bits(&found) == expected)
    });
}

#[test]
fn a_changed_value_shape_name_or_note_does_not_fit_the_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let (cpu, model, path) = (B::new(), tiny(), folder.path().join("model.safetensors"));
    model.save(&cpu, &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let changed = |from: &[u8], to: &[u8]| {
        let at = whole.windows(from.len()).position(|window| window == from).expect("it is in the file");
        let mut bytes = whole.clone();
        bytes[at..at + from.len()].copy_from_slice(to);
        fs::write(&path, bytes).unwrap();
        Model::open(&cpu, &path).unwrap_err().to_string()
    };
    for (from, to) in [
        (&b"decoder.weight"[..], &b"decoder.height"[..]),
        (b"[2,1]", b"[1,2]"),
        (b"\\\"residual\\\":false", b"\\\"residual\\\":true "),
        (&whole[whole.len() - 4..], b"\0\0\0\0"),
    ] {
        let message = changed(from, to);
        assert!(message.contains("does not fit its checksum"), "{message}");
    }
    // Written through an archive it fits again.
    fs::write(&path, &whole).unwrap();
    let mut archive = Archive::read(&path).unwrap();
    archive.tensors.insert("decoder.bias".into(), Stored::new(&[1f32, 2.0, 3.0], &[3]));
    archive.write(&path).unwrap();
    Model::open(&cpu, &path).unwrap();
}

// ---------------------------------------------------------------- values that are no numbers

#[test]
fn a_weight_that_is_not_finite_is_refused_by_name_wherever_it_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let (cpu, model, path) = (B::new(), tiny(), folder.path().join("model.safetensors"));
    for (bad, called) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf"), (1e300, "too large for f32")] {
        let mut archive = Archive::read(file("plain.safetensors")).unwrap();
        archive.tensors.insert("model.layers.0.inp_a".into(), Stored::new(&[0.5, bad], &[2]));
        archive.write(&path).unwrap();
        says(import(&cpu, &model, &path), &["model.layers.0.inp_a", called]);
        model.save(&cpu, &path).unwrap();
        let mut archive = Archive::read(&path).unwrap();
        archive.tensors.insert("decoder.bias".into(), Stored::new(&[0.5, bad, 1.0], &[3]));
        archive.write(&path).unwrap();
        says(Model::open(&cpu, &path).map(drop), &["decoder.bias", called]);
        says(store::load(&cpu, &model, &path), &["decoder.bias", called]);
    }
}
