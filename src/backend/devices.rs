//! Which devices there are.

use std::thread::available_parallelism;

#[cfg(feature = "cuda")]
use super::cube::cuda;
#[cfg(feature = "wgpu")]
use super::cube::wgpu;
use super::device::{Device, Driver};

/// The devices that this build can use: the processor, then what the features `cuda` and `wgpu` find, the best of each first.
///
/// ```
/// let devices = pspikessm::devices();
/// assert_eq!(devices[0].to_string(), format!("cpu:0 {}", devices[0].name));
/// ```
pub fn devices() -> Vec<Device> {
    let found: &[(Driver, Vec<String>)] = &[
        (Driver::Cpu, vec![processor()]),
        #[cfg(feature = "cuda")]
        (Driver::Cuda, cuda::names()),
        #[cfg(feature = "wgpu")]
        (Driver::Wgpu, wgpu::names()),
    ];
    let named = |(driver, names): &(Driver, Vec<String>)| -> Vec<Device> {
        names.iter().enumerate().map(|(index, name)| Device { driver: *driver, index, name: name.clone() }).collect()
    };
    found.iter().flat_map(named).collect()
}

/// The threads of the processor. They are not counted by Rayon: that would start its thread pool, whose size could then no longer be set.
fn processor() -> String {
    match available_parallelism().map_or(1, usize::from) {
        1 => "1 thread".into(),
        threads => format!("{threads} threads"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_count_from_0_under_each_driver() {
        let devices = devices();
        assert_eq!((devices[0].driver, devices[0].index), (Driver::Cpu, 0));
        for pair in devices.windows(2) {
            let next = if pair[0].driver == pair[1].driver { pair[0].index + 1 } else { 0 };
            assert_eq!(pair[1].index, next, "{devices:?}");
        }
        assert_eq!(devices, super::devices());
    }
}
