//! The family [`Scan`], parallel in time.
//!
//! Steps of the recurrence join: h -> a h + b and then h -> a' h + b' is h -> a' a h + (a' b + b'). A lane takes a stretch of steps and joins
//! them; the lanes of a row join theirs in shared memory (Kogge and Stone 1973), which tells each the state that it starts from; then it
//! goes through its stretch once more. Rows that are too long for a cube are cut into pieces: each is joined to a single step, and the states
//! between them are the scan of these steps, by the same kernels.

use cubecl::prelude::*;

use super::complex::{Complex, add, complex, load, mul};
use super::elementwise::functions::{full, strides};
use super::elementwise::reduce::offset;
use super::launch::UNITS;
use super::layout::axes;
use super::storage::arg;
use super::{Cube, Scalar};
use crate::backend::tensor::Grads;
use crate::backend::{Elementwise, LinearScan, Scan, Tensor, shape};
use crate::error::Result;

/// Steps of a lane.
const STRETCH: usize = 8;

/// Rows that a cube takes at least where the steps of one do not lie together: those of neighbouring rows do.
const ACROSS: usize = 8;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Form {
    /// Whether the values are complex, in planes.
    planar: bool,
    /// Whether the steps run against time.
    backwards: bool,
    /// Whether the coefficients are those of the gradient: a's conjugates, each one step later.
    adjoint: bool,
    /// Whether the steps are pieces: their coefficients are products, which may be too large for a number.
    of_pieces: bool,
    /// Axes of the rows, as far as a tells them apart.
    rank: usize,
    /// Rows of a cube, and units of a row.
    across: usize,
    lanes: usize,
}

/// The sizes of the operands.
#[derive(CubeType, CubeLaunch)]
struct Sizes {
    /// Rows of b, (outer, length, inner).
    rows: u32,
    length: u32,
    inner: u32,
    /// Pieces of a row.
    pieces: u32,
    /// Elements of a plane of b, and of a.
    plane: u32,
    a_plane: u32,
    /// From one coefficient of a to the next: 0 where it stays the same.
    a_stride: u32,
}

/// A stretch of steps of a row.
#[derive(CubeType, Clone, Copy)]
struct Stretch {
    row: u32,
    /// Whether there is such a row.
    inside: bool,
    piece: u32,
    lane: u32,
    /// Its steps, in the scan's order: none where there is no row.
    first: u32,
    end: u32,
    /// Where the row's first value in time is in b, and in a.
    base: u32,
    a_base: u32,
}

/// Neighbouring units have neighbouring rows.
#[cube]
fn stretch(a_axes: &Array<u32>, sizes: &Sizes, #[comptime] form: Form) -> Stretch {
    let across = comptime!(form.across as u32).runtime();
    let lanes = comptime!(form.lanes as u32).runtime();
    let group = CUBE_POS as u32 / sizes.pieces;
    let piece = CUBE_POS as u32 - group * sizes.pieces;
    let lane = UNIT_POS / across;
    let given = group * across + UNIT_POS % across;
    let inside = given < sizes.rows;
    let row = select(inside, given, 0u32);
    let length = select(inside, sizes.length, 0u32);
    let start = (piece * lanes + lane) * comptime!(STRETCH as u32);
    let outer = row / sizes.inner;
    Stretch {
        row,
        inside,
        piece,
        lane,
        first: min(start, length),
        end: min(start + comptime!(STRETCH as u32), length),
        base: outer * sizes.length * sizes.inner + (row - outer * sizes.inner),
        a_base: offset(a_axes, 0usize, comptime!(form.rank), row),
    }
}

/// The number at `at`, whose imaginary part is `plane` elements further on.
#[cube]
fn number<F: Float>(x: &Array<F>, at: u32, plane: u32, #[comptime] planar: bool) -> Complex<F> {
    if comptime!(planar) { load::<F>(x, at, plane) } else { complex::<F>(x[at as usize], F::new(0.0)) }
}

