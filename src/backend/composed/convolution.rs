//! The long convolution by transforms of padded sequences, and what follows it, one operation after another.

use super::spiking::dropout_mask;
use super::{Grads, add, channel_sums, mul, over_channels, sub, when};
use crate::backend::{Convolution, Firing, LongConv, Spike, Tensor};
use crate::error::Result;

/// u with zeros from the true lengths on: cut and padded, not multiplied by a mask, because the padding may hold NaN.
fn masked<B: Convolution>(backend: &B, u: &Tensor<B>, lengths: Option<&[usize]>) -> Result<Tensor<B>> {
    let Some(lengths) = lengths else { return Ok(u.clone()) };
    let cut = |(b, &end)| padded(backend, &backend.slice(&backend.slice(u, 0, b, 1)?, 2, 0, end)?, u.shape()[2]);
    let rows = lengths.iter().enumerate().map(cut).collect::<Result<Vec<_>>>()?;
    backend.concat(&rows.iter().collect::<Vec<_>>(), 0)
}

/// x with zeros behind it, up to `length` steps.
fn padded<B: Convolution>(backend: &B, x: &Tensor<B>, length: usize) -> Result<Tensor<B>> {
    let axis = x.rank() - 1;
    let mut rest = x.shape().to_vec();
    rest[axis] = length - rest[axis];
    if rest[axis] == 0 { Ok(x.clone()) } else { backend.concat(&[x, &backend.full(&rest, 0.0)?], axis) }
}

/// The first `length` steps of a full convolution along the last axis: `sum_m x[t - m] y[m]`, other axes broadcast.
fn convolved<B: Convolution>(backend: &B, x: &Tensor<B>, y: &Tensor<B>, length: usize) -> Result<Tensor<B>> {
    let full = x.shape()[x.rank() - 1] + y.shape()[y.rank() - 1] - 1;
    let plane = |spectrum: &Tensor<B>, plane| backend.slice(spectrum, 0, plane, 1);
    let (x, y) = (backend.rfft(&padded(backend, x, full)?)?, backend.rfft(&padded(backend, y, full)?)?);
    let y = y.reshape(&[&[2][..], &vec![1; x.rank() - y.rank()], &y.shape()[1..]].concat())?;
    let ([xr, xi], [yr, yi]) = ([plane(&x, 0)?, plane(&x, 1)?], [plane(&y, 0)?, plane(&y, 1)?]);
    let real = sub(backend, &mul(backend, &xr, &yr)?, &mul(backend, &xi, &yi)?)?;
    let imag = add(backend, &mul(backend, &xr, &yi)?, &mul(backend, &xi, &yr)?)?;
    let signal = backend.irfft(&backend.concat(&[&real, &imag], 0)?, full)?;
    let axis = signal.rank() - 1;
    if length <= full { backend.slice(&signal, axis, 0, length) } else { padded(backend, &signal, length) }
}

/// x one step later, (.., L): a zero comes in, the last step falls out.
fn delayed<B: Convolution>(backend: &B, x: &Tensor<B>) -> Result<Tensor<B>> {
    let axis = x.rank() - 1;
    let (mut first, length) = (x.shape().to_vec(), x.shape()[axis]);
    first[axis] = 1;
    let zero = backend.full(&first, 0.0)?;
    if length == 1 { Ok(zero) } else { backend.concat(&[&zero, &backend.slice(x, axis, 0, length - 1)?], axis) }
}

/// Kernel number `side`, (H, Lk).
fn kernel_side<B: Convolution>(backend: &B, kernel: &Tensor<B>, side: usize) -> Result<Tensor<B>> {
    backend.slice(kernel, 0, side, 1)?.reshape(&kernel.shape()[1..])
}

/// The long convolution, by transforms of the padded sequences.
pub fn long_conv<B: Convolution>(backend: &B, conv: LongConv<'_, B>) -> Result<Tensor<B>> {
    let [_, _, length] = conv.check()?;
    let u = masked(backend, conv.input, conv.lengths)?;
    let mut y = convolved(backend, &u, &kernel_side(backend, conv.kernel, 0)?, length)?;
    if conv.kernel.shape()[0] == 2 {
        // Backwards in time, the anticausal kernel is a causal one that starts one step later.
        let ahead = convolved(backend, &backend.flip(&u, 2)?, &kernel_side(backend, conv.kernel, 1)?, length)?;
        y = add(backend, &y, &backend.flip(&delayed(backend, &ahead)?, 2)?)?;
    }
    match conv.skip {
        Some(skip) => add(backend, &y, &mul(backend, &u, &over_channels(&u, skip)?)?),
        None => Ok(y),
    }
}

/// Gradients of input, kernel, skip.
pub fn long_conv_grad<B: Convolution>(backend: &B, conv: LongConv<'_, B>, g: &Tensor<B>, needs: [bool; 3]) -> Result<Grads<B, 3>> {
    conv.check_grad("long_conv_grad", g)?;
    let u = masked(backend, conv.input, conv.lengths)?;
    Ok([
        when(needs[0], || input_grad(backend, conv, g))?,
        when(needs[1], || kernel_grad(backend, conv, &u, g))?,
        when(needs[2] && conv.skip.is_some(), || channel_sums(backend, &mul(backend, g, &u)?))?,
    ])
}

