//! Spikes from a SpikeSampler, their expectation, and the gradient that is trained with.

use pspikessm::autodiff::Tape;
use pspikessm::backend::*;
use pspikessm::nn::{Context, SpikeSampler, SpikeSource};

mod picture;

fn main() -> pspikessm::Result<()> {
    let cpu = Cpu::<f32>::new();
    let sampler = SpikeSampler::new(&cpu, 1, SpikeSource::default())?;
    // One channel whose potential rises from -0.25 to 1.25 over 60 steps.
    let length = 60;
    let potentials: Vec<f32> = (0..length).map(|t| -0.25 + 1.5 * t as f32 / (length - 1) as f32).collect();
    let x = cpu.from_vec(potentials, &[1, 1, length])?;

    let draws = 2000;
    let (mut mean, mut rows) = (vec![0.0f32; length], Vec::new());
    let tape = Tape::off(&cpu);
    for draw in 0..draws {
        let cx = Context::evaluation(&tape, Key::new(7).fold(draw));
        let spikes = sampler.forward(&cx, &tape.constant(&x), cx.noise(0)?)?.to_vec()?;
        if draw < 4 {
            println!("spikes   {}", spikes.iter().map(|&s| if s == 1.0 { '|' } else { '.' }).collect::<String>());
        }
        mean.iter_mut().zip(&spikes).for_each(|(mean, s)| *mean += s / draws as f32);
        if draw < 24 {
            rows.push(spikes);
        }
    }

    // The expected spike is clamp(x, 0, 1), and its derivative, 1 inside [0, 1], is the surrogate gradient.
    let tape = Tape::new(&cpu);
    let cx = Context::training(&tape, Key::new(7)).expected();
    let input = tape.leaf(&x);
    let expectation = sampler.forward(&cx, &input, cx.noise(0)?)?;
    let expected = expectation.to_vec()?;
    let gradients = expectation.sum()?.backward()?;
    let open = cpu.to_vec(gradients.of(&input)?)?;
    println!("gradient {}", open.iter().map(|&g| if g == 1.0 { '1' } else { '0' }).collect::<String>());
    for t in (0..length).step_by(10) {
        println!("t = {t:2}  expected {:.3}  mean of {draws} draws {:.3}", expected[t], mean[t]);
    }
    let worst = expected.iter().zip(&mean).map(|(e, m)| (e - m).abs()).fold(0.0, f32::max);
    assert!(worst < 0.06, "five standard errors of a mean of {draws} draws: {worst}");
    let curve: Vec<f64> = expected.iter().map(|&e| e.into()).collect();
    picture::raster("24 draws of one neuron whose potential rises", &rows, ("the expected spike", &curve))
}
