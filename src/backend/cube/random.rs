//! Random numbers: the words of `rng.rs`, each found by its position.
//!
//! A unit jumps to its first word and goes on in strides of a cube's width: neighbouring units write neighbouring elements.

use std::f64::consts::TAU;

use cubecl::prelude::*;

use super::launch::constant;
use super::storage::{Buffer, arg};
use super::{Cube, Scalar};
use crate::backend::rng::{GAMMA, MIX, jump};
use crate::backend::{Draw, Key, Random, Tensor, shape};
use crate::error::Result;

/// Elements that a unit draws at most.
const MOST: usize = 16;

/// A jump goes digit by digit of its distance: bits of a digit, and digits.
const BITS: usize = 8;
const DIGITS: usize = 4;

/// Words of an entry of the table of jumps.
const ENTRY: usize = 4;

/// A 64-bit number in two words.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
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

/// A constant.
#[cube]
fn long(#[comptime] x: u64) -> Long {
    let (low, high) = comptime!(halves(x));
    Long { low: low.runtime(), high: high.runtime() }
}

/// x ^ (x >> by), for `by` below 32.
#[cube]
fn xor_shift(x: Long, #[comptime] by: u32) -> Long {
    Long { low: x.low ^ ((x.low >> by) | (x.high << comptime!(32 - by))), high: x.high ^ (x.high >> by) }
}

/// The output of SplitMix64 after `n` others, of the generator that starts at `state`.
#[cube]
fn split_mix(state: Long, n: u32) -> Long {
    let zero = long(0u64);
    // Output n is the finaliser of state + (n + 1) gamma.
    let x = multiply_add(Long { low: n + 1, high: 0u32 }, long(GAMMA), state);
    let x = multiply_add(xor_shift(x, 30u32), long(comptime!(MIX[0])), zero);
    let x = multiply_add(xor_shift(x, 27u32), long(comptime!(MIX[1])), zero);
    xor_shift(x, 31u32)
}

/// A generator in a kernel, and the stride in which a unit goes through its words.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Stream {
    /// (A^n, G_n) in words, the lower one first, for every n = digit << (BITS k): n steps take the state to A^n state + G_n increment.
    jumps: Array<u32>,
    increment: Long,
    /// A stride takes the state to `multiply` state + `add`.
    multiply: Long,
    add: Long,
}

/// A place among the words.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    /// The state from which the word is made.
    low: u32,
    high: u32,
    /// The time step, in a row.
    t: u32,
}

#[cube]
impl Stream {
    /// Moves `distance` words on: by an affine map for every digit of the distance that is not 0.
    fn jump(&self, place: &mut Place, distance: u32) {
        let zero = long(0u64);
        let mut rest = distance;
        let mut table = 0u32;
        while rest != 0 {
            let digit = rest % comptime!(1u32 << BITS);
            if digit != 0 {
                let at = (table + digit * comptime!(ENTRY as u32)) as usize;
                let add = multiply_add(Long { low: self.jumps[at + 2], high: self.jumps[at + 3] }, self.increment, zero);
                place.map(Long { low: self.jumps[at], high: self.jumps[at + 1] }, add);
            }
            rest >>= comptime!(BITS as u32);
            table += comptime!((ENTRY << BITS) as u32);
        }
    }

    /// Moves one stride on.
    pub(super) fn stride(&self, place: &mut Place) {
        place.map(self.multiply, self.add);
    }

    /// Moves to the next word.
    fn next(&self, place: &mut Place) {
        place.map(long(comptime!(jump(1, 1).0)), self.increment);
    }
}

#[cube]
impl Place {
    /// For a kernel that draws nothing.
    pub(super) fn nowhere() -> Place {
        Place { low: 0u32, high: 0u32, t: 0u32 }
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

/// The rows of a draw as kernels take them, of values (B, H, L): row b H + h is channel h of the batch's row b.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Rows {
    stream: Stream,
    /// The state of the SplitMix64 generator whose outputs are the seeds of the batch's samples.
    seeds: Long,
    /// Rows of the batch on one side, and sides.
    side: u32,
    sides: u32,
    /// H and L.
    channels: u32,
    length: u32,
    /// What a row's seed is multiplied with, and what is added, to give the state of its first word.
    seed_multiply: Long,
    seed_add: Long,
}

#[cube]
impl Rows {
    /// The place of the word of element `position`.
    pub(super) fn place(&self, position: u32) -> Place {
        let row = position / self.length;
        let b = row / self.channels;
        let side = b / self.side;
        let sample = split_mix(self.seeds, (b - side * self.side) * self.sides + side);
        let seed = split_mix(sample, row - b * self.channels);
        let start = multiply_add(seed, self.seed_multiply, self.seed_add);
        let t = position - row * self.length;
        let mut place = Place { low: start.low, high: start.high, t };
        self.stream.jump(&mut place, t);
        place
    }

    /// Moves one stride on, within a row.
    pub(super) fn stride(&self, place: &mut Place) {
        self.stream.stride(place);
        place.t += CUBE_DIM;
    }

