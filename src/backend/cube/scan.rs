//! The family [`Scan`], as it is composed.

use cubecl::prelude::Runtime;

use super::{Cube, Scalar};
use crate::backend::Scan;

impl<R: Runtime, E: Scalar> Scan for Cube<R, E> {}
