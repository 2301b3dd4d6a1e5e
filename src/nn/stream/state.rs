//! What streams remember: from one stream to another, and to and from safetensors.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::block::{BranchState, StepBranch};
use super::{OP, Stream};
use crate::backend::host::vectors::ROWS;
use crate::backend::{Key, Real};
use crate::error::{Error, Result};
use crate::nn::Site;
use crate::nn::store::{Archive, Stored};

/// What stands in the note: everything that is no tensor.
const NOTE: &str = "stream";

/// Fills one stream's part of a list (outer, streams, size).
fn fill_part<T: Copy>(list: &mut [T], (streams, stream): (usize, usize), size: usize, value: T) {
    list.chunks_exact_mut(streams * size).for_each(|list| list[stream * size..][..size].fill(value));
}

impl<E: Real> Stream<E> {
    /// Puts one stream at rest, before the first step of sample number `sample`.
    pub(super) fn rest(&mut self, stream: usize, sample: u64) {
        let (place, channels, classes) = ((self.streams(), stream), self.weights.channels, self.weights.head.classes());
        let width = channels.next_multiple_of(ROWS);
        (self.samples[stream], self.heard[stream]) = (sample, 0);
        for (i, (block, state)) in (0..).zip(self.weights.blocks.iter().zip(&mut self.blocks)) {
            block.set_generators(state, stream, (self.config.key.fold(i), sample, 0));
            for (branch, state) in block.branches.iter().zip(&mut state.branches) {
                fill_part(&mut state.ssm, place, branch.ssm.remembered() * ROWS, E::zero());
                for (sampler, carries) in branch.samplers().into_iter().zip(&mut state.carries).filter(|(s, _)| s.remembered() > 0) {
                    fill_part(carries, place, sampler.remembered() * width, E::zero());
                }
                if let Some(window) = branch.ssm.window {
                    fill_part(&mut state.recent, place, window * branch.ssm.tiles(), 0);
                }
            }
        }
        fill_part(&mut self.pooled, place, channels, 0.0);
        fill_part(&mut self.logits, place, classes, E::nan());
        self.features.iter_mut().for_each(|features| fill_part(features, place, width, E::zero()));
        self.traces.iter_mut().flatten().for_each(|(_, bits)| fill_part(bits, place, width / ROWS, 0));
    }

    /// What the streams remember, to be written with [`Archive::write`], together with the model's digest. For every stream: its sample
    /// number, its time step, every SSM's states, what neurons that integrate remember, and what is pooled.
    ///
    /// # Errors
    /// None at present.
    pub fn state(&self) -> Result<Archive> {
        let (mut archive, mut note) = (Archive::default(), Map::new());
        note.insert(
            NOTE.into(),
            json!({
                "digest": format!("{:016x}", self.weights.digest),
                "key": self.config.key.parts(),
                "windowed": self.config.windowed,
                "int8": self.config.int8,
                "samples": self.samples,
                "heard": self.heard,
            }),
        );
        archive.set_note(note);
        let streams = self.streams();
        archive.tensors.insert("pooled".into(), Stored::new(&self.pooled, &[streams, self.weights.channels]));
        for (i, (block, state)) in self.weights.blocks.iter().zip(&self.blocks).enumerate() {
            for ((name, branch), state) in names(i).zip(&block.branches).zip(&state.branches) {
                write_branch(&mut archive, &name, branch, state, streams);
            }
        }
        Ok(archive)
    }

    /// Goes on where the streams were whose [`state`](Stream::state) this is, with their key and sample numbers: the next steps are those
    /// that they would have made. Features and spikes are those of the next step.
    ///
    /// # Errors
    /// [`Error::Value`] where it is another model's state, of another number of streams, with a window or without where this has none or
    /// one, with weights in 8 bits or not where these are not or are, of another type, or damaged; then nothing is changed.
    pub fn restore(&mut self, state: &Archive) -> Result<()> {
        let refused = |what: &str| Error::value(OP, format!("this state does not fit: {what}"));
        let note = state.note(Path::new("the stream's state"))?.remove(NOTE);
        let note = note.ok_or_else(|| refused("it is no stream's; `Stream::state` makes one"))?;
        if note["digest"] != json!(format!("{:016x}", self.weights.digest)) {
            return Err(refused("it is of a stream of another model, or of other weights: open the model that it was made with"));
        }
        if note["windowed"] != json!(self.config.windowed) {
            return Err(refused("one of the two has a window and the other has none: set `StreamConfig::windowed` alike"));
        }
        if note["int8"].as_bool().unwrap_or_default() != self.config.int8 {
            return Err(refused("one of the two has weights in 8 bits and the other has not: set `StreamConfig::int8` alike"));
        }
        let numbers = |name: &str| note[name].as_array().and_then(|list| list.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>());
        let (samples, heard) = (numbers("samples").unwrap_or_default(), numbers("heard").unwrap_or_default());
        let (streams, key) = (self.streams(), numbers("key").and_then(|key| <[u64; 2]>::try_from(key).ok()));
        let key = key.ok_or_else(|| refused("it has no key: it is damaged"))?;
        if samples.len() != streams || heard.len() != streams {
            return Err(refused(&format!("it is of {} streams, not {streams}: make as many", samples.len())));
        }
        let mut next = Stream::new(self.weights.clone(), streams, self.config.key(Key::of_parts(key)))?;
        (next.samples, next.heard) = (samples, heard);
        next.pooled = values(state, "pooled", &[streams, next.weights.channels])?;
        for (i, (block, own)) in self.weights.blocks.iter().zip(&mut next.blocks).enumerate() {
            for ((name, branch), own) in names(i).zip(&block.branches).zip(&mut own.branches) {
                read_branch(state, &name, branch, own, streams)?;
            }
        }
        next.set_generators();
        next.update_logits(0, streams);
        *self = next;
        Ok(())
    }
}

