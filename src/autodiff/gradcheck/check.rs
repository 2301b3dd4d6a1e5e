//! `Check`: the single checks that a function's gradient goes through, on one set of inputs.

use super::probe::{Probe, Role, dot, magnitude};
use super::{Generate, Report};
use crate::autodiff::{Array, Tape, Var};
use crate::backend::{Backend, shape};
use crate::error::{Error, Result};

/// What central differences must agree to, relative to the magnitudes that are summed: the stencil's own error stays below it.
const DIFFERENCES: f64 = 1e-8;
/// Gradients by two routes that differ in the order of their roundings.
const COMPOSITION: f64 = 1e-10;
/// Both sides of the adjoint identity.
const ADJOINT: f64 = 1e-11;
/// The same computation asked for in two ways.
const SAME: f64 = 1e-12;
/// Steps of the stencil, in the order in which they are tried: a sharply curved function needs a small one, a nearly cancelling sum a
/// large one. A wrong gradient agrees with none of them.
const STEPS: [f64; 3] = [1e-3, 1e-4, 1e-2];
/// Up to this many elements every coordinate is checked by itself.
const COORDINATES: usize = 40;
/// Random directions over all inputs, for more elements.
const DIRECTIONS: usize = 8;
/// Draws whose mean is held against the expected output.
const DRAWS: usize = 1000;
/// The mean of n draws from [0, 1] strays so far that n KL(mean, expected) > 32 with a probability below 2 e^-32 = 3e-14 (Hoeffding 1963).
const SURPRISE: f64 = 32.0;
/// Standard errors by which the sum over all elements may stray in the mean of the draws.
const STANDARD_ERRORS: f64 = 8.0;

/// A function, its inputs, and what the tape says of its gradient.
pub(super) struct Check<'a, B: Backend> {
    probe: &'a Probe<'a, B>,
    inputs: &'a [Array],
    random: Generate,
    output: Array,
    cotangent: Array,
    gradients: Vec<Vec<f64>>,
    report: Report,
}

impl<'a, B: Backend> Check<'a, B> {
    /// Runs the function forwards, twice, and backwards from a random gradient of its output.
    pub fn start(probe: &'a Probe<'a, B>, inputs: &'a [Array], mut random: Generate) -> Result<Self> {
        let output = probe.output(inputs)?;
        if let Some(bad) = output.values.iter().position(|v| !v.is_finite()) {
            return Err(probe.fail(format!("element {bad} of the output is {}: check it where it is finite", output.values[bad])));
        }
        same_bits(probe, "a second run", &output, &probe.output(inputs)?)?;
        let cotangent = random.normal(&output.shape);
        let found = probe.gradients(inputs, &cotangent, |_| Role::Leaf)?;
        let zeros = |i: usize| vec![0.0; inputs[i].values.len()];
        let gradients: Vec<_> = found.into_iter().enumerate().map(|(i, gradient)| gradient.unwrap_or_else(|| zeros(i))).collect();
        for (i, gradient) in gradients.iter().enumerate() {
            if let Some(bad) = gradient.iter().position(|v| !v.is_finite()) {
                return Err(probe.fail(format!("element {bad} of the gradient of input {i} is {}", gradient[bad])));
            }
        }
        let report = Report { cases: 1, ..Report::default() };
        Ok(Check { probe, inputs, random, output, cotangent, gradients, report })
    }

    pub fn finish(self) -> Report {
        self.report
    }

    /// For every input, whether any element of its gradient is not zero.
    pub fn live(&self) -> impl Iterator<Item = bool> {
        self.gradients.iter().map(|gradient| gradient.iter().any(|v| *v != 0.0))
    }

    /// Notes that nothing vouches for the gradient's values.
    pub fn unverified(&mut self, reason: &'static str) {
        self.report.unverified.push(reason);
    }

