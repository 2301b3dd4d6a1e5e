//! The same bits from every method of the CPU backend, whatever the number of threads, and once more in the same pool.
#![cfg(feature = "parallel")]

use pspikessm::Result;
use pspikessm::backend::*;
use rand_core::Rng;
use rand_pcg::Pcg32;

type Device = Cpu<f32>;
type Values = Tensor<Device>;

/// More elements than one piece of elementwise work, more batch entries than one partial sum of a weight's gradient.
const BATCH: usize = 9;
const CHANNELS: usize = 7;
const LENGTH: usize = 400;
const SHAPE: [usize; 3] = [BATCH, CHANNELS, LENGTH];

/// Values in (-1, 1), another set for every `salt`.
fn values(cpu: &Device, salt: u64, shape: &[usize]) -> Result<Values> {
    let mut generator = Pcg32::new(salt, 11);
    cpu.from_vec((0..shape.iter().product()).map(|_| generator.next_u32() as i32 as f32 / 2_147_483_648.0).collect(), shape)
}

/// The backend's own spikes, of about `rate`, another set for every `salt`.
fn drawn(cpu: &Device, salt: u64, shape: &[usize], rate: f64) -> Result<Values> {
    let spike = Spike { noise: Noise::Stream(Key::new(salt).into()), mode: SpikeMode::Sampled, surrogate: Surrogate::Clamp };
    cpu.spike(&spike, &cpu.full(shape, rate)?, None)
}

fn tokens(count: usize, rows: u32) -> Vec<u32> {
    let mut generator = Pcg32::new(3, 3);
    (0..count).map(|_| generator.next_u32() % rows).collect()
}

fn bits(cpu: &Device, results: &[Values]) -> Result<Vec<u32>> {
    let values: Result<Vec<_>> = results.iter().map(|x| cpu.to_vec(x)).collect();
    Ok(values?.iter().flatten().map(|v| v.to_bits()).collect())
}

/// Holds `method` to one answer in pools of 1, 2, 3 and 5 threads, twice in each, by a new device every time.
fn one_answer(name: &str, method: impl Fn(&Device) -> Result<Vec<Values>> + Sync) {
    let mut first: Option<Vec<u32>> = None;
    for threads in [1, 2, 3, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        let cpu = Device::new();
        for run in 0..2 {
            let answer = pool.install(|| method(&cpu).and_then(|results| bits(&cpu, &results))).expect(name);
            assert!(answer.iter().any(|&bits| bits != 0), "{name}: all zero, so nothing is compared");
            let first = first.get_or_insert_with(|| answer.clone());
            let differing = first.iter().zip(&answer).filter(|(a, b)| a != b).count();
            assert!(*first == answer, "{name}: {differing} of {} values differ with {threads} threads, run {run}", first.len());
        }
    }
}

fn some(grads: impl IntoIterator<Item = Option<Values>>) -> Vec<Values> {
    grads.into_iter().flatten().collect()
}

#[test]
fn elementwise_work() {
    for f in Unary::ALL {
        one_answer(&format!("{f:?}"), |cpu| {
            let (x, g) = (values(cpu, 1, &SHAPE)?, values(cpu, 2, &SHAPE)?);
            Ok(vec![cpu.unary(f, &x)?, cpu.unary_grad(f, &x, &g)?])
        });
    }
    for shape in [&SHAPE[..], &[CHANNELS, 1], &[LENGTH], &[BATCH, 1, LENGTH], &[]] {
        one_answer(&format!("binary and sum_to with {shape:?}"), |cpu| {
            let (x, y) = (values(cpu, 1, &SHAPE)?, values(cpu, 2, shape)?);
            let mut results = vec![cpu.sum_to(&x, shape)?];
            for f in Binary::ALL {
                results.extend([cpu.binary(f, &x, &y)?, cpu.binary(f, &y, &x)?]);
            }
            Ok(results)
        });
    }
    one_answer("select", |cpu| {
        let (x, row) = (values(cpu, 1, &SHAPE)?, values(cpu, 2, &[LENGTH])?);
        let mask = cpu.binary(Binary::Gt, &x, &row)?;
        Ok(vec![cpu.select(&mask, &x, &row)?, cpu.select(&mask, &row, &x)?])
    });
    one_answer("full and first_not_finite", |cpu| {
        let full = cpu.full(&SHAPE, 0.3)?;
        let bad = cpu.full(&SHAPE, f64::NAN)?;
        let place = cpu.first_not_finite(&[&full, &bad])?.map_or(-1.0, |place| place as f64);
        Ok(vec![full, cpu.full(&[], place)?])
    });
}

