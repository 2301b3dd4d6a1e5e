//! SSM kernels against the official code's values and against dense recurrences, the convolution, and the step form.

use crate::common::{Array, assert_close, assign, fetch, fixture, gradient, host, numbers, pinned};
use proptest::prelude::*;
use proptest::sample::select;
use pspikessm::Error;
use pspikessm::autodiff::Tape;
use pspikessm::backend::*;
use pspikessm::nn::hippo::{Complex64, DiagInit, Measure};
use pspikessm::nn::ssm::SsmKernel;
use pspikessm::nn::{Context, Module, Ssm, SsmConfig, SsmInit};
use serde_json::Value;

type B = Cpu<f64>;

// ---------------------------------------------------------------- the official code's values

/// What the official code's values are held to in f64, as a share of the largest entry.
const OFFICIAL: f64 = 1e-10;
/// In f32: its round-off, 1.2e-7, times what a damped system's recurrence and the sums over its length make of it.
const OFFICIAL_F32: f64 = 5e-6;

/// A kernel with the parameters of a fixture.
fn official_kernel<C: Backend>(device: &C, fixture: &Value, params: &str, init: SsmInit) -> (SsmKernel<C>, usize) {
    let size = |name: &str| fixture[name].as_u64().unwrap() as usize;
    let copies = numbers(&fixture[params]["A_real"]["shape"])[0] as usize;
    let config = SsmConfig::new(size("H"), size("N")).n_ssm(copies).init(init);
    let kernel = SsmKernel::new(device, Key::new(0), &config).unwrap();
    for (name, param) in kernel.parameters().into_iter().filter(|(name, _)| name != "l_kernel") {
        let value = Array::read(&fixture[params][&name]).parameter(&format!("kernel.{name}"), param.value().shape());
        param.set(value.tensor(device)).unwrap();
    }
    (kernel, size("L"))
}

/// K of the fixture's length and the gradients of all stored parameters.
fn check_official_gradients<C: Backend>(device: &C, tolerance: f64, fixture: &Value, kernel: &SsmKernel<C>, (what, length): (&str, usize)) {
    let tape = Tape::new(device);
    let k = kernel.forward(&Context::training(&tape, Key::new(0)), length).unwrap();
    let read = |name: &str| Array::read(&fixture[name]);
    assert_eq!(k.shape(), read("K").shape);
    assert_close(&format!("{what} K"), &host(device, k.value()), &read("K").values, tolerance);
    let gradients = k.backward_from(&read("gK").tensor(device)).unwrap();
    for (name, param) in kernel.parameters().into_iter().filter(|(name, _)| name != "l_kernel") {
        let want = Array::read(&fixture["grads"][&name]).parameter(&format!("kernel.{name}"), param.value().shape());
        assert_close(&format!("{what} d{name}"), &gradient(device, &gradients, &param), &want.values, tolerance);
    }
}

fn check_official_dplr<C: Backend>(device: &C, tolerance: f64) {
    for what in ["dplr_even", "dplr_odd", "dplr_full", "dplr_nssm2"] {
        let fixture = fixture(what);
        let (kernel, length) = official_kernel(device, &fixture, "params_before", SsmInit::Dplr(Measure::LegS));
        let c_tilde = |name: &str| Array::read(&fixture[name]).parameter("kernel.C", kernel.c.value().shape()).values;
        assert_eq!(kernel.l_kernel(device).unwrap(), 0);
        kernel.prepare(device, length).unwrap();
        assert_eq!(kernel.l_kernel(device).unwrap(), length);
        assert_close(&format!("{what} C~"), &host(device, &kernel.c.value()), &c_tilde("C_tilde"), tolerance);
        check_official_gradients(device, tolerance, &fixture, &kernel, (what, length));

        let longer = fixture["L_double"].as_u64().unwrap() as usize;
        let k_of_twice = || kernel.forward(&Context::evaluation(&Tape::off(device), Key::new(0)), longer).unwrap();
        let derived = host(device, k_of_twice().value());
        assert_eq!(kernel.l_kernel(device).unwrap(), length, "an evaluation changed C~");
        kernel.prepare(device, longer).unwrap();
        assert_eq!(kernel.l_kernel(device).unwrap(), 2 * length);
        let k = k_of_twice();
        assert_eq!(derived, host(device, k.value()), "what is derived is what is prepared");
        let c = host(device, &kernel.c.value());
        assert_close(&format!("{what} C~ of twice the length"), &c, &c_tilde("C_tilde_double"), tolerance);
        let want = Array::read(&fixture["K_double"]);
        assert_eq!(k.shape(), want.shape);
        assert_close(&format!("{what} K of twice the length"), &host(device, k.value()), &want.values, tolerance);
    }
}

