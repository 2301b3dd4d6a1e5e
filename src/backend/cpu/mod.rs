//! The CPU backend: rustfft, a GEMM crate, rayon, and the domain kernels written for wide vectors.
//!
//! This file maps the [`Backend`] methods onto plain slices; the work is in the files named after the method families.

mod buffer;
mod butterfly;
mod conv;
pub mod diag;
pub mod dplr;
mod dplr_spectra;
mod elementwise;
mod fft;
mod fire;
pub(crate) mod gemm;
pub(crate) mod lanes;
mod layout;
mod loss;
pub(crate) mod math;
mod mixer;
mod norm;
mod packed;
mod panel;
mod random;
mod recurrence;
mod ring;
pub(crate) mod simd;
mod spike;
mod spike_sums;
pub mod ssm_common;
mod storage;
mod threads;

use std::sync::Arc;

use self::buffer::{Buffer, Pool};
use self::packed::Packed;
use self::ssm_common::{SystemGrads, SystemParams};
use self::storage::Storage;
use super::{
    AdamW, Backend, Binary, Discretisation, Draw, Firing, Key, Lif, LongConv, Mixing, NormAxes, Normalized, Real, Spike, SpikeMode,
    SsmParams, Tensor, Unary, shape,
};
use crate::error::Result;

/// The CPU, computing in `E` (f32 or f64), on the threads of the current rayon pool with feature `parallel`.
///
/// Clones share a pool of buffers and the tables of transforms.
#[derive(Clone)]
pub struct Cpu<E: Real> {
    pool: Arc<Pool<E>>,
    /// For what lives within one method: in the tensors' pool it would push large buffers out for the sake of small ones.
    scratch: Arc<Pool<E>>,
    plans: Arc<fft::Plans<E>>,
    rings: Arc<conv::Rings<E>>,
}

impl<E: Real> Cpu<E> {
    /// A CPU device.
    pub fn new() -> Self {
        let scratch = Arc::default();
        Cpu { rings: Arc::new(conv::Rings::new(&scratch)), scratch, pool: Arc::default(), plans: Arc::default() }
    }

    /// A tensor of `shape` that `fill` writes; it must write every element.
    fn make(&self, shape: &[usize], fill: impl FnOnce(&mut [E])) -> Tensor<Self> {
        let mut buffer = self.pool.dirty(shape.iter().product());
        fill(&mut buffer);
        self.wrap(buffer, shape)
    }

    fn wrap(&self, buffer: Buffer<E>, shape: &[usize]) -> Tensor<Self> {
        Tensor::from_storage(Storage::dense(buffer), shape)
    }

    fn own(&self, values: Vec<E>, shape: &[usize]) -> Tensor<Self> {
        self.wrap(Buffer::owned(values), shape)
    }

    /// A buffer where one is wanted.
    fn buffer_if(&self, wanted: bool, len: usize) -> Option<Buffer<E>> {
        wanted.then(|| self.pool.zeros(len))
    }

    fn wrap_if(&self, buffer: Option<Buffer<E>>, shape: &[usize]) -> Option<Tensor<Self>> {
        buffer.map(|buffer| self.wrap(buffer, shape))
    }
}

impl<E: Real> Default for Cpu<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Real> std::fmt::Debug for Cpu<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// The values of a tensor.
fn values<E: Real>(x: &Tensor<Cpu<E>>) -> &[E] {
    x.storage().values()
}

/// The bits of a tensor of spikes, unless it was given another shape since.
fn packed<E: Real>(x: &Tensor<Cpu<E>>) -> Option<&Packed> {
    x.storage().packed().filter(|packed| packed.shape() == x.shape())
}

/// A sequence as a convolution or a mixer reads it.
fn source<E: Real>(x: &Tensor<Cpu<E>>) -> conv::Source<'_, E> {
    packed(x).map_or_else(|| conv::Source::Rows(values(x)), conv::Source::Spikes)
}

