//! The long convolution by its sum, term by term: each term is a product of an input, a kernel entry and an output's gradient. And the
//! spikes of its output.

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::{Backend, Draw, Firing, FiringDropout, LongConv, Noise, Spike, SpikeMode, Surrogate, Tensor, Unary};

use super::dual::Dual;
use super::elementwise::define;
use super::harness::{Array, Dice, Lab, any_draw, cases, drawn, in_any_batch, indices, length, mask, once, seed, wanted};
use super::spike::{slope, steepness};

/// Operands on the host.
struct Conv {
    input: Array,
    kernel: Array,
    skip: Option<Array>,
    lengths: Option<Vec<usize>>,
}

impl Conv {
    fn new<B: Backend>(lab: &Lab<B>, dice: &mut Dice, shape: [usize; 3], kernels: [usize; 2], has_skip: bool, masked: bool) -> Self {
        let [batch, channels, length] = shape;
        Conv {
            input: lab.signed(dice, &shape),
            kernel: lab.signed(dice, &[kernels[0], channels, kernels[1]]),
            skip: has_skip.then(|| lab.signed(dice, &[channels])),
            lengths: masked.then(|| (0..batch).map(|_| 1 + dice.below(length)).collect()),
        }
    }

    fn true_length(&self, b: usize) -> usize {
        self.lengths.as_ref().map_or(self.input.shape[2], |lengths| lengths[b])
    }

    /// `f(t, c, m, s)` for every term k_c[m] u[s] of y[t] in a row of batch entry `b`: s = t - m (causal) or t + 1 + m (anticausal).
    fn each_term(&self, b: usize, mut f: impl FnMut(usize, usize, usize, usize)) {
        let (length, len) = (self.input.shape[2], self.true_length(b));
        for t in 0..length {
            for m in 0..self.kernel.shape[2] {
                if m <= t && t - m < len {
                    f(t, 0, m, t - m);
                }
                if self.kernel.shape[0] == 2 && t + 1 + m < len {
                    f(t, 1, m, t + 1 + m);
                }
            }
        }
    }

    fn output(&self) -> Array {
        let mut y = Array::zeros(&self.input.shape);
        for row in indices(&self.input.shape[..2]) {
            let (b, h) = (row[0], row[1]);
            self.each_term(b, |t, c, m, s| {
                let at = y.offset(&[b, h, t]);
                y.values[at] += self.kernel.at(&[c, h, m]) * self.input.at(&[b, h, s]);
            });
            for t in 0..self.true_length(b) {
                let at = y.offset(&[b, h, t]);
                y.values[at] += self.skip.as_ref().map_or(0.0, |d| d.at(&[h]) * self.input.at(&[b, h, t]));
            }
        }
        y
    }

    /// Gradients of input, kernel and skip.
    fn gradients(&self, g: &Array) -> [Array; 3] {
        let (mut input, mut kernel) = (Array::zeros(&self.input.shape), Array::zeros(&self.kernel.shape));
        let mut skip = Array::zeros(&self.input.shape[1..2]);
        for row in indices(&self.input.shape[..2]) {
            let (b, h) = (row[0], row[1]);
            self.each_term(b, |t, c, m, s| {
                let (input_at, kernel_at) = (input.offset(&[b, h, s]), kernel.offset(&[c, h, m]));
                input.values[input_at] += g.at(&[b, h, t]) * self.kernel.at(&[c, h, m]);
                kernel.values[kernel_at] += g.at(&[b, h, t]) * self.input.at(&[b, h, s]);
            });
            for t in 0..self.true_length(b) {
                let at = input.offset(&[b, h, t]);
                input.values[at] += self.skip.as_ref().map_or(0.0, |d| d.at(&[h]) * g.at(&[b, h, t]));
                skip.values[h] += g.at(&[b, h, t]) * self.input.at(&[b, h, t]);
            }
        }
        [input, kernel, skip]
    }

    /// With the backend's own spikes as input, in the padding too, on the host and on the device.
    fn of_spikes<B: Backend>(mut self, lab: &Lab<B>, dice: &mut Dice, rate: f64) -> Result<(Self, There<B>), TestCaseError> {
        let (here, input) = lab.spikes(dice, &Array::of(&self.input.shape, |_| rate))?;
        self.input = here;
        let there = There { input, ..self.put(lab)? };
        Ok((self, there))
    }

