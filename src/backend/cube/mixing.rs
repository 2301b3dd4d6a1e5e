//! The channel mix: products by cubek-matmul, and what follows them in one kernel.

use cubecl::prelude::*;

use super::convolution::fire::dropped;
use super::elementwise::functions::{Activation, activated, activation_arg, activation_slope, binary, full, plus};
use super::layout;
use super::products::matmul::matmul;
use super::random::draw_uniform;
use super::storage::arg;
use super::{Cube, Scalar};
use crate::backend::{Binary, ChannelMixing, Elementwise, Mixing, Tensor};
use crate::error::Result;

/// Dropout of (batch, channel) rows.
#[derive(CubeType, CubeLaunch)]
struct Dropout<F: Float> {
    /// Uniform numbers (B, H).
    rows: Array<F>,
    keep: InputScalar,
    kept: InputScalar,
}

/// (B, H, L).
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Sizes {
    channels: u32,
    length: u32,
}

/// The dropout factor of row `row`.
#[cube]
fn factor<F: Float>(dropout: &ComptimeOption<Dropout<F>>, row: usize) -> F {
    #[comptime]
    match dropout {
        ComptimeOption::Some(dropout) => dropped::<F>(dropout.rows[row], dropout.keep.get::<F>(), dropout.kept.get::<F>()),
        ComptimeOption::None => F::new(1.0),
    }
}

/// r + drop(f(z + more + bias)), an element a unit.
#[cube(launch)]
fn finish<F: Float>(
    z: &Array<F>,
    more: &ComptimeOption<Array<F>>,
    bias: &Array<F>,
    residual: &ComptimeOption<Array<F>>,
    activation: &ComptimeOption<Activation>,
    dropout: &ComptimeOption<Dropout<F>>,
    out: &mut Array<F>,
    sizes: Sizes,
) {
    let at = ABSOLUTE_POS;
    if at < out.len() {
        let row = at / sizes.length as usize;
        let mut x = plus::<F>(z[at], more, at) + bias[row % sizes.channels as usize];
        x = activated::<F>(activation, x);
        x *= factor::<F>(dropout, row);
        #[comptime]
        match residual {
            ComptimeOption::Some(residual) => {
                x += residual[at];
            }
            ComptimeOption::None => {}
        }
        out[at] = x;
    }
}

/// The gradient of z: f'(z + more + bias) drop(g).
#[cube(launch)]
fn finish_grad<F: Float>(
    z: &ComptimeOption<Array<F>>,
    more: &ComptimeOption<Array<F>>,
    bias: &Array<F>,
    activation: &ComptimeOption<Activation>,
    dropout: &ComptimeOption<Dropout<F>>,
    g: &Array<F>,
    out: &mut Array<F>,
    sizes: Sizes,
) {
    let at = ABSOLUTE_POS;
    if at < out.len() {
        let row = at / sizes.length as usize;
        let mut x = g[at] * factor::<F>(dropout, row);
        #[comptime]
        match z {
            ComptimeOption::Some(z) => {
                x *= activation_slope::<F>(activation, plus::<F>(z[at], more, at) + bias[row % sizes.channels as usize]);
            }
            ComptimeOption::None => {}
        }
        out[at] = x;
    }
}

/// One or two terms of a sum: whoever reads the second adds it.
type Terms<R, E> = (Tensor<Cube<R, E>>, Option<Tensor<Cube<R, E>>>);

/// A mix, and the method that is to be named in errors.
struct Mixer<'a, R: Runtime, E: Scalar> {
    cube: &'a Cube<R, E>,
    method: &'static str,
    mixing: Mixing<'a, Cube<R, E>>,
}

