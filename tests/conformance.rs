//! Puts every backend through the conformance suite: a new backend is one more line here.

#[macro_use]
#[path = "conformance/mod.rs"]
mod suite;

use pspikessm::backend::Cpu;
use suite::harness::Tolerance;

conformance! { cpu_f64: Cpu::<f64>::new(), tolerance: Tolerance { elementwise: 2e-15, sums: 2e-14, kernels: 1e-12 } }
conformance! { cpu_f32: Cpu::<f32>::new(), tolerance: Tolerance { elementwise: 5e-7, sums: 2e-6, kernels: 5e-6 } }

#[cfg(feature = "wgpu")]
conformance! { wgpu: pspikessm::backend::Wgpu::new().expect("a device"), tolerance: Tolerance { elementwise: 2e-6, sums: 1e-5, kernels: 1e-5 } }

/// Transforms of more than eight points over the device's memory, as Path-X needs them on a small device.
#[cfg(feature = "wgpu")]
mod wgpu_with_little_shared_memory {
    use super::*;
    conformance! { @tests cfg(all()), pspikessm::backend::Wgpu::new().expect("a device").with_shared_memory(64),
        Tolerance { elementwise: 2e-6, sums: 1e-5, kernels: 1e-5 };
        products: rfft, irfft;
        conv: long_conv, long_conv_gradient, silent_channels_are_exactly_zero, fire, fire_gradient;
    }
}