    /// On the device, with NaN in the padding: what counts as zero must not be looked at.
    fn put<B: Backend>(&self, lab: &Lab<B>) -> Result<There<B>, TestCaseError> {
        let mut input = self.input.clone();
        for i in indices(&input.shape).filter(|i| i[2] >= self.true_length(i[0])) {
            let at = input.offset(&i);
            input.values[at] = f64::NAN;
        }
        let skip = self.skip.as_ref().map(|skip| lab.put(skip)).transpose()?;
        Ok(There { input: lab.put(&input)?, kernel: lab.put(&self.kernel)?, skip, lengths: self.lengths.clone() })
    }
}

struct There<B: Backend> {
    input: Tensor<B>,
    kernel: Tensor<B>,
    skip: Option<Tensor<B>>,
    lengths: Option<Vec<usize>>,
}

impl<B: Backend> There<B> {
    fn operands(&self) -> LongConv<'_, B> {
        LongConv { input: &self.input, kernel: &self.kernel, skip: self.skip.as_ref(), lengths: self.lengths.as_deref() }
    }
}

/// A convolution's sizes and options, and the seed of its values.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// (B, H, L).
    shape: [usize; 3],
    /// (c, Lk).
    kernels: [usize; 2],
    skip: bool,
    /// Whether lengths differ.
    masked: bool,
    /// The rate of the backend's own spikes, if they are the input.
    rate: Option<f64>,
    seed: u64,
}

impl Sizes {
    /// The convolution, and the same on the device.
    fn conv<B: Backend>(&self, lab: &Lab<B>, dice: &mut Dice) -> Result<(Conv, There<B>), TestCaseError> {
        let conv = Conv::new(lab, dice, self.shape, self.kernels, self.skip, self.masked);
        if let Some(rate) = self.rate {
            return conv.of_spikes(lab, dice, rate);
        }
        let there = conv.put(lab)?;
        Ok((conv, there))
    }
}

/// (B, H, L): small; around the sixteen channels and batch entries that a backend may take together; and long, primes among the lengths.
fn shapes() -> impl Strategy<Value = [usize; 3]> {
    let small = (1..5usize, select(vec![1usize, 2, 3, 7]), length()).prop_map(|(b, h, l)| [b, h, l]);
    let wide =
        (select(vec![1usize, 2, 18]), select(vec![15usize, 16, 17, 33]), select(vec![1usize, 2, 13, 31])).prop_map(|(b, h, l)| [b, h, l]);
    let long = (1..3usize, select(vec![251usize, 509, 1021])).prop_map(|(h, l)| [1, h, l]);
    prop_oneof![8 => small, 3 => wide, 2 => long]
}

/// Kernels shorter than L, as long, and longer.
fn convolutions() -> impl Strategy<Value = Sizes> {
    let kernel = |l: usize| select(vec![1, l.div_ceil(2), l.max(2) - 1, l, l + 1, 2 * l + 3]);
    let sized = shapes().prop_flat_map(move |shape| (Just(shape), (1..3usize, kernel(shape[2])).prop_map(|(c, lk)| [c, lk])));
    let rates = select(vec![None, None, Some(0.0), Some(0.125), Some(0.625)]);
    (sized, any::<[bool; 2]>(), rates, seed()).prop_map(|((shape, kernels), [skip, masked], rate, seed)| Sizes {
        shape,
        kernels,
        skip,
        masked,
        rate,
        seed,
    })
}

pub fn long_conv<B: Backend>(lab: &Lab<B>) {
    cases(64, 70, convolutions(), |sizes| {
        let (conv, there) = sizes.conv(lab, &mut Dice::new(sizes.seed))?;
        let got = lab.backend.long_conv(there.operands())?;
        lab.near(&format!("long_conv with lengths {:?}", conv.lengths), &got, &conv.output(), lab.tolerance.sums, conv.kernel.largest())
    });
}

