//! The values of one tensor of a file, in the type that the file has.

use safetensors::tensor::{Dtype, SafeTensorError, TensorView};

use crate::backend::Real;

/// Values of one tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The length of every axis. Complex numbers have a last axis of two: real and imaginary part.
    pub shape: Vec<usize>,
    dtype: Dtype,
    bytes: Vec<u8>,
}

impl Stored {
    /// Stores values of a type as they are.
    pub fn new<E: Real>(values: &[E], shape: &[usize]) -> Self {
        let dtype = if E::NAME == "f32" { Dtype::F32 } else { Dtype::F64 };
        Stored { shape: shape.into(), dtype, bytes: E::bytes_of(values) }
    }

    /// The little-endian values of a file; complex ones become pairs of real ones.
    pub(in crate::nn) fn raw(dtype: Dtype, mut shape: Vec<usize>, bytes: Vec<u8>) -> Self {
        if dtype != Dtype::C64 {
            return Stored { shape, dtype, bytes };
        }
        shape.push(2);
        Stored { shape, dtype: Dtype::F32, bytes }
    }

    /// The values in f64; `None` for a type that is neither f16, bf16, f32, f64 nor i64.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        let halves = |value: fn(u16) -> f64| self.bytes.as_chunks::<2>().0.iter().map(|b| value(u16::from_le_bytes(*b))).collect();
        match self.dtype {
            Dtype::F16 => Some(halves(half)),
            Dtype::BF16 => Some(halves(|bits| f64::from(f32::from_bits(u32::from(bits) << 16)))),
            Dtype::F32 => Some(f32::values_of(&self.bytes).into_iter().map(f64::from).collect()),
            Dtype::F64 => Some(f64::values_of(&self.bytes)),
            Dtype::I64 => Some(self.bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()),
            _ => None,
        }
    }

    /// The values as a parameter takes them, which must be finite; else what is wrong with the tensor called `name`.
    pub(in crate::nn) fn finite<E: Real>(&self, name: &str) -> Result<Vec<E>, String> {
        let values = self.to_f64();
        let values = values.ok_or_else(|| format!("{name} has the type {}, which is not read: store it as F32", self.dtype))?;
        match values.iter().find(|&&value| !E::of(value).f64().is_finite()) {
            Some(value) if value.is_finite() => Err(format!("{name} holds the value {value:e}, which is too large for {}", E::NAME)),
            Some(value) => Err(format!("is useless: {name} holds the value {value}; take an earlier one")),
            None => Ok(values.into_iter().map(E::of).collect()),
        }
    }

    /// Whether the values have the type `E`.
    pub(in crate::nn) fn is<E: Real>(&self) -> bool {
        self.dtype == if E::NAME == "f32" { Dtype::F32 } else { Dtype::F64 }
    }

    /// What a checksum of the tensor is of: everything but the values, and the values.
    pub(super) fn parts(&self) -> (String, &[u8]) {
        (format!("{} {:?}", self.dtype, self.shape), &self.bytes)
    }

    pub(super) fn view(&self) -> Result<TensorView<'_>, SafeTensorError> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes)
    }
}

/// The number whose IEEE 754 half precision has these bits.
fn half(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    if sign == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_the_numbers_that_ieee_754_says() {
        let known = [
            (0x0000, 0.0),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x03ff, 6.097_555_160_522_461e-5),
            (0x0400, 6.103_515_625e-5),
            (0x3555, 0.333_251_953_125),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f64::INFINITY),
            (0xfc00, f64::NEG_INFINITY),
        ];
        for (bits, value) in known {
            assert_eq!(half(bits), value, "{bits:#06x}");
        }
        assert!(half(0x8000) == 0.0 && half(0x8000).is_sign_negative());
        assert!((0x7c01..0x8000).chain(0xfc01..=0xffff).all(|bits| half(bits).is_nan()));
        // They rise with their bits, and no two are one.
        assert!((0..0x7c00u16).all(|bits| half(bits) < half(bits + 1) && half(bits | 0x8000) == -half(bits)));
    }

    #[test]
    fn every_type_that_is_read_gives_its_numbers() {
        let read = |dtype, bytes: &[u8]| Stored::raw(dtype, vec![1], bytes.into()).to_f64();
        assert_eq!(read(Dtype::F16, &0xc100u16.to_le_bytes()), Some(vec![-2.5]));
        assert_eq!(read(Dtype::BF16, &0xc020u16.to_le_bytes()), Some(vec![-2.5]));
        assert_eq!(read(Dtype::F32, &(-2.5f32).to_le_bytes()), Some(vec![-2.5]));
        assert_eq!(read(Dtype::F64, &(-2.5f64).to_le_bytes()), Some(vec![-2.5]));
        assert_eq!(read(Dtype::I64, &(-2i64).to_le_bytes()), Some(vec![-2.0]));
        assert_eq!(read(Dtype::I8, &[1]), None);
        let complex = Stored::raw(Dtype::C64, vec![1], f32::bytes_of(&[0.5, -2.5]));
        assert_eq!((complex.shape.as_slice(), complex.to_f64()), (&[1, 2][..], Some(vec![0.5, -2.5])));
    }
}
