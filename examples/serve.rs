//! A model in a file, opened again and shared by threads, each with a tape of its own that records nothing.

use pspikessm::prelude::*;

mod picture;

fn main() -> Result<()> {
    let cpu = Cpu::<f32>::new();
    let path = std::env::temp_dir().join(format!("pspikessm-serve-{}.safetensors", std::process::id()));

    // In place of training: a model with random weights.
    let block = BlockConfig::new(SsmConfig::new(32, 16));
    Model::new(&cpu, Key::new(0), &ModelConfig::new(Encoder::Tokens(18), block, 10).layers(2))?.save(&cpu, &path)?;
    let model = Model::open(&cpu, &path)?;
    std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;

    // Requests of different lengths, answered at the same time. The key decides the spikes: the same one gives the same answer.
    let requests: Vec<Vec<u32>> = (4..12).map(|length| (0..length).map(|t| (t * t + length) % 18).collect()).collect();
    let answer = |tokens: &[u32]| {
        let tape = Tape::off(&cpu);
        let cx = Context::evaluation(&tape, Key::new(1));
        model.forward(&cx, Input::tokens(tokens, 1))?.to_vec()
    };
    let answers = std::thread::scope(|scope| {
        let answer = &answer;
        let threads: Vec<_> = requests.iter().map(|tokens| scope.spawn(move || answer(tokens))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that does not panic")).collect::<Result<Vec<_>>>()
    })?;
    for (tokens, logits) in requests.iter().zip(&answers) {
        let class = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0);
        println!("{} tokens: class {class}, logit {:.4}", tokens.len(), logits[class]);
        assert_eq!(&answer(tokens)?, logits, "alone or beside others, a request gets the same bits");
    }
    let logits: Vec<f64> = answers.iter().flatten().map(|&logit| logit.into()).collect();
    picture::map("What eight requests got: a row each, a column for each class", answers[0].len(), &logits, &[])
}