#[cube]
fn put<F: Float>(x: &mut Array<F>, at: u32, plane: u32, z: Complex<F>, #[comptime] planar: bool) {
    x[at as usize] = z.re;
    if comptime!(planar) {
        x[(at + plane) as usize] = z.im;
    }
}

#[cube]
fn product<F: Float>(x: Complex<F>, y: Complex<F>, #[comptime] planar: bool) -> Complex<F> {
    if comptime!(planar) { mul::<F>(x, y) } else { complex::<F>(x.re * y.re, x.im) }
}

/// a h for a product of coefficients, which may be too large for a number where the state is none: it stays none.
#[cube]
fn carried<F: Float>(a: Complex<F>, h: Complex<F>, #[comptime] planar: bool) -> Complex<F> {
    let zero = F::new(0.0);
    let none = h.re == zero && h.im == zero;
    let z = product::<F>(a, h, planar);
    complex::<F>(select(none, zero, z.re), select(none, zero, z.im))
}

/// A step of the recurrence, or many joined: h -> a h + b.
#[derive(CubeType, Clone, Copy)]
struct Step<F: Float> {
    a: Complex<F>,
    b: Complex<F>,
}

/// The time of a step.
#[cube]
fn time(step: u32, sizes: &Sizes, #[comptime] form: Form) -> u32 {
    if comptime!(form.backwards) { sizes.length - 1 - step } else { step }
}

/// Step `step` of the row.
#[cube]
fn step_at<F: Float>(a: &Array<F>, b: &Array<F>, mine: &Stretch, step: u32, sizes: &Sizes, #[comptime] form: Form) -> Step<F> {
    let b = number::<F>(b, mine.base + time(step, sizes, form) * sizes.inner, sizes.plane, comptime!(form.planar));
    if comptime!(form.adjoint) {
        // Nothing comes before the first step: its coefficient must not matter, be it NaN.
        let first = step == 0;
        let before = select(first, 0u32, step - 1);
        let a = number::<F>(a, mine.a_base + time(before, sizes, form) * sizes.a_stride, sizes.a_plane, comptime!(form.planar));
        let zero = F::new(0.0);
        Step::<F> { a: complex::<F>(select(first, zero, a.re), select(first, zero, -a.im)), b }
    } else {
        let a = number::<F>(a, mine.a_base + time(step, sizes, form) * sizes.a_stride, sizes.a_plane, comptime!(form.planar));
        Step::<F> { a, b }
    }
}

/// The state after a step.
#[cube]
fn after<F: Float>(step: Step<F>, h: Complex<F>, #[comptime] form: Form) -> Complex<F> {
    if comptime!(form.of_pieces) {
        add::<F>(carried::<F>(step.a, h, comptime!(form.planar)), step.b)
    } else {
        add::<F>(product::<F>(step.a, h, comptime!(form.planar)), step.b)
    }
}

/// The steps of a stretch as one.
#[cube]
fn joined<F: Float>(a: &Array<F>, b: &Array<F>, mine: &Stretch, sizes: &Sizes, #[comptime] form: Form) -> Step<F> {
    let mut a_re = F::new(1.0);
    let mut a_im = F::new(0.0);
    let mut re = F::new(0.0);
    let mut im = F::new(0.0);
    let mut step = mine.first;
    while step < mine.end {
        let next = step_at::<F>(a, b, mine, step, sizes, form);
        let product = product::<F>(next.a, complex::<F>(a_re, a_im), comptime!(form.planar));
        let h = after::<F>(next, complex::<F>(re, im), form);
        a_re = product.re;
        a_im = product.im;
        re = h.re;
        im = h.im;
        step += 1;
    }
    Step::<F> { a: complex::<F>(a_re, a_im), b: complex::<F>(re, im) }
}

/// A step in shared memory, a number after another of all units.
#[cube]
fn keep<F: Float>(step: Step<F>, scratch: &mut SharedMemory<F>, #[comptime] form: Form) {
    let units = comptime!(form.across * form.lanes);
    let at = UNIT_POS as usize;
    scratch[at] = step.a.re;
    scratch[units + at] = step.b.re;
    if comptime!(form.planar) {
        scratch[2 * units + at] = step.a.im;
        scratch[3 * units + at] = step.b.im;
    }
}