/// (B, H, L) of a tensor of two or three axes; L = 1 for two.
fn sequence<E: Real>(x: &Tensor<Cpu<E>>) -> [usize; 3] {
    let shape = x.shape();
    [shape[0], shape[1], shape[2..].iter().product()]
}

fn system<E: Real>(ssm: &SsmParams<Cpu<E>>) -> SystemParams<'_, E> {
    SystemParams {
        inv_dt: values(&ssm.inv_dt),
        a_real: values(&ssm.a_real),
        a_imag: values(&ssm.a_imag),
        b: values(&ssm.b),
        c: values(&ssm.c),
        p: ssm.p.as_ref().map_or(&[], values),
    }
}

/// The potentials of a draw: rows as [`shape::rows`] says.
fn potentials<'a, E: Real>(
    spike: &'a Spike<&'a [E]>,
    x: &'a Tensor<Cpu<E>>,
    affine: Option<(&'a Tensor<Cpu<E>>, &'a Tensor<Cpu<E>>)>,
) -> spike::Potentials<'a, E> {
    let affine = affine.map(|(scale, shift)| (values(scale), values(shift)));
    spike::Potentials { spike, x: values(x), affine, shape: shape::rows(x.shape()) }
}

fn operands<'a, E: Real>(conv: &LongConv<'a, Cpu<E>>) -> conv::Operands<'a, E> {
    let kernel = conv.kernel.shape();
    conv::Operands {
        input: source(conv.input),
        kernel: values(conv.kernel),
        skip: conv.skip.map(values),
        lengths: conv.lengths,
        shape: sequence(conv.input),
        kernels: [kernel[0], kernel[2]],
    }
}

fn mixer<'a, E: Real>(pool: &'a Arc<Pool<E>>, mixing: &Mixing<'a, Cpu<E>>) -> mixer::Mixer<'a, E> {
    let [batch, _, length] = sequence(mixing.parts[0]);
    let (d_out, d_in) = (mixing.weight.shape()[0], mixing.weight.shape()[1]);
    // Spikes only where all parts are.
    let spikes: Option<Vec<&Packed>> = mixing.parts.iter().map(|part| packed(part)).collect();
    mixer::Mixer {
        pool,
        parts: match spikes {
            Some(parts) => mixer::Parts::Spikes(parts),
            None => mixer::Parts::Rows(mixing.parts.iter().map(|part| (values(part), part.shape()[1])).collect()),
        },
        weight: values(mixing.weight),
        bias: values(mixing.bias),
        activation: mixing.activation,
        dropout: mixing.dropout,
        residual: mixing.residual.map(values),
        shape: mixer::Shape { batch, d_out, d_in, length },
    }
}

impl<E: Real> Cpu<E> {
    fn system_grads(&self, ssm: &SsmParams<Self>, grads: SystemGrads<E>) -> SsmParams<Self> {
        SsmParams {
            inv_dt: self.own(grads.inv_dt, ssm.inv_dt.shape()),
            a_real: self.own(grads.a_real, ssm.a_real.shape()),
            a_imag: self.own(grads.a_imag, ssm.a_imag.shape()),
            b: self.own(grads.b, ssm.b.shape()),
            c: self.own(grads.c, ssm.c.shape()),
            p: ssm.p.as_ref().map(|p| self.own(grads.p, p.shape())),
            dt: ssm.dt,
        }
    }

    fn dplr_dims(&self, ssm: &SsmParams<Self>, len: usize, take: usize) -> Result<dplr::DplrDims> {
        Ok(dplr::DplrDims { sizes: ssm.sizes("dplr_kernel")?, dt: ssm.dt, len, take })
    }

    fn diag_dims(&self, ssm: &SsmParams<Self>, disc: Discretisation, len: usize) -> Result<diag::DiagDims> {
        Ok(diag::DiagDims { sizes: ssm.sizes("diag_kernel")?, dt: ssm.dt, disc, len })
    }
}

