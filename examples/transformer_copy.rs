//! A small causal transformer that copies: after a sequence and a sign it says the sequence again, symbol by symbol.

use pspikessm::nn::{Cosine, Embedding, Linear, MultiHeadAttention, Names, Param, ParamOptions, RmsNorm};
use pspikessm::prelude::*;

mod picture;

type B = Cpu<f32>;
/// Symbols to be copied, of which the next one is the sign; how many there are in a sequence; channels.
const SYMBOLS: u32 = 8;
const COPIED: usize = 6;
const WIDTH: usize = 32;

/// x + attention(norm(x)), then x + narrow(gelu(wide(norm(x)))).
struct Transformer {
    embedding: Embedding<B>,
    positions: Param<B>,
    norms: [RmsNorm<B>; 2],
    attention: MultiHeadAttention<B>,
    linears: [Linear<B>; 3],
}

impl Module<B> for Transformer {
    fn names(&self, names: &mut Names<'_, B>) {
        names.module("embedding", &self.embedding);
        names.param("positions", &self.positions);
        self.norms.iter().enumerate().for_each(|(i, norm)| names.module(format!("norms.{i}"), norm));
        names.module("attention", &self.attention);
        self.linears.iter().enumerate().for_each(|(i, linear)| names.module(format!("linears.{i}"), linear));
    }
}

impl Transformer {
    fn new(cpu: &B, key: Key) -> Result<Self> {
        let linear = |i, d_input, d_output| Linear::new(cpu, key.fold(i), d_input, d_output);
        Ok(Transformer {
            embedding: Embedding::new(cpu, key.fold(0), SYMBOLS as usize + 1, WIDTH)?,
            positions: Param::new(cpu.normal(key.fold(1), &[WIDTH, 2 * COPIED])?, ParamOptions::PLAIN),
            norms: [RmsNorm::new(cpu, WIDTH)?, RmsNorm::new(cpu, WIDTH)?],
            attention: MultiHeadAttention::new(cpu, key.fold(2), WIDTH, 4)?.causal(true),
            linears: [linear(3, WIDTH, 2 * WIDTH)?, linear(4, 2 * WIDTH, WIDTH)?, linear(5, WIDTH, SYMBOLS as usize)?],
        })
    }

    /// (sequences x copied, symbols): from the sign on, what comes next.
    fn forward(&self, cx: &Context<'_, B>, tokens: &[u32], batch: usize) -> Result<Var<B>> {
        let mut x = self.embedding.forward(cx, tokens, batch)?.add(&cx.var(&self.positions))?;
        let ([norm, second_norm], [wide, narrow, head]) = (&self.norms, &self.linears);
        x = x.add(&self.attention.forward(cx, &norm.forward(cx, &x)?, None)?)?;
        x = x.add(&narrow.forward(cx, &wide.forward(cx, &second_norm.forward(cx, &x)?)?.gelu()?)?)?;
        head.forward(cx, &x)?.slice(2, COPIED, COPIED)?.permute(&[0, 2, 1])?.reshape(&[batch * COPIED, SYMBOLS as usize])
    }
}

/// What is read, a sequence, the sign and all of its copy but the end; and the copy.
fn draw(cpu: &B, key: Key, batch: usize) -> Result<(Vec<u32>, Vec<usize>)> {
    let units = cpu.to_vec(&cpu.uniform(key, &[batch * COPIED])?)?;
    let symbols: Vec<u32> = units.iter().map(|unit| (unit * SYMBOLS as f32) as u32).collect();
    let read = symbols.chunks(COPIED).flat_map(|copied| [copied, &[SYMBOLS], &copied[..COPIED - 1]].concat());
    Ok((read.collect(), symbols.iter().map(|&symbol| symbol as usize).collect()))
}

fn main() -> Result<()> {
    let (cpu, steps, mut losses) = (B::new(), 150, Vec::new());
    let (model, schedule) = (Transformer::new(&cpu, Key::new(0))?, Cosine::new(20, steps)?);
    let mut optimizer = Optimizer::new(AdamWConfig::new(3e-3, 0.01))?;
    for step in 0..steps {
        let ((tokens, labels), tape) = (draw(&cpu, Key::new(1).fold(step), 32)?, Tape::new(&cpu));
        let loss = model.forward(&Context::training(&tape, Key::new(0)), &tokens, 32)?.cross_entropy(&labels)?;
        losses.push(loss.item()?);
        optimizer.update(&cpu, &model, &loss.backward()?, schedule.factor(step))?;
    }
    let ((tokens, labels), tape) = (draw(&cpu, Key::new(2), 100)?, Tape::off(&cpu));
    let taken = model.forward(&Context::evaluation(&tape, Key::new(0)), &tokens, 100)?.argmax(1)?.to_vec()?;
    let right = taken.iter().zip(&labels).filter(|&(&symbol, &label)| symbol as usize == label).count();
    assert!(right >= 594, "{right} of 600 symbols are copied");
    println!("{right} of 600 symbols are copied");
    picture::lines("A transformer learns to copy", [0.0, steps as f64], &[("loss (nats)", 2.0, &losses)])
}
