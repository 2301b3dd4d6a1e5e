//! Pathfinder of the Long Range Arena: do two discs sit on the ends of one dashed line, or of two? On 128 x 128 pixels it is Path-X.
//!
//! [`load`] reads the official archive. A sample is read when a batch wants it, and never kept: a picture of side n is n² time steps of
//! one value from 0 to 1, row by row.

mod archive;
mod metadata;
mod npy;

pub use archive::{load, read_png};

/// The number of classes: 0, the discs sit on two lines; 1, on one.
pub const CLASSES: usize = 2;
