//! Products of real polynomials modulo X^(2N) + 1, for sixteen rows at once: the building block of the long convolution.
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

use super::butterfly::{Butterfly, C, Dft, complex, complex_mut, exchange, mul, mul_conj, splat};
use crate::backend::Real;
use crate::backend::cpu::transposed_rows::{Panel, ROWS};
use crate::backend::host::simd::level;
use crate::backend::host::vectors::at_level;

/// Bytes of a block that is transformed to its end before the next one is looked at: within the first-level cache.
const NEAR: usize = 32 << 10;

/// The transforms of one N.
pub struct NegacyclicFft<E> {
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

impl<E: Real> NegacyclicFft<E> {
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
        NegacyclicFft { points, passes, twist: (0..points).map(|j| unit(step * j as f64)).collect() }
    }

    /// N.
    pub fn points(&self) -> usize {
        self.points
    }

    /// Elements of a tile: sixteen rows of N complex points.
    pub fn tile_len(&self) -> usize {
        2 * ROWS * self.points
    }

    /// The spectrum of `scale (re + i im)`, in the ring's own order.
    pub fn forward_complex(&self, re: &Panel<E>, im: &Panel<E>, scale: E, tile: &mut [E]) {
        at_level(Load { twist: &self.twist, re, im, scale, tile });
        at_level(Transform { ring: self, tile, input: None, work: Work::Forward, output: None });
    }

    /// N times the polynomial of a spectrum, which is overwritten.
    pub fn inverse_complex(&self, tile: &mut [E], re: &mut Panel<E>, im: &mut Panel<E>) {
        at_level(Transform { ring: self, tile, input: None, work: Work::Back, output: None });
        at_level(Store { twist: &self.twist, tile, re, im });
    }

    /// The spectrum of a panel of at most N real entries.
    pub fn forward(&self, input: &Panel<E>, tile: &mut [E]) {
        at_level(Transform { ring: self, tile, input: Some(input), work: Work::Forward, output: None });
    }

    /// The first entries of N times the product of a panel and a polynomial, given its spectrum, or of the conjugate spectrum.
    pub fn convolve(&self, input: &Panel<E>, spectrum: &[E], conjugate: bool, tile: &mut [E], output: &mut Panel<E>) {
        let work = Work::Convolve { spectrum, conjugate };
        at_level(Transform { ring: self, tile, input: Some(input), work, output: Some(output) });
    }

    /// As [`NegacyclicFft::convolve`], of a panel whose spectrum `of` is known.
    pub fn multiply_back(&self, of: &[E], spectrum: &[E], conjugate: bool, tile: &mut [E], output: &mut Panel<E>) {
        let work = Work::MultiplyBack { of, spectrum, conjugate };
        at_level(Transform { ring: self, tile, input: None, work, output: Some(output) });
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
    // The eight complex numbers of a butterfly are sixteen vectors.
    if level().registers() > 16 {
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

/// The number of points from `least` on, and from 2 on, without prime factors above 5, whose passes cost least.
fn fast_points(least: usize) -> usize {
    let least = least.max(2);
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

/// A pass over one block: forward a butterfly, then twiddles; inverse the other way round.
#[inline(always)]
fn butterflies<E: Real, S: Simd, const R: usize, const INVERSE: bool>(s: S, block: &mut [C<E, S>], twiddles: &[[E; 2]])
where
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

/// Evaluates an expression with the radix as the constant of this name.
macro_rules! with_radix {
    ($radix:expr, $name:ident => $run:expr) => {
        match $radix {
            8 => with_radix!(@constant $name, 8, $run),
            5 => with_radix!(@constant $name, 5, $run),
            4 => with_radix!(@constant $name, 4, $run),
            3 => with_radix!(@constant $name, 3, $run),
            _ => with_radix!(@constant $name, 2, $run),
        }
    };
    (@constant $name:ident, $value:literal, $run:expr) => {{
        const $name: usize = $value;
        $run
    }};
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
            with_radix!(*radix, R => butterflies::<E, S, R, INVERSE>(s, block, twiddles));
        }
    }
}

/// The first pass over a sub-tile, which it makes of a panel's entries, twisted: nothing is written only to be read again.
struct PassIn<'a, E> {
    pass: &'a Pass<E>,
    twist: &'a [[E; 2]],
    input: &'a Panel<E>,
    /// Which vector of every entry.
    part: usize,
    tile: &'a mut [E],
}

impl<E: Real> PassIn<'_, E> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, s: S)
    where
        Butterfly: Dft<R>,
    {
        let parts = ROWS / E::count::<S>();
        let input = E::vectors::<S>(self.input.as_flattened());
        let tile = complex_mut::<E, S>(self.tile);
        let stride = tile.len() / R;
        let zero = E::splat(s, E::zero());
        for (j, w) in self.pass.twiddles.chunks_exact(R - 1).enumerate() {
            let mut x = [[zero; 2]; R];
            for (q, x) in x.iter_mut().enumerate() {
                let p = j + q * stride;
                let re = input.get(p * parts + self.part).copied().unwrap_or(zero);
                let w = splat::<E, S>(s, self.twist[p]);
                *x = [E::times(s, re, w[0]), E::times(s, re, w[1])];
            }
            x = Butterfly::dft::<E, S>(s, x);
            tile[j] = x[0];
            for q in 1..R {
                tile[j + q * stride] = mul::<E, S>(s, x[q], splat::<E, S>(s, w[q - 1]));
            }
        }
    }
}

