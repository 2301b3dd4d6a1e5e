//! Data sets as plain slices and shapes: what they hold, how they are batched, in which order an epoch visits them.
//!
//! Nothing here knows a tensor or a tape. A data set is read or generated into a [`Dataset`], which hands out [`Batch`]es padded
//! to their longest sequence; [`order`] says which samples come when:
//!
//! ```
//! use pspikessm::data::{self, listops};
//!
//! let rules = listops::Rules { train: 100, val: 20, test: 20, ..listops::Rules::small() };
//! let splits = listops::generate(&rules, 7)?;
//! for epoch in 0..2 {
//!     for indices in data::order(splits.train.len(), 7, epoch).chunks(32) {
//!         let batch = splits.train.batch(indices)?;
//!         assert_eq!(batch.shape(), [batch.batch, batch.length]);
//!     }
//! }
//! # Ok::<(), pspikessm::error::Error>(())
//! ```

pub mod aan;
pub mod archive;
mod batch;
mod characters;
pub mod cifar;
mod dataset;
#[cfg(feature = "data")]
pub mod digits;
#[cfg(feature = "download")]
pub mod download;
mod encoding;
mod faults;
mod folder;
#[cfg(feature = "data")]
mod idx;
pub mod imdb;
pub mod listops;
mod lra;
mod luma;
#[cfg(feature = "data")]
mod npy;
#[cfg(feature = "data")]
pub mod own;
pub mod pathfinder;
#[cfg(feature = "data")]
pub mod picture;
#[cfg(feature = "data")]
pub mod psmnist;
mod random;
#[cfg(feature = "data")]
pub mod speech_commands;
pub mod subjects;
mod targets;
pub(crate) mod text_lines;
mod text_unit;
mod vocabulary;
#[cfg(feature = "data")]
mod wav;
mod words;

pub use batch::{Batch, Inputs};
#[cfg(feature = "train")]
pub(crate) use dataset::About;
pub use dataset::{Dataset, Source};
pub use encoding::{Encoding, Standardization};
pub use faults::Faults;
pub use random::{hold_out, order};
pub use targets::TargetScale;
pub use text_unit::TextUnit;
pub use vocabulary::Vocabulary;

/// The three parts of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Splits<S = Dataset> {
    /// What the parameters are fitted to.
    pub train: S,
    /// What the model and the stopping point are chosen by.
    pub val: S,
    /// What is reported.
    pub test: S,
}
