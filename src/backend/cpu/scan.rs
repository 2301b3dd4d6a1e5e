//! The linear scan: sixteen rows side by side, one step of time after another.

use super::transposed_rows::{CHUNK, Panel, ROWS, fold, gather, scatter};
use super::{Cpu, values};
use crate::backend::host::simd::{Isa, dispatch};
use crate::backend::host::threads::for_each_with;
use crate::backend::{Elementwise, LinearScan, Real, Scan, Tensor, shape};
use crate::error::Result;

/// The planes of a real (P = 1) or complex (P = 2) tensor.
type Planes<'a, E, const P: usize> = [&'a [E]; P];
type PlanesMut<'a, E, const P: usize> = [&'a mut [E]; P];
/// One value a lane, in every plane.
type Lanes<E, const P: usize> = [[E; ROWS]; P];

/// The operands on the host.
#[derive(Clone, Copy)]
struct Operands<'a, E, const P: usize> {
    sizes: &'a shape::Scan,
    reverse: bool,
    a: Planes<'a, E, P>,
    b: Planes<'a, E, P>,
    initial: Option<Planes<'a, E, P>>,
}

/// Chunks of time, each of a thread's operands.
struct Panels<E, const P: usize> {
    a: [Vec<[E; ROWS]>; P],
    b: [Vec<[E; ROWS]>; P],
    h: [Vec<[E; ROWS]>; P],
}

impl<E: Real, const P: usize> Panels<E, P> {
    fn new() -> Self {
        let panel = || std::array::from_fn(|_| vec![[E::zero(); ROWS]; CHUNK]);
        Panels { a: panel(), b: panel(), h: panel() }
    }
}

impl<'a, E: Real, const P: usize> Operands<'a, E, P> {
    fn of(scan: LinearScan<'a, Cpu<E>>, sizes: &'a shape::Scan) -> Self {
        let [a, b] = [scan.a, scan.b].map(|x| planes(values(x)));
        Operands { sizes, reverse: scan.reverse, a, b, initial: scan.initial.map(|x| planes(values(x))) }
    }

    /// (start, length) of every chunk of time, in the scan's order, or against it.
    fn chunks(&self, against: bool) -> impl Iterator<Item = (usize, usize)> + use<E, P> {
        let (length, count, backwards) = (self.sizes.length, self.sizes.length.div_ceil(CHUNK), self.reverse != against);
        (0..count).map(move |i| {
            let start = CHUNK * if backwards { count - 1 - i } else { i };
            (start, CHUNK.min(length - start))
        })
    }

    /// The initial state of as many rows from `first` on.
    fn start(&self, first: usize, rows: usize) -> Lanes<E, P> {
        let mut lanes = [[E::zero(); ROWS]; P];
        if let Some(initial) = self.initial {
            lanes.iter_mut().zip(initial).for_each(|(lanes, plane)| lanes[..rows].copy_from_slice(&plane[first..][..rows]));
        }
        lanes
    }

    /// Where in a plane of a the coefficients of these rows begin.
    fn offsets(&self, first: usize, rows: usize) -> [usize; ROWS] {
        let shape::Scan { batch, a_batch, a_length, .. } = self.sizes;
        std::array::from_fn(|row| if row < rows { shape::offset(first + row, batch, a_batch) * a_length } else { 0 })
    }

    /// The coefficients of steps `start..start + count`; what stands in lanes without a row does not matter.
    fn coefficients(&self, offsets: &[usize; ROWS], start: usize, count: usize, panels: &mut [Vec<[E; ROWS]>; P]) {
        let length = self.sizes.a_length;
        let neighbours = offsets.windows(2).all(|pair| pair[0] + length == pair[1]);
        for (panel, a) in panels.iter_mut().zip(self.a) {
            if length == 1 {
                panel[..count].fill(offsets.map(|at| a[at]));
            } else if neighbours {
                gather(&a[offsets[0]..][..ROWS * length], length, start, count, panel);
            } else {
                for (row, &at) in offsets.iter().enumerate() {
                    panel[..count].iter_mut().zip(&a[at + start..]).for_each(|(lanes, &a)| lanes[row] = a);
                }
            }
        }
    }
}

