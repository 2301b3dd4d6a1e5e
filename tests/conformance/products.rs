//! Matrix products by three loops, Fourier transforms by their sums, and the channel mix.

use std::f64::consts::TAU;

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::{Backend, Draw, Mixing, Noise, Spike, SpikeMode, Surrogate, Tensor, Unary};

use super::dual::Dual;
use super::elementwise::define;
use super::harness::{Array, Dice, Lab, Verdict, any_draw, cases, dim, in_any_batch, indices, length, mask, narrowed, once, seed, wanted};

/// x (.., m, k) or (.., k, m), y (.., k, n) or (.., n, k).
fn multiply(x: &Array, tx: bool, y: &Array, ty: bool, batch: &[usize], [m, n, k]: [usize; 3]) -> Array {
    let pick = |values: &Array, transposed: bool, outer: &[usize], row: usize, column: usize| {
        let last = if transposed { [column, row] } else { [row, column] };
        values.at(&[outer, &last].concat())
    };
    Array::of(&[batch, &[m, n]].concat(), |i| {
        let (outer, [row, column]) = (&i[..batch.len()], [i[batch.len()], i[batch.len() + 1]]);
        (0..k).map(|p| pick(x, tx, outer, row, p) * pick(y, ty, outer, p, column)).sum()
    })
}

fn batch() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..4usize, 0..4)
}

/// (m, n, k): around the sizes of register tiles, long and thin, and empty.
fn sizes() -> impl Strategy<Value = [usize; 3]> {
    let odd = select(vec![[1usize, 1, 700], [65, 1, 3], [1, 97, 2], [33, 47, 61], [3, 4, 0], [0, 3, 2], [2, 0, 3]]);
    prop_oneof![3 => (dim(), dim(), dim()).prop_map(|(m, n, k)| [m, n, k]), 2 => odd]
}

/// Matrices that broadcast to `batch`; an axis of either may be missing or 1. A matrix axis of 1 must stay what it is.
fn operand<B: Backend>(lab: &Lab<B>, dice: &mut Dice, batch: &[usize], transposed: bool, rows: usize, columns: usize) -> Array {
    let last = if transposed { [columns, rows] } else { [rows, columns] };
    let shape = [narrowed(dice, batch).as_slice(), &last].concat();
    lab.signed(dice, &shape)
}

pub fn matmul<B: Backend>(lab: &Lab<B>) {
    cases(48, 20, (batch(), sizes(), any::<[bool; 2]>(), seed()), |(batch, [m, n, k], [tx, ty], seed)| {
        let mut dice = Dice::new(seed);
        let (x, y) = (operand(lab, &mut dice, &batch, tx, m, k), operand(lab, &mut dice, &batch, ty, k, n));
        let product = pspikessm::internal::product(&x.shape, tx, &y.shape, ty)?;
        let want = multiply(&x, tx, &y, ty, &product.batch, [m, n, k]);
        let got = lab.backend.matmul(&lab.put(&x)?, tx, &lab.put(&y)?, ty)?;
        lab.near(&format!("{:?} ({tx}) times {:?} ({ty})", x.shape, y.shape), &got, &want, lab.tolerance.sums, x.largest() * y.largest())
    });
}

/// (.., n) to planar (2, .., n / 2 + 1) by the sum.
fn transform(x: &Array) -> Array {
    let (outer, n) = x.shape.split_at(x.shape.len() - 1);
    Array::of(&[&[2], outer, &[n[0] / 2 + 1]].concat(), |i| {
        let (plane, row, bin) = (i[0], &i[1..i.len() - 1], i[i.len() - 1]);
        (0..n[0]).map(|t| x.at(&[row, &[t]].concat()) * turn(plane, bin * t % n[0], n[0])).sum()
    })
}

/// The real (0) or imaginary (1) part of e^(-2 pi i step / n).
fn turn(plane: usize, step: usize, n: usize) -> f64 {
    let angle = TAU * step as f64 / n as f64;
    if plane == 0 { angle.cos() } else { -angle.sin() }
}

