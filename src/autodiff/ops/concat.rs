//! `Concat`: tensors one after another.

use crate::autodiff::{Case, Generate, Grads, Needs, Op, Oracle, Var, VarGrads};
use crate::backend::{Backend, Tensor};
use crate::error::{Error, Result};

/// The inputs one after another along an axis; one to [`Needs::MAX`] inputs, equal in all other axes.
#[derive(Clone, Copy, Debug)]
pub struct Concat {
    /// The axis that grows.
    pub axis: usize,
}

impl<B: Backend> Op<B> for Concat {
    const NAME: &'static str = "concat";
    /// The inputs' lengths along the axis.
    type Saved = Vec<usize>;

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        Ok((backend.concat(inputs, self.axis)?, inputs.iter().map(|x| x.shape()[self.axis]).collect()))
    }

    fn backward(&self, backend: &B, lengths: Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        let mut start = 0;
        let mut part = |(i, len): (usize, usize)| {
            start += len;
            needs.input(i).then(|| backend.slice(grad, self.axis, start - len, len)).transpose()
        };
        lengths.into_iter().enumerate().map(&mut part).collect()
    }

    fn derivative(&self, inputs: &[Var<B>], _: &Var<B>, grad: &Var<B>, needs: Needs) -> Result<VarGrads<B>> {
        let mut start = 0;
        let mut part = |(i, input): (usize, &Var<B>)| {
            let len = input.shape()[self.axis];
            start += len;
            needs.input(i).then(|| grad.slice(self.axis, start - len, len)).transpose()
        };
        inputs.iter().enumerate().map(&mut part).collect()
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Linear
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let single = vec![generate.normal(&[1])];
        let many: Vec<_> = (0..9).map(|i| generate.normal(&[1, 1 + i % 2])).collect();
        let mut cases = vec![Case::new(Concat { axis: 0 }, single), Case::new(Concat { axis: 1 }, many)];
        for _ in 0..5 {
            let mut shape = generate.shape(1..=4, 1..=4);
            let axis = generate.size(0..=shape.len() - 1);
            let parts: Vec<_> = (0..generate.size(1..=4))
                .map(|_| {
                    shape[axis] = generate.size(1..=3);
                    generate.normal(&shape)
                })
                .collect();
            cases.push(Case::new(Concat { axis }, parts));
        }
        cases
    }
}

impl<B: Backend> Var<B> {
    /// Any number of tensors one after another along `axis`.
    ///
    /// # Errors
    /// [`Error::Value`] where there are no parts or the axis does not exist; [`Error::Shape`] where they differ in another axis.
    #[doc(alias = "cat")]
    pub fn concat(parts: &[&Var<B>], axis: usize) -> Result<Var<B>> {
        let Some(first) = parts.first() else {
            return Err(Error::value("concat", "there is nothing to join: give at least one part"));
        };
        if parts.len() <= Needs::MAX {
            return first.tape().apply(Concat { axis }, parts);
        }
        let groups: Vec<Var<B>> = parts.chunks(Needs::MAX).map(|group| Var::concat(group, axis)).collect::<Result<_>>()?;
        Var::concat(&groups.iter().collect::<Vec<_>>(), axis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autodiff::Tape;
    use crate::backend::*;

    #[test]
    fn any_number_of_parts_is_joined() {
        let cpu = Cpu::<f64>::new();
        let tape = Tape::new(&cpu);
        let parts: Vec<_> = (0..150).map(|i| tape.leaf(&cpu.full(&[1], f64::from(i)).unwrap())).collect();
        let joint = Var::concat(&parts.iter().collect::<Vec<_>>(), 0).unwrap();
        assert_eq!(joint.to_vec().unwrap(), (0..150).map(f64::from).collect::<Vec<_>>());
        let gradients = joint.square().unwrap().sum().unwrap().backward().unwrap();
        assert!((0..150).all(|i| cpu.to_vec(gradients.of(&parts[i]).unwrap()).unwrap() == [2.0 * i as f64]));
    }
}
