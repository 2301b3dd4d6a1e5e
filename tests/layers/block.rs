//! The block against the official code's values, and what its options, padding and noise do.

use crate::common::{Array, assert_close, assign, distance, fetch, fixture, gradient, host, largest, official_in_block, whole_numbers};
use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::*;
use pspikessm::nn::{Activation, Block, BlockConfig, Context, Module, NormKind, PlifConfig, SpikeMeter, SpikeSource, Ssm, SsmConfig};

type B = Cpu<f64>;

// ---------------------------------------------------------------- the official code's values

/// A block with the parameters of a fixture, whose C is C~ of length 16.
fn official_block<C: Backend>(device: &C, fixture: &serde_json::Value, config: &BlockConfig) -> Block<C> {
    let block = Block::new(device, Key::new(0), config).unwrap();
    for (name, param) in block.parameters() {
        let shape = param.value().shape().to_vec();
        if name.ends_with("l_kernel") {
            param.set(device.full(&shape, 16.0).unwrap()).unwrap();
        } else if param.is_trained() {
            let official = official_in_block(&name, config.bidirectional);
            param.set(Array::read(&fixture["params"][&official]).parameter(&official, &shape).tensor(device)).unwrap();
        }
    }
    block
}

/// What the official values are held to, as a share of the largest entry.
#[derive(Clone, Copy)]
struct Tolerance {
    output: f64,
    gradients: f64,
}

const F64: Tolerance = Tolerance { output: 1e-10, gradients: 1e-10 };
/// Round-off is 1.2e-7. The gradients of step sizes are sums that cancel to a hundredth of their terms: in f64 they lose two digits, too.
const F32: Tolerance = Tolerance { output: 1e-6, gradients: 5e-5 };

/// Holds a block, forwards and backwards, to its fixture; the share of ones among its spikes.
fn check_official<C: Backend>(device: &C, tolerance: Tolerance, what: &str, block: (bool, bool, NormKind)) -> f64 {
    let (fixture, (bidirectional, prenorm, norm)) = (fixture(what), block);
    let read = |name: &str| Array::read(&fixture[name]).sequence();
    let config = BlockConfig::new(SsmConfig::new(4, 8).l_max(16)).bidirectional(bidirectional).prenorm(prenorm).norm(norm);
    let block = official_block(device, &fixture, &config);
    let (tape, meter, lengths) = (Tape::new(device), SpikeMeter::default(), whole_numbers(&fixture["lengths"]));
    let x = tape.leaf(&read("x").tensor(device));
    let noise = [read("u1").tensor(device), read("u2").tensor(device)];
    let cx = Context::training(&tape, Key::new(0)).metered(&meter).given(&noise);
    let y = block.forward(&cx, &x, lengths.as_deref()).unwrap();
    assert_close(&format!("{what} y"), &host(device, y.value()), &read("y").values, tolerance.output);
    let gradients = y.backward_from(&read("gy").tensor(device)).unwrap();
    let gx = host(device, gradients.of(&x).unwrap());
    assert_close(&format!("{what} dx"), &gx, &read("gx").values, tolerance.gradients);
    for (name, param) in block.parameters().into_iter().filter(|(_, param)| param.is_trained()) {
        let official = official_in_block(&name, bidirectional);
        let want = Array::read(&fixture["grads"][&official]).parameter(&official, param.value().shape()).values;
        let got = gradient(device, &gradients, &param);
        match official.as_str() {
            // A BatchNorm takes out what is added to its input: zero in exact arithmetic, and the official value is round-off.
            "inp_b" if prenorm && norm == NormKind::Batch => {
                assert!(largest(&got) < tolerance.gradients && largest(&want) < 1e-10, "{what} d{official}: {got:?}");
            }
            // It also takes out what its input is multiplied with, but for its eps: what is left counts beside what was taken out.
            "inp_a" if prenorm && norm == NormKind::Batch && tolerance.gradients > F64.gradients => {
                let off = largest(&got.iter().zip(&want).map(|(g, w)| g - w).collect::<Vec<_>>());
                println!("{what} d{official}: {off:.1e} of {:.1e}, {:.1e}", largest(&want), largest(&gx));
                assert!(off <= tolerance.gradients * largest(&gx), "{what} d{official}: {got:?}");
            }
            _ => drop(assert_close(&format!("{what} d{official}"), &got, &want, tolerance.gradients)),
        }
    }
    meter.rate()
}

