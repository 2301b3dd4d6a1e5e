//! SSM kernels as dense recurrences over the whole state, both halves of every conjugate pair; gradients by dual numbers through all of it.

use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::backend::*;

use super::dual::{Complex, Dual, evaluate, gradient_with_size};
use super::harness::{Array, Dice, Lab, Verdict, cases, seed};

/// H, S, M, R and c.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    d_model: usize,
    n_ssm: usize,
    half: usize,
    rank: usize,
    kernels: usize,
}

/// The stored parameters: inv_dt, a_real, a_imag, b, c and, above rank 0, p.
#[derive(Clone, Debug)]
struct Stored {
    sizes: Sizes,
    dt: DtTransform,
    params: Vec<Array>,
}

const NAMES: [&str; 6] = ["inv_dt", "a_real", "a_imag", "b", "c", "p"];

impl Stored {
    /// Slow and fast modes, from over- to underdamped, and steps with which a kernel of length `len` decays.
    fn new<B: Backend>(lab: &Lab<B>, dice: &mut Dice, sizes: Sizes, dt: DtTransform, len: usize) -> Self {
        let Sizes { d_model, n_ssm, half, rank, kernels } = sizes;
        let slowest = (3.0 / len as f64).clamp(0.01, 0.5);
        let inv = |dt_value: f64| if dt == DtTransform::Exp { dt_value.ln() } else { dt_value.exp_m1().ln() };
        let mut params = vec![
            lab.hold(Array::of(&[d_model], |_| inv(dice.between(slowest, 1.5 * slowest)))),
            lab.array(dice, &[n_ssm, half], -0.7, 0.3),
            lab.array(dice, &[n_ssm, half], 0.1, 4.0 * half as f64),
            lab.signed(dice, &[2, n_ssm, half]),
            lab.signed(dice, &[2, kernels, d_model, half]),
        ];
        if rank > 0 {
            params.push(lab.signed(dice, &[2, rank, n_ssm, half]));
        }
        Stored { sizes, dt, params }
    }

    fn put<B: Backend>(&self, lab: &Lab<B>) -> Result<SsmParams<Tensor<B>>, TestCaseError> {
        Ok(SsmParams {
            inv_dt: lab.put(&self.params[0])?,
            a_real: lab.put(&self.params[1])?,
            a_imag: lab.put(&self.params[2])?,
            b: lab.put(&self.params[3])?,
            c: lab.put(&self.params[4])?,
            p: self.params.get(5).map(|p| lab.put(p)).transpose()?,
            dt: self.dt,
        })
    }

    fn inputs(&self) -> Vec<&Array> {
        self.params.iter().collect()
    }

    /// The gradients are those of the definition `f`.
    fn gradients_are<B: Backend>(
        &self,
        lab: &Lab<B>,
        got: &SsmParams<Tensor<B>>,
        g: &Array,
        f: impl Fn(&[Vec<Dual>]) -> Vec<Dual>,
    ) -> Verdict {
        let kernel = evaluate(&self.inputs(), &g.shape, &f).largest();
        prop_assert_eq!(got.dt, self.dt);
        prop_assert_eq!(got.p.is_some(), self.sizes.rank > 0);
        let mut got = got.as_ref().in_order();
        for (i, (want, size)) in gradient_with_size(&self.inputs(), g, &f).iter().enumerate() {
            // A gradient can vanish where its terms do not: where they cancel in the sum over time, or, as dt's for len = 1, within the
            // kernel. There a change of a parameter by its own size (of dt and Re A: of their logarithms by 1) changes the kernel by about
            // its size: that is the size of a term.
            let terms = size.max(g.largest() * kernel / if i < 2 { 1.0 } else { self.params[i].largest() });
            let got = got.next().ok_or_else(|| TestCaseError::fail("the gradient of p is missing"))?;
            lab.near(&format!("the gradient of {} for {:?}", NAMES[i], self.sizes), got, want, lab.tolerance.kernels, terms)?;
        }
        Ok(())
    }

    /// Channel `h` out of the stored parameters.
    fn channel(&self, inputs: &[Vec<Dual>], h: usize) -> Channel {
        let Sizes { d_model, n_ssm, half, rank, kernels } = self.sizes;
        let s = h % n_ssm;
        let complex = |i: usize, at: usize| Complex { re: inputs[i][at], im: inputs[i][inputs[i].len() / 2 + at] };
        let row = |i: usize, row: usize| (0..half).map(|n| complex(i, row * half + n)).collect::<Vec<_>>();
        let a = |n: usize| Complex { re: -inputs[1][s * half + n].exp(), im: -inputs[2][s * half + n] };
        Channel {
            dt: if self.dt == DtTransform::Exp { inputs[0][h].exp() } else { inputs[0][h].softplus() },
            a: (0..half).map(a).collect(),
            b: row(3, s),
            c: (0..kernels).map(|c| row(4, c * d_model + h)).collect(),
            p: (0..rank).map(|r| row(5, r * n_ssm + s)).collect(),
        }
    }

