//! Products of real polynomials modulo X^(2N) + 1, for sixteen rows at once: what the long convolution is made of.
//!
//! A real polynomial of 2N coefficients modulo X^N - i is one of N complex coefficients, p_j + i p_(j+N), and nothing is lost: the
//! real and the imaginary part of a product modulo X^N - i are the lower and the upper half of the real product modulo X^(2N) + 1
//! (the "right-angle" convolution). Substituting X = w Y with w = e^(i pi / 2N) turns it into a cyclic product, hence into complex
//! FFTs of N points: half the work of a padded real transform's length, and none of its splitting of even from odd. A sequence of
//! L <= N values fills the real parts only, and none of the padding of a linear convolution is ever computed.
//!
//! Rows lie side by side in vectors, so that no butterfly crosses lanes: every row has the round-off of its own transform alone, and
//! a row of zeros stays zero. Passes run in place, without reordering: a spectrum is only ever multiplied with another one of the
//! same order. They run depth first, so that all but the first passes find their block in the nearest cache.

use pulp::{Simd, WithSimd};

use super::lanes::{Lanes, at_level};
use super::panel::{Aligned, Panel, ROWS};
use super::simd::{Level as Isa, level};
use crate::backend::Real;

/// Bytes of a block that is transformed to its end before the next one is looked at: within the first-level cache.
const NEAR: usize = 32 << 10;

/// The transforms of one N.
pub struct Ring<E> {
    points: usize,
    passes: Vec<Pass<E>>,
    /// w^j.
    twist: Vec<[E; 2]>,
}

/// One pass over blocks of `block` points: `radix` parts, combined point by point.
struct Pass<E> {
    radix: usize,
    block: usize,
    /// For every point of a part, e^(-2 pi i j q / block) for q = 1..radix.
    twiddles: Vec<[E; 2]>,
}

impl<E: Real> Ring<E> {
    /// The cheapest ring of at least `least` points.
    pub fn new(least: usize) -> Self {
        Self::of(fast_points(least))
    }

    /// The ring of `points` points, a number without prime factors above 5.
    fn of(points: usize) -> Self {
        let mut block = points;
        let mut passes = Vec::new();
        for radix in radices(points) {
            let angle = -std::f64::consts::TAU / block as f64;
            let twiddles = (0..block / radix).flat_map(|j| (1..radix).map(move |q| unit(angle * (j * q) as f64))).collect();
            passes.push(Pass { radix, block, twiddles });
            block /= radix;
        }
        let step = std::f64::consts::FRAC_PI_2 / points as f64;
        Ring { points, passes, twist: (0..points).map(|j| unit(step * j as f64)).collect() }
    }

    /// N.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Elements of a tile: sixteen rows of N complex points.
    pub fn tile_len(&self) -> usize {
        2 * ROWS * self.points
    }

    /// A tile of zeros.
    pub fn tile(&self) -> Aligned<E> {
        Aligned::zeros(self.tile_len())
    }

    /// `scale (re + i im) w^j` into the tile; what the panels lack is zero.
    pub fn load(&self, re: &Panel<E>, im: Option<&Panel<E>>, scale: E, tile: &mut [E]) {
        at_level(Load { twist: &self.twist, re, im, scale, tile });
    }

    /// `(re + i im) = tile w^-j`, as many points as the panels have.
    pub fn store(&self, tile: &[E], re: &mut Panel<E>, im: Option<&mut Panel<E>>) {
        at_level(Store { twist: &self.twist, tile, re, im });
    }

    /// To the spectrum, in the ring's own order.
    pub fn forward(&self, tile: &mut [E]) {
        at_level(Transform { ring: self, tile, spectrum: None, conjugate: false, inverse: false });
    }

    /// N times the inverse of [`Ring::forward`].
    pub fn inverse(&self, tile: &mut [E]) {
        at_level(Transform { ring: self, tile, spectrum: None, conjugate: false, inverse: true });
    }

    /// Forward, times the spectrum or its conjugate, and back (times N).
    pub fn convolve(&self, tile: &mut [E], spectrum: &[E], conjugate: bool) {
        at_level(Transform { ring: self, tile, spectrum: Some(spectrum), conjugate, inverse: false });
    }

