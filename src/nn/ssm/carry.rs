//! What an SSM carries from one piece of a sequence to the next, on the tape, so that gradients go through it.
//!
//! A piece of L steps is still a convolution. What the state before it adds to its outputs, and the state behind it, are products with the
//! first L powers of Abar, as real matrices over (Re x, Im x): O(H N^2 L) operations and O(H N L) memory, whatever the batch.

use super::{Ssm, SsmInit};
use crate::autodiff::Var;
use crate::autodiff::ops::diag::diag_kernel;
use crate::backend::{Backend, Discretization, DtTransform, Real, SsmParams, shape};
use crate::error::{Error, Result};
use crate::nn::Context;

/// Whom messages name.
const OP: &str = "Ssm::forward_from";

/// Complex values.
struct Complex<B: Backend> {
    re: Var<B>,
    im: Var<B>,
}

impl<B: Backend> Complex<B> {
    /// Of planar values (2, ..), the planes in `shape`.
    fn planar(planes: &Var<B>, shape: &[usize]) -> Result<Self> {
        let plane = |i: usize| planes.slice(0, i, 1)?.reshape(shape);
        Ok(Complex { re: plane(0)?, im: plane(1)? })
    }

    fn map(&self, f: impl Fn(&Var<B>) -> Result<Var<B>>) -> Result<Self> {
        Ok(Complex { re: f(&self.re)?, im: f(&self.im)? })
    }

    fn conj(&self) -> Result<Self> {
        Ok(Complex { re: self.re.clone(), im: self.im.neg()? })
    }

    fn times(&self, other: &Self) -> Result<Self> {
        let re = self.re.mul(&other.re)?.sub(&self.im.mul(&other.im)?)?;
        Ok(Complex { re, im: self.re.mul(&other.im)?.add(&self.im.mul(&other.re)?)? })
    }

    fn plus(&self, other: &Self) -> Result<Self> {
        Ok(Complex { re: self.re.add(&other.re)?, im: self.im.add(&other.im)? })
    }

    fn recip(&self) -> Result<Self> {
        let norm = self.re.square()?.add(&self.im.square()?)?;
        Ok(Complex { re: self.re.div(&norm)?, im: self.im.neg()?.div(&norm)? })
    }

    /// (H, M) to the real columns (H, N, 1).
    fn column(&self) -> Result<Var<B>> {
        let both = Var::concat(&[&self.re, &self.im], 1)?;
        both.reshape(&[both.shape()[0], both.shape()[1], 1])
    }

    /// (H, M) to the real rows (H, 1, N) whose product with a column is the real part of the product.
    fn row(&self) -> Result<Var<B>> {
        let both = Var::concat(&[&self.re, &self.im.neg()?], 1)?;
        both.reshape(&[both.shape()[0], 1, both.shape()[1]])
    }

    /// (H, M) to the real matrices (H, N, N) of a multiplication.
    fn matrix(&self) -> Result<Var<B>> {
        let (h, m) = (self.re.shape()[0], self.re.shape()[1]);
        let tape = self.re.tape();
        let ones = (0..m * m).map(|i| B::Elem::of(f64::from(u8::from(i % (m + 1) == 0)))).collect();
        let unit = tape.constant(&tape.backend().from_vec(ones, &[1, m, m])?);
        let diagonal = |x: &Var<B>| x.reshape(&[h, m, 1])?.mul(&unit);
        let (re, im) = (diagonal(&self.re)?, diagonal(&self.im)?);
        let (above, below) = (Var::concat(&[&re, &im.neg()?], 2)?, Var::concat(&[&im, &re], 2)?);
        Var::concat(&[&above, &below], 1)
    }
}

/// The discrete system of every channel over (Re x, Im x): x' = a x + b u, y = c x'.
struct Discrete<B: Backend> {
    /// (H, N, N).
    a: Var<B>,
    /// (H, N, 1).
    b: Var<B>,
    /// (H, 1, N).
    c: Var<B>,
}

