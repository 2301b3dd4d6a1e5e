//! Matrix products by the `gemm` crates: a safe wrapper. One call computes one product on one thread.

use gemm_common::Parallelism;

use num_traits::Num;

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
    let stride = |s: usize| s as isize;
    // The kernels are column-major: a row-major product is computed as its transpose, c^T = b^T a^T.
    // SAFETY: the operands' slices hold every element that their strides reach, as `Matrix::new` asserts and its other methods keep; the
    // result's does, as asserted above; c is borrowed mutably, so it overlaps neither operand.
    unsafe {
        E::kernel()(
            n,
            m,
            k,
            c.as_mut_ptr(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_agree_with_three_loops_and_never_read_what_they_overwrite() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (17, 33, 65), (1, 9, 1), (5, 1, 3), (2, 3, 2000), (3, 4, 0)] {
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
