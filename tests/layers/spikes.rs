//! Spikes that are observed, surrogates of one's own, and neurons that are trained.

use crate::common::{assert_close, gradient, host, parameter};
use pspikessm::autodiff::{Tape, Var};
use pspikessm::backend::*;
use pspikessm::nn::{
    BlockConfig, Context, CustomSurrogate, Encoder, Input, Model, ModelConfig, Module, NormKind, Observed, PlifConfig, Site, SpikeMeter,
    SpikeSampler, SpikeSource, SsmConfig, store,
};

type B = Cpu<f64>;

const TOKENS: [u32; 18] = [0, 1, 2, 3, 4, 5, 6, 0, 2, 4, 6, 1, 3, 5, 0, 0, 1, 1];

fn config(source: SpikeSource) -> ModelConfig {
    let block = BlockConfig::new(SsmConfig::new(4, 4).l_max(9).dropout(0.2)).norm(NormKind::Layer).dropout(0.2).source(source);
    ModelConfig::new(Encoder::Tokens(7), block, 3).layers(2)
}

fn model(cpu: &B, source: SpikeSource) -> Model<B> {
    Model::new(cpu, Key::new(3), &config(source)).unwrap()
}

/// The loss of a training pass, with `further` added to it.
fn loss(model: &Model<B>, cx: &Context<'_, B>, further: impl FnOnce() -> Option<Var<B>>) -> Var<B> {
    let logits = model.forward(cx, Input::tokens(&TOKENS, 2).lengths(&[9, 6])).unwrap();
    let loss = logits.cross_entropy(&[2, 0]).unwrap();
    further().map_or(loss.clone(), |further| loss.add(&further).unwrap())
}

/// The loss and every gradient of a training pass.
fn pass(cpu: &B, model: &Model<B>) -> (f64, Vec<(String, Vec<f64>)>) {
    let tape = Tape::new(cpu);
    let loss = loss(model, &Context::training(&tape, Key::new(1)), || None);
    let gradients = loss.backward().unwrap();
    let trained = model.parameters().into_iter().filter(|(_, param)| param.is_trained());
    (loss.item().unwrap(), trained.map(|(name, param)| (name, gradient(cpu, &gradients, &param))).collect())
}

// ---------------------------------------------------------------- observing

#[test]
fn every_site_is_observed_with_the_rate_that_is_metered_and_the_pass_stays_the_same() {
    let cpu = B::new();
    let model = model(&cpu, SpikeSource::default());
    let (tape, meter, observed) = (Tape::new(&cpu), SpikeMeter::default(), Observed::new());
    let cx = Context::training(&tape, Key::new(1)).metered(&meter).observe(&observed);
    assert_eq!(loss(&model, &cx, || None).item().unwrap().to_bits(), pass(&cpu, &model).0.to_bits());
    let seen = observed.spikes();
    assert_eq!(seen.iter().map(|(place, _)| *place).collect::<std::collections::BTreeSet<_>>().len(), 2 * Site::ALL.len());
    assert!(seen.iter().all(|(_, spikes)| spikes.shape() == [2, 4, 9] && spikes.needs_gradient()));
    let rates: Vec<_> = observed.rates().unwrap().into_iter().map(|(place, rate)| (place, rate.item().unwrap())).collect();
    for ((place, rate), (metered, want)) in rates.iter().zip(meter.rates()) {
        assert_eq!(*place, metered);
        assert!((rate - want).abs() < 1e-15, "{place:?}: {rate} and {want}");
    }
    let penalty: f64 = rates.iter().map(|(_, rate)| (rate - 0.3).powi(2)).sum::<f64>() / rates.len() as f64;
    assert!((observed.rate_penalty(0.3).unwrap().item().unwrap() - penalty).abs() < 1e-15);
}

#[test]
fn a_penalty_moves_the_rate_towards_its_target() {
    let cpu = B::new();
    let x = cpu.uniform(Key::new(2), &[3, 5, 40]).unwrap();
    let noise = Noise::Stream(Key::new(4).into());
    for target in [0.1, 0.9] {
        let sampler = SpikeSampler::new(&cpu, 5, SpikeSource::default()).unwrap();
        let mut rate = f64::NAN;
        for _ in 0..200 {
            let (tape, observed) = (Tape::new(&cpu), Observed::new());
            let cx = Context::training(&tape, Key::new(0)).observe(&observed);
            sampler.forward(&cx, &tape.constant(&x), noise.clone()).unwrap();
            rate = observed.rates().unwrap()[&(0, Site::Input)].item().unwrap();
            let gradients = observed.rate_penalty(target).unwrap().backward().unwrap();
            for (_, param) in sampler.parameters() {
                let step = cpu.unary(Unary::Linear(-0.25, 0.0), gradients.of_parameter(param.identity()).unwrap()).unwrap();
                param.set(cpu.binary(Binary::Add, &param.value(), &step).unwrap()).unwrap();
            }
        }
        assert!((rate - target).abs() < 0.02, "{rate} and not {target}");
    }
}

