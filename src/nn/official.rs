//! Import of the official code's checkpoints by their names, as PyTorch saves them or converted to safetensors.
//!
//! A file is told by its content, not by its name. Of PyTorch's files ([`torch.save`], Lightning's `.ckpt`) nothing is run: the pickle in
//! them is read as data, and only tensors are made of it. The weights may be the whole or stand in it under `state_dict`,
//! `model_state_dict`, `model`, `module` or `net`; whatever stands beside them is passed over. This needs the feature `data`.
//!
//! Names are read without what wrappers put before them: `module.` and `_orig_mod.` anywhere, `model.` before all. Values may be f16,
//! bf16, f32, f64 and, for B, C and P, complex.
//!
//! [`torch.save`]: https://docs.pytorch.org/docs/stable/generated/torch.save.html

use std::collections::BTreeMap;
use std::path::Path;

#[cfg(feature = "data")]
mod pickle;
#[cfg(feature = "data")]
mod pytorch;

use super::store::{Archive, Stored, read_bytes};
use super::{Model, Module, Param};
use crate::backend::{Backend, Real, Tensor};
use crate::error::{Error, Result};

/// What an import left out knowingly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Tensors that official checkpoints hold but the official code never uses.
    pub skipped: Vec<String>,
}

/// Sets a model's parameters from an official checkpoint: a file of PyTorch or safetensors.
///
/// The file holds no configuration: `model` must be made with the official one. Names: those of the official `state_dict`.
///
/// # Errors
/// [`Error::Io`] and [`Error::Checkpoint`]: a file of another kind or damaged, a tensor that is missing, of another size, not finite, or
/// unknown. On an error nothing is set.
pub fn import<B: Backend>(backend: &B, model: &Model<B>, path: impl AsRef<Path>) -> Result<Imported> {
    let path = path.as_ref();
    let tensors = unwrapped(read(path)?.tensors).map_err(|help| Error::checkpoint(path, help))?;
    let bidirectional = model.config().block.bidirectional;
    let foreign = |what: String| Error::checkpoint(path, format!("does not belong to this architecture: {what}"));
    let mut used = Vec::new();
    let mut values: Vec<(Param<B>, Tensor<B>)> = Vec::new();
    for (name, param) in model.parameters() {
        let official = official_name(&name, bidirectional);
        let stored = tensors.get(&official).ok_or_else(|| foreign(format!("{official} is missing (here {name})")))?;
        let (shape, whole) = (param.value().shape().to_vec(), stored.finite(&official).map_err(|help| Error::checkpoint(path, help))?);
        let differs = || foreign(format!("{official} has shape {:?}, this model wants {shape:?} (here {name})", stored.shape));
        let arranged = arranged::<B::Elem>(&name, whole, stored, &shape).ok_or_else(differs)?;
        values.push((param, backend.from_vec(arranged, &shape)?));
        used.push(official);
    }
    let (skipped, unknown): (Vec<String>, Vec<String>) =
        tensors.keys().filter(|name| !used.contains(name)).cloned().partition(|name| is_unused(name, bidirectional));
    if let Some(name) = unknown.first() {
        return Err(foreign(format!("it holds {name}, which the model does not have")));
    }
    values.into_iter().try_for_each(|(param, value)| param.set(value))?;
    Ok(Imported { skipped })
}

/// The tensors of a file of either kind.
fn read(path: &Path) -> Result<Archive> {
    let bytes = read_bytes(path)?;
    if !bytes.starts_with(b"PK\x03\x04") {
        return Archive::parse(&bytes, path);
    }
    #[cfg(feature = "data")]
    return pytorch::read(&bytes, path);
    #[cfg(not(feature = "data"))]
    Err(Error::checkpoint(path, "is a zip archive, as of PyTorch, and this build does not read these: build with feature data"))
}