pub fn long_conv_gradient<B: Backend>(lab: &Lab<B>) {
    cases(64, 71, convolutions(), |sizes| {
        let mut dice = Dice::new(sizes.seed);
        let (conv, there) = sizes.conv(lab, &mut dice)?;
        let g = lab.signed(&mut dice, &sizes.shape);
        let g_there = lab.put(&g)?;
        let all = lab.backend.long_conv_grad(there.operands(), &g_there, [true, true, sizes.skip])?;
        for (i, (got, want)) in all.iter().zip(&conv.gradients(&g)).enumerate().filter(|(i, _)| *i < 2 || sizes.skip) {
            let what = format!("gradient {i} of long_conv with lengths {:?}", conv.lengths);
            lab.near(&what, wanted(got)?, want, lab.tolerance.sums, g.largest())?;
        }
        let [input, kernel, of_skip] = dice.flags();
        let needs = [input, kernel, of_skip && sizes.skip];
        lab.only_the_wanted("long_conv", &needs, &lab.backend.long_conv_grad(there.operands(), &g_there, needs)?, &all)
    });
}

/// The surrogate at 0 is open: round-off where nothing came in would decide real gradients.
pub fn silent_channels_are_exactly_zero<B: Backend>(lab: &Lab<B>) {
    cases(16, 72, (1..4usize, 1..6usize, length(), 1..3usize, seed()), |(batch, channels, length, c, seed)| {
        let mut dice = Dice::new(seed);
        let mut conv = Conv::new(lab, &mut dice, [batch, channels, length], [c, length], true, true);
        let silent: Vec<bool> = (0..batch * channels).map(|_| dice.flag()).collect();
        for (row, _) in silent.iter().enumerate().filter(|(_, silent)| **silent) {
            // Silence up to the true length; what is beyond does not count.
            let len = conv.true_length(row / channels);
            conv.input.values[row * length..][..len].fill(0.0);
        }
        let got = lab.get(&lab.backend.long_conv(conv.put(lab)?.operands())?)?;
        for (row, _) in silent.iter().enumerate().filter(|(_, silent)| **silent) {
            prop_assert!(got.values[row * length..][..length].iter().all(|&y| y == 0.0), "row {row} is silent and must come out zero");
        }
        Ok(())
    });
    once(|| {
        let conv = Conv { input: Array::zeros(&[1, 1, 5]), kernel: Array::of(&[1, 1, 5], |_| 1.0), skip: None, lengths: None };
        lab.same("silence", &lab.backend.long_conv(conv.put(lab)?.operands())?, &Array::zeros(&[1, 1, 5]))
    });
}

/// What makes spikes of a convolution's output y: `scale[h] drop(f(drop(y))) + shift[h]` against u.
struct Fire {
    activation: Option<Unary>,
    dropout: Option<FiringDropout>,
    affine: Option<(Array, Array)>,
    /// The uniform numbers, and the draw they come from unless they are given.
    u: Array,
    draw: Option<Draw>,
}

/// What an element of y becomes, with derivatives by y.
struct Point {
    /// What the affine is applied to.
    activation: Dual,
    potential: Dual,
}

/// The activation, then dropout, affine, given noise.
type Options = (Option<Unary>, [bool; 3]);

fn options() -> impl Strategy<Value = Options> {
    (select(vec![None, Some(Unary::Gelu), Some(Unary::Gelu), Some(Unary::Tanh)]), any::<[bool; 3]>())
}

impl Fire {
    fn new<B: Backend>(lab: &Lab<B>, dice: &mut Dice, shape: &[usize], (activation, [drops, affine, given]): Options) -> Self {
        let draw = any_draw(dice, shape[0]);
        let of = |index| Draw { key: draw.key.fold(index), ..draw };
        let dropout = FiringDropout { p: [0.1, 0.5][dice.below(2)], elements: of(1), channels: of(2) };
        // Scaled so that many potentials lie between 0 and 1, where the surrogates are open.
        let [scale, shift] = [(-0.5, 0.5), (0.0, 1.0)].map(|(low, high)| lab.array(dice, &shape[1..2], low, high));
        Fire {
            activation,
            dropout: drops.then_some(dropout),
            affine: affine.then_some((scale, shift)),
            u: if given { lab.array(dice, shape, 0.0, 1.0) } else { drawn(draw, shape) },
            draw: (!given).then_some(draw),
        }
    }