    /// Times the spectrum or its conjugate, and back (times N).
    pub fn multiply_back(&self, tile: &mut [E], spectrum: &[E], conjugate: bool) {
        at_level(Transform { ring: self, tile, spectrum: Some(spectrum), conjugate, inverse: true });
    }
}

/// sum += g conj(x), spectra all.
pub fn correlate<E: Real>(sum: &mut [E], g: &[E], x: &[E]) {
    at_level(Correlate { sum, g, x });
}

fn unit<E: Real>(angle: f64) -> [E; 2] {
    [E::of(angle.cos()), E::of(angle.sin())]
}

/// Prime factors 5, 3, then powers of two as large as the registers allow.
fn radices(points: usize) -> Vec<usize> {
    let mut rest = points;
    let mut radices = Vec::new();
    for prime in [5, 3] {
        while rest.is_multiple_of(prime) {
            radices.push(prime);
            rest /= prime;
        }
    }
    let mut twos = rest.trailing_zeros() as usize;
    if level() == Isa::Avx512 {
        // A lone factor 2 costs a pass of its own: 4 times 4 rather than 8 times 2.
        while twos >= 3 && twos != 4 {
            radices.push(8);
            twos -= 3;
        }
    }
    while twos >= 2 {
        radices.push(4);
        twos -= 2;
    }
    if twos == 1 {
        radices.push(2);
    }
    radices
}

/// The number of points from `least` on, without prime factors above 5, whose passes cost least.
fn fast_points(least: usize) -> usize {
    let least = least.max(1);
    let cost = |points: usize| {
        let pass = |radix| match radix {
            2 => 0.7,
            3 => 0.9,
            4 => 0.8,
            5 => 1.3,
            _ => 1.0,
        };
        points as f64 * (1.0 + radices(points).into_iter().map(pass).sum::<f64>())
    };
    let smooth = |&points: &usize| radices(points).iter().product::<usize>() == points;
    let candidates = (least..=least.next_power_of_two()).filter(smooth);
    candidates.min_by(|&a, &b| cost(a).total_cmp(&cost(b))).unwrap_or(least)
}

/// A complex vector.
type C<E, S> = [<E as Lanes>::Vector<S>; 2];

/// Vectors of complex points.
#[inline(always)]
fn complex<E: Lanes, S: Simd>(tile: &[E]) -> &[C<E, S>] {
    E::vectors::<S>(tile).as_chunks().0
}

#[inline(always)]
fn complex_mut<E: Lanes, S: Simd>(tile: &mut [E]) -> &mut [C<E, S>] {
    E::vectors_mut::<S>(tile).as_chunks_mut().0
}

#[inline(always)]
fn add<E: Lanes, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::plus(s, a[0], b[0]), E::plus(s, a[1], b[1])]
}

#[inline(always)]
fn sub<E: Lanes, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::minus(s, a[0], b[0]), E::minus(s, a[1], b[1])]
}

/// a + i b.
#[inline(always)]
fn add_i<E: Lanes, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::minus(s, a[0], b[1]), E::plus(s, a[1], b[0])]
}

/// a - i b.
#[inline(always)]
fn sub_i<E: Lanes, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::plus(s, a[0], b[1]), E::minus(s, a[1], b[0])]
}

#[inline(always)]
fn mul<E: Lanes, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::minus_times(s, a[1], b[1], E::times(s, a[0], b[0])), E::times_plus(s, a[0], b[1], E::times(s, a[1], b[0]))]
}

/// a conj(b).
#[inline(always)]
fn mul_conj<E: Lanes, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::times_plus(s, a[1], b[1], E::times(s, a[0], b[0])), E::minus_times(s, a[0], b[1], E::times(s, a[1], b[0]))]
}

#[inline(always)]
fn splat<E: Lanes, S: Simd>(s: S, z: [E; 2]) -> C<E, S> {
    [E::splat(s, z[0]), E::splat(s, z[1])]
}

/// a + f b, real f.
#[inline(always)]
fn add_scaled<E: Lanes, S: Simd>(s: S, a: C<E, S>, f: E::Vector<S>, b: C<E, S>) -> C<E, S> {
    [E::times_plus(s, f, b[0], a[0]), E::times_plus(s, f, b[1], a[1])]
}

