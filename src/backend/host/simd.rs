//! Run-time dispatch to wide vectors: a hot loop is written once and compiled for AVX-512, AVX2 and the baseline.
//!
//! A loop is an `#[inline(always)]` function generic over [`Isa`]; [`dispatch!`] makes the entry point that picks the widest
//! version that the machine can run. The compiler vectorises; nothing here names an instruction. `PSPIKESSM_SIMD=portable`
//! (or `avx2`) in the environment forces a narrower path: both are held to the same tests.

use std::sync::OnceLock;

use num_traits::Float;

/// How to multiply and add: fused where the machine can, in two roundings where it cannot.
///
/// `f32::mul_add` without FMA hardware is a library call some fifty times slower than a multiplication, so loops ask their `Isa`.
pub trait Isa {
    /// a * b + c.
    fn fma<E: Float>(a: E, b: E, c: E) -> E;
}

/// Two roundings: the baseline of x86-64.
pub struct Portable;

/// One rounding, one instruction.
pub struct Fused;

impl Isa for Portable {
    #[inline(always)]
    fn fma<E: Float>(a: E, b: E, c: E) -> E {
        a * b + c
    }
}

impl Isa for Fused {
    #[inline(always)]
    fn fma<E: Float>(a: E, b: E, c: E) -> E {
        a.mul_add(b, c)
    }
}

/// The vector width to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every machine of the architecture has.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, VL, DQ, BW.
    Avx512,
}

/// The widest level that this machine has, or the narrower one that `PSPIKESSM_SIMD` asks for.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let wanted = match std::env::var("PSPIKESSM_SIMD").as_deref() {
            Ok("portable") => Level::Portable,
            Ok("avx2") => Level::Avx2,
            _ => Level::Avx512,
        };
        wanted.min(widest())
    })
}

#[cfg(target_arch = "x86_64")]
fn widest() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw");
    match (avx2, avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn widest() -> Level {
    Level::Portable
}

/// `dispatch! { pub fn name<E: Real>(arg: Type, ..) -> Out = body; }`: an entry point `name` that runs `body::<I, E>(arg, ..)` at the
/// machine's [`level`]. `body` must be `#[inline(always)]` and take the [`Isa`] as its first type parameter. Lifetimes are elided.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($g:ident : $bound:path),+>)? ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;) => {
        $(#[$meta])*
        $vis fn $name $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
                    $body::<$crate::backend::host::simd::Fused, $($($g),+)?>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
                    $body::<$crate::backend::host::simd::Fused, $($($g),+)?>($($arg),*)
                }
                match $crate::backend::host::simd::level() {
                    // SAFETY: level() is Avx512 only where the processor reports every feature that avx512 enables.
                    $crate::backend::host::simd::Level::Avx512 => return unsafe { avx512 $(::<$($g),+>)? ($($arg),*) },
                    // SAFETY: level() is Avx2 only where the processor reports AVX2 and FMA.
                    $crate::backend::host::simd::Level::Avx2 => return unsafe { avx2 $(::<$($g),+>)? ($($arg),*) },
                    $crate::backend::host::simd::Level::Portable => {}
                }
            }
            #[cfg(target_arch = "aarch64")]
            return $body::<$crate::backend::host::simd::Fused, $($($g),+)?>($($arg),*);
            #[cfg(not(target_arch = "aarch64"))]
            $body::<$crate::backend::host::simd::Portable, $($($g),+)?>($($arg),*)
        }
    };
}
pub(crate) use dispatch;