/// Rows (S, M) of the systems as those of the channels, (H, M).
fn of_channels<B: Backend>(x: &Var<B>, d_model: usize) -> Result<Var<B>> {
    let (s, m) = (x.shape()[0], x.shape()[1]);
    if s == d_model { Ok(x.clone()) } else { x.reshape(&[1, s, m])?.expand(&[d_model / s, s, m])?.reshape(&[d_model, m]) }
}

impl<B: Backend> Discrete<B> {
    fn new(params: &SsmParams<Var<B>>, init: SsmInit, l_kernel: usize) -> Result<Self> {
        let (h, [s, m]) = (params.inv_dt.shape()[0], [0, 1].map(|axis| params.a_real.shape()[axis]));
        let b = Complex::planar(&params.b, &[s, m])?.map(|x| of_channels(x, h))?;
        let c = Complex::planar(&params.c, &[h, m])?.map(|x| x.scale(2.0))?.row()?;
        match init {
            SsmInit::Diag(_, disc) => {
                let (abar, input) = diagonal_step(params, disc, h)?;
                Ok(Discrete { a: abar.matrix()?, b: b.times(&input)?.column()?, c })
            }
            SsmInit::Dplr(_) => {
                let (a, dt) = dplr_step(params, h)?;
                let b = b.column()?;
                // Bbar = dt/2 (Abar + I) B.
                let b = a.matmul(&b)?.add(&b)?.mul(&dt.scale(0.5)?.reshape(&[h, 1, 1])?)?;
                Ok(Discrete { c: plain_c(&a, c, l_kernel)?, a, b })
            }
        }
    }

    /// From inputs (B, H, L) and the state before them, (B, H, N), to what the state adds to the outputs, (B, H, L), and the state behind.
    fn pass(&self, u: &Var<B>, state: Option<&Var<B>>) -> Result<(Option<Var<B>>, Var<B>)> {
        let length = u.shape()[2];
        let before = state.map(|state| state.permute(&[1, 2, 0])).transpose()?;
        let mut behind = before.clone();
        // a^(2^i), and the columns a^k b and the rows c a^(k+1) for all k below 2^i.
        let (mut power, mut columns, mut rows) = (self.a.clone(), self.b.clone(), self.c.matmul(&self.a)?);
        for i in 0..=length.ilog2() {
            if length >> i & 1 == 1 {
                behind = behind.map(|x| power.matmul(&x)).transpose()?;
            }
            if length > 1 << i {
                columns = Var::concat(&[&columns, &power.matmul(&columns)?], 2)?;
                rows = Var::concat(&[&rows, &rows.matmul(&power)?], 1)?;
            }
            if length >> (i + 1) > 0 {
                power = power.matmul(&power)?;
            }
        }
        let entered = columns.slice(2, 0, length)?.matmul(&u.flip(2)?.permute(&[1, 2, 0])?)?;
        let after = behind.map_or_else(|| Ok(entered.clone()), |x| entered.add(&x))?;
        let heard = before.map(|x| rows.slice(1, 0, length)?.matmul(&x)?.permute(&[2, 0, 1])).transpose()?;
        Ok((heard, after.permute(&[2, 0, 1])?))
    }
}

/// dt of every channel, (H, 1).
fn step_sizes<B: Backend>(params: &SsmParams<Var<B>>, d_model: usize) -> Result<Var<B>> {
    let dt = match params.dt {
        DtTransform::Softplus => params.inv_dt.softplus()?,
        DtTransform::Exp => params.inv_dt.exp()?,
    };
    dt.reshape(&[d_model, 1])
}

