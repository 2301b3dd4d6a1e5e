//! Complex numbers in vectors, and the Fourier transforms of two, three, four, five and eight of them.

use pulp::Simd;

use crate::backend::Real;
use crate::backend::host::vectors::Vectors;

/// A complex vector.
pub type C<E, S> = [<E as Vectors>::Vector<S>; 2];

/// Vectors of complex points.
#[inline(always)]
pub fn complex<E: Vectors, S: Simd>(tile: &[E]) -> &[C<E, S>] {
    E::vectors::<S>(tile).as_chunks().0
}

/// Vectors of complex points, mutable.
#[inline(always)]
pub fn complex_mut<E: Vectors, S: Simd>(tile: &mut [E]) -> &mut [C<E, S>] {
    E::vectors_mut::<S>(tile).as_chunks_mut().0
}

#[inline(always)]
fn add<E: Vectors, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::plus(s, a[0], b[0]), E::plus(s, a[1], b[1])]
}

#[inline(always)]
fn sub<E: Vectors, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::minus(s, a[0], b[0]), E::minus(s, a[1], b[1])]
}

/// a + i b.
#[inline(always)]
fn add_i<E: Vectors, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::minus(s, a[0], b[1]), E::plus(s, a[1], b[0])]
}

/// a - i b.
#[inline(always)]
fn sub_i<E: Vectors, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::plus(s, a[0], b[1]), E::minus(s, a[1], b[0])]
}

/// a b.
#[inline(always)]
pub fn mul<E: Vectors, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::minus_times(s, a[1], b[1], E::times(s, a[0], b[0])), E::times_plus(s, a[0], b[1], E::times(s, a[1], b[0]))]
}

/// a conj(b).
#[inline(always)]
pub fn mul_conj<E: Vectors, S: Simd>(s: S, a: C<E, S>, b: C<E, S>) -> C<E, S> {
    [E::times_plus(s, a[1], b[1], E::times(s, a[0], b[0])), E::minus_times(s, a[0], b[1], E::times(s, a[1], b[0]))]
}

/// The same number everywhere.
#[inline(always)]
pub fn splat<E: Vectors, S: Simd>(s: S, z: [E; 2]) -> C<E, S> {
    [E::splat(s, z[0]), E::splat(s, z[1])]
}

/// a + f b, real f.
#[inline(always)]
fn add_scaled<E: Vectors, S: Simd>(s: S, a: C<E, S>, f: E::Vector<S>, b: C<E, S>) -> C<E, S> {
    [E::times_plus(s, f, b[0], a[0]), E::times_plus(s, f, b[1], a[1])]
}

/// The discrete Fourier transforms of few points: a trait, not functions handed about, for the compiler to see through.
pub trait Dft<const R: usize> {
    /// X_k = sum_j x_j e^(-2 pi i j k / R).
    fn dft<E: Real, S: Simd>(s: S, x: [C<E, S>; R]) -> [C<E, S>; R];
}

/// The butterflies of all radices.
pub struct Butterfly;

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
pub fn exchange<E: Vectors, S: Simd, const INVERSE: bool>(z: C<E, S>) -> C<E, S> {
    if INVERSE { [z[1], z[0]] } else { z }
}
