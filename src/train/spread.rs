//! Mean and standard deviation of what several runs came to.

/// The mean of some numbers, and their standard deviation as a sample's (the sum of squares divided by one less than there are).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The deviation; 0 of a single number.
    pub deviation: f64,
}

impl Spread {
    /// Of these numbers; `None` of none.
    pub fn of(numbers: &[f64]) -> Option<Self> {
        let count = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        (!numbers.is_empty()).then(|| Spread { mean, deviation: (squares / (count - 1.0).max(1.0)).sqrt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_a_sample_s() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[0.25]), Some(Spread { mean: 0.25, deviation: 0.0 }));
        // Squares 9, 1, 1, 9 around 5, a third of their sum.
        let Spread { mean, deviation } = Spread::of(&[2.0, 4.0, 6.0, 8.0]).unwrap();
        assert!(mean == 5.0 && (deviation - (20.0f64 / 3.0).sqrt()).abs() < 1e-15);
    }
}
