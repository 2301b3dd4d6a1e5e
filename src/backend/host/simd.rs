//! Run-time dispatch to wide vectors: a hot loop is written once and compiled for every [`Level`] of the architecture.
//!
//! A loop is an `#[inline(always)]` function generic over [`Isa`]; [`dispatch!`] makes the entry point that picks the widest
//! version that the machine can run. The compiler vectorises; nothing here names an instruction. `PSPIKESSM_SIMD=portable`
//! (on x86-64 `avx2`, too) in the environment forces a narrower path: all are held to the same tests.

use std::sync::OnceLock;

use num_traits::Float;
#[cfg(target_arch = "aarch64")]
use pulp::aarch64::Neon;
#[cfg(target_arch = "wasm32")]
use pulp::wasm::Simd128;
#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};

/// How to multiply and add: fused where the machine can, in two roundings where it cannot.
///
/// `f32::mul_add` without FMA hardware is a library call some fifty times slower than a multiplication, so loops ask their `Isa`.
pub trait Isa {
    /// a * b + c.
    fn fma<E: Float>(a: E, b: E, c: E) -> E;
}

/// Two roundings: what every machine has.
pub struct Portable;

/// One rounding, one instruction.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub struct Fused;

impl Isa for Portable {
    #[inline(always)]
    fn fma<E: Float>(a: E, b: E, c: E) -> E {
        a * b + c
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Isa for Fused {
    #[inline(always)]
    fn fma<E: Float>(a: E, b: E, c: E) -> E {
        a.mul_add(b, c)
    }
}

/// The vectors to use, each with the proof that the processor has them.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    /// None: single numbers, and what the compiler makes of them for every machine of the architecture.
    Portable,
    /// 256 bits: AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(V3),
    /// 512 bits: AVX-512 F, VL, DQ, BW, CD.
    #[cfg(target_arch = "x86_64")]
    Avx512(V4),
    /// 128 bits, on every 64-bit ARM that runs an operating system.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// 128 bits, where the crate is compiled with `-C target-feature=+simd128`: a module cannot ask the machine that it runs on.
    #[cfg(target_arch = "wasm32")]
    Simd128(Simd128),
}

impl Level {
    /// Vector registers: how many numbers a loop can have in hand.
    pub fn registers(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => 32,
            #[cfg(target_arch = "aarch64")]
            Level::Neon(_) => 32,
            _ => 16,
        }
    }
}

/// The widest level that this machine has, or the narrower one that `PSPIKESSM_SIMD` asks for.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| match std::env::var("PSPIKESSM_SIMD").as_deref() {
        Ok("portable") => Level::Portable,
        #[cfg(target_arch = "x86_64")]
        Ok("avx2") => avx2(),
        _ => widest(),
    })
}

#[cfg(target_arch = "x86_64")]
fn widest() -> Level {
    V4::try_new().map_or_else(avx2, Level::Avx512)
}

#[cfg(target_arch = "x86_64")]
fn avx2() -> Level {
    V3::try_new().map_or(Level::Portable, Level::Avx2)
}

#[cfg(target_arch = "aarch64")]
fn widest() -> Level {
    Neon::try_new().map_or(Level::Portable, Level::Neon)
}

#[cfg(target_arch = "wasm32")]
fn widest() -> Level {
    Simd128::try_new().map_or(Level::Portable, Level::Simd128)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32")))]
fn widest() -> Level {
    Level::Portable
}

/// `dispatch! { pub fn name<E: Real>(arg: Type, ..) -> Out = body; }`: an entry point `name` that runs `body::<I, E>(arg, ..)` at the
/// machine's [`level`]. `body` must be `#[inline(always)]` and take the [`Isa`] as its first type parameter. Lifetimes are elided.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($g:ident : $bound:path),+>)? ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;) => {
        $(#[$meta])*
        #[cfg_attr(target_arch = "x86_64", allow(unsafe_code, reason = "a function with target features is called behind a check of them"))]
        $vis fn $name $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            fn avx512 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
                $body::<$crate::backend::host::simd::Fused, $($($g),+)?>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
                $body::<$crate::backend::host::simd::Fused, $($($g),+)?>($($arg),*)
            }
            match $crate::backend::host::simd::level() {
                // SAFETY: a level Avx512 holds the proof that the processor has every feature that avx512 enables.
                #[cfg(target_arch = "x86_64")]
                $crate::backend::host::simd::Level::Avx512(_) => unsafe { avx512 $(::<$($g),+>)? ($($arg),*) },
                // SAFETY: a level Avx2 holds the proof that the processor has AVX2 and FMA.
                #[cfg(target_arch = "x86_64")]
                $crate::backend::host::simd::Level::Avx2(_) => unsafe { avx2 $(::<$($g),+>)? ($($arg),*) },
                // The target itself has NEON: the compiler needs no leave to use it.
                #[cfg(target_arch = "aarch64")]
                $crate::backend::host::simd::Level::Neon(_) => $body::<$crate::backend::host::simd::Fused, $($($g),+)?>($($arg),*),
                _ => $body::<$crate::backend::host::simd::Portable, $($($g),+)?>($($arg),*),
            }
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Real;

    #[inline(always)]
    fn fma_body<I: Isa, E: Real>(a: E, b: E, c: E) -> E {
        I::fma(a, b, c)
    }

    dispatch! { fn fma<E: Real>(a: E, b: E, c: E) -> E = fma_body; }

    #[test]
    fn a_loop_runs_at_the_level_that_was_asked_for() {
        if std::env::var("PSPIKESSM_SIMD").is_ok_and(|wanted| wanted == "portable") {
            assert!(matches!(level(), Level::Portable), "{:?}", level());
        }
        // 1 - e^2 and its rounded self differ by what a fused multiplication keeps.
        let e = f64::from(f32::EPSILON) / 128.0;
        let rounds_once = fma(1.0 + e, 1.0 - e, -1.0) == -e * e;
        let fused = match level() {
            Level::Portable => false,
            #[cfg(target_arch = "wasm32")]
            Level::Simd128(_) => false,
            #[cfg(not(target_arch = "wasm32"))]
            _ => true,
        };
        assert_eq!(rounds_once, fused, "{:?}", level());
    }
}
