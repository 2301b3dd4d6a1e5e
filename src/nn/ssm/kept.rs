//! Convolution kernels that an evaluation has generated, kept for the next one: for a single sample they cost as much as all the rest.

use std::collections::VecDeque;

use crate::backend::{Backend, Tensor};

/// Elements of the kernels of a layer that are kept at most: 8 MB in f32. Longer ones cost little beside their convolution. (Fewer
/// for Miri, which interprets.)
pub const MOST: usize = if cfg!(miri) { 8 } else { 1 << 21 };

/// What kernels are generated from: the versions of all parameters, Lk, and the length.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Origin {
    pub versions: Vec<u64>,
    pub l_kernel: usize,
    pub length: usize,
}

/// The latest kernels, of the lengths that were asked for.
#[derive(Debug)]
pub(super) struct Kept<B: Backend> {
    kernels: VecDeque<(Origin, Tensor<B>)>,
}

impl<B: Backend> Default for Kept<B> {
    fn default() -> Self {
        Kept { kernels: VecDeque::new() }
    }
}

impl<B: Backend> Kept<B> {
    /// The kernels of this origin; those of other parameters go.
    pub fn find(&mut self, origin: &Origin) -> Option<Tensor<B>> {
        self.kernels.retain(|(kept, _)| (&kept.versions, kept.l_kernel) == (&origin.versions, origin.l_kernel));
        self.kernels.iter().find(|(kept, _)| kept == origin).map(|(_, kernels)| kernels.clone())
    }

    /// Keeps these, and of the others the latest for which there is room.
    pub fn keep(&mut self, origin: Origin, kernels: &Tensor<B>) {
        self.kernels.retain(|(kept, _)| *kept != origin);
        self.kernels.push_front((origin, kernels.clone()));
        while self.kernels.iter().map(|(_, kernels)| kernels.numel()).sum::<usize>() > MOST {
            self.kernels.pop_back();
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.kernels.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Cpu, Transfer};

    fn origin(version: u64, length: usize) -> Origin {
        Origin { versions: vec![version, 7], l_kernel: 4, length }
    }

    #[test]
    fn the_latest_of_one_version_are_kept_while_there_is_room() {
        let cpu = Cpu::<f32>::new();
        let kernels = |size| cpu.full(&[size], 1.0).unwrap();
        let mut kept = Kept::default();
        for length in [1, 2, 3] {
            assert!(kept.find(&origin(0, length)).is_none());
            kept.keep(origin(0, length), &kernels(MOST / 2));
        }
        let found = |kept: &mut Kept<Cpu<f32>>, version| [1, 2, 3].map(|length| kept.find(&origin(version, length)).is_some());
        assert_eq!(found(&mut kept, 0), [false, true, true]);
        // Twice the same is kept once.
        kept.keep(origin(0, 3), &kernels(MOST / 2));
        assert_eq!(found(&mut kept, 0), [false, true, true]);
        // To ask for those of other parameters drops what is out of date.
        assert_eq!(found(&mut kept, 1), [false; 3]);
        assert_eq!(found(&mut kept, 0), [false; 3]);
        kept.keep(origin(1, 1), &kernels(MOST + 1));
        assert_eq!(found(&mut kept, 1), [false; 3]);
        kept.keep(origin(1, 1), &kernels(MOST));
        assert_eq!(found(&mut kept, 1), [true, false, false]);
        kept.clear();
        assert_eq!(found(&mut kept, 1), [false; 3]);
    }
}