#[test]
fn reductions() {
    for axes in [&[0][..], &[1], &[2], &[0, 2], &[0, 1, 2]] {
        one_answer(&format!("reductions over {axes:?}"), |cpu| {
            let x = values(cpu, 1, &SHAPE)?;
            Reduction::ALL.into_iter().map(|kind| cpu.reduce(kind, &x, axes)).collect()
        });
    }
    for axis in 0..3 {
        one_answer(&format!("what runs along axis {axis}"), |cpu| {
            let (x, g) = (values(cpu, 1, &SHAPE)?, values(cpu, 2, &SHAPE)?);
            let (y, log) = (cpu.softmax(&x, axis)?, cpu.log_softmax(&x, axis)?);
            let (y_grad, log_grad) = (cpu.softmax_grad(&y, &g, axis)?, cpu.log_softmax_grad(&log, &g, axis)?);
            Ok(vec![y, log, y_grad, log_grad, cpu.argmax(&x, axis)?, cpu.cumsum(&x, axis, false)?, cpu.cumsum(&x, axis, true)?])
        });
    }
}

#[test]
fn products_and_transforms() {
    for (left, right) in [(&[3, 1, 90, 70][..], &[4, 50, 90][..]), (&[300, 200], &[150, 300])] {
        one_answer("matmul", |cpu| Ok(vec![cpu.matmul(&values(cpu, 1, left)?, true, &values(cpu, 2, right)?, true)?]));
    }
    one_answer("rfft and irfft", |cpu| {
        let spectrum = cpu.rfft(&values(cpu, 1, &SHAPE)?)?;
        let back = cpu.irfft(&spectrum, LENGTH)?;
        Ok(vec![spectrum, back])
    });
}

/// The mix of `parts` to `d_out` channels and its gradients, with all that can follow the product or, `plain`, nothing.
fn mixed(cpu: &Device, parts: &[Values], d_out: usize, plain: bool) -> Result<Vec<Values>> {
    let d_in: usize = parts.iter().map(|x| x.shape()[1]).sum();
    let shape = [parts[0].shape()[0], d_out, parts[0].shape()[2]];
    let (weight, bias, residual) = (values(cpu, 3, &[d_out, d_in])?, values(cpu, 4, &[d_out])?, values(cpu, 6, &shape)?);
    let parts: Vec<&Values> = parts.iter().collect();
    let full = Mixing {
        parts: &parts,
        weight: &weight,
        bias: &bias,
        activation: Some(Unary::Gelu),
        dropout: Some((0.25, Key::new(9).into())),
        residual: Some(&residual),
    };
    let mixing = if plain { Mixing { activation: None, dropout: None, residual: None, ..full } } else { full };
    let mut results = some(cpu.mix_grad(mixing, &values(cpu, 5, &shape)?, &vec![true; parts.len() + 2])?);
    results.push(cpu.mix(mixing)?);
    Ok(results)
}

#[test]
fn mixes() {
    for plain in [true, false] {
        one_answer("mix", |cpu| mixed(cpu, &[values(cpu, 1, &SHAPE)?, values(cpu, 2, &[BATCH, 3, LENGTH])?], 40, plain));
        // Few spikes are added row by row, many are a matrix product; 130 outputs are more than a block of them.
        for rate in [0.1, 0.7] {
            one_answer(&format!("mix of spikes, {rate}"), |cpu| {
                mixed(cpu, &[drawn(cpu, 1, &[18, 19, 300], rate)?, drawn(cpu, 2, &[18, 5, 300], rate)?], 130, plain)
            });
        }
        one_answer("mix of spikes and numbers", |cpu| mixed(cpu, &[drawn(cpu, 1, &SHAPE, 0.1)?, values(cpu, 2, &SHAPE)?], 40, plain));
    }
}

