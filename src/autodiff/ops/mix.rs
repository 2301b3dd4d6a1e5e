//! `Mix`: one matrix over the channels of several sequences stacked, with bias.

use crate::autodiff::gradcheck::Generate;
use crate::autodiff::{Case, Grads, Needs, Op, Oracle, Var};
use crate::backend::{Backend, Tensor, shape};
use crate::error::{Error, Result};

/// W [x_1; x_2; ..] + bias; inputs x_i (B, K_i, L), then W (H, sum K_i), then bias (H). Nothing is concatenated.
///
/// The linear map of the SpikeMixer (the official code's `bidirectional_linear`, applied at every step).
#[derive(Clone, Copy, Debug)]
pub struct Mix;

impl<B: Backend> Op<B> for Mix {
    const NAME: &'static str = "mix";
    /// The parts, then the weight.
    type Saved = (Vec<Tensor<B>>, Tensor<B>);

    fn forward(&self, backend: &B, inputs: &[&Tensor<B>], _: Needs) -> Result<(Tensor<B>, Self::Saved)> {
        let [ref parts @ .., weight, bias] = *inputs else {
            return Err(Error::value("mix", "takes the parts, then weight and bias"));
        };
        let shapes: Vec<&[usize]> = parts.iter().map(|part| part.shape()).collect();
        check_shapes(&shapes, weight.shape(), bias.shape())?;
        let output = backend.mix(parts, weight, bias)?;
        Ok((output, (parts.iter().map(|&part| part.clone()).collect(), weight.clone())))
    }

    fn backward(&self, backend: &B, (parts, weight): Self::Saved, grad: &Tensor<B>, needs: Needs) -> Result<Grads<B>> {
        let parts: Vec<&Tensor<B>> = parts.iter().collect();
        let needs: Vec<bool> = (0..parts.len() + 2).map(|i| needs.input(i)).collect();
        backend.mix_grad(&parts, &weight, grad, &needs)
    }

    fn oracle(&self) -> Oracle<B, Self> {
        Oracle::Composition(concat_matmul)
    }

    fn cases(generate: &mut Generate) -> Vec<Case<Self>> {
        let [batch, length, outputs] = [generate.size(1..=3), generate.size(1..=20), generate.size(1..=6)];
        let [one, two, three] = [generate.size(1..=5), generate.size(1..=5), generate.size(1..=5)];
        let (many, long) = (generate.size(5..=13), generate.size(600..=700));
        let sizes: [([usize; 3], &[usize]); 6] = [
            ([batch, outputs, length], &[one]),
            ([batch, outputs, length], &[one, two]),
            ([batch, outputs, length], &[one, two, three]),
            ([1, 1, 1], &[1]),
            ([many, outputs, length], &[one, two]),
            ([2, 4, long], &[4, 4]),
        ];
        sizes.into_iter().map(|(sizes, channels)| Self::case(generate, sizes, channels)).collect()
    }
}

impl Mix {
    fn case(generate: &mut Generate, [batch, outputs, length]: [usize; 3], channels: &[usize]) -> Case<Self> {
        let mut inputs: Vec<_> = channels.iter().map(|&k| generate.normal(&[batch, k, length])).collect();
        inputs.push(generate.normal(&[outputs, channels.iter().sum()]));
        inputs.push(generate.normal(&[outputs]));
        Case::new(Mix, inputs)
    }
}

fn check_shapes(parts: &[&[usize]], weight: &[usize], bias: &[usize]) -> Result<()> {
    const OP: &str = "mix";
    let Some(&first) = parts.first() else {
        return Err(Error::value(OP, "give at least one part"));
    };
    let mut channels = 0;
    for (i, &part) in parts.iter().enumerate() {
        let [_, part_channels, _] = shape::sequence(OP, &format!("part {i}"), part)?;
        if let Some(axis) = [0, 2].into_iter().find(|&axis| first[axis] != part[axis]) {
            return Err(Error::shape(OP, axis, first, part, format!("parts 0 and {i} must have the same batch and length")));
        }
        channels += part_channels;
    }
    shape::rank(OP, "the weight", &["outputs", "inputs"], weight)?;
    if weight[0] == 0 {
        return Err(Error::value(OP, "the weight has no rows: give at least one output channel"));
    }
    shape::exactly(OP, "the weight (outputs, channels of all parts)", &[weight[0], channels], weight)?;
    shape::exactly(OP, "the bias (outputs)", &[weight[0]], bias)
}

/// The same by concatenation and a matrix product.
fn concat_matmul<B: Backend>(_: &Mix, inputs: &[Var<B>]) -> Result<Var<B>> {
    let [parts @ .., weight, bias] = inputs else {
        return Err(Error::value("mix", "takes the parts, then weight and bias"));
    };
    let stacked = Var::concat(&parts.iter().collect::<Vec<_>>(), 1)?;
    weight.matmul(&stacked)?.add(&bias.reshape(&[bias.shape()[0], 1])?)
}

impl<B: Backend> Var<B> {
    /// W [x_1; x_2; ..] + bias over the channels of parts (B, K_i, L), with weight (H, sum K_i) and bias (H): (B, H, L).
    ///
    /// # Errors
    /// [`Error::Shape`] where the shapes do not fit, naming the part; [`Error::Value`] where there is no part, one is empty, or there
    /// are more than [`Needs::MAX`] inputs with weight and bias.
    pub fn mix(parts: &[&Var<B>], weight: &Var<B>, bias: &Var<B>) -> Result<Var<B>> {
        let inputs: Vec<&Var<B>> = parts.iter().copied().chain([weight, bias]).collect();
        weight.tape().apply(Mix, &inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_errors_name_the_part_and_both_shapes() {
        let message = |parts: &[&[usize]], weight: &[usize], bias: &[usize]| check_shapes(parts, weight, bias).unwrap_err().to_string();
        let differing = message(&[&[2, 3, 4], &[2, 3, 5]], &[3, 6], &[3]);
        assert!(differing.contains("axis 2") && differing.contains("parts 0 and 1") && differing.contains("[2, 3, 5]"), "{differing}");
        assert!(message(&[&[2, 3, 4], &[2, 3]], &[3, 6], &[3]).contains("part 1"));
        assert!(message(&[&[2, 3, 4], &[2, 1, 4]], &[3, 3], &[3]).contains("[3, 4]"));
        assert!(message(&[&[2, 3, 4]], &[3, 3], &[4]).contains("bias"));
        assert!(message(&[], &[3, 3], &[3]).contains("at least one part"));
        assert!(check_shapes(&[&[2, 3, 4], &[2, 1, 4]], &[7, 4], &[7]).is_ok());
    }
}
