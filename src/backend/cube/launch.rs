//! How many cubes a kernel gets, and how many units each: within what the device allows.

use cubecl::prelude::*;

use super::{Cube, Scalar};

/// Units of a cube where the kernel asks for no other number.
pub(super) const UNITS: usize = 256;

/// What a device allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one buffer.
    pub buffer_bytes: u64,
    /// Bytes of shared memory of a cube.
    pub shared_bytes: usize,
    /// Units of a cube.
    pub units: usize,
    /// Cubes along one axis.
    pub cubes: usize,
    /// Buffers that a kernel may have.
    pub bindings: usize,
}

impl Limits {
    pub(super) fn of<R: Runtime>(client: &ComputeClient<R>) -> Self {
        let properties = client.properties();
        let hardware = &properties.hardware;
        Limits {
            buffer_bytes: properties.memory.max_page_size,
            shared_bytes: hardware.max_shared_memory_size,
            units: hardware.max_units_per_cube.min(hardware.max_cube_dim.0) as usize,
            cubes: hardware.max_cube_count.0.min(hardware.max_cube_count.1) as usize,
            bindings: hardware.max_bindings as usize,
        }
    }

    /// The largest power of two of units, `most` at most.
    pub(super) fn units_up_to(&self, most: usize) -> usize {
        let most = most.min(self.units).max(1);
        1 << most.ilog2()
    }
}

/// A constant to the accuracy of `F`: a literal of f64 is an error in WGSL, even where it is only converted.
#[cube]
pub(super) fn constant<F: Float>(#[comptime] x: f64) -> F {
    let size = F::type_size();
    if comptime!(size == 4) { F::new(comptime!(x as f32)) } else { F::cast_from(x) }
}

impl<R: Runtime, E: Scalar> Cube<R, E> {
    /// At least `cubes` cubes over two axes, a number that CUBE_POS counts: a kernel must leave those beyond alone.
    pub(super) fn cubes(&self, cubes: usize) -> CubeCount {
        let cubes = cubes.max(1);
        let rows = cubes.div_ceil(self.limits().cubes);
        CubeCount::Static(cubes.div_ceil(rows) as u32, rows as u32, 1)
    }

    /// Cubes and units for at least `units` units: ABSOLUTE_POS counts them, and those beyond must be left alone.
    pub(super) fn units(&self, units: usize) -> (CubeCount, CubeDim) {
        let dim = self.limits().units_up_to(UNITS);
        (self.cubes(units.div_ceil(dim)), CubeDim::new_1d(dim as u32))
    }

    /// A number as a kernel takes it.
    pub(super) fn scalar(&self, x: f64) -> InputScalar {
        InputScalar::new(x, E::as_type_native_unchecked().storage_type())
    }
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use crate::backend::*;

    #[test]
    fn more_cubes_than_one_axis_has_reach_every_element_once() {
        let cube = Wgpu::new().expect("a device");
        let count = (cube.limits().cubes + 1) * super::UNITS + 4;
        let (x, y) = (cube.full(&[count], 1.0).unwrap(), cube.full(&[1], 1.0).unwrap());
        let sum = cube.sum_to(&cube.binary(Binary::Mul, &x, &y).unwrap(), &[]).unwrap();
        // Beyond 2^24, f32 holds the even numbers.
        assert_eq!((count % 2, cube.to_vec(&sum).unwrap()), (0, vec![count as f32]));
    }
}
