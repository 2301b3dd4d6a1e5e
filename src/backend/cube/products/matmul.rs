//! Matrix products: cubek-matmul computes them in f32, tiles of our own in f64, which it refuses, and sums over rows where a factor is a
//! column.

use std::marker::PhantomData;

use cubecl::prelude::*;
use cubek_matmul::definition::MatmulElems;
use cubek_matmul::launch::{Strategy, launch_ref};
use cubek_std::InputBinding;

use crate::backend::Tensor;
use crate::backend::cube::elementwise::functions::{full, strides};
use crate::backend::cube::elementwise::reduce::{offset, sum_cube};
use crate::backend::cube::launch::UNITS;
use crate::backend::cube::storage::arg;
use crate::backend::cube::{Cube, Scalar};
use crate::backend::shape::{self, Product};
use crate::error::{Error, Result};

/// The size m n k below which one unit for each entry is as fast as tiles, with a kernel that compiles in much less time.
const SMALL: usize = 1 << 16;

/// The products of rows (batch m, k) with the columns (batch, k) of their batch entries: a cube for every row.
#[cube(launch)]
fn rows_by_columns<F: Float>(x: &Array<F>, y: &Array<F>, out: &mut Array<F>, m: u32, k: u32, #[comptime] units: usize) {
    let mut scratch = SharedMemory::<F>::new(units);
    let row = CUBE_POS;
    if row < out.len() {
        let (k, column) = (k as usize, row / m as usize);
        let mut sum = F::new(0.0);
        let mut i = UNIT_POS as usize;
        while i < k {
            sum += x[row * k + i] * y[column * k + i];
            i += CUBE_DIM as usize;
        }
        let sum = sum_cube::<F>(sum, &mut scratch);
        if UNIT_POS == 0 {
            out[row] = sum;
        }
    }
}

pub(crate) fn matmul<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    x: &Tensor<Cube<R, E>>,
    transpose_x: bool,
    y: &Tensor<Cube<R, E>>,
    transpose_y: bool,
) -> Result<Tensor<Cube<R, E>>> {
    let product = shape::product(x.shape(), transpose_x, y.shape(), transpose_y)?;
    let out_shape = [product.batch.as_slice(), &[product.m, product.n]].concat();
    if out_shape.contains(&0) || product.k == 0 {
        return full(cube, &out_shape, 0.0);
    }
    let out = cube.alloc("matmul", &out_shape)?;
    let batch: usize = product.batch.iter().product();
    // Tiles would share nothing here, and one unit that sums a long row gathers round-off.
    if product.n == 1 && !transpose_x && x.numel() == batch * product.m * product.k && y.numel() == batch * product.k {
        let units = cube.limits().units_up_to(product.k.next_power_of_two().clamp(32, UNITS));
        let (cubes, dim, sizes) = (cube.cubes(out.numel()), CubeDim::new_1d(units as u32), [product.m, product.k].map(|n| n as u32));
        rows_by_columns::launch::<E, R>(cube.client(), cubes, dim, arg(x), arg(y), arg(&out), sizes[0], sizes[1], units);
        return Ok(out);
    }
    if !cube.client().properties().supports_type(E::as_type_native_unchecked()) {
        return by_tiles(cube, (x, transpose_x), (y, transpose_y), &product, out);
    }
    let left = operand(x, transpose_x, &product.batch, [product.m, product.k]);
    let right = operand(y, transpose_y, &product.batch, [product.k, product.n]);
    let target = binding(&out, &out_shape, &row_major(&out_shape));
    let scalar = E::as_type_native_unchecked();
    let input = |binding| InputBinding::Normal(binding, scalar.storage_type());
    // Tiles in registers, not tensor cores: those would round the factors to fewer bits.
    let small = product.m * product.n * product.k < SMALL;
    let strategy = if small { Strategy::Naive } else { Strategy::SimpleUnit(Default::default()) };
    let mut elems = MatmulElems::from_single_dtype(scalar);
    launch_ref(&strategy, cube.client(), input(left), input(right), target, &mut elems).map_err(|error| Error::Device {
        method: "matmul",
        help: format!("shapes {:?} and {:?} are refused: {error:?}", x.shape(), y.shape()),
    })?;
    Ok(out)
}

