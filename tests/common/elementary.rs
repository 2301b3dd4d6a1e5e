//! A backend that writes the elementary methods only, with the CPU's, and takes every fused one as the traits compose it.

use pspikessm::Result;
use pspikessm::backend::*;

/// The CPU without its fused kernels.
#[derive(Clone, Debug)]
pub struct Elementary<E: Real>(pub Cpu<E>);

type Inner<E> = Tensor<Cpu<E>>;
type Outer<E> = Tensor<Elementary<E>>;

fn inner<E: Real>(x: &Outer<E>) -> Inner<E> {
    Tensor::from_storage(x.storage().clone(), x.shape())
}

fn outer<E: Real>(x: Inner<E>) -> Outer<E> {
    Tensor::from_storage(x.storage().clone(), x.shape())
}

impl<E: Real> Transfer for Elementary<E> {
    type Elem = E;
    type Storage = <Cpu<E> as Transfer>::Storage;

    fn name(&self) -> String {
        format!("elementary-{}", E::NAME)
    }

    fn from_vec(&self, values: Vec<E>, shape: &[usize]) -> Result<Outer<E>> {
        self.0.from_vec(values, shape).map(outer)
    }

    fn to_vec(&self, x: &Outer<E>) -> Result<Vec<E>> {
        self.0.to_vec(&inner(x))
    }

    fn full(&self, shape: &[usize], value: f64) -> Result<Outer<E>> {
        self.0.full(shape, value).map(outer)
    }
}

impl<E: Real> Elementwise for Elementary<E> {
    fn unary(&self, f: Unary, x: &Outer<E>) -> Result<Outer<E>> {
        self.0.unary(f, &inner(x)).map(outer)
    }

    fn unary_grad(&self, f: Unary, x: &Outer<E>, g: &Outer<E>) -> Result<Outer<E>> {
        self.0.unary_grad(f, &inner(x), &inner(g)).map(outer)
    }

    fn binary(&self, f: Binary, x: &Outer<E>, y: &Outer<E>) -> Result<Outer<E>> {
        self.0.binary(f, &inner(x), &inner(y)).map(outer)
    }

    fn sum_to(&self, x: &Outer<E>, shape: &[usize]) -> Result<Outer<E>> {
        self.0.sum_to(&inner(x), shape).map(outer)
    }

    fn first_not_finite(&self, tensors: &[&Outer<E>]) -> Result<Option<usize>> {
        let tensors: Vec<_> = tensors.iter().map(|x| inner(x)).collect();
        self.0.first_not_finite(&tensors.iter().collect::<Vec<_>>())
    }
}

impl<E: Real> Products for Elementary<E> {
    fn matmul(&self, x: &Outer<E>, transpose_x: bool, y: &Outer<E>, transpose_y: bool) -> Result<Outer<E>> {
        self.0.matmul(&inner(x), transpose_x, &inner(y), transpose_y).map(outer)
    }

    fn rfft(&self, x: &Outer<E>) -> Result<Outer<E>> {
        self.0.rfft(&inner(x)).map(outer)
    }

    fn irfft(&self, x: &Outer<E>, n: usize) -> Result<Outer<E>> {
        self.0.irfft(&inner(x), n).map(outer)
    }
}

impl<E: Real> Layout for Elementary<E> {
    fn permute(&self, x: &Outer<E>, axes: &[usize]) -> Result<Outer<E>> {
        self.0.permute(&inner(x), axes).map(outer)
    }

    fn slice(&self, x: &Outer<E>, axis: usize, start: usize, len: usize) -> Result<Outer<E>> {
        self.0.slice(&inner(x), axis, start, len).map(outer)
    }

    fn concat(&self, parts: &[&Outer<E>], axis: usize) -> Result<Outer<E>> {
        let parts: Vec<_> = parts.iter().map(|x| inner(x)).collect();
        self.0.concat(&parts.iter().collect::<Vec<_>>(), axis).map(outer)
    }

    fn flip(&self, x: &Outer<E>, axis: usize) -> Result<Outer<E>> {
        self.0.flip(&inner(x), axis).map(outer)
    }

