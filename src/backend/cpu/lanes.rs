//! Scalars side by side: the vector operations that transforms of many rows at once are made of, at every SIMD level.
//!
//! Where [`super::simd`] leaves vectorising to the compiler, butterflies are too deep for it: here vectors are named, by `pulp`.

use pulp::{Simd, WithSimd};

use super::simd::{Level, level};

/// A scalar with vectors. (The names are not those of `std::ops` and `Float`, which the scalars have, too.)
pub trait Lanes: Copy + 'static {
    /// A vector of the level `S`.
    type Vector<S: Simd>: Copy;
    /// Scalars in a vector; divides [`super::panel::ROWS`].
    fn count<S: Simd>() -> usize;
    /// A slice of whole vectors.
    fn vectors<S: Simd>(values: &[Self]) -> &[Self::Vector<S>];
    /// A slice of whole vectors, mutable.
    fn vectors_mut<S: Simd>(values: &mut [Self]) -> &mut [Self::Vector<S>];
    /// The same scalar everywhere.
    fn splat<S: Simd>(s: S, x: Self) -> Self::Vector<S>;
    /// a + b.
    fn plus<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a - b.
    fn minus<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a b.
    fn times<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// a b + c.
    fn times_plus<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;
    /// c - a b.
    fn minus_times<S: Simd>(s: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;
}

macro_rules! lanes {
    ($scalar:ty, $vector:ident, $count:ident, $cast:ident, $cast_mut:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $mul_add:ident, $neg_mul_add:ident) => {
        impl Lanes for $scalar {
            type Vector<S: Simd> = S::$vector;
            #[inline(always)]
            fn count<S: Simd>() -> usize {
                S::$count
            }
            #[inline(always)]
            fn vectors<S: Simd>(values: &[Self]) -> &[S::$vector] {
                S::$cast(values).0
            }
            #[inline(always)]
            fn vectors_mut<S: Simd>(values: &mut [Self]) -> &mut [S::$vector] {
                S::$cast_mut(values).0
            }
            #[inline(always)]
            fn splat<S: Simd>(s: S, x: Self) -> S::$vector {
                s.$splat(x)
            }
            #[inline(always)]
            fn plus<S: Simd>(s: S, a: S::$vector, b: S::$vector) -> S::$vector {
                s.$add(a, b)
            }
            #[inline(always)]
            fn minus<S: Simd>(s: S, a: S::$vector, b: S::$vector) -> S::$vector {
                s.$sub(a, b)
            }
            #[inline(always)]
            fn times<S: Simd>(s: S, a: S::$vector, b: S::$vector) -> S::$vector {
                s.$mul(a, b)
            }
            // The `e` forms fuse where the machine can and round twice where it cannot, instead of calling a library.
            #[inline(always)]
            fn times_plus<S: Simd>(s: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                s.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn minus_times<S: Simd>(s: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                s.$neg_mul_add(a, b, c)
            }
        }
    };
}

lanes!(
    f32,
    f32s,
    F32_LANES,
    as_simd_f32s,
    as_mut_simd_f32s,
    splat_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    mul_add_e_f32s,
    negate_mul_add_e_f32s
);
lanes!(
    f64,
    f64s,
    F64_LANES,
    as_simd_f64s,
    as_mut_simd_f64s,
    splat_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    mul_add_e_f64s,
    negate_mul_add_e_f64s
);

/// Runs `op` with the vectors of the machine's [`level`].
pub fn at_level<Op: WithSimd>(op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::x86::{V3, V4};
        if level() == Level::Avx512
            && let Some(simd) = V4::try_new()
        {
            return Simd::vectorize(simd, op);
        }
        if level() >= Level::Avx2
            && let Some(simd) = V3::try_new()
        {
            return Simd::vectorize(simd, op);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if let Some(simd) = pulp::aarch64::Neon::try_new() {
        return Simd::vectorize(simd, op);
    }
    op.with_simd(pulp::Scalar::new())
}
