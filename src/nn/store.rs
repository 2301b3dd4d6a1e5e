//! Named tensors in safetensors files: reading, writing atomically, and the parameters of a module.
//!
//! Files of this crate hold a checksum of their names, shapes, values and notes, a CRC-32 in hexadecimal digits: the entry `checksum` of
//! the JSON object that stands in the file's metadata under `pspikessm`. A file whose content does not fit its checksum is refused; one
//! without, as other programs write it, is read. A program that changes a file of this crate must drop that entry.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{SafeTensors, TensorView, serialize};
use serde_json::{Map, Value};

mod checksum;
mod foreign;
mod stored;

pub use stored::Stored;

use super::module::all_names;
use super::{Module, Param};
use crate::backend::{Backend, Tensor};
use crate::error::{Error, Result};
use crate::file::write_atomically;

/// The one note that this crate writes, a JSON object: safetensors writes several notes in random order, and the same model would not give
/// the same file.
const NOTE: &str = "pspikessm";
/// What stands in the note: the prefix of a module's names, where there is one.
pub(crate) const PREFIX: &str = "prefix";

/// The tensors and the notes of a safetensors file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Archive {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Stored>,
    /// Notes by name.
    pub notes: BTreeMap<String, String>,
}

impl Archive {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read; [`Error::Checkpoint`] where it is truncated, damaged or no safetensors file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&read_bytes(path)?, path)
    }

    /// The archive in a file's bytes; `path` is for the message.
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        let broken = |e| match foreign::kind(bytes) {
            Some(help) => Error::checkpoint(path, help),
            None => Error::checkpoint(path, format!("is truncated or not a safetensors file ({e}): take an earlier one")),
        };
        let file = SafeTensors::deserialize(bytes).map_err(broken)?;
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(broken)?;
        let stored = |view: TensorView<'_>| Stored::raw(view.dtype(), view.shape().into(), view.data().into());
        let mut archive = Archive {
            tensors: file.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect(),
            notes: metadata.metadata().clone().unwrap_or_default().into_iter().collect(),
        };
        match archive.unseal() {
            true => Ok(archive),
            false => Err(Error::checkpoint(path, "is damaged: its content does not fit its checksum; take an earlier one")),
        }
    }

    /// Takes the checksum out of the note; whether it fits, where there is one.
    fn unseal(&mut self) -> bool {
        let Some((note, sum)) = self.notes.get(NOTE).and_then(|note| checksum::unsealed(note)) else { return true };
        self.notes.insert(NOTE.into(), note);
        u32::from_str_radix(&sum, 16) == Ok(checksum::of(&self.tensors, &self.notes))
    }

    /// The notes with the checksum.
    fn sealed_notes(&self) -> HashMap<String, String> {
        let mut notes = self.notes.clone();
        let note = notes.entry(NOTE.into()).or_insert_with(|| "{}".into()).clone();
        let sum = checksum::of(&self.tensors, &notes);
        notes.extend(checksum::sealed(&note, sum).map(|note| (NOTE.into(), note)));
        notes.into_iter().collect()
    }

    /// Writes a file, with a checksum: a temporary one first, which takes the name once it lies on the disk in full.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let refused = |e| Error::checkpoint(path, format!("cannot be written as safetensors: {e}"));
        let views = self.tensors.iter().map(|(name, stored)| Ok((name.as_str(), stored.view()?)));
        let views: Vec<_> = views.collect::<Result<_, safetensors::SafeTensorError>>().map_err(refused)?;
        let bytes = serialize(views, Some(self.sealed_notes())).map_err(refused)?;
        write_atomically(path, |out| out.write_all(&bytes).map_err(|e| Error::io("write", path, e)))
    }

    /// How many numbers are in the file.
    pub(crate) fn values(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.shape.iter().product::<usize>()).sum()
    }

    /// The note that this crate wrote in the file; empty where there is none.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where it cannot be read; `path` is for the message.
    pub(crate) fn note(&self, path: &Path) -> Result<Map<String, Value>> {
        let Some(note) = self.notes.get(NOTE) else { return Ok(Map::new()) };
        serde_json::from_str(note).map_err(|_| Error::checkpoint(path, "is damaged: its note is unreadable; take an earlier one"))
    }

    /// Replaces the note of this crate.
    pub(crate) fn set_note(&mut self, note: Map<String, Value>) {
        self.notes.insert(NOTE.into(), Value::Object(note).to_string());
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// What the device answers.
    pub fn insert<B: Backend>(&mut self, backend: &B, name: impl Into<String>, tensor: &Tensor<B>) -> Result<()> {
        self.tensors.insert(name.into(), Stored::new(&backend.to_vec(tensor)?, tensor.shape()));
        Ok(())
    }

    /// Adds every parameter and buffer of a module once, under `prefix` and its name.
    ///
    /// # Errors
    /// What the device answers.
    pub fn insert_module<B: Backend>(&mut self, backend: &B, prefix: &str, module: &dyn Module<B>) -> Result<()> {
        module.parameters().iter().try_for_each(|(name, param)| self.insert(backend, format!("{prefix}{name}"), &param.value()))
    }

    /// The tensor called `name`, which must have `shape`; `path` is for the message.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names it where it is missing, has another shape, a type that is not read, or a value that is not finite.
    pub fn tensor<B: Backend>(&self, backend: &B, path: &Path, name: &str, shape: &[usize]) -> Result<Tensor<B>> {
        let fails = |what: String| Error::checkpoint(path, format!("does not belong to this architecture: {name} {what}"));
        let stored = self.tensors.get(name).ok_or_else(|| fails("is missing".into()))?;
        if stored.shape != shape {
            return Err(fails(format!("has shape {:?}, the model's has {shape:?}", stored.shape)));
        }
        backend.from_vec(stored.finite(name).map_err(|help| Error::checkpoint(path, help))?, shape)
    }

    /// Sets every parameter and buffer of a module from the tensors whose names begin with `prefix`; on an error nothing is set. A
    /// parameter with several names is read under the first; the file may hold it under the others too, with the same values.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the first parameter that differs: missing here, of another shape, not finite, or unknown to the
    /// module.
    pub fn load_module<B: Backend>(&self, backend: &B, path: &Path, prefix: &str, module: &dyn Module<B>) -> Result<()> {
        let mut values: Vec<(Param<B>, Tensor<B>)> = Vec::new();
        for (name, param) in module.parameters() {
            let value = self.tensor(backend, path, &format!("{prefix}{name}"), param.value().shape())?;
            values.push((param, value));
        }
        self.refuse_surplus(path, prefix, &all_names(module))?;
        values.into_iter().try_for_each(|(param, value)| param.set(value))
    }

    /// Refuses tensors under `prefix` that the module does not have, and different values for one parameter under two names.
    fn refuse_surplus<B: Backend>(&self, path: &Path, prefix: &str, names: &[(String, Param<B>)]) -> Result<()> {
        let refused = |what: String| Err(Error::checkpoint(path, format!("does not belong to this architecture: {what}")));
        for (name, stored) in self.tensors.iter().filter_map(|(name, stored)| Some((name.strip_prefix(prefix)?, stored))) {
            let Some((_, param)) = names.iter().find(|(own, _)| own == name) else {
                return refused(format!("the model has no {name}"));
            };
            let first = names.iter().find(|(_, other)| other.identity() == param.identity()).map_or(name, |(first, _)| first);
            if self.tensors.get(&format!("{prefix}{first}")) != Some(stored) {
                return refused(format!("{first} and {name} are one parameter, and the file holds different values"));
            }
        }
        Ok(())
    }

    /// What the names of the file's module begin with.
    pub(super) fn prefix(&self, path: &Path) -> Result<String> {
        Ok(self.note(path)?.get(PREFIX).and_then(Value::as_str).unwrap_or_default().into())
    }
}

/// All bytes of a checkpoint.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("read the checkpoint", path, e))
}

/// Writes all parameters and buffers of a module to a safetensors file, atomically. [`Model::save`](super::Model::save) also writes the
/// configuration.
///
/// # Errors
/// [`Error::Io`] where the folder cannot be written.
pub fn save<B: Backend>(backend: &B, module: &dyn Module<B>, path: impl AsRef<Path>) -> Result<()> {
    let mut archive = Archive::default();
    archive.set_note(Map::new());
    archive.insert_module(backend, "", module)?;
    archive.write(path)
}

/// Reads all parameters and buffers of a module from a file that [`save`], [`Model::save`](super::Model::save) or a training run wrote.
///
/// # Errors
/// [`Error::Io`], [`Error::Checkpoint`]: see [`Archive::read`] and [`Archive::load_module`]. On an error nothing is set.
pub fn load<B: Backend>(backend: &B, module: &dyn Module<B>, path: impl AsRef<Path>) -> Result<()> {
    let (archive, path) = (Archive::read(&path)?, path.as_ref());
    archive.load_module(backend, path, &archive.prefix(path)?, module)
}