/// What the branches of block number `block` are called.
fn names(block: usize) -> impl Iterator<Item = String> {
    ["forward", "reverse"].into_iter().map(move |branch| format!("blocks.{block}.{branch}"))
}

/// What the memory of the neurons at a site is called.
fn neurons(name: &str, site: Site) -> String {
    let place = if matches!(site, Site::Input | Site::ReverseInput) { "input" } else { "output" };
    format!("{name}.{place}_neurons")
}

/// Lanes (tiles, streams, size, 16) to rows (streams, channels, size).
fn to_rows<E: Real>(lanes: &[E], streams: usize, channels: usize, size: usize) -> Vec<E> {
    let at = |stream: usize, h: usize, k: usize| lanes[((h / ROWS * streams + stream) * size + k) * ROWS + h % ROWS];
    (0..streams).flat_map(|stream| (0..channels).flat_map(move |h| (0..size).map(move |k| at(stream, h, k)))).collect()
}

/// The way back.
fn to_lanes<E: Real>(rows: &[E], streams: usize, channels: usize, size: usize, lanes: &mut [E]) {
    for (row, values) in rows.chunks_exact(size).enumerate() {
        let (stream, h) = (row / channels, row % channels);
        for (k, &value) in values.iter().enumerate() {
            lanes[((h / ROWS * streams + stream) * size + k) * ROWS + h % ROWS] = value;
        }
    }
}

fn write_branch<E: Real>(archive: &mut Archive, name: &str, branch: &StepBranch<E>, state: &BranchState<E>, streams: usize) {
    let (channels, size) = (branch.ssm.channels, branch.ssm.remembered());
    let mut insert = |name: String, values: &[E], shape: &[usize]| archive.tensors.insert(name, Stored::new(values, shape));
    insert(format!("{name}.states"), &to_rows(&state.ssm, streams, channels, size), &[streams, channels, size]);
    for (sampler, carries) in branch.samplers().into_iter().zip(&state.carries).filter(|(s, _)| s.remembered() > 0) {
        let rows = carries.chunks_exact(channels.next_multiple_of(ROWS));
        let rows: Vec<E> = rows.flat_map(|row| &row[..channels]).copied().collect();
        insert(neurons(name, sampler.site), &rows, &[streams, sampler.remembered(), channels]);
    }
    if let Some(window) = branch.ssm.window {
        let words: Vec<E> = state.recent.iter().map(|&word| E::of(f64::from(word))).collect();
        insert(format!("{name}.recent_spikes"), &words, &[streams, window, branch.ssm.tiles()]);
    }
}

fn read_branch<E: Real>(archive: &Archive, name: &str, branch: &StepBranch<E>, state: &mut BranchState<E>, streams: usize) -> Result<()> {
    let (channels, size) = (branch.ssm.channels, branch.ssm.remembered());
    let rows = values(archive, &format!("{name}.states"), &[streams, channels, size])?;
    to_lanes(&rows, streams, channels, size, &mut state.ssm);
    for (sampler, carries) in branch.samplers().into_iter().zip(&mut state.carries).filter(|(s, _)| s.remembered() > 0) {
        let rows = values::<E>(archive, &neurons(name, sampler.site), &[streams, sampler.remembered(), channels])?;
        let own = carries.chunks_exact_mut(channels.next_multiple_of(ROWS));
        own.zip(rows.chunks_exact(channels)).for_each(|(own, row)| own[..channels].copy_from_slice(row));
    }
    if let Some(window) = branch.ssm.window {
        let words = values::<E>(archive, &format!("{name}.recent_spikes"), &[streams, window, branch.ssm.tiles()])?;
        state.recent.iter_mut().zip(words).for_each(|(own, word)| *own = word.f64() as u16);
    }
    Ok(())
}

/// The tensor of this name, which has the shape and the type.
fn values<E: Real>(archive: &Archive, name: &str, shape: &[usize]) -> Result<Vec<E>> {
    let refused = |what: &str| Error::value(OP, format!("this state does not fit: {name} {what}"));
    let stored = archive.tensors.get(name).ok_or_else(|| refused("is missing"))?;
    if stored.shape != shape {
        return Err(refused(&format!("has shape {:?}, not {shape:?}", stored.shape)));
    }
    if !stored.is::<E>() {
        return Err(refused(&format!("has another type than {}: open the model on a backend of that type", E::NAME)));
    }
    stored.finite(name).map_err(|help| Error::value(OP, help))
}