/// The tensors by the names that they had before they were wrapped.
fn unwrapped(tensors: BTreeMap<String, Stored>) -> Result<BTreeMap<String, Stored>, String> {
    const FIRST: &str = "encoder.0.weight";
    let bare = |name: &str| name.split('.').filter(|part| !["module", "_orig_mod"].contains(part)).collect::<Vec<_>>().join(".");
    let mut named: Vec<(String, Stored)> = tensors.into_iter().map(|(name, stored)| (bare(&name), stored)).collect();
    // The official names of the blocks begin with "model." themselves: those of the encoder show how often it stands before all.
    let wraps = named.iter().filter_map(|(name, _)| name.strip_suffix(FIRST)).find(|before| before.split("model.").all(str::is_empty));
    let wraps = wraps.unwrap_or_default().to_owned();
    for (name, _) in &mut named {
        *name = name.strip_prefix(&wraps).unwrap_or(name).to_owned();
    }
    let mut found = BTreeMap::new();
    for (name, stored) in named {
        if found.insert(name.clone(), stored).is_some() {
            return Err(format!("holds {name} twice, under different prefixes: keep one"));
        }
    }
    Ok(found)
}

/// The official name of one of the model's parameters.
fn official_name(name: &str, bidirectional: bool) -> String {
    if let Some(rest) = name.strip_prefix("encoder.") {
        return format!("encoder.0.{rest}");
    }
    if let Some(rest) = name.strip_prefix("norm.") {
        return format!("model.norm.norm.{rest}");
    }
    if let Some(rest) = name.strip_prefix("decoder.0.") {
        return format!("decoder.0.retrieval.classifier.0.{rest}");
    }
    if let Some(rest) = name.strip_prefix("decoder.1.") {
        return format!("decoder.0.retrieval.classifier.2.{rest}");
    }
    if let Some(rest) = name.strip_prefix("decoder.") {
        return format!("decoder.0.output_transform.{rest}");
    }
    let (layer, part) = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')).unwrap_or(("", name));
    format!("model.layers.{layer}.{}", official_part(part, bidirectional))
}

/// The official name of a parameter within a block.
fn official_part(part: &str, bidirectional: bool) -> String {
    const RENAMED: [(&str, &str); 6] = [
        ("forward.sampler.scale", "inp_a"),
        ("forward.sampler.shift", "inp_b"),
        ("reverse.sampler.scale", "inp2_a"),
        ("reverse.sampler.shift", "inp2_b"),
        ("output.scale", "out_a"),
        ("output.shift", "out_b"),
    ];
    if let Some((_, official)) = RENAMED.iter().find(|(own, _)| *own == part) {
        return (*official).into();
    }
    let mixer = if bidirectional { "bidirectional_linear." } else { "bidirectional_linear1." };
    let prefixes = [("forward.ssm.", "layer.layer."), ("reverse.ssm.", "reverse_layer.layer."), ("mixer.", mixer), ("norm.", "norm.norm.")];
    let renamed = prefixes.iter().find_map(|(own, official)| Some(format!("{official}{}", part.strip_prefix(own)?)));
    renamed.unwrap_or_else(|| part.into())
}

/// Whether the official code stores this tensor but computes nothing with it.
fn is_unused(name: &str, bidirectional: bool) -> bool {
    let in_block = |part: &str| name.contains(&format!(".{part}"));
    let of_variant = if bidirectional {
        in_block("bidirectional_linear1.") || in_block("bidirectional_linear2.")
    } else {
        in_block("inp2_") || in_block("bidirectional_linear2.")
    };
    of_variant || in_block("output_linear.") || name.ends_with(".num_batches_tracked")
}

/// The stored values in this crate's layout: singleton axes dropped, and the trailing (re, im) axis of B, C and P moved to the front.
/// `None` where the stored shape is another one.
fn arranged<E: Real>(name: &str, values: Vec<E>, stored: &Stored, shape: &[usize]) -> Option<Vec<E>> {
    let complex = [".B", ".C", ".P"].iter().any(|end| name.ends_with(end)) && name.contains(".kernel.");
    let (wanted, values) = if complex {
        let planes = [0, 1].map(|part| values.iter().skip(part).step_by(2).copied().collect::<Vec<_>>());
        ([&shape[1..], &[2]].concat(), planes.concat())
    } else {
        (shape.to_vec(), values)
    };
    let essential = |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
    (essential(&stored.shape) == essential(&wanted)).then_some(values)
}
