//! A model that listens: numbers or sound come in, class probabilities go out as they change.
//!
//! ```text
//! cargo run --release --example stream -- --model out/best.safetensors --every 100 < numbers.csv
//! arecord -f S16_LE -r 16000 | cargo run --release --example stream -- --model out/best.safetensors --every 1600
//! cargo run --release --example stream -- --model out/best.safetensors --listen 127.0.0.1:7000
//! cargo run --release --example stream -- --model out/best.safetensors --picture heard.svg < numbers.csv
//! ```
//!
//! The standard input is a WAV file of 16 kHz, mono, or text: numbers between commas, spaces or line ends, as the model reads them. Every
//! `--every` time steps a line comes out: the number of steps heard, and the probability of every class. `--state FILE` goes on where the
//! run before stopped. `--listen` serves every connection with a stream of its own, on a thread of its own, with the same weights. Without
//! `--model` the weights are random.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use pspikessm::data::speech_commands::WavStream;
use pspikessm::nn::store::Archive;
use pspikessm::prelude::*;

mod picture;

const HELP: &str = "Reads numbers (text) or 16 kHz sound (WAV) from the standard input, and prints class probabilities as they change.\n\
    --model FILE    a causal model or a checkpoint; without it the weights are random, from --seed N\n\
    --every N       print after every N time steps\n\
    --state FILE    go on where the run before stopped\n\
    --listen ADDR   serve TCP connections instead, a stream each\n\
    --picture FILE  draw the probabilities, a row each class, over what was heard";

/// The command line.
#[derive(Default)]
struct Options {
    model: Option<PathBuf>,
    every: Option<u64>,
    state: Option<PathBuf>,
    listen: Option<String>,
    picture: Option<PathBuf>,
    seed: u64,
}

impl Options {
    fn read() -> Result<Self> {
        let (mut options, mut args) = (Options::default(), std::env::args().skip(1));
        while let Some(flag) = args.next() {
            if flag == "--help" {
                println!("{HELP}");
                std::process::exit(0);
            }
            let value = args.next().ok_or_else(|| Error::config("a flag", &flag, "wants a value"))?;
            let number = || value.parse::<u64>().map_err(|_| Error::config("a flag", format!("{flag} {value}"), "wants a number"));
            match flag.as_str() {
                "--model" => options.model = Some(value.into()),
                "--every" => options.every = Some(number()?.max(1)),
                "--state" => options.state = Some(value.into()),
                "--listen" => options.listen = Some(value),
                "--picture" => options.picture = Some(value.into()),
                "--seed" => options.seed = number()?,
                _ => return Err(Error::config("a flag", flag, "is one of --model --every --state --listen --picture --seed")),
            }
        }
        Ok(options)
    }
}

/// A stream, and what it has not heard yet.
struct Listener<W> {
    stream: Stream<f32>,
    encoder: Encoder,
    every: u64,
    waiting: Vec<f32>,
    out: W,
    /// What it has said, where that is to be drawn.
    said: Option<Vec<Vec<f64>>>,
}

impl<W: Write> Listener<W> {
    /// Takes numbers to the stream, and speaks whenever it is time.
    fn hear(&mut self, numbers: &[f32]) -> Result<()> {
        self.waiting.extend(numbers);
        let size = if let Encoder::Values(size) = self.encoder { size } else { 1 };
        loop {
            let left = (self.every - self.stream.heard()[0] % self.every) as usize;
            let steps = left.min(self.waiting.len() / size);
            if steps == 0 {
                return Ok(());
            }
            let now: Vec<f32> = self.waiting.drain(..steps * size).collect();
            match self.encoder {
                Encoder::Tokens(_) => self.stream.feed(&now.iter().map(|&x| x as u32).collect::<Vec<_>>())?,
                _ => self.stream.feed(&now)?,
            };
            if steps == left {
                self.speak()?;
            }
        }
    }

