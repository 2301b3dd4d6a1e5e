//! Matrix products: by cubek-matmul, and those with a column by sums over rows.

use std::marker::PhantomData;

use cubecl::prelude::*;
use cubek_matmul::definition::MatmulElems;
use cubek_matmul::launch::{Strategy, launch_ref};
use cubek_std::InputBinding;

use super::elementwise::{full, strides};
use super::launch::UNITS;
use super::reduce::sum_cube;
use super::storage::arg;
use super::{Cube, Scalar};
use crate::backend::{Tensor, shape};
use crate::error::{Error, Result};

/// Products (m n k) below which a unit an entry is as good as tiles, and the compilation of its kernel much shorter.
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

pub(super) fn matmul<R: Runtime, E: Scalar>(
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
    // Tiles have nothing to share here, and a sum over a long row by one unit would gather round-off.
    if product.n == 1 && !transpose_x && x.numel() == batch * product.m * product.k && y.numel() == batch * product.k {
        let units = cube.limits().units_up_to(product.k.next_power_of_two().clamp(32, UNITS));
        let (cubes, dim, sizes) = (cube.cubes(out.numel()), CubeDim::new_1d(units as u32), [product.m, product.k].map(|n| n as u32));
        rows_by_columns::launch::<E, R>(cube.client(), cubes, dim, arg(x), arg(y), arg(&out), sizes[0], sizes[1], units);
        return Ok(out);
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
    // An axis of one entry may have any stride; 0 would be taken for a repetition.
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
