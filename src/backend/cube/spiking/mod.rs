//! The family [`Spiking`].

mod plif;
pub(super) mod spike;

use cubecl::prelude::Runtime;

use super::{Cube, Scalar};
use crate::backend::spiking::check_earlier;
use crate::backend::{Lif, Plif, Spike, Spiking, Tensor, shape};
use crate::error::{Error, Result};

impl<R: Runtime, E: Scalar> Spiking for Cube<R, E> {
    fn sample(&self, spike: &Spike<Tensor<Self>>, y: &Tensor<Self>) -> Result<Tensor<Self>> {
        spike.as_ref().check("sample", y.shape())?;
        spike::spike(self, spike, y, None)
    }

    fn sample_grad(&self, spike: &Spike<Tensor<Self>>, y: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        spike.as_ref().check("sample_grad", y.shape())?;
        shape::gradient("sample_grad", y.shape(), g.shape())?;
        let [y_grad, ..] = spike::spike_grad(self, spike, y, None, g, None, [true, false, false])?;
        y_grad.ok_or_else(|| Error::value("sample_grad", "the gradient that was asked for did not come"))
    }

    fn spike(&self, spike: &Spike<Tensor<Self>>, x: &Tensor<Self>, affine: Option<(&Tensor<Self>, &Tensor<Self>)>) -> Result<Tensor<Self>> {
        spike.as_ref().check_affine("spike", x, affine)?;
        spike::spike(self, spike, x, affine)
    }

    fn spike_grad(
        &self,
        spike: &Spike<Tensor<Self>>,
        x: &Tensor<Self>,
        affine: Option<(&Tensor<Self>, &Tensor<Self>)>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        self.spike_grad_onto(spike, x, affine, (g.clone(), None), needs)
    }

    fn spike_grad_onto(
        &self,
        spike: &Spike<Tensor<Self>>,
        x: &Tensor<Self>,
        affine: Option<(&Tensor<Self>, &Tensor<Self>)>,
        (g, earlier): (Tensor<Self>, Option<Tensor<Self>>),
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        spike.as_ref().check_affine("spike_grad", x, affine)?;
        shape::gradient("spike_grad", x.shape(), g.shape())?;
        check_earlier(x, earlier.as_ref())?;
        spike::spike_grad(self, spike, x, affine, &g, earlier.as_ref(), needs)
    }

    fn lif(&self, lif: &Lif, x: &Tensor<Self>) -> Result<Tensor<Self>> {
        lif.check("lif", x.shape())?;
        spike::lif(self, lif, x)
    }

    fn lif_grad(&self, lif: &Lif, x: &Tensor<Self>, g: &Tensor<Self>) -> Result<Tensor<Self>> {
        lif.check("lif_grad", x.shape())?;
        shape::gradient("lif_grad", x.shape(), g.shape())?;
        spike::lif_grad(self, lif, x, g)
    }

    fn plif(&self, plif: &Plif, x: &Tensor<Self>, decay: &Tensor<Self>, threshold: &Tensor<Self>) -> Result<Tensor<Self>> {
        let shape = plif.check_on("plif", x.shape(), decay.shape(), threshold.shape())?;
        plif::plif(self, plif, x, [decay, threshold], shape)
    }

    fn plif_grad(
        &self,
        plif: &Plif,
        x: &Tensor<Self>,
        decay: &Tensor<Self>,
        threshold: &Tensor<Self>,
        g: &Tensor<Self>,
        needs: [bool; 3],
    ) -> Result<[Option<Tensor<Self>>; 3]> {
        let shape = plif.check_on("plif_grad", x.shape(), decay.shape(), threshold.shape())?;
        shape::gradient("plif_grad", x.shape(), g.shape())?;
        plif::plif_grad(self, plif, [x, g], [decay, threshold], shape, needs)
    }
}
