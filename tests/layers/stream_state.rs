//! What a stream remembers: chunks and steps, resets, clones, files, threads.

use std::sync::{Arc, Barrier};
use std::thread;

use super::stream::{CHANNELS, Sound, config, model, ssm, variants};
use crate::common::distance;
use pspikessm::Error;
use pspikessm::backend::*;
use pspikessm::nn::store::Archive;
use pspikessm::nn::*;

type Net = Model<Cpu<f32>>;

fn is_shared<T: Send + Sync>() {}

/// The model with most that can be remembered: two branches, cut off kernels.
fn windowed() -> (Net, StreamConfig) {
    let cpu = Cpu::new();
    let block = BlockConfig::new(ssm().l_max(20).causal()).norm(NormKind::Layer);
    (model(&cpu, &config(block)), StreamConfig::default().key(Key::new(8)).windowed(true))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// Everything that two streams of the same model can differ in.
fn same(left: &Stream<f32>, right: &Stream<f32>) -> bool {
    left.state().unwrap() == right.state().unwrap() && bits(left.logits()) == bits(right.logits())
}

#[test]
fn chunks_of_any_length_are_the_steps() {
    let cpu = Cpu::<f32>::new();
    let mut all = variants();
    all.retain(|(name, _)| !name.contains("own systems"));
    for (number, (name, config)) in all.into_iter().enumerate() {
        let (streams, length) = ([1, 3, 6, 70][number % 4], 150);
        let (model, sound) = (model(&cpu, &config), Sound::new(&config, streams, length));
        let mut whole = model.stream(&cpu, streams).unwrap();
        let (mut chunks, mut steps) = (whole.clone(), whole.clone());
        whole.feed(sound.signal()).unwrap();
        for (from, to) in [(0, 1), (1, 64), (64, 65), (65, 130), (130, 150)] {
            chunks.feed(sound.cut(streams, from, to).signal()).unwrap();
        }
        for t in 0..length {
            steps.step(sound.cut(streams, t, t + 1).signal()).unwrap();
        }
        assert!(same(&whole, &chunks), "{name}: chunks");
        assert!(same(&whole, &steps), "{name}: steps");
        for layer in 0..config.layers {
            let of = |stream: &Stream<f32>| stream.features(layer).unwrap().flat_map(bits).collect::<Vec<_>>();
            assert_eq!(of(&whole), of(&steps), "{name}: features");
            let of = |stream: &Stream<f32>| stream.spikes(layer, Site::Output, streams - 1).unwrap().collect::<Vec<_>>();
            assert_eq!(of(&whole), of(&steps), "{name}: spikes");
        }
    }
}

#[test]
fn streams_are_independent() {
    let ((model, settings), cpu, streams, length) = (windowed(), Cpu::new(), 5, 60);
    let sound = Sound::new(model.config(), streams, length);
    let mut together = model.stream_with(&cpu, streams, settings).unwrap();
    // Each at its own pace: stream s hears its first 10 s + 10 steps.
    let part = |stream: usize, to: usize| match &sound {
        Sound::Values(values, size) => values[stream * length * size..][..to * size].to_vec(),
        Sound::Tokens(_) => unreachable!("this model reads values"),
    };
    for stream in 0..streams {
        let own = together.feed_one(stream, &part(stream, 10 * stream + 10)).unwrap().to_vec();
        let mut alone = model.stream_with(&cpu, 1, settings.first_sample(stream as u64)).unwrap();
        assert_eq!(bits(alone.feed(&part(stream, 10 * stream + 10)).unwrap()), bits(&own), "stream {stream}");
    }
    assert_eq!(together.heard(), [10, 20, 30, 40, 50]);
    // A stream that begins again is as new, and the others do not notice.
    let before = together.clone();
    together.reset(2).unwrap();
    assert!(together.logits()[2 * 3..3 * 3].iter().all(|x| x.is_nan()) && together.heard()[2] == 0);
    assert!(together.features(1).unwrap().nth(2).unwrap().iter().all(|&x| x == 0.0));
    let again = together.feed_one(2, &part(2, 30)).unwrap().to_vec();
    assert_eq!(bits(&again), bits(&before.logits()[6..9]));
    assert!(same(&together, &before));
    // As another sample it has other spikes; as its own the same.
    together.begin(2, 77).unwrap();
    assert_ne!(bits(together.feed_one(2, &part(2, 30)).unwrap()), bits(&again));
    let mut alone = before.anew(1, 77).unwrap();
    assert_eq!(bits(alone.feed(&part(2, 30)).unwrap()), bits(&together.logits()[6..9]));
    together.begin(2, 2).unwrap();
    together.feed_one(2, &part(2, 30)).unwrap();
    assert!(same(&together, &before));
}

#[test]
fn a_clone_goes_its_own_way() {
    let ((model, settings), cpu) = (windowed(), Cpu::new());
    let mut stream = model.stream_with(&cpu, 1, settings).unwrap();
    stream.feed(&[0.3f32; 100]).unwrap();
    let kept = stream.clone();
    let mut other = stream.clone();
    stream.feed(&[0.9f32; 40]).unwrap();
    assert!(!same(&stream, &kept) && same(&other, &kept));
    other.feed(&[0.9f32; 40]).unwrap();
    assert!(same(&stream, &other));
}

#[test]
fn a_state_goes_through_a_file() {
    let (cpu, folder) = (Cpu::<f32>::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("state.safetensors");
    for (name, config) in variants().into_iter().filter(|(name, _)| !name.contains("Diag") || name.contains("Lin")) {
        let l_max = config.block.clone().ssm(config.block.ssm.clone().l_max(30));
        for (config, windowed) in [(config.clone().block(l_max), true), (config, false)] {
            let (streams, length) = (3, 80);
            let (model, sound) = (model(&cpu, &config), Sound::new(&config, streams, length));
            let settings = StreamConfig::default().key(Key::new(8)).first_sample(5).windowed(windowed);
            let mut stream = model.stream_with(&cpu, streams, settings).unwrap();
            stream.feed(sound.cut(streams, 0, 50).signal()).unwrap();
            stream.state().unwrap().write(&path).unwrap();
            // Another key and another sample: the state brings its own.
            let mut restored = model.stream_with(&cpu, streams, StreamConfig::default().windowed(windowed)).unwrap();
            restored.step(sound.cut(streams, 7, 8).signal()).unwrap();
            restored.restore(&Archive::read(&path).unwrap()).unwrap();
            assert!(same(&restored, &stream), "{name}");
            for stream in [&mut stream, &mut restored] {
                stream.feed(sound.cut(streams, 50, 80).signal()).unwrap();
            }
            assert!(same(&restored, &stream), "{name}: 30 steps later");
        }
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let ((model, settings), cpu) = (windowed(), Cpu::<f32>::new());
    let mut stream = model.stream_with(&cpu, 2, settings).unwrap();
    stream.feed(&[0.3f32; 100]).unwrap();
    let (state, before) = (stream.state().unwrap(), stream.clone());
    let mut refused = |state: &Archive, what: &str| {
        let error = stream.restore(state).unwrap_err();
        assert!(matches!(error, Error::Value { op: "Stream", .. }) && error.to_string().contains(what), "{error}");
        assert!(same(&stream, &before));
    };
    refused(&Archive::default(), "no stream's");
    refused(&model.stream_with(&cpu, 3, settings).unwrap().state().unwrap(), "3 streams, not 2");
    refused(&model.stream_with(&cpu, 2, settings.windowed(false)).unwrap().state().unwrap(), "window");
    let changed = windowed().0;
    let bias = changed.parameters().into_iter().find(|(name, _)| name == "decoder.bias").unwrap().1;
    bias.set(cpu.full(bias.value().shape(), 0.25).unwrap()).unwrap();
    refused(&changed.stream_with(&cpu, 2, settings).unwrap().state().unwrap(), "another model");
    let other = self::model(&cpu, &model.config().clone().pooling(Pooling::Last));
    refused(&other.stream_with(&cpu, 2, settings).unwrap().state().unwrap(), "another model");
    for name in state.tensors.keys() {
        let mut damaged = state.clone();
        let mut tensor = damaged.tensors.remove(name).unwrap();
        refused(&damaged, "is missing");
        tensor.shape.push(1);
        damaged.tensors.insert(name.clone(), tensor);
        refused(&damaged, name);
    }
    let wide = Cpu::<f64>::new();
    let mut wide = self::model(&wide, model.config()).stream_with(&wide, 2, settings).unwrap();
    assert!(wide.restore(&state).is_err(), "f32 is not f64");
}

#[test]
fn threads_share_a_model_and_step_their_own_streams() {
    is_shared::<Stream<f32>>();
    const THREADS: usize = 8;
    let cpu = Cpu::<f32>::new();
    let model = Arc::new(windowed().0);
    let settings = windowed().1;
    let run = |mut stream: Stream<f32>| {
        for t in 0..100 {
            stream.step(&[(t as f32).sin(), 0.4]).unwrap();
        }
        bits(stream.logits())
    };
    let first = model.stream_with(&cpu, 1, settings).unwrap();
    let want: Vec<_> = (0..THREADS as u64).map(|sample| run(first.anew(1, sample).unwrap())).collect();
    let barrier = Barrier::new(THREADS);
    let got: Vec<_> = thread::scope(|scope| {
        let listen = |thread: usize| {
            let (model, cpu, first, barrier, run) = (model.clone(), &cpu, &first, &barrier, &run);
            scope.spawn(move || {
                // Half of them make a stream of the model, half take one that shares the weights.
                let settings = settings.first_sample(thread as u64);
                let stream = if thread.is_multiple_of(2) { model.stream_with(cpu, 1, settings) } else { first.anew(1, thread as u64) };
                barrier.wait();
                run(stream.unwrap())
            })
        };
        let threads: Vec<_> = (0..THREADS).map(listen).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(got, want);
}

#[test]
fn the_bytes_of_a_stream_are_told() {
    let cpu = Cpu::<f32>::new();
    let model = model(&cpu, &config(BlockConfig::new(ssm()).causal()));
    let stream = model.stream(&cpu, 4).unwrap();
    // Two layers of a tile of 16: a sum and 2 x 3 numbers a channel, two generators of 8 bytes; 5 pooled numbers; sample and step.
    assert_eq!(stream.state_bytes(), 2 * (16 * 7 * 4 + 2 * 16 * 8) + 8 * CHANNELS + 16);
    assert_eq!(stream.state_bytes(), model.stream(&cpu, 9).unwrap().state_bytes());
    let numbers: usize = model.parameters().iter().map(|(_, param)| param.value().numel()).sum();
    assert!(stream.weight_bytes() > 4 * numbers && stream.working_bytes() > 0);
}

#[test]
fn what_is_there_goes_through_the_parallel_form() {
    let cpu = Cpu::<f64>::new();
    let all = variants().into_iter().filter(|(name, _)| !name.contains("Diag") || name.contains("Lin"));
    for (number, (name, config)) in all.enumerate() {
        let l_max = config.block.clone().ssm(config.block.ssm.clone().l_max(70));
        let (config, windowed) =
            [(config.clone(), false), (config.clone().block(l_max.clone()), false), (config.block(l_max), true)][number % 3].clone();
        let (streams, length) = (3, 150);
        let (model, sound) = (model(&cpu, &config), Sound::new(&config, streams, length));
        let settings = StreamConfig::default().key(Key::new(8)).first_sample(5).windowed(windowed);
        let mut whole = model.stream_with(&cpu, streams, settings).unwrap();
        // Samples that do not follow each other.
        whole.begin(1, 99).unwrap();
        let mut handed = whole.clone();
        whole.feed(sound.cut(streams, 0, 130).signal()).unwrap();
        handed.prefill(&cpu, &model, sound.cut(streams, 0, 130).signal()).unwrap();
        let close = |left: &Stream<f64>, right: &Stream<f64>| {
            assert_eq!(left.heard(), right.heard());
            assert!(distance(left.logits(), right.logits()) < 1e-12, "{name}");
            // The same spikes went into the same recurrences.
            let (left, right) = (left.state().unwrap().tensors, right.state().unwrap().tensors);
            assert!(left.iter().filter(|(tensor, _)| *tensor != "pooled").all(|(tensor, values)| right[tensor] == *values), "{name}");
        };
        close(&handed, &whole);
        for t in 130..length {
            whole.step(sound.cut(streams, t, t + 1).signal()).unwrap();
            handed.step(sound.cut(streams, t, t + 1).signal()).unwrap();
        }
        close(&handed, &whole);
        assert!(handed.prefill(&cpu, &model, sound.signal()).unwrap_err().to_string().contains("heard something"), "{name}");
        let other = self::model(&cpu, &config.clone().classes(7));
        let mut fresh = whole.anew(streams, 0).unwrap();
        assert!(fresh.prefill(&cpu, &other, sound.signal()).unwrap_err().to_string().contains("another model"), "{name}");
    }
}