#[test]
fn a_penalty_on_nothing_or_towards_no_rate_is_refused() {
    let observed = Observed::<B>::new();
    assert!(observed.rate_penalty(0.1).unwrap_err().to_string().contains("no spikes were observed"));
    for target in [-0.1, 1.1, f64::NAN] {
        assert!(observed.rate_penalty(target).unwrap_err().to_string().contains("[0, 1]"));
    }
}

// ---------------------------------------------------------------- surrogates of one's own

/// The built-in surrogates, written as one's own.
fn written_out(surrogate: Surrogate) -> CustomSurrogate<B> {
    let absolute = |x: &Var<B>| x.relu()?.add(&x.neg()?.relu()?);
    match surrogate {
        Surrogate::Clamp => CustomSurrogate::new(|y, _| y.clamp(0.0, 1.0)),
        Surrogate::Sigmoid { alpha } => CustomSurrogate::new(move |y, u| y.sub(u)?.scale(alpha)?.sigmoid()),
        Surrogate::FastSigmoid { alpha } => CustomSurrogate::new(move |y, u| {
            let d = y.sub(u)?;
            d.div(&absolute(&d)?.linear_map(alpha, 1.0)?)
        }),
        // Without an arc tangent: the derivative as a factor that has none itself.
        Surrogate::Atan { alpha } => CustomSurrogate::new(move |y, u| {
            let z = y.sub(u)?.detach().scale(std::f64::consts::FRAC_PI_2 * alpha)?;
            y.mul(&z.square()?.linear_map(1.0, 1.0)?.recip()?.scale(0.5 * alpha)?)
        }),
    }
}

#[test]
fn a_surrogate_written_out_gives_the_spikes_and_gradients_of_the_built_in_one() {
    let cpu = B::new();
    for surrogate in Surrogate::ALL.map(|surrogate| surrogate.with_alpha(3.0)) {
        let source = SpikeSource::Probability(surrogate);
        let (want, gradients) = pass(&cpu, &model(&cpu, source));
        // Whichever built-in one it stands in the place of.
        for source in [source, SpikeSource::default()] {
            let custom = model(&cpu, source).with_surrogate(&written_out(surrogate)).unwrap();
            let (loss, found) = pass(&cpu, &custom);
            assert!((loss - want).abs() < 1e-12 * want.abs(), "{surrogate:?}: {loss} and {want}");
            for ((name, got), (_, want)) in found.iter().zip(&gradients) {
                assert_close(&format!("{name} with {surrogate:?}"), got, want, 1e-10);
            }
        }
    }
}

#[test]
fn a_custom_surrogate_is_for_drawn_spikes_and_is_not_stored() {
    let cpu = B::new();
    let surrogate = written_out(Surrogate::Clamp);
    let lif = Lif { decay: 0.5, threshold: 1.0, soft_reset: false, surrogate: Surrogate::Clamp };
    for source in [SpikeSource::Lif(lif), SpikeSource::Plif(PlifConfig::new(0.5))] {
        assert!(model(&cpu, source).with_surrogate(&surrogate).unwrap_err().to_string().contains("drawn by probability"));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let custom = model(&cpu, SpikeSource::default()).with_surrogate(&surrogate).unwrap();
    let message = custom.save(&cpu, &path).unwrap_err().to_string();
    assert!(message.contains("custom surrogate") && message.contains("nn::store::save") && !path.exists(), "{message}");
    // What it says to do.
    store::save(&cpu, &custom, &path).unwrap();
    let again = Model::new(&cpu, Key::new(9), &config(SpikeSource::default())).unwrap().with_surrogate(&surrogate).unwrap();
    store::load(&cpu, &again, &path).unwrap();
    assert_eq!(pass(&cpu, &again), pass(&cpu, &custom));
}

// ---------------------------------------------------------------- neurons that are trained

#[test]
fn a_model_of_trained_neurons_learns_their_decays_and_thresholds_and_comes_back_from_a_file() {
    let cpu = B::new();
    let adaptation = Adaptation { strength: 0.1, fading: 0.8 };
    let plif = PlifConfig::new(0.7).threshold(0.4).surrogate(Surrogate::Sigmoid { alpha: 3.0 }).adaptation(adaptation);
    let model = model(&cpu, SpikeSource::Plif(plif));
    let gradients = pass(&cpu, &model).1;
    for sampler in ["forward.sampler", "output", "reverse.sampler", "reverse_output"] {
        for (name, start) in [("decay_logit", (0.7f64 / 0.3).ln()), ("threshold", 0.4)] {
            let name = format!("blocks.1.{sampler}.neurons.{name}");
            let (_, gradient) = gradients.iter().find(|(own, _)| *own == name).unwrap_or_else(|| panic!("no {name}"));
            assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|&g| g != 0.0), "{name}: {gradient:?}");
            assert_close(&name, &host(&cpu, &parameter(&model, &name).value()), &[start; 4], 1e-15);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    model.save(&cpu, &path).unwrap();
    let again = Model::open(&cpu, &path).unwrap();
    assert_eq!(again.config(), model.config());
    assert_eq!(pass(&cpu, &again), pass(&cpu, &model));
}