/// Holds all official blocks to their fixtures; the shares of ones among their spikes.
fn check_all_official<C: Backend>(device: &C, tolerance: Tolerance) -> Vec<f64> {
    let (batch, layer) = (NormKind::Batch, NormKind::Layer);
    let blocks = [
        ("block_bi_post_batch", (true, false, batch)),
        ("block_bi_post_layer", (true, false, layer)),
        ("block_bi_pre_batch", (true, true, batch)),
        ("block_uni_post_batch", (false, false, batch)),
        ("block_uni_post_layer", (false, false, layer)),
        ("block_uni_pre_batch", (false, true, batch)),
    ];
    blocks.into_iter().map(|(what, block)| check_official(device, tolerance, what, block)).collect()
}

#[test]
fn blocks_are_the_official_ones() {
    check_all_official(&B::new(), F64);
}

/// No spike flips: as many spikes, and none in another place, which would move the output by a weight of the mixer.
fn check_all_official_in_f32<C: Backend<Elem = f32>>(device: &C) {
    assert_eq!(check_all_official(device, F32), check_all_official(&B::new(), F64), "the shares of ones");
}

#[test]
fn blocks_are_the_official_ones_in_f32() {
    check_all_official_in_f32(&Cpu::<f32>::new());
}

#[cfg(feature = "wgpu")]
#[test]
fn blocks_are_the_official_ones_on_wgpu() {
    check_all_official_in_f32(&pspikessm::backend::Wgpu::new().expect("a device"));
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs an NVIDIA GPU: run by benches/gpu.sh"]
fn blocks_are_the_official_ones_on_cuda() {
    check_all_official_in_f32(&pspikessm::backend::Cuda::<f32>::new().expect("a device"));
    check_all_official(&pspikessm::backend::Cuda::<f64>::new().expect("a device"), F64);
}

// ---------------------------------------------------------------- a small block of our own

const H: usize = 5;
const L: usize = 21;
const LENGTHS: [usize; 3] = [21, 1, 13];
const SHAPE: [usize; 3] = [LENGTHS.len(), H, L];

/// No norm, so that sequences do not see each other; large steps, so that short sequences see the kernel.
fn plain() -> BlockConfig {
    BlockConfig::new(SsmConfig::new(H, 4).dt_min(0.05).dt_max(0.5).l_max(L)).norm(None)
}

fn block<C: Backend>(device: &C, config: &BlockConfig) -> Block<C> {
    Block::new(device, Key::new(1), config).unwrap()
}

/// Potentials on both sides of 0 and 1.
fn input<C: Backend>(device: &C) -> Array {
    Array::new(&SHAPE, host(device, &device.normal(Key::new(2), &SHAPE).unwrap()).into_iter().map(|z| 0.5 + 0.7 * z).collect())
}

fn draws(cpu: &B, count: u64) -> Vec<Array> {
    (0..count).map(|i| Array::new(&SHAPE, host(cpu, &cpu.uniform(Key::new(3).fold(i), &SHAPE).unwrap()))).collect()
}

fn given(cpu: &B, draws: &[Array]) -> Vec<Tensor<B>> {
    draws.iter().map(|u| u.tensor(cpu)).collect()
}

/// A cotangent of the output.
fn cotangent<C: Backend>(device: &C) -> Array {
    Array::new(&SHAPE, host(device, &device.normal(Key::new(4), &SHAPE).unwrap()))
}

/// What a training pass and its way back give.
#[derive(Debug, PartialEq)]
struct Pass {
    y: Vec<f64>,
    gx: Vec<f64>,
    grads: Vec<(String, Vec<f64>)>,
}

impl Pass {
    fn run<C: Backend>(
        device: &C,
        block: &Block<C>,
        key: u64,
        x: &Array,
        lengths: Option<&[usize]>,
        noise: Option<&[Tensor<C>]>,
        gy: &Array,
    ) -> Self {
        let tape = Tape::new(device);
        let x = tape.leaf(&x.tensor(device));
        let cx = Context::training(&tape, Key::new(key));
        let cx = noise.map_or(cx.clone(), |noise| cx.given(noise));
        let y = block.forward(&cx, &x, lengths).unwrap();
        assert_eq!(y.shape(), x.shape());
        let gradients = y.backward_from(&gy.tensor(device)).unwrap();
        let trained = block.parameters().into_iter().filter(|(_, param)| param.is_trained());
        let grads = trained.map(|(name, param)| (name, gradient(device, &gradients, &param))).collect();
        Pass { y: host(device, y.value()), gx: host(device, gradients.of(&x).unwrap()), grads }
    }

    /// The usual input, lengths and cotangent, with noise of the key's streams.
    fn streamed<C: Backend>(device: &C, config: &BlockConfig, key: u64) -> Self {
        Pass::run(device, &block(device, config), key, &input(device), Some(&LENGTHS), None, &cotangent(device))
    }

    fn grad(&self, name: &str) -> &[f64] {
        &self.grads.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("no {name}")).1
    }
}

