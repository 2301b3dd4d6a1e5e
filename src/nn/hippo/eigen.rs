//! The eigenvalues and eigenvectors of a Hermitian matrix, by cyclic Jacobi rotations.

use super::Complex64;
use crate::error::{Error, Result};

/// Sweeps until the solver gives up. Convergence is quadratic: 13 serve HiPPO-LegS at N = 1024.
const MAX_SWEEPS: usize = 60;

/// The eigenvalues and eigenvectors of a Hermitian matrix H: `H V = V diag(values)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigh {
    /// Eigenvalues, shape (N), ascending.
    pub values: Vec<f64>,
    /// Orthonormal eigenvectors in columns, in the order of the values, shape (N, N), row-major. Their phases are arbitrary.
    pub vectors: Vec<Complex64>,
}

/// The eigenvalues and eigenvectors of the Hermitian matrix `h` of shape (`n`, `n`), row-major.
///
/// Cyclic Jacobi rotations (Golub and Van Loan, Matrix Computations, section 8.5): slower than a tridiagonal method by a
/// constant, but short, and as accurate as f64 allows, for multiple eigenvalues too. Of `h`, only the upper triangle and the real part of
/// the diagonal are read.
///
/// # Errors
///
/// `h` has another number of elements than `n` * `n`, or one that is NaN, infinite, or close to overflow.
pub fn eigh(h: &[Complex64], n: usize) -> Result<Eigh> {
    if Some(h.len()) != n.checked_mul(n) {
        return Err(Error::shape("eigh", None, &[n, n], &[h.len()], "give the n * n elements of a square matrix, row by row"));
    }
    // An eigenvalue can be n times the largest element, and has to be finite too.
    let limit = f64::MAX / (4 * n.max(1)) as f64;
    if !h.iter().all(|h| h.norm() < limit) {
        return Err(Error::value("eigh", "the matrix has an element that is NaN, infinite, or close to overflow"));
    }
    let mut work = Rotating::new(h, n);
    let negligible = work.negligible();
    for _ in 0..MAX_SWEEPS {
        if !work.sweep(negligible) {
            return Ok(work.sorted());
        }
    }
    Err(Error::value("eigh", format!("no convergence in {MAX_SWEEPS} sweeps")))
}

/// The matrix [H | I] under the unitary row operations that make H diagonal; its right half becomes V^*.
///
/// The left half gets the conjugate column operations too, but as it stays Hermitian, these are only copies.
struct Rotating {
    n: usize,
    /// From one row to the next: 2n and a cache line, as a column at a power of two would fall into one set of the cache.
    width: usize,
    rows: Vec<Complex64>,
}

impl Rotating {
    fn new(h: &[Complex64], n: usize) -> Self {
        let width = 2 * n + 4;
        let mut rows = vec![Complex64::ZERO; n * width];
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            for j in 0..n {
                row[j] = if i <= j { h[i * n + j] } else { h[j * n + i].conj() };
            }
            row[i].im = 0.0;
            row[n + i] = Complex64::ONE;
        }
        Rotating { n, width, rows }
    }

    /// Elements up to this may stay: all together they move an eigenvalue by a rounding error of the largest element at most.
    fn negligible(&self) -> f64 {
        let elements = self.rows.chunks_exact(self.width).flat_map(|row| &row[..self.n]);
        f64::EPSILON / self.n.max(1) as f64 * elements.map(|h| h.norm()).fold(0.0, f64::max)
    }

    /// Visits every element above the diagonal once; true if one had to be rotated away.
    fn sweep(&mut self, negligible: f64) -> bool {
        let mut rotated = false;
        for p in 0..self.n {
            for q in p + 1..self.n {
                let apq = self.rows[p * self.width + q];
                if apq.norm() > negligible {
                    self.annihilate(p, q, apq);
                    rotated = true;
                }
            }
        }
        rotated
    }

    /// The rotation of rows and columns p < q that zeroes the element `apq` between them, by the smaller of the two angles.
    fn annihilate(&mut self, p: usize, q: usize, apq: Complex64) {
        let (n, width) = (self.n, self.width);
        let size = apq.norm();
        let phase = apq / size;
        let (app, aqq) = (self.rows[p * width + p].re, self.rows[q * width + q].re);
        let half_cot = 0.5 * (aqq - app) / size;
        let tan = 1.0_f64.copysign(half_cot) / (half_cot.abs() + half_cot.hypot(1.0));
        let cos = 1.0 / tan.hypot(1.0);
        let sin = tan * cos;

        let (above, below) = self.rows.split_at_mut(q * width);
        let (row_p, row_q) = (&mut above[p * width..][..width], &mut below[..width]);
        for (x, y) in row_p.iter_mut().zip(&mut *row_q) {
            let turned = *y * phase;
            (*x, *y) = (*x * cos - turned * sin, *x * sin + turned * cos);
        }
        // The 2x2 block, by the formulas that lose no digit.
        row_p[p] = Complex64::new(app - tan * size, 0.0);
        row_q[q] = Complex64::new(aqq + tan * size, 0.0);
        row_p[q] = Complex64::ZERO;
        row_q[p] = Complex64::ZERO;
        for k in 0..n {
            self.rows[k * width + p] = self.rows[p * width + k].conj();
            self.rows[k * width + q] = self.rows[q * width + k].conj();
        }
    }

    /// The diagonal in ascending order, and the matching rows of V^* as columns of V.
    fn sorted(&self) -> Eigh {
        let (n, width) = (self.n, self.width);
        let mut order: Vec<_> = (0..n).map(|i| (self.rows[i * width + i].re, i)).collect();
        order.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let vectors = (0..n).flat_map(|i| order.iter().map(move |&(_, from)| self.rows[from * width + n + i].conj())).collect();
        Eigh { values: order.iter().map(|&(value, _)| value).collect(), vectors }
    }
}
