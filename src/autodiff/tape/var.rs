//! `Var`: a value on a tape.

use super::{Gradients, LeafId, Tape};
use crate::backend::{Backend, Tensor};
use crate::error::{Error, Result};

/// A value on a tape. Cloning is free. Its methods are the ops: each returns a new value and records how it came about.
///
/// ```
/// use pspikessm::{autodiff::Tape, backend::*};
/// # fn main() -> pspikessm::Result<()> {
/// let cpu = Cpu::<f64>::new();
/// let tape = Tape::new(&cpu);
/// let x = tape.leaf(&cpu.from_vec(vec![0.0, 1.0], &[2])?);
/// let y = x.exp()?.mul(&tape.constant(&cpu.full(&[], 3.0)?))?;
/// assert_eq!((y.shape(), y.needs_gradient()), (&[2][..], true));
/// // A value that is no scalar needs a gradient of its shape to start from.
/// let gradients = y.backward_from(&cpu.from_vec(vec![1.0, 0.0], &[2])?)?;
/// assert_eq!(cpu.to_vec(gradients.of(&x)?)?, [3.0, 0.0]);
/// # Ok(()) }
/// ```
///
/// | ops | methods |
/// |---|---|
/// | functions | [`neg`](Self::neg) [`abs`](Self::abs) [`sign`](Self::sign) [`exp`](Self::exp) [`expm1`](Self::expm1) [`ln`](Self::ln) |
/// | | [`log1p`](Self::log1p) [`sqrt`](Self::sqrt) [`rsqrt`](Self::rsqrt) [`recip`](Self::recip) [`square`](Self::square) |
/// | | [`powf`](Self::powf) [`powi`](Self::powi) [`sin`](Self::sin) [`cos`](Self::cos) [`tan`](Self::tan) |
/// | | [`tanh`](Self::tanh) [`sigmoid`](Self::sigmoid) [`erf`](Self::erf) [`floor`](Self::floor) [`ceil`](Self::ceil) |
/// | | [`round`](Self::round) [`clamp`](Self::clamp) [`scale`](Self::scale) [`linear_map`](Self::linear_map) |
/// | | [`unary`](Self::unary) |
/// | activations | [`relu`](Self::relu) [`leaky_relu`](Self::leaky_relu) [`elu`](Self::elu) [`gelu`](Self::gelu) [`silu`](Self::silu) |
/// | | [`softplus`](Self::softplus) [`softmax`](Self::softmax) [`log_softmax`](Self::log_softmax) |
/// | of two | [`add`](Self::add) [`sub`](Self::sub) [`mul`](Self::mul) [`div`](Self::div) [`pow`](Self::pow) [`atan2`](Self::atan2) |
/// | | [`minimum`](Self::minimum) [`maximum`](Self::maximum), and `+ - * /` with variables and numbers |
/// | comparisons | [`eq`](Self::eq) [`ne`](Self::ne) [`lt`](Self::lt) [`le`](Self::le) [`gt`](Self::gt) [`ge`](Self::ge) |
/// | | [`select`](Self::select) [`masked_fill`](Self::masked_fill) |
/// | reductions | [`sum`](Self::sum) [`mean`](Self::mean) [`var`](Self::var) [`std`](Self::std) [`norm`](Self::norm) [`max`](Self::max) |
/// | | [`min`](Self::min) [`prod`](Self::prod) [`logsumexp`](Self::logsumexp), each also with `_axes` and `_keep` |
/// | | [`sum_to`](Self::sum_to) [`argmax`](Self::argmax) [`argmin`](Self::argmin) [`moments`](Self::moments) [`cumsum`](Self::cumsum) |
/// | shapes | [`reshape`](Self::reshape) [`permute`](Self::permute) [`transpose`](Self::transpose) [`squeeze`](Self::squeeze) |
/// | | [`unsqueeze`](Self::unsqueeze) [`expand`](Self::expand) [`repeat`](Self::repeat) [`flip`](Self::flip) |
/// | | [`roll`](Self::roll) [`pad`](Self::pad) [`tril`](Self::tril) [`triu`](Self::triu) |
/// | parts | [`slice`](Self::slice) [`slice_step`](Self::slice_step) [`split`](Self::split) [`chunk`](Self::chunk) |
/// | | [`concat`](Self::concat) [`stack`](Self::stack) |
/// | indices | [`index_select`](Self::index_select) [`index_add`](Self::index_add) [`gather`](Self::gather) |
/// | | [`scatter_add`](Self::scatter_add) [`embed`](Self::embed) |
/// | products | [`matmul`](Self::matmul) [`matmul_transposed`](Self::matmul_transposed) |
/// | convolutions | [`conv1d`](Self::conv1d) [`conv2d`](Self::conv2d) [`max_pool1d`](Self::max_pool1d) [`max_pool2d`](Self::max_pool2d) |
/// | | [`avg_pool1d`](Self::avg_pool1d) [`avg_pool2d`](Self::avg_pool2d) [`long_conv`](Self::long_conv) |
/// | transforms, recurrences | [`rfft`](Self::rfft) [`irfft`](Self::irfft) [`scan`](Self::scan) [`complex_scan`](Self::complex_scan) |
/// | normalisation | [`batch_norm`](Self::batch_norm) [`layer_norm`](Self::layer_norm) [`affine`](Self::affine) |
/// | | [`dropout`](Self::dropout) [`dropout_tied`](Self::dropout_tied) |
/// | losses | [`cross_entropy`](Self::cross_entropy); others in [`nn`](crate::nn) |
/// | spikes | [`spike`](Self::spike) [`spike_affine`](Self::spike_affine) [`lif`](Self::lif) [`plif`](Self::plif) [`fire`](Self::fire) |
/// | | [`mix`](Self::mix) [`mix_with`](Self::mix_with) |
/// | values | [`value`](Self::value) [`shape`](Self::shape) [`to_vec`](Self::to_vec) [`item`](Self::item) [`tape`](Self::tape) |
/// | | [`detach`](Self::detach) [`needs_gradient`](Self::needs_gradient) |
/// | gradients | [`backward`](Self::backward) [`backward_from`](Self::backward_from) [`backward_watched`](Self::backward_watched) |
/// | | twice: [`gradients()`](crate::autodiff::gradients()) |
pub struct Var<B: Backend> {
    pub(super) tape: Tape<B>,
    pub(super) value: Tensor<B>,
    /// `None` for a constant.
    pub(super) node: Option<usize>,
    /// `None` for a constant, and for what an op computed.
    pub(super) leaf: Option<LeafId>,
}

