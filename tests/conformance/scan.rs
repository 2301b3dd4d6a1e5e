//! The linear scan as the loop that defines it, in dual numbers, so that the same loop is the truth for its gradients.

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::{Backend, LinearScan, Tensor};

use super::dual::{Complex, Dual, constants, evaluate, gradient};
use super::harness::{Array, Dice, Lab, Verdict, cases, indices, narrowed, once, seed};

/// A scan's operands: a, b and, where there is one, the initial state; all without their planes in `shape`.
#[derive(Clone, Debug)]
struct Case {
    /// The axes of the state.
    batch: Vec<usize>,
    length: usize,
    /// a's own axes, time among them.
    a: Vec<usize>,
    complex: bool,
    reverse: bool,
    operands: Vec<Array>,
}

impl Case {
    fn new<B: Backend>(lab: &Lab<B>, (batch, length, complex, reverse, seed): (Vec<usize>, usize, bool, bool, u64)) -> Self {
        let mut dice = Dice::new(seed);
        let steps = [&batch[..], &[length]].concat();
        let a = if dice.flag() { steps.clone() } else { narrowed(&mut dice, &steps) };
        let planar = |shape: &[usize]| if complex { [&[2], shape].concat() } else { shape.to_vec() };
        let mut operands = vec![lab.array(&mut dice, &planar(&a), -0.9, 0.9), lab.signed(&mut dice, &planar(&steps))];
        if dice.flag() {
            operands.push(lab.signed(&mut dice, &planar(&batch)));
        }
        Case { batch, length, a, complex, reverse, operands }
    }

    fn shape(&self) -> &[usize] {
        &self.operands[1].shape
    }

    fn inputs(&self) -> Vec<&Array> {
        self.operands.iter().collect()
    }

    /// Every state, step after step.
    fn states(&self, inputs: &[Vec<Dual>]) -> Vec<Dual> {
        let value = |i: usize, at: usize| {
            let im = if self.complex { inputs[i][inputs[i].len() / 2 + at] } else { Dual::default() };
            Complex { re: inputs[i][at], im }
        };
        // Where a's coefficients stand, by broadcasting.
        let places = Array::zeros(&self.a);
        let rows: Vec<Vec<usize>> = indices(&self.batch).collect();
        let mut states = vec![Complex::default(); rows.len() * self.length];
        for (row, index) in rows.iter().enumerate() {
            let mut h = if inputs.len() > 2 { value(2, row) } else { Complex::default() };
            for step in 0..self.length {
                let t = if self.reverse { self.length - 1 - step } else { step };
                let a = value(0, places.offset(&[&index[..], &[t]].concat()));
                h = a * h + value(1, row * self.length + t);
                states[row * self.length + t] = h;
            }
        }
        let planes = if self.complex { 2 } else { 1 };
        (0..planes).flat_map(|plane| states.iter().map(move |h| if plane == 0 { h.re } else { h.im })).collect()
    }

    fn put<B: Backend>(&self, lab: &Lab<B>) -> Result<Vec<Tensor<B>>, TestCaseError> {
        self.operands.iter().map(|x| lab.put(x)).collect()
    }

    fn of<'a, B: Backend>(&self, there: &'a [Tensor<B>]) -> LinearScan<'a, B> {
        LinearScan { a: &there[0], b: &there[1], initial: there.get(2), complex: self.complex, reverse: self.reverse }
    }
}

/// Single rows, groups of rows and their neighbours, with axes over which a can be the same; one step to several chunks.
fn scans(longest: usize) -> impl Strategy<Value = (Vec<usize>, usize, bool, bool, u64)> {
    let batch = select(vec![vec![], vec![1usize], vec![3], vec![16], vec![17], vec![2, 3], vec![3, 16], vec![2, 1, 9]]);
    let length = select(vec![1usize, 2, 5, 16, 64, 67, 130]).prop_filter("short", move |&length| length <= longest);
    (batch, length, any::<bool>(), any::<bool>(), seed())
}

pub fn scan<B: Backend>(lab: &Lab<B>) {
    cases(48, 100, scans(130), |case| {
        let case = Case::new(lab, case);
        let there = case.put(lab)?;
        let want = evaluate(&case.inputs(), case.shape(), |inputs| case.states(inputs));
        lab.near(
            &format!("the states of {:?} by {:?}", case.shape(), case.a),
            &lab.backend.scan(case.of(&there))?,
            &want,
            lab.tolerance.sums,
            1.0,
        )
    });
}