impl<E: Real> WithSimd for PassIn<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        with_radix!(self.pass.radix, R => self.run::<S, R>(s))
    }
}

/// The last inverse pass over a sub-tile, straight to the real parts of the panel's entries.
struct PassOut<'a, E> {
    pass: &'a Pass<E>,
    twist: &'a [[E; 2]],
    tile: &'a [E],
    part: usize,
    output: &'a mut Panel<E>,
}

impl<E: Real> PassOut<'_, E> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, s: S)
    where
        Butterfly: Dft<R>,
    {
        let parts = ROWS / E::count::<S>();
        let output = E::vectors_mut::<S>(self.output.as_flattened_mut());
        let tile = complex::<E, S>(self.tile);
        let stride = tile.len() / R;
        for (j, w) in self.pass.twiddles.chunks_exact(R - 1).enumerate() {
            let mut x = [exchange::<E, S, true>(tile[j]); R];
            for q in 1..R {
                x[q] = mul::<E, S>(s, exchange::<E, S, true>(tile[j + q * stride]), splat::<E, S>(s, w[q - 1]));
            }
            x = Butterfly::dft::<E, S>(s, x);
            for (q, z) in x.into_iter().enumerate() {
                let p = j + q * stride;
                if let Some(out) = output.get_mut(p * parts + self.part) {
                    let w = splat::<E, S>(s, self.twist[p]);
                    *out = E::times_plus(s, z[0], w[1], E::times(s, z[1], w[0]));
                }
            }
        }
    }
}

impl<E: Real> WithSimd for PassOut<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        with_radix!(self.pass.radix, R => self.run::<S, R>(s))
    }
}

/// tile = of * spectrum, or its conjugate; of the tile itself, where there is no `of`.
struct Multiply<'a, E> {
    tile: &'a mut [E],
    of: Option<&'a [E]>,
    spectrum: &'a [E],
    conjugate: bool,
}

impl<E: Real> WithSimd for Multiply<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let tile = complex_mut::<E, S>(self.tile);
        let of = self.of.map(complex::<E, S>);
        for (i, y) in complex::<E, S>(self.spectrum).iter().enumerate() {
            let x = of.map_or_else(|| tile[i], |of| of[i]);
            tile[i] = if self.conjugate { mul_conj::<E, S>(s, x, *y) } else { mul::<E, S>(s, x, *y) };
        }
    }
}

/// What is done with a tile.
#[derive(Clone, Copy)]
enum Work<'a, E> {
    Forward,
    Back,
    Convolve { spectrum: &'a [E], conjugate: bool },
    MultiplyBack { of: &'a [E], spectrum: &'a [E], conjugate: bool },
}

impl<'a, E> Work<'a, E> {
    fn goes_forward(&self) -> bool {
        matches!(self, Work::Forward | Work::Convolve { .. })
    }

    fn goes_back(&self) -> bool {
        !matches!(self, Work::Forward)
    }

    /// The same for a part of the tile.
    fn part(self, i: usize, size: usize) -> Self {
        match self {
            Work::Forward | Work::Back => self,
            Work::Convolve { spectrum, conjugate } => Work::Convolve { spectrum: &spectrum[i * size..][..size], conjugate },
            Work::MultiplyBack { of, spectrum, conjugate } => {
                Work::MultiplyBack { of: &of[i * size..][..size], spectrum: &spectrum[i * size..][..size], conjugate }
            }
        }
    }
}

