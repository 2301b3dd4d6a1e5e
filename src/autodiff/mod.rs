//! The engine: a tape of operations that is run backwards, the operations, and the checker of their gradients.
//!
//! A custom operation implements [`Op`] and is applied with [`Tape::apply`]; [`check_op`] verifies it: the page of [`mod@gradcheck`]
//! has a whole one.

pub mod gradcheck;
mod op;
pub mod ops;
mod tape;

pub use gradcheck::{Generate, Report, Truth, check_agreement, check_op, gradcheck, truths};
pub use op::{Array, Case, Function, Grads, Needs, Op, Oracle, operands};
pub use tape::{Gradients, Tape, Var};
