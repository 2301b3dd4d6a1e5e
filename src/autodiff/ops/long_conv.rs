//! `LongConvOp`: the convolution of whole sequences with an SSM's kernel, causal or two-sided.

use std::rc::Rc;

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Array, Case, Grads, Needs, Op, Oracle, Var, VarGrads};
use crate::backend::{Backend, LongConv, Real, Tensor, shape};
use crate::error::{Error, Result};

/// `y[t] = sum_{m <= t} k0[m] u[t-m] + sum_m k1[m] u[t+1+m] + D u[t]`; inputs u (B, H, L), kernels (1 or 2, H, Lk), and optionally
/// D (H).
///
/// How S4 applies its kernel (Gu, Goel and Re, 2022, [arXiv:2111.00396](https://arxiv.org/abs/2111.00396)), by FFT; the second kernel
/// looks ahead and starts at the next step, as in the official code. Lk may be shorter or longer than L.
#[derive(Clone, Debug)]
pub struct LongConvOp {
    /// The true length of every sequence: from there on u counts as zero, in D's term too.
    pub lengths: Option<Rc<[usize]>>,
}

/// What backward remembers: u, the kernels, D.
pub type Saved<B> = (Tensor<B>, Tensor<B>, Option<Tensor<B>>);

impl LongConvOp {
    fn operands<'a, B: Backend>(&'a self, input: &'a Tensor<B>, kernel: &'a Tensor<B>, skip: Option<&'a Tensor<B>>) -> LongConv<'a, B> {
        LongConv { input, kernel, skip, lengths: self.lengths.as_deref() }
    }
}

impl<B: Backend> Op<B> for LongConvOp {
    const NAME: &'static str = "long_conv";
    type Saved = Saved<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let (u, kernel, skip) = match *inputs {
            [u, kernel] => (u, kernel, None),
            [u, kernel, skip] => (u, kernel, Some(skip)),
            _ => return Err(wrong_inputs()),
        };
        let output = backend.long_conv(self.operands(u, kernel, skip))?;
        Ok((output, (u.clone(), kernel.clone(), skip.cloned())))
    }

    fn backward(&self, backend: &B, (u, kernel, skip): Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        let grads = backend.long_conv_grad(self.operands(&u, &kernel, skip.as_ref()), grad, needs.flags())?;
        Ok(grads.into_iter().take(if skip.is_some() { 3 } else { 2 }).collect())
    }

    /// The adjoints are long convolutions, too.
    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, needs: Needs) -> Result<VarGrads<B>> {
        let [u, kernel, skip @ ..] = inputs else { return Err(wrong_inputs()) };
        let mask = self.mask(u)?;
        let masked = |x: Var<B>| mask.as_ref().map_or_else(|| Ok(x.clone()), |mask| x.mul(mask));
        let heard = masked(u.clone())?;
        let towards_skip = || heard.mul(grad)?.sum_to(&[1, u.shape()[1], 1])?.reshape(&[u.shape()[1]]);
        Ok(vec![
            needs.input(0).then(|| masked(towards_input(kernel, skip.first(), grad)?)).transpose()?,
            needs.input(1).then(|| towards_kernel(&heard, kernel.shape(), grad)).transpose()?,
            needs.input(2).then(towards_skip).transpose()?,
        ])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Composition(shifted_sum)
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let length = generate.size(2..=24);
        let (shorter, longer) = (generate.size(1..=length), length + generate.size(1..=9));
        let far = generate.size(100..=160);
        let mut cases = Vec::new();
        for sides in [1, 2] {
            // Kernels shorter, as long, longer; one step; odd and prime lengths; long ones.
            let sizes = [(length, shorter), (length, length), (length, longer), (1, 1), (1, 5), (13, 13), (15, 4), (127, far), (far, 127)];
            for (l, lk) in sizes {
                let [batch, channels] = [generate.size(1..=3), generate.size(1..=3)];
                let lengths: Option<Rc<[usize]>> = generate.flag().then(|| (0..batch).map(|_| generate.size(1..=l)).collect());
                let mut inputs = vec![generate.normal(&[batch, channels, l]), generate.normal(&[sides, channels, lk])];
                if generate.flag() {
                    inputs.push(generate.normal(&[channels]));
                }
                cases.push(Case::new(LongConvOp { lengths }, inputs));
            }
        }
        // A silent channel between two others, as when no neuron of it spikes.
        let mut u = generate.normal(&[1, 3, length]);
        u.values[length..2 * length].fill(0.0);
        cases.push(Case::new(LongConvOp { lengths: None }, [u, generate.normal(&[2, 3, length]), generate.normal(&[3])]));
        cases.push(spikes(generate, length));
        // Long enough for buffers that are used again: what lies behind the true length must be written, too.
        let long = generate.size(700..=800);
        let lengths: Rc<[usize]> = [long, generate.size(1..=long)].into();
        let inputs = [generate.normal(&[2, 3, long]), generate.normal(&[2, 3, 4]), generate.normal(&[3])];
        cases.push(Case::new(LongConvOp { lengths: Some(lengths) }, inputs));
        cases
    }
}

