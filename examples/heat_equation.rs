//! A physics-informed network for the heat equation u_t = k u_xx: the second derivative of a network stands in its loss.

use pspikessm::autodiff::{Tape, Var, gradients};
use pspikessm::backend::*;
use pspikessm::nn::{AdamWConfig, Context, Cosine, Linear, Module, Names, Optimizer};
use std::f64::consts::PI;

mod picture;

type B = Cpu<f64>;

/// How well heat is conducted.
const K: f64 = 0.1;

/// (x, t) -> 16 -> 16 -> 1.
struct Network([Linear<B>; 3]);

impl Module<B> for Network {
    fn names(&self, names: &mut Names<'_, B>) {
        self.0.iter().enumerate().for_each(|(i, layer)| names.module(i, layer));
    }
}

impl Network {
    /// u at x and t, (points, 1) each: sin(pi x) at t = 0 and 0 at both ends, x = 0 and x = 1, whatever the network says.
    fn temperature(&self, cx: &Context<'_, B>, x: &Var<B>, t: &Var<B>) -> pspikessm::Result<Var<B>> {
        let [first, second, last] = &self.0;
        let hidden = first.forward(cx, &Var::concat(&[x, t], 1)?)?.tanh()?;
        let inside = last.forward(cx, &second.forward(cx, &hidden)?.tanh()?)?;
        let start = x.scale(PI)?.sin()?;
        start.add(&x.mul(&x.linear_map(-1.0, 1.0)?)?.mul(t)?.mul(&inside)?)
    }

    /// The mean square of u_t - k u_xx.
    fn loss(&self, cx: &Context<'_, B>, x: &Var<B>, t: &Var<B>) -> pspikessm::Result<Var<B>> {
        let u = self.temperature(cx, x, t)?.sum()?;
        let [u_x, u_t] = gradients(&[&u], &[x, t])?.try_into().expect("one gradient an input");
        let u_xx = gradients(&[&u_x.sum()?], &[x])?.remove(0);
        u_t.sub(&u_xx.scale(K)?)?.square()?.mean()
    }
}

fn main() -> pspikessm::Result<()> {
    let (cpu, steps) = (B::new(), 400);
    let layer = |i, d_input, d_output| Linear::new(&cpu, Key::new(0).fold(i), d_input, d_output);
    let network = Network([layer(0, 2, 16)?, layer(1, 16, 16)?, layer(2, 16, 1)?]);
    let (mut optimizer, schedule) = (Optimizer::new(AdamWConfig::new(0.02, 0.0))?, Cosine::new(20, steps)?);
    for step in 0..steps {
        let tape = Tape::higher_order(&cpu);
        let points = |seed| Ok::<_, pspikessm::Error>(tape.leaf(&cpu.uniform(Key::new(seed), &[100, 1])?));
        let loss = network.loss(&Context::training(&tape, Key::new(0)), &points(1)?, &points(2)?)?;
        if step % 100 == 0 {
            println!("step {step:3}  loss {:.2e}", loss.item()?);
        }
        optimizer.update(&cpu, &network, &loss.backward()?, schedule.factor(step))?;
    }
    // Against the exact solution on a grid, everywhere up to t = 1.
    let grid: Vec<(f64, f64)> = (0..21 * 21).map(|i| (f64::from(i % 21) / 20.0, f64::from(i / 21) / 20.0)).collect();
    let tape = Tape::off(&cpu);
    let column = |values: Vec<f64>| Ok::<_, pspikessm::Error>(tape.constant(&cpu.from_vec(values, &[grid.len(), 1])?));
    let (x, t) = (column(grid.iter().map(|point| point.0).collect())?, column(grid.iter().map(|point| point.1).collect())?);
    let found = network.temperature(&Context::evaluation(&tape, Key::new(0)), &x, &t)?.to_vec()?;
    let exact = |&(x, t): &(f64, f64)| (-K * PI * PI * t).exp() * (PI * x).sin();
    let error = grid.iter().zip(&found).map(|(point, u)| (u - exact(point)).abs()).fold(0.0, f64::max);
    println!("the largest error is {error:.1e}");
    assert!(error < 1e-2, "{error}");
    picture::map("A rod that cools: place to the right, time upwards", 21, &found, &[])
}
