//! Storage: what goes in comes out.

use pspikessm::backend::{Backend, Real};

use super::harness::{Array, Dice, Lab, cases, filled_shape, seed, shape};

pub fn values_come_back<B: Backend>(lab: &Lab<B>) {
    assert!(!lab.backend.name().is_empty());
    cases(16, 1, (shape(), seed()), |(shape, seed)| {
        let x = lab.signed(&mut Dice::new(seed), &shape);
        lab.same("from_vec, then to_vec", &lab.put(&x)?, &x)?;
        lab.same("a clone", &lab.put(&x)?.clone(), &x)?;
        let flat = Array::new(&[x.values.len()], x.values.clone());
        lab.same("reshape", &lab.put(&x)?.reshape(&flat.shape)?, &flat)?;
        let value = Dice::new(seed).between(-3.0, 3.0);
        lab.same("full", &lab.backend.full(&shape, value)?, &Array::of(&shape, |_| B::Elem::of(value).f64()))
    });
    cases(4, 2, filled_shape(), |shape| {
        let mut x = Array::zeros(&shape);
        x.values[0] = f64::NAN;
        x.values.push(f64::NEG_INFINITY);
        x.shape = vec![x.values.len()];
        lab.same("NaN and infinity", &lab.put(&x)?, &x)
    });
    let short = lab.backend.from_vec(vec![B::Elem::of(0.0); 5], &[2, 3]);
    assert!(short.is_err(), "five values do not fill (2, 3)");
}