/// The passes of a tile, from a panel and to a panel where they are given.
struct Transform<'a, E> {
    ring: &'a NegacyclicFft<E>,
    tile: &'a mut [E],
    input: Option<&'a Panel<E>>,
    work: Work<'a, E>,
    output: Option<&'a mut Panel<E>>,
}

impl<E: Real> WithSimd for Transform<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Transform { ring, tile, input, work, mut output } = self;
        let run = Depth { s, lanes: E::count::<S>() };
        let twist = &ring.twist;
        // The sixteen rows are cut into sub-tiles of one vector each.
        let size = 2 * run.lanes * ring.points;
        for (part, tile) in tile.chunks_exact_mut(size).enumerate() {
            let work = work.part(part, size);
            let (first, rest) = ring.passes.split_at(usize::from(input.is_some() || output.is_some()));
            let [pass] = first else {
                run.descend(rest, tile, work);
                continue;
            };
            match input {
                Some(input) => s.vectorize(PassIn { pass, twist, input, part, tile }),
                None if work.goes_forward() => s.vectorize(RunPass::<E, false> { pass, tile }),
                None => {}
            }
            run.parts(rest, tile, work);
            match &mut output {
                Some(output) => s.vectorize(PassOut { pass, twist, tile, part, output }),
                None if work.goes_back() => s.vectorize(RunPass::<E, true> { pass, tile }),
                None => {}
            }
        }
    }
}

/// Depth first through the passes.
#[derive(Clone, Copy)]
struct Depth<S> {
    s: S,
    lanes: usize,
}

impl<S: Simd> Depth<S> {
    /// One block by the passes that are left: the first over all of it, the others part by part once it is too large for the cache.
    fn descend<E: Real>(self, passes: &[Pass<E>], block: &mut [E], work: Work<'_, E>) {
        let outer = if size_of_val(block) > NEAR { passes.len().min(1) } else { passes.len() };
        let (outer, inner) = passes.split_at(outer);
        if work.goes_forward() {
            outer.iter().for_each(|pass| self.s.vectorize(RunPass::<E, false> { pass, tile: block }));
        }
        self.parts(inner, block, work);
        if work.goes_back() {
            outer.iter().rev().for_each(|pass| self.s.vectorize(RunPass::<E, true> { pass, tile: block }));
        }
    }

    /// Every block of the next pass; behind the last pass, the multiplication.
    fn parts<E: Real>(self, passes: &[Pass<E>], tile: &mut [E], work: Work<'_, E>) {
        if let Some(first) = passes.first() {
            let size = 2 * self.lanes * first.block;
            tile.chunks_exact_mut(size).enumerate().for_each(|(i, part)| self.descend(passes, part, work.part(i, size)));
            return;
        }
        let (of, spectrum, conjugate) = match work {
            Work::Forward | Work::Back => return,
            Work::Convolve { spectrum, conjugate } => (None, spectrum, conjugate),
            Work::MultiplyBack { of, spectrum, conjugate } => (Some(of), spectrum, conjugate),
        };
        self.s.vectorize(Multiply { tile, of, spectrum, conjugate });
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

/// tile = scale (re + i im) w^j; zero for the points that the panels do not have.
struct Load<'a, E> {
    twist: &'a [[E; 2]],
    re: &'a Panel<E>,
    im: &'a Panel<E>,
    scale: E,
    tile: &'a mut [E],
}

impl<E: Real> WithSimd for Load<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let parts = ROWS / E::count::<S>();
        let [re, im] = [self.re, self.im].map(|panel| E::vectors::<S>(panel.as_flattened()));
        let (zero, scale) = (E::splat(s, E::zero()), E::splat(s, self.scale));
        for (i, tile) in complex_mut::<E, S>(self.tile).chunks_exact_mut(self.twist.len()).enumerate() {
            for (j, (out, &w)) in tile.iter_mut().zip(self.twist).enumerate() {
                let z = [re, im].map(|values| values.get(j * parts + i).map_or(zero, |&v| E::times(s, scale, v)));
                *out = mul::<E, S>(s, z, splat::<E, S>(s, w));
            }
        }
    }
}

/// re + i im = tile w^-j, for as many points as the panels have.
struct Store<'a, E> {
    twist: &'a [[E; 2]],
    tile: &'a [E],
    re: &'a mut Panel<E>,
    im: &'a mut Panel<E>,
}