    /// Every element's two dropout factors, that of the element and that of its channel.
    fn masks(&self) -> [Array; 2] {
        let shape = &self.u.shape;
        let Some(dropout) = self.dropout else { return [(); 2].map(|()| Array::of(&shape[..2], |_| 1.0)).map(|a| spread(&a, shape)) };
        [mask(dropout.p, dropout.elements, shape), spread(&mask(dropout.p, dropout.channels, &shape[..2]), shape)]
    }

    /// What y becomes, element after element.
    fn points(&self, y: &Array) -> Vec<Point> {
        let [elements, channels] = self.masks();
        let point = |(at, i): (usize, Vec<usize>)| {
            let dropped = Dual { value: y.values[at], slope: 1.0 } * elements.values[at];
            let active = self.activation.map_or(dropped, |f| define(f, dropped));
            let activation = active * channels.values[at];
            let affine = self.affine.as_ref().map(|(scale, shift)| activation * scale.at(&i[1..2]) + shift.at(&i[1..2]));
            Point { activation, potential: affine.unwrap_or(activation) }
        };
        indices(&y.shape).enumerate().map(point).collect()
    }

    /// How steep potentials can be in y: no slope of GELU is above 1.13, none of tanh above 1.
    fn steepest(&self) -> f64 {
        let scale = self.affine.as_ref().map_or(1.0, |(scale, _)| scale.largest());
        self.masks().iter().map(Array::largest).product::<f64>() * scale * if self.activation == Some(Unary::Gelu) { 1.13 } else { 1.0 }
    }

    /// The size that the rounding of potentials goes with.
    fn scale(&self, conv: &Conv, y: &Array) -> f64 {
        self.steepest() * y.largest().max(conv.kernel.largest()) + self.affine.as_ref().map_or(0.0, |(_, shift)| shift.largest())
    }

    fn put<B: Backend>(&self, lab: &Lab<B>, mode: SpikeMode, surrogate: Surrogate) -> Result<Fires<B>, TestCaseError> {
        let affine = self.affine.as_ref().map(|(scale, shift)| Ok::<_, TestCaseError>((lab.put(scale)?, lab.put(shift)?)));
        let noise = self.draw.map_or_else(|| lab.put(&self.u).map(Noise::Given), |draw| Ok(Noise::Stream(draw)))?;
        let spike = Spike { noise, mode, surrogate };
        Ok(Fires { activation: self.activation, dropout: self.dropout, affine: affine.transpose()?, spike })
    }
}

/// A factor for every (batch, channel) as one for every element.
fn spread(factors: &Array, shape: &[usize]) -> Array {
    Array::of(shape, |i| factors.at(&i[..2]))
}

/// A [`Fire`] on the device.
struct Fires<B: Backend> {
    activation: Option<Unary>,
    dropout: Option<FiringDropout>,
    affine: Option<(Tensor<B>, Tensor<B>)>,
    spike: Spike<Tensor<B>>,
}

impl<B: Backend> Fires<B> {
    fn firing(&self) -> Firing<&Tensor<B>> {
        let affine = self.affine.as_ref().map(|(scale, shift)| (scale, shift));
        Firing { activation: self.activation, dropout: self.dropout, affine, spike: self.spike.as_ref() }
    }
}

impl Sizes {
    /// A convolution whose y is of the size of one, and what makes spikes of it.
    fn firing<B: Backend>(&self, lab: &Lab<B>, dice: &mut Dice, options: Options) -> Result<(Conv, There<B>, Fire), TestCaseError> {
        let (mut conv, there) = self.conv(lab, dice)?;
        let root = (self.kernels[1].min(self.shape[2]) as f64).sqrt();
        conv.kernel.values.iter_mut().for_each(|k| *k /= root);
        conv.kernel = lab.hold(conv.kernel);
        let there = There { kernel: lab.put(&conv.kernel)?, ..there };
        Ok((conv, there, Fire::new(lab, dice, &self.shape, options)))
    }
}