#[test]
fn moving_values() {
    one_answer("permute, slice, concat, flip", |cpu| {
        let (x, y) = (values(cpu, 1, &SHAPE)?, values(cpu, 2, &[BATCH, 4, LENGTH])?);
        let permuted = cpu.permute(&x, &[2, 0, 1])?;
        Ok(vec![permuted, cpu.slice(&x, 1, 2, 4)?, cpu.concat(&[&x, &y], 1)?, cpu.flip(&x, 2)?, cpu.flip(&x, 0)?])
    });
    one_answer("embed", |cpu| {
        let tokens = tokens(BATCH * LENGTH, 30);
        let embedded = cpu.embed(&values(cpu, 1, &[30, CHANNELS])?, &tokens, BATCH)?;
        Ok(vec![embedded, cpu.embed_grad(30, &tokens, &values(cpu, 2, &SHAPE)?)?])
    });
}

#[test]
fn indexed_entries() {
    // Blocks that are shared among threads whole, and few that are cut.
    for (shape, axis) in [(&[BATCH, CHANNELS, LENGTH][..], 1), (&[2, 30_011], 1), (&[7_001, 5], 0)] {
        one_answer(&format!("index_select and index_add, {shape:?}"), |cpu| {
            let x = values(cpu, 1, shape)?;
            let index: Vec<u32> = tokens(shape[axis] + 33, shape[axis] as u32);
            let picked = cpu.index_select(&x, axis, &index)?;
            Ok(vec![cpu.index_add(&picked, axis, &index, shape[axis])?, picked])
        });
    }
}

#[test]
fn scans() {
    for (complex, reverse, a) in [(false, false, &SHAPE[..]), (false, true, &[CHANNELS, 1]), (true, false, &[LENGTH]), (true, true, &SHAPE)]
    {
        one_answer(&format!("scan, complex: {complex}, reverse: {reverse}, a: {a:?}"), |cpu| {
            let planar = |shape: &[usize]| if complex { [&[2], shape].concat() } else { shape.to_vec() };
            let (a, b) = (values(cpu, 1, &planar(a))?, values(cpu, 2, &planar(&SHAPE))?);
            let initial = values(cpu, 3, &planar(&SHAPE[..2]))?;
            let scan = LinearScan { a: &a, b: &b, initial: Some(&initial), complex, reverse };
            let h = cpu.scan(scan)?;
            let mut results = some(cpu.scan_grad(scan, &h, &values(cpu, 4, h.shape())?, [true; 3])?);
            results.push(h);
            Ok(results)
        });
    }
}

#[test]
fn draws() {
    one_answer("a draw", |cpu| Ok(vec![cpu.draw_uniform(Key::new(1).into(), &SHAPE)?, cpu.draw_uniform(Key::new(2).into(), &[9000, 5])?]));
    one_answer("uniform and normal", |cpu| Ok(vec![cpu.uniform(Key::new(1), &[70_001])?, cpu.normal(Key::new(2), &[70_001])?]));
}

#[test]
fn normalisations() {
    one_answer("affine", |cpu| {
        let (x, g) = (values(cpu, 1, &SHAPE)?, values(cpu, 2, &SHAPE)?);
        let (scale, shift) = (values(cpu, 3, &[CHANNELS])?, values(cpu, 4, &[CHANNELS])?);
        let mut results = some(cpu.affine_grad(&x, &scale, &g, [true; 3])?);
        results.push(cpu.affine(&x, &scale, &shift)?);
        Ok(results)
    });
    one_answer("moments", |cpu| {
        let x = values(cpu, 1, &SHAPE)?;
        let moments = cpu.moments(&x)?;
        let grad = cpu.moments_grad(&x, &moments, &values(cpu, 2, &[2, CHANNELS])?)?;
        Ok(vec![moments, grad, cpu.moments(&drawn(cpu, 3, &SHAPE, 0.2)?)?])
    });
    for axes in NormAxes::ALL {
        one_answer(&format!("{axes:?} norm"), |cpu| {
            let (x, g) = (values(cpu, 1, &SHAPE)?, values(cpu, 2, &SHAPE)?);
            let (gamma, beta) = (values(cpu, 3, &[CHANNELS])?, values(cpu, 4, &[CHANNELS])?);
            let there = cpu.normalize(axes, &x, &gamma, &beta, 1e-5)?;
            let grads = cpu.normalize_grad(axes, &x, &gamma, (&there.mean, &there.var), 1e-5, &g)?;
            Ok([there.output, there.mean, there.var].into_iter().chain(grads).collect())
        });
    }
}