impl<E: Real> Backend for Cpu<E> {
    type Elem = E;
    type Storage = Storage<E>;

    fn name(&self) -> String {
        format!("cpu-{}", E::NAME)
    }

    fn from_vec(&self, values: Vec<E>, shape: &[usize]) -> Result<Tensor<Self>> {
        shape::same_numel("from_vec", &[values.len()], shape)?;
        Ok(self.own(values, shape))
    }

    fn to_vec(&self, x: &Tensor<Self>) -> Result<Vec<E>> {
        Ok(values(x).to_vec())
    }

    fn full(&self, shape: &[usize], value: f64) -> Result<Tensor<Self>> {
        Ok(self.make(shape, |out| out.fill(E::of(value))))
    }

    fn unary(&self, f: Unary, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        Ok(self.make(x.shape(), |out| elementwise::unary(f, values(x), out)))
    }

    fn unary_grad(&self, f: Unary, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        Ok(self.make(x.shape(), |out| elementwise::unary_grad(f, values(x), values(g), out)))
    }

    fn binary(&self, f: Binary, x: &Tensor<Self>, y: &Tensor<Self>) -> Result<Tensor<Self>> {
        let shape = shape::broadcast("binary", x.shape(), y.shape())?;
        Ok(self.make(&shape, |out| elementwise::binary(f, (values(x), x.shape()), (values(y), y.shape()), &shape, out)))
    }

    fn sum_to(&self, x: &Tensor<Self>, shape: &[usize]) -> Result<Tensor<Self>> {
        if shape == x.shape() {
            return Ok(x.clone());
        }
        if let (Some(packed), 1) = (packed(x), shape.iter().product::<usize>()) {
            return self.full(shape, packed.count() as f64);
        }
        Ok(self.own(elementwise::sum_to(values(x), x.shape(), shape), shape))
    }

    fn first_not_finite(&self, tensors: &[&Tensor<Self>]) -> Result<Option<usize>> {
        Ok(tensors.iter().position(|x| !values(x).iter().all(|v| v.is_finite())))
    }

    fn matmul(&self, x: &Tensor<Self>, transpose_x: bool, y: &Tensor<Self>, transpose_y: bool) -> Result<Tensor<Self>> {
        let product = shape::product(x.shape(), transpose_x, y.shape(), transpose_y)?;
        let shape = [product.batch.as_slice(), &[product.m, product.n]].concat();
        let operand = |t: &'_ Tensor<Self>, transposed| -> (Vec<usize>, bool) { (t.shape()[..t.rank() - 2].to_vec(), transposed) };
        let ((x_batch, tx), (y_batch, ty)) = (operand(x, transpose_x), operand(y, transpose_y));
        Ok(self.make(&shape, |out| {
            let left = gemm::Operand { values: values(x), batch: &x_batch, transposed: tx };
            let right = gemm::Operand { values: values(y), batch: &y_batch, transposed: ty };
            gemm::matmul(left, right, &product, out);
        }))
    }

    fn rfft(&self, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        let Some((&n, outer)) = x.shape().split_last() else { return Ok(x.clone()) };
        let plan = self.plans.get(n);
        let shape = [&[2], outer, &[plan.bins()]].concat();
        Ok(self.make(&shape, |out| fft::rfft(&plan, values(x), out)))
    }

    fn irfft(&self, x: &Tensor<Self>, n: usize) -> Result<Tensor<Self>> {
        let plan = self.plans.get(n);
        let shape = [&x.shape()[1..x.rank() - 1], &[n]].concat();
        Ok(self.make(&shape, |out| fft::irfft(&plan, values(x), out)))
    }

    fn permute(&self, x: &Tensor<Self>, axes: &[usize]) -> Result<Tensor<Self>> {
        let shape: Vec<usize> = axes.iter().map(|&a| x.shape()[a]).collect();
        Ok(self.make(&shape, |out| layout::permute(values(x), x.shape(), axes, out)))
    }