impl<E: Real> WithSimd for Store<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let parts = ROWS / E::count::<S>();
        let [re, im] = [self.re, self.im].map(|panel| E::vectors_mut::<S>(panel.as_flattened_mut()));
        for (i, tile) in complex::<E, S>(self.tile).chunks_exact(self.twist.len()).enumerate() {
            let points = tile.iter().zip(self.twist).enumerate();
            for (j, (&z, &w)) in points.take(re.len() / parts) {
                let z = mul_conj::<E, S>(s, z, splat::<E, S>(s, w));
                (re[j * parts + i], im[j * parts + i]) = (z[0], z[1]);
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
        let ring = NegacyclicFft::<E>::of(points);
        let (a, b) = (panels::<E>(points, 0), panels::<E>(points, 5));
        let zeros = vec![[E::zero(); ROWS]; points];
        let [mut x, mut spectrum, mut work] = [(); 3].map(|()| vec![E::zero(); ring.tile_len()]);
        ring.forward_complex(&b[0], &b[1], E::of(1.0 / points as f64), &mut spectrum);
        // All of a complex product.
        ring.forward_complex(&a[0], &a[1], E::one(), &mut x);
        let mut product = a.clone();
        let [re, im] = &mut product;
        ring.multiply_back(&x, &spectrum, false, &mut work, re);
        let halves = re.clone();
        at_level(Multiply { tile: &mut x, of: None, spectrum: &spectrum, conjugate: false });
        ring.inverse_complex(&mut x, re, im);
        for lane in [0, 7, ROWS - 1] {
            let want = naive(&row(&a, lane), &row(&b, lane));
            for (got, want) in row(&product, lane).iter().zip(&want) {
                assert!((got - want).abs() < tolerance * points as f64, "{points} points, lane {lane}: {got}, not {want}");
            }
            for (got, want) in halves.iter().zip(&want) {
                assert!((got[lane].f64() - want).abs() < tolerance * points as f64, "{points} points: the real half");
            }
        }
        // From panel to panel, in one go or in two.
        let (mut once, mut twice) = (zeros.clone(), zeros.clone());
        ring.convolve(&a[0], &spectrum, true, &mut work, &mut once);
        ring.forward(&a[0], &mut x);
        ring.multiply_back(&x, &spectrum, true, &mut work, &mut twice);
        assert!(once == twice, "{points} points: in one go or in two, the same bits");
        // The adjoint: conjugate spectra multiply by the reversed polynomial.
        let b = row(&b, 3);
        let reversed: Vec<f64> = (0..2 * points).map(|j| if j == 0 { b[0] } else { -b[2 * points - j] }).collect();
        let want = naive(&row(&[a[0].clone(), zeros], 3), &reversed);
        for (got, want) in once.iter().zip(&want) {
            assert!((got[3].f64() - want).abs() < tolerance * points as f64, "{points} points, conjugate");
        }
    }

    #[test]
    fn products_agree_with_long_multiplication_for_every_radix() {
        let all = [2, 3, 4, 5, 6, 8, 9, 12, 15, 16, 25, 30, 32, 45, 64, 75, 128, 160, 512, 600];
        // Miri takes a thousand times as long.
        for points in all.into_iter().filter(|&points| !cfg!(miri) || points <= 16) {
            check::<f64>(points, 2e-15);
            check::<f32>(points, 1e-6);
        }
    }

    #[test]
    fn correlation_is_the_product_with_the_conjugate_spectrum() {
        let points = 24;
        let ring = NegacyclicFft::<f64>::of(points);
        let (a, b) = (panels::<f64>(points, 1), panels::<f64>(points, 2));
        let [mut x, mut y, mut sum, mut work] = [(); 4].map(|()| vec![0.0; ring.tile_len()]);
        ring.forward(&a[0], &mut x);
        ring.forward_complex(&b[0], &b[1], 1.0, &mut y);
        correlate(&mut sum, &x, &y);
        let [mut re, mut im, mut want] = [(); 3].map(|()| a[0].clone());
        ring.inverse_complex(&mut sum, &mut re, &mut im);
        ring.multiply_back(&x, &y, true, &mut work, &mut want);
        for (got, want) in re.as_flattened().iter().zip(want.as_flattened()) {
            assert!((got - want).abs() < 1e-11, "{got}, not {want}");
        }
    }

    #[test]
    fn rings_are_large_enough_and_smooth() {
        for least in 1..3000 {
            let points = fast_points(least);
            assert!(points >= least && points <= least.next_power_of_two().max(2), "{least}: {points}");
            assert_eq!(radices(points).iter().product::<usize>(), points);
        }
        assert_eq!(fast_points(2048), 2048);
    }
}