// ---------------------------------------------------------------- options

/// One block for every option.
fn variants() -> Vec<BlockConfig> {
    let lif = Lif { decay: 0.8, threshold: 0.6, soft_reset: true, surrogate: Surrogate::Atan { alpha: 2.0 } };
    let ssm = plain().ssm;
    vec![
        plain().own_noise(true),
        plain().flip_reverse(true),
        plain().ssm(ssm.clone().activation(Activation::Identity)),
        plain().ssm(ssm.causal()),
        plain().activation(Activation::Relu),
        plain().clamp_residual(true),
        plain().residual(false),
        plain().bidirectional(false),
        plain().dropout(0.3),
        plain().norm(NormKind::Layer).prenorm(true),
        plain().norm(NormKind::Batch),
        plain().source(SpikeSource::Lif(lif)),
        plain().source(SpikeSource::Plif(PlifConfig::new(0.8).threshold(0.6).soft_reset(true).surrogate(Surrogate::Atan { alpha: 2.0 }))),
    ]
}

#[test]
fn every_option_runs_with_finite_gradients_that_reach_every_parameter() {
    let cpu = B::new();
    let base = Pass::streamed(&cpu, &plain(), 7);
    for config in &variants() {
        let pass = Pass::streamed(&cpu, config, 7);
        assert!(distance(&pass.y, &base.y) > 1e-3, "{config:?} changes nothing");
        for (name, grad) in [("x".to_owned(), pass.gx.clone())].iter().chain(&pass.grads) {
            assert!(grad.iter().all(|g| g.is_finite()), "{name} of {config:?}");
            assert!(largest(grad) > 0.0, "{name} of {config:?} gets no gradient");
        }
    }
}

/// The draws are the same bits, and no potential lies within round-off of its own or of an end of its surrogate: what differs is round-off.
fn check_every_option<C: Backend<Elem = f32>>(device: &C) {
    let ssm = plain().ssm.dropout(0.3);
    let more = Surrogate::ALL.map(|surrogate| plain().source(SpikeSource::Probability(surrogate.with_alpha(3.0))).ssm(ssm.clone()));
    for mut config in variants().into_iter().chain(more) {
        if !config.ssm.bidirectional {
            // Before the first spike a causal layer's output is zero, give or take round-off: on the end of the clamp, which a sigmoid has not.
            config.source = SpikeSource::Probability(Surrogate::Sigmoid { alpha: 3.0 });
        }
        let (got, want) = (Pass::streamed(device, &config, 7), Pass::streamed(&B::new(), &config, 7));
        println!("{config:?}");
        assert_close("y", &got.y, &want.y, 2e-6);
        assert_close("dx", &got.gx, &want.gx, 5e-5);
        for ((name, got), (_, want)) in got.grads.iter().zip(&want.grads) {
            assert_close(&format!("d {name}"), got, want, 5e-5);
        }
    }
}

