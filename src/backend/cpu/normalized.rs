//! What a normalisation makes of a tensor, row by row: once when it is asked for, and again where its numbers were not kept.

use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::for_each_piece;
use crate::backend::{NormAxes, Real};

/// gamma (x - mean) / sqrt(var + eps) + beta of x (B, H, L), for statistics (H) or (B, L).
#[derive(Clone, Copy)]
pub struct Normal<'a, E> {
    /// What the statistics were taken over.
    pub axes: NormAxes,
    /// eps.
    pub eps: E,
    /// B, H, L.
    pub shape: [usize; 3],
    /// x.
    pub x: &'a [E],
    /// gamma, beta, mean, variance.
    pub parts: [&'a [E]; 4],
}

impl<E: Real> Normal<'_, E> {
    /// Row b H + h.
    pub fn row(&self, row: usize, out: &mut [E]) {
        let [_, channels, length] = self.shape;
        let (b, h) = (row / channels, row % channels);
        let (x, [gamma, beta, mean, var]) = (&self.x[row * length..][..length], self.parts);
        match self.axes {
            NormAxes::Batch => centred_row(x, mean[h], gamma[h] / (var[h] + self.eps).sqrt(), beta[h], out),
            NormAxes::Layer => {
                let statistics = (&mean[b * length..][..length], &var[b * length..][..length]);
                normal_by_position(x, statistics, (gamma[h], beta[h]), self.eps, out);
            }
        }
    }

    /// All rows.
    pub fn fill(&self, out: &mut [E]) {
        for_each_piece(out, self.shape[2], |row, out| self.row(row, out));
    }
}

dispatch! {
    /// out = scale (x - mean) + shift.
    pub fn centred_row<E: Real>(x: &[E], mean: E, scale: E, shift: E, out: &mut [E]) = centred_body;
}

#[inline(always)]
fn centred_body<I: Isa, E: Real>(x: &[E], mean: E, scale: E, shift: E, out: &mut [E]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = I::fma(x - mean, scale, shift);
    }
}

dispatch! {
    /// out = gamma (x - mean) / sqrt(var + eps) + beta, with statistics of every position.
    fn normal_by_position<E: Real>(x: &[E], statistics: (&[E], &[E]), affine: (E, E), eps: E, out: &mut [E]) = normal_by_position_body;
}

#[inline(always)]
fn normal_by_position_body<I: Isa, E: Real>(x: &[E], (mean, var): (&[E], &[E]), (gamma, beta): (E, E), eps: E, out: &mut [E]) {
    for (((out, &x), &mean), &var) in out.iter_mut().zip(x).zip(mean).zip(var) {
        *out = (x - mean) / (var + eps).sqrt() * gamma + beta;
    }
}
