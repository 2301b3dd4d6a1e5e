//! A model in a file of its own: weights and buffers as safetensors, the configuration in its note.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Model, ModelConfig};
use crate::backend::{Backend, Key};
use crate::error::{Error, Result};
use crate::nn::Block;
use crate::nn::store::{Archive, PREFIX};

/// What stands in the note: the configuration.
const CONFIG: &str = "model";

impl ModelConfig {
    /// Says in a file's note what its model is, and behind which prefix its names stand.
    pub(crate) fn describe(&self, note: &mut Map<String, Value>, prefix: &str) -> Result<()> {
        let refused = |error| Error::value("ModelConfig", format!("cannot be written as JSON: {error}"));
        note.insert(CONFIG.into(), serde_json::to_value(self).map_err(refused)?);
        note.insert(PREFIX.into(), prefix.into());
        Ok(())
    }
}

impl<B: Backend> Model<B> {
    /// Writes the model, configuration, weights and buffers, to a safetensors file: whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written; [`Error::Checkpoint`] where the model has a surrogate of one's own, which is a function and
    /// cannot be stored.
    pub fn save(&self, backend: &B, path: impl AsRef<Path>) -> Result<()> {
        if self.blocks.iter().any(Block::has_custom_surrogate) {
            let help = "cannot hold the model's custom surrogate, which is a function: save the weights alone with nn::store::save, and read \
                        them with nn::store::load into a model that is given the surrogate again";
            return Err(Error::checkpoint(path, help));
        }
        let (mut archive, mut note) = (Archive::default(), Map::new());
        self.config.describe(&mut note, "")?;
        archive.set_note(note);
        archive.insert_module(backend, "", self)?;
        archive.write(path)
    }

    /// The model of a file that [`Model::save`] wrote, or of a training run's checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read; [`Error::Checkpoint`] where it is broken, or holds no configuration: then it says how its
    /// weights are loaded.
    pub fn open(backend: &B, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::of_archive(backend, &Archive::read(path)?, path)
    }

    /// The same of a file's bytes, where there are no files.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] as [`Model::open`].
    pub fn from_bytes(backend: &B, bytes: &[u8]) -> Result<Self> {
        let place = Path::new("the bytes of a model");
        Self::of_archive(backend, &Archive::parse(bytes, place)?, place)
    }

    /// The model of an archive; `path` is for the message.
    fn of_archive(backend: &B, archive: &Archive, path: &Path) -> Result<Self> {
        let Some(config) = archive.note(path)?.remove(CONFIG) else {
            let help = "holds no configuration: make the model with Model::new, and set its weights with nn::store::load, or with \
                        nn::official::import where the file is the official code's";
            return Err(Error::checkpoint(path, help));
        };
        let refused = |error: &dyn std::fmt::Display| Error::checkpoint(path, format!("has a configuration that cannot be used: {error}"));
        let config: ModelConfig = serde_json::from_value(config).map_err(|error| refused(&error))?;
        config.check().map_err(|error| refused(&error))?;
        // Before a damaged size is believed, and memory taken for it.
        if config.least_values() > archive.values() as f64 {
            return Err(refused(&"it describes a larger model than the file holds; take an earlier one"));
        }
        let model = Model::new(backend, Key::new(0), &config).map_err(|error| refused(&error))?;
        archive.load_module(backend, path, &archive.prefix(path)?, &model)?;
        Ok(model)
    }
}