#[test]
fn every_option_gives_the_same_in_f32() {
    check_every_option(&Cpu::<f32>::new());
}

#[cfg(feature = "wgpu")]
#[test]
fn every_option_gives_the_same_on_wgpu() {
    check_every_option(&pspikessm::backend::Wgpu::new().expect("a device"));
}

#[cfg(feature = "cuda")]
#[test]
#[ignore = "needs an NVIDIA GPU: run by benches/gpu.sh"]
fn every_option_gives_the_same_on_cuda() {
    check_every_option(&pspikessm::backend::Cuda::<f32>::new().expect("a device"));
}

#[test]
fn a_surrogate_changes_gradients_but_no_spike() {
    let cpu = B::new();
    let base = Pass::streamed(&cpu, &plain(), 7);
    let alpha = 2.0;
    for surrogate in Surrogate::ALL.map(|surrogate| surrogate.with_alpha(alpha)).into_iter().filter(|&other| other != Surrogate::Clamp) {
        let pass = Pass::streamed(&cpu, &plain().source(SpikeSource::Probability(surrogate)), 7);
        assert_eq!(pass.y, base.y, "{surrogate:?}");
        assert!(pass.grads.iter().all(|(name, grad)| grad.iter().all(|g| g.is_finite()) && largest(grad) > 0.0 || panic!("{name}")));
        assert!(distance(&pass.gx, &base.gx) > 1e-3 && distance(pass.grad("forward.ssm.D"), base.grad("forward.ssm.D")) > 1e-3);
    }
}

#[test]
fn integrate_and_fire_neurons_draw_nothing() {
    let cpu = B::new();
    let lif = Lif { decay: 0.5, threshold: 1.0, soft_reset: false, surrogate: Surrogate::Clamp };
    let config = plain().source(SpikeSource::Lif(lif));
    assert_eq!(Pass::streamed(&cpu, &config, 7), Pass::streamed(&cpu, &config, 8));
}

#[test]
fn the_residual_adds_the_input_and_clamps_on_request() {
    let cpu = B::new();
    let x = input(&cpu).values;
    let open = Pass::streamed(&cpu, &plain(), 7).y;
    let mixed = Pass::streamed(&cpu, &plain().residual(false), 7).y;
    assert_close("x + m", &open, &x.iter().zip(&mixed).map(|(x, m)| x + m).collect::<Vec<_>>(), 1e-14);
    let clamped = Pass::streamed(&cpu, &plain().clamp_residual(true), 7).y;
    assert!(open.iter().any(|&y| y < 0.0) && open.iter().any(|&y| y > 1.0), "the residual stays open");
    assert_eq!(clamped, open.iter().map(|y| y.clamp(0.0, 1.0)).collect::<Vec<_>>());
    // Without a residual there is nothing to drop or clamp.
    let bare = plain().residual(false).dropout(0.5).clamp_residual(true);
    assert_eq!(Pass::streamed(&cpu, &bare, 7).y, mixed);
}

#[test]
fn relu_has_no_negative_output_and_gelu_has() {
    let cpu = B::new();
    let mixed = |activation| Pass::streamed(&cpu, &plain().residual(false).activation(activation), 7).y;
    let (relu, gelu) = (mixed(Activation::Relu), mixed(Activation::Gelu));
    assert!(relu.iter().all(|&m| m >= 0.0) && relu.contains(&0.0));
    assert!(gelu.iter().any(|&m| m < 0.0));
    assert!(relu.iter().zip(&gelu).all(|(relu, gelu)| (*relu > 0.0) == (*gelu > 0.0)));
}

