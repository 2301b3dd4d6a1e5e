//! The family [`Reductions`]: as composed, until it has kernels of its own.

use cubecl::prelude::Runtime;

use super::{Cube, Scalar};
use crate::backend::Reductions;

impl<R: Runtime, E: Scalar> Reductions for Cube<R, E> {}
