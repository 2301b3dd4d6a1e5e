//! Import of the official code's checkpoints, converted to safetensors, by their names.

use std::path::Path;

use super::store::{Archive, Stored};
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

/// Sets a model's parameters from an official checkpoint in a safetensors file.
///
/// The file holds no configuration: `model` must be made with the official one. Names: those of the official `state_dict`.
///
/// # Errors
/// [`Error::Io`] and [`Error::Checkpoint`]: a file that is not safetensors, a tensor that is missing, of another size, or unknown.
pub fn import<B: Backend>(backend: &B, model: &Model<B>, path: impl AsRef<Path>) -> Result<Imported> {
    let path = path.as_ref();
    let archive = Archive::read(path)?;
    let bidirectional = model.config().block.bidirectional;
    let mut used = Vec::new();
    let mut values: Vec<(Param<B>, Tensor<B>)> = Vec::new();
    for (name, param) in model.parameters() {
        let official = official_name(&name, bidirectional);
        let Some(stored) = archive.tensors.get(&official) else {
            return Err(Error::checkpoint(path, format!("does not belong to this architecture: {official} is missing (here {name})")));
        };
        let value = converted(backend, &name, stored, param.value().shape())
            .map_err(|help| Error::checkpoint(path, format!("does not belong to this architecture: {official} {help} (here {name})")))?;
        values.push((param, value));
        used.push(official);
    }
    let (skipped, unknown): (Vec<String>, Vec<String>) =
        archive.tensors.keys().filter(|name| !used.contains(name)).cloned().partition(|name| is_unused(name, bidirectional));
    if let Some(name) = unknown.first() {
        return Err(Error::checkpoint(
            path,
            format!("does not belong to this architecture: it holds {name}, which the model does not have"),
        ));
    }
    values.into_iter().try_for_each(|(param, value)| param.set(value))?;
    Ok(Imported { skipped })
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
fn converted<B: Backend>(backend: &B, name: &str, stored: &Stored, shape: &[usize]) -> std::result::Result<Tensor<B>, String> {
    let values = stored.to_f64().ok_or("has a type that is not read; f32 and f64 are")?;
    let differs = || format!("has shape {:?}, this model wants {shape:?}", stored.shape);
    let complex = [".B", ".C", ".P"].iter().any(|end| name.ends_with(end)) && name.contains(".kernel.");
    let (wanted, values) = if complex {
        let planes = [0, 1].map(|part| values.iter().skip(part).step_by(2).copied().collect::<Vec<_>>());
        ([&shape[1..], &[2]].concat(), planes.concat())
    } else {
        (shape.to_vec(), values)
    };
    let essential = |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
    if essential(&stored.shape) != essential(&wanted) {
        return Err(differs());
    }
    backend.from_vec(values.into_iter().map(B::Elem::of).collect(), shape).map_err(|_| differs())
}