/// The discrete Fourier transforms of few points: a trait, not functions handed about, for the compiler to see through.
trait Dft<const R: usize> {
    /// X_k = sum_j x_j e^(-2 pi i j k / R).
    fn dft<E: Real, S: Simd>(s: S, x: [C<E, S>; R]) -> [C<E, S>; R];
}

struct Butterfly;

impl Dft<2> for Butterfly {
    #[inline(always)]
    fn dft<E: Real, S: Simd>(s: S, [a, b]: [C<E, S>; 2]) -> [C<E, S>; 2] {
        [add::<E, S>(s, a, b), sub::<E, S>(s, a, b)]
    }
}

impl Dft<3> for Butterfly {
    #[inline(always)]
    fn dft<E: Real, S: Simd>(s: S, [a, b, c]: [C<E, S>; 3]) -> [C<E, S>; 3] {
        let (sum, difference) = (add::<E, S>(s, b, c), sub::<E, S>(s, b, c));
        let middle = add_scaled::<E, S>(s, a, E::splat(s, E::of(-0.5)), sum);
        let sine = E::splat(s, E::of(0.75f64.sqrt()));
        let turned = [E::times(s, sine, difference[0]), E::times(s, sine, difference[1])];
        [add::<E, S>(s, a, sum), sub_i::<E, S>(s, middle, turned), add_i::<E, S>(s, middle, turned)]
    }
}

impl Dft<4> for Butterfly {
    #[inline(always)]
    fn dft<E: Real, S: Simd>(s: S, [a, b, c, d]: [C<E, S>; 4]) -> [C<E, S>; 4] {
        let ([p, q], [r, t]) = (Butterfly::dft::<E, S>(s, [a, c]), Butterfly::dft::<E, S>(s, [b, d]));
        [add::<E, S>(s, p, r), sub_i::<E, S>(s, q, t), sub::<E, S>(s, p, r), add_i::<E, S>(s, q, t)]
    }
}

impl Dft<5> for Butterfly {
    #[inline(always)]
    fn dft<E: Real, S: Simd>(s: S, [a, b, c, d, e]: [C<E, S>; 5]) -> [C<E, S>; 5] {
        let constant = |f: fn(f64) -> f64, turns: f64| E::splat(s, E::of(f(std::f64::consts::TAU * turns / 5.0)));
        let (c1, c2, s1, s2) = (constant(f64::cos, 1.0), constant(f64::cos, 2.0), constant(f64::sin, 1.0), constant(f64::sin, 2.0));
        let ([p, q], [r, t]) = (Butterfly::dft::<E, S>(s, [b, e]), Butterfly::dft::<E, S>(s, [c, d]));
        let near = add_scaled::<E, S>(s, add_scaled::<E, S>(s, a, c1, p), c2, r);
        let far = add_scaled::<E, S>(s, add_scaled::<E, S>(s, a, c2, p), c1, r);
        let near_turn = [E::times_plus(s, s1, q[0], E::times(s, s2, t[0])), E::times_plus(s, s1, q[1], E::times(s, s2, t[1]))];
        let far_turn = [E::minus_times(s, s1, t[0], E::times(s, s2, q[0])), E::minus_times(s, s1, t[1], E::times(s, s2, q[1]))];
        [
            add::<E, S>(s, a, add::<E, S>(s, p, r)),
            sub_i::<E, S>(s, near, near_turn),
            sub_i::<E, S>(s, far, far_turn),
            add_i::<E, S>(s, far, far_turn),
            add_i::<E, S>(s, near, near_turn),
        ]
    }
}

impl Dft<8> for Butterfly {
    #[inline(always)]
    fn dft<E: Real, S: Simd>(s: S, [a, b, c, d, e, f, g, h]: [C<E, S>; 8]) -> [C<E, S>; 8] {
        let even = Butterfly::dft::<E, S>(s, [a, c, e, g]);
        let [o0, o1, o2, o3] = Butterfly::dft::<E, S>(s, [b, d, f, h]);
        let half = E::splat(s, E::of(std::f64::consts::FRAC_1_SQRT_2));
        // o1 e^(-i pi/4), and i times o3 e^(-3 i pi/4).
        let o1 = [E::times(s, half, E::plus(s, o1[0], o1[1])), E::times(s, half, E::minus(s, o1[1], o1[0]))];
        let o3 = [E::times(s, half, E::plus(s, o3[0], o3[1])), E::times(s, half, E::minus(s, o3[1], o3[0]))];
        [
            add::<E, S>(s, even[0], o0),
            add::<E, S>(s, even[1], o1),
            sub_i::<E, S>(s, even[2], o2),
            sub_i::<E, S>(s, even[3], o3),
            sub::<E, S>(s, even[0], o0),
            sub::<E, S>(s, even[1], o1),
            add_i::<E, S>(s, even[2], o2),
            add_i::<E, S>(s, even[3], o3),
        ]
    }
}

