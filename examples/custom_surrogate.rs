//! A surrogate gradient of one's own in a block: the spikes stay what they are, and what is learnt from them changes.

use pspikessm::autodiff::Tape;
use pspikessm::backend::*;
use pspikessm::nn::{
    AdamWConfig, BlockConfig, Context, CustomSurrogate, Encoder, Input, Model, ModelConfig, Module, Observed, Optimizer, SpikeSource,
    SsmConfig,
};

mod picture;

type B = Cpu<f64>;

const LENGTH: usize = 12;

/// Sequences of two symbols, and which of them stands first.
fn sequences(cpu: &B, key: Key, batch: usize) -> pspikessm::Result<(Vec<u32>, Vec<usize>)> {
    let tokens: Vec<u32> = cpu.to_vec(&cpu.uniform(key, &[batch * LENGTH])?)?.iter().map(|&unit| u32::from(unit > 0.5)).collect();
    let labels = tokens.chunks(LENGTH).map(|sequence| sequence[0] as usize).collect();
    Ok((tokens, labels))
}

/// The losses of 80 steps, and every gradient of the first.
fn train(cpu: &B, model: &Model<B>) -> pspikessm::Result<(Vec<f64>, Vec<f64>)> {
    let mut optimizer = Optimizer::new(AdamWConfig::new(0.01, 0.0))?;
    let (mut losses, mut first) = (Vec::new(), Vec::new());
    for step in 0..80 {
        let (tokens, labels) = sequences(cpu, Key::new(1).fold(step), 16)?;
        let (tape, observed) = (Tape::new(cpu), Observed::new());
        let cx = Context::training(&tape, Key::new(2).fold(step)).observe(&observed);
        let loss = model.forward(&cx, Input::tokens(&tokens, 16))?.cross_entropy(&labels)?;
        losses.push(loss.item()?);
        // Neurons that rarely spike, as a second aim.
        let gradients = loss.add(&observed.rate_penalty(0.2)?.scale(0.1)?)?.backward()?;
        if step == 0 {
            for (_, param) in model.parameters() {
                first.extend(gradients.of_parameter(param.identity()).map(|g| cpu.to_vec(g)).transpose()?.into_iter().flatten());
            }
        }
        optimizer.update(cpu, model, &gradients, 1.0)?;
    }
    Ok((losses, first))
}

fn main() -> pspikessm::Result<()> {
    let cpu = B::new();
    let model = |surrogate| {
        let block = BlockConfig::new(SsmConfig::new(16, 8).l_max(LENGTH)).source(SpikeSource::Probability(surrogate));
        Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Tokens(2), block, 2).layers(1))
    };
    let alpha = 4.0;
    let built_in = train(&cpu, &model(Surrogate::Sigmoid { alpha })?)?;
    // The same written out: its derivative by y stands for that of the spike y > u.
    let same = CustomSurrogate::new(move |y, u| y.sub(u)?.scale(alpha)?.sigmoid());
    let written_out = train(&cpu, &model(Surrogate::Clamp)?.with_surrogate(&same)?)?;
    // Another one: a triangle around u, the derivative of a sum of two squares.
    let triangle = CustomSurrogate::new(|y, u| {
        let d = y.sub(u)?;
        let half = |shift: f64| d.linear_map(1.0, shift)?.clamp(0.0, 1.0);
        let (below, above) = (half(1.0)?, half(0.0)?);
        below.square()?.scale(0.5)?.add(&above)?.sub(&above.square()?.scale(0.5)?)
    });
    let other = train(&cpu, &model(Surrogate::Clamp)?.with_surrogate(&triangle)?)?;
    let all = [("built-in sigmoid", 5.0, &built_in.0[..]), ("sigmoid written out", 1.5, &written_out.0), ("triangle", 1.5, &other.0)];
    for (name, _, losses) in all {
        let (first, last) = (losses[0], losses[60..].iter().sum::<f64>() / 20.0);
        println!("{name:20} loss {first:.4}, then {last:.4}");
        assert!(last < 0.8 * first, "{name} learns nothing");
    }
    let furthest = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!((built_in.0[0] - other.0[0]).abs() < 1e-12, "the same spikes");
    assert!(furthest(&built_in.1, &written_out.1) < 1e-12 && furthest(&built_in.1, &other.1) > 1e-4, "and their gradients");
    picture::lines("Three surrogates: loss (nats) over 80 steps", [0.0, 80.0], &all)
}
