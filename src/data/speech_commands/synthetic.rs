//! Synthetic words, for machines without recordings: the ten commands as a formant synthesiser speaks them, every time with another voice.
//!
//! A word is a chain of sounds. Pulses of the voice and noise of the breath go through resonators (formants), which glide from one sound to
//! the next. What differs between two samples of a word: pitch and its fall, the size of the mouth, tempo, the moment it begins, loudness,
//! small errors of every formant, and the noise of the room.

use super::LENGTH;
use crate::data::random::{Purpose, below, fraction, stream};
use crate::data::{Dataset, Encoding, Faults, Source, Splits, Standardization};
use crate::error::Result;
use rand_pcg::Pcg32;
use std::f64::consts::TAU;
use std::sync::Arc;

/// Samples a second.
const RATE: f64 = LENGTH as f64;

/// How long formants take to glide from one sound to the next, in seconds.
const GLIDE: f64 = 0.03;

/// The bandwidths of the three formants of a voiced sound and of the one of a noise, in Hz.
const BANDWIDTHS: [f64; 3] = [80.0, 100.0, 150.0];
const NOISE_BANDWIDTH: f64 = 1200.0;

/// What a sample is multiplied by before a model reads it: a spoken word has a root mean square of a tenth, about.
const FACTOR: f32 = 10.0;

/// How many of each part there are, in all ten words.
const SIZES: Splits<usize> = Splits { train: 4_000, val: 500, test: 1_000 };

/// A sound: the formants of its voice and how loud that is, the centre of its noise in Hz and how loud that is, its length in seconds.
#[derive(Clone, Copy)]
struct Sound {
    formants: [f64; 3],
    voice: f64,
    centre: f64,
    noise: f64,
    seconds: f64,
}

const fn voiced(formants: [f64; 3], voice: f64, seconds: f64) -> Sound {
    Sound { formants, voice, centre: 2500.0, noise: 0.0, seconds }
}

const fn breathed(formants: [f64; 3], centre: f64, noise: f64, seconds: f64) -> Sound {
    Sound { formants, voice: 0.0, centre, noise, seconds }
}

// Formants in Hz as phonetics textbooks give them for a man (Peterson and Barney 1952 for vowels).
const A: Sound = voiced([730.0, 1090.0, 2440.0], 1.0, 0.12);
const UH: Sound = voiced([640.0, 1190.0, 2390.0], 1.0, 0.16);
const E: Sound = voiced([530.0, 1840.0, 2480.0], 1.0, 0.14);
const I: Sound = voiced([270.0, 2290.0, 3010.0], 0.8, 0.10);
const O: Sound = voiced([570.0, 840.0, 2410.0], 1.0, 0.18);
const U: Sound = voiced([300.0, 870.0, 2240.0], 0.8, 0.12);
const J: Sound = voiced([260.0, 2300.0, 3000.0], 0.6, 0.07);
const L: Sound = voiced([360.0, 1000.0, 2800.0], 0.6, 0.08);
const R: Sound = voiced([330.0, 1100.0, 1500.0], 0.6, 0.09);
const N: Sound = voiced([250.0, 1450.0, 2300.0], 0.4, 0.12);
const S: Sound = breathed([530.0, 1840.0, 2480.0], 6000.0, 0.5, 0.16);
const F: Sound = breathed([530.0, 1400.0, 2400.0], 3200.0, 0.2, 0.12);
const CLOSED: Sound = breathed([300.0, 1400.0, 2400.0], 2500.0, 0.0, 0.05);
const T: Sound = breathed([400.0, 1800.0, 2600.0], 4500.0, 0.6, 0.03);
const P: Sound = breathed([400.0, 900.0, 2300.0], 1000.0, 0.5, 0.03);
const D: Sound = Sound { formants: [300.0, 1700.0, 2600.0], voice: 0.3, centre: 3500.0, noise: 0.3, seconds: 0.03 };
const G: Sound = Sound { formants: [300.0, 1900.0, 2200.0], voice: 0.3, centre: 1800.0, noise: 0.3, seconds: 0.03 };

/// The sounds of [`Classes::Ten`](super::Classes::Ten), in that order: down, go, left, no, off, on, right, stop, up, yes.
const WORDS: [&[Sound]; 10] = [
    &[D, A, U, N],
    &[G, O, U],
    &[L, E, F, CLOSED, T],
    &[N, O, U],
    &[O, F, F],
    &[O, N],
    &[R, A, I, CLOSED, T],
    &[S, CLOSED, T, O, CLOSED, P],
    &[UH, CLOSED, P],
    &[J, E, S],
];

