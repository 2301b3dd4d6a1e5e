//! `Dropout`: elements, or whole channels, set to zero at random.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads, operands};
use crate::backend::{Backend, Binary, Draw, Key, Noise, Spike, SpikeMode, Surrogate, Tensor, Unary, shape};
use crate::error::{Error, Result};

/// Every element is 0 with probability p, else divided by 1 - p, so that the expectation is the input; one input.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// The draw: the same one drops the same elements.
    pub draw: Draw,
    /// The probability of 0, in [0, 1).
    pub p: f64,
    /// One draw for all of a channel's time series; the input is then (batch, channels, length).
    pub tied: bool,
}

impl<B: Backend> Op<B> for Dropout {
    const NAME: &'static str = "dropout";
    /// The mask: 0 or 1 / (1 - p).
    type Saved = Tensor<B>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [x] = operands("dropout", inputs)?;
        let mask = self.mask(backend, &self.mask_shape(x.shape())?)?;
        Ok((backend.binary(Binary::Mul, x, &mask)?, mask))
    }

    fn backward(&self, backend: &B, mask: Self::Saved, grad: &Tensor<B>, _: Needs) -> Result<Grads<B>> {
        Ok(vec![Some(backend.binary(Binary::Mul, grad, &mask)?)])
    }

    fn derivative(&self, _: &[Var<B>], _: &Var<B>, grad: &Var<B>, _: Needs) -> Result<VarGrads<B>> {
        // Of the same draw.
        Ok(vec![Some(grad.tape().apply(*self, &[grad])?)])
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let mut cases = Vec::new();
        for p in [0.0, generate.value(0.1, 0.9), generate.value(0.1, 0.9)] {
            let sequence = [(); 3].map(|()| generate.size(1..=6));
            let free = generate.shape(0..=4, 1..=4);
            cases.push(Case::new(Dropout { draw: Key::new(generate.seed()).into(), p, tied: true }, [generate.normal(&sequence)]));
            cases.push(Case::new(Dropout { draw: Key::new(generate.seed()).into(), p, tied: false }, [generate.normal(&free)]));
        }
        cases
    }
}

impl Dropout {
    /// The shape of the draw, for an input that is allowed.
    fn mask_shape(&self, x: &[usize]) -> Result<Vec<usize>> {
        if !(0.0..1.0).contains(&self.p) {
            return Err(Error::config("dropout", self.p, "the probability must be at least 0 and below 1"));
        }
        if !self.tied {
            self.draw.check("dropout", shape::rows(x)[0])?;
            return Ok(x.into());
        }
        let [batch, channels, _] = shape::sequence("dropout", "the input of tied dropout", x)?;
        self.draw.check("dropout", batch)?;
        Ok(vec![batch, channels, 1])
    }

    /// A spike with probability 1 - p, scaled.
    fn mask<B: Backend>(&self, backend: &B, shape: &[usize]) -> Result<Tensor<B>> {
        shape::filled("dropout", "the input", shape)?;
        let keep = 1.0 - self.p;
        let spike = Spike { noise: Noise::Stream(self.draw), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp };
        let kept = backend.spike(&spike, &backend.full(shape, keep)?, None)?;
        backend.unary(Unary::Linear(1.0 / keep, 0.0), &kept)
    }
}

impl<B: Backend> Var<B> {
    /// Every element 0 with probability `p`, else divided by 1 - p; the same draw drops the same elements. For p = 0 this very variable.
    ///
    /// # Errors
    /// [`Error::Config`] where `p` is not in [0, 1); [`Error::Value`] where the draw's sides do not divide the batch.
    pub fn dropout(&self, draw: impl Into<Draw>, p: f64) -> Result<Var<B>> {
        self.drop_out(Dropout { draw: draw.into(), p, tied: false })
    }

    /// [`Var::dropout`] with one number, that of the draw's first step, for every (batch, channel) of a (batch, channels, length) tensor: a
    /// channel is kept or dropped as a whole.
    ///
    /// # Errors
    /// [`Error::Config`] where `p` is not in [0, 1); [`Error::Value`] where there are not three axes, one is empty, or
    /// the draw's sides do not divide the batch.
    pub fn dropout_tied(&self, draw: impl Into<Draw>, p: f64) -> Result<Var<B>> {
        self.drop_out(Dropout { draw: draw.into(), p, tied: true })
    }

