//! One channel of a diagonal-plus-low-rank SSM in the form that steps read least memory in: B and P stay as they are stored.
//!
//! Abar = 2 (I - dt/2 A)^-1 - I, so a step is x' = (I - dt/2 A)^-1 s - x with s = 2 x + dt B v. By Woodbury, with
//! d = 1 / (1 - dt/2 Lambda), the real matrix W = (I + dt/2 P* d P)^-1 over the whole state, and t_j = Re(conj(P_j) . d x),
//!
//! ```text
//! h  = x + sum_j alpha_j P_j + beta B      alpha = feedback t + feed v,  beta = dt v
//! x' = h + excess (h + x)                  excess = d - 1
//! ```
//!
//! alpha and beta are real and one a channel. A mode of a channel has a number of its own, the excess: small where the mode is slow, so
//! that a rounded one still decays at the right rate. B and P are those of all channels that share a system.

use super::recurrence::{gram, inverse_small};
use super::system::{C64, System};

/// What a channel has of its own.
#[derive(Clone, Debug)]
pub struct Cayley {
    /// d - 1, (M).
    pub excess: Vec<C64>,
    /// -2 dt W, (R, R).
    pub feedback: Vec<f64>,
    /// -dt^2 W Re(P* d B), (R).
    pub feed: Vec<f64>,
}

impl Cayley {
    /// The step of `system`.
    pub fn new(system: &System) -> Self {
        let (dt, m) = (system.dt, system.a.len());
        let half: Vec<C64> = system.a.iter().map(|a| a * (0.5 * dt)).collect();
        let d: Vec<C64> = half.iter().map(|x| (1.0 - x).inv()).collect();
        let p: Vec<&[C64]> = system.p.chunks_exact(m).collect();
        let rank = p.len();
        let w = inverse_small(&gram(&p, &d, 0.5 * dt), rank);
        let entry = |p: &&[C64]| (0..m).map(|n| (p[n].conj() * d[n] * system.b[n]).re).sum::<f64>();
        let entries: Vec<f64> = p.iter().map(entry).collect();
        let row = |j: usize| entries.iter().enumerate().map(move |(k, entry)| (j * rank + k, entry));
        Cayley {
            excess: half.iter().zip(&d).map(|(x, d)| x * d).collect(),
            feedback: w.iter().map(|w| -2.0 * dt * w).collect(),
            feed: (0..rank).map(|j| -dt * dt * row(j).map(|(at, entry)| w[at] * entry).sum::<f64>()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::recurrence::Recurrence;
    use super::super::system::{Reader, testing::sample};
    use super::*;
    use crate::backend::{DtTransform, shape::Ssm};

    #[test]
    fn it_steps_as_the_recurrence_does() {
        for rank in 0..=2 {
            let sizes = Ssm { d_model: 3, n_ssm: 1, half_state: 5, rank, channels: 1 };
            let stored = sample::<f64>(sizes, DtTransform::Exp, 0.5);
            for h in 0..sizes.d_model {
                let system = Reader::new(sizes, stored.slices()).system(h);
                let (recurrence, cayley) = (Recurrence::new(&system), Cayley::new(&system));
                let (mut want, mut x) = (vec![C64::ZERO; 5], vec![C64::ZERO; 5]);
                for t in 0..200 {
                    let v = f64::from(u8::from(t * t % 7 < 3));
                    recurrence.step(&mut want, v);
                    let sums: Vec<f64> = (0..rank)
                        .map(|j| (0..5).map(|n| (system.p[j * 5 + n].conj() * (cayley.excess[n] + 1.0) * x[n]).re).sum())
                        .collect();
                    let alpha: Vec<f64> = (0..rank)
                        .map(|j| cayley.feed[j] * v + (0..rank).map(|k| cayley.feedback[j * rank + k] * sums[k]).sum::<f64>())
                        .collect();
                    for (n, x) in x.iter_mut().enumerate() {
                        let low_rank: C64 = (0..rank).map(|j| system.p[j * 5 + n] * alpha[j]).sum();
                        let h = *x + low_rank + system.b[n] * (system.dt * v);
                        *x = h + cayley.excess[n] * (h + *x);
                    }
                    assert!(x.iter().zip(&want).all(|(x, y)| (x - y).norm() < 1e-13), "rank {rank}, channel {h}, step {t}");
                }
            }
        }
    }
}