/// Planar (2, .., n / 2 + 1) to (.., n): every bin but the real ends stands for its conjugate too.
fn transform_back(x: &Array, n: usize) -> Array {
    let outer = &x.shape[1..x.shape.len() - 1];
    let weight = |bin: usize| if bin == 0 || 2 * bin == n { 1.0 } else { 2.0 };
    Array::of(&[outer, &[n]].concat(), |i| {
        let (row, t) = (&i[..outer.len()], i[outer.len()]);
        let term = |plane: usize, bin: usize| x.at(&[&[plane], row, &[bin]].concat()) * turn(plane, bin * t % n, n);
        (0..=n / 2).map(|bin| weight(bin) * (term(0, bin) + if weight(bin) == 1.0 { 0.0 } else { term(1, bin) })).sum::<f64>() / n as f64
    })
}

fn rows() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![]),
        Just(vec![1]),
        Just(vec![0]),
        (1..6usize).prop_map(|b| vec![b]),
        (1..4usize, 1..4usize).prop_map(|(b, h)| vec![b, h])
    ]
}

pub fn rfft<B: Backend>(lab: &Lab<B>) {
    cases(32, 21, (rows(), length(), seed()), |(rows, n, seed)| {
        let x = lab.signed(&mut Dice::new(seed), &[rows.as_slice(), &[n]].concat());
        let spectrum = lab.backend.rfft(&lab.put(&x)?)?;
        lab.near("rfft", &spectrum, &transform(&x), lab.tolerance.sums, x.largest())?;
        lab.near("irfft of rfft", &lab.backend.irfft(&spectrum, n)?, &x, lab.tolerance.sums, 0.0)
    });
}

pub fn irfft<B: Backend>(lab: &Lab<B>) {
    cases(32, 22, (rows(), length(), seed()), |(rows, n, seed)| {
        // The real ends get an imaginary part, which is to be ignored.
        let x = lab.signed(&mut Dice::new(seed), &[&[2], rows.as_slice(), &[n / 2 + 1]].concat());
        lab.near("irfft", &lab.backend.irfft(&lab.put(&x)?, n)?, &transform_back(&x, n), lab.tolerance.sums, x.largest() / n as f64)
    });
}

/// A channel mix: parts (B, K_i, L), weight (H, sum K_i), bias (H), and what follows the product.
struct Mix {
    parts: Vec<Array>,
    weight: Array,
    bias: Array,
    activation: Option<Unary>,
    dropout: Option<(f64, Draw)>,
    residual: Option<Array>,
    /// Nobody compares it.
    blind: bool,
}

/// What follows the product: activation, the probability of dropout, whether there is a residual.
type Following = (Option<Unary>, Option<f64>, bool);

fn following() -> impl Strategy<Value = Following> {
    let p = select(vec![None, Some(0.1), Some(0.5)]);
    (select(vec![None, Some(Unary::Gelu), Some(Unary::Tanh)]), p, any::<bool>())
}

impl Mix {
    /// Of parts that are there, with all the rest drawn.
    fn new<B: Backend>(lab: &Lab<B>, dice: &mut Dice, parts: Vec<Array>, d_out: usize, (activation, p, residual): Following) -> Self {
        let d_in = parts.iter().map(|x| x.shape[1]).sum();
        let output = [parts[0].shape[0], d_out, parts[0].shape[2]];
        Mix {
            parts,
            weight: lab.signed(dice, &[d_out, d_in]),
            bias: lab.signed(dice, &[d_out]),
            activation,
            dropout: p.map(|p| (p, any_draw(dice, output[0]))),
            residual: residual.then(|| lab.signed(dice, &output)),
            blind: lab.blind,
        }
    }

    fn shape(&self) -> [usize; 3] {
        [self.parts[0].shape[0], self.bias.shape[0], self.parts[0].shape[2]]
    }

    /// Every product: `f(part, [b, o, t], [b, i, t] in the part, [o, column] in W)`.
    fn each_product(&self, mut f: impl FnMut(usize, [usize; 3], [usize; 3], [usize; 2])) {
        if self.blind {
            return;
        }
        let [batch, d_out, length] = self.shape();
        let mut column = 0;
        for (p, part) in self.parts.iter().enumerate() {
            for (b, i) in (0..batch).flat_map(|b| (0..part.shape[1]).map(move |i| (b, i))) {
                for (o, t) in (0..d_out).flat_map(|o| (0..length).map(move |t| (o, t))) {
                    f(p, [b, o, t], [b, i, t], [o, column + i]);
                }
            }
            column += part.shape[1];
        }
    }

