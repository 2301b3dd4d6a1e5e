//! The long convolution by its sum, term by term: each term is a product of an input, a kernel entry and an output's gradient.

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::{Backend, LongConv, Tensor};

use super::harness::{Array, Dice, Lab, cases, indices, length, once, seed, wanted};

/// Operands on the host.
struct Conv {
    input: Array,
    kernel: Array,
    skip: Option<Array>,
    lengths: Option<Vec<usize>>,
}

impl Conv {
    fn new<B: Backend>(lab: &Lab<B>, dice: &mut Dice, shape: [usize; 3], kernels: [usize; 2], has_skip: bool, masked: bool) -> Self {
        let [batch, channels, length] = shape;
        Conv {
            input: lab.signed(dice, &shape),
            kernel: lab.signed(dice, &[kernels[0], channels, kernels[1]]),
            skip: has_skip.then(|| lab.signed(dice, &[channels])),
            lengths: masked.then(|| (0..batch).map(|_| 1 + dice.below(length)).collect()),
        }
    }

    fn true_length(&self, b: usize) -> usize {
        self.lengths.as_ref().map_or(self.input.shape[2], |lengths| lengths[b])
    }

    /// `f(t, c, m, s)` for every term k_c[m] u[s] of y[t] in a row of batch entry `b`: s = t - m (causal) or t + 1 + m (anticausal).
    fn each_term(&self, b: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
        let (length, len) = (self.input.shape[2], self.true_length(b));
        for t in 0..length {
            for m in 0..self.kernel.shape[2] {
                if m <= t && t - m < len {
                    f(t, 0, m, t - m);
                }
                if self.kernel.shape[0] == 2 && t + 1 + m < len {
                    f(t, 1, m, t + 1 + m);
                }
            }
        }
    }

    fn output(&self) -> Array {
        let mut y = Array::zeros(&self.input.shape);
        for row in indices(&self.input.shape[..2]) {
            let (b, h) = (row[0], row[1]);
            self.each_term(b, |t, c, m, s| {
                let at = y.offset(&[b, h, t]);
                y.values[at] += self.kernel.at(&[c, h, m]) * self.input.at(&[b, h, s]);
            });
            for t in 0..self.true_length(b) {
                let at = y.offset(&[b, h, t]);
                y.values[at] += self.skip.as_ref().map_or(0.0, |d| d.at(&[h]) * self.input.at(&[b, h, t]));
            }
        }
        y
    }

    /// Gradients of input, kernel and skip.
    fn gradients(&self, g: &Array) -> [Array; 3] {
        let (mut input, mut kernel) = (Array::zeros(&self.input.shape), Array::zeros(&self.kernel.shape));
        let mut skip = Array::zeros(&self.input.shape[1..2]);
        for row in indices(&self.input.shape[..2]) {
            let (b, h) = (row[0], row[1]);
            self.each_term(b, |t, c, m, s| {
                let (input_at, kernel_at) = (input.offset(&[b, h, s]), kernel.offset(&[c, h, m]));
                input.values[input_at] += g.at(&[b, h, t]) * self.kernel.at(&[c, h, m]);
                kernel.values[kernel_at] += g.at(&[b, h, t]) * self.input.at(&[b, h, s]);
            });
            for t in 0..self.true_length(b) {
                let at = input.offset(&[b, h, t]);
                input.values[at] += self.skip.as_ref().map_or(0.0, |d| d.at(&[h]) * g.at(&[b, h, t]));
                skip.values[h] += g.at(&[b, h, t]) * self.input.at(&[b, h, t]);
            }
        }
        [input, kernel, skip]
    }

    /// On the device, with NaN in the padding: what counts as zero must not be looked at.
    fn put<B: Backend>(&self, lab: &Lab<B>) -> Result<There<B>, TestCaseError> {
        let mut input = self.input.clone();
        for i in indices(&input.shape).filter(|i| i[2] >= self.true_length(i[0])) {
            let at = input.offset(&i);
            input.values[at] = f64::NAN;
        }
        let skip = self.skip.as_ref().map(|skip| lab.put(skip)).transpose()?;
        Ok(There { input: lab.put(&input)?, kernel: lab.put(&self.kernel)?, skip, lengths: self.lengths.clone() })
    }
}

struct There<B: Backend> {
    input: Tensor<B>,
    kernel: Tensor<B>,
    skip: Option<Tensor<B>>,
    lengths: Option<Vec<usize>>,
}