/// abar and bbar / B of diagonal systems, (H, M). They are the entries of kernels of a single mode: every rule for them stands in one place.
fn diagonal_step<B: Backend>(params: &SsmParams<Var<B>>, disc: Discretization, d_model: usize) -> Result<(Complex<B>, Complex<B>)> {
    let m = params.a_real.shape()[1];
    let (modes, tape) = (d_model * m, params.inv_dt.tape());
    let constant = |planes: [f64; 2], kernels: &[usize]| {
        let values = planes.into_iter().flat_map(|value| std::iter::repeat_n(B::Elem::of(value), modes)).collect();
        Ok(tape.constant(&tape.backend().from_vec(values, &[&[2], kernels, &[modes, 1]].concat())?))
    };
    let own = |x: &Var<B>| of_channels(x, d_model)?.reshape(&[modes, 1]);
    let inv_dt = params.inv_dt.reshape(&[d_model, 1])?.expand(&[d_model, m])?.reshape(&[modes])?;
    let (a_real, a_imag, b) = (own(&params.a_real)?, own(&params.a_imag)?, constant([1.0, 0.0], &[])?);
    // 2 Re(g / 2) is the real part of an entry g, 2 Re(-i g / 2) the imaginary one.
    let entries = |c: [f64; 2]| {
        let c = constant(c, &[1])?;
        let kernel = SsmParams { inv_dt: &inv_dt, a_real: &a_real, a_imag: &a_imag, b: &b, c: &c, p: None, dt: params.dt };
        let kernel = diag_kernel(kernel, disc, 2)?;
        let entry = |l: usize| kernel.slice(2, l, 1)?.reshape(&[d_model, m]);
        Result::<[Var<B>; 2]>::Ok([entry(0)?, entry(1)?])
    };
    let ([re, next_re], [im, next_im]) = (entries([0.5, 0.0])?, entries([0.0, -0.5])?);
    let (input, next) = (Complex { re, im }, Complex { re: next_re, im: next_im });
    Ok((next.times(&input.recip()?)?, input))
}

/// Abar, (H, N, N), of diagonal-plus-low-rank systems as `backend::ssm::recurrence` says it, and dt, (H, 1).
fn dplr_step<B: Backend>(params: &SsmParams<Var<B>>, d_model: usize) -> Result<(Var<B>, Var<B>)> {
    let Some(p) = &params.p else { return Err(Error::value(OP, "P is missing from a system of low rank")) };
    let (rank, s, m) = (p.shape()[1], p.shape()[2], p.shape()[3]);
    let dt = step_sizes(params, d_model)?;
    let lambda = Complex { re: params.a_real.exp()?.neg()?, im: params.a_imag.neg()? }.map(|x| of_channels(x, d_model))?;
    let z = lambda.map(|x| x.mul(&dt)?.scale(0.5))?;
    let d = Complex { re: z.re.linear_map(-1.0, 1.0)?, im: z.im.neg()? }.recip()?;
    let row = |j: usize| Complex::planar(&p.slice(1, j, 1)?, &[s, m])?.map(|x| of_channels(x, d_model));
    let p = (0..rank).map(row).collect::<Result<Vec<_>>>()?;
    let dp = p.iter().map(|p| d.times(p)).collect::<Result<Vec<_>>>()?;
    // I + dt/2 P* d P over the whole state, (H, 1) each.
    let gram = |j: usize, k: usize| p[j].conj()?.times(&dp[k])?.re.sum_keep(&[1])?.mul(&dt)?.linear_map(1.0, f64::from(u8::from(j == k)));
    let entries = (0..rank * rank).map(|i| gram(i / rank, i % rank)).collect::<Result<Vec<_>>>()?;
    let w = match entries.as_slice() {
        [only] => vec![only.recip()?],
        [a, b, c, d] => {
            let r = a.mul(d)?.sub(&b.mul(c)?)?.recip()?;
            vec![d.mul(&r)?, b.neg()?.mul(&r)?, c.neg()?.mul(&r)?, a.mul(&r)?]
        }
        _ => return Err(Error::value(OP, format!("P has rank {rank}: 1 and 2 are known"))),
    };
    let mut a = Complex { re: d.re.linear_map(2.0, -1.0)?, im: d.im.scale(2.0)? }.matrix()?;
    for (j, p) in p.iter().enumerate() {
        let mut u = dp[0].map(|x| x.mul(&w[j]))?;
        for k in 1..rank {
            u = u.plus(&dp[k].map(|x| x.mul(&w[k * rank + j]))?)?;
        }
        let q = p.conj()?.times(&d)?.map(|x| x.mul(&dt))?;
        a = a.sub(&u.map(|x| x.scale(2.0))?.column()?.matmul(&q.row()?)?)?;
    }
    Ok((a, dt))
}

