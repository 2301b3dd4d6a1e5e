//! The memory of a training step: one tensor a layer is remembered, not what its norm makes of it as well. Alone in its process, whose peak it reads.

#![cfg(target_os = "linux")]

#[path = "common/resident.rs"]
mod resident;

use pspikessm::autodiff::Tape;
use pspikessm::backend::{Cpu, Key, Random};
use pspikessm::nn::{Block, BlockConfig, Context, Module, NormKind, SsmConfig};

#[test]
fn eight_layers_remember_eight_tensors() {
    // Every thread has scratch of its own.
    rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap().install(take_a_step);
}

fn take_a_step() {
    const LAYERS: u64 = 8;
    let (batch, d_model, length) = (64, 64, 1024);
    let cpu = Cpu::<f32>::new();
    let tensor = 4 * (batch * d_model * length) as u64;
    let before = resident::peak();
    for kind in [NormKind::Batch, NormKind::Layer] {
        let config = BlockConfig::new(SsmConfig::new(d_model, 4)).norm(kind);
        let blocks: Vec<_> = (0..LAYERS).map(|layer| Block::new(&cpu, Key::new(layer), &config).unwrap()).collect();
        let tape = Tape::new(&cpu);
        let mut x = tape.leaf(&cpu.uniform(Key::new(9), &[batch, d_model, length]).unwrap());
        for (layer, block) in (20..).zip(&blocks) {
            block.prepare(&cpu, length).unwrap();
            x = block.forward(&Context::training(&tape, Key::new(layer)), &x, None).unwrap();
        }
        let gradients = x.sum().unwrap().backward().unwrap();
        assert_eq!(gradients.len(), 1 + blocks.iter().map(trained).sum::<usize>());
    }
    let tensors = (resident::peak() - before) as f64 / tensor as f64;
    println!("{tensors:.1} tensors");
    // The input, one a layer, the gradients of two branches and of the residual, the output; and kernels, spikes as bits, the program itself.
    assert!(tensors < LAYERS as f64 + 9.0, "{tensors:.1} tensors");
}

fn trained(block: &Block<Cpu<f32>>) -> usize {
    block.parameters().into_iter().filter(|(_, param)| param.is_trained()).count()
}