#[test]
fn a_norm_after_the_block_normalises_its_output() {
    let cpu = B::new();
    let plain_y = Array::new(&SHAPE, Pass::streamed(&cpu, &plain(), 7).y);
    let normed = |kind| Pass::streamed(&cpu, &plain().norm(kind), 7).y;
    let normalised = |values: &[f64]| -> Vec<f64> {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let var = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
        values.iter().map(|v| (v - mean) / (var + 1e-5).sqrt()).collect()
    };
    // One row a position, then one row a channel.
    let by_position = plain_y.sequence();
    let layer = Array::new(&by_position.shape, by_position.values.chunks(H).flat_map(normalised).collect()).sequence();
    assert_close("LayerNorm", &normed(NormKind::Layer), &layer.values, 1e-12);
    let by_channel = plain_y.permute(&[1, 0, 2]);
    let rows = by_channel.values.chunks(SHAPE[0] * L).flat_map(normalised).collect();
    assert_close("BatchNorm", &normed(NormKind::Batch), &Array::new(&by_channel.shape, rows).permute(&[1, 0, 2]).values, 1e-12);
}

#[test]
fn own_noise_uses_a_draw_for_every_spike() {
    let cpu = B::new();
    let (official, own) = (plain(), plain().own_noise(true));
    assert_eq!((official.draws(), own.draws(), own.clone().bidirectional(false).draws()), (2, 4, 2));
    let draws = draws(&cpu, 4);
    let y = |config: &BlockConfig, picked: [usize; 4]| {
        let noise = given(&cpu, &picked.map(|i| draws[i].clone())[..config.draws()]);
        Pass::run(&cpu, &block(&cpu, config), 0, &input(&cpu), Some(&LENGTHS), Some(&noise), &cotangent(&cpu)).y
    };
    // The official code draws the mixed spikes with the first numbers again.
    assert_eq!(y(&own, [0, 1, 0, 0]), y(&official, [0, 1, 0, 0]));
    for other in [[0, 1, 2, 0], [0, 1, 0, 2], [2, 1, 0, 0], [0, 2, 0, 0]] {
        assert_ne!(y(&own, other), y(&own, [0, 1, 0, 0]), "{other:?}");
    }
}

// ---------------------------------------------------------------- time and padding

/// The true part of every sequence in reverse order, its padding where it was.
fn reversed(x: &Array, lengths: &[usize]) -> Array {
    let mut out = x.clone();
    for (row, values) in out.values.chunks_mut(L).enumerate() {
        values[..lengths[row / H]].reverse();
    }
    out
}

/// Zero behind the true lengths.
fn silenced(x: &Array, lengths: &[usize]) -> Array {
    let mut out = x.clone();
    for (row, values) in out.values.chunks_mut(L).enumerate() {
        values[lengths[row / H]..].fill(0.0);
    }
    out
}

/// The block with the half of the SpikeMixer's weights that reads one branch set to zero.
fn deaf_to(cpu: &B, config: &BlockConfig, reverse: bool) -> Block<B> {
    let block = block(cpu, config);
    let mut weight = fetch(cpu, &block, "mixer.weight");
    weight.iter_mut().enumerate().filter(|(i, _)| (i % (2 * H) >= H) == reverse).for_each(|(_, w)| *w = 0.0);
    assign(cpu, &block, "mixer.weight", &weight);
    block
}

