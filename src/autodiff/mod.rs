//! The engine: a tape of operations that is run backwards, the operations, and the checker of their gradients.
//!
//! A custom operation implements [`Op`] and is applied with [`Tape::apply`]; [`check_op`] verifies it: the page of [`mod@gradcheck`]
//! has a whole one.

mod functions;
pub mod gradcheck;
mod op;
pub(crate) mod ops;
mod tape;

pub use functions::{Conv, Padding, PerAxis, Pool};
pub use gradcheck::{Generate, Report, check_op, gradcheck};
pub(crate) use gradcheck::{Truth, check_agreement, truths};
pub use op::{Array, Case, Function, Grads, Needs, Op, Oracle, operands};
pub use ops::{fire::Fire, mix::Mix};
pub use tape::{Gradients, Tape, Var};
