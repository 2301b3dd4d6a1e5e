//! SSM kernel generation: the stored parameters of a DPLR or diagonal system, and C~.

use std::sync::{Mutex, PoisonError};

use super::init::{SsmConfig, SsmInit, System, normals};
use crate::autodiff::Var;
use crate::autodiff::ops::diag::diag_kernel;
use crate::autodiff::ops::dplr::dplr_kernel;
use crate::backend::ssm::dplr_advance;
use crate::backend::{Backend, Binary, DtTransform, Key, Real, SsmParams, Tensor};
use crate::error::{Error, Result};
use crate::nn::hippo::Complex64;
use crate::nn::{Context, Module, Names, Param, ParamOptions};

/// The parameters from which the convolution kernels of a layer are generated; complex ones planar, (2, ..).
///
/// In a DPLR system C stands for C until the first forward, and for C~ = C (I - Abar^Lk) of length Lk = `l_kernel` from then on.
#[derive(Debug)]
pub struct SsmKernel<B: Backend> {
    /// (H).
    pub inv_dt: Param<B>,
    /// (S, M): Re A = -exp(a_real).
    pub a_real: Param<B>,
    /// (S, M): Im A = -a_imag.
    pub a_imag: Param<B>,
    /// (2, S, M).
    pub b: Param<B>,
    /// (2, c, H, M).
    pub c: Param<B>,
    /// (2, R, S, M); `None` for a diagonal system.
    pub p: Option<Param<B>>,
    /// Lk, (1); 0 while C is plain. `None` for a diagonal system.
    pub l_kernel: Option<Param<B>>,
    /// Lk on the host, and the version of the buffer that it is of: a device is asked once.
    known: Mutex<Option<(u64, usize)>>,
    init: SsmInit,
    dt_transform: DtTransform,
    l_max: Option<usize>,
}

/// The longest kernel that is served: twice as much, where doubling can end, is still exact in f32, the buffer's type.
const LONGEST: usize = 1 << 23;

/// `copies` repetitions of complex rows (rows, M), planar: (2, rows, copies, M).
fn planar(values: &[Complex64], half_state: usize, copies: usize) -> Vec<f64> {
    let plane = |part: fn(&Complex64) -> f64| {
        values.chunks_exact(half_state).flat_map(move |row| (0..copies).flat_map(move |_| row.iter().map(part))).collect::<Vec<f64>>()
    };
    [plane(|z| z.re), plane(|z| z.im)].concat()
}

impl<B: Backend> SsmKernel<B> {
    /// The initial values: HiPPO or S4D for A, B and P; complex normal C with E|C|^2 = 1; dt log-uniform.
    ///
    /// # Errors
    /// [`Error::Config`] for what [`SsmConfig::check`] refuses.
    pub fn new(backend: &B, key: Key, config: &SsmConfig) -> Result<Self> {
        config.check()?;
        let System { lambda, b, p } = config.system()?;
        let (h, s, m) = (config.d_model, config.copies(), config.d_state / 2);
        let channels = if config.bidirectional { 2 } else { 1 };
        let own = ParamOptions::Trained { lr: config.lr, decay: false };
        let shared = |decay| ParamOptions::Trained { lr: config.lr.filter(|_| config.lr_for_all), decay };
        let repeated = |f: fn(f64) -> f64, part: fn(&Complex64) -> f64| -> Vec<f64> {
            (0..s).flat_map(|_| lambda.iter().map(move |z| f(-part(z)))).collect()
        };
        let make = |values: Vec<f64>, shape: &[usize], options| Param::from_values(backend, values, shape, options);
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let c = normals(key.fold(1)).map(|z| z * half).take(2 * channels * h * m).collect();
        let rank = p.as_ref().map_or(0, |p| p.len() / m);
        Ok(SsmKernel {
            inv_dt: make(config.inverse_steps(key.fold(0)), &[h], shared(false))?,
            a_real: make(repeated(|x| x.max(1e-4).ln(), |z| z.re), &[s, m], own)?,
            a_imag: make(repeated(|x| x.max(1e-4), |z| z.im), &[s, m], own)?,
            b: make(planar(&b, m, s), &[2, s, m], own)?,
            c: make(c, &[2, channels, h, m], shared(true))?,
            l_kernel: p.as_ref().map(|_| Param::full(backend, &[1], 0.0, ParamOptions::Buffer)).transpose()?,
            p: p.map(|p| make(planar(&p, m, s), &[2, rank, s, m], own)).transpose()?,
            known: Mutex::default(),
            init: config.init,
            dt_transform: config.dt_transform,
            l_max: config.l_max,
        })
    }