/// The step that unit `of` keeps.
#[cube]
fn kept<F: Float>(of: u32, scratch: &SharedMemory<F>, #[comptime] form: Form) -> Step<F> {
    let units = comptime!(form.across * form.lanes);
    let at = of as usize;
    if comptime!(form.planar) {
        let a = complex::<F>(scratch[at], scratch[2 * units + at]);
        Step::<F> { a, b: complex::<F>(scratch[units + at], scratch[3 * units + at]) }
    } else {
        let zero = F::new(0.0);
        Step::<F> { a: complex::<F>(scratch[at], zero), b: complex::<F>(scratch[units + at], zero) }
    }
}

/// Keeps for every lane the steps of all lanes up to it as one, `mine` included.
#[cube]
fn keep_joined<F: Float>(mine: Step<F>, lane: u32, scratch: &mut SharedMemory<F>, #[comptime] form: Form) {
    let across = comptime!(form.across as u32).runtime();
    let lanes = comptime!(form.lanes as u32).runtime();
    let planar = comptime!(form.planar);
    keep::<F>(mine, scratch, form);
    sync_cube();
    let mut shift = 1u32;
    while shift < lanes {
        let own = kept::<F>(UNIT_POS, scratch, form);
        let there = lane >= shift;
        let other = kept::<F>(select(there, UNIT_POS - shift * across, UNIT_POS), scratch, form);
        sync_cube();
        if there {
            let b = add::<F>(carried::<F>(own.a, other.b, planar), own.b);
            keep::<F>(Step::<F> { a: product::<F>(own.a, other.a, planar), b }, scratch, form);
        }
        sync_cube();
        shift *= 2;
    }
}

/// Every piece's steps as one: into `products` and `sums`, (rows, pieces) each.
#[cube(launch)]
fn pieces_kernel<F: Float>(
    a: &Array<F>,
    b: &Array<F>,
    products: &mut Array<F>,
    sums: &mut Array<F>,
    a_axes: &Array<u32>,
    sizes: &Sizes,
    #[comptime] form: Form,
) {
    let mut scratch = SharedMemory::<F>::new(comptime!(form.across * form.lanes * if form.planar { 4 } else { 2 }));
    let mine = stretch(a_axes, sizes, form);
    keep_joined::<F>(joined::<F>(a, b, &mine, sizes, form), mine.lane, &mut scratch, form);
    // The last lane knows it all: lanes without steps change nothing.
    if mine.inside && mine.lane == comptime!(form.lanes as u32 - 1) {
        let whole = kept::<F>(UNIT_POS, &scratch, form);
        let at = mine.row * sizes.pieces + mine.piece;
        let plane = sizes.rows * sizes.pieces;
        put::<F>(products, at, plane, whole.a, comptime!(form.planar));
        put::<F>(sums, at, plane, whole.b, comptime!(form.planar));
    }
}

/// Every state. `initial`, (rows), is the one before the first step, `between`, (rows, pieces), those after every piece.
#[cube(launch)]
fn states_kernel<F: Float>(
    a: &Array<F>,
    b: &Array<F>,
    initial: &ComptimeOption<Array<F>>,
    between: &ComptimeOption<Array<F>>,
    out: &mut Array<F>,
    a_axes: &Array<u32>,
    sizes: &Sizes,
    #[comptime] form: Form,
) {
    let mut scratch = SharedMemory::<F>::new(comptime!(form.across * form.lanes * if form.planar { 4 } else { 2 }));
    let mine = stretch(a_axes, sizes, form);
    keep_joined::<F>(joined::<F>(a, b, &mine, sizes, form), mine.lane, &mut scratch, form);
    let mut re = F::new(0.0);
    let mut im = F::new(0.0);
    // What a row that does not exist begins with is never used.
    #[comptime]
    match initial {
        ComptimeOption::Some(initial) => {
            let h = number::<F>(initial, mine.row, sizes.rows, comptime!(form.planar));
            re = h.re;
            im = h.im;
        }
        ComptimeOption::None => {}
    }
    #[comptime]
    match between {
        ComptimeOption::Some(between) => {
            if mine.piece > 0 {
                let at = mine.row * sizes.pieces + mine.piece - 1;
                let h = number::<F>(between, at, sizes.rows * sizes.pieces, comptime!(form.planar));
                re = h.re;
                im = h.im;
            }
        }
        ComptimeOption::None => {}
    }
    if mine.lane > 0 {
        let before = kept::<F>(UNIT_POS - comptime!(form.across as u32), &scratch, form);
        let h = add::<F>(carried::<F>(before.a, complex::<F>(re, im), comptime!(form.planar)), before.b);
        re = h.re;
        im = h.im;
    }
    let mut step = mine.first;
    while step < mine.end {
        let h = after::<F>(step_at::<F>(a, b, &mine, step, sizes, form), complex::<F>(re, im), form);
        put::<F>(out, mine.base + time(step, sizes, form) * sizes.inner, sizes.plane, h, comptime!(form.planar));
        re = h.re;
        im = h.im;
        step += 1;
    }
}

