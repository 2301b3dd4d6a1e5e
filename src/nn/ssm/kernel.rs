//! SSM kernel generation: the stored parameters of a DPLR or diagonal system, and C~.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::init::{LONGEST, SsmConfig, SsmInit, System, normals};
use super::kept::{Kept, Origin};
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
/// In a DPLR system C stands for C~ = C (I - Abar^Lk), Lk being `l_kernel`: from the beginning where l_max is given, else from the first
/// [`prepare`](SsmKernel::prepare) on; before that it is plain. Nothing else changes it. A forward pass that wants longer kernels derives
/// the C~ that they need, and keeps it beside. Clones are the same kernels.
#[derive(Clone, Debug)]
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
    known: Arc<Mutex<Known<B>>>,
    init: SsmInit,
    dt_transform: DtTransform,
    l_max: Option<usize>,
}

/// What is known about the parameters, each fact with the versions that it holds for. The lock also keeps C and `l_kernel` together: both
/// change, and are read, under it.
#[derive(Debug)]
struct Known<B: Backend> {
    /// Lk on the host, of this version of the buffer: a device is asked once.
    l_kernel: Option<(u64, usize)>,
    /// The latest C~ that were derived for longer kernels, [`DERIVED`] at most.
    derived: VecDeque<Derived<B>>,
    /// What the latest evaluations have generated.
    kept: Kept<B>,
}

/// A C~ for kernels up to `l_kernel`.
#[derive(Clone, Debug)]
struct Derived<B: Backend> {
    /// Of every parameter that it was derived from.
    versions: Vec<u64>,
    l_kernel: usize,
    c: Tensor<B>,
}

/// How many derived C~ are kept: enough for threads whose batches have different lengths.
const DERIVED: usize = 8;

