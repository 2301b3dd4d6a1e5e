//! Functions of variables that are made of ops, a subject a file: none has a backward of its own.

mod constants;
mod convolution;
mod indexing;
mod padding;
mod pooling;
mod shapes;
mod windows;

pub use convolution::Conv;
pub use pooling::Pool;
pub use windows::{Padding, PerAxis};
