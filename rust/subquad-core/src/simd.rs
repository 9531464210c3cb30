//! Run-time choice of instruction set, and vectors of whatever width it has.
//!
//! A kernel is written once, generic over a vector type `Lanes`, and compiled once per
//! instruction set by `multiversion!`. The files below are the only ones that name one.

use std::sync::OnceLock;

use crate::{Error, Result};

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod bf16;
mod float_mode;
pub(crate) mod ints;
mod lanes;
pub(crate) mod portable;
#[cfg(test)]
mod tests;

pub use bf16::Bf16;
pub(crate) use float_mode::default_float_mode;
pub use lanes::Float;
pub(crate) use lanes::{Element, Exp2, Lanes, transpose};

/// An instruction set that this machine has. Only [`Isa::detect`] and [`Isa::best`] make one, which is
/// what lets kernels call code compiled for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(pub(crate) Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Whatever the target guarantees.
    Portable,
    /// x86-64-v3: AVX2, FMA, F16C and the bit instructions.
    V3,
    /// x86-64-v4: AVX-512 F, VL, BW, DQ and CD.
    V4,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::V3 => "v3",
            Self::V4 => "v4",
        }
    }
}

impl Isa {
    /// The best set this machine offers, capped by the environment variable `SUBQUAD_ISA`
    /// (`portable`, `v3`, `v4`). An unknown value is ignored here and refused by [`Isa::checked`].
    pub fn detect() -> Self {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(|| Self(available().min(cap().unwrap_or(Level::V4))))
    }

    /// As [`Isa::detect`], and refuses a value of `SUBQUAD_ISA` that means nothing.
    pub fn checked() -> Result<Self> {
        cap().map(|_| Self::detect())
    }

    /// The best set this machine offers, whatever the environment says.
    pub fn best() -> Self {
        Self(available())
    }

    /// Bytes of a vector register, as the kernels use it.
    pub(crate) fn register_bytes(self) -> usize {
        match self.0 {
            Level::Portable => 16,
            Level::V3 => 32,
            Level::V4 => 64,
        }
    }

    /// `"portable"`, `"v3"` or `"v4"`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

/// What `SUBQUAD_ISA` allows.
fn cap() -> Result<Level> {
    let Some(value) = std::env::var_os("SUBQUAD_ISA").filter(|value| !value.is_empty()) else {
        return Ok(Level::V4);
    };
    [Level::Portable, Level::V3, Level::V4]
        .into_iter()
        .find(|level| value == level.name())
        .ok_or_else(|| Error::Environment {
            name: "SUBQUAD_ISA",
            requires: "portable, v3 or v4",
            found: value.to_string_lossy().into_owned(),
        })
}

#[cfg(target_arch = "x86_64")]
fn available() -> Level {
    let v3 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt");
    let v4 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512cd");
    match (v3, v4) {
        (true, true) => Level::V4,
        (true, false) => Level::V3,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn available() -> Level {
    Level::Portable
}

/// Asks for the cache lines of `bytes` bytes from `p` on, which need not be readable. For rows in no
/// order, which no machine can guess.
#[inline(always)]
pub(crate) fn touch(p: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.wrapping_add(line).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (p, bytes);
}

/// As [`touch`], into the second cache.
#[inline(always)]
pub(crate) fn touch_second(p: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.wrapping_add(line).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (p, bytes);
}

/// Defines `$name` as a run-time dispatcher over copies of the generic `$body`, one per [`Isa`],
/// each with the type and constant arguments listed for it. What the body asks of its callers, the
/// dispatcher asks of its own, except for the instruction set.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident $(<$life:lifetime>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident {
        v4: [$($v4:tt)*], v3: [$($v3:tt)*], portable: [$($portable:tt)*] $(,)?
    }) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, clippy::items_after_statements)]
        $vis unsafe fn $name $(<$life>)? (isa: $crate::simd::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::simd::{avx2, avx512};

                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn v3 $(<$life>)? ($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: the vectors of the type arguments are those of the enabled features; what
                    // else the body asks for is asked of our caller.
                    unsafe { $body::<$($v3)*>($($arg),*) }
                }

                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512cd,avx2,fma,f16c")]
                unsafe fn v4 $(<$life>)? ($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: as above.
                    unsafe { $body::<$($v4)*>($($arg),*) }
                }

                match isa.0 {
                    // SAFETY: whoever made the `Isa` checked that this machine has the features
                    // enabled on the callee.
                    $crate::simd::Level::V4 => return unsafe { v4($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Level::V3 => return unsafe { v3($($arg),*) },
                    $crate::simd::Level::Portable => {}
                }
            }
            use $crate::simd::portable;
            let _ = isa;
            // SAFETY: portable vectors need nothing; for the rest see above.
            unsafe { $body::<$($portable)*>($($arg),*) }
        }
    };
}
pub(crate) use multiversion;

/// Repeats a block for `r = 0, 1, ...` below a constant of at most 16, each time with a literal
/// index: an array that is indexed by anything else does not stay in registers.
macro_rules! unroll {
    ($limit:expr, $r:ident => $body:block) => {
        $crate::simd::unroll!(@ $limit, $r, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $limit:expr, $r:ident, $body:block, $($i:literal)*) => {
        $({
            let $r: usize = $i;
            if $r < $limit $body
        })*
    };
}
pub(crate) use unroll;