/// An input of zeros and ones, as spikes are.
fn spikes(generate: &mut Generate, length: usize) -> Case<LongConvOp> {
    let mut u: Array = generate.values(&[2, 4, length], 0.0, 1.0);
    u.values.iter_mut().for_each(|v| *v = v.round());
    Case::new(LongConvOp { lengths: Some([length, 1].into()) }, [u, generate.normal(&[1, 4, length]), generate.normal(&[4])])
}

impl LongConvOp {
    /// (B, 1, L): 1 below the true length, else 0; `None` where all of a sequence is true.
    fn mask<B: Backend>(&self, u: &Var<B>) -> Result<Option<Var<B>>> {
        let Some(lengths) = &self.lengths else { return Ok(None) };
        let [batch, _, length] = shape::sequence("long_conv", "u", u.shape())?;
        let mask = lengths.iter().flat_map(|&end| (0..length).map(move |t| B::Elem::of(f64::from(u8::from(t < end))))).collect();
        Ok(Some(u.tape().constant(&u.tape().backend().from_vec(mask, &[batch, 1, length])?)))
    }
}

/// The gradient of u but for its mask: `sum_m k0[m] g[t+m] + sum_m k1[m] g[t-1-m] + D g[t]`, which is a convolution of g with k1, moved by
/// one step, for the past, k0 without its first entry for the future, and that entry added to D.
fn towards_input<B: Backend>(kernel: &Var<B>, skip: Option<&Var<B>>, grad: &Var<B>) -> Result<Var<B>> {
    let &[sides, channels, taps] = kernel.shape() else { return Err(wrong_inputs()) };
    let zeros = |taps: usize| Ok(grad.tape().constant(&grad.tape().backend().full(&[1, channels, taps], 0.0)?));
    let past = match sides {
        1 => zeros(taps + 1)?,
        _ => Var::concat(&[&zeros(1)?, &kernel.slice(0, 1, 1)?], 2)?,
    };
    let causal = kernel.slice(0, 0, 1)?;
    let future = match taps {
        1 => zeros(2)?,
        _ => Var::concat(&[&causal.slice(2, 1, taps - 1)?, &zeros(2)?], 2)?,
    };
    let first = causal.slice(2, 0, 1)?.reshape(&[channels])?;
    let now = skip.map_or_else(|| Ok(first.clone()), |skip| skip.add(&first))?;
    grad.long_conv(&Var::concat(&[&past, &future], 0)?, Some(&now), None)
}