    /// Moves from the word of element `from` to that of element `to`, which is behind it.
    pub(super) fn advance(&self, place: &mut Place, from: u32, to: u32) {
        if to - from == CUBE_DIM && place.t + CUBE_DIM < self.length {
            self.stride(place);
        } else {
            let next = self.place(to);
            place.low = next.low;
            place.high = next.high;
            place.t = next.t;
        }
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

/// Every unit draws `elements` numbers, a cube's width apart, from the words after `start`.
#[cube(launch)]
fn flat_kernel<F: Float>(stream: &Stream, start: Long, out: &mut Array<F>, elements: u32, #[comptime] normal: bool) {
    let mut i = CUBE_POS * (elements * CUBE_DIM) as usize + UNIT_POS as usize;
    if i < out.len() {
        let mut place = Place { low: start.low, high: start.high, t: 0u32 };
        stream.jump(&mut place, i as u32);
        if comptime!(normal) {
            // An element takes two words, so a stride is twice as long.
            stream.jump(&mut place, i as u32);
        }
        let mut drawn = 0u32;
        while drawn < elements && i < out.len() {
            let first = place.word();
            if comptime!(normal) {
                let mut second = Place { low: place.low, high: place.high, t: 0u32 };
                stream.next(&mut second);
                out[i] = normal_of::<F>(first, second.word());
            } else {
                out[i] = unit::<F>(first);
            }
            stream.stride(&mut place);
            i += CUBE_DIM as usize;
            drawn += 1;
        }
    }
}

/// The same by rows.
#[cube(launch)]
fn rows_kernel<F: Float>(rows: &Rows, out: &mut Array<F>, elements: u32) {
    let mut i = CUBE_POS * (elements * CUBE_DIM) as usize + UNIT_POS as usize;
    if i < out.len() {
        let mut place = rows.place(i as u32);
        let mut drawn = 0u32;
        while drawn < elements && i < out.len() {
            out[i] = unit::<F>(place.word());
            rows.advance(&mut place, i as u32, i as u32 + CUBE_DIM);
            i += CUBE_DIM as usize;
            drawn += 1;
        }
    }
}

/// The lower and the upper word.
fn halves(x: u64) -> (u32, u32) {
    (x as u32, (x >> 32) as u32)
}

/// The kernel argument for it.
fn long_arg<R: Runtime>(x: u64) -> LongLaunch<R> {
    let (low, high) = halves(x);
    LongLaunch::new(low, high)
}

impl<R: Runtime, E: Scalar> Cube<R, E> {
    /// The generator of `key` for a kernel whose units go through its words in strides of `stride`.
    fn stream(&self, key: Key, stride: usize) -> Result<StreamLaunch<R>> {
        let (multiply, add) = jump(stride as u64, key.increment());
        Ok(StreamLaunch::new(self.jumps()?.arg(), long_arg(key.increment()), long_arg(multiply), long_arg(add)))
    }

    /// The rows of a draw of values (B, H, L), none of them 0, for a kernel of `units` units a cube.
    pub(super) fn rows(&self, draw: Draw, [batch, channels, length]: [usize; 3], units: usize) -> Result<RowsLaunch<R>> {
        let rows = draw.rows(batch, channels);
        let (multiply, add) = rows.seed_to_state;
        let [side, sides, channels, length] = [rows.side, rows.sides, channels, length].map(|n| n as u32);
        let (stream, seeds) = (self.stream(draw.key, units)?, long_arg(rows.seeds));
        Ok(RowsLaunch::new(stream, seeds, side, sides, channels, length, long_arg(multiply), long_arg(add)))
    }

    fn jumps(&self) -> Result<Buffer> {
        self.words("jumps", &[], || {
            let distances = (0..DIGITS).flat_map(|k| (0..1u64 << BITS).map(move |digit| digit << (BITS * k)));
            let entries = distances.map(|distance| jump(distance, 1));
            entries.flat_map(|(multiply, add)| [multiply, add].map(halves)).flat_map(|(low, high)| [low, high]).collect()
        })
    }
}

/// How many of `count` numbers a unit draws: one, until there are units enough to fill a large device.
fn elements(count: usize) -> usize {
    (count >> 18).clamp(1, MOST)
}

pub(super) fn uniform<R: Runtime, E: Scalar>(cube: &Cube<R, E>, key: Key, shape: &[usize]) -> Result<Tensor<Cube<R, E>>> {
    flat(cube, "uniform", key, shape, false)
}

pub(super) fn normal<R: Runtime, E: Scalar>(cube: &Cube<R, E>, key: Key, shape: &[usize]) -> Result<Tensor<Cube<R, E>>> {
    flat(cube, "normal", key, shape, true)
}

fn flat<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    method: &'static str,
    key: Key,
    shape: &[usize],
    normal: bool,
) -> Result<Tensor<Cube<R, E>>> {
    shape::countable(method, shape)?;
    let out = cube.alloc(method, shape)?;
    if out.numel() == 0 {
        return Ok(out);
    }
    let elements = elements(out.numel());
    let (cubes, units) = cube.units(out.numel().div_ceil(elements));
    let stream = cube.stream(key, units.x as usize * if normal { 2 } else { 1 })?;
    flat_kernel::launch::<E, R>(cube.client(), cubes, units, stream, long_arg(key.start()), arg(&out), elements as u32, normal);
    Ok(out)
}

pub(super) fn draw_uniform<R: Runtime, E: Scalar>(cube: &Cube<R, E>, draw: Draw, shape: &[usize]) -> Result<Tensor<Cube<R, E>>> {
    shape::countable("draw_uniform", shape)?;
    let sizes = shape::rows(shape);
    draw.check("draw_uniform", sizes[0])?;
    let out = cube.alloc("draw_uniform", shape)?;
    if out.numel() == 0 {
        return Ok(out);
    }
    let elements = elements(out.numel());
    let (cubes, units) = cube.units(out.numel().div_ceil(elements));
    rows_kernel::launch::<E, R>(cube.client(), cubes, units, cube.rows(draw, sizes, units.x as usize)?, arg(&out), elements as u32);
    Ok(out)
}

impl<R: Runtime, E: Scalar> Random for Cube<R, E> {
    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        uniform(self, key, shape)
    }

    fn draw_uniform(&self, draw: Draw, shape: &[usize]) -> Result<Tensor<Self>> {
        draw_uniform(self, draw, shape)
    }

    fn normal(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        normal(self, key, shape)
    }
}