/// The ten words of [`Classes::Ten`](super::Classes::Ten), 5,500 samples in all, each spoken when a batch wants it, from a random stream of its own: sample i is
/// the same whatever the thread, the order and the machine's number of cores. In every part the words are equally frequent.
///
/// These are no recordings: what a model learns of them says little of what it would learn of people.
///
/// # Errors
/// Those of [`Dataset::remote`].
pub fn synthesize(seed: u64) -> Result<Splits> {
    let Splits { train, val, test } = SIZES;
    let labels = (0..train + val + test).map(label).collect();
    let statistics = Standardization { mean: vec![0.0; LENGTH], factor: vec![FACTOR; LENGTH] };
    let all = Dataset::remote(Encoding::Standardized(statistics), WORDS.len(), labels, Arc::new(Spoken { seed }), Faults::refused())?;
    let part = |from: usize, count: usize| all.subset(&(from..from + count).collect::<Vec<_>>());
    Ok(Splits { train: part(test + val, train)?, val: part(test, val)?, test: part(0, test)? })
}

/// The word of sample `number`.
fn label(number: usize) -> usize {
    number % WORDS.len()
}

/// Words that are spoken when they are asked for.
#[derive(Debug)]
struct Spoken {
    seed: u64,
}

impl Source for Spoken {
    fn length(&self) -> usize {
        LENGTH
    }

    fn read(&self, number: usize, values: &mut [f32]) -> Result<()> {
        let mut rng = stream(self.seed, Purpose::Words, number as u64);
        let word = Speaker::new(&mut rng).say(WORDS[label(number)], &mut rng);
        let room = LENGTH - word.len();
        let start = below(&mut rng, room as u64 + 1) as usize;
        let hiss = between(0.0, 0.01, &mut rng);
        let loudness = between(0.05, 0.15, &mut rng) / root_mean_square(&word);
        values.iter_mut().for_each(|value| *value = (hiss * white(&mut rng)) as f32);
        for (value, sample) in values[start..].iter_mut().zip(&word) {
            *value = (f64::from(*value) + loudness * sample).clamp(-1.0, 1.0) as f32;
        }
        Ok(())
    }
}

/// Whoever speaks a sample.
struct Speaker {
    /// Pulses a second at the beginning, and at the end.
    pitch: [f64; 2],
    /// Every formant is so many times what it is for a man.
    mouth: f64,
    /// A sound is so many times as long.
    tempo: f64,
}

impl Speaker {
    fn new(rng: &mut Pcg32) -> Self {
        let pitch = between(90.0, 240.0, rng);
        Speaker { pitch: [pitch, pitch * between(0.75, 1.0, rng)], mouth: between(0.9, 1.2, rng), tempo: between(0.8, 1.3, rng) }
    }

    /// The sounds one after another, in samples; shorter than a second.
    fn say(&self, sounds: &[Sound], rng: &mut Pcg32) -> Vec<f64> {
        let sounds: Vec<Sound> = sounds.iter().map(|sound| self.own(sound, rng)).collect();
        let length = sounds.iter().map(|sound| sound.seconds).sum::<f64>();
        let count = ((length * RATE) as usize).min(LENGTH);
        let (mut voice, mut breath) = ([Resonator::default(); 3], Resonator::default());
        let (mut phase, mut now) = (0.0, sounds[0]);
        let mut ends = sounds.iter().scan(0.0, |end, sound| {
            *end += sound.seconds;
            Some((*end, sound))
        });
        let mut sound = ends.next();
        (0..count)
            .map(|at| {
                let time = at as f64 / RATE;
                while let Some((end, _)) = sound
                    && time >= end
                    && let Some(next) = ends.next()
                {
                    sound = Some(next);
                }
                if let Some((_, target)) = sound {
                    now.glide(target);
                }
                phase += (self.pitch[0] + (self.pitch[1] - self.pitch[0]) * time / length) / RATE;
                let pulse = if phase >= 1.0 { now.voice } else { 0.0 };
                phase = phase.fract();
                let through = |signal, ((resonator, hertz), width): ((&mut Resonator, f64), f64)| resonator.pass(signal, hertz, width);
                // A pulse that ends smoothly: 8 sets it level with the noise.
                let vowel = voice.iter_mut().zip(now.formants).zip(BANDWIDTHS).fold(8.0 * pulse, through);
                vowel + breath.pass(now.noise * white(rng), now.centre, NOISE_BANDWIDTH)
            })
            .collect()
    }

    /// A sound as this one says it, this time.
    fn own(&self, sound: &Sound, rng: &mut Pcg32) -> Sound {
        let formants = sound.formants.map(|hertz| hertz * self.mouth * between(0.95, 1.05, rng));
        Sound {
            formants,
            centre: sound.centre * between(0.9, 1.1, rng),
            seconds: sound.seconds * self.tempo * between(0.9, 1.1, rng),
            ..*sound
        }
    }
}

