//! The differentiable operations, one a file, and the registry that the gradient tests walk.
//!
//! A file holds an op's struct, forward, backward, oracle, cases, and its method on [`Var`](super::Var). A new op is a new file and
//! one line below: an op that is not registered is not compiled.

use super::{Op, Report, Truth, check_agreement, check_op, check_twice, truths};
use crate::backend::{Backend, Cpu};
use crate::error::Result;

/// An operation of the crate, ready to be checked in f64 on the CPU.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The op's name, as in error messages.
    pub name: &'static str,
    /// The file that it stands in, without its ending.
    pub file: &'static str,
    /// Checks all cases drawn from a seed, as [`check_op`] does.
    pub check: fn(seed: u64) -> Result<Report>,
    /// Checks the second derivatives of all cases, as [`check_twice`] does.
    pub check_twice: fn(seed: u64) -> Result<Report>,
    /// What it makes of those cases: what the same op on another backend is held against ([`agreements`]).
    pub truths: fn(seed: u64) -> Result<Vec<Truth>>,
}

impl Entry {
    fn of<O: Op<Cpu<f64>>>(file: &'static str) -> Self {
        Entry {
            name: O::NAME,
            file,
            check: |seed| check_op::<O, _>(&Cpu::<f64>::new(), seed),
            check_twice: |seed| check_twice::<O, _>(&Cpu::<f64>::new(), seed),
            truths: truths::<O>,
        }
    }
}

/// [`check_agreement`] of one op: of a backend, a seed, that seed's [`Truth`]s and a tolerance.
pub type Agreement<B> = fn(&B, u64, &[Truth], f64) -> Result<Report>;

/// `file: Type, ..;` declares the module and registers its ops; a type that depends on the backend calls it `B`.
macro_rules! ops {
    ($($file:ident: $($op:ty),+;)*) => {
        $(pub mod $file;)*

        /// Every operation of the crate.
        pub fn registry() -> Vec<Entry> {
            type B = Cpu<f64>;
            vec![$($(Entry::of::<$op>(stringify!($file))),+),*]
        }

        /// The same operations, in the same order, on another backend.
        pub fn agreements<B: Backend>() -> Vec<Agreement<B>> {
            vec![$($(check_agreement::<$op, B>),+),*]
        }
    };
}

ops! {
    unary: unary::UnaryOp, unary::GeluSlope;
    binary: binary::BinaryOp;
    select: select::Select<B>;
    sum: sum::Sum;
    reduce: reduce::Reduce;
    cumsum: cumsum::Cumsum;
    softmax: softmax::Softmax, softmax::LogSoftmax;
    reshape: reshape::Reshape;
    permute: permute::Permute;
    slice: slice::Slice;
    concat: concat::Concat;
    flip: flip::Flip;
    expand: expand::Expand;
    index: index::IndexSelect, index::IndexAdd;
    scan: scan::ScanOp;
    matmul: matmul::Matmul;
    fft: fft::Rfft, fft::Irfft;
    embed: embed::Embed, embed::EmbedAdjoint;
    cross_entropy: cross_entropy::CrossEntropy;
    dropout: dropout::Dropout;
    affine: affine::Affine;
    moments: moments::Moments;
    normalize: normalize::Normalize<B>;
    spike: spike::SpikeOp<B>;
    lif: lif::LifOp;
    plif: plif::PlifOp;
    long_conv: long_conv::LongConvOp;
    fire: fire::Fire<B>;
    mix: mix::Mix;
    dplr: dplr::DplrKernel;
    diag: diag::DiagKernel;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_is_registered_and_every_name_is_its_own() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/autodiff/ops");
        let on_disk: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| Some(entry.unwrap().file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
            .filter(|file| file != "mod")
            .collect();
        let registered: BTreeSet<String> = registry().iter().map(|entry| entry.file.to_owned()).collect();
        assert_eq!(on_disk, registered);
        let names: BTreeSet<&str> = registry().iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), registry().len(), "{names:?}");
    }
}