    fn product(&self) -> Array {
        let mut y = Array::of(&self.shape(), |i| self.bias.at(&[i[1]]));
        self.each_product(|p, out, x, w| {
            let at = y.offset(&out);
            y.values[at] += self.weight.at(&w) * self.parts[p].at(&x);
        });
        y
    }

    /// What every (batch, channel) is multiplied with.
    fn mask(&self) -> Array {
        let [batch, d_out, _] = self.shape();
        self.dropout.map_or_else(|| Array::of(&[batch, d_out], |_| 1.0), |(p, draw)| mask(p, draw, &[batch, d_out]))
    }

    /// The activation of y with its derivative.
    fn activate(&self, value: f64) -> Dual {
        let y = Dual { value, slope: 1.0 };
        self.activation.map_or(y, |f| define(f, y))
    }

    fn output(&self) -> Array {
        let (product, mask) = (self.product(), self.mask());
        Array::of(&self.shape(), |i| {
            self.residual.as_ref().map_or(0.0, |r| r.at(i)) + mask.at(&i[..2]) * self.activate(product.at(i)).value
        })
    }

    /// Gradients of the parts, of weight and of bias.
    fn gradients(&self, g: &Array) -> Vec<Array> {
        let (product, mask) = (self.product(), self.mask());
        let g = Array::of(&g.shape, |i| g.at(i) * mask.at(&i[..2]) * self.activate(product.at(i)).slope);
        let mut parts: Vec<_> = self.parts.iter().map(|x| Array::zeros(&x.shape)).collect();
        let (mut weight, mut bias) = (Array::zeros(&self.weight.shape), Array::zeros(&self.bias.shape));
        self.each_product(|p, out, x, w| {
            let (part_at, weight_at) = (parts[p].offset(&x), weight.offset(&w));
            parts[p].values[part_at] += g.at(&out) * self.weight.at(&w);
            weight.values[weight_at] += g.at(&out) * self.parts[p].at(&x);
        });
        indices(&g.shape).for_each(|i| bias.values[i[1]] += g.at(&i));
        parts.into_iter().chain([weight, bias]).collect()
    }

    /// The size that the product's rounding goes with: of the product, or of its terms.
    fn scale(&self) -> f64 {
        self.product().largest().max(self.weight.largest() + self.bias.largest())
    }

    /// On the device, where the parts are already.
    fn put<B: Backend>(&self, lab: &Lab<B>, parts: Vec<Tensor<B>>) -> Result<There<B>, TestCaseError> {
        let residual = self.residual.as_ref().map(|r| lab.put(r)).transpose()?;
        Ok(There { parts, weight: lab.put(&self.weight)?, bias: lab.put(&self.bias)?, residual })
    }

    fn output_is_right<B: Backend>(&self, lab: &Lab<B>, there: &There<B>) -> Verdict {
        let parts: Vec<_> = there.parts.iter().collect();
        let got = lab.backend.mix(there.mixing(self, &parts))?;
        // No slope of these activations is above 1.13.
        let slope = if self.activation.is_some() { 1.13 } else { 1.0 };
        let terms = slope * self.scale() * self.mask().largest() + self.residual.as_ref().map_or(0.0, Array::largest);
        lab.near(&format!("mix with {:?}", self.activation), &got, &self.output(), lab.tolerance.sums, terms)
    }