/// Real and imaginary part exchanged, where `INVERSE`: a transform between two exchanges is the inverse one.
#[inline(always)]
fn exchange<E: Lanes, S: Simd, const INVERSE: bool>(z: C<E, S>) -> C<E, S> {
    if INVERSE { [z[1], z[0]] } else { z }
}

/// A pass over one block: forward a butterfly, then twiddles; inverse the other way round.
#[inline(always)]
fn butterflies<E: Real, S: Simd, const R: usize, const INVERSE: bool>(
    s: S,
    block: &mut [C<E, S>],
    twiddles: &[[E; 2]],
) where
    Butterfly: Dft<R>,
{
    let part = block.len() / R;
    let mut parts = block.chunks_exact_mut(part);
    let parts: [&mut [C<E, S>]; R] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    // Every part has this length: the compiler then drops the checks below.
    let parts = parts.map(|p| &mut p[..part]);
    for (j, w) in twiddles.chunks_exact(R - 1).enumerate().take(part) {
        let mut x: [C<E, S>; R] = std::array::from_fn(|q| exchange::<E, S, INVERSE>(parts[q][j]));
        if INVERSE && part > 1 {
            for q in 1..R {
                x[q] = mul::<E, S>(s, x[q], splat::<E, S>(s, w[q - 1]));
            }
        }
        x = Butterfly::dft::<E, S>(s, x);
        if !INVERSE && part > 1 {
            for q in 1..R {
                x[q] = mul::<E, S>(s, x[q], splat::<E, S>(s, w[q - 1]));
            }
        }
        for q in 0..R {
            parts[q][j] = exchange::<E, S, INVERSE>(x[q]);
        }
    }
}

/// One pass over all blocks of a stretch of a tile.
struct RunPass<'a, E, const INVERSE: bool> {
    pass: &'a Pass<E>,
    tile: &'a mut [E],
}

impl<E: Real, const INVERSE: bool> WithSimd for RunPass<'_, E, INVERSE> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Pass { radix, block, twiddles } = self.pass;
        for block in complex_mut::<E, S>(self.tile).chunks_exact_mut(*block) {
            match radix {
                8 => butterflies::<E, S, 8, INVERSE>(s, block, twiddles),
                5 => butterflies::<E, S, 5, INVERSE>(s, block, twiddles),
                4 => butterflies::<E, S, 4, INVERSE>(s, block, twiddles),
                3 => butterflies::<E, S, 3, INVERSE>(s, block, twiddles),
                _ => butterflies::<E, S, 2, INVERSE>(s, block, twiddles),
            }
        }
    }
}

/// tile *= spectrum, or its conjugate.
struct Multiply<'a, E> {
    tile: &'a mut [E],
    spectrum: &'a [E],
    conjugate: bool,
}

impl<E: Real> WithSimd for Multiply<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let pairs = complex_mut::<E, S>(self.tile).iter_mut().zip(complex::<E, S>(self.spectrum));
        if self.conjugate {
            pairs.for_each(|(x, y)| *x = mul_conj::<E, S>(s, *x, *y));
        } else {
            pairs.for_each(|(x, y)| *x = mul::<E, S>(s, *x, *y));
        }
    }
}

struct Correlate<'a, E> {
    sum: &'a mut [E],
    g: &'a [E],
    x: &'a [E],
}

impl<E: Real> WithSimd for Correlate<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let operands = complex::<E, S>(self.g).iter().zip(complex::<E, S>(self.x));
        for (sum, (g, x)) in complex_mut::<E, S>(self.sum).iter_mut().zip(operands) {
            sum[0] = E::times_plus(s, g[0], x[0], E::times_plus(s, g[1], x[1], sum[0]));
            sum[1] = E::minus_times(s, g[0], x[1], E::times_plus(s, g[1], x[0], sum[1]));
        }
    }
}