#[test]
fn flipping_reverses_the_true_part_of_the_second_branch_only() {
    let cpu = B::new();
    let (straight, flipped) = (plain(), plain().flip_reverse(true));
    for lengths in [LENGTHS, [L; 3]] {
        let (x, u, gy) = (input(&cpu), draws(&cpu, 2), silenced(&cotangent(&cpu), &lengths));
        let run = |block: Block<B>, x: &Array, u: &[Array], gy: &Array| {
            let pass = Pass::run(&cpu, &block, 0, x, Some(&lengths), Some(&given(&cpu, u)), gy);
            let part = |values| silenced(&Array::new(&SHAPE, values), &lengths);
            (part(pass.y), part(pass.gx), pass.grads.into_iter().find(|(name, _)| name == "reverse.ssm.kernel.C").unwrap().1)
        };
        let back = |x: &Array| reversed(x, &lengths);
        // Only the first branch is heard: a flip of the second is not.
        assert_eq!(run(deaf_to(&cpu, &flipped, true), &x, &u, &gy), run(deaf_to(&cpu, &straight, true), &x, &u, &gy));
        // Only the second branch is heard: a flip is the unflipped block on sequences that run backwards.
        let (y, gx, gc) = run(deaf_to(&cpu, &flipped, false), &x, &u, &gy);
        let u_back: Vec<_> = u.iter().map(back).collect();
        let (y_back, gx_back, gc_back) = run(deaf_to(&cpu, &straight, false), &back(&x), &u_back, &back(&gy));
        assert_close("y", &y.values, &back(&y_back).values, 1e-12);
        assert_close("dx", &gx.values, &back(&gx_back).values, 1e-12);
        assert_close("dC", &gc, &gc_back, 1e-12);
        let (unflipped, ..) = run(deaf_to(&cpu, &straight, false), &x, &u, &gy);
        assert!(distance(&y.values, &unflipped.values) > 1e-3, "the flip does nothing");
    }
}

#[test]
fn a_padded_sequence_gives_what_it_gives_alone() {
    let cpu = B::new();
    for (bidirectional, flip_reverse, norm) in [(false, false, None), (true, false, Some(NormKind::Layer)), (true, true, None)] {
        let config = plain().bidirectional(bidirectional).flip_reverse(flip_reverse).norm(norm);
        let (block, x, u) = (block(&cpu, &config), input(&cpu), draws(&cpu, 2));
        let y = Pass::run(&cpu, &block, 0, &x, Some(&LENGTHS), Some(&given(&cpu, &u)), &cotangent(&cpu)).y;
        for (b, length) in LENGTHS.into_iter().enumerate() {
            let cut = |x: &Array| {
                let rows = x.values[b * H * L..(b + 1) * H * L].chunks(L);
                Array::new(&[1, H, length], rows.flat_map(|row| row[..length].to_vec()).collect())
            };
            let noise = given(&cpu, &u.iter().map(cut).collect::<Vec<_>>());
            let alone = Pass::run(&cpu, &block, 0, &cut(&x), None, Some(&noise), &cut(&cotangent(&cpu))).y;
            assert_close(&format!("sequence {b} of {config:?}"), &cut(&Array::new(&SHAPE, y.clone())).values, &alone, 1e-12);
        }
    }
}

// ---------------------------------------------------------------- noise

#[test]
fn the_same_key_spikes_the_same_and_another_key_does_not() {
    let cpu = B::new();
    let config = plain().dropout(0.2).ssm(plain().ssm.dropout(0.2));
    assert_eq!(Pass::streamed(&cpu, &config, 7), Pass::streamed(&cpu, &config, 7));
    assert_ne!(Pass::streamed(&cpu, &config, 7).y, Pass::streamed(&cpu, &config, 8).y);
}

#[test]
fn streams_are_the_given_uniform_numbers_of_their_keys() {
    let cpu = B::new();
    for config in [plain(), plain().own_noise(true), plain().bidirectional(false)] {
        let drawn: Vec<_> = (0..config.draws() as u64).map(|i| cpu.draw_uniform(Key::new(7).fold(i).into(), &SHAPE).unwrap()).collect();
        let pass = Pass::run(&cpu, &block(&cpu, &config), 7, &input(&cpu), Some(&LENGTHS), Some(&drawn), &cotangent(&cpu));
        assert_eq!(pass, Pass::streamed(&cpu, &config, 7), "{config:?}");
    }
}