    /// The stored values.
    pub fn params(&self) -> SsmParams<Tensor<B>> {
        self.stored().map(Param::value)
    }

    fn stored(&self) -> SsmParams<&Param<B>> {
        let SsmKernel { inv_dt, a_real, a_imag, b, c, p, dt_transform, .. } = self;
        SsmParams { inv_dt, a_real, a_imag, b, c, p: p.as_ref(), dt: *dt_transform }
    }

    /// How the system is kept and discretised.
    pub fn init(&self) -> SsmInit {
        self.init
    }

    /// Lk, the length that C~ belongs to: 0 while C is plain, and for diagonal systems.
    ///
    /// # Errors
    /// [`Error::Value`] where the buffer, out of a checkpoint, holds no length.
    pub fn l_kernel(&self, backend: &B) -> Result<usize> {
        let Some(buffer) = &self.l_kernel else { return Ok(0) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let version = buffer.version();
        if let Some((_, length)) = known.filter(|(of, _)| *of == version) {
            return Ok(length);
        }
        let value = backend.to_vec(&buffer.value())?[0].f64();
        if value.fract() == 0.0 && (0.0..=2.0 * LONGEST as f64).contains(&value) {
            *known = Some((version, value as usize));
            return Ok(value as usize);
        }
        Err(Error::value("SsmKernel", format!("l_kernel = {value} is no length: the checkpoint it came from is broken")))
    }

    /// Makes C~ for kernels of `length`, outside any recording: C~ = C (I - Abar^Lk) at first, with Lk = l_max or `length`, then
    /// C~ <- C~ (I + Abar^Lk) and Lk <- 2 Lk until it suffices. Source: official code.
    pub fn prepare(&self, backend: &B, length: usize) -> Result<()> {
        let Some(buffer) = &self.l_kernel else { return Ok(()) };
        let wanted = self.l_max.unwrap_or(length).max(length);
        if wanted > LONGEST {
            return Err(Error::value(
                "SsmKernel",
                format!("a kernel of length {wanted} is longer than {LONGEST}, the longest that is served"),
            ));
        }
        let mut l_kernel = self.l_kernel(backend)?;
        while l_kernel < length.max(1) {
            let (steps, join) = if l_kernel == 0 { (self.l_max.unwrap_or(length).max(1), Binary::Sub) } else { (l_kernel, Binary::Add) };
            let advanced = dplr_advance(backend, &self.params(), steps)?;
            self.c.set(backend.binary(join, &self.c.value(), &advanced)?)?;
            l_kernel = if l_kernel == 0 { steps } else { 2 * steps };
            buffer.set(backend.full(&[1], l_kernel as f64)?)?;
        }
        Ok(())
    }

    /// The kernels of `length`, (c, H, length).
    ///
    /// # Errors
    /// [`Error::NotDifferentiable`] where C~ would have to change in the middle of a recording that already used it: call
    /// [`SsmKernel::prepare`] with the longest length first.
    pub fn forward(&self, cx: &Context<'_, B>, length: usize) -> Result<Var<B>> {
        let used = cx.tape().has_parameter(self.c.identity());
        if used && self.l_kernel.is_some() && self.l_kernel(cx.backend())? < length {
            let help = format!("C~ would change under a recording that used it: call prepare({length}) before the first forward");
            return Err(Error::NotDifferentiable { op: "SsmKernel", help });
        }
        self.prepare(cx.backend(), length)?;
        let vars = self.stored().map(|param| cx.var(param));
        let vars = vars.as_ref();
        match self.init {
            SsmInit::Dplr(_) => dplr_kernel(vars, self.l_kernel(cx.backend())?, length),
            SsmInit::Diag(_, disc) => diag_kernel(vars, disc, length),
        }
    }
}

impl<B: Backend> Module<B> for SsmKernel<B> {
    fn names(&self, names: &mut Names<'_, B>) {
        for (name, param) in [("inv_dt", &self.inv_dt), ("A_real", &self.a_real), ("A_imag", &self.a_imag), ("B", &self.b), ("C", &self.c)]
        {
            names.param(name, param);
        }
        if let Some(p) = &self.p {
            names.param("P", p);
        }
        if let Some(l_kernel) = &self.l_kernel {
            names.param("l_kernel", l_kernel);
        }
    }
}
