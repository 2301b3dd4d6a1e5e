//! Draws from the random stream: the words of `rng.rs`, any of them by its position.
//!
//! A unit jumps to its first word and then goes in strides, so that neighbouring units write neighbouring elements.

use std::f64::consts::TAU;

use cubecl::prelude::*;

use super::launch::constant;
use super::storage::{Buffer, arg};
use super::{Cube, Scalar};
use crate::backend::rng::jump;
use crate::backend::{Key, Random, Tensor};
use crate::error::Result;

/// Elements that a unit draws at most.
const MOST: usize = 16;

/// Bits of a digit of a distance, and digits of a distance: what the table of jumps is made for.
const BITS: usize = 8;
const DIGITS: usize = 4;

/// Words of an entry of the table of jumps.
const ENTRY: usize = 4;

/// A 64-bit number in two words.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Long {
    low: u32,
    high: u32,
}

/// x y + z modulo 2^64.
#[cube]
fn multiply_add(x: Long, y: Long, z: Long) -> Long {
    let product = x.low * y.low;
    let low = product + z.low;
    let carry = u32::cast_from(low < product);
    Long { low, high: x.low.mul_hi(y.low) + x.low * y.high + x.high * y.low + z.high + carry }
}

/// The stream of a [`Key`] as kernels take it: where it starts, and the strides in which a unit goes through it.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Draw {
    /// (A^n, G_n) in words, the lower one first, for every n = digit << (BITS k): n steps take the state to A^n state + G_n increment.
    jumps: Array<u32>,
    state_low: u32,
    state_high: u32,
    increment_low: u32,
    increment_high: u32,
    /// A stride takes the state to `multiply` state + `add`.
    multiply_low: u32,
    multiply_high: u32,
    add_low: u32,
    add_high: u32,
}

/// A place in a stream: the state from which its word is made.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    low: u32,
    high: u32,
}

#[cube]
impl Draw {
    /// The place of word `position`.
    pub(super) fn place(&self, position: u32) -> Place {
        let mut place = Place { low: self.state_low, high: self.state_high };
        self.jump(&mut place, position);
        place
    }

    /// Moves `distance` words on: by an affine map for every digit of the distance that is not 0.
    pub(super) fn jump(&self, place: &mut Place, distance: u32) {
        let increment = Long { low: self.increment_low, high: self.increment_high };
        let zero = Long { low: 0u32, high: 0u32 };
        let mut rest = distance;
        let mut table = 0u32;
        while rest != 0 {
            let digit = rest % comptime!(1u32 << BITS);
            if digit != 0 {
                let at = (table + digit * comptime!(ENTRY as u32)) as usize;
                let add = multiply_add(Long { low: self.jumps[at + 2], high: self.jumps[at + 3] }, increment, zero);
                place.map(Long { low: self.jumps[at], high: self.jumps[at + 1] }, add);
            }
            rest >>= comptime!(BITS as u32);
            table += comptime!((ENTRY << BITS) as u32);
        }
    }

    /// Moves one stride on.
    pub(super) fn stride(&self, place: &mut Place) {
        place.map(Long { low: self.multiply_low, high: self.multiply_high }, Long { low: self.add_low, high: self.add_high });
    }

    /// Moves to the next word.
    pub(super) fn next(&self, place: &mut Place) {
        let (low, high) = comptime!(halves(jump(1, 1).0));
        place.map(Long { low: low.runtime(), high: high.runtime() }, Long { low: self.increment_low, high: self.increment_high });
    }
}

#[cube]
impl Place {
    /// For a kernel that has no stream.
    pub(super) fn nowhere() -> Place {
        Place { low: 0u32, high: 0u32 }
    }

    /// The state becomes `multiply` state + `add`.
    fn map(&mut self, multiply: Long, add: Long) {
        let next = multiply_add(Long { low: self.low, high: self.high }, multiply, add);
        self.low = next.low;
        self.high = next.high;
    }

    /// The word here: the permutation XSH RR of the state.
    pub(super) fn word(&self) -> u32 {
        // Bits 27 to 58 of state ^ (state >> 18), rotated to the right by the upper 5 bits of the state.
        let low = self.low ^ ((self.low >> 18u32) | (self.high << 14u32));
        let high = self.high ^ (self.high >> 18u32);
        let bits = (low >> 27u32) | (high << 5u32);
        let turn = self.high >> 27u32;
        (bits >> turn) | (bits << ((32u32 - turn) & 31u32))
    }
}

/// The uniform number in [0, 1) that a word stands for: its upper 24 bits.
#[cube]
pub(super) fn unit<F: Float>(word: u32) -> F {
    F::cast_from(word >> 8u32) * F::new(5.960_464_5e-8)
}

/// The standard normal number that two words stand for (Box and Muller).
#[cube]
fn normal_of<F: Float>(first: u32, second: u32) -> F {
    let size = F::type_size();
    if comptime!(size == 4) {
        (F::new(2.0) * minus_ln_unit::<F>(first)).sqrt() * cos_turn::<F>(second)
    } else {
        let scale = constant::<F>(1.0 / 4_294_967_296.0);
        let radius = (F::new(-2.0) * ((F::cast_from(first) + F::new(0.5)) * scale).ln()).sqrt();
        radius * (constant::<F>(TAU / 4_294_967_296.0) * F::cast_from(second)).cos()
    }
}

