//! Diagonal systems in steps of time.
//!
//! A mode x' = A x + B u becomes x <- abar x + b B u. For zero-order hold abar = e^x, b = dt phi(x), and for the bilinear rule
//! abar = (1 + x/2) / (1 - x/2), b = dt / (1 - x/2), where x = dt A and phi(x) = (e^x - 1) / x.

use super::Discretization;
use super::system::{C64, System};

/// The discrete system of a channel, x <- abar x + bbar u for every mode: (abar, bbar), each (M).
pub fn discretize(system: &System, disc: Discretization) -> (Vec<C64>, Vec<C64>) {
    modes(system, disc).iter().zip(&system.b).map(|(mode, b)| (mode.abar, mode.b * b)).unzip()
}

/// One discretized mode, its weights in the kernels, and what the chain rule needs.
pub struct Mode {
    /// The factor of a step.
    pub abar: C64,
    /// bbar / B.
    pub b: C64,
    /// The derivative of abar by x = dt A.
    pub abar_by_x: C64,
    /// The derivative of b by x.
    pub b_by_x: C64,
    /// The derivative of b by dt, at the same x.
    pub b_by_dt: C64,
    /// W for each kernel; the second is 0 if there is one.
    pub weights: [C64; 2],
}

/// The modes of `system`, in their order.
pub fn modes(system: &System, disc: Discretization) -> Vec<Mode> {
    let m = system.a.len();
    let mode = |n: usize| {
        let x = system.a[n] * system.dt;
        let (abar, abar_by_x, b, b_by_x) = match disc {
            Discretization::Zoh => {
                let power = x.exp();
                let (phi, phi_by_x) = phi(x, power);
                (power, power, phi, phi_by_x)
            }
            Discretization::Bilinear => {
                let r = (1.0 - 0.5 * x).inv();
                ((1.0 + 0.5 * x) * r, r * r, r, 0.5 * r * r)
            }
        };
        let weight = |c: usize| system.c.get(c * m + n).map_or(C64::ZERO, |c| 2.0 * c * system.b[n] * b * system.dt);
        Mode { abar, b: b * system.dt, abar_by_x, b_by_x: b_by_x * system.dt, b_by_dt: b, weights: [weight(0), weight(1)] }
    };
    (0..m).map(mode).collect()
}

/// phi(x) = (e^x - 1) / x and its derivative, given e^x: by their series where the quotient would cancel.
fn phi(x: C64, power: C64) -> (C64, C64) {
    if x.norm_sqr() > 0.25 {
        let phi = (power - 1.0) / x;
        return (phi, (power - phi) / x);
    }
    let (mut phi, mut by_x) = (C64::ONE, C64::ONE);
    for k in (1..16).map(f64::from).rev() {
        phi = 1.0 + x * phi / (k + 1.0);
        by_x = 1.0 + x * by_x * ((k + 1.0) / (k * (k + 2.0)));
    }
    (phi, by_x * 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_joins_its_series() {
        for angle in [0.0, 1.0, 2.0, 3.0] {
            let (inside, outside) = (C64::from_polar(0.5 - 1e-12, angle), C64::from_polar(0.5 + 1e-12, angle));
            let ((f, df), (g, dg)) = (phi(inside, inside.exp()), phi(outside, outside.exp()));
            assert!((f - g).norm() < 1e-11 && (df - dg).norm() < 1e-11);
        }
    }
}