    fn embed(&self, table: &Outer<E>, tokens: &[u32], batch: usize) -> Result<Outer<E>> {
        self.0.embed(&inner(table), tokens, batch).map(outer)
    }

    fn embed_grad(&self, rows: usize, tokens: &[u32], g: &Outer<E>) -> Result<Outer<E>> {
        self.0.embed_grad(rows, tokens, &inner(g)).map(outer)
    }
}

impl<E: Real> Random for Elementary<E> {
    fn uniform(&self, key: Key, shape: &[usize]) -> Result<Outer<E>> {
        self.0.uniform(key, shape).map(outer)
    }

    fn draw_uniform(&self, draw: Draw, shape: &[usize]) -> Result<Outer<E>> {
        self.0.draw_uniform(draw, shape).map(outer)
    }

    fn normal(&self, key: Key, shape: &[usize]) -> Result<Outer<E>> {
        self.0.normal(key, shape).map(outer)
    }
}

impl<E: Real> Spiking for Elementary<E> {
    fn sample(&self, spike: &Spike<Outer<E>>, y: &Outer<E>) -> Result<Outer<E>> {
        self.0.sample(&spike.as_ref().map(inner), &inner(y)).map(outer)
    }

    fn sample_grad(&self, spike: &Spike<Outer<E>>, y: &Outer<E>, g: &Outer<E>) -> Result<Outer<E>> {
        self.0.sample_grad(&spike.as_ref().map(inner), &inner(y), &inner(g)).map(outer)
    }

    fn lif(&self, lif: &Lif, x: &Outer<E>) -> Result<Outer<E>> {
        self.0.lif(lif, &inner(x)).map(outer)
    }

    fn lif_grad(&self, lif: &Lif, x: &Outer<E>, g: &Outer<E>) -> Result<Outer<E>> {
        self.0.lif_grad(lif, &inner(x), &inner(g)).map(outer)
    }
}

impl<E: Real> SsmKernels for Elementary<E> {
    fn dplr_kernel(&self, ssm: &SsmParams<Outer<E>>, len: usize, take: usize) -> Result<Outer<E>> {
        self.0.dplr_kernel(&ssm.as_ref().map(inner), len, take).map(outer)
    }

    fn dplr_kernel_grad(&self, ssm: &SsmParams<Outer<E>>, len: usize, g: &Outer<E>) -> Result<SsmParams<Outer<E>>> {
        self.0.dplr_kernel_grad(&ssm.as_ref().map(inner), len, &inner(g)).map(|grads| grads.map(outer))
    }

    fn diag_kernel(&self, ssm: &SsmParams<Outer<E>>, disc: Discretization, len: usize) -> Result<Outer<E>> {
        self.0.diag_kernel(&ssm.as_ref().map(inner), disc, len).map(outer)
    }

    fn diag_kernel_grad(&self, ssm: &SsmParams<Outer<E>>, disc: Discretization, g: &Outer<E>) -> Result<SsmParams<Outer<E>>> {
        self.0.diag_kernel_grad(&ssm.as_ref().map(inner), disc, &inner(g)).map(|grads| grads.map(outer))
    }
}

impl<E: Real> Learning for Elementary<E> {
    fn cross_entropy(&self, logits: &Outer<E>, labels: &[usize]) -> Result<(Outer<E>, Outer<E>)> {
        let (loss, softmax) = self.0.cross_entropy(&inner(logits), labels)?;
        Ok((outer(loss), outer(softmax)))
    }

    fn cross_entropy_grad(&self, softmax: &Outer<E>, labels: &[usize], g: &Outer<E>) -> Result<Outer<E>> {
        self.0.cross_entropy_grad(&inner(softmax), labels, &inner(g)).map(outer)
    }
}

impl<E: Real> Reductions for Elementary<E> {}
impl<E: Real> Normalization for Elementary<E> {}
impl<E: Real> Convolution for Elementary<E> {}
impl<E: Real> ChannelMixing for Elementary<E> {}

impl<E: Real> Scan for Elementary<E> {}