/// The passes of a tile: forward, multiplication, inverse, each where it is asked for.
struct Transform<'a, E> {
    ring: &'a Ring<E>,
    tile: &'a mut [E],
    spectrum: Option<&'a [E]>,
    conjugate: bool,
    /// Without a spectrum: backward instead of forward. With one: leave the forward passes out.
    inverse: bool,
}

impl<E: Real> WithSimd for Transform<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Transform { ring, tile, spectrum, conjugate, inverse } = self;
        let lanes = E::count::<S>();
        let run = Depth { s, lanes, conjugate, forward: !inverse, backward: inverse || spectrum.is_some() };
        // The sixteen rows are as many sub-tiles as vectors.
        let size = 2 * lanes * ring.points;
        for (i, tile) in tile.chunks_exact_mut(size).enumerate() {
            run.descend(&ring.passes, tile, spectrum.map(|spectrum| &spectrum[i * size..][..size]));
        }
    }
}

/// What to do on the way down and on the way up.
#[derive(Clone, Copy)]
struct Depth<S> {
    s: S,
    lanes: usize,
    conjugate: bool,
    forward: bool,
    backward: bool,
}

impl<S: Simd> Depth<S> {
    /// One block by the passes that are left: the first over all of it, the others part by part once it is too large for the cache.
    fn descend<E: Real>(self, passes: &[Pass<E>], block: &mut [E], spectrum: Option<&[E]>) {
        let outer = if size_of_val(block) > NEAR { passes.len().min(1) } else { passes.len() };
        let (outer, inner) = passes.split_at(outer);
        if self.forward {
            outer.iter().for_each(|pass| self.s.vectorize(RunPass::<E, false> { pass, tile: block }));
        }
        match inner.first() {
            Some(first) => {
                let size = 2 * self.lanes * first.block;
                for (i, part) in block.chunks_exact_mut(size).enumerate() {
                    self.descend(inner, part, spectrum.map(|spectrum| &spectrum[i * size..][..size]));
                }
            }
            None => {
                if let Some(spectrum) = spectrum {
                    self.s.vectorize(Multiply { tile: block, spectrum, conjugate: self.conjugate });
                }
            }
        }
        if self.backward {
            outer.iter().rev().for_each(|pass| self.s.vectorize(RunPass::<E, true> { pass, tile: block }));
        }
    }
}

struct Load<'a, E> {
    twist: &'a [[E; 2]],
    re: &'a Panel<E>,
    im: Option<&'a Panel<E>>,
    scale: E,
    tile: &'a mut [E],
}

impl<E: Real> WithSimd for Load<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let parts = ROWS / E::count::<S>();
        let re = E::vectors::<S>(self.re.as_flattened());
        let im = self.im.map(|im| E::vectors::<S>(im.as_flattened()));
        let (zero, scale) = (E::splat(s, E::zero()), E::splat(s, self.scale));
        for (i, tile) in complex_mut::<E, S>(self.tile).chunks_exact_mut(self.twist.len()).enumerate() {
            for (j, (out, &w)) in tile.iter_mut().zip(self.twist).enumerate() {
                let w = splat::<E, S>(s, w);
                let at = j * parts + i;
                let re = re.get(at).map_or(zero, |&re| E::times(s, scale, re));
                *out = match im {
                    None => [E::times(s, re, w[0]), E::times(s, re, w[1])],
                    Some(im) => mul::<E, S>(s, [re, im.get(at).map_or(zero, |&im| E::times(s, scale, im))], w),
                };
            }
        }
    }
}

struct Store<'a, E> {
    twist: &'a [[E; 2]],
    tile: &'a [E],
    re: &'a mut Panel<E>,
    im: Option<&'a mut Panel<E>>,
}

