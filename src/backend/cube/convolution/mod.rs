//! The family [`Convolution`]: a row in a cube, or over the device's memory where it does not fit.

pub(super) mod fire;
mod long_conv;
mod long_conv_wide;
mod right_angle;

use cubecl::prelude::Runtime;

use self::fire::{fire_arg, fire_rows, fire_rows_grad};
use self::long_conv::{Convolver, Needs};
use super::channel_sums::totals;
use super::storage::arg;
use super::{Cube, Scalar};
use crate::backend::{Convolution, Firing, LongConv, Tensor};
use crate::error::Result;

impl<R: Runtime, E: Scalar> Convolution for Cube<R, E> {
    fn long_conv(&self, conv: LongConv<'_, Self>) -> Result<Tensor<Self>> {
        conv.check()?;
        long_conv::long_conv(self, conv)
    }

    fn long_conv_grad(&self, conv: LongConv<'_, Self>, g: &Tensor<Self>, needs: [bool; 3]) -> Result<[Option<Tensor<Self>>; 3]> {
        conv.check_grad("long_conv_grad", g)?;
        long_conv::long_conv_grad(self, conv, g, needs)
    }

    fn fire(&self, conv: LongConv<'_, Self>, firing: Firing<&Tensor<Self>>) -> Result<Tensor<Self>> {
        firing.check("fire", conv.check()?)?;
        let convolver = Convolver::new(self, "fire", conv)?;
        if convolver.plan.fits() {
            return convolver.run(Some(&firing));
        }
        let (shape, y) = (convolver.shape(), convolver.run_wide()?);
        let [batch, channels, _] = shape;
        let (out, fire) = (self.alloc("fire", y.shape())?, fire_arg(self, &firing, shape, convolver.plan.units, false)?);
        fire_rows::launch::<E, R>(
            self.client(),
            self.cubes(batch * channels),
            convolver.units(),
            arg(&y),
            fire,
            arg(&out),
            convolver.sizes(),
        );
        Ok(out)
    }

    fn fire_grad(
        &self,
        conv: LongConv<'_, Self>,
        firing: Firing<&Tensor<Self>>,
        g: &Tensor<Self>,
        needs: [bool; 5],
    ) -> Result<[Option<Tensor<Self>>; 5]> {
        firing.check("fire_grad", conv.check_grad("fire_grad", g)?)?;
        let convolver = Convolver::new(self, "fire_grad", conv)?;
        let wanted = Needs { input: needs[0], kernel: needs[1], skip: needs[2] && conv.skip.is_some() };
        let sums = [needs[3], needs[4]].map(|need| need && firing.affine.is_some());
        if convolver.plan.fits() {
            return convolver.grad(g, wanted, Some((&firing, sums)));
        }
        let (shape, y) = (convolver.shape(), convolver.run_wide()?);
        let [batch, channels, _] = shape;
        let gy = self.alloc("fire_grad", y.shape())?;
        let parts = self.alloc("fire_grad", &[2, channels, batch])?;
        let fire = fire_arg(self, &firing, shape, convolver.plan.units, true)?;
        let cubes = self.cubes(batch * channels);
        let (client, units, sizes) = (self.client(), convolver.units(), convolver.sizes());
        fire_rows_grad::launch::<E, R>(client, cubes, units, arg(&y), arg(g), fire, arg(&gy), arg(&parts), sizes, convolver.plan.units);
        let [input, kernel, skip] = convolver.grad_wide(&gy, wanted)?;
        let [scale, shift] = totals(self, "fire_grad", &parts, sums)?;
        Ok([input, kernel, skip, scale, shift])
    }
}
