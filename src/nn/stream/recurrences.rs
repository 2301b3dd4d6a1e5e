//! The recurrences of an SSM's channels, sixteen side by side: what a stream steps in the place of the convolution.
//!
//! A tile is sixteen channels. Of every mode of a tile, what the step needs lies together; the parameters of a tile are read once for all
//! streams, and stay in the nearest cache while many steps go by.

use pulp::{Simd, WithSimd};

use super::Chunk;
use crate::backend::host::threads::map_with;
use crate::backend::host::vectors::{ROWS, at_level};
use crate::backend::ssm::cayley::Cayley;
use crate::backend::ssm::discretization::discretize;
use crate::backend::ssm::recurrence::Recurrence;
use crate::backend::ssm::system::{Reader, System};
use crate::backend::{Backend, Real};
use crate::error::Result;
use crate::nn::hippo::Complex64;
use crate::nn::ssm::{Ssm, SsmInit};

/// States are set to zero below this: arithmetic on denormal numbers is a hundred times slower.
const NOTHING: f64 = 1e-30;
/// How many steps lie between two searches for such states.
const FLUSH: u64 = 64;

/// An SSM's channels as recurrences x <- Abar x + Bbar v, y = 2 Re(C x) + D v.
///
/// A diagonal-plus-low-rank channel steps as [`Cayley`] says. A diagonal one has x' = x + excess x + v with excess = abar - 1, and its
/// input weights in C.
#[derive(Debug)]
pub struct Recurrences<E> {
    pub channels: usize,
    pub half_state: usize,
    pub rank: usize,
    /// The length after which the kernel is cut off, where that is imitated.
    pub window: Option<usize>,
    /// The excess and 2 C of every mode, real and imaginary: (tiles, M, 4, 16).
    modes: Vec<E>,
    /// B and P of every mode: (M, 2 + 2 R, 16), of all channels together or of each tile.
    shared: Vec<E>,
    /// Of every channel the feedback, the feed, dt and D: (tiles, R R + R + 2, 16).
    scalars: Vec<E>,
    /// Abar^window Bbar, where there is a window: (tiles, M, 2, 16).
    leaks: Vec<E>,
}

/// One channel's numbers.
struct Channel {
    excess: Vec<Complex64>,
    c: Vec<Complex64>,
    scalars: Vec<f64>,
    leak: Vec<Complex64>,
}

impl Channel {
    fn diagonal(system: &System, (abar, bbar): (Vec<Complex64>, Vec<Complex64>), skip: f64, window: Option<usize>) -> Self {
        Channel {
            excess: abar.iter().map(|a| a - 1.0).collect(),
            c: system.c.iter().zip(&bbar).map(|(c, b)| 2.0 * c * b).collect(),
            scalars: vec![1.0, skip],
            leak: window.map_or_else(Vec::new, |window| abar.iter().map(|a| a.powf(window as f64)).collect()),
        }
    }

    fn dplr(system: &System, l_kernel: usize, skip: f64, window: Option<usize>) -> Result<Self> {
        let (recurrence, cayley) = (Recurrence::new(system), Cayley::new(system));
        let c = if l_kernel == 0 { system.c.clone() } else { recurrence.solve_plain_c(&system.c, l_kernel)? };
        let leak = |window| {
            let mut state = vec![Complex64::ZERO; system.a.len()];
            recurrence.step(&mut state, 1.0);
            (0..window).for_each(|_| recurrence.step(&mut state, 0.0));
            state
        };
        Ok(Channel {
            excess: cayley.excess,
            c: c.iter().map(|c| 2.0 * c).collect(),
            scalars: [cayley.feedback, cayley.feed, vec![system.dt, skip]].concat(),
            leak: window.map_or_else(Vec::new, leak),
        })
    }
}

/// (lists, 16) of sixteen lists of equal length; where there are fewer, zeros.
fn side_by_side<E: Real>(lists: &[Vec<f64>], out: &mut Vec<E>) {
    let at = |i: usize| (0..ROWS).map(move |lane| E::of(lists.get(lane).map_or(0.0, |list| list[i])));
    (0..lists.first().map_or(0, Vec::len)).for_each(|i| out.extend(at(i)));
}

