//! Training steps: forward, backward, and where it is said, the parameters' step.

use candle_core::{D, Device, Tensor as Theirs, Var as TheirVar};
use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::{Binary, Elementwise, Tensor, Transfer};

use crate::{B, Outcome, Table, pair};

/// All of them.
pub fn all(table: &Table, cpu: &B) -> Outcome<()> {
    mlp(table, cpu)?;
    gru(table, cpu)?;
    attention(table, cpu)?;
    tiny(table, cpu)
}

/// Parameters on both sides.
fn parameters(cpu: &B, shapes: &[&[usize]]) -> Outcome<(Vec<Tensor<B>>, Vec<TheirVar>)> {
    let mut sides = (Vec::new(), Vec::new());
    for (seed, shape) in shapes.iter().enumerate() {
        let (ours, theirs) = pair(cpu, 100 + seed as u64, shape)?;
        let scale = 0.5 / (shape[0] as f64).sqrt();
        let factor = cpu.full(&[], scale)?;
        sides.0.push(cpu.binary(Binary::Mul, &ours, &factor)?);
        sides.1.push(TheirVar::from_tensor(&(theirs * scale)?)?);
    }
    Ok(sides)
}

/// 256 samples through 784-512-512-10, cross-entropy, and a step of plain gradient descent.
fn mlp(table: &Table, cpu: &B) -> Outcome<()> {
    let shapes: [&[usize]; 6] = [&[784, 512], &[512], &[512, 512], &[512], &[512, 10], &[10]];
    let ((x, x2), (mut ours, theirs)) = (pair(cpu, 7, &[256, 784])?, parameters(cpu, &shapes)?);
    let labels: Vec<usize> = (0..256).map(|i| i % 10).collect();
    let labels2 = Theirs::from_vec((0..256u32).map(|i| i % 10).collect::<Vec<_>>(), &[256], &Device::Cpu)?;
    let rate = cpu.full(&[], 1e-3)?;
    let step = || {
        let tape = Tape::new(cpu);
        let p: Vec<Var<B>> = ours.iter().map(|p| tape.leaf(p)).collect();
        let hidden = tape.constant(&x).matmul(&p[0])?.add(&p[1])?.relu()?;
        let hidden = hidden.matmul(&p[2])?.add(&p[3])?.relu()?;
        let gradients = hidden.matmul(&p[4])?.add(&p[5])?.cross_entropy(&labels)?.backward()?;
        for (value, leaf) in ours.iter_mut().zip(&p) {
            *value = cpu.binary(Binary::Sub, value, &cpu.binary(Binary::Mul, gradients.of(leaf)?, &rate)?)?;
        }
        Ok(())
    };
    let their_step = || {
        let hidden = x2.matmul(&theirs[0])?.broadcast_add(&theirs[1])?.relu()?;
        let hidden = hidden.matmul(&theirs[2])?.broadcast_add(&theirs[3])?.relu()?;
        let logits = hidden.matmul(&theirs[4])?.broadcast_add(&theirs[5])?;
        let gradients = candle_nn::loss::cross_entropy(&logits, &labels2)?.backward()?;
        for value in &theirs {
            let gradient = gradients.get(value).ok_or("no gradient")?;
            value.set(&(value.as_tensor() - (gradient * 1e-3)?)?)?;
        }
        Ok(())
    };
    table.row("MLP step 256 x 784-512-512-10", 1, step, their_step)
}

/// One time step of a gated recurrent unit, 64 samples, 128 inputs, 256 states, forward and back.
fn gru(table: &Table, cpu: &B) -> Outcome<()> {
    let ((x, x2), (h, h2)) = (pair(cpu, 8, &[64, 128])?, pair(cpu, 9, &[64, 256])?);
    let (ours, theirs) = parameters(cpu, &[&[128, 768], &[256, 768], &[768], &[768]])?;
    let step = || {
        let tape = Tape::new(cpu);
        let p: Vec<Var<B>> = ours.iter().map(|p| tape.leaf(p)).collect();
        let h = tape.leaf(&h);
        let (a, b) = (tape.constant(&x).matmul(&p[0])?.add(&p[2])?, h.matmul(&p[1])?.add(&p[3])?);
        let part = |v: &Var<B>, i: usize| v.slice(1, 256 * i, 256);
        let reset = part(&a, 0)?.add(&part(&b, 0)?)?.sigmoid()?;
        let update = part(&a, 1)?.add(&part(&b, 1)?)?.sigmoid()?;
        let new = part(&a, 2)?.add(&reset.mul(&part(&b, 2)?)?)?.tanh()?;
        new.add(&update.mul(&h.sub(&new)?)?)?.sum()?.backward()?;
        Ok(())
    };
    let h2 = TheirVar::from_tensor(&h2)?;
    let their_step = || {
        let (a, b) = (x2.matmul(&theirs[0])?.broadcast_add(&theirs[2])?, h2.matmul(&theirs[1])?.broadcast_add(&theirs[3])?);
        let part = |v: &Theirs, i: usize| v.narrow(1, 256 * i, 256);
        let reset = candle_nn::ops::sigmoid(&(part(&a, 0)? + part(&b, 0)?)?)?;
        let update = candle_nn::ops::sigmoid(&(part(&a, 1)? + part(&b, 1)?)?)?;
        let new = (part(&a, 2)? + (reset * part(&b, 2)?)?)?.tanh()?;
        (&new + (update * (h2.as_tensor() - &new)?)?)?.sum_all()?.backward()?;
        Ok(())
    };
    table.row("GRU step 64 x 128, 256 states", 5, step, their_step)
}

/// Softmax attention, 8 sequences, 4 heads of 64, 128 time steps, forward and back.
fn attention(table: &Table, cpu: &B) -> Outcome<()> {
    let sides = [(); 3].map(|()| pair(cpu, 10, &[8, 4, 128, 64]));
    let [(q, q2), (k, k2), (v, v2)] = sides.map(|side| side.expect("numbers"));
    let step = || {
        let tape = Tape::new(cpu);
        let (q, k, v) = (tape.leaf(&q), tape.leaf(&k), tape.leaf(&v));
        let scores = q.matmul_transposed(&k, false, true)?.scale(0.125)?;
        scores.softmax(3)?.matmul(&v)?.sum()?.backward()?;
        Ok(())
    };
    let [q2, k2, v2] = [q2, k2, v2].map(|t| TheirVar::from_tensor(&t).expect("a variable"));
    let their_step = || {
        let scores = (q2.matmul(&k2.t()?)? * 0.125)?;
        candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v2)?.sum_all()?.backward()?;
        Ok(())
    };
    table.row("attention step 8 x 4 x 128 x 64", 3, step, their_step)
}

/// A thousand operations on sixteen numbers, and back.
fn tiny(table: &Table, cpu: &B) -> Outcome<()> {
    let (x, x2) = pair(cpu, 11, &[16])?;
    let x2 = TheirVar::from_tensor(&x2)?;
    let step = || {
        let x = Tape::new(cpu).leaf(&x);
        let mut y = x.clone();
        for _ in 0..500 {
            y = y.mul(&x)?.add(&x)?;
        }
        y.sum()?.backward()?;
        Ok(())
    };
    let their_step = || {
        let mut y = x2.as_tensor().clone();
        for _ in 0..500 {
            y = ((&y * x2.as_tensor())? + x2.as_tensor())?;
        }
        y.sum_all()?.backward()?;
        Ok(())
    };
    table.row("1,000 operations on 16 numbers", 3, step, their_step)
}