    /// (c, H, take) from each channel's kernels (c, take).
    fn by_kernel(&self, inputs: &[Vec<Dual>], kernels_of: impl Fn(Channel) -> Vec<Vec<Dual>>) -> Vec<Dual> {
        let channels: Vec<_> = (0..self.sizes.d_model).map(|h| kernels_of(self.channel(inputs, h))).collect();
        (0..self.sizes.kernels).flat_map(|c| channels.iter().flat_map(move |kernels| kernels[c].iter().copied())).collect()
    }
}

/// One channel's stored half of its system.
struct Channel {
    dt: Dual,
    a: Vec<Complex>,
    b: Vec<Complex>,
    c: Vec<Vec<Complex>>,
    p: Vec<Vec<Complex>>,
}

/// Both halves of the conjugate pairs.
fn whole(half: &[Complex]) -> Vec<Complex> {
    half.iter().copied().chain(half.iter().map(|z| z.conj())).collect()
}

fn dot(x: &[Complex], y: &[Complex]) -> Complex {
    x.iter().zip(y).map(|(&x, &y)| x * y).sum()
}

/// A square matrix of rows.
#[derive(Clone)]
struct Matrix(Vec<Vec<Complex>>);

impl Matrix {
    fn of(size: usize, f: impl Fn(usize, usize) -> Complex) -> Self {
        Matrix((0..size).map(|i| (0..size).map(|j| f(i, j)).collect()).collect())
    }

    fn identity(size: usize) -> Self {
        Matrix::of(size, |i, j| f64::from(i == j).into())
    }

    fn size(&self) -> usize {
        self.0.len()
    }

    fn transposed(&self) -> Self {
        Matrix::of(self.size(), |i, j| self.0[j][i])
    }

    fn plus(&self, other: &Matrix, scale: Dual) -> Self {
        Matrix::of(self.size(), |i, j| self.0[i][j] + other.0[i][j].scale(scale))
    }

    fn apply(&self, x: &[Complex]) -> Vec<Complex> {
        self.0.iter().map(|row| dot(row, x)).collect()
    }

    fn times(&self, other: &Matrix) -> Self {
        let columns = other.transposed();
        Matrix(self.0.iter().map(|row| columns.apply(row)).collect())
    }

    fn power(&self, exponent: usize) -> Self {
        match exponent {
            0 => Matrix::identity(self.size()),
            odd if odd % 2 == 1 => self.power(odd - 1).times(self),
            even => {
                let root = self.power(even / 2);
                root.times(&root)
            }
        }
    }

    /// Solves self x = right, by elimination with pivoting.
    fn solve(&self, right: &[Complex]) -> Vec<Complex> {
        let n = self.size();
        let mut rows: Vec<Vec<Complex>> = self.0.iter().zip(right).map(|(row, &r)| row.iter().copied().chain([r]).collect()).collect();
        for k in 0..n {
            let size = |row: &Vec<Complex>| row[k].square_norm().value;
            let pivot = (k..n).max_by(|&i, &j| size(&rows[i]).total_cmp(&size(&rows[j]))).unwrap_or(k);
            rows.swap(k, pivot);
            let scale = rows[k][k].recip();
            rows[k].iter_mut().for_each(|z| *z = *z * scale);
            let top = rows[k].clone();
            for row in rows.iter_mut().skip(k + 1) {
                let factor = row[k];
                row.iter_mut().zip(&top).for_each(|(z, &t)| *z = *z - factor * t);
            }
        }
        let mut x = vec![Complex::default(); n];
        for k in (0..n).rev() {
            x[k] = rows[k][n] - dot(&rows[k][k + 1..n], &x[k + 1..]);
        }
        x
    }
}

