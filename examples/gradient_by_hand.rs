//! A gradient by hand: the tape's derivative of mean(GELU(a x)^2) by a, against the chain rule written out.

use pspikessm::autodiff::Tape;
use pspikessm::backend::*;

mod picture;

fn main() -> pspikessm::Result<()> {
    let cpu = Cpu::<f64>::new();
    let (a, xs) = (0.8, [-1.5, -0.3, 0.0, 0.4, 2.0]);

    // The tape.
    let tape = Tape::new(&cpu);
    let scale = tape.leaf(&cpu.full(&[], a)?);
    let x = tape.constant(&cpu.from_vec(xs.to_vec(), &[5])?);
    let loss = scale.mul(&x)?.gelu()?.square()?.mean()?;
    let gradients = loss.backward()?;
    let by_tape = cpu.to_vec(gradients.of(&scale)?)?[0];

    // The chain rule: d/da mean(g(ax)^2) = mean(2 g(ax) g'(ax) x), with g(z) = z Phi(z) and g'(z) = Phi(z) + z phi(z).
    let term = |x: f64| {
        let z = a * x;
        let (cdf, pdf) = z.normal_cdf_pdf();
        2.0 * (z * cdf) * (cdf + z * pdf) * x
    };
    let by_hand = xs.iter().map(|&x| term(x)).sum::<f64>() / xs.len() as f64;

    println!("by the tape {by_tape:.15}");
    println!("by hand     {by_hand:.15}");
    assert!((by_tape - by_hand).abs() < 1e-14, "the two must agree");

    // The loss over a, and the line with that slope through it.
    let value = |a: f64| xs.iter().map(|&x| (a * x * (a * x).normal_cdf_pdf().0).powi(2)).sum::<f64>() / xs.len() as f64;
    let along: Vec<f64> = (0..81).map(|i| f64::from(i) / 50.0).collect();
    let curve: Vec<f64> = along.iter().map(|&at| value(at)).collect();
    let tangent: Vec<f64> = along.iter().map(|&at| value(a) + by_tape * (at - a)).collect();
    picture::lines("The loss over a, and its gradient at 0.8", [0.0, 1.6], &[("the loss", 2.5, &curve), ("the gradient", 1.5, &tangent)])
}