    fn gradients_are_right<B: Backend>(&self, lab: &Lab<B>, dice: &mut Dice, there: &There<B>) -> Verdict {
        let g = lab.signed(dice, &self.shape());
        let (parts, g_there) = (there.parts.iter().collect::<Vec<_>>(), lab.put(&g)?);
        let mixing = there.mixing(self, &parts);
        let all = lab.backend.mix_grad(mixing, &g_there, &vec![true; parts.len() + 2])?;
        prop_assert_eq!(all.len(), parts.len() + 2, "gradients of mix");
        // A rounding of the product moves the activation's slope, by less than itself; of the identity it moves nothing.
        let sway = if self.activation.is_some() { self.scale() } else { 0.0 };
        let terms = g.largest() * self.mask().largest() * (1.0 + sway);
        for (i, (got, want)) in all.iter().zip(&self.gradients(&g)).enumerate() {
            lab.near(&format!("gradient {i} of mix with {:?}", self.activation), wanted(got)?, want, lab.tolerance.sums, terms)?;
        }
        let needs: Vec<bool> = all.iter().map(|_| dice.flag()).collect();
        lab.only_the_wanted("mix", &needs, &lab.backend.mix_grad(mixing, &g_there, &needs)?, &all)
    }
}

struct There<B: Backend> {
    parts: Vec<Tensor<B>>,
    weight: Tensor<B>,
    bias: Tensor<B>,
    residual: Option<Tensor<B>>,
}

impl<B: Backend> There<B> {
    fn mixing<'a>(&'a self, mix: &Mix, parts: &'a [&'a Tensor<B>]) -> Mixing<'a, B> {
        let (activation, dropout) = (mix.activation, mix.dropout);
        Mixing { parts, weight: &self.weight, bias: &self.bias, activation, dropout, residual: self.residual.as_ref() }
    }
}

fn mixes() -> impl Strategy<Value = Sizes> {
    let shape = (1..11usize, dim(), select(vec![1usize, 2, 5, 16, 33, 67])).prop_map(|(b, h, l)| [b, h, l]);
    let small = (shape, prop::collection::vec(select(vec![1usize, 2, 3, 7, 16]), 1..4));
    // A weight of more than a thousand entries now and then.
    prop_oneof![4 => small, 1 => Just(([9, 67, 5], vec![16, 17]))]
}

/// The same around the sizes in which spikes are packed (16 channels), rows of the product (128) and steps (64, 256) are taken together.
fn mixes_of_spikes() -> impl Strategy<Value = Sizes> {
    let channels = prop::collection::vec(select(vec![1usize, 15, 16, 17, 33]), 1..3);
    let shape = (select(vec![1usize, 2, 3, 18]), select(vec![1usize, 7, 130]), select(vec![1usize, 63, 65, 257, 300]));
    let any = (shape.prop_map(|(b, h, l)| [b, h, l]), channels);
    let small = any.prop_filter("small", |(shape, channels)| shape.iter().product::<usize>() * channels.iter().sum::<usize>() < 600_000);
    prop_oneof![6 => small, 1 => Just(([1, 130, 300], vec![33, 16]))]
}

/// A mix, and the same on the device.
type Both<B> = Result<(Mix, There<B>), TestCaseError>;

/// (B, H, L) and K_i.
type Sizes = ([usize; 3], Vec<usize>);

fn mix_of_numbers<B: Backend>(lab: &Lab<B>, dice: &mut Dice, ([b, h, l], channels): &Sizes, then: Following) -> Both<B> {
    let parts: Vec<_> = channels.iter().map(|&k| lab.signed(dice, &[*b, k, *l])).collect();
    let there = parts.iter().map(|x| lab.put(x)).collect::<Result<_, _>>()?;
    let mix = Mix::new(lab, dice, parts, *h, then);
    let there = mix.put(lab, there)?;
    Ok((mix, there))
}

/// Spikes (B, K, L) of one rate in every batch entry and stretch of time, so that sparse and dense ones lie beside each other.
fn patches<B: Backend>(lab: &Lab<B>, dice: &mut Dice, shape: [usize; 3]) -> Result<(Array, Tensor<B>), TestCaseError> {
    const RATES: [f64; 4] = [0.125, 0.0, 0.625, 1.0];
    let first = dice.below(RATES.len());
    lab.spikes(dice, &Array::of(&shape, |i| RATES[(first + i[0] + i[2] / 256) % RATES.len()]))
}

