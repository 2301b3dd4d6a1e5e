//! Named tensors in safetensors files: reading, writing atomically, and the parameters of a module.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};

use super::{Module, Param};
use crate::backend::{Backend, Real, Tensor};
use crate::error::{Error, Result};
use crate::file::write_atomically;

/// Values of one tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The length of every axis.
    pub shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl Stored {
    /// Stores values of a type as they are.
    pub fn new<E: Real>(values: &[E], shape: &[usize]) -> Self {
        let dtype = if E::NAME == "f32" { Dtype::F32 } else { Dtype::F64 };
        Stored { shape: shape.into(), dtype, bytes: E::bytes_of(values) }
    }

    /// The values in f64; `None` for a type that is neither f32, f64 nor i64.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        match self.dtype {
            Dtype::F32 => Some(f32::values_of(&self.bytes).into_iter().map(f64::from).collect()),
            Dtype::F64 => Some(f64::values_of(&self.bytes)),
            Dtype::I64 => Some(self.bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()),
            _ => None,
        }
    }
}

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
    /// [`Error::Io`] where it cannot be read; [`Error::Checkpoint`] where it is truncated or no safetensors file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::io("read the checkpoint", path, e))?;
        let broken = |e| Error::checkpoint(path, format!("is truncated or not a safetensors file ({e}): take an earlier one"));
        let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
        let stored = |view: TensorView<'_>| Stored { shape: view.shape().into(), dtype: view.dtype(), bytes: view.data().into() };
        Ok(Archive {
            tensors: file.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect(),
            notes: metadata.metadata().clone().unwrap_or_default().into_iter().collect(),
        })
    }

    /// Writes a file: a temporary one first, which takes the name once it lies on the disk in full.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let refused = |e| Error::checkpoint(path, format!("cannot be written as safetensors: {e}"));
        let views = self.tensors.iter().map(|(name, t)| Ok((name.as_str(), TensorView::new(t.dtype, t.shape.clone(), &t.bytes)?)));
        let views: Vec<_> = views.collect::<Result<_, safetensors::SafeTensorError>>().map_err(refused)?;
        let notes: HashMap<String, String> = self.notes.clone().into_iter().collect();
        let bytes = serialize(views, Some(notes)).map_err(refused)?;
        write_atomically(path, |out| out.write_all(&bytes).map_err(|e| Error::io("write", path, e)))
    }

    /// Adds a tensor.
    pub fn insert<B: Backend>(&mut self, backend: &B, name: impl Into<String>, tensor: &Tensor<B>) -> Result<()> {
        self.tensors.insert(name.into(), Stored::new(&backend.to_vec(tensor)?, tensor.shape()));
        Ok(())
    }

    /// Adds every parameter and buffer of a module, each name behind `prefix`.
    pub fn insert_module<B: Backend>(&mut self, backend: &B, prefix: &str, module: &dyn Module<B>) -> Result<()> {
        module.parameters().iter().try_for_each(|(name, param)| self.insert(backend, format!("{prefix}{name}"), &param.value()))
    }

    /// The tensor called `name`, which must have `shape`; `path` is for the message.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names it where it is missing, has another shape or a type that is not read.
    pub fn tensor<B: Backend>(&self, backend: &B, path: &Path, name: &str, shape: &[usize]) -> Result<Tensor<B>> {
        let fails = |what: String| Error::checkpoint(path, format!("does not belong to this architecture: {name} {what}"));
        let stored = self.tensors.get(name).ok_or_else(|| fails("is missing".into()))?;
        if stored.shape != shape {
            return Err(fails(format!("has shape {:?}, the model's has {shape:?}", stored.shape)));
        }
        let values = stored.to_f64().ok_or_else(|| fails(format!("has the type {:?}; f32 and f64 are read", stored.dtype)))?;
        backend.from_vec(values.into_iter().map(B::Elem::of).collect(), shape)
    }

    /// Sets every parameter and buffer of a module from the tensors behind `prefix`; on an error nothing is set.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names the first parameter that differs: missing here, of another shape, or unknown to the module.
    pub fn load_module<B: Backend>(&self, backend: &B, path: &Path, prefix: &str, module: &dyn Module<B>) -> Result<()> {
        let parameters = module.parameters();
        let mut values: Vec<(&Param<B>, Tensor<B>)> = Vec::with_capacity(parameters.len());
        for (name, param) in &parameters {
            values.push((param, self.tensor(backend, path, &format!("{prefix}{name}"), param.value().shape())?));
        }
        let known = |name: &str| parameters.iter().any(|(own, _)| own == name);
        if let Some(name) = self.tensors.keys().filter_map(|name| name.strip_prefix(prefix)).find(|name| !known(name)) {
            return Err(Error::checkpoint(path, format!("does not belong to this architecture: the model has no {name}")));
        }
        values.into_iter().try_for_each(|(param, value)| param.set(value))
    }
}

/// Writes all parameters and buffers of a module to a safetensors file, atomically.
///
/// # Errors
/// [`Error::Io`] where the folder cannot be written.
pub fn save<B: Backend>(backend: &B, module: &dyn Module<B>, path: impl AsRef<Path>) -> Result<()> {
    let mut archive = Archive::default();
    archive.notes.insert("format".into(), "pspikessm".into());
    archive.insert_module(backend, "", module)?;
    archive.write(path)
}

/// Reads all parameters and buffers of a module from a file that [`save`] wrote.
///
/// # Errors
/// [`Error::Io`], [`Error::Checkpoint`]: see [`Archive::read`] and [`Archive::load_module`].
pub fn load<B: Backend>(backend: &B, module: &dyn Module<B>, path: impl AsRef<Path>) -> Result<()> {
    Archive::read(&path)?.load_module(backend, path.as_ref(), "", module)
}
