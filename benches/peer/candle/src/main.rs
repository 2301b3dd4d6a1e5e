//! The same work in pspikessm and in candle, in turn, in f32 on the CPU: a Markdown table of medians.
//!
//! `RAYON_NUM_THREADS=2 cargo run --release -- [--rounds 15] [--only gelu]`: the variable tells both libraries how many threads to take.

mod models;

use std::time::Instant;

use candle_core::{D, Device, Tensor as Theirs};
use pspikessm::autodiff::Tape;
use pspikessm::backend::{Binary, Cpu, Elementwise, Key, Layout, Products, Random, Tensor, Unary};

/// What fails, on either side.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The backend on our side.
pub type B = Cpu<f32>;

/// Times both sides in turn and prints a row.
pub struct Table {
    rounds: usize,
    only: Option<String>,
}

impl Table {
    /// `ours` and `theirs` do the same work `repeat` times a round.
    pub fn row(
        &self,
        name: &str,
        repeat: usize,
        mut ours: impl FnMut() -> Outcome<()>,
        mut theirs: impl FnMut() -> Outcome<()>,
    ) -> Outcome<()> {
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return Ok(());
        }
        let time = |side: &mut dyn FnMut() -> Outcome<()>| -> Outcome<f64> {
            let start = Instant::now();
            (0..repeat).try_for_each(|_| side())?;
            Ok(start.elapsed().as_secs_f64() / repeat as f64)
        };
        let mut times = [Vec::new(), Vec::new()];
        // The first round warms caches and pools, and does not count.
        for round in 0..=self.rounds {
            let pair = [time(&mut ours)?, time(&mut theirs)?];
            if round > 0 {
                times.iter_mut().zip(pair).for_each(|(times, t)| times.push(t));
            }
        }
        let [ours, theirs] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            1e3 * times[times.len() / 2]
        });
        println!("| {name} | {ours:.3} | {theirs:.3} | {:.2} |", theirs / ours);
        Ok(())
    }
}

/// The same normal numbers on both sides.
pub fn pair(cpu: &B, seed: u64, shape: &[usize]) -> Outcome<(Tensor<B>, Theirs)> {
    use pspikessm::backend::Transfer;
    let ours = cpu.normal(Key::new(seed), shape)?;
    let theirs = Theirs::from_vec(cpu.to_vec(&ours)?, shape, &Device::Cpu)?;
    Ok((ours, theirs))
}

/// Single operations.
fn operations(table: &Table, cpu: &B) -> Outcome<()> {
    let (a, a2) = pair(cpu, 1, &[1024, 1024])?;
    let (b, b2) = pair(cpu, 2, &[1024, 1024])?;
    let (column, column2) = pair(cpu, 3, &[1024, 1])?;
    table.row("matmul 1,024^3", 1, || Ok(cpu.matmul(&a, false, &b, false).map(drop)?), || Ok(a2.matmul(&b2).map(drop)?))?;
    table.row("exp", 100, || Ok(cpu.unary(Unary::Exp, &a).map(drop)?), || Ok(a2.exp().map(drop)?))?;
    table.row("gelu", 100, || Ok(cpu.unary(Unary::Gelu, &a).map(drop)?), || Ok(a2.gelu_erf().map(drop)?))?;
    table.row("add", 100, || Ok(cpu.binary(Binary::Add, &a, &b).map(drop)?), || Ok((&a2 + &b2).map(drop)?))?;
    let broadcast = || Ok(cpu.binary(Binary::Mul, &a, &column).map(drop)?);
    table.row("broadcast multiply", 100, broadcast, || Ok(a2.broadcast_mul(&column2).map(drop)?))?;
    let off = Tape::off(cpu);
    let x = off.leaf(&a);
    let softmax = || Ok(candle_nn::ops::softmax_last_dim(&a2).map(drop)?);
    table.row("softmax", 100, || Ok(x.softmax(1).map(drop)?), softmax)?;
    let ((gamma, gamma2), (beta, beta2)) = (pair(cpu, 4, &[1024])?, pair(cpu, 5, &[1024])?);
    let (gamma, beta) = (off.leaf(&gamma), off.leaf(&beta));
    let rows = off.leaf(&a.reshape(&[1024, 1024, 1])?);
    let norm = || Ok(candle_nn::ops::layer_norm(&a2, &gamma2, &beta2, 1e-5).map(drop)?);
    table.row("layer norm", 100, || Ok(rows.layer_norm(&gamma, &beta, 1e-5).map(drop)?), norm)?;
    table.row("sum over the last axis", 100, || Ok(cpu.sum_to(&a, &[1024, 1]).map(drop)?), || Ok(a2.sum(D::Minus1).map(drop)?))?;
    table.row("sum over the first axis", 100, || Ok(cpu.sum_to(&a, &[1, 1024]).map(drop)?), || Ok(a2.sum(0).map(drop)?))?;
    let transpose = || Ok(a2.t()?.contiguous().map(drop)?);
    table.row("transpose", 100, || Ok(cpu.permute(&a, &[1, 0]).map(drop)?), transpose)
}

fn main() -> Outcome<()> {
    let (mut rounds, mut only) = (15, None);
    let mut args = std::env::args().skip(1);
    while let (Some(flag), Some(value)) = (args.next(), args.next()) {
        match flag.as_str() {
            "--rounds" => rounds = value.parse()?,
            "--only" => only = Some(value),
            _ => return Err(format!("{flag} is none of --rounds --only").into()),
        }
    }
    let threads = rayon::current_num_threads();
    println!("| f32, {threads} threads, ms | pspikessm | candle 0.11 | candle / pspikessm |\n|---|---|---|---|");
    let table = Table { rounds, only };
    rayon::scope(|_| {
        let cpu = B::new();
        operations(&table, &cpu)?;
        models::all(&table, &cpu)
    })
}
