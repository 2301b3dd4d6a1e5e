//! The processor below the scalars: wide vectors, matrix products, special functions, threads. Nothing here knows of tensors or devices.

pub mod gemm;
pub mod math;
pub mod pcg;
pub mod simd;
pub mod threads;
pub mod vectors;