/// Every state.
fn scan<E: Real, const P: usize>(operands: &Operands<'_, E, P>, out: PlanesMut<'_, E, P>) {
    let length = operands.sizes.length;
    for_each_with(groups(out, ROWS * length), Panels::<E, P>::new, |panels, i, mut out| {
        let (first, rows) = (i * ROWS, out[0].len() / length);
        let (mut h, offsets) = (operands.start(first, rows), operands.offsets(first, rows));
        for (start, count) in operands.chunks(false) {
            operands.coefficients(&offsets, start, count, &mut panels.a);
            for (panel, b) in panels.b.iter_mut().zip(operands.b) {
                gather(&b[first * length..][..rows * length], length, start, count, panel);
            }
            match (&panels.a[..], &mut panels.b[..], &mut h[..]) {
                ([a], [b], [h]) => advance(operands.reverse, &a[..count], &mut b[..count], h),
                ([a, ai], [b, bi], [h, hi]) => {
                    advance_complex(operands.reverse, [&a[..count], &ai[..count]], [&mut b[..count], &mut bi[..count]], [h, hi]);
                }
                _ => {}
            }
            for (panel, out) in panels.b.iter().zip(&mut out) {
                scatter(&panel[..count], length, start, out);
            }
        }
    });
}

/// Where the gradients that are wanted go, plane by plane: of a (a row for each of b's, in time or summed over it), of b, of the initial state.
struct Wanted<'a, E, const P: usize> {
    a: Option<PlanesMut<'a, E, P>>,
    b: Option<PlanesMut<'a, E, P>>,
    initial: Option<PlanesMut<'a, E, P>>,
}

impl<'a, E, const P: usize> Wanted<'a, E, P> {
    /// One a group of rows.
    fn groups(self, sizes: &shape::Scan) -> Vec<Self> {
        let count = sizes.batch.iter().product::<usize>().div_ceil(ROWS);
        let split = |planes: Option<PlanesMut<'a, E, P>>, row: usize| match planes {
            Some(planes) => groups(planes, ROWS * row).into_iter().map(Some).collect(),
            None => Vec::from_iter((0..count).map(|_| None)),
        };
        let (a, b, initial) = (split(self.a, sizes.a_length), split(self.b, sizes.length), split(self.initial, 1));
        a.into_iter().zip(b).zip(initial).map(|((a, b), initial)| Wanted { a, b, initial }).collect()
    }
}

/// Gradients, for the states `h` and their gradient `g`.
fn scan_grad<E: Real, const P: usize>(operands: &Operands<'_, E, P>, h: Planes<'_, E, P>, g: Planes<'_, E, P>, wanted: Wanted<'_, E, P>) {
    let shape::Scan { batch, length, a_length, .. } = operands.sizes;
    let (all_rows, length, summed) = (batch.iter().product::<usize>(), *length, *a_length == 1);
    for_each_with(wanted.groups(operands.sizes), Panels::<E, P>::new, |panels, i, mut wanted| {
        let (first, rows) = (i * ROWS, ROWS.min(all_rows - i * ROWS));
        let (offsets, mut carry, mut sums) = (operands.offsets(first, rows), [[E::zero(); ROWS]; P], [[0.0f64; ROWS]; P]);
        for (start, count) in operands.chunks(true) {
            operands.coefficients(&offsets, start, count, &mut panels.a);
            for (panel, g) in panels.b.iter_mut().zip(g) {
                gather(&g[first * length..][..rows * length], length, start, count, panel);
            }
            before(operands, h, (first, rows), (start, count), &mut panels.h);
            match (&panels.a[..], &mut panels.b[..], &mut panels.h[..], &mut carry[..]) {
                ([a], [b], [h], [carry]) => retreat(operands.reverse, &a[..count], &mut b[..count], &mut h[..count], carry),
                ([a, ai], [b, bi], [h, hi], [carry, carry_i]) => {
                    let (b, h) = ([&mut b[..count], &mut bi[..count]], [&mut h[..count], &mut hi[..count]]);
                    retreat_complex(operands.reverse, [&a[..count], &ai[..count]], b, h, [carry, carry_i]);
                }
                _ => {}
            }
            for p in 0..P {
                if let Some(b) = &mut wanted.b {
                    scatter(&panels.b[p][..count], length, start, b[p]);
                }
                match &mut wanted.a {
                    Some(_) if summed => {
                        let part = fold(panels.h[p][..count].as_flattened());
                        sums[p].iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                    }
                    Some(a) => scatter(&panels.h[p][..count], length, start, a[p]),
                    None => {}
                }
            }
        }
        for p in 0..P {
            if let (Some(a), true) = (&mut wanted.a, summed) {
                a[p].iter_mut().zip(sums[p]).for_each(|(a, sum)| *a = E::of(sum));
            }
            if let Some(initial) = &mut wanted.initial {
                initial[p].copy_from_slice(&carry[p][..rows]);
            }
        }
    });
}