    /// The gradient is that of `truth`, by central differences.
    pub fn differences(&mut self, truth: &Probe<B>) -> Result<()> {
        let output = truth.output(self.inputs)?;
        shape::exactly("gradcheck", "the oracle's output", &self.output.shape, &output.shape)?;
        // Where the derivative vanishes, the output's rounding error divided by the step must not count.
        let floor = 1e-3 * magnitude(&self.cotangent.values, &output.values);
        for (what, direction) in self.directions() {
            let claimed: f64 = self.gradients.iter().zip(&direction).map(|(g, d)| dot(g, d)).sum();
            let scale = floor + self.gradients.iter().zip(&direction).map(|(g, d)| magnitude(g, d)).sum::<f64>();
            let (mut error, mut nearest) = (f64::INFINITY, f64::NAN);
            for step in STEPS {
                let measured = truth.derivative(self.inputs, &direction, &self.cotangent, step)?;
                let this = if measured == claimed { 0.0 } else { (measured - claimed).abs() / scale };
                if this < error || nearest.is_nan() {
                    (error, nearest) = (this, measured);
                }
                if error <= DIFFERENCES {
                    break;
                }
            }
            self.count(1, error);
            if error.is_nan() || error > DIFFERENCES {
                let help = format!("along {what} the tape says {claimed:e}, central differences say {nearest:e}");
                return Err(self.probe.fail(help));
            }
        }
        Ok(())
    }

    /// A gradient that was recorded is that of a run backwards.
    pub fn same_gradient(&mut self, recorded: &[f64], backward: &[f64]) -> Result<()> {
        self.agree("the gradients as recorded and as run backwards", recorded, backward, largest(backward), COMPOSITION)
    }

    /// Every coordinate of few inputs; random directions, over all inputs and within each, of many.
    fn directions(&mut self) -> Vec<(String, Vec<Vec<f64>>)> {
        let zeros: Vec<Vec<f64>> = self.inputs.iter().map(|x| vec![0.0; x.values.len()]).collect();
        let mut directions = Vec::new();
        if zeros.iter().map(Vec::len).sum::<usize>() <= COORDINATES {
            for i in 0..zeros.len() {
                for j in 0..zeros[i].len() {
                    let mut direction = zeros.clone();
                    direction[i][j] = 1.0;
                    directions.push((format!("element {j} of input {i}"), direction));
                }
            }
            return directions;
        }
        for _ in 0..DIRECTIONS {
            let direction = self.inputs.iter().map(|x| self.random.normal(&x.shape).values).collect();
            directions.push(("a random direction".into(), unit(direction)));
        }
        for i in 0..zeros.len() {
            let mut direction = zeros.clone();
            direction[i] = self.random.normal(&self.inputs[i].shape).values;
            directions.push((format!("a random direction of input {i}"), unit(direction)));
        }
        directions
    }

    /// The adjoint identity for every input: <g, f(.., x, ..) - f(.., 0, ..)> = <gradient, x> for new x.
    pub fn adjoint(&mut self) -> Result<()> {
        for i in 0..self.inputs.len() {
            let mut inputs = self.inputs.to_vec();
            inputs[i].values.fill(0.0);
            let origin = self.probe.output(&inputs)?;
            for _ in 0..2 {
                inputs[i] = self.random.normal(&self.inputs[i].shape);
                let output = self.probe.output(&inputs)?;
                let (g, x) = (&self.cotangent.values, &inputs[i].values);
                let difference: Vec<f64> = output.values.iter().zip(&origin.values).map(|(y, y0)| y - y0).collect();
                let (left, right) = (dot(g, &difference), dot(&self.gradients[i], x));
                let scale = magnitude(g, &output.values) + magnitude(g, &origin.values) + magnitude(&self.gradients[i], x);
                self.agree(&format!("<gradient, x> and <g, f(x)> for input {i}"), &[right], &[left], scale, ADJOINT)?;
            }
        }
        Ok(())
    }