/// lambda times the conjugate of the state before: the gradient of every step's coefficient. `from` is the time from which nothing came but
/// the initial state, `back` what leads from a time to the one before, modulo 2^32.
#[cube(launch)]
fn slopes_kernel<F: Float>(
    lambda: &Array<F>,
    h: &Array<F>,
    initial: &ComptimeOption<Array<F>>,
    out: &mut Array<F>,
    plane: u32,
    length: u32,
    from: u32,
    back: u32,
    #[comptime] planar: bool,
) {
    let at = ABSOLUTE_POS as u32;
    if at < plane {
        let row = at / length;
        let first = at - row * length == from;
        let mut re = F::new(0.0);
        let mut im = F::new(0.0);
        if first {
            #[comptime]
            match initial {
                ComptimeOption::Some(initial) => {
                    let state = number::<F>(initial, row, plane / length, planar);
                    re = state.re;
                    im = state.im;
                }
                ComptimeOption::None => {}
            }
        } else {
            let state = number::<F>(h, at + back, plane, planar);
            re = state.re;
            im = state.im;
        }
        let slope = product::<F>(number::<F>(lambda, at, plane, planar), complex::<F>(re, -im), planar);
        put::<F>(out, at, plane, slope, planar);
    }
}

/// The gradient of every row's initial state: the conjugate of the first coefficient, which is at time `from`, times lambda.
#[cube(launch)]
fn initial_kernel<F: Float>(
    a: &Array<F>,
    lambda: &Array<F>,
    out: &mut Array<F>,
    a_axes: &Array<u32>,
    sizes: &Sizes,
    from: u32,
    #[comptime] planar: bool,
    #[comptime] rank: usize,
) {
    let row = ABSOLUTE_POS as u32;
    if row < sizes.rows {
        let at = offset(a_axes, 0usize, rank, row) + from * sizes.a_stride;
        let a = number::<F>(a, at, sizes.a_plane, planar);
        let lambda = number::<F>(lambda, row * sizes.length + from, sizes.plane, planar);
        put::<F>(out, row, sizes.rows, product::<F>(complex::<F>(a.re, -a.im), lambda, planar), planar);
    }
}

/// A recurrence, on the host.
struct Recurrence<'a, R: Runtime, E: Scalar> {
    a: &'a Tensor<Cube<R, E>>,
    /// Where the rows of a are, as kernels read axes.
    a_axes: Vec<usize>,
    /// Whether a changes in time.
    varies: bool,
    b: &'a Tensor<Cube<R, E>>,
    /// (outer, length, inner) of a plane of b.
    sizes: [usize; 3],
    initial: Option<&'a Tensor<Cube<R, E>>>,
    planar: bool,
    backwards: bool,
    adjoint: bool,
    of_pieces: bool,
}

/// How a recurrence is shared out among cubes.
struct Plan {
    form: Form,
    rows: usize,
    pieces: usize,
}