/// A mix of the backend's own spikes, `joined` by a part of numbers or not.
fn mix_of_patches<B: Backend>(lab: &Lab<B>, dice: &mut Dice, ([b, h, l], channels): &Sizes, then: Following, joined: bool) -> Both<B> {
    let parts: Result<Vec<_>, _> = channels.iter().map(|&k| patches(lab, dice, [*b, k, *l])).collect();
    let (mut here, mut there): (Vec<_>, Vec<_>) = parts?.into_iter().unzip();
    if joined {
        here.push(lab.signed(dice, &[*b, 3, *l]));
        there.push(lab.put(&here[channels.len()])?);
    }
    let mix = Mix::new(lab, dice, here, *h, then);
    let there = mix.put(lab, there)?;
    Ok((mix, there))
}

pub fn mix<B: Backend>(lab: &Lab<B>) {
    cases(32, 23, (mixes(), following(), seed()), |(sizes, then, seed)| {
        let (mix, there) = mix_of_numbers(lab, &mut Dice::new(seed), &sizes, then)?;
        mix.output_is_right(lab, &there)
    });
}

pub fn mix_of_spikes<B: Backend>(lab: &Lab<B>) {
    cases(24, 25, (mixes_of_spikes(), following(), 0..6, seed()), |(sizes, then, joined, seed)| {
        let (mix, there) = mix_of_patches(lab, &mut Dice::new(seed), &sizes, then, joined == 0)?;
        mix.output_is_right(lab, &there)
    });
}

/// Of numbers and of the backend's own spikes, all of them so round that sums have no rounding.
pub fn mix_does_not_depend_on_the_batch<B: Backend>(lab: &Lab<B>) {
    let shapes = (1..4usize, select(vec![1usize, 5, 130]), select(vec![1usize, 7, 65]));
    cases(12, 27, (shapes, any::<bool>(), seed()), |((half, channels, length), spikes, seed)| {
        let mut dice = Dice::new(seed);
        let (shape, draw) = ([2 * half, channels, length], any_draw(&mut dice, 1));
        let x = Array::of(&shape, |_| f64::from(u8::from(dice.flag())));
        let weight = lab.put(&Array::of(&[channels, channels], |_| dice.below(9) as f64 - 4.0))?;
        let bias = lab.put(&Array::of(&[channels], |_| dice.below(9) as f64 - 4.0))?;
        in_any_batch(lab, draw, &x, false, |draw, x| {
            let mut part = lab.put(x)?;
            if spikes {
                let noise = Noise::Given(lab.backend.full(&x.shape, 0.5)?);
                part = lab.backend.spike(&Spike { noise, mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp }, &part, None)?;
            }
            let dropout = Some((0.5, draw));
            let mixing = Mixing { parts: &[&part], weight: &weight, bias: &bias, activation: None, dropout, residual: None };
            lab.get(&lab.backend.mix(mixing)?)
        })
    });
}

/// Silence leaves the bias alone, exactly, whether it is numbers or spikes.
pub fn mix_of_silence<B: Backend>(lab: &Lab<B>) {
    for spikes in [false, true] {
        once(|| {
            let mut dice = Dice::new(1);
            let (silence, there) = lab.spikes(&mut dice, &Array::zeros(&[2, 19, 9]))?;
            let there = if spikes { there } else { lab.put(&silence)? };
            let mix = Mix::new(lab, &mut dice, vec![silence], 5, (None, None, false));
            let there = mix.put(lab, vec![there])?;
            lab.same("mix of silence", &lab.backend.mix(there.mixing(&mix, &[&there.parts[0]]))?, &mix.output())
        });
    }
}

pub fn mix_gradient<B: Backend>(lab: &Lab<B>) {
    cases(32, 24, (mixes(), following(), seed()), |(sizes, then, seed)| {
        let mut dice = Dice::new(seed);
        let (mix, there) = mix_of_numbers(lab, &mut dice, &sizes, then)?;
        mix.gradients_are_right(lab, &mut dice, &there)
    });
}

pub fn mix_gradient_of_spikes<B: Backend>(lab: &Lab<B>) {
    cases(24, 26, (mixes_of_spikes(), following(), 0..6, seed()), |(sizes, then, joined, seed)| {
        let mut dice = Dice::new(seed);
        let (mix, there) = mix_of_patches(lab, &mut dice, &sizes, then, joined == 0)?;
        mix.gradients_are_right(lab, &mut dice, &there)
    });
}