    /// Output and gradient are those of `truth`, off the tape too.
    pub fn composition(&mut self, truth: &Probe<B>) -> Result<()> {
        let output = truth.output(self.inputs)?;
        shape::exactly("gradcheck", "the composition's output", &self.output.shape, &output.shape)?;
        self.agree("the output and the composition's", &self.output.values.clone(), &output.values, largest(&output.values), COMPOSITION)?;
        let gradients = truth.full_gradients(self.inputs, &self.cotangent)?;
        for (i, gradient) in gradients.iter().enumerate() {
            let what = format!("the gradient of input {i} and the composition's");
            self.agree(&what, &self.gradients[i].clone(), gradient, largest(gradient), COMPOSITION)?;
        }
        Ok(())
    }

    /// The mean over redraws is `expected`'s output, in every element and in their sum; both lie in [0, 1].
    pub fn mean(&mut self, expected: &Probe<B>, redraw: impl Fn(u64) -> Result<Array>) -> Result<()> {
        let expected = expected.output(self.inputs)?;
        shape::exactly("gradcheck", "the expected output", &self.output.shape, &expected.shape)?;
        let (mut sums, mut excesses) = (vec![0.0; expected.values.len()], Vec::with_capacity(DRAWS));
        for _ in 0..DRAWS {
            let draw = redraw(self.random.seed())?;
            shape::exactly("gradcheck", "a redrawn output", &expected.shape, &draw.shape)?;
            if let Some(value) = draw.values.iter().find(|v| !(0.0..=1.0).contains(*v)) {
                return Err(self.probe.fail(format!("an expectation is checked of outputs in [0, 1], but {value} was drawn")));
            }
            sums.iter_mut().zip(&draw.values).for_each(|(sum, value)| *sum += value);
            excesses.push(draw.values.iter().zip(&expected.values).map(|(v, e)| v - e).sum());
        }
        for (j, (sum, expected)) in sums.iter().zip(&expected.values).enumerate() {
            let mean = sum / DRAWS as f64;
            let surprise = DRAWS as f64 * divergence(mean, *expected);
            if surprise.is_nan() || surprise > SURPRISE {
                return Err(self
                    .probe
                    .fail(format!("element {j} is {mean} in the mean over {DRAWS} draws, and {expected} in expectation")));
            }
        }
        self.report.comparisons += sums.len() + 1;
        self.unbiased(&excesses)
    }

    /// Numbers that are zero in expectation are so in the mean, up to their standard error and, for rare large ones, their range
    /// (after Bernstein's inequality).
    fn unbiased(&self, excesses: &[f64]) -> Result<()> {
        let count = excesses.len() as f64;
        let mean = excesses.iter().sum::<f64>() / count;
        let variance = excesses.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        let allowed = STANDARD_ERRORS * (variance / count).sqrt() + SURPRISE / 3.0 * largest(excesses).max(1.0) / count;
        if mean.is_nan() || mean.abs() > allowed {
            return Err(self.probe.fail(format!("the sum of all elements is {mean} above its expectation in the mean over {DRAWS} draws")));
        }
        Ok(())
    }

    /// The gradients of some inputs do not change when the others become constants.
    pub fn subsets(&mut self) -> Result<()> {
        for leaves in subsets(self.inputs.len()) {
            let role = |i| if leaves >> i & 1 == 1 { Role::Leaf } else { Role::Constant };
            let gradients = self.probe.gradients(self.inputs, &self.cotangent, role)?;
            for (i, gradient) in gradients.iter().enumerate().filter(|(i, _)| leaves >> i & 1 == 1) {
                let others = format!("with {} of {} inputs as variables", leaves.count_ones(), self.inputs.len());
                let Some(gradient) = gradient else {
                    return Err(self.probe.fail(format!("input {i} got no gradient {others}")));
                };
                let full = self.gradients[i].clone();
                self.agree(&format!("the gradients of input {i} {others} and with all"), gradient, &full, largest(&full), SAME)?;
            }
        }
        Ok(())
    }

