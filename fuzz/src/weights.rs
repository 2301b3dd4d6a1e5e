//! Weights from files: safetensors of this crate and of others, and PyTorch's own.

use std::sync::LazyLock;

use pspikessm::backend::{Cpu, Key};
use pspikessm::nn::{BlockConfig, Encoder, Model, ModelConfig, SsmConfig, official, store};
use pspikessm::train::{self, Origin};

use super::place;

type Tiny = Model<Cpu<f32>>;

/// A model as small as the fixtures of PyTorch's formats.
static TINY: LazyLock<Tiny> = LazyLock::new(|| {
    let block = BlockConfig::new(SsmConfig::new(2, 2).l_max(8));
    Model::new(&Cpu::new(), Key::new(0), &ModelConfig::new(Encoder::Values(1), block, 3).layers(1)).expect("a tiny model")
});

/// Every way into a program, of one file.
fn all_ways(path: &std::path::Path) {
    let cpu = Cpu::<f32>::new();
    let _ = store::load(&cpu, &*TINY, path);
    let _ = official::import(&cpu, &TINY, path);
    let _ = train::load_weights(&cpu, &TINY, path);
    let _ = Origin::read(path);
    if let Ok(model) = Tiny::open(&cpu, path) {
        let again = path.with_extension("again");
        model.save(&cpu, &again).expect("what was opened can be saved");
        Tiny::open(&cpu, &again).expect("what was saved can be opened");
    }
}

pub fn weights(bytes: &[u8]) {
    all_ways(&place("weights.safetensors", bytes).1);
}

pub fn pytorch(bytes: &[u8]) {
    all_ways(&place("weights.pt", bytes).1);
}

/// The bytes are the pickle; two tensors' bytes lie beside it.
pub fn pickle(bytes: &[u8]) {
    let zip = zip(&[("archive/data.pkl", bytes), ("archive/data/0", &[0; 64]), ("archive/data/1", &[63; 32])]);
    all_ways(&place("pickle.pt", &zip).1);
}

/// A zip archive of files that are not compressed.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in files {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let at = out.len() as u32;
        // From the version that is needed to the length of the extra field.
        let mut common = [20u16, 0, 0, 0, 0].map(u16::to_le_bytes).concat();
        common.extend([crc.sum(), data.len() as u32, data.len() as u32].map(u32::to_le_bytes).concat());
        common.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
        out.extend([b"PK\x03\x04", &common[..], name.as_bytes(), data].concat());
        // Comment, disk, attributes inside; attributes outside and where the file begins.
        let rest = [[0; 10].as_slice(), &at.to_le_bytes()].concat();
        directory.extend([b"PK\x01\x02\x14\x00", &common[..], &rest, name.as_bytes()].concat());
    }
    let (count, at) = (files.len() as u16, out.len() as u32);
    let end = [&[0; 4], [count, count].map(u16::to_le_bytes).concat().as_slice()].concat();
    let sizes = [directory.len() as u32, at].map(u32::to_le_bytes).concat();
    [&out[..], &directory, b"PK\x05\x06", &end, &sizes, &[0; 2]].concat()
}
