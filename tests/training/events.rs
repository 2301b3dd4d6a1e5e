//! TensorBoard's event files, read by a reader that shares nothing with the writer: framing, checksums, and every number of the metrics.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::runs::{Tiny, advance, flags, metrics, names, recipe, result, trainer_of};

/// CRC-32C bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

fn masked(bytes: &[u8]) -> u32 {
    crc(bytes).rotate_left(17).wrapping_add(0xa282_ead8)
}

/// What is in each record of a file.
fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    while !file.is_empty() {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        assert_eq!(word(&file[8..12]), masked(&file[..8]), "of the length");
        assert_eq!(word(&file[12 + length..16 + length]), masked(&file[12..12 + length]), "of the data");
        found.push(file[12..12 + length].to_vec());
        file = &file[16 + length..];
    }
    found
}

/// The fields of a message: number, and a number or bytes.
fn fields(mut message: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn varint(from: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = from[0];
            *from = &from[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let size = match key & 7 {
            0 => {
                found.push((key >> 3, varint(&mut message), &message[..0]));
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, 0, &message[..size]));
        message = &message[size..];
    }
    found
}

/// Every number of an event file by name and step, and the steps at which sessions start.
fn read(path: &Path) -> (Vec<(String, u64, f32)>, Vec<u64>) {
    let (mut scalars, mut starts) = (Vec::new(), Vec::new());
    let records = records(&fs::read(path).unwrap());
    assert!(fields(&records[0]).contains(&(3, 0, b"brain.Event:2")));
    for record in &records {
        let event = fields(record);
        let seconds = f64::from_le_bytes(event.iter().find(|field| field.0 == 1).unwrap().2.try_into().unwrap());
        assert!(seconds > 1.7e9 && seconds < 1e10, "{seconds} are not seconds since 1970");
        let step = event.iter().find(|field| field.0 == 2).unwrap().1;
        for (_, _, summary) in event.iter().filter(|field| field.0 == 5) {
            for (_, _, value) in fields(summary) {
                let value = fields(value);
                let [(1, _, tag), (2, _, number)] = value[..] else { panic!("{value:?}") };
                scalars.push((String::from_utf8(tag.to_vec()).unwrap(), step, f32::from_le_bytes(number.try_into().unwrap())));
            }
        }
        starts.extend(event.iter().filter(|field| field.0 == 7 && fields(field.2) == [(1, 1, &[][..])]).map(|_| step));
    }
    (scalars, starts)
}

fn event_files(dir: &Path) -> Vec<std::path::PathBuf> {
    names(dir).iter().filter(|name| name.starts_with("events.out.tfevents.")).map(|name| dir.join(name)).collect()
}

/// Every number of all event files of a folder; none of them twice.
fn all(dir: &Path) -> BTreeMap<(String, u64), f32> {
    let mut found = BTreeMap::new();
    for (tag, step, value) in event_files(dir).iter().flat_map(|path| read(path).0) {
        assert_eq!(found.insert((tag.clone(), step), value), None, "{tag} of step {step} twice");
    }
    found
}

/// What the metrics of a folder say, under the names that events have.
fn wanted(dir: &Path) -> BTreeMap<(String, u64), f32> {
    let mut wanted = BTreeMap::new();
    for line in metrics(dir) {
        let (kind, step) = (line["kind"].as_str().unwrap(), line["step"].as_u64().unwrap());
        let kind = if kind == "spikes" { "train" } else { kind };
        for name in ["loss", "accuracy", "lr", "spike_rate"] {
            if let Some(value) = line[name].as_f64() {
                wanted.insert((format!("{name}/{kind}"), step), value as f32);
            }
        }
        for layer in line["layers"].as_array().into_iter().flatten() {
            let tag = format!("spike_rate/layer_{}_{}/{kind}", layer["layer"], layer["site"].as_str().unwrap());
            wanted.insert((tag, step), layer["rate"].as_f64().unwrap() as f32);
        }
    }
    wanted
}

const LINE: &str = "--quiet --tensorboard --rates-every 3 --eval-passes 1";

#[test]
fn checksums_are_those_of_the_standard() {
    assert_eq!((crc(b"123456789"), crc(&[0; 32])), (0xe306_9283, 0x8a91_36aa));
}

#[test]
fn events_say_what_the_metrics_say() {
    let dir = tempfile::tempdir().unwrap();
    result(&Tiny, &flags(LINE, Some(dir.path())));
    let files = event_files(dir.path());
    assert_eq!((files.len(), read(&files[0]).1), (1, vec![1]));
    let found = all(dir.path());
    assert_eq!(found, wanted(dir.path()));
    for tag in ["loss/train", "accuracy/validation", "lr/train", "spike_rate/train", "spike_rate/layer_1_reverse_output/train", "loss/test"]
    {
        assert!(found.keys().any(|(name, _)| name == tag), "{tag}");
    }
    // Another run in the folder takes them away; without the flag there are none.
    result(&Tiny, &flags("--quiet --overwrite", Some(dir.path())));
    assert!(event_files(dir.path()).is_empty());
}

#[test]
fn a_run_that_goes_on_adds_a_file_and_repeats_no_step() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    result(&Tiny, &flags(LINE, Some(whole.path())));
    result(&Tiny, &flags(LINE, Some(parts.path())));
    // Killed at the end of the run, with a checkpoint from before; the last record was only begun.
    for (number, at) in [(1, 6), (2, 9), (3, 3)] {
        let mut part = trainer_of(recipe(16));
        advance(&mut part, at);
        part.save(parts.path().join("checkpoint.safetensors")).unwrap();
        let last = event_files(parts.path()).pop().unwrap();
        let content = fs::read(&last).unwrap();
        fs::write(&last, &content[..content.len() - 5]).unwrap();
        result(&Tiny, &flags(&format!("{LINE} --resume"), Some(parts.path())));
        let files = event_files(parts.path());
        assert_eq!((files.len(), read(files.last().unwrap()).1), (number + 1, vec![at + 1]));
        assert_eq!(all(parts.path()), all(whole.path()));
        assert_eq!(all(parts.path()), wanted(parts.path()));
    }
}