/// C = C~ (I - X)^-1 with X = Abar^Lk, as C~ (I + X) (I + X^2) (I + X^4) .. up to a power that is nothing.
fn plain_c<B: Backend>(a: &Var<B>, mut c: Var<B>, l_kernel: usize) -> Result<Var<B>> {
    if l_kernel == 0 {
        return Ok(c);
    }
    let (mut x, mut square): (Option<Var<B>>, _) = (None, a.clone());
    for i in 0..=l_kernel.ilog2() {
        if l_kernel >> i & 1 == 1 {
            x = Some(x.map_or_else(|| Ok(square.clone()), |x| x.matmul(&square))?);
        }
        if l_kernel >> (i + 1) > 0 {
            square = square.matmul(&square)?;
        }
    }
    let Some(mut x) = x else { return Ok(c) };
    for _ in 0..40 {
        c = c.add(&c.matmul(&x)?)?;
        if x.to_vec()?.iter().all(|x| x.f64().abs() < 1e-20) {
            return Ok(c);
        }
        x = x.matmul(&x)?;
    }
    let help = format!("C~ of length {l_kernel} does not determine C: the powers of Abar do not decay; is the system undamped (Re A = 0)?");
    Err(Error::value(OP, help))
}

impl<B: Backend> Ssm<B> {
    /// [`Ssm::forward`] of a piece of a longer sequence: u is (B, H, L), `state` what the piece before left, (B, H, N), `None` for the first
    /// one. Also the state behind this piece. Both are variables: the gradient of a later piece reaches an earlier one through them, until
    /// one of them is [detached](Var::detach).
    ///
    /// States are real: the real parts of N / 2 modes, then the imaginary ones.
    ///
    /// # Errors
    /// As [`Ssm::forward`]; [`Error::Config`] for a bidirectional layer; [`Error::Shape`] where the state is not (B, H, N);
    /// [`Error::Value`] where the piece is longer than l_max, at which its kernel would be cut off, or C~ does not determine C.
    pub fn forward_from(&self, cx: &Context<'_, B>, u: &Var<B>, state: Option<&Var<B>>) -> Result<(Var<B>, Var<B>)> {
        if self.config.bidirectional {
            let help = "the anticausal kernel reads the piece that follows: configure bidirectional = false";
            return Err(Error::config("bidirectional", true, help));
        }
        let [batch, channels, length] = shape::sequence(OP, "the input", u.shape())?;
        if let Some(state) = state {
            shape::exactly(OP, "the state", &[batch, channels, self.config.d_state], state.shape())?;
        }
        if let Some(l_max) = self.config.l_max.filter(|&l_max| length > l_max) {
            return Err(Error::value(OP, format!("a piece of {length} steps is longer than l_max = {l_max}: take shorter ones")));
        }
        let y = self.convolve(cx, u, None)?;
        let (params, l_kernel) = self.kernel.variables(cx)?;
        let (heard, after) = Discrete::new(&params, self.kernel.init(), l_kernel)?.pass(u, state)?;
        let y = heard.map_or_else(|| Ok(y.clone()), |heard| y.add(&heard))?;
        Ok((self.finish(cx, y)?, after))
    }
}
