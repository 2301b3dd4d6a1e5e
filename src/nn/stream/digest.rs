//! The digest of a model: which configuration and which weights a stream's state belongs to.

use crate::backend::{Backend, Real};
use crate::error::{Error, Result};
use crate::nn::{Model, Module};

/// FNV-1a, 64 bits, of the configuration and of every parameter and buffer with its name and shape.
pub fn of<B: Backend>(backend: &B, model: &Model<B>) -> Result<u64> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        // The length keeps neighbours apart.
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let config = serde_json::to_string(model.config());
    add(config.map_err(|error| Error::value("Model::stream", format!("the configuration cannot be written as JSON: {error}")))?.as_bytes());
    for (name, param) in model.parameters() {
        let value = param.value();
        add(format!("{name} {:?}", value.shape()).as_bytes());
        add(&B::Elem::bytes_of(&backend.to_vec(&value)?));
    }
    Ok(hash)
}