/// The state before every step of a chunk: the initial one before the first.
fn before<E: Real, const P: usize>(
    operands: &Operands<'_, E, P>,
    h: Planes<'_, E, P>,
    (first, rows): (usize, usize),
    (start, count): (usize, usize),
    panels: &mut [Vec<[E; ROWS]>; P],
) {
    let (length, reverse) = (operands.sizes.length, operands.reverse);
    let begins = if reverse { start + count == length } else { start == 0 };
    let initial = operands.start(first, rows);
    for ((panel, h), initial) in panels.iter_mut().zip(h).zip(initial) {
        let h = &h[first * length..][..rows * length];
        match (begins, reverse) {
            (false, false) => gather(h, length, start - 1, count, panel),
            (false, true) => gather(h, length, start + 1, count, panel),
            (true, false) => {
                gather(h, length, start, count - 1, &mut panel[1..]);
                panel[0] = initial;
            }
            (true, true) => {
                gather(h, length, start + 1, count - 1, panel);
                panel[count - 1] = initial;
            }
        }
    }
}

dispatch! {
    /// b to h, from the state `h`, which becomes the last one.
    fn advance<E: Real>(reverse: bool, a: &Panel<E>, b: &mut Panel<E>, h: &mut [E; ROWS]) = advance_body;
}
dispatch! { fn advance_complex<E: Real>(reverse: bool, a: [&Panel<E>; 2], b: [&mut Panel<E>; 2], h: [&mut [E; ROWS]; 2]) = advance_complex_body; }
dispatch! {
    /// g to the gradient of b, and the states before every step to the gradient of a; `carry` is the gradient of the state before.
    fn retreat<E: Real>(reverse: bool, a: &Panel<E>, g: &mut Panel<E>, h: &mut Panel<E>, carry: &mut [E; ROWS]) = retreat_body;
}
dispatch! {
    fn retreat_complex<E: Real>(reverse: bool, a: [&Panel<E>; 2], g: [&mut Panel<E>; 2], h: [&mut Panel<E>; 2], carry: [&mut [E; ROWS]; 2])
        = retreat_complex_body;
}

/// 0 to `count`, or back.
#[inline(always)]
fn steps(count: usize, backwards: bool) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| if backwards { count - 1 - i } else { i })
}

#[inline(always)]
fn advance_body<I: Isa, E: Real>(reverse: bool, a: &Panel<E>, b: &mut Panel<E>, h: &mut [E; ROWS]) {
    let mut state = *h;
    for t in steps(b.len(), reverse) {
        for (lane, h) in state.iter_mut().enumerate() {
            *h = I::fma(a[t][lane], *h, b[t][lane]);
        }
        b[t] = state;
    }
    *h = state;
}

#[inline(always)]
fn advance_complex_body<I: Isa, E: Real>(reverse: bool, [ar, ai]: [&Panel<E>; 2], [br, bi]: [&mut Panel<E>; 2], h: [&mut [E; ROWS]; 2]) {
    let [mut re, mut im] = [*h[0], *h[1]];
    for t in steps(br.len(), reverse) {
        for lane in 0..ROWS {
            let (x, y) = (re[lane], im[lane]);
            re[lane] = I::fma(ar[t][lane], x, I::fma(-ai[t][lane], y, br[t][lane]));
            im[lane] = I::fma(ar[t][lane], y, I::fma(ai[t][lane], x, bi[t][lane]));
        }
        (br[t], bi[t]) = (re, im);
    }
    (*h[0], *h[1]) = (re, im);
}

#[inline(always)]
fn retreat_body<I: Isa, E: Real>(reverse: bool, a: &Panel<E>, g: &mut Panel<E>, h: &mut Panel<E>, carry: &mut [E; ROWS]) {
    let mut next = *carry;
    for t in steps(g.len(), !reverse) {
        for (lane, next) in next.iter_mut().enumerate() {
            let lambda = g[t][lane] + *next;
            g[t][lane] = lambda;
            h[t][lane] *= lambda;
            *next = a[t][lane] * lambda;
        }
    }
    *carry = next;
}

