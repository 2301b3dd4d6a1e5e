//! The step form of an SSM layer: the causal convolution as a recurrence, one input at a time.

use super::{Ssm, SsmInit};
use crate::backend::ssm::discretization::discretize;
use crate::backend::ssm::recurrence::Recurrence;
use crate::backend::ssm::system::{Reader, System};
use crate::backend::{Backend, Discretization, Real};
use crate::error::{Error, Result};
use crate::nn::hippo::Complex64;

/// The recurrence x <- Abar x + Bbar u, y = 2 Re(C x) + D u of every channel, for one sequence, in f64 on the host: O(N) a step.
///
/// It gives what the convolution gives, with C recovered from C~ by C = C~ (I - Abar^Lk)^-1. The official code's own step form is stale.
#[derive(Clone, Debug)]
pub struct Stepper {
    channels: Vec<Channel>,
}

#[derive(Clone, Debug)]
struct Channel {
    transition: Transition,
    c: Vec<Complex64>,
    skip: f64,
    state: Vec<Complex64>,
}

/// How a state moves on.
#[derive(Clone, Debug)]
enum Transition {
    Dplr(Recurrence),
    Diagonal { a: Vec<Complex64>, b: Vec<Complex64> },
}

impl Transition {
    fn diagonal(system: &System, disc: Discretization) -> Self {
        let (a, b) = discretize(system, disc);
        Transition::Diagonal { a, b }
    }

    fn step(&self, state: &mut [Complex64], u: f64) {
        match self {
            Transition::Dplr(recurrence) => recurrence.step(state, u),
            Transition::Diagonal { a, b } => {
                for ((x, a), b) in state.iter_mut().zip(a).zip(b) {
                    *x = a * *x + b * u;
                }
            }
        }
    }
}

impl Stepper {
    pub(super) fn new<B: Backend>(ssm: &Ssm<B>, backend: &B) -> Result<Self> {
        if ssm.config().bidirectional {
            let help = "the anticausal kernel reads the future, so the layer has no step form: configure bidirectional = false";
            return Err(Error::config("bidirectional", true, help));
        }
        let (params, l_kernel) = ssm.kernel.params_with_length(backend)?;
        let sizes = params.sizes("Stepper")?;
        let host = params.on_host(backend)?;
        let reader = Reader::new(sizes, host.slices());
        let skips = backend.to_vec(&ssm.skip.value())?.into_iter().map(Real::f64);
        let channel = |(h, skip): (usize, f64)| {
            let own = reader.system(h);
            let state = vec![Complex64::ZERO; sizes.half_state];
            Ok(match ssm.kernel.init() {
                SsmInit::Diag(_, disc) => Channel { transition: Transition::diagonal(&own, disc), c: own.c, skip, state },
                SsmInit::Dplr(_) => {
                    let transition = Recurrence::new(&own);
                    let c = if l_kernel == 0 { own.c } else { transition.solve_plain_c(&own.c, l_kernel)? };
                    Channel { transition: Transition::Dplr(transition), c, skip, state }
                }
            })
        };
        Ok(Stepper { channels: skips.enumerate().map(channel).collect::<Result<_>>()? })
    }

    /// Forgets everything: the state before the first input.
    pub fn reset(&mut self) {
        self.channels.iter_mut().for_each(|channel| channel.state.fill(Complex64::ZERO));
    }

    /// The convolution's output for the next input, one value a channel (H).
    ///
    /// # Errors
    /// [`Error::Shape`] where `u` has another number of channels.
    pub fn step(&mut self, u: &[f64]) -> Result<Vec<f64>> {
        crate::backend::shape::exactly("Stepper::step", "the input", &[self.channels.len()], &[u.len()])?;
        let one = |(channel, &u): (&mut Channel, &f64)| {
            channel.transition.step(&mut channel.state, u);
            2.0 * channel.c.iter().zip(&channel.state).map(|(c, x)| (c * x).re).sum::<f64>() + channel.skip * u
        };
        Ok(self.channels.iter_mut().zip(u).map(one).collect())
    }
}
