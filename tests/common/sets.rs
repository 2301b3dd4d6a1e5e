//! Tiny data sets in the official formats, as they lie on a disk: for runs from files to the result line.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use pspikessm::backend::Key;
use pspikessm::train::{Task, tasks};

/// A tiny set and the task that learns it.
pub struct TinySet {
    /// The folder it is written to, for runs of the examples themselves.
    pub name: &'static str,
    pub task: &'static dyn Task,
    /// Writes it into a folder.
    pub make: fn(&Path),
    /// What chooses it.
    pub flags: &'static str,
    /// What can be predicted: a file of the set, or a text.
    pub sample: &'static str,
}

/// One for each task at least.
#[rustfmt::skip]
pub const ALL: &[TinySet] = &[
    TinySet { name: "listops", task: &tasks::ListOps, make: |_| (), flags: "", sample: "[MAX 2 9 [MIN 4 7 ] 0 ]" },
    TinySet { name: "text", task: &tasks::Text, make: imdb, flags: "", sample: "aclImdb/test/pos/3_10.txt" },
    TinySet { name: "retrieval", task: &tasks::Retrieval, make: aan, flags: "", sample: "one text\tanother text" },
    TinySet { name: "image", task: &tasks::Image, make: cifar, flags: "", sample: "sample.png" },
    TinySet { name: "pathfinder", task: &tasks::Pathfinder, make: pathfinder, flags: "--set data=32 --set model.block.ssm.l_max=1024", sample: "pathfinder32/curv_contour_length_14/imgs/0/sample_3.png" },
    TinySet { name: "psmnist", task: &tasks::PsMnist, make: mnist, flags: "", sample: "sample.png" },
    TinySet { name: "digits", task: &tasks::PsMnist, make: digits, flags: "--preset digits", sample: "sample.png" },
    TinySet { name: "classify", task: &tasks::Classify, make: series, flags: "", sample: "sample.ts" },
    TinySet { name: "speech_commands", task: &tasks::SpeechCommands, make: speech_commands, flags: "--set data=10", sample: "yes/0_nohash_0.wav" },
];

/// Pseudo-random bytes.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut words = Key::new(seed).words(0);
    std::iter::repeat_with(|| words.next_lanes()).flatten().map(|word| (word >> 24) as u8).take(count).collect()
}

/// A white square on black as `sample.png`, `side` pixels wide.
fn square(dir: &Path, side: u32) {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    let inside = |at: u32| (side / 4..side / 2).contains(&at);
    let pixels: Vec<u8> = (0..side * side).map(|at| if inside(at / side) && inside(at % side) { 255 } else { 0 }).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    write(dir.join("sample.png"), png);
}

fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The four files of MNIST, the training images compressed: 40 and 10 pictures.
fn mnist(dir: &Path) {
    square(dir, 28);
    for (name, count) in [("train", 40), ("t10k", 10)] {
        let labels: Vec<u8> = (0..count).map(|i| (i % 10) as u8).collect();
        let head = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let images = [head(&[0x803, count, 28, 28]), noise(u64::from(count), count as usize * 784)].concat();
        write(dir.join(format!("{name}-labels-idx1-ubyte")), [head(&[0x801, count]), labels].concat());
        let path = dir.join(format!("{name}-images-idx3-ubyte"));
        if name == "t10k" {
            write(path, images);
            continue;
        }
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(&images).unwrap();
        write(path.with_extension("gz"), gz.finish().unwrap());
    }
}

/// The 8 x 8 digits: 40 and 10 rows.
fn digits(dir: &Path) {
    square(dir, 8);
    for (name, count) in [("train", 40), ("test", 10)] {
        let rows: String = (0..count)
            .map(|i| {
                let pixels: Vec<String> = noise(i + count, 64).iter().map(|byte| (byte / 16).to_string()).collect();
                format!("{},{}\n", i % 10, pixels.join(","))
            })
            .collect();
        write(dir.join(format!("{name}.csv")), rows);
    }
}

