//! Matrix products by the `gemm` crates: a safe wrapper, for one thread and, by blocks, for all of them.

use gemm_common::Parallelism;

use num_traits::Num;

use super::threads::{for_each, threads};

/// A gemm function: m, n, k; destination with column and row stride, whether to read it; left and right operands with theirs;
/// the factors of destination and product; conjugations; parallelism.
type Kernel<T> = unsafe fn(
    usize,
    usize,
    usize,
    *mut T,
    isize,
    isize,
    bool,
    *const T,
    isize,
    isize,
    *const T,
    isize,
    isize,
    T,
    T,
    bool,
    bool,
    bool,
    Parallelism,
);

/// Scalars that a gemm crate serves.
pub trait Gemm: Sized {
    /// The fastest kernel for this machine.
    fn kernel() -> Kernel<Self>;
}

impl Gemm for f32 {
    fn kernel() -> Kernel<f32> {
        gemm_f32::gemm::f32::get_gemm_fn()
    }
}

impl Gemm for f64 {
    fn kernel() -> Kernel<f64> {
        gemm_f64::gemm::f64::get_gemm_fn()
    }
}

/// A matrix in a slice, which holds every element that the strides reach.
#[derive(Clone, Copy)]
pub struct Matrix<'a, E> {
    values: &'a [E],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, E> Matrix<'a, E> {
    /// Row-major, contiguous.
    pub fn new(values: &'a [E], rows: usize, columns: usize) -> Self {
        assert!(rows.checked_mul(columns).is_some_and(|count| count <= values.len()), "{rows} rows of {columns} fit their slice");
        Matrix { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Matrix {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    /// `count` rows from `start` on.
    pub fn rows(self, start: usize, count: usize) -> Self {
        self.transposed().columns(start, count).transposed()
    }

    /// `count` columns from `start` on.
    pub fn columns(self, start: usize, count: usize) -> Self {
        assert!(start <= self.columns && count <= self.columns - start, "{count} columns from {start} on, of {}", self.columns);
        let skip = (start * self.column_stride).min(self.values.len());
        Matrix { values: &self.values[skip..], columns: count, ..self }
    }
}

/// c = a b, or c += a b; c is row-major with `row_stride` elements from row to row.
#[allow(unsafe_code, reason = "the gemm crates take pointers and strides")]
pub fn gemm<E: Gemm + Num>(a: Matrix<'_, E>, b: Matrix<'_, E>, c: &mut [E], row_stride: usize, accumulate: bool) {
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert_eq!(k, b.rows, "inner sizes");
    if m == 0 || n == 0 {
        return;
    }
    let fits = (m - 1).checked_mul(row_stride).and_then(|last| last.checked_add(n)).is_some_and(|end| end <= c.len());
    assert!(row_stride >= n && fits, "the result fits its slice");
    // SAFETY: the result's slice holds every element that its stride reaches, as asserted above; it is borrowed mutably.
    unsafe { gemm_at(a, b, c.as_mut_ptr(), row_stride, accumulate) }
}

/// c = a b, or c += a b, for a result that is given by its first element.
///
/// # Safety
/// The elements from `c` on that `row_stride` reaches, m rows of n, may be written, overlap neither operand, and are used by nobody else
/// meanwhile.
#[allow(unsafe_code, reason = "the gemm crates take pointers and strides")]
unsafe fn gemm_at<E: Gemm + Num>(a: Matrix<'_, E>, b: Matrix<'_, E>, c: *mut E, row_stride: usize, accumulate: bool) {
    let stride = |s: usize| s as isize;
    // The kernels are column-major: a row-major product is computed as its transpose, c^T = b^T a^T.
    // SAFETY: the operands' slices hold every element that their strides reach, as `Matrix::new` asserts and its other methods keep; the
    // result is the caller's promise.
    unsafe {
        E::kernel()(
            b.columns,
            a.rows,
            a.columns,
            c,
            stride(row_stride),
            1,
            accumulate,
            b.values.as_ptr(),
            stride(b.row_stride),
            stride(b.column_stride),
            a.values.as_ptr(),
            stride(a.row_stride),
            stride(a.column_stride),
            if accumulate { E::one() } else { E::zero() },
            E::one(),
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// So many blocks for each thread are shared evenly.
const BLOCKS_A_THREAD: usize = 4;

/// Products of fewer multiplications are not worth a second thread. (Interpreted by Miri, what has several blocks is small.)
const ONE_BLOCK: usize = if cfg!(miri) { 1 << 8 } else { 1 << 18 };

/// Entries of a vector, at most.
const VECTOR: usize = 16;

/// The first and the number of entries of each of `count` even pieces, of whole vectors but for the last.
fn pieces(len: usize, count: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let vectors = len.div_ceil(VECTOR);
    let start = move |i: usize| (vectors * i / count * VECTOR).min(len);
    (0..count).map(move |i| (start(i), start(i + 1) - start(i))).filter(|&(_, size)| size > 0)
}

/// The fewest entries of a piece.
fn smallest(len: usize, count: usize) -> usize {
    if count == 1 { len } else { (len.div_ceil(VECTOR) / count * VECTOR).saturating_sub(VECTOR - 1) }
}

/// Whether an entry of a result of this size has the bits that it has in any larger result. The gemm crates have ways of their own for vectors
/// and for small results; beyond them they cut the inner axis by its length alone.
fn is_large(rows: usize, columns: usize) -> bool {
    let [less, more] = if rows < columns { [rows, columns] } else { [columns, rows] };
    less > 1 && more > 64 && less * more > 256
}

/// Into how many pieces the rows and the columns of a product are cut, so that there are `enough` blocks, while each is worth a thread and has
/// the bits of the whole.
fn cuts([m, n, k]: [usize; 3], enough: usize) -> [usize; 2] {
    let mut counts = [1, 1];
    while counts[0] * counts[1] < enough {
        // The longer side, where a block is twice as tall as it is wide: it packs its operands anew, and wide ones lose more by it.
        let [rows, columns] = [m / counts[0], n / counts[1]];
        let cut = if 2 * columns >= rows { [counts[0], 2 * counts[1]] } else { [2 * counts[0], counts[1]] };
        let [rows, columns] = [smallest(m, cut[0]), smallest(n, cut[1])];
        if !is_large(rows, columns) || rows.saturating_mul(columns).saturating_mul(k) < ONE_BLOCK {
            break;
        }
        counts = cut;
    }
    counts
}

/// c = a b for a contiguous row-major c, one of `beside` products that are taken side by side, on all cores: by as many blocks as keep them
/// busy. The bits are the same for any number of threads, because they are the same for any blocks.
pub fn gemm_in_blocks<E: Gemm + Num + Send + Sync + Copy>(a: Matrix<'_, E>, b: Matrix<'_, E>, c: &mut [E], beside: usize) {
    let enough = match threads() {
        1 => 1,
        threads => (BLOCKS_A_THREAD * threads).div_ceil(beside.max(1)),
    };
    gemm_by(cuts([a.rows, b.columns, a.columns], enough), a, b, c);
}

/// The same by so many pieces of its rows and of its columns.
#[allow(unsafe_code, reason = "threads write disjoint blocks of one slice, which are no slices of their own")]
fn gemm_by<E: Gemm + Num + Send + Sync + Copy>(counts: [usize; 2], a: Matrix<'_, E>, b: Matrix<'_, E>, c: &mut [E]) {
    /// The first element of the result, for all threads.
    struct Shared<E>(*mut E);
    // SAFETY: threads write through it to disjoint blocks only, as below.
    unsafe impl<E: Send> Sync for Shared<E> {}
    impl<E> Shared<E> {
        fn at(&self, offset: usize) -> *mut E {
            self.0.wrapping_add(offset)
        }
    }
    let (m, n, k) = (a.rows, b.columns, a.columns);
    if counts == [1, 1] {
        return gemm(a, b, c, n, false);
    }
    assert_eq!(k, b.rows, "inner sizes");
    assert!(m * n <= c.len(), "the result fits its slice");
    let blocks = pieces(m, counts[0]).flat_map(|rows| pieces(n, counts[1]).map(move |columns| (rows, columns))).collect();
    let c = Shared(c.as_mut_ptr());
    for_each(blocks, |_, ((row, rows), (column, columns))| {
        // SAFETY: the block lies within m rows of n, which c holds as asserted above; pieces do not overlap, so no two blocks do, and c is
        // borrowed mutably, so nobody else has it.
        unsafe { gemm_at(a.rows(row, rows), b.columns(column, columns), c.at(row * n + column), n, false) }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Real;

    #[test]
    fn products_agree_with_three_loops_and_never_read_what_they_overwrite() {
        let depth = if cfg!(miri) { 20 } else { 2000 };
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (17, 33, depth / 40 + 15), (1, 9, 1), (5, 1, 3), (2, 3, depth), (3, 4, 0)] {
            for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
                let a: Vec<f64> = (0..m * k).map(|i| ((i * 37 % 101) as f64 - 50.0) / 50.0).collect();
                let b: Vec<f64> = (0..k * n).map(|i| ((i * 53 % 97) as f64 - 48.0) / 48.0).collect();
                let view = |v, r, c, t: bool| if t { Matrix::new(v, c, r).transposed() } else { Matrix::new(v, r, c) };
                let mut c = vec![f64::NAN; m * n];
                gemm(view(&a, m, k, ta), view(&b, k, n, tb), &mut c, n, false);
                gemm(view(&a, m, k, ta), view(&b, k, n, tb), &mut c, n, true);
                let at = |v: &[f64], i: usize, j: usize, r: usize, c: usize, t: bool| if t { v[j * r + i] } else { v[i * c + j] };
                for i in 0..m {
                    for j in 0..n {
                        let want: f64 = (0..k).map(|p| at(&a, i, p, m, k, ta) * at(&b, p, j, k, n, tb)).sum();
                        assert!((c[i * n + j] - 2.0 * want).abs() < 1e-12 * (k as f64 + 1.0), "{m} {n} {k} {ta} {tb}");
                    }
                }
            }
        }
    }

    /// Numbers whose sums are rounded, so that another order of them shows.
    fn numbers<E: Real>(count: usize, seed: usize) -> Vec<E> {
        (0..count).map(|i| E::of(((i * 7919 + seed * 104_729) % 10_007) as f64 / 10_007.0 - 0.5)).collect()
    }

    fn blocks_have_the_bits_of_the_whole<E: Real>(size @ [m, n, k]: [usize; 3]) {
        let (a, b) = (numbers::<E>(m * k, 1), numbers::<E>(k * n, 2));
        let view = |v, rows, columns, t: bool| if t { Matrix::new(v, columns, rows).transposed() } else { Matrix::new(v, rows, columns) };
        for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
            let (a, b) = (view(&a, m, k, ta), view(&b, k, n, tb));
            let mut whole = vec![E::nan(); m * n];
            gemm(a, b, &mut whole, n, false);
            for enough in [2, 8, 12, 64] {
                let (mut blocks, counts) = (vec![E::nan(); m * n], cuts(size, enough));
                gemm_by(counts, a, b, &mut blocks);
                assert!(blocks == whole, "{size:?} {ta} {tb} in {counts:?}");
            }
        }
    }

    #[test]
    fn an_entry_has_the_same_bits_in_any_block() {
        let small = [[1, 300, 1], [33, 65, 2], [90, 7, 5], [7, 80, 3], [1, 1, 300], [0, 5, 7], [5, 0, 7], [66, 4, 7]];
        let vectors = [[1, 300_000, 1], [1, 1, 300_000], [1, 900, 900], [900, 1, 900]];
        let large = [[129, 257, 64], [300, 20, 60], [20, 700, 31], [256, 512, 3], [65, 66, 1100], [2, 5000, 600], [5000, 2, 600]];
        let deep = [[177, 193, 1300], [120, 120, 1200]];
        let sizes = if cfg!(miri) { vec![&small[..]] } else { vec![&small[..], &vectors, &large, &deep] };
        for &size in sizes.into_iter().flatten() {
            blocks_have_the_bits_of_the_whole::<f32>(size);
            blocks_have_the_bits_of_the_whole::<f64>(size);
        }
        assert!(cuts([1024, 1024, 1024], 8).iter().product::<usize>() == 8 && cuts([1024, 1024, 1024], 1) == [1, 1]);
        assert_eq!(cuts([1, 1 << 20, 1 << 10], 8), [1, 1], "a vector");
    }

    #[test]
    fn pieces_are_even_and_cover_all() {
        for (len, count) in [(0, 5), (1, 1), (784, 4), (129, 2), (1024, 8), (100, 7), (2049, 16)] {
            let pieces: Vec<_> = pieces(len, count).collect();
            let end = pieces.iter().fold(0, |end, &(start, size)| {
                assert_eq!(start, end);
                start + size
            });
            assert_eq!(end, len);
            assert!(pieces.iter().all(|&(_, size)| size >= smallest(len, count).max(1)), "{len} {count} {pieces:?}");
        }
    }

    #[cfg(panic = "unwind")]
    #[test]
    fn what_does_not_fit_its_slice_is_refused() {
        let refused = |f: fn()| std::panic::catch_unwind(f).is_err();
        assert!(refused(|| _ = Matrix::new(&[0.0; 5], 2, 3)));
        assert!(refused(|| _ = Matrix::new(&[0.0; 4], usize::MAX / 2, 4)), "a size that overflows");
        assert!(refused(|| _ = Matrix::new(&[0.0; 6], 2, 3).columns(usize::MAX, 2)));
        assert!(refused(|| _ = Matrix::new(&[0.0; 6], 2, 3).transposed().columns(1, 2)));
        let multiply = |b: Matrix<'_, f64>, c: &mut [f64], row_stride| {
            let a = Matrix::new(&[0.0; 4], 2, 2);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gemm(a, b, c, row_stride, false))).is_ok()
        };
        let square = Matrix::new(&[0.0; 4], 2, 2);
        assert!(multiply(square, &mut [0.0; 5], 3));
        assert!(!multiply(square, &mut [0.0; 4], 3));
        assert!(!multiply(square, &mut [0.0; 4], 1), "rows that overlap");
        assert!(!multiply(square, &mut [0.0; 4], usize::MAX), "a stride that overflows");
        assert!(!multiply(Matrix::new(&[0.0; 6], 3, 2), &mut [0.0; 4], 2), "inner sizes");
    }
}
