//! What a normalisation makes of a tensor, row by row: once when it is asked for, and again where its numbers were not kept.

use super::normalization::{centred_row, normal_by_position};
use super::storage::Storage;
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

/// The same with storages; `X` is how x is held: by itself, or only as long as somebody else does.
pub struct Recipe<E: Real, X = Storage<E>> {
    /// As of [`Normal`].
    pub axes: NormAxes,
    /// As of [`Normal`].
    pub eps: E,
    /// As of [`Normal`].
    pub shape: [usize; 3],
    /// x.
    pub x: X,
    /// gamma, beta, mean, variance.
    pub parts: [Storage<E>; 4],
}

impl<E: Real, X> Recipe<E, X> {
    /// The same where x is held in another way.
    pub fn holding<Y>(&self, x: Y) -> Recipe<E, Y> {
        Recipe { axes: self.axes, eps: self.eps, shape: self.shape, x, parts: self.parts.clone() }
    }
}

impl<E: Real> Recipe<E> {
    /// What it says.
    pub fn normal(&self) -> Normal<'_, E> {
        let Recipe { axes, eps, shape, x, parts } = self;
        Normal { axes: *axes, eps: *eps, shape: *shape, x: x.values(), parts: parts.each_ref().map(Storage::values) }
    }
}