/// Time series of two channels, of unequal lengths, with missing values: 12 and 6, and one without a label.
fn series(dir: &Path) {
    const HEAD: &str = "@problemName tiny\n@timeStamps false\n@dimensions 2\n";
    let row = |number: usize| {
        let value = |at: usize| if at == number % 5 { "?".into() } else { format!("{}", (at * (number % 2 + 1)) % 7) };
        let channel = || (0..10 + number % 3).map(value).collect::<Vec<String>>().join(",");
        format!("{}:{}", channel(), channel())
    };
    for (part, rows) in [("TRAIN", 0..12), ("TEST", 12..18)] {
        let rows: String = rows.map(|number| format!("{}:{}\n", row(number), ["slow", "fast"][number % 2])).collect();
        write(dir.join(format!("Tiny_{part}.ts")), format!("{HEAD}@classLabel true slow fast\n@data\n{rows}"));
    }
    write(dir.join("sample.ts"), format!("{HEAD}@classLabel false\n@data\n{}\n", row(20)));
}

/// The binary version of CIFAR-10: 10 pictures a file.
fn cifar(dir: &Path) {
    square(dir, 32);
    let files = (1..=5).map(|i| format!("data_batch_{i}.bin")).chain(["test_batch.bin".into()]);
    for (seed, name) in files.enumerate() {
        let records = (0..10u8).flat_map(|label| [vec![label], noise(seed as u64 * 10 + u64::from(label), 3072)].concat());
        write(dir.join("cifar-10-batches-bin").join(name), records.collect::<Vec<u8>>());
    }
}

/// A text of lower-case letters and blanks.
fn text(seed: u64, length: usize) -> String {
    noise(seed, length).iter().map(|byte| if byte % 27 == 26 { ' ' } else { char::from(b'a' + byte % 27) }).collect()
}

/// The IMDB folder: 10 reviews for each split and label.
fn imdb(dir: &Path) {
    for (number, folder) in ["train/neg", "train/pos", "test/neg", "test/pos"].iter().enumerate() {
        for i in 0..10 {
            let review = text((number * 10 + i) as u64, 40 + 7 * i);
            write(dir.join("aclImdb").join(folder).join(format!("{i}_{}.txt", if number % 2 == 0 { 1 } else { 10 })), review);
        }
    }
}

/// The three files of AAN: 20, 6 and 6 pairs.
fn aan(dir: &Path) {
    for (name, count) in [("train", 20u64), ("eval", 6), ("test", 6)] {
        let document = |i: u64| text(i % 7, 30 + (i % 7) as usize * 5);
        let rows: String =
            (0..count).map(|i| format!("{}\tP{}\tP{}\t{}\t{}\n", i % 2, i % 7, (i + 3) % 7, document(i), document(i + 3))).collect();
        write(dir.join(format!("new_aan_pairs.{name}.tsv")), rows);
    }
}

/// The folder of Pathfinder-32: 30 pictures.
fn pathfinder(dir: &Path) {
    let dir = dir.join("pathfinder32/curv_contour_length_14");
    let mut rows = String::new();
    for i in 0..30u64 {
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, 32, 32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&noise(i, 1024)).unwrap();
        write(dir.join(format!("imgs/0/sample_{i}.png")), png);
        rows += &format!("imgs/0 sample_{i}.png {i} {} 1.8 6 2 1 1\n", i % 2);
    }
    write(dir.join("metadata/0.npy"), rows);
}

/// The ten words of Speech Commands, six recordings each.
fn speech_commands(dir: &Path) {
    let spec = hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    for (number, word) in ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"].iter().enumerate() {
        fs::create_dir_all(dir.join(word)).unwrap();
        for i in 0..6 {
            let mut wav = hound::WavWriter::create(dir.join(word).join(format!("{i}_nohash_0.wav")), spec).unwrap();
            for byte in noise((number * 6 + i) as u64, 12_000 + 500 * i) {
                wav.write_sample((i16::from(byte) - 128) * 100).unwrap();
            }
            wav.finalize().unwrap();
        }
    }
    let list = |i: usize| {
        ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"].map(|word| format!("{word}/{i}_nohash_0.wav\n")).concat()
    };
    write(dir.join("validation_list.txt"), list(0));
    write(dir.join("testing_list.txt"), list(1));
}