impl<R: Runtime, E: Scalar> Mixer<'_, R, E> {
    /// (B, H, L).
    fn shape(&self) -> [usize; 3] {
        let part = self.mixing.parts[0].shape();
        [part[0], self.mixing.weight.shape()[0], part[2]]
    }

    fn sizes(&self) -> SizesLaunch<R> {
        let [_, channels, length] = self.shape();
        SizesLaunch::new(channels as u32, length as u32)
    }

    fn dropout(&self) -> Result<ComptimeOptionArgs<Dropout<E>, R>> {
        let [batch, channels, _] = self.shape();
        let dropout = self.mixing.dropout.map(|(p, draw)| -> Result<_> {
            let (keep, rows) = (1.0 - p, draw_uniform(self.cube, draw, &[batch, channels])?);
            Ok(DropoutLaunch::new(arg(&rows), self.cube.scalar(keep), self.cube.scalar(1.0 / keep)))
        });
        Ok(dropout.transpose()?.into())
    }

    /// The columns of W for every part.
    fn weights(&self) -> Result<Vec<Tensor<Cube<R, E>>>> {
        let mut at = 0;
        let mut columns = |part: &&Tensor<Cube<R, E>>| {
            let (start, count) = (at, part.shape()[1]);
            at += count;
            match self.mixing.parts {
                [_] => Ok(self.mixing.weight.clone()),
                _ => layout::slice(self.cube, self.mixing.weight, 1, start, count),
            }
        };
        self.mixing.parts.iter().map(&mut columns).collect()
    }

    /// W x, (B, H, L).
    fn product(&self) -> Result<Terms<R, E>> {
        let mut sum: Option<Terms<R, E>> = None;
        for (part, weight) in self.mixing.parts.iter().zip(self.weights()?) {
            let z = matmul(self.cube, &weight, false, part, false)?;
            sum = Some(match sum {
                Some((sum, Some(last))) => (binary(self.cube, Binary::Add, &sum, &last)?, Some(z)),
                Some((first, None)) => (first, Some(z)),
                None => (z, None),
            });
        }
        sum.map_or_else(|| Ok((full(self.cube, &self.shape(), 0.0)?, None)), Ok)
    }

    fn run(&self) -> Result<Tensor<Cube<R, E>>> {
        let (cube, (z, more)) = (self.cube, self.product()?);
        let out = cube.alloc(self.method, z.shape())?;
        let ((cubes, units), residual) = (cube.units(out.numel()), self.mixing.residual.map(arg).into());
        let (client, bias, dropout) = (cube.client(), arg(self.mixing.bias), self.dropout()?);
        finish::launch::<E, R>(
            client,
            cubes,
            units,
            arg(&z),
            more.as_ref().map(arg).into(),
            bias,
            residual,
            activation_arg(self.cube, self.mixing.activation),
            dropout,
            arg(&out),
            self.sizes(),
        );
        Ok(out)
    }

    /// The gradient of W x + bias.
    fn inner(&self, g: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
        if self.mixing.activation.is_none() && self.mixing.dropout.is_none() {
            return Ok(g.clone());
        }
        let cube = self.cube;
        let (z, more) = self.mixing.activation.map(|_| self.product()).transpose()?.unzip();
        let more = more.flatten();
        let out = cube.alloc(self.method, g.shape())?;
        let ((cubes, units), z) = (cube.units(out.numel()), z.as_ref().map(arg).into());
        let (client, bias, dropout) = (cube.client(), arg(self.mixing.bias), self.dropout()?);
        finish_grad::launch::<E, R>(
            client,
            cubes,
            units,
            z,
            more.as_ref().map(arg).into(),
            bias,
            activation_arg(self.cube, self.mixing.activation),
            dropout,
            arg(g),
            arg(&out),
            self.sizes(),
        );
        Ok(out)
    }

    /// The gradient of W from that of W x: a product for every sequence, then their sum.
    fn weight_grad(&self, g: &Tensor<Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
        let parts: Vec<Tensor<Cube<R, E>>> = self
            .mixing
            .parts
            .iter()
            .map(|part| {
                let products = matmul(self.cube, g, false, part, true)?;
                self.cube.sum_to(&products, &products.shape()[1..])
            })
            .collect::<Result<_>>()?;
        match &parts[..] {
            [part] => Ok(part.clone()),
            _ => layout::concat(self.cube, &parts.iter().collect::<Vec<_>>(), 1),
        }
    }
}

pub(super) fn mix<R: Runtime, E: Scalar>(cube: &Cube<R, E>, mixing: Mixing<'_, Cube<R, E>>) -> Result<Tensor<Cube<R, E>>> {
    Mixer { cube, method: "mix", mixing }.run()
}

/// Gradients of every part, of weight and bias.
type MixGrads<R, E> = Vec<Option<Tensor<Cube<R, E>>>>;

pub(super) fn mix_grad<R: Runtime, E: Scalar>(
    cube: &Cube<R, E>,
    mixing: Mixing<'_, Cube<R, E>>,
    g: &Tensor<Cube<R, E>>,
    needs: &[bool],
) -> Result<MixGrads<R, E>> {
    let mixer = Mixer { cube, method: "mix_grad", mixing };
    let g = mixer.inner(g)?;
    let mut grads = Vec::with_capacity(mixing.parts.len() + 2);
    for (weight, &need) in mixer.weights()?.iter().zip(needs) {
        grads.push(need.then(|| matmul(cube, weight, true, &g, false)).transpose()?);
    }
    let [weight, bias] = [needs[mixing.parts.len()], needs[mixing.parts.len() + 1]];
    grads.push(weight.then(|| mixer.weight_grad(&g)).transpose()?);
    let rows = [1, g.shape()[1], 1];
    grads.push(bias.then(|| cube.sum_to(&g, &rows).and_then(|sum| sum.reshape(&rows[1..2]))).transpose()?);
    Ok(grads)
}

impl<R: Runtime, E: Scalar> ChannelMixing for Cube<R, E> {
    fn mix(&self, mixing: Mixing<'_, Self>) -> Result<Tensor<Self>> {
        mixing.check()?;
        mix(self, mixing)
    }

    fn mix_grad(&self, mixing: Mixing<'_, Self>, g: &Tensor<Self>, needs: &[bool]) -> Result<Vec<Option<Tensor<Self>>>> {
        mixing.check_grad(g, needs)?;
        mix_grad(self, mixing, g, needs)
    }
}