impl Channel {
    /// Abar = (I - dt/2 A)^-1 (I + dt/2 A) and Bbar = (I - dt/2 A)^-1 dt B with A = diag(a) - sum p p*.
    fn bilinear(&self) -> (Matrix, Vec<Complex>) {
        let (a, p) = (whole(&self.a), self.p.iter().map(|p| whole(p)).collect::<Vec<_>>());
        let outer = |i: usize, j: usize| p.iter().map(|p| p[i] * p[j].conj()).sum::<Complex>();
        let dense = Matrix::of(a.len(), |i, j| if i == j { a[i] } else { Complex::default() } - outer(i, j));
        let (one, half) = (Matrix::identity(a.len()), self.dt * 0.5);
        let (left, right) = (one.plus(&dense, -half), one.plus(&dense, half));
        let columns = right.transposed().0.iter().map(|column| left.solve(column)).collect();
        let b: Vec<Complex> = whole(&self.b).iter().map(|b| b.scale(self.dt)).collect();
        (Matrix(columns).transposed(), left.solve(&b))
    }

    /// K[l] = C Abar^l Bbar, l below `take`, with the C for which C (I - Abar^len) is what is stored.
    fn dplr(&self, len: usize, take: usize) -> Vec<Vec<Dual>> {
        let (abar, bbar) = self.bilinear();
        let gap = Matrix::identity(bbar.len()).plus(&abar.power(len), (-1.0).into()).transposed();
        let plain: Vec<_> = self.c.iter().map(|c| gap.solve(&whole(c))).collect();
        let states = std::iter::successors(Some(bbar), |x| Some(abar.apply(x)));
        let states: Vec<_> = states.take(take).collect();
        plain.iter().map(|c| states.iter().map(|x| dot(c, x).re).collect()).collect()
    }

    /// K[l] = 2 Re sum_n C_n B_n b_n abar_n^l, one power after another.
    fn diagonal(&self, disc: Discretization, len: usize) -> Vec<Vec<Dual>> {
        let one = Complex::from(1.0);
        let discrete = |a: Complex| match disc {
            Discretization::Zoh => (a.scale(self.dt).exp(), (a.scale(self.dt).exp() - one) * a.recip()),
            Discretization::Bilinear => {
                let (half, inverse) = (a.scale(self.dt * 0.5), (one - a.scale(self.dt * 0.5)).recip());
                ((one + half) * inverse, inverse.scale(self.dt))
            }
        };
        let modes: Vec<_> = self.a.iter().map(|&a| discrete(a)).collect();
        let first: Vec<Complex> = modes.iter().zip(&self.b).map(|(&(_, input), &b)| b * input).collect();
        let states = std::iter::successors(Some(first), |x| Some(x.iter().zip(&modes).map(|(&x, &(abar, _))| x * abar).collect()));
        let states: Vec<_> = states.take(len).collect();
        self.c.iter().map(|c| states.iter().map(|x| dot(c, x).re * 2.0).collect()).collect()
    }
}

fn sizes(rank: impl Strategy<Value = usize>, half: Vec<usize>) -> impl Strategy<Value = (Sizes, DtTransform)> {
    // H and one of its divisors.
    let models = select(vec![(1usize, 1usize), (2, 1), (2, 2), (3, 1), (4, 2), (3, 3)]);
    (models, select(half), rank, 1..3usize, select(DtTransform::ALL.to_vec()))
        .prop_map(|((d_model, n_ssm), half, rank, kernels, dt)| (Sizes { d_model, n_ssm, half, rank, kernels }, dt))
}

fn lens() -> impl Strategy<Value = usize> {
    select(vec![1usize, 2, 3, 5, 8, 16, 31, 33, 64, 67, 100, 257, 300])
}

pub fn dplr<B: Backend>(lab: &Lab<B>) {
    cases(48, 90, (sizes(1..3usize, vec![1, 2, 3, 5]), lens(), seed()), |((sizes, dt), len, seed)| {
        let mut dice = Dice::new(seed);
        let stored = Stored::new(lab, &mut dice, sizes, dt, len);
        for take in [len, 1 + dice.below(len)] {
            let shape = [sizes.kernels, sizes.d_model, take];
            let want = evaluate(&stored.inputs(), &shape, |inputs| stored.by_kernel(inputs, |channel| channel.dplr(len, take)));
            let got = lab.backend.dplr_kernel(&stored.put(lab)?, len, take)?;
            lab.near(&format!("{take} of the DPLR kernel of length {len}, {sizes:?}"), &got, &want, lab.tolerance.kernels, 0.0)?;
        }
        Ok(())
    });
}

