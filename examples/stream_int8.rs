//! What SpikeMixers in 8 bits cost: the accuracy of a digits model's streams over the test set, with weights as they are and in 8 bits.
//!
//! ```text
//! cargo run --release --example stream_int8 -- examples/browser/digits.safetensors data 20
//! ```
//!
//! The folder holds `train.csv` and `test.csv` as `data::digits` reads them; the number is how often the test set is gone through, with
//! new spikes each time. A fourth argument is a file for a picture of the accuracies.

use pspikessm::data::{Faults, Inputs, digits};
use pspikessm::prelude::*;

mod picture;

/// Of each pass the share of pictures that are classified rightly.
fn accuracies(model: &Model<Cpu<f32>>, config: StreamConfig, pictures: &[f32], labels: &[usize], passes: u64) -> Result<Vec<f64>> {
    let streams = labels.len();
    let mut stream = model.stream_with(&Cpu::new(), streams, config)?;
    println!("{} bytes of weights", stream.weight_bytes());
    (0..passes)
        .map(|pass| {
            // Other random numbers in every pass.
            stream = stream.anew(streams, pass * streams as u64)?;
            let logits = stream.feed(pictures)?;
            let right = logits.chunks_exact(logits.len() / streams).zip(labels).filter(|(logits, label)| {
                let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                logits[**label] == best
            });
            Ok(right.count() as f64 / streams as f64)
        })
        .collect()
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, folder, passes, drawing @ ..] = &args[..] else {
        return Err(Error::config("arguments", args.len(), "are MODEL FOLDER PASSES [PICTURE]"));
    };
    let passes: u64 = passes.parse().map_err(|_| Error::config("PASSES", passes, "is a number"))?;
    let (model, test) = (Model::open(&Cpu::<f32>::new(), path)?, digits::load(folder, &Faults::default())?.test);
    let batch = test.batch(&(0..test.len()).collect::<Vec<_>>())?;
    let Inputs::Values { values, .. } = &batch.inputs else { return Err(Error::value("stream_int8", "the digits are no tokens")) };
    let (mut means, mut passed) = (Vec::new(), Vec::new());
    for int8 in [false, true] {
        let all = accuracies(&model, StreamConfig::default().int8(int8), values, &batch.labels, passes)?;
        let mean = all.iter().sum::<f64>() / passes as f64;
        let spread = (all.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (passes as f64 - 1.0)).sqrt();
        println!("int8 {int8}: accuracy {mean:.4}, of a pass +- {spread:.4}, {passes} passes over {} digits", test.len());
        means.push(mean);
        passed.push(all);
    }
    println!("lost in 8 bits: {:.4}", means[0] - means[1]);
    let lines = [("weights as they are", 2.0, &passed[0][..]), ("in 8 bits", 2.0, &passed[1])];
    drawing.first().map_or(Ok(()), |path| picture::lines_into(path.into(), "Accuracy of each pass", [1.0, passes as f64], &lines))
}