#[test]
fn spikes() {
    for (surrogate, mode) in Surrogate::ALL.into_iter().flat_map(|surrogate| SpikeMode::ALL.map(|mode| (surrogate, mode))) {
        one_answer(&format!("spike, {mode:?} {surrogate:?}"), |cpu| {
            let (x, g) = (values(cpu, 1, &SHAPE)?, values(cpu, 2, &SHAPE)?);
            let affine = (&values(cpu, 3, &[CHANNELS])?, &values(cpu, 4, &[CHANNELS])?);
            let spike = Spike { noise: Noise::Stream(Key::new(5).into()), mode, surrogate };
            let mut results = some(cpu.spike_grad(&spike, &x, Some(affine), &g, [true; 3])?);
            results.extend(some(cpu.spike_grad(&spike, &x, None, &g, [true, false, false])?));
            results.extend([cpu.spike(&spike, &x, Some(affine))?, cpu.spike(&spike, &x, None)?]);
            Ok(results)
        });
        one_answer(&format!("lif, {surrogate:?}"), |cpu| {
            let (x, g) = (values(cpu, 1, &SHAPE)?, values(cpu, 2, &SHAPE)?);
            let lif = Lif { decay: 0.9, threshold: 0.5, soft_reset: mode == SpikeMode::Sampled, surrogate };
            let plif = Plif { soft_reset: lif.soft_reset, adaptation: Some(Adaptation { strength: 0.2, fading: 0.8 }), surrogate };
            let (decay, threshold) = (cpu.full(&[CHANNELS], 0.9)?, cpu.full(&[CHANNELS], 0.5)?);
            let mut all = vec![cpu.lif(&lif, &x)?, cpu.lif_grad(&lif, &x, &g)?, cpu.plif(&plif, &x, &decay, &threshold)?];
            all.extend(some(cpu.plif_grad(&plif, &x, &decay, &threshold, &g, [true; 3])?));
            Ok(all)
        });
    }
}

/// More batch entries than share one sum of a convolution's gradients, more channels than one vector holds.
const WIDE: [usize; 3] = [35, 19, 150];