/// The parameters as they were at one moment.
struct Snapshot<B: Backend> {
    params: SsmParams<Tensor<B>>,
    /// Of every parameter.
    versions: Vec<u64>,
    /// Lk, the length that C~ belongs to; 0 where C is plain.
    l_kernel: usize,
}

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
    /// [`Error::Config`] for what [`SsmConfig::check`] refuses; as [`prepare`](SsmKernel::prepare), where l_max is given.
    pub fn new(backend: &B, key: Key, config: &SsmConfig) -> Result<Self> {
        config.check()?;
        let System { lambda, b, p } = config.system()?;
        let (h, s, m) = (config.d_model, config.n_ssm, config.d_state / 2);
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
        let kernel = SsmKernel {
            inv_dt: make(config.inverse_steps(key.fold(0)), &[h], shared(false))?,
            a_real: make(repeated(|x| x.max(1e-4).ln(), |z| z.re), &[s, m], own)?,
            a_imag: make(repeated(|x| x.max(1e-4), |z| z.im), &[s, m], own)?,
            b: make(planar(&b, m, s), &[2, s, m], own)?,
            c: make(c, &[2, channels, h, m], shared(true))?,
            l_kernel: p.as_ref().map(|_| Param::full(backend, &[1], 0.0, ParamOptions::Buffer)).transpose()?,
            p: p.map(|p| make(planar(&p, m, s), &[2, rank, s, m], own)).transpose()?,
            // C is plain.
            known: Arc::new(Mutex::new(Known { l_kernel: Some((0, 0)), derived: VecDeque::new(), kept: Kept::default() })),
            init: config.init,
            dt_transform: config.dt_transform,
            l_max: config.l_max,
        };
        config.l_max.map_or(Ok(()), |l_max| kernel.prepare(backend, l_max))?;
        Ok(kernel)
    }

    /// The stored values.
    pub fn params(&self) -> SsmParams<Tensor<B>> {
        self.stored().map(Param::value)
    }

    fn stored(&self) -> SsmParams<&Param<B>> {
        let SsmKernel { inv_dt, a_real, a_imag, b, c, p, dt_transform, .. } = self;
        SsmParams { inv_dt, a_real, a_imag, b, c, p: p.as_ref(), dt: *dt_transform }
    }

    /// How the system is kept and discretized.
    pub fn init(&self) -> SsmInit {
        self.init
    }

    /// Lk, the length that C~ belongs to: 0 while C is plain, and for diagonal systems.
    ///
    /// # Errors
    /// [`Error::Value`] where the buffer, out of a checkpoint, holds no length.
    pub fn l_kernel(&self, backend: &B) -> Result<usize> {
        self.read_l_kernel(backend, &mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Known<B>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_l_kernel(&self, backend: &B, known: &mut Known<B>) -> Result<usize> {
        let Some(buffer) = &self.l_kernel else { return Ok(0) };
        let (value, version) = buffer.versioned();
        if let Some((_, length)) = known.l_kernel.filter(|(of, _)| *of == version) {
            return Ok(length);
        }
        let value = backend.to_vec(&value)?[0].f64();
        if value.fract() == 0.0 && (0.0..=2.0 * LONGEST as f64).contains(&value) {
            known.l_kernel = Some((version, value as usize));
            return Ok(value as usize);
        }
        Err(Error::value("SsmKernel", format!("l_kernel = {value} is no length: the checkpoint it came from is broken")))
    }

    /// Makes C~ for kernels up to `length`, once and for all: C~ = C (I - Abar^Lk) at first, with Lk = l_max or `length`, then
    /// C~ <- C~ (I + Abar^Lk) and Lk <- 2 Lk until it suffices. Call it before a training pass is recorded, because it changes
    /// a trained parameter (the official code does so by itself). An evaluation needs no call, nor does a diagonal system.
    ///
    /// # Errors
    /// [`Error::Value`] for a length beyond 2^23, and as [`SsmKernel::l_kernel`]. On an error nothing is changed.
    pub fn prepare(&self, backend: &B, length: usize) -> Result<()> {
        let Some(buffer) = &self.l_kernel else { return Ok(()) };
        let mut known = self.lock();
        let Snapshot { params, l_kernel, .. } = self.snapshot(backend, &mut known)?;
        if l_kernel < length.max(1) {
            let sufficient = self.sufficient_length(l_kernel, length)?;
            let c = self.lengthened(backend, params, l_kernel, sufficient)?;
            let l_kernel = backend.full(&[1], sufficient as f64)?;
            self.c.set(c)?;
            buffer.set(l_kernel)?;
            known.l_kernel = Some((buffer.version(), sufficient));
        }
        Ok(())
    }

    /// The stored values and Lk, of one moment, even where another thread prepares the kernel.
    pub(in crate::nn) fn params_with_length(&self, backend: &B) -> Result<(SsmParams<Tensor<B>>, usize)> {
        let Snapshot { params, l_kernel, .. } = self.snapshot(backend, &mut self.lock())?;
        Ok((params, l_kernel))
    }

    /// The parameters, and what is known of them, at one moment.
    fn snapshot(&self, backend: &B, known: &mut Known<B>) -> Result<Snapshot<B>> {
        let mut versions = Vec::new();
        let params = self.stored().map(|param| {
            let (value, version) = param.versioned();
            versions.push(version);
            value
        });
        let l_kernel = self.read_l_kernel(backend, known)?;
        Ok(Snapshot { params, versions, l_kernel })
    }

    /// Lk of a C~ that suffices for `length`, made from one of `l_kernel`, or from C where that is 0.
    fn sufficient_length(&self, l_kernel: usize, length: usize) -> Result<usize> {
        let longest = self.l_max.unwrap_or(length).max(length);
        if longest > LONGEST {
            let help = format!("a kernel of length {longest} is longer than {LONGEST}, the longest that is served");
            return Err(Error::value("SsmKernel", help));
        }
        let first = if l_kernel == 0 { self.l_max.unwrap_or(length).max(1) } else { l_kernel };
        Ok(std::iter::successors(Some(first), |l_kernel| Some(2 * l_kernel)).find(|&l_kernel| l_kernel >= length).unwrap_or(first))
    }

    /// C~ of this Lk, made from one of `l_kernel`, or from C where that is 0.
    fn lengthened(&self, backend: &B, mut params: SsmParams<Tensor<B>>, mut l_kernel: usize, wanted: usize) -> Result<Tensor<B>> {
        let first = self.l_max.unwrap_or(wanted);
        while l_kernel < wanted {
            let (steps, join) = if l_kernel == 0 { (first, Binary::Sub) } else { (l_kernel, Binary::Add) };
            let advanced = dplr_advance(backend, &params, steps)?;
            params.c = backend.binary(join, &params.c, &advanced)?;
            l_kernel += steps;
        }
        Ok(params.c)
    }

    /// The parameters with a C~ that suffices for `length`: the stored one, else one that is derived, and kept for the next time. It is
    /// derived outside the lock: no thread waits for another one's length, and any two derive the same bits.
    fn sufficient(&self, backend: &B, length: usize) -> Result<Snapshot<B>> {
        let mut known = self.lock();
        let mut snapshot = self.snapshot(backend, &mut known)?;
        if snapshot.l_kernel >= length.max(1) {
            return Ok(snapshot);
        }
        let l_kernel = self.sufficient_length(snapshot.l_kernel, length)?;
        let of_now = |derived: &Derived<B>| derived.versions == snapshot.versions;
        known.derived.retain(of_now);
        let found = known.derived.iter().find(|derived| derived.l_kernel == l_kernel).map(|derived| derived.c.clone());
        drop(known);
        let c = match found {
            Some(c) => c,
            None => {
                let c = self.lengthened(backend, snapshot.params.clone(), snapshot.l_kernel, l_kernel)?;
                let mut known = self.lock();
                known.derived.truncate(DERIVED - 1);
                known.derived.push_front(Derived { versions: snapshot.versions.clone(), l_kernel, c: c.clone() });
                c
            }
        };
        (snapshot.params.c, snapshot.l_kernel) = (c, l_kernel);
        Ok(snapshot)
    }

    /// The kernels of `length`, (directions, H, length). Nothing is changed: where the stored C~ does not suffice, one that does is
    /// derived from it. An evaluation keeps up to 8 MB of them for the next ones, until a parameter changes or a training pass comes.
    ///
    /// # Errors
    /// [`Error::NotDifferentiable`] where the tape records and the stored C~ does not suffice: the derived one is not trained;
    /// [`Error::Value`] where it changed since the tape first recorded it; otherwise as [`prepare`](SsmKernel::prepare).
    pub fn forward(&self, cx: &Context<'_, B>, length: usize) -> Result<Var<B>> {
        let mut known = self.lock();
        if cx.training || cx.tape().is_recording() {
            known.kept.clear();
            drop(known);
            return self.generate(cx, length);
        }
        let Snapshot { versions, l_kernel, .. } = self.snapshot(cx.backend(), &mut known)?;
        let origin = Origin { versions, l_kernel, length };
        if let Some(kernels) = known.kept.find(&origin) {
            return Ok(cx.tape().constant(&kernels));
        }
        // Outside the lock: no thread waits for another one's length. Versions never come back, so that what is generated from parameters
        // that have changed meanwhile is never found.
        drop(known);
        let kernels = self.generate(cx, length)?;
        self.lock().kept.keep(origin, kernels.value());
        Ok(kernels)
    }

    /// The kernels of `length`, from the parameters.
    fn generate(&self, cx: &Context<'_, B>, length: usize) -> Result<Var<B>> {
        let snapshot = match self.init {
            SsmInit::Dplr(_) if !cx.tape().is_recording() => self.sufficient(cx.backend(), length)?,
            _ => self.snapshot(cx.backend(), &mut self.lock())?,
        };
        let l_kernel = snapshot.l_kernel;
        if matches!(self.init, SsmInit::Dplr(_)) && l_kernel < length.max(1) {
            let made = if l_kernel == 0 { "is not made yet".into() } else { format!("is made for kernels up to {l_kernel}") };
            let help = format!("C~ {made}: before recording, call prepare(&backend, {length}) of the model, or of this layer");
            return Err(Error::NotDifferentiable { op: "SsmKernel", help });
        }
        let vars = self.record(cx, snapshot)?;
        let vars = vars.as_ref();
        match self.init {
            SsmInit::Diag(_, disc) => diag_kernel(vars, disc, length),
            SsmInit::Dplr(_) => dplr_kernel(vars, l_kernel, length),
        }
    }
}

impl<B: Backend> SsmKernel<B> {
    /// The variables of the parameters of one moment.
    fn record(&self, cx: &Context<'_, B>, snapshot: Snapshot<B>) -> Result<SsmParams<Var<B>>> {
        let mut versions = snapshot.versions.into_iter();
        self.stored().zip(snapshot.params).try_map(|(param, value)| {
            let version = versions.next().unwrap_or_default();
            let var = cx.tape().parameter_as_of(param.identity(), version, &value)?;
            Ok(if param.is_trained() { var } else { var.detach() })
        })
    }

    /// The variables of the stored parameters, and Lk.
    pub(super) fn variables(&self, cx: &Context<'_, B>) -> Result<(SsmParams<Var<B>>, usize)> {
        let snapshot = self.snapshot(cx.backend(), &mut self.lock())?;
        let l_kernel = snapshot.l_kernel;
        Ok((self.record(cx, snapshot)?, l_kernel))
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