/// The real and imaginary part of each of several rows of modes, mode by mode.
fn mode_by_mode(rows: &[&[Complex64]], modes: usize) -> Vec<f64> {
    (0..modes).flat_map(|n| rows.iter().flat_map(move |row| [row[n].re, row[n].im])).collect()
}

impl<E: Real> Recurrences<E> {
    /// The recurrences of a layer whose kernel is causal; the kernel is cut off where l_max says so, if `windowed`.
    pub fn new<B: Backend<Elem = E>>(backend: &B, ssm: &Ssm<B>, windowed: bool) -> Result<Self> {
        let (params, l_kernel) = ssm.kernel.params_with_length(backend)?;
        let (sizes, init) = (params.sizes("Model::stream")?, ssm.kernel.init());
        let window = ssm.config().l_max.filter(|_| windowed);
        let host = params.on_host(backend)?;
        let reader = Reader::new(sizes, host.slices());
        let skips: Vec<f64> = backend.to_vec(&ssm.skip.value())?.into_iter().map(Real::f64).collect();
        let channel = |_: &mut (), h: usize| {
            let system = reader.system(h);
            match init {
                SsmInit::Diag(_, disc) => Ok(Channel::diagonal(&system, discretize(&system, disc), skips[h], window)),
                SsmInit::Dplr(_) => Channel::dplr(&system, l_kernel, skips[h], window),
            }
        };
        let channels = map_with(sizes.d_model, || (), channel).into_iter().collect::<Result<Vec<_>>>()?;
        let m = sizes.half_state;
        let mut own = Recurrences {
            channels: sizes.d_model,
            half_state: m,
            rank: sizes.rank,
            window,
            modes: Vec::new(),
            shared: Vec::new(),
            scalars: Vec::new(),
            leaks: Vec::new(),
        };
        for tile in channels.chunks(ROWS) {
            let lists = |f: &dyn Fn(&Channel) -> Vec<f64>| tile.iter().map(f).collect::<Vec<_>>();
            side_by_side(&lists(&|channel| mode_by_mode(&[&channel.excess, &channel.c], m)), &mut own.modes);
            side_by_side(&lists(&|channel| channel.scalars.clone()), &mut own.scalars);
            side_by_side(&lists(&|channel| mode_by_mode(&[&channel.leak], channel.leak.len())), &mut own.leaks);
        }
        if matches!(init, SsmInit::Dplr(_)) {
            let of = |h: usize| {
                let System { b, p, .. } = reader.system(h % sizes.d_model);
                mode_by_mode(&[b.as_slice()].into_iter().chain(p.chunks_exact(m)).collect::<Vec<_>>(), m)
            };
            // One system for all channels is the same in every tile.
            let tiles = if sizes.n_ssm == 1 { 1 } else { own.tiles() };
            let lists = |tile: usize| (tile * ROWS..(tile + 1) * ROWS).map(of).collect::<Vec<_>>();
            (0..tiles).for_each(|tile| side_by_side(&lists(tile), &mut own.shared));
        }
        Ok(own)
    }

    pub fn tiles(&self) -> usize {
        self.channels.div_ceil(ROWS)
    }

    /// Numbers that a channel of a stream remembers: the sums t of its low-rank term, then the real and imaginary part of every mode.
    pub fn remembered(&self) -> usize {
        self.rank + 2 * self.half_state
    }

    /// The memory of so many streams, all at rest: (tiles, streams, remembered, 16).
    pub fn at_rest(&self, streams: usize) -> Vec<E> {
        vec![E::zero(); self.tiles() * streams * self.remembered() * ROWS]
    }

    /// Bytes of parameters.
    pub fn bytes(&self) -> usize {
        (self.modes.len() + self.shared.len() + self.scalars.len() + self.leaks.len()) * size_of::<E>()
    }

