//! What is made of a tensor's values before they are used, kept with them for the next use: spectra of kernels, a matrix in strips.

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::buffer::Buffer;
use crate::backend::Real;

/// Numbers that are kept with a tensor at most, 8 MB in f32: what is made of more costs little beside its use.
const MOST: usize = 1 << 21;

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// The spectra of kernels (c, H, Lk) for a length L, by tiles.
    Spectra {
        /// c, H, Lk.
        kernels: [usize; 3],
        /// L.
        length: usize,
    },
    /// The columns of a matrix in strips of sixteen rows.
    Strips {
        /// Rows and columns.
        shape: [usize; 2],
        /// Where the columns of every part lie.
        places: Vec<[usize; 3]>,
    },
}

/// How often a form is made anew before it is kept: a training step makes it twice, forwards and backwards, and should not hold it between.
const PASSING: usize = 2;

/// The one form of a tensor that is kept: whoever wants another makes it anew.
pub struct Kept<E: Real> {
    made: AtomicUsize,
    form: OnceLock<(Form, Vec<Buffer<E>>)>,
}

impl<E: Real> Default for Kept<E> {
    fn default() -> Self {
        Kept { made: AtomicUsize::new(0), form: OnceLock::new() }
    }
}

/// Values in some form.
pub enum Derived<'a, E: Real> {
    /// Kept.
    Kept(&'a [Buffer<E>]),
    /// Made for this use.
    Own(Vec<Buffer<E>>),
}

impl<E: Real> Deref for Derived<'_, E> {
    type Target = [Buffer<E>];
    fn deref(&self) -> &[Buffer<E>] {
        match self {
            Derived::Kept(buffers) => buffers,
            Derived::Own(buffers) => buffers,
        }
    }
}

impl<E: Real> Kept<E> {
    /// The values in this form, of which `make` makes all buffers.
    pub fn derive(&self, form: Form, make: impl FnOnce() -> Vec<Buffer<E>>) -> Derived<'_, E> {
        match self.form.get() {
            Some((kept, buffers)) if *kept == form => return Derived::Kept(buffers),
            Some(_) => return Derived::Own(make()),
            None => (),
        }
        let buffers = make();
        let passing = self.made.fetch_add(1, Ordering::Relaxed) < PASSING;
        if passing || buffers.iter().map(|buffer| buffer.len()).sum::<usize>() > MOST {
            return Derived::Own(buffers);
        }
        // Made outside of the lock: a thread that waits for its part of the work may take up somebody else's, which asks for the same.
        match self.form.set((form, buffers)) {
            Ok(()) => Derived::Kept(self.form.get().map_or(&[], |(_, buffers)| buffers)),
            Err((_, buffers)) => Derived::Own(buffers),
        }
    }

    /// Forgets it: the values change.
    pub fn clear(&mut self) {
        *self = Kept::default();
    }
}

/// [`Kept::derive`], where something can be kept.
pub fn derived<E: Real>(kept: Option<&Kept<E>>, form: Form, make: impl FnOnce() -> Vec<Buffer<E>>) -> Derived<'_, E> {
    match kept {
        Some(kept) => kept.derive(form, make),
        None => Derived::Own(make()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_is_kept_until_the_values_change_and_others_are_made() {
        let mut kept = Kept::<f32>::default();
        let form = |length| Form::Spectra { kernels: [1, 2, 3], length };
        let made = |v: f32| move || vec![Buffer::owned(vec![v; 4])];
        let first = |kept: &Kept<f32>, length, v| kept.derive(form(length), made(v))[0][0];
        assert_eq!([1.0, 2.0, 3.0, 4.0].map(|v| first(&kept, 5, v)), [1.0, 2.0, 3.0, 3.0], "from the third time on it is kept");
        assert_eq!(first(&kept, 6, 5.0), 5.0, "another form");
        assert_eq!(first(&kept, 5, 6.0), 3.0, "still kept");
        kept.clear();
        assert_eq!([7.0, 8.0, 9.0, 10.0].map(|v| first(&kept, 6, v)), [7.0, 8.0, 9.0, 9.0], "other values");
        let large = Kept::<f32>::default();
        let much = |v: f32| move || vec![Buffer::owned(vec![v; MOST / 2 + 1]), Buffer::owned(vec![v; MOST / 2])];
        let [a, b, c, d] = [1.0, 2.0, 3.0, 4.0].map(|v| large.derive(form(1), much(v))[1][0]);
        assert_eq!([a, b, c, d], [1.0, 2.0, 3.0, 4.0], "too much");
    }
}
