//! Puts every backend through the conformance suite: a new backend is one more line here.

use crate::elementary::Elementary;
use crate::suite::{self, harness::Tolerance};
use pspikessm::backend::Cpu;

conformance! { cpu_f64: Cpu::<f64>::new(), tolerance: Tolerance { elementwise: 2e-15, sums: 2e-14, kernels: 1e-12 } }
conformance! { cpu_f32: Cpu::<f32>::new(), tolerance: Tolerance { elementwise: 5e-7, sums: 2e-6, kernels: 5e-6 } }

// The defaults of the traits, which a new backend starts with.
conformance! { composed_f64: Elementary(Cpu::<f64>::new()), tolerance: Tolerance { elementwise: 2e-15, sums: 2e-14, kernels: 1e-12 } }

#[cfg(feature = "wgpu")]
conformance! { wgpu: pspikessm::backend::Wgpu::new().expect("a device"), tolerance: Tolerance { elementwise: 2e-6, sums: 1e-5, kernels: 1e-5 } }

#[cfg(feature = "cuda")]
conformance! {
    #[ignore = "needs an NVIDIA GPU: run by benches/gpu.sh"]
    cuda_f32: pspikessm::backend::Cuda::<f32>::new().expect("a device"),
    tolerance: Tolerance { elementwise: 2e-6, sums: 1e-5, kernels: 1e-5 }
}
// As the CPU's: CUDA states its functions of f64 to be within two units in the last place, 4.4e-16.
#[cfg(feature = "cuda")]
conformance! {
    #[ignore = "needs an NVIDIA GPU: run by benches/gpu.sh"]
    cuda_f64: pspikessm::backend::Cuda::<f64>::new().expect("a device"),
    tolerance: Tolerance { elementwise: 2e-15, sums: 2e-14, kernels: 1e-12 }
}

/// Transforms of more than eight points over the device's memory, as Path-X needs them on a small device, and scans of many pieces.
#[cfg(feature = "wgpu")]
mod wgpu_with_little_shared_memory {
    use super::*;
    conformance! { @tests cfg(all()), pspikessm::backend::Wgpu::new().expect("a device").with_shared_memory(64),
        Tolerance { elementwise: 2e-6, sums: 1e-5, kernels: 1e-5 };
        products: rfft, irfft;
        conv: long_conv, long_conv_gradient, silent_channels_are_exactly_zero, fire, fire_does_not_depend_on_the_batch, fire_gradient;
        reductions: cumsum;
        scan: scan, scan_gradient, scan_gradient_of_long_sequences, scan_keeps_what_is_not_finite_in_its_place;
    }
}