impl<'a, R: Runtime, E: Scalar> Recurrence<'a, R, E> {
    fn of(scan: LinearScan<'a, Cube<R, E>>, sizes: &shape::Scan) -> Self {
        let rows = sizes.batch.iter().copied().zip(strides(&sizes.a_batch, &sizes.batch));
        Recurrence {
            a: scan.a,
            a_axes: axes(rows.map(|(len, stride)| (len, stride * sizes.a_length))),
            varies: sizes.a_length > 1,
            b: scan.b,
            sizes: [sizes.batch.iter().product(), sizes.length, 1],
            initial: scan.initial,
            planar: scan.complex,
            backwards: scan.reverse,
            adjoint: false,
            of_pieces: false,
        }
    }

    /// That of the gradient `g` of the states: its states are the gradients of b.
    fn adjoint(&self, g: &'a Tensor<Cube<R, E>>) -> Self {
        Recurrence { b: g, initial: None, a_axes: self.a_axes.clone(), backwards: !self.backwards, adjoint: true, ..*self }
    }

    fn plan(&self, cube: &Cube<R, E>) -> Plan {
        let [outer, length, inner] = self.sizes;
        let shared = cube.limits().shared_bytes / (if self.planar { 4 } else { 2 } * size_of::<E>());
        let units = cube.limits().units_up_to(UNITS.min(shared));
        let least = if inner == 1 { 1 } else { ACROSS.min(units) };
        let lanes = length.div_ceil(STRETCH).next_power_of_two().min(units / least);
        let Recurrence { planar, backwards, adjoint, of_pieces, .. } = *self;
        let form = Form { planar, backwards, adjoint, of_pieces, rank: self.a_axes.len() / 2, across: units / lanes, lanes };
        Plan { form, rows: outer * inner, pieces: length.div_ceil(lanes * STRETCH) }
    }

    fn launch(&self, pieces: usize) -> SizesLaunch<R> {
        let ([outer, length, inner], planes) = (self.sizes, if self.planar { 2 } else { 1 });
        let sizes = [outer * inner, length, inner, pieces, self.b.numel() / planes, self.a.numel() / planes, usize::from(self.varies)];
        let [rows, length, inner, pieces, plane, a_plane, a_stride] = sizes.map(|n| n as u32);
        SizesLaunch::new(rows, length, inner, pieces, plane, a_plane, a_stride)
    }

    /// Every state, in b's shape.
    fn states(&self, cube: &Cube<R, E>, method: &'static str) -> Result<Tensor<Cube<R, E>>> {
        let (out, Plan { form, rows, pieces }) = (cube.alloc(method, self.b.shape())?, self.plan(cube));
        let a_axes = cube.sizes(&self.a_axes)?;
        let between = if pieces == 1 { None } else { Some(self.between(cube, method)?) };
        states_kernel::launch::<E, R>(
            cube.client(),
            cube.cubes(rows.div_ceil(form.across) * pieces),
            CubeDim::new_1d((form.across * form.lanes) as u32),
            arg(self.a),
            arg(self.b),
            self.initial.map(arg).into(),
            between.as_ref().map(arg).into(),
            arg(&out),
            a_axes.arg(),
            self.launch(pieces),
            form,
        );
        Ok(out)
    }

    /// The states after every piece.
    fn between(&self, cube: &Cube<R, E>, method: &'static str) -> Result<Tensor<Cube<R, E>>> {
        let (Plan { form, rows, pieces }, a_axes) = (self.plan(cube), cube.sizes(&self.a_axes)?);
        let planes = if self.planar { 2 } else { 1 };
        let [products, sums] = [cube.alloc(method, &[planes, rows, pieces])?, cube.alloc(method, &[planes, rows, pieces])?];
        pieces_kernel::launch::<E, R>(
            cube.client(),
            cube.cubes(rows.div_ceil(form.across) * pieces),
            CubeDim::new_1d((form.across * form.lanes) as u32),
            arg(self.a),
            arg(self.b),
            arg(&products),
            arg(&sums),
            a_axes.arg(),
            self.launch(pieces),
            form,
        );
        let steps = Recurrence {
            a: &products,
            a_axes: axes([(rows, pieces)]),
            varies: true,
            b: &sums,
            sizes: [rows, pieces, 1],
            initial: self.initial,
            planar: self.planar,
            backwards: false,
            adjoint: false,
            of_pieces: true,
        };
        steps.states(cube, method)
    }
}

