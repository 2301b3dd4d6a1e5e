//! An SSM layer two ways: its kernel convolved with a whole signal by FFT, and the same layer stepped through time.

use pspikessm::autodiff::Tape;
use pspikessm::backend::*;
use pspikessm::nn::{Context, Ssm, SsmConfig};

mod picture;

fn main() -> pspikessm::Result<()> {
    let (channels, length) = (3, 200);
    let cpu = Cpu::<f64>::new();
    // Causal, so that it can be stepped; HiPPO-LegS with 16 states, in its diagonal-plus-low-rank form.
    let config = SsmConfig::new(channels, 16).causal();
    let ssm = Ssm::new(&cpu, Key::new(0), &config)?;
    let signal = |t: usize, h: usize| (0.05 * (h + 1) as f64 * t as f64).sin();

    // The whole signal at once, (batch, channels, length).
    let values = (0..channels).flat_map(|h| (0..length).map(move |t| signal(t, h))).collect();
    let tape = Tape::off(&cpu);
    let cx = Context::evaluation(&tape, Key::new(1));
    let input = tape.constant(&cpu.from_vec(values, &[1, channels, length])?);
    let convolved = ssm.convolve(&cx, &input, None)?.to_vec()?;

    // One time step after the other.
    let mut stepper = ssm.stepper(&cpu)?;
    let (mut worst, mut stepped) = (0.0f64, Vec::new());
    for t in 0..length {
        let inputs: Vec<f64> = (0..channels).map(|h| signal(t, h)).collect();
        let outputs = stepper.step(&inputs)?;
        stepped.push(outputs[0]);
        if t % 40 == 0 {
            println!("t = {t:3}  by steps {:+.12}  by convolution {:+.12}", outputs[0], convolved[t]);
        }
        for h in 0..channels {
            worst = worst.max((outputs[h] - convolved[h * length + t]).abs());
        }
    }
    println!("largest difference over {length} steps and {channels} channels: {worst:.1e}");
    assert!(worst < 1e-9, "the recurrence and the convolution are the same layer");
    let lines = [("by convolution", 6.0, &convolved[..length]), ("by steps", 1.5, &stepped[..])];
    picture::lines("A layer two ways: its first channel over 200 steps", [0.0, length as f64], &lines)
}