impl<B: Backend> Clone for Var<B> {
    fn clone(&self) -> Self {
        Var { tape: self.tape.clone(), value: self.value.clone(), node: self.node, leaf: self.leaf }
    }
}

impl<B: Backend> Var<B> {
    /// The value.
    pub fn value(&self) -> &Tensor<B> {
        &self.value
    }

    /// The length of every axis.
    pub fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    /// The tape.
    pub fn tape(&self) -> &Tape<B> {
        &self.tape
    }

    /// Whether a gradient flows to this value.
    #[doc(alias = "requires_grad")]
    pub fn needs_gradient(&self) -> bool {
        self.node.is_some()
    }

    /// The same value, cut off from its history.
    #[doc(alias = "stop_gradient")]
    pub fn detach(&self) -> Var<B> {
        self.tape.constant(&self.value)
    }

    /// The values on the host, row-major.
    ///
    /// # Errors
    /// [`Error::Device`] where the device fails, now or in an earlier call that did not wait.
    pub fn to_vec(&self) -> Result<Vec<B::Elem>> {
        self.tape.backend.to_vec(&self.value)
    }

    /// The only value of a tensor with one element, in f64.
    ///
    /// # Errors
    /// [`Error::Value`] where there are more elements, or none; as [`Var::to_vec`].
    pub fn item(&self) -> Result<f64> {
        match self.to_vec()?.as_slice() {
            [value] => Ok(crate::backend::Real::f64(*value)),
            values => {
                Err(Error::value("item", format!("shape {:?} has {} elements, not one: reduce it first", self.shape(), values.len())))
            }
        }
    }

    /// Runs the tape backwards from this scalar, and spends it.
    ///
    /// # Errors
    /// [`Error::NotDifferentiable`] where this is not one number, nothing was recorded, or the tape is spent.
    pub fn backward(&self) -> Result<Gradients<B>> {
        if self.value.numel() != 1 {
            let help =
                format!("shape {:?} is not one number: reduce it, or call backward_from with a gradient of this shape", self.shape());
            return Err(Error::NotDifferentiable { op: "backward", help });
        }
        self.backward_from(&self.tape.backend.full(self.shape(), 1.0)?)
    }

    /// Runs the tape backwards with this gradient of the value.
    ///
    /// # Errors
    /// As [`Var::backward`]; [`Error::Shape`] where `grad` has another shape.
    pub fn backward_from(&self, grad: &Tensor<B>) -> Result<Gradients<B>> {
        self.backward_watched(grad, |_| Ok(()))
    }

    /// The same, followed by `watch`: it is told of every leaf, with its gradient, as soon as all of that is summed up, so that it can be sent
    /// or used while the tape runs on; and of nothing after every other node, to go on with what it does meanwhile. Leaves that were made last
    /// come first.
    ///
    /// ```
    /// use pspikessm::autodiff::{AsLeaf, Tape};
    /// use pspikessm::backend::*;
    /// # fn main() -> pspikessm::Result<()> {
    /// let cpu = Cpu::<f64>::new();
    /// let tape = Tape::new(&cpu);
    /// let x = tape.leaf(&cpu.full(&[], 3.0)?);
    /// let y = tape.leaf(&cpu.full(&[], 5.0)?);
    /// let product = x.mul(&y)?;
    /// let mut found = Vec::new();
    /// product.backward_watched(&cpu.full(&[], 1.0)?, |leaf| {
    ///     if let Some((leaf, gradient)) = leaf {
    ///         found.push((leaf, cpu.to_vec(gradient)?[0]));
    ///     }
    ///     Ok(())
    /// })?;
    /// assert_eq!(found, [(y.as_leaf()?, 3.0), (x.as_leaf()?, 5.0)]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Var::backward_from`]; what `watch` answers.
    pub fn backward_watched(
        &self,
        grad: &Tensor<B>,
        mut watch: impl FnMut(Option<(LeafId, &Tensor<B>)>) -> Result<()>,
    ) -> Result<Gradients<B>> {
        self.tape.backward(self, grad.clone(), &mut watch)
    }
}

impl<B: Backend> std::fmt::Debug for Var<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Var{:?}", self.shape())
    }
}
