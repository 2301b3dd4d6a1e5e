//! Leaky integrate-and-fire neurons with a decay and a threshold a channel, on rows.

use crate::backend::host::threads::{for_each_piece, for_each_with};
use crate::backend::{Adaptation, Plif, Real};

/// Neurons, one a channel.
pub struct Neurons<'a, E> {
    /// What all have in common.
    pub plif: &'a Plif,
    /// (H).
    pub decay: &'a [E],
    /// (H).
    pub threshold: &'a [E],
    /// B, H, L of the drive.
    pub shape: [usize; 3],
}

/// What a neuron does at one time step.
struct Step<E> {
    /// The potential before the reset, less the threshold of this step.
    above: E,
    /// What the decay multiplied.
    kept: E,
    spikes: bool,
}

impl<E: Real> Neurons<'_, E> {
    /// Runs a neuron of channel `h` over a row.
    fn run(&self, h: usize, x: &[E], mut see: impl FnMut(usize, Step<E>)) {
        let Adaptation { strength, fading } = self.plif.adaptation.unwrap_or(Adaptation { strength: 0.0, fading: 0.0 });
        let (decay, threshold, strength, fading) = (self.decay[h], self.threshold[h], E::of(strength), E::of(fading));
        let (mut v, mut theta, mut raised, mut spikes) = (E::zero(), threshold, E::zero(), false);
        for (t, &y) in x.iter().enumerate() {
            let kept = if spikes && !self.plif.soft_reset { E::zero() } else { v };
            let reset = if spikes && self.plif.soft_reset { theta } else { E::zero() };
            if t > 0 && self.plif.adaptation.is_some() {
                raised = fading * raised + if spikes { E::one() } else { E::zero() };
                theta = threshold + strength * raised;
            }
            v = decay * kept + y - reset;
            spikes = v > theta;
            see(t, Step { above: v - theta, kept, spikes });
        }
    }
}

/// Spikes of the drive x, (B, H, L).
pub fn spikes<E: Real>(neurons: &Neurons<'_, E>, x: &[E], out: &mut [E]) {
    let [_, channels, length] = neurons.shape;
    for_each_piece(out, length, |row, out| {
        neurons.run(row % channels, &x[row * length..][..length], |t, step| {
            out[t] = if step.spikes { E::one() } else { E::zero() };
        });
    });
}

/// One channel's rows of the gradient of x, and its sums.
struct Channel<'a, E> {
    rows: Vec<&'a mut [E]>,
    decay: f64,
    threshold: f64,
}

/// The surrogate gradients of x (B, H, L), and of the decays and thresholds, (H) each, where they are wanted.
pub fn grads<E: Real>(neurons: &Neurons<'_, E>, x: &[E], g: &[E], x_grad: Option<&mut [E]>, sums: [Option<&mut [E]>; 2]) {
    let [batch, channels, length] = neurons.shape;
    let mut work: Vec<Channel<'_, E>> = (0..channels).map(|_| Channel { rows: Vec::new(), decay: 0.0, threshold: 0.0 }).collect();
    for (i, row) in x_grad.into_iter().flat_map(|g| g.chunks_mut(length)).enumerate() {
        work[i % channels].rows.push(row);
    }
    for_each_with(
        work.iter_mut().collect(),
        || Vec::with_capacity(length),
        |steps, h, channel| {
            for b in 0..batch {
                let row = (b * channels + h) * length;
                steps.clear();
                neurons.run(h, &x[row..][..length], |_, step| steps.push(step));
                let mut out = channel.rows.get_mut(b);
                let mut next = E::zero();
                for (t, step) in steps.iter().enumerate().rev() {
                    let direct = g[row + t] * neurons.plif.surrogate.slope(step.above);
                    let resets = step.spikes && t + 1 < length;
                    let through = if resets && !neurons.plif.soft_reset { E::zero() } else { neurons.decay[h] * next };
                    channel.threshold -= direct.f64() + if resets && neurons.plif.soft_reset { next.f64() } else { 0.0 };
                    next = direct + through;
                    channel.decay += (next * step.kept).f64();
                    if let Some(out) = &mut out {
                        out[t] = next;
                    }
                }
            }
        },
    );
    let [decays, thresholds] = sums;
    for (out, channel) in decays.into_iter().flatten().zip(&work) {
        *out = E::of(channel.decay);
    }
    for (out, channel) in thresholds.into_iter().flatten().zip(&work) {
        *out = E::of(channel.threshold);
    }
}