fn check_official_diagonal<C: Backend>(device: &C, tolerance: f64) {
    for init in DiagInit::ALL {
        for (disc, name) in [(Discretization::Zoh, "zoh"), (Discretization::Bilinear, "bilinear")] {
            let what = format!("diag-{init}_{name}");
            let fixture = fixture(&what);
            let (kernel, length) = official_kernel(device, &fixture, "params", SsmInit::Diag(init, disc));
            check_official_gradients(device, tolerance, &fixture, &kernel, (&what, length));
        }
    }
}

#[test]
fn dplr_kernels_are_the_official_ones() {
    check_official_dplr(&B::new(), OFFICIAL);
}

#[test]
fn diagonal_kernels_are_the_official_ones() {
    check_official_diagonal(&B::new(), OFFICIAL);
}

#[test]
fn kernels_are_the_official_ones_in_f32() {
    let cpu = Cpu::<f32>::new();
    check_official_dplr(&cpu, OFFICIAL_F32);
    check_official_diagonal(&cpu, OFFICIAL_F32);
}

/// In LegS, B is a multiple of P. Were that part of B not left out, errors would be twice as large.
#[test]
fn kernels_of_legs_keep_their_digits_in_f32() {
    let (narrow, wide) = (Cpu::<f32>::new(), B::new());
    let (length, config) = (37, SsmConfig::new(4, 8).init(SsmInit::Dplr(Measure::LegS)));
    for seed in 0..10 {
        let kernel = SsmKernel::new(&wide, Key::new(seed), &config).unwrap();
        kernel.prepare(&wide, length).unwrap();
        let rounded = kernel.params().map(|x| Array::new(x.shape(), host(&wide, &x).into_iter().map(|x| f64::from(x as f32)).collect()));
        let shape = [rounded.c.shape[1], rounded.c.shape[2], length];
        let g = Array::new(&shape, (0..shape.iter().product::<usize>()).map(|i| f64::from(((i * i) as f32 * 0.3 + 1.0).cos())).collect());
        let got = narrow.dplr_kernel_grad(&rounded.as_ref().map(|x| x.tensor(&narrow)), length, &g.tensor(&narrow)).unwrap();
        let want = wide.dplr_kernel_grad(&rounded.as_ref().map(|x| x.tensor(&wide)), length, &g.tensor(&wide)).unwrap();
        assert_close("dC", &host(&narrow, &got.c), &host(&wide, &want.c), 8e-7);
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn kernels_are_the_official_ones_on_wgpu() {
    let gpu = pspikessm::backend::Wgpu::new().expect("a device");
    check_official_dplr(&gpu, OFFICIAL_F32);
    check_official_diagonal(&gpu, OFFICIAL_F32);
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs an NVIDIA GPU: run by benches/gpu.sh"]
fn kernels_are_the_official_ones_on_cuda() {
    let gpu = pspikessm::backend::Cuda::<f32>::new().expect("a device");
    check_official_dplr(&gpu, OFFICIAL_F32);
    check_official_diagonal(&gpu, OFFICIAL_F32);
    let gpu = pspikessm::backend::Cuda::<f64>::new().expect("a device");
    check_official_dplr(&gpu, OFFICIAL);
    check_official_diagonal(&gpu, OFFICIAL);
}

// ---------------------------------------------------------------- the dense recurrence

/// Row `row` of planar complex rows of `m` numbers, followed by its conjugate.
fn both_halves(planes: &[f64], row: usize, m: usize) -> Vec<Complex64> {
    let (re, im) = planes.split_at(planes.len() / 2);
    let half = (row * m..(row + 1) * m).map(|i| Complex64::new(re[i], im[i]));
    half.clone().chain(half.map(|z| z.conj())).collect()
}

/// One channel's discrete system over both conjugate halves, as dense matrices.
struct Dense {
    abar: Vec<Vec<Complex64>>,
    bbar: Vec<Complex64>,
    /// One row for each kernel.
    c: Vec<Vec<Complex64>>,
}

impl Dense {
    /// Channel `h` of a kernel whose C is plain, straight from the stored parameters' definition.
    fn new(cpu: &B, kernel: &SsmKernel<B>, h: usize) -> Self {
        let params = kernel.params();
        let (d_model, [n_ssm, m]) = (params.inv_dt.numel(), [params.a_real.shape()[0], params.a_real.shape()[1]]);
        let (s, channels) = (h % n_ssm, params.c.shape()[1]);
        let inv_dt = host(cpu, &params.inv_dt)[h];
        let dt = match params.dt {
            DtTransform::Softplus => inv_dt.exp().ln_1p(),
            DtTransform::Exp => inv_dt.exp(),
        };
        let a_planes: Vec<f64> =
            host(cpu, &params.a_real).into_iter().map(|x| -x.exp()).chain(host(cpu, &params.a_imag).into_iter().map(|x| -x)).collect();
        let (lambda, b) = (both_halves(&a_planes, s, m), both_halves(&host(cpu, &params.b), s, m));
        let p: Vec<_> = match &params.p {
            Some(p) => (0..p.shape()[1]).map(|r| both_halves(&host(cpu, p), r * n_ssm + s, m)).collect(),
            None => Vec::new(),
        };
        let c_planes = host(cpu, &params.c);
        let c = (0..channels).map(|k| both_halves(&c_planes, k * d_model + h, m)).collect();
        match kernel.init() {
            SsmInit::Diag(_, Discretization::Zoh) => {
                let held = |i: usize, j: usize| if i == j { (lambda[i] * dt).exp() } else { Complex64::ZERO };
                let n = 2 * m;
                let bbar = lambda.iter().zip(&b).map(|(a, b)| b * ((a * dt).exp() - 1.0) / a).collect();
                Dense { abar: (0..n).map(|i| (0..n).map(|j| held(i, j)).collect()).collect(), bbar, c }
            }
            _ => {
                let (abar, bbar) = bilinear(dt, &lambda, &p, &b);
                Dense { abar, bbar, c }
            }
        }
    }

    /// K[l] = C Abar^l Bbar of every kernel.
    fn kernel(&self, length: usize) -> Vec<Vec<f64>> {
        let dot = |x: &[Complex64], y: &[Complex64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<Complex64>();
        let mut state = self.bbar.clone();
        let mut kernels = vec![Vec::new(); self.c.len()];
        for _ in 0..length {
            for (kernel, c) in kernels.iter_mut().zip(&self.c) {
                kernel.push(dot(c, &state).re);
            }
            state = self.abar.iter().map(|row| dot(row, &state)).collect();
        }
        kernels
    }
}

/// Abar = (I - dt/2 A)^-1 (I + dt/2 A) and Bbar = (I - dt/2 A)^-1 dt B for A = diag(lambda) - sum p p*.
fn bilinear(dt: f64, lambda: &[Complex64], p: &[Vec<Complex64>], b: &[Complex64]) -> (Vec<Vec<Complex64>>, Vec<Complex64>) {
    let n = lambda.len();
    let a = |i: usize, j: usize| {
        let diagonal = if i == j { lambda[i] } else { Complex64::ZERO };
        diagonal - p.iter().map(|p| p[i] * p[j].conj()).sum::<Complex64>()
    };
    let one = |i, j| if i == j { Complex64::ONE } else { Complex64::ZERO };
    let left = (0..n).map(|i| (0..n).map(|j| one(i, j) - a(i, j) * (dt / 2.0)).collect()).collect();
    let right = (0..n).map(|i| (0..n).map(|j| one(i, j) + a(i, j) * (dt / 2.0)).chain([b[i] * dt]).collect()).collect();
    let mut abar = solve(left, right);
    let bbar = abar.iter_mut().map(|row| row.pop().unwrap()).collect();
    (abar, bbar)
}

/// X with left X = right, by Gaussian elimination with row pivots.
fn solve(mut left: Vec<Vec<Complex64>>, mut right: Vec<Vec<Complex64>>) -> Vec<Vec<Complex64>> {
    let n = left.len();
    for at in 0..n {
        let pivot = (at..n).max_by(|&i, &j| left[i][at].norm().total_cmp(&left[j][at].norm())).unwrap();
        left.swap(at, pivot);
        right.swap(at, pivot);
        let (l, r) = (left[at].clone(), right[at].clone());
        for row in (0..n).filter(|&row| row != at) {
            let factor = left[row][at] / l[at];
            left[row].iter_mut().zip(&l).for_each(|(x, y)| *x -= factor * y);
            right[row].iter_mut().zip(&r).for_each(|(x, y)| *x -= factor * y);
        }
    }
    (0..n).map(|i| right[i].iter().map(|x| x / left[i][i]).collect()).collect()
}

/// The kernels (c, H, length) by dense recurrences.
fn dense_kernel(cpu: &B, kernel: &SsmKernel<B>, length: usize) -> Vec<f64> {
    let shape = kernel.c.value().shape().to_vec();
    let by_channel: Vec<_> = (0..shape[2]).map(|h| Dense::new(cpu, kernel, h).kernel(length)).collect();
    (0..shape[1]).flat_map(|k| by_channel.iter().flat_map(move |kernels| kernels[k].clone())).collect()
}

/// A configuration with 1, some or H copies of the state matrix, and any initialisation out of `inits`.
fn configs(inits: Vec<SsmInit>) -> impl Strategy<Value = SsmConfig> {
    let sizes = (1_usize..=3, 1_usize..=3, 1_usize..=6, any::<bool>());
    (sizes, select(inits), select(DtTransform::ALL.to_vec()), any::<bool>()).prop_map(
        |((repeats, copies, half_state, own_copies), init, dt_transform, bidirectional)| {
            let d_model = repeats * copies;
            let n_ssm = if own_copies { d_model } else { copies };
            SsmConfig::new(d_model, 2 * half_state).n_ssm(n_ssm).init(init).dt_transform(dt_transform).bidirectional(bidirectional)
        },
    )
}

/// All but that with a P of zeros, which training cannot move.
fn low_rank_inits() -> Vec<SsmInit> {
    SsmInit::all().into_iter().filter(|&init| is_low_rank(init) && init != SsmInit::Dplr(Measure::FourierDecay)).collect()
}

fn diagonal_inits() -> Vec<SsmInit> {
    SsmInit::all().into_iter().filter(|&init| !is_low_rank(init)).collect()
}

fn is_low_rank(init: SsmInit) -> bool {
    match init {
        SsmInit::Dplr(_) => true,
        SsmInit::Diag(..) => false,
        new => panic!("{new:?} belongs to no list of these tests"),
    }
}

/// Moves A, B and P away from where they start, as training does.
fn train(cpu: &B, kernel: &SsmKernel<B>, seed: u64) {
    for (i, name) in ["A_real", "A_imag", "B", "P"].into_iter().enumerate() {
        if name != "P" || kernel.p.is_some() {
            let values = fetch(cpu, kernel, name);
            let moved = host(cpu, &cpu.normal(Key::new(seed).fold(i as u64), &[values.len()]).unwrap());
            assign(cpu, kernel, name, &values.iter().zip(moved).map(|(v, z)| v + 0.2 * z).collect::<Vec<_>>());
        }
    }
}

fn kernel_values(cpu: &B, kernel: &SsmKernel<B>, length: usize) -> Vec<f64> {
    kernel.forward(&Context::evaluation(&Tape::off(cpu), Key::new(0)), length).unwrap().to_vec().unwrap()
}

/// The first `take` of every `length` values.
fn heads(values: &[f64], length: usize, take: usize) -> Vec<f64> {
    values.chunks(length).flat_map(|row| row[..take].to_vec()).collect()
}

proptest! {
    #![proptest_config(pinned(60))]

    #[test]
    fn a_dplr_kernel_is_its_dense_recurrence(
        config in configs(low_rank_inits()),
        lk in 1_usize..=60,
        more in 0_usize..=70,
        seed in 0_u64..1000,
    ) {
        let cpu = B::new();
        let kernel = SsmKernel::new(&cpu, Key::new(seed), &config).unwrap();
        train(&cpu, &kernel, seed);
        let want = dense_kernel(&cpu, &kernel, lk + more);
        let fresh = kernel_values(&cpu, &kernel, lk);
        assert_close("K", &fresh, &heads(&want, lk + more, lk), 1e-10);
        assert_eq!(kernel.l_kernel(&cpu).unwrap(), 0, "an evaluation made C~");
        kernel.prepare(&cpu, lk).unwrap();
        assert_eq!(kernel_values(&cpu, &kernel, lk), fresh);
        // A longer one doubles C~ until it suffices; shorter ones are its beginning.
        let derived = kernel_values(&cpu, &kernel, lk + more);
        assert_close("K after doubling", &derived, &want, 1e-10);
        assert_eq!(kernel.l_kernel(&cpu).unwrap(), lk, "an evaluation doubled C~");
        kernel.prepare(&cpu, lk + more).unwrap();
        let whole = kernel_values(&cpu, &kernel, lk + more);
        assert_eq!(whole, derived);
        let doubled = kernel.l_kernel(&cpu).unwrap();
        assert!(doubled >= lk + more && doubled.is_multiple_of(lk) && (doubled / lk).is_power_of_two());
        assert_eq!(kernel_values(&cpu, &kernel, lk), heads(&whole, lk + more, lk));
        assert_eq!(kernel.l_kernel(&cpu).unwrap(), doubled);
    }

    #[test]
    fn a_diagonal_kernel_is_its_dense_recurrence(config in configs(diagonal_inits()), length in 1_usize..=90, seed in 0_u64..1000) {
        let cpu = B::new();
        let kernel = SsmKernel::new(&cpu, Key::new(seed), &config).unwrap();
        train(&cpu, &kernel, seed);
        let want = dense_kernel(&cpu, &kernel, length);
        assert_close("K", &kernel_values(&cpu, &kernel, length), &want, 1e-10);
        assert_eq!(kernel.l_kernel(&cpu).unwrap(), 0);
    }
}

#[test]
fn kernels_that_are_kept_are_those_of_the_parameters_as_they_are() {
    let cpu = B::new();
    for init in SsmInit::all() {
        let config = SsmConfig::new(3, 6).init(init);
        let kernel = SsmKernel::new(&cpu, Key::new(1), &config).unwrap();
        kernel.prepare(&cpu, 20).unwrap();
        // Of these values, and never evaluated before.
        let fresh = |length| {
            let fresh = SsmKernel::new(&cpu, Key::new(1), &config).unwrap();
            kernel.parameters().iter().zip(fresh.parameters()).for_each(|((_, from), (_, to))| to.set(from.value()).unwrap());
            kernel_values(&cpu, &fresh, length)
        };
        for (name, param) in kernel.parameters() {
            for length in [20, 9] {
                let before = kernel_values(&cpu, &kernel, length);
                assert_eq!((kernel_values(&cpu, &kernel, length), fresh(length)), (before.clone(), before), "{name}");
            }
            let was = param.value();
            param.set(cpu.binary(Binary::Mul, &was, &cpu.full(&[], 0.5).unwrap()).unwrap()).unwrap();
            let changed = [20, 9].map(|length| kernel_values(&cpu, &kernel, length));
            assert_eq!(changed, [20, 9].map(fresh), "{name} was halved");
            param.set(was).unwrap();
        }
    }
}

#[test]
fn l_max_sets_the_length_of_c_tilde() {
    let cpu = B::new();
    let config = SsmConfig::new(4, 8).l_max(33);
    let plain = SsmKernel::new(&cpu, Key::new(3), &config.clone().l_max(None)).unwrap();
    let want = dense_kernel(&cpu, &plain, 80);
    let kernel = SsmKernel::new(&cpu, Key::new(3), &config).unwrap();
    assert_eq!(kernel.l_kernel(&cpu).unwrap(), 33);
    assert_close("K below l_max", &kernel_values(&cpu, &kernel, 10), &heads(&want, 80, 10), 1e-10);
    assert_close("K above twice l_max", &kernel_values(&cpu, &kernel, 80), &want, 1e-10);
    assert_eq!(kernel.l_kernel(&cpu).unwrap(), 33);
    kernel.prepare(&cpu, 80).unwrap();
    assert_eq!(kernel.l_kernel(&cpu).unwrap(), 132);
}

// ---------------------------------------------------------------- the convolution

/// y[t] = sum k0[m] u[t-m] + sum k1[m] u[t+1+m] + D u[t] for one channel.
fn direct_sum(u: &[f64], k0: &[f64], k1: Option<&[f64]>, skip: f64) -> Vec<f64> {
    let at = |kernel: &[f64], i: usize| kernel.get(i).copied().unwrap_or(0.0);
    let weight = |t: usize, s: usize| if s <= t { at(k0, t - s) } else { k1.map_or(0.0, |k1| at(k1, s - t - 1)) };
    (0..u.len()).map(|t| skip * u[t] + (0..u.len()).map(|s| weight(t, s) * u[s]).sum::<f64>()).collect()
}

/// The layer's convolution, and the same by direct sums with the layer's kernel and D.
fn both_ways(cpu: &B, layer: &Ssm<B>, u: &Array, lengths: Option<&[usize]>) -> (Vec<f64>, Vec<f64>) {
    let [batch, d_model, length] = u.shape[..] else { panic!("a sequence has three axes") };
    let tape = Tape::off(cpu);
    let cx = Context::evaluation(&tape, Key::new(0));
    let y = layer.convolve(&cx, &tape.constant(&u.tensor(cpu)), lengths).unwrap().to_vec().unwrap();
    let taken = layer.config().l_max.map_or(length, |l_max| l_max.min(length));
    let kernel = kernel_values(cpu, &layer.kernel, taken);
    let skip = host(cpu, &layer.skip.value());
    let want = (0..batch * d_model).flat_map(|row| {
        let (b, h) = (row / d_model, row % d_model);
        let mut u = u.values[row * length..(row + 1) * length].to_vec();
        u[lengths.map_or(length, |lengths| lengths[b])..].fill(0.0);
        let kernel = |k: usize| &kernel[(k * d_model + h) * taken..][..taken];
        direct_sum(&u, kernel(0), layer.config().bidirectional.then(|| kernel(1)), skip[h])
    });
    (y, want.collect())
}

proptest! {
    #![proptest_config(pinned(60))]

    #[test]
    fn the_layer_convolves(
        config in configs([low_rank_inits(), diagonal_inits()].concat()),
        batch in 1_usize..=3,
        length in prop_oneof![1_usize..=70, select(vec![1_usize, 2, 31, 37, 64, 97, 127])],
        l_max in proptest::option::of(1_usize..=90),
        masked in any::<bool>(),
        seed in 0_u64..1000,
    ) {
        let cpu = B::new();
        let layer = Ssm::new(&cpu, Key::new(seed), &config.clone().l_max(l_max)).unwrap();
        let shape = [batch, config.d_model, length];
        let u = Array::new(&shape, host(&cpu, &cpu.normal(Key::new(seed + 1), &shape).unwrap()));
        let lengths: Vec<usize> = (0..batch).map(|b| 1 + (seed as usize + 13 * b) % length).collect();
        let (y, want) = both_ways(&cpu, &layer, &u, masked.then_some(&lengths[..]));
        assert_close("y", &y, &want, 1e-10);
    }
}

// ---------------------------------------------------------------- the step form

/// Every step's output, (H, L), for an input (H, L).
fn stepped(cpu: &B, layer: &Ssm<B>, u: &Array) -> Vec<f64> {
    let mut stepper = layer.stepper(cpu).unwrap();
    let steps: Vec<_> = u.permute(&[1, 0]).values.chunks(u.shape[0]).map(|u| stepper.step(u).unwrap()).collect();
    let outputs = Array::new(&[u.shape[1], u.shape[0]], steps.concat());
    // From rest again it does the same.
    stepper.reset();
    assert_eq!(stepper.step(&u.permute(&[1, 0]).values[..u.shape[0]]).unwrap(), steps[0]);
    outputs.permute(&[1, 0]).values
}

proptest! {
    #![proptest_config(pinned(60))]

    #[test]
    fn stepping_is_the_convolution(
        config in configs([low_rank_inits(), diagonal_inits()].concat()),
        length in 1_usize..=150,
        early in 1_usize..=150,
        seed in 0_u64..1000,
    ) {
        let cpu = B::new();
        let config = config.bidirectional(false);
        let layer = Ssm::new(&cpu, Key::new(seed), &config).unwrap();
        train(&cpu, &layer.kernel, seed);
        let u = Array::new(&[config.d_model, length], host(&cpu, &cpu.normal(Key::new(seed + 1), &[config.d_model, length]).unwrap()));
        let plain = stepped(&cpu, &layer, &u);
        // Whatever length C~ was first made for, and whether it was doubled since.
        layer.prepare(&cpu, early).unwrap();
        let tape = Tape::off(&cpu);
        let input = tape.constant(&u.clone().reshape(&[1, config.d_model, length]).tensor(&cpu));
        let want = layer.convolve(&Context::evaluation(&tape, Key::new(0)), &input, None).unwrap().to_vec().unwrap();
        assert_close("steps before C~", &plain, &want, 1e-9);
        assert_close("steps after C~", &stepped(&cpu, &layer, &u), &want, 1e-9);
    }
}

#[test]
fn a_layer_that_looks_ahead_has_no_step_form() {
    let cpu = B::new();
    let layer = Ssm::new(&cpu, Key::new(0), &SsmConfig::new(4, 8)).unwrap();
    let refused = layer.stepper(&cpu);
    assert!(matches!(refused, Err(Error::Config { name: "bidirectional", .. })));
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("anticausal") && message.contains("bidirectional = false"), "{message}");
    let causal = Ssm::new(&cpu, Key::new(0), &SsmConfig::new(4, 8).bidirectional(false)).unwrap();
    let message = causal.stepper(&cpu).unwrap().step(&[0.0; 3]).unwrap_err().to_string();
    assert!(message.contains("[4]") && message.contains("[3]"), "{message}");
}