    fn drop_out(&self, op: Dropout) -> Result<Var<B>> {
        op.mask_shape(self.shape())?;
        if op.p == 0.0 {
            return Ok(self.clone());
        }
        self.tape().apply(op, &[self])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::*;

    #[test]
    fn the_kept_share_and_its_scale_are_those_of_p() {
        let cpu = Cpu::<f64>::new();
        let x = Tape::off(&cpu).leaf(&cpu.full(&[20_000], 3.0).unwrap());
        for (seed, p) in [(1, 0.1), (2, 0.5), (3, 0.8)] {
            let y = x.dropout(Key::new(seed), p).unwrap().to_vec().unwrap();
            let kept = y.iter().filter(|y| **y != 0.0).count() as f64;
            assert!(y.iter().all(|y| *y == 0.0 || (y - 3.0 / (1.0 - p)).abs() < 1e-12));
            // Five standard deviations of a binomial.
            assert!((kept - 20_000.0 * (1.0 - p)).abs() < 5.0 * (20_000.0 * p * (1.0 - p)).sqrt(), "p = {p}: {kept}");
            assert_eq!(y, x.dropout(Key::new(seed), p).unwrap().to_vec().unwrap());
            assert_ne!(y, x.dropout(Key::new(seed + 10), p).unwrap().to_vec().unwrap());
        }
    }

    #[test]
    fn tied_dropout_keeps_or_drops_whole_channels() {
        let cpu = Cpu::<f64>::new();
        let x = Tape::off(&cpu).leaf(&cpu.full(&[4, 50, 7], 1.0).unwrap());
        let y = x.dropout_tied(Key::new(3), 0.5).unwrap().to_vec().unwrap();
        assert!(y.chunks(7).all(|channel| channel.iter().all(|v| *v == channel[0])));
        let kept = y.chunks(7).filter(|channel| channel[0] != 0.0).count();
        assert!((60..140).contains(&kept), "{kept} of 200");
    }

    #[test]
    fn what_is_dropped_does_not_depend_on_the_batch() {
        let cpu = Cpu::<f64>::new();
        let run = |draw: Draw, shape: &[usize], tied: bool| {
            let x = Tape::off(&cpu).leaf(&cpu.full(shape, 1.0).unwrap());
            if tied { x.dropout_tied(draw, 0.5) } else { x.dropout(draw, 0.5) }.unwrap().to_vec().unwrap()
        };
        let draw = Draw::new(Key::new(5));
        let later = |first, sides| draw.with_samples(Samples { first, sides });
        for tied in [false, true] {
            let whole = run(draw, &[4, 3, 70], tied);
            assert_eq!(run(draw, &[2, 3, 70], tied), whole[..2 * 210]);
            assert_eq!(run(later(2, 1), &[2, 3, 70], tied), whole[2 * 210..]);
            for (row, longer) in whole.chunks(70).zip(run(draw, &[4, 3, 90], tied).chunks(90)) {
                assert_eq!(row, &longer[..70]);
            }
            let pairs = run(later(0, 2), &[4, 3, 70], tied);
            assert_eq!(run(later(1, 2), &[2, 3, 70], tied), [&pairs[210..420], &pairs[630..]].concat());
            assert_ne!(pairs, whole);
            for t in 0..70 {
                let step = run(draw.from_step(t as u64), &[4, 3, 1], tied);
                // Tied dropout keeps to the number of its draw's first step.
                assert!(tied || step.iter().zip(whole.chunks(70)).all(|(one, row)| *one == row[t]));
            }
        }
        let x = Tape::off(&cpu).leaf(&cpu.full(&[3, 2, 4], 1.0).unwrap());
        assert!(x.dropout(later(0, 2), 0.5).is_err() && x.dropout_tied(later(0, 2), 0.5).is_err());
    }

    #[test]
    fn nothing_is_recorded_for_p_of_zero_and_other_p_are_refused() {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::new(&cpu);
        let x = tape.leaf(&cpu.full(&[2, 3, 4], 1.0).unwrap());
        x.dropout(Key::new(0), 0.0).unwrap();
        assert_eq!(tape.len(), 1);
        for p in [1.0, -0.1, f64::NAN] {
            assert!(matches!(x.dropout(Key::new(0), p), Err(Error::Config { name: "dropout", .. })));
        }
        let flat = x.reshape(&[24]).unwrap();
        assert!(flat.dropout_tied(Key::new(0), 0.0).unwrap_err().to_string().contains("batch, channels, length"));
    }
}