/// The gradient of kernels of this shape: `sum_t g[t] u[t-m]`, and `sum_t g[t] u[t+1+m]`, over the batch. Each is a convolution in which u,
/// or g, of every sequence is a kernel of its own that looks ahead.
fn towards_kernel<B: Backend>(u: &Var<B>, kernel: &[usize], grad: &Var<B>) -> Result<Var<B>> {
    let (&[batch, channels, length], &[sides, _, taps]) = (u.shape(), kernel) else { return Err(wrong_inputs()) };
    let rows = batch * channels;
    let zeros = |shape: &[usize]| Ok(u.tape().constant(&u.tape().backend().full(shape, 0.0)?));
    let ahead = |kernel: &Var<B>| Var::concat(&[&zeros(&[1, rows, length])?, kernel], 0);
    let [u, grad] = [u.reshape(&[1, rows, length])?, grad.reshape(&[1, rows, length])?];
    let later = match length {
        1 => zeros(&[1, rows, 1])?,
        _ => Var::concat(&[&u.slice(2, 1, length - 1)?, &zeros(&[1, rows, 1])?], 2)?,
    };
    let first = u.slice(2, 0, 1)?.reshape(&[rows])?;
    let mut parts = vec![grad.long_conv(&ahead(&later)?, Some(&first), None)?];
    if sides == 2 {
        parts.push(u.long_conv(&ahead(&grad)?, None, None)?);
    }
    let fitted = |part: Var<B>| {
        let part = part.reshape(&[batch, channels, length])?.sum_to(&[1, channels, length])?;
        match taps {
            taps if taps > length => Var::concat(&[&part, &zeros(&[1, channels, taps - length])?], 2),
            taps => part.slice(2, 0, taps),
        }
    };
    let parts: Vec<Var<B>> = parts.into_iter().map(fitted).collect::<Result<_>>()?;
    Var::concat(&parts.iter().collect::<Vec<_>>(), 0)
}

fn wrong_inputs() -> Error {
    Error::value("long_conv", "takes u and the kernels, and optionally D")
}

/// The same term by term: u shifted by m steps, times k[m].
fn shifted_sum<B: Backend>(op: &LongConvOp, inputs: &[Var<B>]) -> Result<Var<B>> {
    let [u, kernel, skip @ ..] = inputs else { return Err(wrong_inputs()) };
    let [_, channels, length] = shape::sequence("long_conv", "u", u.shape())?;
    let backend = u.tape().backend();
    let u = op.mask(u)?.map_or_else(|| Ok(u.clone()), |mask| u.mul(&mask))?;
    // Zeros on both sides: u[t + shift], for any shift, is a slice.
    let zeros = u.tape().constant(&backend.full(u.shape(), 0.0)?);
    let padded = Var::concat(&[&zeros, &u, &zeros], 2)?;
    let tap = |side: usize, m| kernel.slice(0, side, 1)?.slice(2, m, 1);
    let d = skip.first().map_or_else(|| Ok(u.tape().constant(&backend.full(&[1, 1], 0.0)?)), |d| d.reshape(&[channels, 1]))?;
    let mut y = u.mul(&d)?;
    for m in 0..kernel.shape()[2].min(length) {
        y = y.add(&padded.slice(2, length - m, length)?.mul(&tap(0, m)?)?)?;
        if kernel.shape()[0] == 2 {
            y = y.add(&padded.slice(2, length + 1 + m, length)?.mul(&tap(1, m)?)?)?;
        }
    }
    Ok(y)
}

