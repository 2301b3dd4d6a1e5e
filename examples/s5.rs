//! An S5-like layer on the linear scan: complex states that decay and turn, and readouts; it tells how fast a signal swings.

use pspikessm::nn::{Cosine, Names, Param, ParamOptions};
use pspikessm::prelude::*;
mod picture;
type B = Cpu<f32>;
/// Complex states; time steps; classes of signals.
const STATES: usize = 16;
const LENGTH: usize = 64;
const CLASSES: usize = 4;

/// x' = lambda x + b u, in steps of size dt; logits are affine in the mean of |x|^2 over time.
struct S5 {
    /// ln(-re(lambda)), im(lambda) and ln(dt), (states) each; a readout (classes, states) and its bias (classes).
    decay: Param<B>,
    turn: Param<B>,
    step: Param<B>,
    readout: Param<B>,
    bias: Param<B>,
}

impl Module<B> for S5 {
    fn names(&self, names: &mut Names<'_, B>) {
        let all = [("decay", &self.decay), ("turn", &self.turn), ("step", &self.step), ("readout", &self.readout), ("bias", &self.bias)];
        all.iter().for_each(|(name, param)| names.param(name, param));
    }
}

impl S5 {
    fn new(cpu: &B) -> Result<Self> {
        let slow = |values: Vec<f64>| Param::from_values(cpu, values, &[STATES], ParamOptions::Trained { lr: Some(5e-3), decay: false });
        Ok(S5 {
            decay: slow(vec![0.5f64.ln(); STATES])?,
            turn: slow((0..STATES).map(|n| std::f64::consts::PI * n as f64).collect())?,
            step: slow(vec![0.05f64.ln(); STATES])?,
            readout: Param::new(cpu.normal(Key::new(0), &[CLASSES, STATES])?, ParamOptions::DECAYED),
            bias: Param::full(cpu, &[CLASSES], 0.0, ParamOptions::PLAIN)?,
        })
    }

    /// Logits (B, classes) of signals u (B, 1, length).
    fn forward(&self, cx: &Context<'_, B>, u: &Var<B>) -> Result<Var<B>> {
        let dt = cx.var(&self.step).exp()?;
        // lambda_bar = exp(lambda dt) as its two planes, (2, states, 1); b_bar = dt, so that what enters is real.
        let size = cx.var(&self.decay).exp()?.mul(&dt)?.neg()?.exp()?;
        let angle = cx.var(&self.turn).mul(&dt)?;
        let lambda = Var::stack(&[&size.mul(&angle.cos()?)?, &size.mul(&angle.sin()?)?], 0)?.reshape(&[2, STATES, 1])?;
        let driven = u.mul(&dt.reshape(&[STATES, 1])?)?;
        let x = Var::complex_scan(&lambda, &Var::stack(&[&driven, &driven.scale(0.0)?], 0)?, None)?;
        let power = x.square()?.sum_axes(&[0])?.mean_axes(&[2])?;
        power.matmul_transposed(&cx.var(&self.readout), false, true)?.scale(10.0)?.add(&cx.var(&self.bias))
    }
}

/// Sines (count, 1, length) with noise, and how fast each swings: the class.
fn signals(cpu: &B, key: Key, count: usize) -> Result<(Tensor<B>, Vec<usize>)> {
    let (phases, noise) = (cpu.to_vec(&cpu.uniform(key.fold(0), &[count])?)?, cpu.to_vec(&cpu.normal(key.fold(1), &[count * LENGTH])?)?);
    let labels: Vec<usize> = (0..count).map(|i| i % CLASSES).collect();
    let sine = |i: usize, t: usize| (0.25 * (1.0 + labels[i] as f32) * t as f32 + std::f32::consts::TAU * phases[i]).sin();
    let values = (0..count * LENGTH).map(|at| sine(at / LENGTH, at % LENGTH) + 0.5 * noise[at]).collect();
    Ok((cpu.from_vec(values, &[count, 1, LENGTH])?, labels))
}

fn main() -> Result<()> {
    let (cpu, steps, mut losses) = (B::new(), 100, Vec::new());
    let (model, mut optimizer, schedule) = (S5::new(&cpu)?, Optimizer::new(AdamWConfig::new(0.05, 0.0))?, Cosine::new(5, steps)?);
    for step in 0..steps {
        let ((u, labels), tape) = (signals(&cpu, Key::new(1).fold(step), 32)?, Tape::new(&cpu));
        let loss = model.forward(&Context::training(&tape, Key::new(0)), &tape.constant(&u))?.cross_entropy(&labels)?;
        losses.push(loss.item()?);
        optimizer.update(&cpu, &model, &loss.backward()?, schedule.factor(step))?;
    }
    let ((u, labels), tape) = (signals(&cpu, Key::new(2), 200)?, Tape::off(&cpu));
    let taken = model.forward(&Context::evaluation(&tape, Key::new(0)), &tape.constant(&u))?.argmax(1)?.to_vec()?;
    let right = taken.iter().zip(&labels).filter(|&(&class, &label)| class as usize == label).count();
    assert!(right >= 190, "{right} of 200 signals are told apart");
    println!("{right} of 200 signals are told apart");
    picture::lines("States that learn how fast a signal swings", [0.0, steps as f64], &[("loss (nats)", 2.0, &losses)])
}
