//! Scalars side by side: the vector operations that transforms of many rows at once are made of, at every SIMD level.
//!
//! Where [`super::simd`] leaves vectorising to the compiler, butterflies are too deep for it: here vectors are named, by `pulp`.

use pulp::{Simd, WithSimd};

use super::simd::{Level, level};

/// Rows that are transformed side by side: a number of every vector's width.
pub const ROWS: usize = 16;

/// A scalar with vectors. (The names are not those of `std::ops` and `Float`, which the scalars have, too.)
pub trait Vectors: Copy + 'static {
    /// A vector of the level `S`.
    type Vector<S: Simd>: Copy;
    /// Scalars in a vector; divides [`ROWS`].
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
    /// Rows to columns.
    fn transpose(square: &mut [[Self; ROWS]; ROWS]) {
        transpose_by_swaps(square);
    }
}

fn transpose_by_swaps<E>(square: &mut [[E; ROWS]; ROWS]) {
    for i in 1..ROWS {
        let (above, below) = square.split_at_mut(i);
        above.iter_mut().enumerate().for_each(|(j, row)| std::mem::swap(&mut row[i], &mut below[0][j]));
    }
}

macro_rules! lanes {
    ($scalar:ty, $vector:ident, $count:ident, $cast:ident, $cast_mut:ident, $splat:ident, $add:ident, $sub:ident, $mul:ident, $mul_add:ident, $neg_mul_add:ident, { $($own:item)* }) => {
        impl Vectors for $scalar {
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
            $($own)*
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
    negate_mul_add_e_f32s,
    {
        fn transpose(square: &mut [[f32; ROWS]; ROWS]) {
            match level() {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512(simd) => simd.vectorize(|| transpose_avx512(simd, square)),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2(simd) => simd.vectorize(|| transpose_avx2(simd, square)),
                #[cfg(target_arch = "aarch64")]
                Level::Neon(simd) => transpose_neon(simd, square),
                _ => transpose_by_swaps(square),
            }
        }
    }
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
    negate_mul_add_e_f64s,
    {}
);

/// Pairs of rows are woven together, four times: by single numbers, by pairs, by quarters of a vector, by halves.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_avx512(simd: pulp::x86::V4, square: &mut [[f32; ROWS]; ROWS]) {
    let simd = simd.avx512f;
    let (mut a, mut b) = ([simd._mm512_setzero_ps(); ROWS], [simd._mm512_setzero_ps(); ROWS]);
    // Rows are read where they are woven, and written where they are ready: all at once, they became calls of memcpy.
    for i in 0..8 {
        let (even, odd) = (pulp::cast(square[2 * i]), pulp::cast(square[2 * i + 1]));
        b[2 * i] = simd._mm512_unpacklo_ps(even, odd);
        b[2 * i + 1] = simd._mm512_unpackhi_ps(even, odd);
    }
    for i in 0..4 {
        for j in 0..2 {
            let (x, y) = (simd._mm512_castps_pd(b[4 * i + j]), simd._mm512_castps_pd(b[4 * i + 2 + j]));
            a[4 * i + 2 * j] = simd._mm512_castpd_ps(simd._mm512_unpacklo_pd(x, y));
            a[4 * i + 2 * j + 1] = simd._mm512_castpd_ps(simd._mm512_unpackhi_pd(x, y));
        }
    }
    // Now quarter q of a[4 i + j] holds column 4 q + j of rows 4 i to 4 i + 3.
    for j in 0..4 {
        let low = [simd._mm512_shuffle_f32x4::<0x44>(a[j], a[4 + j]), simd._mm512_shuffle_f32x4::<0x44>(a[8 + j], a[12 + j])];
        let high = [simd._mm512_shuffle_f32x4::<0xEE>(a[j], a[4 + j]), simd._mm512_shuffle_f32x4::<0xEE>(a[8 + j], a[12 + j])];
        square[j] = pulp::cast(simd._mm512_shuffle_f32x4::<0x88>(low[0], low[1]));
        square[4 + j] = pulp::cast(simd._mm512_shuffle_f32x4::<0xDD>(low[0], low[1]));
        square[8 + j] = pulp::cast(simd._mm512_shuffle_f32x4::<0x88>(high[0], high[1]));
        square[12 + j] = pulp::cast(simd._mm512_shuffle_f32x4::<0xDD>(high[0], high[1]));
    }
}

/// Squares of eight times eight, each woven three times: by single numbers, by pairs, by halves of a vector.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_avx2(simd: pulp::x86::V3, square: &mut [[f32; ROWS]; ROWS]) {
    let (simd, from) = (simd.avx, *square);
    let (mut a, mut b) = ([simd._mm256_setzero_ps(); 8], [simd._mm256_setzero_ps(); 8]);
    // No closures: one that is not inlined has no wide vectors.
    for (i, rows) in from.as_chunks::<8>().0.iter().enumerate() {
        for j in 0..ROWS / 8 {
            for k in 0..4 {
                let (even, odd) = (pulp::cast(rows[2 * k].as_chunks::<8>().0[j]), pulp::cast(rows[2 * k + 1].as_chunks::<8>().0[j]));
                b[2 * k] = simd._mm256_unpacklo_ps(even, odd);
                b[2 * k + 1] = simd._mm256_unpackhi_ps(even, odd);
            }
            for (four, k) in [(0, 0), (0, 1), (4, 0), (4, 1)] {
                let (x, y) = (simd._mm256_castps_pd(b[four + k]), simd._mm256_castps_pd(b[four + 2 + k]));
                a[four + 2 * k] = simd._mm256_castpd_ps(simd._mm256_unpacklo_pd(x, y));
                a[four + 2 * k + 1] = simd._mm256_castpd_ps(simd._mm256_unpackhi_pd(x, y));
            }
            for k in 0..4 {
                square[8 * j + k].as_chunks_mut::<8>().0[i] = pulp::cast(simd._mm256_permute2f128_ps::<0x20>(a[k], a[4 + k]));
                square[8 * j + 4 + k].as_chunks_mut::<8>().0[i] = pulp::cast(simd._mm256_permute2f128_ps::<0x31>(a[k], a[4 + k]));
            }
        }
    }
}