    fn speak(&mut self) -> Result<()> {
        let logits = self.stream.logits();
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = logits.iter().map(|logit| (logit - top).exp()).collect();
        let all: f32 = weights.iter().sum();
        self.said.iter_mut().for_each(|said| said.push(weights.iter().map(|&weight| f64::from(weight / all)).collect()));
        let line: String = weights.iter().map(|weight| format!(",{:.4}", weight / all)).collect();
        let said = writeln!(self.out, "{}{line}", self.stream.heard()[0]).and_then(|()| self.out.flush());
        said.map_err(|error| Error::io("write", "the output", error))
    }

    /// Listens until the input ends.
    fn listen(&mut self, mut input: impl BufRead) -> Result<()> {
        let unread = |error| Error::io("read", "the input", error);
        if input.fill_buf().map_err(unread)?.starts_with(b"RIFF") {
            let mut sound = WavStream::new(input, "the input")?;
            // Ten milliseconds at a time.
            loop {
                match sound.read(160)?.as_slice() {
                    [] => return Ok(()),
                    values => self.hear(values)?,
                }
            }
        }
        for (number, line) in (1..).zip(input.lines()) {
            let line = line.map_err(unread)?;
            let words = line.split([',', ';', ' ', '\t']).filter(|word| !word.is_empty());
            let value = |word: &str| word.parse().map_err(|_| Error::data("the input", number, 1, format!("{word:?} is no number")));
            self.hear(&words.map(value).collect::<Result<Vec<f32>>>()?)?;
        }
        Ok(())
    }
}

/// Serves every connection with the `next` stream.
fn serve<W: Write + Send + 'static>(address: &str, mut next: impl FnMut(TcpStream) -> Result<Listener<W>>) -> Result<()> {
    let failed = |error| Error::io("listen", address, error);
    for connection in TcpListener::bind(address).map_err(failed)?.incoming() {
        let connection = connection.map_err(failed)?;
        let mut listener = next(connection.try_clone().map_err(failed)?)?;
        std::thread::spawn(move || {
            if let Err(error) = listener.listen(BufReader::new(connection)) {
                eprintln!("a connection ends: {error}");
            }
        });
    }
    Ok(())
}

fn main() -> Result<()> {
    let (options, cpu) = (Options::read()?, Cpu::<f32>::new());
    let random = ModelConfig::new(Encoder::Values(1), BlockConfig::new(SsmConfig::new(64, 16)), 10).layers(2).causal();
    let model = options.model.as_ref().map_or_else(|| Model::new(&cpu, Key::new(0), &random), |path| Model::open(&cpu, path))?;
    let (encoder, every) = (model.config().encoder, options.every.unwrap_or(1));
    let mut stream = model.stream_with(&cpu, 1, StreamConfig::default().key(Key::new(options.seed)))?;
    if let Some(address) = &options.listen {
        let mut samples = 0..;
        return serve(address, |out| {
            Ok(Listener { stream: stream.anew(1, samples.next().unwrap_or(0))?, encoder, every, waiting: vec![], out, said: None })
        });
    }
    if let Some(path) = options.state.as_ref().filter(|path| path.exists()) {
        stream.restore(&Archive::read(path)?)?;
    }
    let mut listener = Listener {
        stream,
        encoder,
        every,
        waiting: Vec::new(),
        out: std::io::stdout().lock(),
        said: options.picture.as_ref().map(|_| vec![]),
    };
    listener.listen(std::io::stdin().lock())?;
    if let (Some(path), Some(said)) = (options.picture, &listener.said) {
        let rows: Vec<f64> = (0..said.first().map_or(0, Vec::len)).flat_map(|class| said.iter().map(move |all| all[class])).collect();
        picture::map_into(path.into(), "The probability of every class, a row each, as a digit is heard", said.len(), &rows, &[])?;
    }
    options.state.map_or(Ok(()), |path| listener.stream.state()?.write(path))
}