pub fn fire<B: Backend>(lab: &Lab<B>) {
    cases(64, 73, (convolutions(), options()), |(sizes, options)| {
        let (conv, there, fire) = sizes.firing(lab, &mut Dice::new(sizes.seed), options)?;
        let fires = fire.put(lab, SpikeMode::Sampled, Surrogate::Clamp)?;
        let spikes = lab.backend.fire(there.operands(), fires.firing())?;
        let got = lab.get(&spikes)?;
        prop_assert_eq!(&got.shape, &conv.input.shape, "the shape of fire");
        lab.counted(&spikes)?;
        let y = conv.output();
        let close = lab.tolerance.sums * fire.scale(&conv, &y);
        prop_assert!(close < 1e-3, "{close} would leave too many spikes open");
        for (i, (point, (got, u))) in fire.points(&y).iter().zip(got.values.iter().zip(&fire.u.values)).enumerate() {
            let (y, silent) = (point.potential.value, 1.0 - got);
            let right = f64::from(y > *u);
            // Where y is as close to u as its rounding, either answer is right.
            let open = (y - u).abs() <= close && silent == right;
            prop_assert!(lab.blind || *got == right || open, "spike {i} is {got}, with potential {y} and u {u}");
        }
        Ok(())
    });
}

pub fn fire_does_not_depend_on_the_batch<B: Backend>(lab: &Lab<B>) {
    let shapes = (1..4usize, select(vec![1usize, 5, 17]), select(vec![1usize, 7, 33, 130]));
    cases(12, 76, (shapes, any::<bool>(), seed()), |((half, channels, length), drops, seed)| {
        let mut dice = Dice::new(seed);
        let (shape, draw) = ([2 * half, channels, length], any_draw(&mut dice, 1));
        let of = |draw: Draw, index| Draw { key: draw.key.fold(index), ..draw };
        // y is u itself, and far from the number that decides its spike: no rounding does.
        let beside = |u: f64| if dice.flag() { u + 0.1 } else { u - 0.1 };
        let mut x = drawn(draw, &shape);
        x.values = x.values.into_iter().map(beside).collect();
        let skip = lab.backend.full(&[channels], if drops { 0.25 } else { 1.0 })?;
        in_any_batch(lab, draw, &x, false, |draw, x| {
            // Dropout of a half makes it four times as large, or nothing.
            let dropout = drops.then(|| FiringDropout { p: 0.5, elements: of(draw, 1), channels: of(draw, 2) });
            let spike = Spike { noise: Noise::Stream(draw), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp };
            let (input, kernel) = (lab.put(x)?, lab.backend.full(&[1, channels, x.shape[2]], 0.0)?);
            let conv = LongConv { input: &input, kernel: &kernel, skip: Some(&skip), lengths: None };
            let firing = Firing { activation: None, dropout, affine: None, spike: spike.as_ref() };
            lab.get(&lab.backend.fire(conv, firing)?)
        })
    });
}

pub fn expected_fire<B: Backend>(lab: &Lab<B>) {
    cases(32, 74, (convolutions(), options()), |(sizes, options)| {
        let (conv, there, fire) = sizes.firing(lab, &mut Dice::new(sizes.seed), options)?;
        let fires = fire.put(lab, SpikeMode::Expected, Surrogate::Atan { alpha: 2.0 })?;
        let y = conv.output();
        let want = Array::new(&y.shape, fire.points(&y).iter().map(|p| p.potential.value.clamp(0.0, 1.0)).collect());
        let got = lab.backend.fire(there.operands(), fires.firing())?;
        lab.near("expected spikes", &got, &want, lab.tolerance.sums, fire.scale(&conv, &y))
    });
}

impl Fire {
    /// The gradients of input, kernel, skip, scale and shift for the potentials' gradient `g`.
    fn gradients(&self, conv: &Conv, points: &[Point], g: &Array) -> Vec<Array> {
        let of_y = g.values.iter().zip(points).map(|(g, point)| g * point.potential.slope);
        let mut grads = conv.gradients(&Array::new(&g.shape, of_y.collect())).to_vec();
        let mut affine = [(); 2].map(|()| Array::zeros(&g.shape[1..2]));
        for ((i, g), point) in indices(&g.shape).zip(&g.values).zip(points) {
            affine[0].values[i[1]] += g * point.activation.value;
            affine[1].values[i[1]] += g;
        }
        grads.extend(affine);
        grads
    }
}