/// A factor (.., rows, columns) with the batch axes of the product: transposed and repeated by its strides.
fn operand<R: Runtime, E: Scalar>(x: &Tensor<Cube<R, E>>, transposed: bool, batch: &[usize], matrix: [usize; 2]) -> TensorBinding<R> {
    let stored = if transposed { [matrix[1], matrix[0]] } else { matrix };
    let given: Vec<usize> = x.shape()[..x.rank() - 2].iter().copied().chain(stored).collect();
    let wanted: Vec<usize> = batch.iter().copied().chain(stored).collect();
    let mut steps = strides(&given, &wanted);
    // An axis of one entry may have any stride but 0, which means a repetition.
    let (rows, columns) = (steps.len() - 2, steps.len() - 1);
    steps[columns] = 1;
    steps[rows] = stored[1];
    if transposed {
        steps.swap(rows, columns);
    }
    let shape: Vec<usize> = batch.iter().copied().chain(matrix).collect();
    binding(x, &shape, &steps)
}

fn row_major(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

fn binding<R: Runtime, E: Scalar>(x: &Tensor<Cube<R, E>>, shape: &[usize], strides: &[usize]) -> TensorBinding<R> {
    TensorBinding {
        handle: x.storage().handle().clone().binding(),
        shape: shape.iter().copied().collect(),
        strides: strides.iter().copied().collect(),
        runtime: PhantomData,
    }
}

/// Rows and columns of the product that a cube computes, 4 by 4 each of its 16 by 16 units.
const TILE: u32 = 64;
const SIDE: u32 = 16;
/// Terms of their sums that are in shared memory at a time.
const DEPTH: u32 = 16;

/// A factor, and whether it is stored transposed.
type Factor<'a, R, E> = (&'a Tensor<Cube<R, E>>, bool);

/// The same into `out`, for any scalar.
fn by_tiles<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    (x, transpose_x): Factor<'_, R, E>,
    (y, transpose_y): Factor<'_, R, E>,
    product: &Product,
    out: Tensor<Cube<R, E>>,
) -> Result<Tensor<Cube<R, E>>> {
    let (m, n, k) = (product.m as u32, product.n as u32, product.k as u32);
    let matrices = product.batch.iter().product::<usize>();
    // (length, stride) of every batch axis, the last one first, of x and then of y.
    let steps = |x: &Tensor<Cube<R, E>>, matrix: usize| {
        let steps = strides(&x.shape()[..x.rank() - 2], &product.batch).into_iter().map(move |stride| stride * matrix);
        product.batch.iter().copied().zip(steps).rev().flat_map(|(len, stride)| [len, stride]).collect::<Vec<_>>()
    };
    let axes = cube.sizes(&[steps(x, product.m * product.k), steps(y, product.k * product.n)].concat())?;
    let cubes = matrices * m.div_ceil(TILE) as usize * n.div_ceil(TILE) as usize;
    tiles::launch::<E, R>(
        cube.client(),
        cube.cubes(cubes),
        CubeDim::new_1d(SIDE * SIDE),
        arg(x),
        arg(y),
        arg(&out),
        axes.arg(),
        m,
        n,
        k,
        product.batch.len(),
        !transpose_x,
        transpose_y,
    );
    Ok(out)
}

/// A tile of x (batch, m, k) times y (batch, k, n) for every cube. `x_along` and `y_along` say whether the terms of one sum are neighbours
/// in x and in y. `axes` holds the batch axes of x and of y.
#[cube(launch)]
fn tiles<F: Float>(
    x: &Array<F>,
    y: &Array<F>,
    out: &mut Array<F>,
    axes: &Array<u32>,
    m: u32,
    n: u32,
    k: u32,
    #[comptime] rank: usize,
    #[comptime] x_along: bool,
    #[comptime] y_along: bool,
) {
    let mut left = SharedMemory::<F>::new(comptime!((TILE * DEPTH) as usize));
    let mut right = SharedMemory::<F>::new(comptime!((TILE * DEPTH) as usize));
    let mut sums = Array::<F>::new(16usize);
    #[unroll]
    for i in 0..16usize {
        sums[i] = F::new(0.0);
    }
    let columns = n.div_ceil(TILE);
    let tile = CUBE_POS as u32 % (m.div_ceil(TILE) * columns);
    let matrix = CUBE_POS as u32 / (m.div_ceil(TILE) * columns);
    let (row, column) = (tile / columns * TILE, tile % columns * TILE);
    if (matrix * m * n) < out.len() as u32 {
        let x_base = offset(axes, 0usize, rank, matrix);
        let y_base = offset(axes, comptime!(2 * rank), rank, matrix);
        let mut from = 0u32;
        while from < k {
            load::<F>(x, x_base, &mut left, row, m, from, k, x_along);
            load::<F>(y, y_base, &mut right, column, n, from, k, y_along);
            sync_cube();
            add_products::<F>(&left, &right, &mut sums);
            // No unit may load the next entries before all have used these.
            sync_cube();
            from += DEPTH;
        }
        #[unroll]
        for i in 0..16u32 {
            let (r, c) = (row + UNIT_POS / SIDE + SIDE * comptime!(i / 4), column + UNIT_POS % SIDE + SIDE * comptime!(i % 4));
            if r < m && c < n {
                out[(matrix * m * n + r * n + c) as usize] = sums[i as usize];
            }
        }
    }
}