#[test]
fn expected_spikes_need_no_noise() {
    let cpu = B::new();
    let block = block(&cpu, &plain());
    let run = |key: u64, noise: Option<&[Tensor<B>]>| {
        let tape = Tape::off(&cpu);
        let cx = Context::evaluation(&tape, Key::new(key)).expected();
        let cx = noise.map_or(cx.clone(), |noise| cx.given(noise));
        block.forward(&cx, &tape.constant(&input(&cpu).tensor(&cpu)), Some(&LENGTHS)).unwrap().to_vec().unwrap()
    };
    let y = run(1, None);
    assert_eq!(y, run(2, None));
    let nothing = vec![cpu.full(&SHAPE, f64::NAN).unwrap(); 2];
    assert_eq!(y, run(1, Some(&nothing)), "noise was read");
    assert!(y.iter().all(|v| v.is_finite()) && distance(&y, &Pass::streamed(&cpu, &plain(), 1).y) > 1e-3);
}

// ---------------------------------------------------------------- silence

fn silent_channels<C: Backend>(backend: &C) -> (Vec<C::Elem>, usize) {
    let (d_model, length) = (6, 37);
    let layer = Ssm::new(backend, Key::new(5), &SsmConfig::new(d_model, 8)).unwrap();
    let tape = Tape::off(backend);
    // Every other channel never spikes; the others do at random.
    let noise = host(backend, &backend.uniform(Key::new(6), &[2, d_model, length]).unwrap());
    let spikes = noise.iter().enumerate().map(|(i, u)| f64::from(u8::from(i / length % 2 == 1 && *u > 0.5)));
    let spikes = Array::new(&[2, d_model, length], spikes.collect()).tensor(backend);
    let cx = Context::training(&tape, Key::new(0));
    (layer.forward(&cx, &tape.constant(&spikes), None).unwrap().to_vec().unwrap(), length)
}

#[test]
fn a_channel_without_a_spike_stays_exactly_zero() {
    fn check<E: Real>((y, length): (Vec<E>, usize)) {
        for (row, y) in y.chunks(length).enumerate() {
            assert!(y.iter().all(|v| (*v == E::zero()) == (row % 2 == 0)), "row {row}: {y:?}");
        }
    }
    check(silent_channels(&Cpu::<f32>::new()));
    check(silent_channels(&Cpu::<f64>::new()));
}

/// The mixer's GELU derivative for the bias alone, times the cotangent, through W: the gradient that reaches the mixed spikes when all of
/// them are zero.
fn gradient_of_silence(cpu: &B, block: &Block<B>, gy: &Array) -> Vec<f64> {
    let (weight, bias) = (fetch(cpu, block, "mixer.weight"), fetch(cpu, block, "mixer.bias"));
    let tape = Tape::new(cpu);
    let leaf: Var<B> = tape.leaf(&Array::new(&[H], bias).tensor(cpu));
    let slope: &Tensor<B> = &cpu.full(&[H], 1.0).unwrap();
    let slope = host(cpu, leaf.gelu().unwrap().backward_from(slope).unwrap().of(&leaf).unwrap());
    let inputs = weight.len() / H;
    let mut sums = vec![0.0; inputs];
    for (row, gy) in gy.values.chunks(L).enumerate() {
        let o = row % H;
        let g = slope[o] * gy.iter().sum::<f64>();
        sums.iter_mut().enumerate().for_each(|(i, sum)| *sum += weight[o * inputs + i] * g);
    }
    sums
}

#[test]
fn the_surrogate_is_open_where_nothing_spikes() {
    let cpu = B::new();
    let (block, gy) = (block(&cpu, &plain()), cotangent(&cpu));
    let silence = Array::new(&SHAPE, vec![-0.5; SHAPE.iter().product()]);
    let pass = Pass::run(&cpu, &block, 7, &silence, None, None, &gy);
    // f is exactly 0, on the surrogate's end: every position's gradient passes. Round-off would close half of them.
    assert_close("d out_b", pass.grad("output.shift"), &gradient_of_silence(&cpu, &block, &gy)[..H], 1e-12);
    assert!(pass.grad("output.scale").iter().all(|&g| g == 0.0), "the SSM put out something");
}