/// Calls `f` with a convolution of `x` over its length with kernels (kernels, H, len).
fn convolve<T>(cpu: &Device, x: &Values, [kernels, len]: [usize; 2], f: impl FnOnce(LongConv<'_, Device>) -> Result<T>) -> Result<T> {
    let (kernel, skip) = (values(cpu, 3, &[kernels, x.shape()[1], len])?, values(cpu, 4, &[x.shape()[1]])?);
    let lengths = [400, 1, 7, 399, 200, 33, 400, 64, 100].iter().cycle().take(x.shape()[0]);
    let lengths: Vec<usize> = lengths.map(|&len: &usize| len.min(x.shape()[2])).collect();
    f(LongConv { input: x, kernel: &kernel, skip: Some(&skip), lengths: Some(&lengths) })
}

/// The inputs of convolutions: numbers, and the backend's own spikes, few and many.
fn inputs(cpu: &Device) -> Result<[Values; 4]> {
    Ok([values(cpu, 1, &SHAPE)?, values(cpu, 1, &WIDE)?, drawn(cpu, 1, &WIDE, 0.1)?, drawn(cpu, 1, &WIDE, 0.7)?])
}

#[test]
fn convolutions() {
    for (kernels, i) in [[1, 400], [2, 133], [2, 405]].into_iter().flat_map(|kernels| (0..4).map(move |i| (kernels, i))) {
        one_answer(&format!("long_conv with {kernels:?} of input {i}"), |cpu| {
            let x = &inputs(cpu)?[i];
            let g = values(cpu, 2, x.shape())?;
            convolve(cpu, x, kernels, |conv| {
                let mut results = some(cpu.long_conv_grad(conv, &g, [true; 3])?);
                results.push(cpu.long_conv(conv)?);
                Ok(results)
            })
        });
    }
}

#[test]
fn convolutions_that_fire() {
    let modes = [
        (SpikeMode::Sampled, Surrogate::Clamp),
        (SpikeMode::Sampled, Surrogate::Atan { alpha: 2.0 }),
        (SpikeMode::Expected, Surrogate::Clamp),
    ];
    for ((mode, surrogate), i) in modes.into_iter().flat_map(|mode| (0..4).map(move |i| (mode, i))) {
        one_answer(&format!("fire, {mode:?} {surrogate:?}, of input {i}"), |cpu| {
            let x = &inputs(cpu)?[i];
            let (g, channels) = (values(cpu, 2, x.shape())?, x.shape()[1]);
            let affine = (&values(cpu, 5, &[channels])?, &values(cpu, 6, &[channels])?);
            let spike = Spike { noise: Noise::Stream(Key::new(7).into()), mode, surrogate };
            let dropout = FiringDropout { p: 0.25, elements: Key::new(8).into(), channels: Key::new(9).into() };
            let full = Firing { activation: Some(Unary::Gelu), dropout: Some(dropout), affine: Some(affine), spike: spike.as_ref() };
            convolve(cpu, x, [2, 133], |conv| {
                let mut results = Vec::new();
                for firing in [full, Firing { activation: None, dropout: None, affine: None, spike: spike.as_ref() }] {
                    let affine = firing.affine.is_some();
                    results.extend(some(cpu.fire_grad(conv, firing, &g, [true, true, true, affine, affine])?));
                    results.push(cpu.fire(conv, firing)?);
                }
                Ok(results)
            })
        });
    }
}

/// A system of 9 channels, tied in threes, 8 modes.
fn system(cpu: &Device, rank: usize) -> Result<SsmParams<Tensor<Device>>> {
    Ok(SsmParams {
        inv_dt: cpu.unary(Unary::Linear(0.5, -4.0), &values(cpu, 1, &[9])?)?,
        a_real: values(cpu, 2, &[3, 8])?,
        a_imag: cpu.unary(Unary::Linear(20.0, 0.0), &values(cpu, 3, &[3, 8])?)?,
        b: values(cpu, 4, &[2, 3, 8])?,
        c: values(cpu, 5, &[2, 2, 9, 8])?,
        p: if rank == 0 { None } else { Some(values(cpu, 6, &[2, rank, 3, 8])?) },
        dt: DtTransform::Softplus,
    })
}

#[test]
fn kernels() {
    for rank in [1, 2] {
        one_answer("dplr", |cpu| {
            let (ssm, g) = (system(cpu, rank)?, values(cpu, 7, &[2, 9, 999])?);
            let results = [cpu.dplr_kernel(&ssm, 1000, 999)?, pspikessm::internal::dplr_advance(cpu, &ssm, 500)?];
            Ok(results.into_iter().chain(cpu.dplr_kernel_grad(&ssm, 1000, &g)?.in_order()).collect())
        });
    }
    for disc in Discretization::ALL {
        one_answer(&format!("diagonal, {disc:?}"), |cpu| {
            let (ssm, g) = (system(cpu, 0)?, values(cpu, 7, &[2, 9, 1001])?);
            let kernel = cpu.diag_kernel(&ssm, disc, 1001)?;
            Ok(std::iter::once(kernel).chain(cpu.diag_kernel_grad(&ssm, disc, &g)?.in_order()).collect())
        });
    }
}

#[test]
fn losses_and_steps() {
    one_answer("cross_entropy", |cpu| {
        let labels: Vec<usize> = tokens(500, 37).iter().map(|&t| t as usize).collect();
        let (loss, softmax) = cpu.cross_entropy(&values(cpu, 1, &[500, 37])?, &labels)?;
        let grad = cpu.cross_entropy_grad(&softmax, &labels, &cpu.full(&[], 0.7)?)?;
        Ok(vec![loss, softmax, grad])
    });
    one_answer("adamw", |cpu| {
        let step = AdamW { lr: 1e-2, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05, step: 3 };
        let second = cpu.unary(Unary::Square, &values(cpu, 3, &SHAPE)?)?;
        Ok(cpu.adamw(&step, [&values(cpu, 1, &SHAPE)?, &values(cpu, 2, &SHAPE)?, &second], &values(cpu, 4, &SHAPE)?)?.into())
    });
}
