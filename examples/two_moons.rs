//! A multilayer perceptron that tells two moons apart: layers, a loss, an optimiser, and points that it has not seen.

use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::*;
use pspikessm::nn::{AdamWConfig, Context, Cosine, Linear, Module, Names, Optimizer};

mod picture;

type B = Cpu<f32>;

/// 2 -> 32 -> 32 -> 2.
struct Mlp {
    layers: [Linear<B>; 3],
}

impl Module<B> for Mlp {
    fn names(&self, names: &mut Names<'_, B>) {
        self.layers.iter().enumerate().for_each(|(i, layer)| names.module(i, layer));
    }
}

impl Mlp {
    fn new(cpu: &B, key: Key) -> pspikessm::Result<Self> {
        let layer = |i, d_input, d_output| Linear::new(cpu, key.fold(i), d_input, d_output);
        Ok(Mlp { layers: [layer(0, 2, 32)?, layer(1, 32, 32)?, layer(2, 32, 2)?] })
    }

    fn forward(&self, cx: &Context<'_, B>, x: &Var<B>) -> pspikessm::Result<Var<B>> {
        let [first, second, last] = &self.layers;
        last.forward(cx, &second.forward(cx, &first.forward(cx, x)?.gelu()?)?.gelu()?)
    }
}

/// Points (count, 2) on two half circles that reach into each other, with noise, and which of them each is on.
fn moons(cpu: &B, key: Key, count: usize) -> pspikessm::Result<(Tensor<B>, Vec<usize>)> {
    let angles = cpu.to_vec(&cpu.uniform(key.fold(0), &[count])?)?;
    let noise = cpu.to_vec(&cpu.normal(key.fold(1), &[2 * count])?)?;
    let labels: Vec<usize> = (0..count).map(|i| i % 2).collect();
    let point = |(i, &unit): (usize, &f32)| {
        let (sin, cos) = (unit * std::f32::consts::PI).sin_cos();
        let [x, y] = if labels[i] == 0 { [cos, sin] } else { [1.0 - cos, 0.5 - sin] };
        [x + 0.1 * noise[2 * i], y + 0.1 * noise[2 * i + 1]]
    };
    let points = angles.iter().enumerate().flat_map(point).collect();
    Ok((cpu.from_vec(points, &[count, 2])?, labels))
}

fn main() -> pspikessm::Result<()> {
    let cpu = B::new();
    let ((train, labels), (test, answers)) = (moons(&cpu, Key::new(1), 400)?, moons(&cpu, Key::new(2), 400)?);
    let mlp = Mlp::new(&cpu, Key::new(0))?;
    let (mut optimizer, schedule) = (Optimizer::new(AdamWConfig::new(0.02, 0.01))?, Cosine::new(10, 150)?);
    for step in 0..150 {
        let tape = Tape::new(&cpu);
        let logits = mlp.forward(&Context::training(&tape, Key::new(0)), &tape.constant(&train))?;
        let loss = logits.cross_entropy(&labels)?;
        if step % 30 == 0 {
            println!("step {step:3}  loss {:.4}", loss.item()?);
        }
        optimizer.update(&cpu, &mlp, &loss.backward()?, schedule.factor(step))?;
    }
    let tape = Tape::off(&cpu);
    let logits = mlp.forward(&Context::evaluation(&tape, Key::new(0)), &tape.constant(&test))?;
    let taken = logits.argmax(1)?.to_vec()?;
    let right = taken.iter().zip(&answers).filter(|&(&class, &answer)| class as usize == answer).count();
    println!("{right} of {} points that were not trained on are told apart", answers.len());
    assert!(right >= 396, "{right}");
    // What it says of the whole field, and every eighth of those points.
    let field: Vec<f32> = (0..48 * 30).flat_map(|at| [(at % 48) as f32 / 47.0 * 4.0 - 1.5, (at / 48) as f32 / 29.0 * 2.5 - 1.0]).collect();
    let logits = mlp.forward(&Context::evaluation(&tape, Key::new(0)), &tape.constant(&cpu.from_vec(field, &[48 * 30, 2])?))?;
    let shares: Vec<f64> = logits.softmax(1)?.to_vec()?.chunks(2).map(|share| f64::from(share[1])).collect();
    let points = cpu.to_vec(&test)?.chunks(2).map(|p| [f64::from(p[0] + 1.5) / 4.0, f64::from(p[1] + 1.0) / 2.5]).collect::<Vec<_>>();
    let points: Vec<_> = points.into_iter().zip(answers).step_by(7).collect();
    picture::map("Two moons: what the network says of every point", 48, &shares, &points)
}