impl<E: Real> WithSimd for Store<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let parts = ROWS / E::count::<S>();
        let re = E::vectors_mut::<S>(self.re.as_flattened_mut());
        let mut im = self.im.map(|im| E::vectors_mut::<S>(im.as_flattened_mut()));
        for (i, tile) in complex::<E, S>(self.tile).chunks_exact(self.twist.len()).enumerate() {
            let points = tile.iter().zip(self.twist).enumerate();
            for (j, (&z, &w)) in points.take(re.len() / parts) {
                let w = splat::<E, S>(s, w);
                re[j * parts + i] = E::times_plus(s, z[1], w[1], E::times(s, z[0], w[0]));
                if let Some(im) = &mut im {
                    im[j * parts + i] = E::minus_times(s, z[0], w[1], E::times(s, z[1], w[0]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The product of real polynomials modulo X^(2N) + 1, term by term, in f64.
    fn naive(a: &[f64], b: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; a.len()];
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                let k = i + j;
                out[k % a.len()] += if k < a.len() { x * y } else { -x * y };
            }
        }
        out
    }

    fn panels<E: Real>(points: usize, seed: usize) -> [Vec<[E; ROWS]>; 2] {
        [0, 1].map(|half| {
            let value = |j: usize, row: usize| (((j * 7919 + row * 104_729 + half * 31 + seed) % 1009) as f64 - 504.0) / 504.0;
            (0..points).map(|j| std::array::from_fn(|row| E::of(value(j, row)))).collect()
        })
    }

    fn row<E: Real>([re, im]: &[Vec<[E; ROWS]>; 2], row: usize) -> Vec<f64> {
        re.iter().chain(im).map(|lanes| lanes[row].f64()).collect()
    }

    fn check<E: Real>(points: usize, tolerance: f64) {
        let ring = Ring::<E>::of(points);
        let (a, b) = (panels::<E>(points, 0), panels::<E>(points, 5));
        let (mut x, mut spectrum) = (ring.tile(), ring.tile());
        ring.load(&a[0], Some(&a[1]), E::one(), &mut x);
        ring.load(&b[0], Some(&b[1]), E::of(1.0 / points as f64), &mut spectrum);
        ring.forward(&mut spectrum);
        let mut product = a.clone();
        let mut separate = x.to_vec();
        ring.convolve(&mut x, &spectrum, false);
        ring.forward(&mut separate);
        ring.multiply_back(&mut separate, &spectrum, false);
        assert!(x.iter().zip(&separate).all(|(a, b)| a == b), "in one go or in two, the same bits");
        let [re, im] = &mut product;
        ring.store(&x, re, Some(im));
        for lane in [0, 7, ROWS - 1] {
            let want = naive(&row(&a, lane), &row(&b, lane));
            for (got, want) in row(&product, lane).iter().zip(&want) {
                assert!((got - want).abs() < tolerance * points as f64, "{points} points, lane {lane}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn products_agree_with_long_multiplication_for_every_radix() {
        for points in [1, 2, 3, 4, 5, 6, 8, 9, 12, 15, 16, 25, 30, 32, 45, 64, 75, 128, 160, 512, 600] {
            check::<f64>(points, 2e-15);
            check::<f32>(points, 1e-6);
        }
    }

    #[test]
    fn correlation_is_the_product_with_the_reversed_polynomial() {
        let points = 24;
        let ring = Ring::<f64>::of(points);
        let (a, b) = (panels::<f64>(points, 1), panels::<f64>(points, 2));
        let (mut x, mut y, mut sum) = (ring.tile(), ring.tile(), ring.tile());
        ring.load(&a[0], Some(&a[1]), 1.0, &mut x);
        ring.load(&b[0], Some(&b[1]), 1.0 / points as f64, &mut y);
        ring.forward(&mut x);
        ring.forward(&mut y);
        correlate(&mut sum, &x, &y);
        ring.inverse(&mut sum);
        let mut result = a.clone();
        let [re, im] = &mut result;
        ring.store(&sum, re, Some(im));
        // b(1/X): coefficient j moves to -j, which is 2N - j with the sign of the ring.
        let b = row(&b, 3);
        let reversed: Vec<f64> = (0..2 * points).map(|j| if j == 0 { b[0] } else { -b[2 * points - j] }).collect();
        for (got, want) in row(&result, 3).iter().zip(naive(&row(&a, 3), &reversed)) {
            assert!((got - want).abs() < 1e-12, "{got}, not {want}");
        }
    }

    #[test]
    fn rings_are_large_enough_and_smooth() {
        for least in 1..3000 {
            let points = fast_points(least);
            assert!(points >= least && points <= least.next_power_of_two(), "{least}: {points}");
            assert_eq!(radices(points).iter().product::<usize>(), points);
        }
        assert_eq!(fast_points(2048), 2048);
    }
}