fn gradients_are<B: Backend>(lab: &Lab<B>, case: &Case, g: &Array, want: &[Array]) -> Verdict {
    let (there, g) = (case.put(lab)?, lab.put(g)?);
    let h = lab.backend.scan(case.of(&there))?;
    let grads = |needs| lab.backend.scan_grad(case.of(&there), &h, &g, needs);
    let all = grads([true; 3])?;
    prop_assert_eq!(all[2].is_some(), case.operands.len() > 2);
    for (i, want) in want.iter().enumerate() {
        let got = all[i].as_ref().ok_or_else(|| TestCaseError::fail("a gradient is missing"))?;
        lab.near(&format!("gradient {i} of {:?} by {:?}", case.shape(), case.a), got, want, lab.tolerance.sums, 1.0)?;
    }
    let there = |needs: [bool; 3]| [needs[0], needs[1], needs[2] && case.operands.len() > 2];
    for needs in [[true, false, false], [false, true, false], [false, false, true]] {
        lab.only_the_wanted("scan", &there(needs), &grads(needs)?, &all)?;
    }
    Ok(())
}

pub fn scan_gradient<B: Backend>(lab: &Lab<B>) {
    cases(24, 101, scans(16), |case| {
        let case = Case::new(lab, case);
        let g = lab.signed(&mut Dice::new(1), case.shape());
        gradients_are(lab, &case, &g, &gradient(&case.inputs(), &g, |inputs| case.states(inputs)))
    });
}

/// Sequences of several chunks, where dual numbers would take too long: each gradient is the sum over all later states that its number
/// reaches.
pub fn scan_gradient_of_long_sequences<B: Backend>(lab: &Lab<B>) {
    cases(8, 102, (select(vec![1usize, 3, 17]), select(vec![64usize, 67, 130]), any::<bool>(), seed()), |(rows, length, reverse, seed)| {
        let mut dice = Dice::new(seed);
        let shape = [rows, length];
        let operands = vec![lab.array(&mut dice, &shape, -0.9, 0.9), lab.signed(&mut dice, &shape), lab.signed(&mut dice, &[rows])];
        let case = Case { batch: vec![rows], length, a: shape.into(), complex: false, reverse, operands };
        let g = lab.signed(&mut dice, &shape);
        let h: Vec<f64> = case.states(&case.inputs().iter().map(|x| constants(x)).collect::<Vec<_>>()).iter().map(|h| h.value).collect();
        let mut want = [Array::zeros(&shape), Array::zeros(&shape), Array::zeros(&[rows])];
        for row in 0..rows {
            let at = |step: usize| row * length + if reverse { length - 1 - step } else { step };
            for s in 0..length {
                let mut reach = 1.0;
                let mut sum = 0.0;
                for t in s..length {
                    sum += g.values[at(t)] * reach;
                    reach *= if t + 1 < length { case.operands[0].values[at(t + 1)] } else { 0.0 };
                }
                let before = if s == 0 { case.operands[2].values[row] } else { h[at(s - 1)] };
                want[1].values[at(s)] = sum;
                want[0].values[at(s)] = sum * before;
                if s == 0 {
                    want[2].values[row] = sum * case.operands[0].values[at(0)];
                }
            }
        }
        gradients_are(lab, &case, &g, &want)
    });
}

/// An infinite or missing number reaches the states after it, and none before.
pub fn scan_keeps_what_is_not_finite_in_its_place<B: Backend>(lab: &Lab<B>) {
    once(|| {
        let b = Array::new(&[2, 4], vec![1.0, f64::NAN, 1.0, 1.0, 1.0, 1.0, f64::INFINITY, 1.0]);
        let (a, b) = (lab.put(&Array::new(&[], vec![0.5]))?, lab.put(&b)?);
        let h = lab.backend.scan(LinearScan { a: &a, b: &b, initial: None, complex: false, reverse: false })?;
        let nan = f64::NAN;
        lab.near(
            "the states",
            &h,
            &Array::new(&[2, 4], vec![1.0, nan, nan, nan, 1.0, 1.5, f64::INFINITY, f64::INFINITY]),
            lab.tolerance.sums,
            1.0,
        )
    });
}