/// The convolution's transpose: every kernel runs the other way.
fn input_grad<B: Convolution>(backend: &B, conv: LongConv<'_, B>, g: &Tensor<B>) -> Result<Tensor<B>> {
    let length = g.shape()[2];
    let causal = convolved(backend, &backend.flip(g, 2)?, &kernel_side(backend, conv.kernel, 0)?, length)?;
    let mut u_grad = backend.flip(&causal, 2)?;
    if conv.kernel.shape()[0] == 2 {
        let ahead = convolved(backend, g, &kernel_side(backend, conv.kernel, 1)?, length)?;
        u_grad = add(backend, &u_grad, &delayed(backend, &ahead)?)?;
    }
    if let Some(skip) = conv.skip {
        u_grad = add(backend, &u_grad, &mul(backend, g, &over_channels(g, skip)?)?)?;
    }
    masked(backend, &u_grad, conv.lengths)
}

/// The correlation of g with u: `k0[m]` gathers `g[t] u[t - m]`, `k1[m]` gathers `g[t] u[t + 1 + m]`.
fn kernel_grad<B: Convolution>(backend: &B, conv: LongConv<'_, B>, u: &Tensor<B>, g: &Tensor<B>) -> Result<Tensor<B>> {
    let (kernel, length) = (conv.kernel.shape(), u.shape()[2]);
    let [sides, channels, taps] = [kernel[0], kernel[1], kernel[2]];
    let correlation = convolved(backend, g, &backend.flip(u, 2)?, 2 * length - 1)?;
    let correlation = backend.sum_to(&correlation, &[1, channels, 2 * length - 1])?;
    // Lag m of g behind u stands at length - 1 + m.
    let fitted = |lags: &Tensor<B>| {
        let lags = if lags.shape()[2] > taps { backend.slice(lags, 2, 0, taps)? } else { lags.clone() };
        padded(backend, &lags, taps)
    };
    let causal = fitted(&backend.slice(&correlation, 2, length - 1, length)?)?;
    if sides == 1 {
        return Ok(causal);
    }
    let anticausal = if length == 1 {
        backend.full(&[1, channels, taps], 0.0)?
    } else {
        fitted(&backend.flip(&backend.slice(&correlation, 2, 0, length - 1)?, 2)?)?
    };
    backend.concat(&[&causal, &anticausal], 0)
}

/// The values between a convolution and its spikes, in the order in which they are computed.
struct Activated<B: Convolution> {
    /// Dropout's masks of elements and of channels.
    masks: Option<[Tensor<B>; 2]>,
    /// What the activation sees.
    dropped: Tensor<B>,
    /// What the affine sees.
    output: Tensor<B>,
}

fn activated<B: Convolution>(backend: &B, y: &Tensor<B>, firing: Firing<&Tensor<B>>) -> Result<Activated<B>> {
    let masks = when(firing.dropout.is_some(), || masks(backend, y.shape(), firing))?.flatten();
    let dropped = masks.as_ref().map_or_else(|| Ok(y.clone()), |[elements, _]| mul(backend, y, elements))?;
    let active = firing.activation.map_or_else(|| Ok(dropped.clone()), |f| backend.unary(f, &dropped))?;
    let output = masks.as_ref().map_or_else(|| Ok(active.clone()), |[_, channels]| mul(backend, &active, channels))?;
    Ok(Activated { masks, dropped, output })
}

fn masks<B: Convolution>(backend: &B, shape: &[usize], firing: Firing<&Tensor<B>>) -> Result<Option<[Tensor<B>; 2]>> {
    let Some(dropout) = firing.dropout else { return Ok(None) };
    let mask = |draw, shape: &[usize]| dropout_mask(backend, draw, dropout.p, shape);
    Ok(Some([mask(dropout.elements, shape)?, mask(dropout.channels, &[shape[0], shape[1], 1])?]))
}

/// Spikes of a long convolution's output.
pub fn fire<B: Convolution>(backend: &B, conv: LongConv<'_, B>, firing: Firing<&Tensor<B>>) -> Result<Tensor<B>> {
    firing.check("fire", conv.check()?)?;
    let activated = activated(backend, &backend.long_conv(conv)?, firing)?;
    backend.spike(&owned(firing.spike), &activated.output, firing.affine)
}

/// Surrogate gradients of input, kernel, skip, scale and shift.
pub fn fire_grad<B: Convolution>(
    backend: &B,
    conv: LongConv<'_, B>,
    firing: Firing<&Tensor<B>>,
    g: &Tensor<B>,
    needs: [bool; 5],
) -> Result<Grads<B, 5>> {
    firing.check("fire_grad", conv.check_grad("fire_grad", g)?)?;
    let Activated { masks, dropped, output } = activated(backend, &backend.long_conv(conv)?, firing)?;
    let inner = needs[..3].contains(&true);
    let [output_grad, scale, shift] = backend.spike_grad(&owned(firing.spike), &output, firing.affine, g, [inner, needs[3], needs[4]])?;
    let Some(mut y_grad) = output_grad else { return Ok([None, None, None, scale, shift]) };
    if let Some([_, channels]) = &masks {
        y_grad = mul(backend, &y_grad, channels)?;
    }
    if let Some(f) = firing.activation {
        y_grad = backend.unary_grad(f, &dropped, &y_grad)?;
    }
    if let Some([elements, _]) = &masks {
        y_grad = mul(backend, &y_grad, elements)?;
    }
    let [input, kernel, skip] = backend.long_conv_grad(conv, &y_grad, [needs[0], needs[1], needs[2]])?;
    Ok([input, kernel, skip, scale, shift])
}

/// The draw with tensors of its own, which share their values.
fn owned<B: Convolution>(spike: Spike<&Tensor<B>>) -> Spike<Tensor<B>> {
    spike.map(Tensor::clone)
}