/// Squares of four times four, each woven together twice: by single numbers, by pairs.
#[cfg(target_arch = "aarch64")]
fn transpose_neon(simd: pulp::aarch64::Neon, square: &mut [[f32; ROWS]; ROWS]) {
    let (simd, from) = (simd.neon, *square);
    let pairs = |even, odd| [simd.vtrn1q_f32(even, odd), simd.vtrn2q_f32(even, odd)].map(|v| simd.vreinterpretq_f64_f32(v));
    for (i, rows) in from.as_chunks::<4>().0.iter().enumerate() {
        for j in 0..ROWS / 4 {
            let [a, b, c, d] = rows.each_ref().map(|row| pulp::cast(row.as_chunks::<4>().0[j]));
            let ([ac, bd], [eg, fh]) = (pairs(a, b), pairs(c, d));
            let columns = [simd.vtrn1q_f64(ac, eg), simd.vtrn1q_f64(bd, fh), simd.vtrn2q_f64(ac, eg), simd.vtrn2q_f64(bd, fh)];
            for (k, column) in columns.into_iter().enumerate() {
                square[4 * j + k].as_chunks_mut::<4>().0[i] = pulp::cast(column);
            }
        }
    }
}

/// Runs `op` with the vectors of the machine's level.
pub fn at_level<Op: WithSimd>(op: Op) -> Op::Output {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(simd) => Simd::vectorize(simd, op),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(simd) => Simd::vectorize(simd, op),
        #[cfg(target_arch = "aarch64")]
        Level::Neon(simd) => Simd::vectorize(simd, op),
        #[cfg(target_arch = "wasm32")]
        Level::Simd128(simd) => Simd::vectorize(simd, op),
        Level::Portable => op.with_simd(pulp::Scalar::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<E: Vectors + From<f32> + PartialEq + std::fmt::Debug>() {
        let mut square: [[E; ROWS]; ROWS] = std::array::from_fn(|i| std::array::from_fn(|j| E::from((i * ROWS + j) as f32)));
        E::transpose(&mut square);
        for (i, row) in square.iter().enumerate() {
            for (j, &v) in row.iter().enumerate() {
                assert_eq!(v, E::from((j * ROWS + i) as f32));
            }
        }
    }

    #[test]
    fn rows_become_columns() {
        check::<f32>();
        check::<f64>();
    }

    struct Bits;

    impl WithSimd for Bits {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            32 * <f32 as Vectors>::count::<S>()
        }
    }

    #[test]
    fn vectors_are_as_wide_as_the_level_says() {
        let bits = match level() {
            Level::Portable => 32,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => 256,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => 512,
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => 128,
            #[cfg(target_arch = "wasm32")]
            Level::Simd128(_) => 128,
        };
        assert_eq!(at_level(Bits), bits);
    }
}
