//! Matrix products by the `gemm` crates: a safe wrapper, for one thread and, by blocks of fixed size, for all of them.

use gemm_common::Parallelism;

use num_traits::Num;

use super::threads::for_each;

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

/// Rows and columns of the largest block, and of the smallest: a block packs its operands anew, so that small ones lose by it what threads
/// gain, and wide ones more than tall ones.
const LARGEST: [usize; 2] = [1024, 512];
const SMALLEST: [usize; 2] = if cfg!(miri) { [32, 16] } else { [128, 64] };

/// So many blocks are enough to be shared evenly.
const ENOUGH: usize = 8;

/// Products of fewer multiplications are not worth a second thread. (Interpreted by Miri, what has several blocks is small.)
const ONE_BLOCK: usize = if cfg!(miri) { 1 << 8 } else { 1 << 18 };

/// The first and the number of entries of each of the fewest even pieces of at most `most`.
fn pieces(len: usize, most: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    // Whole vectors, where there is more than one piece.
    let size = len.div_ceil(len.div_ceil(most).max(1)).next_multiple_of(16);
    (0..len).step_by(size.max(1)).map(move |start| (start, size.min(len - start)))
}

/// The most rows and columns of a block of a product: halved until there are enough blocks, while each is worth a thread.
fn block_size(m: usize, n: usize, k: usize) -> [usize; 2] {
    let [mut rows, mut columns] = LARGEST;
    while pieces(m, rows).count() * pieces(n, columns).count() < ENOUGH {
        let (cut_rows, cut_columns) = (rows > SMALLEST[0], columns > SMALLEST[1]);
        let work = rows.min(m) * columns.min(n) / 2;
        if work.saturating_mul(k) < ONE_BLOCK || !(cut_rows || cut_columns) {
            break;
        }
        // The longer side, in blocks' own proportions.
        if cut_columns && (!cut_rows || 2 * columns.min(n) >= rows.min(m)) { columns /= 2 } else { rows /= 2 }
    }
    // Where the inner size is small, a block that is worth a thread is longer.
    let least = |other: usize| ONE_BLOCK / (other * k).max(1);
    rows = rows.max(least(columns.min(n)));
    [rows, columns.max(least(rows.min(m)))]
}

/// c = a b for a contiguous row-major c, on all cores: by blocks that the shape alone decides, so that the bits do not depend on the
/// number of threads.
#[allow(unsafe_code, reason = "threads write disjoint blocks of one slice, which are no slices of their own")]
pub fn gemm_in_blocks<E: Gemm + Num + Send + Sync + Copy>(a: Matrix<'_, E>, b: Matrix<'_, E>, c: &mut [E]) {
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
    if m.saturating_mul(n).saturating_mul(k) < ONE_BLOCK {
        return gemm(a, b, c, n, false);
    }
    assert_eq!(k, b.rows, "inner sizes");
    assert!(m * n <= c.len(), "the result fits its slice");
    let [rows, columns] = block_size(m, n, k);
    let blocks = pieces(m, rows).flat_map(|rows| pieces(n, columns).map(move |columns| (rows, columns))).collect();
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

    #[test]
    fn blocks_make_the_whole_product() {
        let large =
            [(1, 300_000, 1), (129, 257, 64), (300, 20, 60), (20, 700, 31), (1, 1, 300_000), (256, 512, 3), (0, 5, 7), (64, 64, 64)];
        let small = [(1, 300, 1), (33, 65, 2), (40, 7, 5), (7, 50, 3), (1, 1, 300), (0, 5, 7), (6, 6, 6)];
        for &(m, n, k) in if cfg!(miri) { &small[..] } else { &large } {
            for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
                let a: Vec<f64> = (0..m * k).map(|i| ((i * 37 % 101) as f64 - 50.0) / 50.0).collect();
                let b: Vec<f64> = (0..k * n).map(|i| ((i * 53 % 97) as f64 - 48.0) / 48.0).collect();
                let view = |v, r, c, t: bool| if t { Matrix::new(v, c, r).transposed() } else { Matrix::new(v, r, c) };
                let (mut whole, mut blocks) = (vec![f64::NAN; m * n], vec![f64::NAN; m * n]);
                gemm(view(&a, m, k, ta), view(&b, k, n, tb), &mut whole, n, false);
                gemm_in_blocks(view(&a, m, k, ta), view(&b, k, n, tb), &mut blocks);
                for (got, want) in blocks.iter().zip(&whole) {
                    assert!((got - want).abs() <= 1e-12 * (k as f64 + 1.0), "{m} {n} {k} {ta} {tb}: {got} and not {want}");
                }
            }
        }
        for (len, most) in [(0, 5), (1, 128), (784, 256), (129, 128), (1024, 256)] {
            let pieces: Vec<_> = pieces(len, most).collect();
            assert_eq!(
                pieces.iter().fold(0, |end, &(start, count)| {
                    assert_eq!(start, end);
                    start + count
                }),
                len
            );
            assert!(pieces.iter().all(|&(_, count)| (1..=most.next_multiple_of(16)).contains(&count)), "{pieces:?}");
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
