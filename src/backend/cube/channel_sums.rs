//! The channels of (B, H, L) tensors, cut into pieces with a cube for each, and the sums over a channel's pieces.

use cubecl::prelude::*;

use super::elementwise::reduce::sum_strided;
use super::launch::UNITS;
use super::storage::arg;
use super::{Cube, Scalar};
use crate::backend::Tensor;
use crate::backend::tensor::Grads;
use crate::error::Result;

/// Cubes that fill a large device several times.
const CUBES: usize = 2048;

/// The fewest and the most entries of a piece for each unit. More, where there would be too many pieces.
const FEWEST: usize = 4;
const MOST: usize = 32;

/// The B L entries of every channel, row after row, cut into pieces: cube `h * pieces + i` has piece i of channel h.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Channels {
    /// H.
    pub(super) channels: u32,
    /// L.
    length: u32,
    /// B L.
    pub(super) count: u32,
    pub(super) pieces: u32,
    /// Entries of a piece.
    size: u32,
}

#[cube]
impl Channels {
    /// The channel of this cube; `channels` or more where the cube has nothing to do.
    pub(super) fn channel(&self) -> u32 {
        CUBE_POS as u32 / self.pieces
    }

    /// This unit's first entry; the next is a cube's width further.
    pub(super) fn first(&self) -> u32 {
        self.piece() * self.size + UNIT_POS
    }

    /// This cube's piece of its channel.
    pub(super) fn piece(&self) -> u32 {
        CUBE_POS as u32 % self.pieces
    }

    /// The end of this cube's entries.
    pub(super) fn end(&self) -> u32 {
        min((self.piece() + 1) * self.size, self.count)
    }

    /// Entries of piece `i`.
    pub(super) fn members(&self, i: u32) -> u32 {
        min((i + 1) * self.size, self.count) - i * self.size
    }

    /// Where entry `k` of channel `h` is in the tensor.
    pub(super) fn position(&self, h: u32, k: u32) -> u32 {
        let row = k / self.length;
        (row * self.channels + h) * self.length + (k - row * self.length)
    }
}

/// A cut of channels, on the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) channels: usize,
    length: usize,
    pub(super) count: usize,
    pub(super) pieces: usize,
    pub(super) piece: usize,
    /// Units of a cube.
    pub(super) units: usize,
}

impl Cut {
    pub(super) fn launch<R: Runtime>(&self) -> ChannelsLaunch<R> {
        let [channels, length, count, pieces, piece] = [self.channels, self.length, self.count, self.pieces, self.piece].map(|n| n as u32);
        ChannelsLaunch::new(channels, length, count, pieces, piece)
    }

    /// Cubes that are at work.
    pub(super) fn cubes(&self) -> usize {
        self.channels * self.pieces
    }
}

/// (B, H, L) of a tensor (B, H, L) or (B, H).
pub(super) fn sequence(shape: &[usize]) -> [usize; 3] {
    [shape[0], shape[1], shape[2..].iter().product()]
}

impl<R: Runtime, E: Scalar> Cube<R, E> {
    /// Cuts the channels of a (B, H, L) tensor: into enough pieces to keep the device busy, and few enough for one cube to add up.
    pub(super) fn cut(&self, [batch, channels, length]: [usize; 3]) -> Cut {
        let count = batch * length;
        let units = self.limits().units_up_to(UNITS.min(count.next_power_of_two()).max(32));
        let share = (count * channels).div_ceil(CUBES * units).clamp(FEWEST, MOST).max(count.div_ceil(units * 1024));
        let piece = units * share;
        Cut { channels, length, count, pieces: count.div_ceil(piece), piece, units }
    }
}

/// One cube for every row of `parts`, (2, H, pieces): its sum, into the first output or into the second, (H) each.
#[cube(launch)]
fn totals_kernel<F: Float>(
    parts: &Array<F>,
    first: &mut ComptimeOption<Array<F>>,
    second: &mut ComptimeOption<Array<F>>,
    channels: u32,
    pieces: u32,
    #[comptime] units: usize,
) {
    let mut scratch = SharedMemory::<F>::new(units);
    let row = CUBE_POS as u32;
    if row < 2 * channels {
        let sum = sum_strided::<F>(parts, row * pieces, pieces, 1u32, &mut scratch);
        if UNIT_POS == 0 {
            if row < channels {
                #[comptime]
                match first {
                    ComptimeOption::Some(first) => first[row as usize] = sum,
                    ComptimeOption::None => {}
                }
            } else {
                #[comptime]
                match second {
                    ComptimeOption::Some(second) => second[(row - channels) as usize] = sum,
                    ComptimeOption::None => {}
                }
            }
        }
    }
}

/// The sums of `parts`, (2, H, pieces), over the pieces: those that are wanted, (H) each.
pub(super) fn totals<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    method: &'static str,
    parts: &Tensor<Cube<R, E>>,
    wanted: [bool; 2],
) -> Result<Grads<Cube<R, E>, 2>> {
    let (channels, pieces) = (parts.shape()[1], parts.shape()[2]);
    let first = cube.alloc_if(wanted[0], method, &[channels])?;
    let second = cube.alloc_if(wanted[1], method, &[channels])?;
    let units = cube.limits().units_up_to(pieces.next_power_of_two().clamp(32, UNITS));
    totals_kernel::launch::<E, R>(
        cube.client(),
        cube.cubes(2 * channels),
        CubeDim::new_1d(units as u32),
        arg(parts),
        first.as_ref().map(arg).into(),
        second.as_ref().map(arg).into(),
        channels as u32,
        pieces as u32,
        units,
    );
    Ok([first, second])
}