    fn slice(&self, x: &Tensor<Self>, axis: usize, start: usize, len: usize) -> Result<Tensor<Self>> {
        let mut shape = x.shape().to_vec();
        shape[axis] = len;
        Ok(self.make(&shape, |out| layout::slice(values(x), x.shape(), axis, start, len, out)))
    }

    fn concat(&self, parts: &[&Tensor<Self>], axis: usize) -> Result<Tensor<Self>> {
        let mut shape = parts[0].shape().to_vec();
        shape[axis] = parts.iter().map(|p| p.shape()[axis]).sum();
        let parts: Vec<_> = parts.iter().map(|p| (values(p), p.shape())).collect();
        Ok(self.make(&shape, |out| layout::concat(&parts, axis, out)))
    }

    fn flip(&self, x: &Tensor<Self>, axis: usize) -> Result<Tensor<Self>> {
        Ok(self.make(x.shape(), |out| layout::flip(values(x), x.shape(), axis, out)))
    }

    fn embed(&self, table: &Tensor<Self>, tokens: &[u32], batch: usize) -> Result<Tensor<Self>> {
        let (d_model, length) = (table.shape()[1], tokens.len() / batch);
        Ok(self.make(&[batch, d_model, length], |out| layout::embed(values(table), d_model, tokens, length, out)))
    }