#[inline(always)]
fn retreat_complex_body<I: Isa, E: Real>(
    reverse: bool,
    [ar, ai]: [&Panel<E>; 2],
    [gr, gi]: [&mut Panel<E>; 2],
    [hr, hi]: [&mut Panel<E>; 2],
    carry: [&mut [E; ROWS]; 2],
) {
    let [mut re, mut im] = [*carry[0], *carry[1]];
    for t in steps(gr.len(), !reverse) {
        for lane in 0..ROWS {
            let (x, y) = (gr[t][lane] + re[lane], gi[t][lane] + im[lane]);
            (gr[t][lane], gi[t][lane]) = (x, y);
            let (h, k) = (hr[t][lane], hi[t][lane]);
            hr[t][lane] = I::fma(x, h, y * k);
            hi[t][lane] = I::fma(y, h, -(x * k));
            re[lane] = I::fma(ar[t][lane], x, ai[t][lane] * y);
            im[lane] = I::fma(ar[t][lane], y, -(ai[t][lane] * x));
        }
    }
    (*carry[0], *carry[1]) = (re, im);
}

/// The planes of planar values.
fn planes<E, const P: usize>(values: &[E]) -> Planes<'_, E, P> {
    let size = values.len() / P;
    std::array::from_fn(|p| &values[p * size..][..size])
}

fn planes_mut<E, const P: usize>(values: &mut [E]) -> PlanesMut<'_, E, P> {
    let mut parts = values.chunks_exact_mut((values.len() / P).max(1));
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// The planes in groups of `size` elements; the last one may be smaller.
fn groups<E, const P: usize>(planes: PlanesMut<'_, E, P>, size: usize) -> Vec<PlanesMut<'_, E, P>> {
    let count = planes[0].len().div_ceil(size);
    let mut parts = planes.map(|plane| plane.chunks_mut(size));
    (0..count).map(|_| std::array::from_fn(|p| parts[p].next().unwrap_or_default())).collect()
}

impl<E: Real> Cpu<E> {
    fn scan_planes<const P: usize>(&self, scan_of: LinearScan<'_, Self>, sizes: &shape::Scan) -> Tensor<Self> {
        self.make(scan_of.b.shape(), |out| scan::<E, P>(&Operands::of(scan_of, sizes), planes_mut(out)))
    }

    fn scan_grad_planes<const P: usize>(
        &self,
        scan: LinearScan<'_, Self>,
        sizes: &shape::Scan,
        h: &Tensor<Self>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        let planar: &[usize] = if P == 2 { &[2] } else { &[] };
        // As b, but for time, over which the gradient of a constant coefficient is summed.
        let rows = [planar, &sizes.batch, &[sizes.a_length]].concat();
        let buffer = |wanted: bool, len: usize| wanted.then(|| self.pool.dirty(len));
        let count = P * sizes.batch.iter().product::<usize>();
        let mut a = buffer(needs[0], count * sizes.a_length);
        let mut b = buffer(needs[1], count * sizes.length);
        let mut initial = buffer(needs[2] && scan.initial.is_some(), count);
        let wanted = Wanted {
            a: a.as_deref_mut().map(planes_mut),
            b: b.as_deref_mut().map(planes_mut),
            initial: initial.as_deref_mut().map(planes_mut),
        };
        scan_grad::<E, P>(&Operands::of(scan, sizes), planes(values(h)), planes(values(g)), wanted);
        let a = a.map(|a| {
            // Aligned to the right, an axis of planes in front of all others.
            let ones = vec![1; sizes.batch.len() - sizes.a_batch.len()];
            let own = [planar, &ones, &sizes.a_batch, &[sizes.a_length]].concat();
            self.sum_to(&self.wrap(a, &rows), &own)?.reshape(scan.a.shape())
        });
        let initial_shape = [planar, &sizes.batch].concat();
        Ok([a.transpose()?, self.wrap_if(b, scan.b.shape()), self.wrap_if(initial, &initial_shape)])
    }
}

impl<E: Real> Scan for Cpu<E> {
    fn scan(&self, scan: LinearScan<'_, Self>) -> Result<Tensor<Self>> {
        let sizes = scan.sizes("scan")?;
        Ok(if scan.complex { self.scan_planes::<2>(scan, &sizes) } else { self.scan_planes::<1>(scan, &sizes) })
    }

    fn scan_grad(
        &self,
        scan: LinearScan<'_, Self>,
        h: &Tensor<Self>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        let sizes = scan.sizes_grad("scan_grad", h, g)?;
        let planes = if scan.complex { Self::scan_grad_planes::<2> } else { Self::scan_grad_planes::<1> };
        planes(self, scan, &sizes, h, g, needs)
    }
}