/// -ln((word + 1/2) / 2^32), to the accuracy of f32 at both ends.
#[cube]
fn minus_ln_unit<F: Float>(word: u32) -> F {
    let scale = F::new(2.328_306_4e-10);
    // Near 1: of v = 1 - u, which is exact, by -ln(1 - v) = 2 artanh(v / (2 - v)) as a series, since v is at most 1/2.
    let v = (F::cast_from(4_294_967_295u32 - word) + F::new(0.5)) * scale;
    let s = v / (F::new(2.0) - v);
    let q = s * s;
    let high = F::new(0.111_111_11) + q * (F::new(0.090_909_09) + q * (F::new(0.076_923_08) + q * F::new(0.066_666_67)));
    let series = F::new(0.333_333_34) + q * (F::new(0.2) + q * (F::new(0.142_857_15) + q * high));
    let near_one = F::new(2.0) * (s + s * q * series);
    let u = (F::cast_from(word) + F::new(0.5)) * scale;
    select(word >= 2_147_483_648u32, near_one, -u.ln())
}

/// cos(2 pi word / 2^32), the turn reduced in whole numbers to a quarter around 0, and the rest by Taylor's series.
#[cube]
fn cos_turn<F: Float>(word: u32) -> F {
    let quarter = (word + 536_870_912u32) >> 30u32;
    // Both sides of 0, in units of 2^-32 turns.
    let rest = word - (quarter << 30u32);
    let below = rest >= 2_147_483_648u32;
    let size = F::cast_from(select(below, 0u32 - rest, rest)) * constant::<F>(TAU / 4_294_967_296.0);
    let x = select(below, -size, size);
    let y = x * x;
    let odd = F::new(-0.166_666_67) + y * (F::new(0.008_333_334) + y * (F::new(-1.984_127e-4) + y * F::new(2.755_732e-6)));
    let sin = x + x * y * odd;
    let even = F::new(0.041_666_668) + y * (F::new(-0.001_388_889) + y * (F::new(2.480_158_8e-5) - y * F::new(2.755_732e-7)));
    let cos = F::new(1.0) + y * (F::new(-0.5) + y * even);
    let value = select(quarter & 1 == 0, cos, sin);
    // The quarters' cosines: cos, -sin, -cos, sin.
    select(quarter == 1 || quarter == 2, -value, value)
}

/// Every unit of a cube draws `elements` numbers, a cube's width apart.
#[cube(launch)]
fn draw_kernel<F: Float>(draw: &Draw, out: &mut Array<F>, elements: u32, #[comptime] normal: bool) {
    let mut i = CUBE_POS * (elements * CUBE_DIM) as usize + UNIT_POS as usize;
    if i < out.len() {
        let mut place = draw.place(i as u32);
        if comptime!(normal) {
            // Two words an element: as far again.
            draw.jump(&mut place, i as u32);
        }
        let mut drawn = 0u32;
        while drawn < elements && i < out.len() {
            let first = place.word();
            if comptime!(normal) {
                let mut second = Place { low: place.low, high: place.high };
                draw.next(&mut second);
                out[i] = normal_of::<F>(first, second.word());
            } else {
                out[i] = unit::<F>(first);
            }
            draw.stride(&mut place);
            i += CUBE_DIM as usize;
            drawn += 1;
        }
    }
}

/// The lower and the upper word.
fn halves(x: u64) -> (u32, u32) {
    (x as u32, (x >> 32) as u32)
}

impl<R: Runtime, E: Scalar> Cube<R, E> {
    /// The stream of `key` for a kernel whose units go through it in strides of `stride` words.
    pub(super) fn draw(&self, key: Key, stride: usize) -> Result<DrawLaunch<R>> {
        let (state, increment) = key.start();
        let (multiply, add) = jump(stride as u64, increment);
        let [state, increment, multiply, add] = [state, increment, multiply, add].map(halves);
        let jumps = self.jumps()?.arg();
        Ok(DrawLaunch::new(jumps, state.0, state.1, increment.0, increment.1, multiply.0, multiply.1, add.0, add.1))
    }

    fn jumps(&self) -> Result<Buffer> {
        self.words("jumps", &[], || {
            let distances = (0..DIGITS).flat_map(|k| (0..1u64 << BITS).map(move |digit| digit << (BITS * k)));
            let entries = distances.map(|distance| jump(distance, 1));
            entries.flat_map(|(multiply, add)| [multiply, add].map(halves)).flat_map(|(low, high)| [low, high]).collect()
        })
    }
}

pub(super) fn uniform<R: Runtime, E: Scalar>(cube: &Cube<R, E>, key: Key, shape: &[usize]) -> Result<Tensor<Cube<R, E>>> {
    draw(cube, "uniform", key, shape, false)
}

pub(super) fn normal<R: Runtime, E: Scalar>(cube: &Cube<R, E>, key: Key, shape: &[usize]) -> Result<Tensor<Cube<R, E>>> {
    draw(cube, "normal", key, shape, true)
}

fn draw<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    method: &'static str,
    key: Key,
    shape: &[usize],
    normal: bool,
) -> Result<Tensor<Cube<R, E>>> {
    let out = cube.alloc(method, shape)?;
    if out.numel() == 0 {
        return Ok(out);
    }
    // Enough units to fill a large device before a unit draws twice.
    let elements = (out.numel() >> 18).clamp(1, MOST);
    let (cubes, units) = cube.units(out.numel().div_ceil(elements));
    let stride = units.x as usize * if normal { 2 } else { 1 };
    draw_kernel::launch::<E, R>(cube.client(), cubes, units, cube.draw(key, stride)?, arg(&out), elements as u32, normal);
    Ok(out)
}

impl<R: Runtime, E: Scalar> Random for Cube<R, E> {
    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        uniform(self, key, shape)
    }

    fn normal(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        normal(self, key, shape)
    }
}
