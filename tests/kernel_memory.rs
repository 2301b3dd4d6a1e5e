//! The memory of a long DPLR kernel: never channels times states times length. Alone in its process, whose peak it reads.

#![cfg(target_os = "linux")]

#[path = "common/resident.rs"]
mod resident;

use pspikessm::autodiff::Tape;
use pspikessm::backend::{Cpu, Key};
use pspikessm::nn::ssm::SsmKernel;
use pspikessm::nn::{Context, Module, SsmConfig};

#[test]
fn a_long_kernel_and_its_gradient_stay_below_300_megabytes() {
    let (d_model, d_state, length) = (256, 64, 16_384);
    let cpu = Cpu::<f32>::new();
    let kernel = SsmKernel::new(&cpu, Key::new(0), &SsmConfig::new(d_model, d_state)).unwrap();
    kernel.prepare(&cpu, length).unwrap();
    let tape = Tape::new(&cpu);
    let k = kernel.forward(&Context::training(&tape, Key::new(0)), length).unwrap();
    assert_eq!(k.shape(), [2, d_model, length]);
    // The kernel itself stands for a gradient of ordinary size.
    let gradients = k.backward_from(k.value()).unwrap();
    for (name, param) in kernel.parameters().into_iter().filter(|(_, param)| param.is_trained()) {
        assert!(gradients.of_parameter(param.identity()).is_some(), "{name}");
    }
    let peak = resident::peak();
    println!("{:.0} MB", peak as f64 / 1e6);
    assert!(peak < 300_000_000, "{peak} bytes");
}
