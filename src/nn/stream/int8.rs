//! A SpikeMixer's weights in 8 bits: every row of W has a scale, and sums over spikes are sums of whole numbers.

use crate::backend::Real;
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::vectors::ROWS;

/// The largest whole number: its negative is one, too.
const TOP: f64 = 127.0;

/// W in whole numbers, times a scale for each of its rows: w = scale q, and |q| is at most 127.
#[derive(Debug)]
pub struct Int8Rows<E> {
    /// W^T by tiles of its columns: (tiles, neurons, 16).
    weights: Vec<[i8; ROWS]>,
    scales: Vec<E>,
}

impl<E: Real> Int8Rows<E> {
    /// Rounds W^T, (neurons, width), each of whose columns is a row of W.
    pub fn new(weights: &[E], width: usize) -> Self {
        let mut scales = vec![0.0f64; width];
        for row in weights.chunks_exact(width) {
            scales.iter_mut().zip(row).for_each(|(scale, w)| *scale = scale.max(w.f64().abs() / TOP));
        }
        let whole = |w: &E, scale: f64| if scale > 0.0 { (w.f64() / scale).round() as i8 } else { 0 };
        let tile = |from: usize| {
            let scales = &scales;
            weights.chunks_exact(width).map(move |row| std::array::from_fn(|lane| whole(&row[from + lane], scales[from + lane])))
        };
        Int8Rows { weights: (0..width).step_by(ROWS).flat_map(tile).collect(), scales: scales.iter().map(|&scale| E::of(scale)).collect() }
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.weights.len() * ROWS + self.scales.len() * size_of::<E>()
    }
}

dispatch! {
    /// W z + b of every row: `spiked` has the neurons of all rows one after the other, and of every row its `ends` where they end.
    pub fn add_rows<E: Real>(rows: &Int8Rows<E>, bias: &[E], spiked: &[u32], ends: &[usize], out: &mut [E]) = add_rows_body;
}

#[inline(always)]
fn add_rows_body<I: Isa, E: Real>(rows: &Int8Rows<E>, bias: &[E], spiked: &[u32], ends: &[usize], out: &mut [E]) {
    let tiles = bias.len() / ROWS;
    let neurons = rows.weights.len() / tiles;
    for (tile, weights) in rows.weights.chunks_exact(neurons).enumerate() {
        let columns = tile * ROWS..(tile + 1) * ROWS;
        let (bias, scales) = (&bias[columns.clone()], &rows.scales[columns.clone()]);
        let mut begin = 0;
        for (out, &end) in out.chunks_exact_mut(tiles * ROWS).zip(ends) {
            let mut sums = [0i32; ROWS];
            for &k in &spiked[begin..end] {
                sums.iter_mut().zip(&weights[k as usize]).for_each(|(sum, &q)| *sum += i32::from(q));
            }
            for (((out, &sum), &scale), &bias) in out[columns.clone()].iter_mut().zip(&sums).zip(scales).zip(bias) {
                *out = I::fma(scale, E::of(f64::from(sum)), bias);
            }
            begin = end;
        }
    }
}