    /// Run twice on the same variables, and once more on others, the gradients add up: nothing saved is shared between runs.
    pub fn used_twice(&mut self) -> Result<()> {
        let shape = self.output.shape.clone();
        let cotangents = [self.cotangent.clone(), self.random.normal(&shape), self.random.normal(&shape)];
        // Nearby values are in the op's domain, but far enough to tell stale state by. If not, the third run repeats the first.
        let nearby: Vec<Array> = self.inputs.iter().map(|x| super::probe::moved(x, &x.values, 1e-3)).collect();
        let (others, want_others) = match self.probe.full_gradients(&nearby, &cotangents[2]) {
            Ok(gradients) => (nearby, gradients),
            Err(_) => (self.inputs.to_vec(), self.probe.full_gradients(self.inputs, &cotangents[2])?),
        };
        let second = self.probe.full_gradients(self.inputs, &cotangents[1])?;

        let tape = Tape::new(self.probe.backend);
        let (vars, first_output) = self.probe.run(&tape, self.inputs, |_| Role::Leaf)?;
        let second_output = self.probe.rerun(&tape, &vars)?;
        let (other_vars, other_output) = self.probe.run(&tape, &others, |_| Role::Leaf)?;
        let mut loss = self.paired(&first_output, &cotangents[0])?;
        loss = loss.add(&self.paired(&second_output, &cotangents[1])?)?;
        loss = loss.add(&self.paired(&other_output, &cotangents[2])?)?;
        let gradients = loss.backward()?;
        for i in 0..self.inputs.len() {
            let missing = |_| self.probe.fail(format!("input {i} got no gradient from two runs"));
            let twice = self.probe.array(gradients.of(&vars[i]).map_err(missing)?)?.values;
            let other = self.probe.array(gradients.of(&other_vars[i]).map_err(missing)?)?.values;
            let (sum, scale) = sum(&self.gradients[i], &second[i]);
            self.agree(&format!("the gradient of input {i} from two runs and the sum of each"), &twice, &sum, scale, SAME)?;
            let scale = largest(&want_others[i]);
            self.agree(&format!("the gradient of input {i} beside other runs and alone"), &other, &want_others[i], scale, SAME)?;
        }
        Ok(())
    }

    /// <cotangent, output>, on the tape.
    fn paired(&self, output: &Var<B>, cotangent: &Array) -> Result<Var<B>> {
        output.mul(&output.tape().constant(&self.probe.tensor(cotangent)?))?.sum()
    }

    /// One variable in two places gets the sum of both gradients, for any two inputs of equal shape.
    pub fn one_variable_in_two_places(&mut self) -> Result<()> {
        let inputs = self.inputs;
        let pairs = (0..inputs.len()).flat_map(|j| (0..j).map(move |i| (i, j))).filter(|(i, j)| inputs[*i].shape == inputs[*j].shape);
        for (i, j) in pairs.take(6) {
            // The values of one input may lie outside of the domain of the other: then the other's are taken.
            for source in [i, j] {
                let mut joint = inputs.to_vec();
                (joint[i], joint[j]) = (inputs[source].clone(), inputs[source].clone());
                let Ok(separate) = self.probe.full_gradients(&joint, &self.cotangent) else { continue };
                if !separate.iter().flatten().all(|v| v.is_finite()) {
                    continue;
                }
                let role = |k| if k == j { Role::SameAs(i) } else { Role::Leaf };
                let found = self.probe.gradients(&joint, &self.cotangent, role)?;
                let (want, scale) = sum(&separate[i], &separate[j]);
                let got = found[i].as_deref().unwrap_or_default();
                self.agree(&format!("the gradient of one variable as inputs {i} and {j}, and the sum of both"), got, &want, scale, SAME)?;
                break;
            }
        }
        Ok(())
    }