    /// Goes through a chunk: from inputs v, and those that leave the window, to outputs y, (rows, tiles 16) each.
    pub fn run(&self, chunk: &Chunk<'_>, states: &mut [E], v: &[E], old: &[E], y: &mut [E]) {
        let (tiles, size) = (self.tiles(), self.remembered() * ROWS);
        for (tile, states) in states.chunks_exact_mut(chunk.all * size).enumerate() {
            let part = |values: &'_ [E], count: usize| tile * (values.len() / count)..(tile + 1) * (values.len() / count);
            let shared = if self.shared.len() > 2 * (1 + self.rank) * self.half_state * ROWS {
                part(&self.shared, tiles)
            } else {
                0..self.shared.len()
            };
            at_level(Steps {
                chunk,
                modes: &self.modes[part(&self.modes, tiles)],
                shared: &self.shared[shared],
                scalars: &self.scalars[part(&self.scalars, tiles)],
                leaks: &self.leaks[part(&self.leaks, tiles)],
                states: &mut states[chunk.first * size..(chunk.first + chunk.streams) * size],
                v,
                old,
                y,
                rank: self.rank,
                place: (tile, tiles),
            });
        }
    }
}

/// The steps of one tile's channels.
struct Steps<'a, E> {
    chunk: &'a Chunk<'a>,
    modes: &'a [E],
    shared: &'a [E],
    scalars: &'a [E],
    leaks: &'a [E],
    /// (streams, remembered, 16).
    states: &'a mut [E],
    v: &'a [E],
    old: &'a [E],
    y: &'a mut [E],
    rank: usize,
    /// Which tile of how many.
    place: (usize, usize),
}

impl<E: Real> WithSimd for Steps<'_, E> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        match (self.shared.is_empty(), self.rank, self.leaks.is_empty()) {
            (true, _, true) => self.run(s, diagonal::<E, S, false>),
            (true, _, false) => self.run(s, diagonal::<E, S, true>),
            (false, 1, true) => self.run(s, dplr::<E, S, 1, false>),
            (false, 1, false) => self.run(s, dplr::<E, S, 1, true>),
            (false, _, true) => self.run(s, dplr::<E, S, 2, false>),
            (false, _, false) => self.run(s, dplr::<E, S, 2, true>),
        }
    }
}

/// What one step of the channels of one vector works on: vectors, `groups` to a tile, of which it takes number `at`.
struct Lanes<'a, E: Real, S: Simd> {
    modes: &'a [E::Vector<S>],
    shared: &'a [E::Vector<S>],
    scalars: &'a [E::Vector<S>],
    leaks: &'a [E::Vector<S>],
    groups: usize,
    at: usize,
}

impl<E: Real> Steps<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S, step: impl Fn(S, &Lanes<'_, E, S>, &mut [E::Vector<S>], E::Vector<S>, E::Vector<S>) -> E::Vector<S>) {
        let groups = ROWS / E::count::<S>();
        let (tile, tiles) = self.place;
        let (v, old, y) = (E::vectors::<S>(self.v), E::vectors::<S>(self.old), E::vectors_mut::<S>(self.y));
        let size = self.states.len() / self.chunk.streams;
        for (i, state) in self.states.chunks_exact_mut(size).enumerate() {
            let before = self.chunk.before[self.chunk.first + i];
            for t in 0..self.chunk.steps {
                let row = ((i * self.chunk.steps + t) * tiles + tile) * groups;
                for at in 0..groups {
                    let lanes = Lanes {
                        modes: E::vectors::<S>(self.modes),
                        shared: E::vectors::<S>(self.shared),
                        scalars: E::vectors::<S>(self.scalars),
                        leaks: E::vectors::<S>(self.leaks),
                        groups,
                        at,
                    };
                    let v = v[row + at];
                    y[row + at] = step(s, &lanes, E::vectors_mut::<S>(state), v, old.get(row + at).copied().unwrap_or(v));
                }
                if (before + t as u64) % FLUSH == FLUSH - 1 {
                    let nothing = E::of(NOTHING);
                    state.iter_mut().for_each(|x| *x = if x.abs() < nothing { E::zero() } else { *x });
                }
            }
        }
    }
}

