//! Files of data, recipes, and what is typed on a command line.

use std::path::Path;

use pspikessm::data::{self, Faults, own as own_data, pathfinder, picture, psmnist, speech_commands};
use pspikessm::train::{Recipe, Sample, Task, tasks};

use super::place;

/// Both ways with faults: refused at the first, and counted.
fn both(load: impl Fn(&Faults) -> pspikessm::Result<()>) {
    let refused = load(&Faults::refused());
    let skipped = load(&Faults::skipped());
    assert!(refused.is_err() || skipped.is_ok(), "what has no fault is refused: {skipped:?}");
}

pub fn listops_tsv(bytes: &[u8]) {
    let (_, path) = place("listops/basic_train.tsv", bytes);
    both(|faults| data::listops::read(&path, 50, faults).map(drop));
}

pub fn aan_tsv(bytes: &[u8]) {
    place("aan/new_aan_pairs.train.tsv", bytes);
    place("aan/new_aan_pairs.eval.tsv", b"0\ta\tb\tone\ttwo\n");
    let (dir, _) = place("aan/new_aan_pairs.test.tsv", bytes);
    both(|faults| data::aan::load(dir.join("aan"), 20, faults).map(drop));
}

pub fn idx(bytes: &[u8]) {
    // The first byte says whose turn it is: a file of pictures, or one of labels.
    let Some((&turn, bytes)) = bytes.split_first() else { return };
    let mut pictures = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28].to_vec();
    pictures.resize(16 + 2 * 28 * 28, 7);
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 3, 9];
    let (pictures, labels) = if turn % 2 == 0 { (bytes, &labels[..]) } else { (&pictures[..], bytes) };
    for part in ["train", "t10k"] {
        place(&format!("mnist/{part}-images-idx3-ubyte"), pictures);
        place(&format!("mnist/{part}-labels-idx1-ubyte"), labels);
    }
    let (dir, _) = place("mnist/README", b"");
    both(|faults| psmnist::load(dir.join("mnist"), faults).map(drop));
}

pub fn cifar(bytes: &[u8]) {
    let mut sound = vec![1; 3073];
    sound[0] = 4;
    let name = |part: usize| if part == 0 { "cifar/test_batch.bin".into() } else { format!("cifar/data_batch_{part}.bin") };
    (0..6).for_each(|part| drop(place(&name(part), if part == 3 { bytes } else { &sound })));
    let (dir, _) = place("cifar/readme.html", b"");
    both(|faults| data::cifar::load(dir.join("cifar"), faults).map(drop));
}

pub fn digits(bytes: &[u8]) {
    let (dir, _) = place("digits/digits.csv.gz", bytes);
    place("digits/digits.csv", bytes);
    both(|faults| data::digits::load(dir.join("digits"), faults).map(drop));
}

pub fn png(bytes: &[u8]) {
    let (_, path) = place("picture.png", bytes);
    let _ = picture::read_grey(&path, 8);
    let _ = pathfinder::read_png(&path, 32);
}

pub fn npy(bytes: &[u8]) {
    let (dir, _) = place("pathfinder32/curv_contour_length_14/metadata/0.npy", bytes);
    both(|faults| pathfinder::load(dir.join("pathfinder32"), 32, faults).map(drop));
}

pub fn wav(bytes: &[u8]) {
    let (_, path) = place("clip.wav", bytes);
    if let Ok(values) = speech_commands::read_wav(&path) {
        assert!(values.iter().all(|value| (-1.0..=1.0).contains(value)), "a sample beyond full scale");
    }
}

/// Data of one's own. The first byte says of which kind the file is, and whether its labels are numbers.
pub fn own(bytes: &[u8]) {
    let Some((&turn, bytes)) = bytes.split_first() else { return };
    let kind = own_data::Kind::ALL[usize::from(turn / 2) % own_data::Kind::ALL.len()];
    let (ending, labels) = (kind.ending(), npy_labels());
    let name = match kind {
        own_data::Kind::Wav | own_data::Kind::Png | own_data::Kind::Txt => format!("own-{ending}/0/x.{ending}"),
        _ => format!("own-{ending}/train.{ending}"),
    };
    let (dir, path) = place(&name, bytes);
    let folder = dir.join(format!("own-{ending}"));
    match kind {
        own_data::Kind::Npy => drop(place("own-npy/train_labels.npy", &labels)),
        own_data::Kind::Wav | own_data::Kind::Png | own_data::Kind::Txt => drop(place(&format!("own-{ending}/1/x.{ending}"), bytes)),
        _ => {}
    }
    let options = own_data::Options { regression: turn % 2 == 1, ..own_data::Options::default() };
    both(|faults| own_data::load(&folder, options, faults).map(drop));
    if let Ok(splits) = own_data::load(&folder, options, &Faults::skipped()) {
        assert!(splits.train.len() > 0 && splits.test.longest() > 0);
        let _ = own_data::push(&path, &mut splits.train.subset(&[]).expect("an empty set"));
    }
}

/// Three labels, as numpy.save writes them.
fn npy_labels() -> Vec<u8> {
    let mut header = "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }".to_string();
    header.extend(std::iter::repeat_n(' ', 117 - header.len()));
    [b"\x93NUMPY\x01\0\x76\0", header.as_bytes(), b"\n\0\x01\0"].concat()
}

pub fn recipe(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = Recipe::parse(text, "fuzz.toml") else { return };
    let printed = read.to_toml().expect("what was read can be written");
    assert_eq!(Recipe::parse(&printed, "printed.toml").expect("what was written can be read"), read);
}

pub fn set(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let base = tasks::ListOps.recipe(None).expect("the default recipe");
    let changes = text.lines().filter_map(|line| line.split_once('='));
    if let Ok(changed) = base.set_all(changes) {
        changed.check().expect("what was set is checked");
    }
}

pub fn predict(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let tokens = data::listops::encode(text);
    if let Ok(value) = data::listops::evaluate(text) {
        assert!(value < 10 && tokens.is_ok(), "{text:?} is {value}");
    }
    let task = &tasks::ListOps;
    let recipe = task.recipe(None).expect("the default recipe");
    let mut set = data::Dataset::tokens(data::listops::vocabulary(), 10);
    for sample in [Sample::Given(Path::new(text)), Sample::Text(text)] {
        let _ = task.push(&recipe, sample, &mut set);
    }
}
