//! What the page calls: plain C functions around one reader, which is kept here.
//!
//! A WebAssembly module has one thread, so one [`Reader`] in a thread's own storage serves the page. Lists are left in memory and their
//! address is answered; they stay as they are until the next call.

#![allow(unsafe_code, reason = "a name that is exported as it is must be marked unsafe; there is no unsafe block here")]

mod reader;

use std::cell::RefCell;

pub use reader::Reader;

/// What lies between two calls.
#[derive(Default)]
struct Desk {
    reader: Option<Reader>,
    /// The bytes of a model, which the page writes.
    bytes: Vec<u8>,
    /// What went wrong last, UTF-8.
    message: String,
    spikes: Vec<u32>,
    probabilities: Vec<f32>,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::default();
}

fn at_desk<T>(work: impl FnOnce(&mut Desk) -> T) -> T {
    DESK.with_borrow_mut(work)
}

/// Asks the reader, or answers `none` where no model is open.
fn ask<T>(none: T, question: impl FnOnce(&Reader) -> T) -> T {
    at_desk(|desk| desk.reader.as_ref().map_or(none, question))
}

/// Does something that can fail: 0, or 1 and a message.
fn attempt(work: impl FnOnce(&mut Desk) -> pspikessm::Result<()>) -> u32 {
    at_desk(|desk| match work(desk) {
        Ok(()) => 0,
        Err(error) => {
            desk.message = error.to_string();
            1
        }
    })
}

/// Room for a model's bytes, to be written by the page before [`open`].
#[unsafe(no_mangle)]
pub extern "C" fn room(bytes: usize) -> *mut u8 {
    at_desk(|desk| {
        desk.bytes = vec![0; bytes];
        desk.bytes.as_mut_ptr()
    })
}

/// Opens the model that was written into the room: 0, or 1 and a message.
#[unsafe(no_mangle)]
pub extern "C" fn open() -> u32 {
    attempt(|desk| {
        let bytes = std::mem::take(&mut desk.bytes);
        desk.reader = Some(Reader::open(&bytes)?);
        Ok(())
    })
}

/// Where the last message is.
#[unsafe(no_mangle)]
pub extern "C" fn message() -> *const u8 {
    at_desk(|desk| desk.message.as_ptr())
}

/// How many bytes it has.
#[unsafe(no_mangle)]
pub extern "C" fn message_length() -> usize {
    at_desk(|desk| desk.message.len())
}

/// Pixels along each side of a picture.
#[unsafe(no_mangle)]
pub extern "C" fn side() -> usize {
    ask(0, Reader::side)
}

/// The pixel that time step `step` shows.
#[unsafe(no_mangle)]
pub extern "C" fn pixel(step: usize) -> usize {
    ask(0, |reader| reader.pixel(step))
}

/// Blocks.
#[unsafe(no_mangle)]
pub extern "C" fn layers() -> usize {
    ask(0, Reader::layers)
}

/// Neurons of a layer at each of its two sites.
#[unsafe(no_mangle)]
pub extern "C" fn neurons() -> usize {
    ask(0, Reader::neurons)
}

/// Classes.
#[unsafe(no_mangle)]
pub extern "C" fn classes() -> usize {
    ask(0, Reader::classes)
}

/// Begins a picture with the random numbers of this sample: 0, or 1 and a message.
#[unsafe(no_mangle)]
pub extern "C" fn begin(sample: u32) -> u32 {
    attempt(|desk| desk.reader.as_mut().map_or(Ok(()), |reader| reader.begin(u64::from(sample))))
}

/// Shows the next pixel, from 0 for black to 1: 0, or 1 and a message.
#[unsafe(no_mangle)]
pub extern "C" fn see(value: f32) -> u32 {
    attempt(|desk| desk.reader.as_mut().map_or(Ok(()), |reader| reader.see(value)))
}

/// Lists the neurons of a layer that spiked in the last step, at its input (0) or its output (1), and answers how many.
#[unsafe(no_mangle)]
pub extern "C" fn spikes(layer: usize, output: u32) -> usize {
    at_desk(|desk| {
        desk.spikes.clear();
        desk.spikes.extend(desk.reader.iter().flat_map(|reader| reader.spikes(layer, output == 1)));
        desk.spikes.len()
    })
}

/// Where that list is.
#[unsafe(no_mangle)]
pub extern "C" fn spike_list() -> *const u32 {
    at_desk(|desk| desk.spikes.as_ptr())
}

/// The probability of every class so far.
#[unsafe(no_mangle)]
pub extern "C" fn probabilities() -> *const f32 {
    at_desk(|desk| {
        desk.probabilities = desk.reader.as_ref().map_or_else(Vec::new, Reader::probabilities);
        desk.probabilities.as_ptr()
    })
}

/// Spikes since the picture began.
#[unsafe(no_mangle)]
pub extern "C" fn spike_count() -> f64 {
    ask(0.0, |reader| reader.spike_count() as f64)
}

/// pJ since the picture began.
#[unsafe(no_mangle)]
pub extern "C" fn energy() -> f64 {
    ask(0.0, Reader::energy)
}

/// pJ that the same would have taken with real numbers instead of spikes.
#[unsafe(no_mangle)]
pub extern "C" fn dense_energy() -> f64 {
    ask(0.0, Reader::dense_energy)
}
