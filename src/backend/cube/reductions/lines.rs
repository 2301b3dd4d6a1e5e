//! Lines of numbers along an axis, and which units of which cube share one.

use cubecl::prelude::*;

use crate::backend::cube::launch::UNITS;
use crate::backend::cube::{Cube, Scalar};

/// Lines that a cube takes at least where the numbers of one do not lie together: those of neighbouring lines do.
const ACROSS: usize = 32;

/// The lines along the middle axis of (outer, length, inner).
#[derive(CubeType, CubeLaunch)]
pub(super) struct Lines {
    count: u32,
    length: u32,
    inner: u32,
}

/// What a unit has to do with its line.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Share {
    /// The line; the number of lines or more where there is none for this unit.
    pub(super) line: u32,
    /// Where its first number is; the tensor's first one where there is no line.
    pub(super) base: u32,
    /// This unit's first place.
    pub(super) first: u32,
    /// The end of the places; 0 where there is no line.
    pub(super) end: u32,
    /// From one place to the next.
    pub(super) stride: u32,
}

#[cube]
impl Lines {
    /// Neighbouring units have neighbouring lines, of which a cube takes `across`.
    pub(super) fn share(&self, #[comptime] across: usize) -> Share {
        let line = CUBE_POS as u32 * comptime!(across as u32) + UNIT_POS % comptime!(across as u32);
        let inside = line < self.count;
        let outer = line / self.inner;
        let base = outer * self.length * self.inner + (line - outer * self.inner);
        Share {
            line,
            base: select(inside, base, 0u32),
            first: UNIT_POS / comptime!(across as u32),
            end: select(inside, self.length, 0u32),
            stride: self.inner,
        }
    }
}

/// How lines are shared out, on the host.
pub(super) struct Plan {
    sizes: [usize; 3],
    /// Lines of a cube, and units of a line.
    pub(super) across: usize,
    pub(super) lanes: usize,
}

impl Plan {
    /// For (outer, length, inner).
    pub(super) fn new<R: Runtime, E: Scalar>(cube: &Cube<R, E>, sizes @ [_, length, inner]: [usize; 3]) -> Self {
        let units = cube.limits().units_up_to(UNITS);
        let least = if inner == 1 { 1 } else { ACROSS.min(units) };
        let lanes = length.next_power_of_two().min(units / least);
        Plan { sizes, across: units / lanes, lanes }
    }

    pub(super) fn launch<R: Runtime>(&self) -> LinesLaunch<R> {
        let [outer, length, inner] = self.sizes.map(|n| n as u32);
        LinesLaunch::new(outer * inner, length, inner)
    }

    pub(super) fn grid<R: Runtime, E: Scalar>(&self, cube: &Cube<R, E>) -> (CubeCount, CubeDim) {
        let lines = self.sizes[0] * self.sizes[2];
        (cube.cubes(lines.div_ceil(self.across)), CubeDim::new_1d((self.across * self.lanes) as u32))
    }
}