impl<B: Backend> Var<B> {
    /// The long convolution of u (B, H, L) with kernels (1, H, Lk), causal, or (2, H, Lk), causal and anticausal, plus D u with D (H):
    /// `y[t] = sum_{m <= t} k0[m] u[t-m] + sum_m k1[m] u[t+1+m] + D u[t]`, of u's shape.
    ///
    /// From `lengths[b]` on, sequence b counts as zero. A channel that is all zero comes out exactly zero.
    ///
    /// ```
    /// use pspikessm::autodiff::Tape;
    /// use pspikessm::backend::*;
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let tape = Tape::off(&cpu);
    /// let u = tape.constant(&cpu.from_vec(vec![1.0, 0.0, 2.0], &[1, 1, 3])?);
    /// let kernel = tape.constant(&cpu.from_vec(vec![1.0, 0.5, 0.25], &[1, 1, 3])?);
    /// let y = u.long_conv(&kernel, None, None)?.to_vec()?;
    /// assert!(y.iter().zip([1.0, 0.5, 2.25]).all(|(y, want)| (y - want).abs() < 1e-12));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit; [`Error::Value`] where something is empty or a length is not in 1..=L.
    pub fn long_conv(&self, kernel: &Var<B>, skip: Option<&Var<B>>, lengths: Option<&[usize]>) -> Result<Var<B>> {
        let op = LongConvOp { lengths: lengths.map(Rc::from) };
        let inputs: Vec<&Var<B>> = [self, kernel].into_iter().chain(skip).collect();
        self.tape().apply(op, &inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::*;

    #[test]
    fn a_silent_channel_stays_exactly_silent() {
        let cpu = Cpu::<f32>::new();
        let tape = Tape::off(&cpu);
        for length in [1, 2, 7, 64, 513] {
            let channels = 5;
            let silent = |h: usize| h.is_multiple_of(2);
            let mut u = cpu.to_vec(&cpu.normal(Key::new(length as u64), &[3, channels, length]).unwrap()).unwrap();
            u.chunks_mut(length).enumerate().filter(|(row, _)| silent(row % channels)).for_each(|(_, row)| row.fill(0.0));
            let u = tape.constant(&cpu.from_vec(u, &[3, channels, length]).unwrap());
            let kernel = tape.constant(&cpu.normal(Key::new(1), &[2, channels, length]).unwrap());
            let skip = tape.constant(&cpu.normal(Key::new(2), &[channels]).unwrap());
            let y = u.long_conv(&kernel, Some(&skip), None).unwrap().to_vec().unwrap();
            for (row, y) in y.chunks(length).enumerate().filter(|(row, _)| silent(row % channels)) {
                assert!(y.iter().all(|&v| v == 0.0), "row {row} of length {length}");
            }
        }
    }

    #[test]
    fn what_lies_behind_the_true_length_is_never_read() {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::off(&cpu);
        let kernel = tape.constant(&cpu.normal(Key::new(1), &[2, 2, 6]).unwrap());
        let skip = tape.constant(&cpu.normal(Key::new(2), &[2]).unwrap());
        let run = |padding: f64| {
            let values = (0..24).map(|i| if i < 12 && i % 6 >= 4 { padding } else { f64::from(i).sin() }).collect();
            let u = tape.constant(&cpu.from_vec(values, &[2, 2, 6]).unwrap());
            u.long_conv(&kernel, Some(&skip), Some(&[4, 6])).unwrap().to_vec().unwrap()
        };
        assert_eq!(run(0.0), run(f64::NAN));
    }

    #[test]
    fn impossible_lengths_and_shapes_are_refused() {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::off(&cpu);
        let ones = |shape: &[usize]| tape.constant(&cpu.full(shape, 1.0).unwrap());
        let (u, kernel) = (ones(&[2, 3, 4]), ones(&[1, 3, 4]));
        for lengths in [[0, 4], [4, 5]] {
            assert!(matches!(u.long_conv(&kernel, None, Some(&lengths)), Err(Error::Value { op: "long_conv", .. })));
        }
        assert!(matches!(u.long_conv(&kernel, None, Some(&[4])), Err(Error::Shape { .. })));
        assert!(matches!(u.long_conv(&ones(&[3, 3, 4]), None, None), Err(Error::Shape { axis: Some(0), .. })));
        assert!(matches!(u.long_conv(&ones(&[1, 2, 4]), None, None), Err(Error::Shape { axis: Some(1), .. })));
        assert!(matches!(u.long_conv(&kernel, Some(&ones(&[4])), None), Err(Error::Shape { .. })));
    }
}