/// The sum of the entries along the middle axis of x, (outer, len, inner), up to each one, or from each one on.
pub(super) fn running_sums<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    x: &Tensor<Cube<R, E>>,
    sizes: [usize; 3],
    reverse: bool,
) -> Result<Tensor<Cube<R, E>>> {
    if x.numel() == 0 {
        return Ok(x.clone());
    }
    let one = full(cube, &[], 1.0)?;
    let sums = Recurrence {
        a: &one,
        a_axes: Vec::new(),
        varies: false,
        b: x,
        sizes,
        initial: None,
        planar: false,
        backwards: reverse,
        adjoint: false,
        of_pieces: false,
    };
    sums.states(cube, "cumsum")
}

/// The gradient of a, in its shape.
fn a_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    scan: LinearScan<'_, Cube<R, E>>,
    sizes: &shape::Scan,
    h: &Tensor<Cube<R, E>>,
    lambda: &Tensor<Cube<R, E>>,
) -> Result<Tensor<Cube<R, E>>> {
    let (out, planar) = (cube.alloc("scan_grad", lambda.shape())?, scan.complex);
    let plane = lambda.numel() / if planar { 2 } else { 1 };
    let (from, back) = if scan.reverse { (sizes.length - 1, 1) } else { (0, u32::MAX) };
    let ((cubes, units), initial) = (cube.units(plane), scan.initial.map(arg).into());
    let [lambda, h] = [lambda, h].map(arg);
    let (plane, length, from) = (plane as u32, sizes.length as u32, from as u32);
    slopes_kernel::launch::<E, R>(cube.client(), cubes, units, lambda, h, initial, arg(&out), plane, length, from, back, planar);
    // Aligned to the right, an axis of planes in front of all others.
    let planes: &[usize] = if planar { &[2] } else { &[] };
    let ones = vec![1; sizes.batch.len() - sizes.a_batch.len()];
    cube.sum_to(&out, &[planes, &ones, &sizes.a_batch, &[sizes.a_length]].concat())?.reshape(scan.a.shape())
}

impl<R: Runtime, E: Scalar> Scan for Cube<R, E> {
    fn scan(&self, scan: LinearScan<'_, Self>) -> Result<Tensor<Self>> {
        Recurrence::of(scan, &scan.sizes("scan")?).states(self, "scan")
    }

    fn scan_grad(&self, scan: LinearScan<'_, Self>, h: &Tensor<Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<Grads<Self, 3>> {
        let sizes = scan.sizes_grad("scan_grad", h, g)?;
        let initial = scan.initial.filter(|_| needs[2]);
        if !needs[0] && !needs[1] && initial.is_none() {
            return Ok([None, None, None]);
        }
        let recurrence = Recurrence::of(scan, &sizes);
        let lambda = recurrence.adjoint(g).states(self, "scan_grad")?;
        let a = needs[0].then(|| a_grad(self, scan, &sizes, h, &lambda)).transpose()?;
        let towards_initial = |initial: &Tensor<Self>| {
            let (out, table) = (self.alloc("scan_grad", initial.shape())?, self.sizes(&recurrence.a_axes)?);
            let from = if scan.reverse { sizes.length - 1 } else { 0 };
            let ((cubes, units), sizes) = (self.units(recurrence.sizes[0]), recurrence.launch(1));
            let ([a, lambda, gradient], rank) = ([scan.a, &lambda, &out].map(arg), recurrence.a_axes.len() / 2);
            let axes = table.arg();
            initial_kernel::launch::<E, R>(self.client(), cubes, units, a, lambda, gradient, axes, sizes, from as u32, scan.complex, rank);
            Ok(out)
        };
        let initial = initial.map(towards_initial).transpose()?;
        Ok([a, needs[1].then_some(lambda), initial])
    }
}