impl<B: Backend> There<B> {
    fn operands(&self) -> LongConv<'_, B> {
        LongConv { input: &self.input, kernel: &self.kernel, skip: self.skip.as_ref(), lengths: self.lengths.as_deref() }
    }
}

/// Shape, (c, Lk) with kernels shorter than L, as long, and longer, whether there is a skip, whether lengths differ, the seed.
fn convolutions() -> impl Strategy<Value = ([usize; 3], [usize; 2], [bool; 2], u64)> {
    let shape = (1..5usize, select(vec![1usize, 2, 3, 7]), length());
    let kernel = |l: usize| select(vec![1, l.div_ceil(2), l.max(2) - 1, l, l + 1, 2 * l + 3]);
    let sized = shape.prop_flat_map(move |(b, h, l)| (Just([b, h, l]), (1..3usize, kernel(l)).prop_map(|(c, lk)| [c, lk])));
    (sized, any::<[bool; 2]>(), seed()).prop_map(|((shape, kernels), flags, seed)| (shape, kernels, flags, seed))
}

pub fn long_conv<B: Backend>(lab: &Lab<B>) {
    cases(48, 70, convolutions(), |(shape, kernels, [skip, masked], seed)| {
        let conv = Conv::new(lab, &mut Dice::new(seed), shape, kernels, skip, masked);
        let what = format!("long_conv with kernels {kernels:?}, lengths {:?}", conv.lengths);
        lab.near(&what, &lab.backend.long_conv(conv.put(lab)?.operands())?, &conv.output(), lab.tolerance.sums, conv.kernel.largest())
    });
}

pub fn long_conv_gradient<B: Backend>(lab: &Lab<B>) {
    cases(48, 71, convolutions(), |(shape, kernels, [skip, masked], seed)| {
        let mut dice = Dice::new(seed);
        let conv = Conv::new(lab, &mut dice, shape, kernels, skip, masked);
        let (g, there) = (lab.signed(&mut dice, &shape), conv.put(lab)?);
        let g_there = lab.put(&g)?;
        let all = lab.backend.long_conv_grad(there.operands(), &g_there, [true, true, skip])?;
        for (i, (got, want)) in all.iter().zip(&conv.gradients(&g)).enumerate().filter(|(i, _)| *i < 2 || skip) {
            let what = format!("gradient {i} of long_conv with kernels {kernels:?}, lengths {:?}", conv.lengths);
            lab.near(&what, wanted(got)?, want, lab.tolerance.sums, g.largest())?;
        }
        let [input, kernel, of_skip] = dice.flags();
        let needs = [input, kernel, of_skip && skip];
        lab.only_the_wanted("long_conv", &needs, &lab.backend.long_conv_grad(there.operands(), &g_there, needs)?, &all)
    });
}

/// The surrogate at 0 is open: round-off where nothing came in would decide real gradients.
pub fn silent_channels_are_exactly_zero<B: Backend>(lab: &Lab<B>) {
    cases(16, 72, (1..4usize, 1..6usize, length(), 1..3usize, seed()), |(batch, channels, length, c, seed)| {
        let mut dice = Dice::new(seed);
        let mut conv = Conv::new(lab, &mut dice, [batch, channels, length], [c, length], true, true);
        let silent: Vec<bool> = (0..batch * channels).map(|_| dice.flag()).collect();
        for (row, _) in silent.iter().enumerate().filter(|(_, silent)| **silent) {
            // Silence up to the true length; what is beyond does not count.
            let len = conv.true_length(row / channels);
            conv.input.values[row * length..][..len].fill(0.0);
        }
        let got = lab.get(&lab.backend.long_conv(conv.put(lab)?.operands())?)?;
        for (row, _) in silent.iter().enumerate().filter(|(_, silent)| **silent) {
            prop_assert!(got.values[row * length..][..length].iter().all(|&y| y == 0.0), "row {row} is silent and must come out zero");
        }
        Ok(())
    });
    once(|| {
        let conv = Conv { input: Array::zeros(&[1, 1, 5]), kernel: Array::of(&[1, 1, 5], |_| 1.0), skip: None, lengths: None };
        lab.same("silence", &lab.backend.long_conv(conv.put(lab)?.operands())?, &Array::zeros(&[1, 1, 5]))
    });
}