    fn embed_grad(&self, rows: usize, tokens: &[u32], g: &Tensor<Self>) -> Result<Tensor<Self>> {
        Ok(self.make(&[rows, g.shape()[1]], |out| layout::embed_grad(rows, tokens, values(g), sequence(g), out)))
    }

    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        Ok(self.make(shape, |out| random::uniform(key, out)))
    }

    fn draw_uniform(&self, draw: Draw, shape: &[usize]) -> Result<Tensor<Self>> {
        let rows = shape::rows(shape);
        draw.check("draw_uniform", rows[0])?;
        Ok(self.make(shape, |out| random::draw_uniform(draw, rows, out)))
    }

    fn normal(&self, key: Key, shape: &[usize]) -> Result<Tensor<Self>> {
        Ok(self.make(shape, |out| random::normal(key, out)))
    }

    fn affine(&self, x: &Tensor<Self>, scale: &Tensor<Self>, shift: &Tensor<Self>) -> Result<Tensor<Self>> {
        Ok(self.make(x.shape(), |out| norm::affine(values(x), values(scale), values(shift), sequence(x)[2], out)))
    }

    fn affine_grad(&self, x: &Tensor<Self>, scale: &Tensor<Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        let shape = sequence(x);
        let zeros = vec![E::zero(); shape[1]];
        let gx = needs[0].then(|| self.make(x.shape(), |out| norm::affine(values(g), values(scale), &zeros, shape[2], out)));
        let sums = if needs[1] || needs[2] { norm::channel_sums(values(x), values(g), shape) } else { Vec::new() };
        let channels = |f: fn(&(f64, f64)) -> f64| self.own(sums.iter().map(|s| E::of(f(s))).collect(), scale.shape());
        Ok([gx, needs[1].then(|| channels(|s| s.0)), needs[2].then(|| channels(|s| s.1))])
    }

    fn moments(&self, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        let (mean, var): (Vec<E>, Vec<E>) = norm::batch_statistics(values(x), sequence(x)).into_iter().unzip();
        Ok(self.own([mean, var].concat(), &[2, x.shape()[1]]))
    }

    fn moments_grad(&self, x: &Tensor<Self>, moments: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        Ok(self.make(x.shape(), |out| norm::moments_backward(values(x), values(moments), values(g), sequence(x), out)))
    }

    fn normalize(&self, axes: NormAxes, x: &Tensor<Self>, gamma: &Tensor<Self>, beta: &Tensor<Self>, eps: f64) -> Result<Normalized<Self>> {
        let (shape, eps) = (sequence(x), E::of(eps));
        let (gamma, beta) = (values(gamma), values(beta));
        match axes {
            NormAxes::Batch => {
                let statistics = norm::batch_statistics(values(x), shape);
                let output = self.make(x.shape(), |out| norm::batch_apply(values(x), &statistics, gamma, beta, eps, shape[2], out));
                let (mean, var): (Vec<E>, Vec<E>) = statistics.into_iter().unzip();
                Ok(Normalized { output, mean: self.own(mean, &[shape[1]]), var: self.own(var, &[shape[1]]) })
            }
            NormAxes::Layer => {
                let mut var = self.pool.dirty(shape[0] * shape[2]);
                let mean = self.make(&[shape[0], shape[2]], |mean| norm::layer_statistics(values(x), shape, mean, &mut var));
                let var = self.wrap(var, &[shape[0], shape[2]]);
                let statistics = (values(&mean), values(&var));
                let output = self.make(x.shape(), |out| norm::layer_apply(values(x), statistics, gamma, beta, eps, shape, out));
                Ok(Normalized { output, mean, var })
            }
        }
    }

    fn normalize_grad(
        &self,
        axes: NormAxes,
        x: &Tensor<Self>,
        gamma: &Tensor<Self>,
        statistics: (&Tensor<Self>, &Tensor<Self>),
        eps: f64,
        g: &Tensor<Self>,
    ) -> Result<[Tensor<Self>; 3]> {
        let shape = sequence(x);
        let mut gx = self.pool.dirty(x.numel());
        let (mut ggamma, mut gbeta) = (self.pool.dirty(shape[1]), self.pool.dirty(shape[1]));
        let out: [&mut [E]; 3] = [&mut gx, &mut ggamma, &mut gbeta];
        let (mean, var) = (values(statistics.0), values(statistics.1));
        match axes {
            NormAxes::Batch => {
                let statistics: Vec<(E, E)> = mean.iter().copied().zip(var.iter().copied()).collect();
                norm::batch_backward(values(x), values(g), &statistics, values(gamma), E::of(eps), shape, out);
            }
            NormAxes::Layer => norm::layer_backward(values(x), values(g), (mean, var), values(gamma), E::of(eps), shape, out),
        }
        Ok([self.wrap(gx, x.shape()), self.wrap(ggamma, &[shape[1]]), self.wrap(gbeta, &[shape[1]])])
    }

    fn spike(&self, spike: &Spike<Tensor<Self>>, x: &Tensor<Self>, affine: Option<(&Tensor<Self>, &Tensor<Self>)>) -> Result<Tensor<Self>> {
        let spike = spike.as_ref().map(values);
        let potentials = potentials(&spike, x, affine);
        if let (SpikeMode::Sampled, &[batch, channels, length]) = (spike.mode, x.shape()) {
            let mut packed = Packed::silent([batch, channels, length]);
            spike::pack(potentials, &mut packed);
            return Ok(Tensor::from_storage(Storage::spikes(packed, &self.pool), x.shape()));
        }
        Ok(self.make(x.shape(), |out| spike::forward(potentials, out)))
    }

    fn spike_grad(
        &self,
        spike: &Spike<Tensor<Self>>,
        x: &Tensor<Self>,
        affine: Option<(&Tensor<Self>, &Tensor<Self>)>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        let channels = affine.map_or(0, |(scale, _)| scale.numel());
        let sums = needs.map(|need| need && affine.is_some());
        let mut x_grad = needs[0].then(|| self.pool.dirty(x.numel()));
        let (mut scale, mut shift) = (self.buffer_if(sums[1], channels), self.buffer_if(sums[2], channels));
        let wanted = spike::Wanted { x: x_grad.as_deref_mut(), scale: scale.as_deref_mut(), shift: shift.as_deref_mut() };
        spike::backward(potentials(&spike.as_ref().map(values), x, affine), values(g), wanted);
        Ok([self.wrap_if(x_grad, x.shape()), self.wrap_if(scale, &[channels]), self.wrap_if(shift, &[channels])])
    }

    fn lif(&self, lif: &Lif, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        let length = x.shape().last().copied().unwrap_or(1);
        Ok(self.make(x.shape(), |out| spike::lif(lif, values(x), length, out)))
    }

    fn lif_grad(&self, lif: &Lif, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        let length = x.shape().last().copied().unwrap_or(1);
        Ok(self.make(x.shape(), |out| spike::lif_grad(lif, values(x), values(g), length, out)))
    }

    fn long_conv(&self, conv: LongConv<'_, Self>) -> Result<Tensor<Self>> {
        Ok(self.make(conv.input.shape(), |out| conv::forward(&self.rings, operands(&conv), out)))
    }

    fn long_conv_grad(&self, conv: LongConv<'_, Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        let [_, channels, _] = sequence(conv.input);
        let mut input = needs[0].then(|| self.pool.dirty(conv.input.numel()));
        let mut kernel = self.buffer_if(needs[1], conv.kernel.numel());
        let mut skip = self.buffer_if(needs[2] && conv.skip.is_some(), channels);
        let wanted = conv::Wanted { input: input.as_deref_mut(), kernel: kernel.as_deref_mut(), skip: skip.as_deref_mut() };
        conv::backward(&self.rings, operands(&conv), values(g), wanted);
        Ok([self.wrap_if(input, conv.input.shape()), self.wrap_if(kernel, conv.kernel.shape()), self.wrap_if(skip, &[channels])])
    }

    fn fire(&self, conv: LongConv<'_, Self>, firing: Firing<&Tensor<Self>>) -> Result<Tensor<Self>> {
        let shape = conv.input.shape();
        if firing.spike.mode == SpikeMode::Expected {
            return Ok(self.make(shape, |out| fire::expected(&self.rings, operands(&conv), firing.map(values), out)));
        }
        let mut packed = Packed::silent(sequence(conv.input));
        fire::spikes(&self.rings, operands(&conv), firing.map(values), &mut packed);
        Ok(Tensor::from_storage(Storage::spikes(packed, &self.pool), shape))
    }

    fn fire_grad(
        &self,
        conv: LongConv<'_, Self>,
        firing: Firing<&Tensor<Self>>,
        g: &Tensor<Self>,
        needs: [bool; 5],
    ) -> Result<[Option<Tensor<Self>>; 5]> {
        let channels = conv.input.shape()[1];
        let mut input = needs[0].then(|| self.pool.dirty(conv.input.numel()));
        let mut kernel = self.buffer_if(needs[1], conv.kernel.numel());
        let mut small = [needs[2] && conv.skip.is_some(), needs[3] && firing.affine.is_some(), needs[4] && firing.affine.is_some()]
            .map(|wanted| self.buffer_if(wanted, channels));
        let [skip, scale, shift] = small.each_mut().map(|buffer| buffer.as_deref_mut());
        let wanted = fire::Wanted { input: input.as_deref_mut(), kernel: kernel.as_deref_mut(), skip, scale, shift };
        fire::backward(&self.rings, operands(&conv), firing.map(values), values(g), wanted);
        let [skip, scale, shift] = small.map(|buffer| self.wrap_if(buffer, &[channels]));
        Ok([self.wrap_if(input, conv.input.shape()), self.wrap_if(kernel, conv.kernel.shape()), skip, scale, shift])
    }

    fn mix(&self, mixing: Mixing<'_, Self>) -> Result<Tensor<Self>> {
        let mixer = mixer(&self.scratch, &mixing);
        let shape = mixer.shape;
        Ok(self.make(&[shape.batch, shape.d_out, shape.length], |out| mixer.forward(out)))
    }

    fn mix_grad(&self, mixing: Mixing<'_, Self>, g: &Tensor<Self>, needs: &[bool]) -> Result<Vec<Option<Tensor<Self>>>> {
        let mixer = mixer(&self.scratch, &mixing);
        let inner = if mixer.is_plain() { g.clone() } else { self.make(g.shape(), |out| mixer.inner_gradient(values(g), out)) };
        let g = values(&inner);
        let mut grads = Vec::with_capacity(mixing.parts.len() + 2);
        let mut at = 0;
        for (part, &need) in mixing.parts.iter().zip(needs) {
            let channels = part.shape()[1];
            grads.push(need.then(|| self.make(part.shape(), |out| mixer.part_gradient(g, at, channels, out))));
            at += channels;
        }
        let [weight, bias] = [mixing.weight, mixing.bias].map(|t| t.shape());
        grads.push(needs[mixing.parts.len()].then(|| self.make(weight, |out| mixer.weight_gradient(g, out))));
        grads.push(needs[mixing.parts.len() + 1].then(|| self.make(bias, |out| mixer.bias_gradient(g, out))));
        Ok(grads)
    }

    fn dplr_kernel(&self, ssm: &SsmParams<Self>, len: usize, take: usize) -> Result<Tensor<Self>> {
        let dims = self.dplr_dims(ssm, len, take)?;
        Ok(self.own(dplr::kernel(&self.plans, &dims, system(ssm)), &[dims.sizes.channels, dims.sizes.d_model, take]))
    }

    fn dplr_kernel_grad(&self, ssm: &SsmParams<Self>, len: usize, g: &Tensor<Self>) -> Result<SsmParams<Self>> {
        let dims = self.dplr_dims(ssm, len, g.shape()[2])?;
        Ok(self.system_grads(ssm, dplr::kernel_grad(&self.plans, &dims, system(ssm), values(g))))
    }

    fn dplr_advance(&self, ssm: &SsmParams<Self>, steps: usize) -> Result<Tensor<Self>> {
        let dims = self.dplr_dims(ssm, steps, steps)?;
        Ok(self.own(dplr::advance(&dims, system(ssm), steps), ssm.c.shape()))
    }

    fn diag_kernel(&self, ssm: &SsmParams<Self>, disc: Discretisation, len: usize) -> Result<Tensor<Self>> {
        let dims = self.diag_dims(ssm, disc, len)?;
        Ok(self.own(diag::kernel(&dims, system(ssm)), &[dims.sizes.channels, dims.sizes.d_model, len]))
    }

    fn diag_kernel_grad(&self, ssm: &SsmParams<Self>, disc: Discretisation, g: &Tensor<Self>) -> Result<SsmParams<Self>> {
        let dims = self.diag_dims(ssm, disc, g.shape()[2])?;
        Ok(self.system_grads(ssm, diag::kernel_grad(&dims, system(ssm), values(g))))
    }

    fn cross_entropy(&self, logits: &Tensor<Self>, labels: &[usize]) -> Result<(Tensor<Self>, Tensor<Self>)> {
        let mut loss = 0.0;
        let softmax = self.make(logits.shape(), |out| loss = loss::cross_entropy(values(logits), labels, out));
        Ok((self.full(&[], loss)?, softmax))
    }

    fn cross_entropy_grad(&self, softmax: &Tensor<Self>, labels: &[usize], g: &Tensor<Self>) -> Result<Tensor<Self>> {
        Ok(self.make(softmax.shape(), |out| loss::cross_entropy_grad(values(softmax), labels, values(g)[0], out)))
    }

    fn adamw(&self, step: &AdamW, state: [&Tensor<Self>; 3], grad: &Tensor<Self>) -> Result<[Tensor<Self>; 3]> {
        let mut out = [(); 3].map(|()| self.pool.dirty(grad.numel()));
        let [value, first, second] = &mut out;
        loss::adamw(step, state.map(values), values(grad), [value, first, second]);
        Ok(out.map(|buffer| self.wrap(buffer, grad.shape())))
    }
}