    /// The output has the same bits whether or not anything is recorded, and constants record nothing.
    pub fn recording(&mut self) -> Result<()> {
        let runs = [
            ("with recording off", Tape::off(self.probe.backend), Role::Leaf, false),
            ("on constants", Tape::new(self.probe.backend), Role::Constant, false),
            ("on variables", Tape::new(self.probe.backend), Role::Leaf, true),
        ];
        for (what, tape, role, records) in runs {
            let (_, output) = self.probe.run(&tape, self.inputs, |_| role)?;
            same_bits(self.probe, &format!("a run {what}"), &self.output, &self.probe.array(output.value())?)?;
            if output.needs_gradient() != records || tape.is_empty() == records {
                return Err(self.probe.fail(format!("{what}, {} nodes were recorded", tape.len())));
            }
            self.report.comparisons += 1;
        }
        Ok(())
    }

    fn count(&mut self, comparisons: usize, error: f64) {
        self.report.comparisons += comparisons;
        self.report.largest_error = self.report.largest_error.max(error);
    }

    /// `got` and `want` agree to `tolerance` relative to `scale`.
    fn agree(&mut self, what: &str, got: &[f64], want: &[f64], scale: f64, tolerance: f64) -> Result<()> {
        shape::exactly("gradcheck", what, &[want.len()], &[got.len()])?;
        for (j, (got, want)) in got.iter().zip(want).enumerate() {
            let error = if got == want { 0.0 } else { (got - want).abs() / scale };
            if error.is_nan() || error > tolerance {
                return Err(self.probe.fail(format!("{what} differ at element {j}: {got:e} and {want:e}")));
            }
            self.count(1, error);
        }
        Ok(())
    }
}

fn same_bits<B: Backend>(probe: &Probe<B>, what: &str, first: &Array, second: &Array) -> Result<()> {
    shape::exactly("gradcheck", "the output of a second run", &first.shape, &second.shape)?;
    match first.values.iter().zip(&second.values).position(|(a, b)| a.to_bits() != b.to_bits()) {
        None => Ok(()),
        Some(j) => Err::<(), Error>(
            probe.fail(format!("element {j} of the output is {:e}, and {:e} in {what}", first.values[j], second.values[j])),
        ),
    }
}

/// The direction at length one.
fn unit(mut direction: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let length = direction.iter().map(|d| dot(d, d)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    direction.iter_mut().flatten().for_each(|d| *d /= length);
    direction
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, v| largest.max(v.abs()))
}

/// a + b, and the magnitude that its rounding is relative to.
fn sum(a: &[f64], b: &[f64]) -> (Vec<f64>, f64) {
    (a.iter().zip(b).map(|(a, b)| a + b).collect(), largest(a) + largest(b))
}

/// The non-empty proper subsets of `n` inputs, as bits; of many inputs only each one alone, and all but each one.
fn subsets(n: usize) -> Vec<u64> {
    if n <= 6 {
        return (1..(1u64 << n).saturating_sub(1)).collect();
    }
    let all = u64::MAX >> (64 - n.min(64));
    (0..n.min(64)).flat_map(|i| [1 << i, all & !(1 << i)]).collect()
}

/// The divergence KL(q, p) of two coins.
fn divergence(q: f64, p: f64) -> f64 {
    let term = |q: f64, p: f64| if q == 0.0 { 0.0 } else { q * (q / p).ln() };
    term(q, p) + term(1.0 - q, 1.0 - p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_proper_and_not_empty() {
        assert_eq!(subsets(1), [0; 0]);
        assert_eq!(subsets(2), [1, 2]);
        assert_eq!(subsets(3).len(), 6);
        assert_eq!(subsets(64).len(), 128);
    }

    #[test]
    fn the_divergence_of_a_coin_is_zero_from_itself_alone() {
        assert_eq!((divergence(0.0, 0.0), divergence(1.0, 1.0), divergence(0.25, 0.25)), (0.0, 0.0, 0.0));
        assert!(divergence(0.1, 0.0).is_infinite() && divergence(0.1, 0.2) > 0.0);
    }
}