pub fn dplr_of_a_large_system<B: Backend>(lab: &Lab<B>) {
    for (rank, len) in [(1, 784), (2, 1000)] {
        super::harness::once(|| {
            let sizes = Sizes { d_model: 2, n_ssm: 1, half: 32, rank, kernels: 2 };
            let stored = Stored::new(lab, &mut Dice::new(5), sizes, DtTransform::Softplus, len);
            let want = evaluate(&stored.inputs(), &[2, 2, len], |inputs| stored.by_kernel(inputs, |channel| channel.dplr(len, len)));
            lab.near("the DPLR kernel", &lab.backend.dplr_kernel(&stored.put(lab)?, len, len)?, &want, lab.tolerance.kernels, 0.0)
        });
    }
}

pub fn dplr_gradient<B: Backend>(lab: &Lab<B>) {
    cases(32, 91, (sizes(1..3usize, vec![1, 2, 3]), lens(), seed()), |((sizes, dt), len, seed)| {
        let mut dice = Dice::new(seed);
        let stored = Stored::new(lab, &mut dice, sizes, dt, len);
        let take = if dice.flag() { len } else { 1 + dice.below(len) };
        let g = lab.signed(&mut dice, &[sizes.kernels, sizes.d_model, take]);
        let got = lab.backend.dplr_kernel_grad(&stored.put(lab)?, len, &lab.put(&g)?)?;
        stored.gradients_are(lab, &got, &g, |inputs| stored.by_kernel(inputs, |channel| channel.dplr(len, take)))
    });
}

pub fn dplr_advance<B: Backend>(lab: &Lab<B>) {
    let steps = select(vec![0usize, 1, 2, 7, 64, 100, 1000]);
    cases(32, 92, (sizes(1..3usize, vec![1, 2, 5, 9]), steps, seed()), |((sizes, dt), steps, seed)| {
        let stored = Stored::new(lab, &mut Dice::new(seed), sizes, dt, steps.max(1));
        let advance = |channel: Channel| {
            let abar = channel.bilinear().0.transposed();
            let advanced = |c: &Vec<Complex>| (0..steps).fold(whole(c), |row, _| abar.apply(&row));
            channel.c.iter().map(|c| advanced(c)[..sizes.half].to_vec()).collect::<Vec<_>>()
        };
        let planes = |inputs: &[Vec<Dual>]| {
            let rows: Vec<_> = (0..sizes.d_model).map(|h| advance(stored.channel(inputs, h))).collect();
            let flat: Vec<Complex> = (0..sizes.kernels).flat_map(|c| rows.iter().flat_map(move |row| row[c].iter().copied())).collect();
            flat.iter().map(|z| z.re).chain(flat.iter().map(|z| z.im)).collect()
        };
        let want = evaluate(&stored.inputs(), &stored.params[4].shape, planes);
        lab.near(
            &format!("C Abar^{steps}, {sizes:?}"),
            &pspikessm::internal::dplr_advance(&lab.backend, &stored.put(lab)?, steps)?,
            &want,
            lab.tolerance.kernels,
            0.0,
        )
    });
}

fn discretizations() -> impl Strategy<Value = Discretization> {
    select(Discretization::ALL.to_vec())
}

pub fn diagonal<B: Backend>(lab: &Lab<B>) {
    cases(48, 93, (sizes(Just(0), vec![1, 2, 5, 17, 32]), discretizations(), lens(), seed()), |((sizes, dt), disc, len, seed)| {
        let stored = Stored::new(lab, &mut Dice::new(seed), sizes, dt, len);
        let shape = [sizes.kernels, sizes.d_model, len];
        let want = evaluate(&stored.inputs(), &shape, |inputs| stored.by_kernel(inputs, |channel| channel.diagonal(disc, len)));
        let got = lab.backend.diag_kernel(&stored.put(lab)?, disc, len)?;
        lab.near(&format!("the {disc:?} kernel of length {len}, {sizes:?}"), &got, &want, lab.tolerance.kernels, 0.0)
    });
}

pub fn diagonal_gradient<B: Backend>(lab: &Lab<B>) {
    cases(32, 94, (sizes(Just(0), vec![1, 2, 5, 9]), discretizations(), lens(), seed()), |((sizes, dt), disc, len, seed)| {
        let mut dice = Dice::new(seed);
        let stored = Stored::new(lab, &mut dice, sizes, dt, len);
        let g = lab.signed(&mut dice, &[sizes.kernels, sizes.d_model, len]);
        let got = lab.backend.diag_kernel_grad(&stored.put(lab)?, disc, &lab.put(&g)?)?;
        stored.gradients_are(lab, &got, &g, |inputs| stored.by_kernel(inputs, |channel| channel.diagonal(disc, len)))
    });
}
