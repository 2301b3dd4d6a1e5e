//! The engine: a tape of operations that is run backwards, the operations, and the checker of their gradients.
//!
//! A custom operation is two closures ([`Tape::custom`]), or implements [`Op`] and is applied with [`Tape::apply`]; [`check_op`] verifies it:
//! the page of [`mod@gradcheck`] has a whole one. Derivatives of derivatives are [`gradients()`] on a tape of
//! [higher order](Tape::higher_order); [`Tape::checkpoint`] trades time for memory.

mod functions;
pub mod gradcheck;
mod op;
mod operators;
pub(crate) mod ops;
mod tape;

pub use functions::{Conv, Padding, PerAxis, Pool};
pub use gradcheck::{Generate, Report, check_op, check_twice, gradcheck, gradgradcheck};
pub(crate) use gradcheck::{Truth, check_agreement, truths};
pub use op::{Array, Case, Function, Grads, Needs, Op, Oracle, VarGrads, operands, variables};
pub use ops::{fire::Fire, mix::Mix};
pub(crate) use tape::differentiable_once;
pub use tape::{AsLeaf, Gradients, LeafId, Tape, Var, differentiate, gradients, gradients_from};