/// Entries `first..first + TILE` of the sums' terms `from..from + DEPTH` of a factor, as (DEPTH, TILE): zeros beyond `len` and `depth`.
#[cube]
fn load<F: Float>(
    x: &Array<F>,
    base: u32,
    held: &mut SharedMemory<F>,
    first: u32,
    len: u32,
    from: u32,
    depth: u32,
    #[comptime] along: bool,
) {
    let mut i = UNIT_POS;
    while i < comptime!(TILE * DEPTH) {
        let entry = if comptime!(along) { i / DEPTH } else { i % TILE };
        let term = if comptime!(along) { i % DEPTH } else { i / TILE };
        let (row, step) = (first + entry, from + term);
        let mut value = F::new(0.0);
        if row < len && step < depth {
            let at = if comptime!(along) { row * depth + step } else { step * len + row };
            value = x[(base + at) as usize];
        }
        held[(term * TILE + entry) as usize] = value;
        i += CUBE_DIM;
    }
}

/// Adds the products of what is held to a unit's sums (4, 4), of entries SIDE apart.
#[cube]
fn add_products<F: Float>(left: &SharedMemory<F>, right: &SharedMemory<F>, sums: &mut Array<F>) {
    for term in 0..DEPTH {
        let (rows, columns) = (term * TILE + UNIT_POS / SIDE, term * TILE + UNIT_POS % SIDE);
        #[unroll]
        for i in 0..16u32 {
            let (x, y) = (left[(rows + SIDE * comptime!(i / 4)) as usize], right[(columns + SIDE * comptime!(i % 4)) as usize]);
            sums[i as usize] += x * y;
        }
    }
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use super::*;
    use crate::backend::*;

    #[test]
    fn tiles_are_the_product() {
        let (gpu, cpu) = (Wgpu::new().expect("a device"), Cpu::<f32>::new());
        for (left, right, tx, ty) in [
            (vec![3, 70, 33], vec![33, 65], false, false),
            (vec![70, 33], vec![2, 1, 33, 65], true, true),
            (vec![2, 1, 5, 130], vec![3, 130, 64], false, false),
            (vec![1, 1], vec![1, 1], true, false),
            (vec![64, 16], vec![4, 16, 64], false, true),
        ] {
            // Stored as (33, 70) to be (70, 33), and so on.
            let stored = |shape: &[usize], transposed: bool| {
                let (batch, matrix) = shape.split_at(shape.len() - 2);
                if transposed { [batch, &[matrix[1], matrix[0]]].concat() } else { shape.to_vec() }
            };
            let (x, y) = (stored(&left, tx), stored(&right, ty));
            let (x, y) = (cpu.normal(Key::new(1), &x).unwrap(), cpu.normal(Key::new(2), &y).unwrap());
            let Ok(want) = cpu.matmul(&x, tx, &y, ty) else { panic!("{left:?} {right:?}") };
            let there = |x: &Tensor<Cpu<f32>>| gpu.from_vec(cpu.to_vec(x).unwrap(), x.shape()).unwrap();
            let (gx, gy) = (there(&x), there(&y));
            let product = shape::product(gx.shape(), tx, gy.shape(), ty).unwrap();
            let out = gpu.alloc("matmul", want.shape()).unwrap();
            let got = gpu.to_vec(&by_tiles(&gpu, (&gx, tx), (&gy, ty), &product, out).unwrap()).unwrap();
            for (g, w) in got.iter().zip(cpu.to_vec(&want).unwrap()) {
                assert!((g - w).abs() < 1e-4, "{left:?} {right:?}: {g} and not {w}");
            }
        }
    }
}