/// One step of diagonal channels: the output.
#[inline(always)]
fn diagonal<E: Real, S: Simd, const WINDOW: bool>(
    s: S,
    lanes: &Lanes<'_, E, S>,
    state: &mut [E::Vector<S>],
    v: E::Vector<S>,
    old: E::Vector<S>,
) -> E::Vector<S> {
    let Lanes { groups, at, .. } = *lanes;
    let (mut plus, mut minus) = (E::times(s, lanes.scalars[groups + at], v), E::splat(s, E::zero()));
    let mut leaks = lanes.leaks.chunks_exact(2 * groups);
    for (mode, x) in lanes.modes.chunks_exact(4 * groups).zip(state.chunks_exact_mut(2 * groups)) {
        let [er, ei, cr, ci] = [0, 1, 2, 3].map(|k| mode[k * groups + at]);
        let [xr, xi] = [0, 1].map(|k| x[k * groups + at]);
        let mut nr = E::minus_times(s, ei, xi, E::times_plus(s, er, xr, E::plus(s, xr, v)));
        let mut ni = E::times_plus(s, ei, xr, E::times_plus(s, er, xi, xi));
        if WINDOW && let Some(leak) = leaks.next() {
            (nr, ni) = (E::minus_times(s, leak[at], old, nr), E::minus_times(s, leak[groups + at], old, ni));
        }
        (x[at], x[groups + at]) = (nr, ni);
        plus = E::times_plus(s, cr, nr, plus);
        minus = E::times_plus(s, ci, ni, minus);
    }
    E::minus(s, plus, minus)
}

/// One step of diagonal-plus-low-rank channels: the output.
#[inline(always)]
fn dplr<E: Real, S: Simd, const RANK: usize, const WINDOW: bool>(
    s: S,
    lanes: &Lanes<'_, E, S>,
    state: &mut [E::Vector<S>],
    v: E::Vector<S>,
    old: E::Vector<S>,
) -> E::Vector<S> {
    let Lanes { groups, at, .. } = *lanes;
    let scalar = |k: usize| lanes.scalars[k * groups + at];
    let (sums, x) = state.split_at_mut(RANK * groups);
    let mut alpha = [v; RANK];
    for (j, alpha) in alpha.iter_mut().enumerate() {
        *alpha = E::times(s, scalar(RANK * RANK + j), v);
        for k in 0..RANK {
            *alpha = E::times_plus(s, scalar(j * RANK + k), sums[k * groups + at], *alpha);
        }
    }
    let beta = E::times(s, scalar(RANK * RANK + RANK), v);
    let zero = E::splat(s, E::zero());
    let (mut plus, mut minus, mut next) = (E::times(s, scalar(RANK * RANK + RANK + 1), v), zero, [[zero; 2]; RANK]);
    let mut leaks = lanes.leaks.chunks_exact(2 * groups);
    let modes = lanes.modes.chunks_exact(4 * groups).zip(lanes.shared.chunks_exact(2 * (1 + RANK) * groups));
    for ((mode, shared), x) in modes.zip(x.chunks_exact_mut(2 * groups)) {
        let [er, ei, cr, ci] = [0, 1, 2, 3].map(|k| mode[k * groups + at]);
        let [xr, xi] = [0, 1].map(|k| x[k * groups + at]);
        let part = |k: usize| shared[k * groups + at];
        let (mut hr, mut hi) = (E::times_plus(s, part(0), beta, xr), E::times_plus(s, part(1), beta, xi));
        for (j, &alpha) in alpha.iter().enumerate() {
            (hr, hi) = (E::times_plus(s, part(2 + 2 * j), alpha, hr), E::times_plus(s, part(3 + 2 * j), alpha, hi));
        }
        let (sr, si) = (E::plus(s, hr, xr), E::plus(s, hi, xi));
        let mut nr = E::minus_times(s, ei, si, E::times_plus(s, er, sr, hr));
        let mut ni = E::times_plus(s, ei, sr, E::times_plus(s, er, si, hi));
        if WINDOW && let Some(leak) = leaks.next() {
            (nr, ni) = (E::minus_times(s, leak[at], old, nr), E::minus_times(s, leak[groups + at], old, ni));
        }
        (x[at], x[groups + at]) = (nr, ni);
        plus = E::times_plus(s, cr, nr, plus);
        minus = E::times_plus(s, ci, ni, minus);
        let (dr, di) = (E::minus_times(s, ei, ni, E::times_plus(s, er, nr, nr)), E::times_plus(s, ei, nr, E::times_plus(s, er, ni, ni)));
        for (j, [re, im]) in next.iter_mut().enumerate() {
            (*re, *im) = (E::times_plus(s, part(2 + 2 * j), dr, *re), E::times_plus(s, part(3 + 2 * j), di, *im));
        }
    }
    next.into_iter().enumerate().for_each(|(k, [re, im])| sums[k * groups + at] = E::plus(s, re, im));
    E::minus(s, plus, minus)
}