pub fn fire_gradient<B: Backend>(lab: &Lab<B>) {
    let modes = (select(vec![SpikeMode::Sampled, SpikeMode::Sampled, SpikeMode::Expected]), select(Surrogate::ALL.to_vec()));
    cases(64, 75, (convolutions(), options(), modes), |(sizes, options, (mode, surrogate))| {
        let mut dice = Dice::new(sizes.seed);
        let (conv, there, fire) = sizes.firing(lab, &mut dice, options)?;
        let fires = fire.put(lab, mode, surrogate)?;
        let (y, mut g) = (conv.output(), lab.signed(&mut dice, &sizes.shape));
        // The expectation clamp(y, 0, 1) has its own derivative.
        let surrogate = if mode == SpikeMode::Expected { Surrogate::Clamp } else { surrogate };
        let (points, scale) = (fire.points(&y), fire.scale(&conv, &y));
        if surrogate == Surrogate::Clamp {
            close_the_ends(&mut g, &points, lab.tolerance.sums * scale);
        }
        let slopes = points.iter().zip(&fire.u.values).map(|(point, u)| slope(surrogate, point.potential.value, *u));
        let of_potentials = Array::new(&g.shape, slopes.zip(&g.values).map(|(slope, g)| slope * g).collect());
        let needs = [true, true, sizes.skip, fire.affine.is_some(), fire.affine.is_some()];
        let g_there = lab.put(&g)?;
        let all = lab.backend.fire_grad(there.operands(), fires.firing(), &g_there, needs)?;
        // The rounding of a potential moves the surrogate by its steepness, and GELU's slope by about itself.
        let terms = g.largest() * fire.steepest().max(1.0) * (1.0 + steepness(surrogate) * scale);
        let want = fire.gradients(&conv, &points, &of_potentials);
        for (i, (got, want)) in all.iter().zip(&want).enumerate().filter(|(i, _)| needs[*i]) {
            lab.near(&format!("gradient {i} of fire, {mode:?} {surrogate:?}"), wanted(got)?, want, lab.tolerance.sums, terms)?;
        }
        let flags: [bool; 5] = dice.flags();
        let needs: [bool; 5] = std::array::from_fn(|i| needs[i] && flags[i]);
        lab.only_the_wanted("fire", &needs, &lab.backend.fire_grad(there.operands(), fires.firing(), &g_there, needs)?, &all)?;
        // Of a gradient that is given away, by itself or while somebody else holds it.
        let before = lab.get(&g_there)?;
        for given in [lab.put(&before)?, g_there.clone()] {
            let over = lab.backend.fire_grad_over(there.operands(), fires.firing(), given, needs)?;
            lab.only_the_wanted("fire, over its gradient", &needs, &over, &all)?;
        }
        lab.same("the gradient that was kept", &g_there, &before)
    });
}

/// No gradient where a potential is as `close` to an end of the clamp as its rounding: there, either slope is right.
fn close_the_ends(g: &mut Array, points: &[Point], close: f64) {
    for (g, point) in g.values.iter_mut().zip(points) {
        let y = point.potential.value;
        if y.abs() <= close || (y - 1.0).abs() <= close {
            *g = 0.0;
        }
    }
}

/// The clamp's end at 0 is open, and silence gets there exactly: its gradient is the whole of g, halved by GELU.
pub fn fire_gradient_of_silence<B: Backend>(lab: &Lab<B>) {
    for (f, mode) in [(None, SpikeMode::Sampled), (Some(Unary::Gelu), SpikeMode::Sampled), (Some(Unary::Gelu), SpikeMode::Expected)] {
        once(|| {
            let mut dice = Dice::new(2);
            let shape = [2, 17, 67];
            let conv = Conv { input: Array::zeros(&shape), ..Conv::new(lab, &mut dice, shape, [2, 67], true, false) };
            let (g, there) = (lab.signed(&mut dice, &shape), conv.put(lab)?);
            let fire = Fire::new(lab, &mut dice, &shape, (f, [false; 3]));
            let fires = fire.put(lab, mode, Surrogate::Clamp)?;
            let got = lab.backend.fire_grad(there.operands(), fires.firing(), &lab.put(&g)?, [true, false, false, false, false])?;
            let want = fire.gradients(&conv, &fire.points(&conv.output()), &g);
            lab.near("the gradient of silence", wanted(&got[0])?, &want[0], lab.tolerance.sums, g.largest())
        });
    }
}