impl Sound {
    /// One sample nearer to another sound.
    fn glide(&mut self, to: &Sound) {
        let step = 1.0 / (GLIDE * RATE / 3.0);
        let nearer = |value: &mut f64, to: f64| *value += (to - *value) * step;
        self.formants.iter_mut().zip(to.formants).for_each(|(value, to)| nearer(value, to));
        nearer(&mut self.voice, to.voice);
        nearer(&mut self.noise, to.noise);
        nearer(&mut self.centre, to.centre);
    }
}

/// A resonance of second order (Klatt 1980, equation 1), of gain 1 at 0 Hz.
#[derive(Clone, Copy, Default)]
struct Resonator {
    last: [f64; 2],
}

impl Resonator {
    /// The next sample of a signal, with the resonance at `hertz`, `width` wide.
    fn pass(&mut self, signal: f64, hertz: f64, width: f64) -> f64 {
        let decay = (-TAU / 2.0 * width / RATE).exp();
        let (b, c) = (2.0 * decay * (TAU * hertz / RATE).cos(), -decay * decay);
        let next = (1.0 - b - c) * signal + b * self.last[0] + c * self.last[1];
        self.last = [next, self.last[0]];
        next
    }
}

fn root_mean_square(samples: &[f64]) -> f64 {
    (samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64).sqrt()
}

/// A number between two others, each with the same probability.
fn between(least: f64, most: f64, rng: &mut Pcg32) -> f64 {
    least + (most - least) * fraction(rng)
}

/// White noise, from -1 to 1.
fn white(rng: &mut Pcg32) -> f64 {
    between(-1.0, 1.0, rng)
}

#[cfg(test)]
mod tests {
    use super::super::Classes;
    use super::*;

    fn sample(seed: u64, number: usize) -> Vec<f32> {
        let mut values = vec![0.0; LENGTH];
        Spoken { seed }.read(number, &mut values).unwrap();
        values
    }

    #[test]
    fn a_sample_is_itself_whatever_was_asked_before() {
        let first = sample(1, 7);
        assert_eq!(sample(1, 7), first);
        assert_ne!(sample(2, 7), first);
        assert_ne!(sample(1, 17), first);
        assert!(first.iter().all(|value| value.is_finite() && value.abs() <= 1.0));
    }

    #[test]
    fn every_word_fits_into_a_second_and_is_heard() {
        for number in 0..200 {
            let mut rng = stream(3, Purpose::Words, number);
            let slowest = Speaker { pitch: [100.0, 100.0], mouth: 1.2, tempo: 1.3 };
            let word = slowest.say(WORDS[label(number as usize)], &mut rng);
            assert!(word.len() > LENGTH / 5 && word.len() < LENGTH, "{} samples", word.len());
            let loud = root_mean_square(&word);
            assert!(loud.is_finite() && loud > 1e-3, "{loud}");
        }
    }

    /// The energy of a signal at a frequency (Goertzel's sum, written out).
    fn at(signal: &[f64], hertz: f64) -> f64 {
        let (mut re, mut im) = (0.0, 0.0);
        for (number, sample) in signal.iter().enumerate() {
            let angle = TAU * hertz * number as f64 / RATE;
            re += sample * angle.cos();
            im += sample * angle.sin();
        }
        (re * re + im * im) / signal.len() as f64
    }

    #[test]
    fn a_resonator_resonates_where_it_should() {
        let mut resonator = Resonator::default();
        let response: Vec<f64> = (0..LENGTH / 4).map(|at| resonator.pass(if at == 0 { 1.0 } else { 0.0 }, 1000.0, 80.0)).collect();
        assert!(at(&response, 1000.0) > 10.0 * at(&response, 700.0));
        assert!(at(&response, 1000.0) > 10.0 * at(&response, 1400.0));
        // Gain 1 at 0 Hz: its response sums to 1.
        assert!((response.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn yes_ends_in_a_hiss_that_no_lacks() {
        let high = |word: usize| -> f64 {
            let mut rng = stream(5, Purpose::Words, word as u64);
            let word = Speaker { pitch: [120.0, 110.0], mouth: 1.0, tempo: 1.0 }.say(WORDS[word], &mut rng);
            let tail = &word[word.len() - 1600..];
            (50..80).map(|hundreds| at(tail, 100.0 * f64::from(hundreds))).sum::<f64>()
        };
        assert!(high(9) > 20.0 * high(3));
    }

    #[test]
    fn the_words_are_those_of_ten_classes() {
        assert_eq!(Classes::Ten.words().len(), WORDS.len());
        let splits = synthesize(0).unwrap();
        for set in [&splits.train, &splits.val, &splits.test] {
            assert!((set.majority() - 0.1).abs() < 1e-9);
        }
    }
}
