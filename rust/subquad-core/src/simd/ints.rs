//! Vectors of small integers: products of unsigned codes with a signed query.
//!
//! Codes are bytes, four to a lane of 32 bits. The instruction that multiplies and adds four of them at
//! once (VNNI) is younger than AVX2 and AVX-512, so these kernels choose by [`Unit`], not by `Isa`.

use super::{Isa, Lanes, Level};

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
pub(crate) mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
pub(crate) mod vnni256;
#[cfg(target_arch = "x86_64")]
pub(crate) mod vnni512;

/// What multiplies bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Whatever the target guarantees.
    Portable,
    /// AVX2: pairs of products in 16 bits.
    Avx2,
    /// AVX-VNNI, 256 bits.
    Vnni256,
    /// AVX-512 VNNI.
    Vnni512,
}

impl Unit {
    /// The best that this machine has within an instruction set.
    pub fn of(isa: Isa) -> Self {
        Self::all(isa).next().unwrap_or(Self::Portable)
    }

    /// Does it add products up in 16 bits? See [`Ints::pairs`].
    pub fn is_narrow(self) -> bool {
        self == Self::Avx2
    }

    /// The two words that hold four query coordinates of up to 15 bits, `|u| <= 16256`, for
    /// [`Ints::fine`].
    pub fn words(self, u: [i32; 4]) -> [i32; 2] {
        match self {
            // One word of high bytes, one of low bytes.
            Self::Vnni256 | Self::Vnni512 => {
                let parts = u.map(halves);
                [quad(parts.map(|x| x[0])), quad(parts.map(|x| x[1]))]
            }
            // Products in 16 bits: one word for the even bytes of the codes, one for the odd.
            Self::Portable | Self::Avx2 => {
                [(u[0] & 0xffff) | u[2] << 16, (u[1] & 0xffff) | u[3] << 16]
            }
        }
    }

    /// Everything that this machine has within an instruction set, best first.
    pub fn all(isa: Isa) -> impl Iterator<Item = Self> {
        let has = move |unit: &Self| match unit {
            Self::Portable => true,
            Self::Avx2 => isa.0 >= Level::V3,
            Self::Vnni256 => isa.0 >= Level::V3 && has_vnni256(),
            Self::Vnni512 => isa.0 >= Level::V4 && has_vnni512(),
        };
        [Self::Vnni512, Self::Vnni256, Self::Avx2, Self::Portable].into_iter().filter(has)
    }
}

#[cfg(target_arch = "x86_64")]
fn has_vnni256() -> bool {
    is_x86_feature_detected!("avxvnni")
}

#[cfg(target_arch = "x86_64")]
fn has_vnni512() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vnni256() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vnni512() -> bool {
    false
}

/// A vector of `N` lanes of 32 bits, or of 4 N bytes.
///
/// Constructors are unsafe as those of [`Lanes`] are. Sums wrap around.
pub(crate) trait Ints: Copy {
    /// Floats in as many lanes.
    type F: Lanes<T = f32>;
    /// Number of lanes.
    const N: usize;
    /// Do [`pairs`](Self::pairs) add up in 16 bits, rather than in 32?
    const NARROW: bool;

    /// # Safety
    /// The instruction set must be enabled.
    unsafe fn splat(x: i32) -> Self;
    /// # Safety
    /// As [`splat`](Self::splat); 4 N bytes must be readable at `p`, which need not be aligned.
    unsafe fn load(p: *const u8) -> Self;

    /// Bits `SHIFT ..` of every byte that `mask` keeps.
    fn bits<const SHIFT: i32>(self, mask: Self) -> Self;
    fn add(self, b: Self) -> Self;
    /// Adds to every lane its four products of a byte of `codes` (unsigned) with one of `query`
    /// (signed). The sum of two neighbouring products must fit 16 bits.
    fn dot(self, codes: Self, query: Self) -> Self;
    /// As [`dot`](Self::dot), but sums may be kept in 16 bits, two to a lane; see
    /// [`widen`](Self::widen).
    fn pairs(self, codes: Self, query: Self) -> Self;
    /// The sums of [`pairs`](Self::pairs) in lanes of 32 bits.
    fn widen(self) -> Self;
    /// Adds to the two partial sums the products of four bytes of codes with four coordinates of up to
    /// 15 bits, in the form of [`Unit::words`].
    fn fine(sums: [Self; 2], codes: Self, words: [Self; 2]) -> [Self; 2];
    /// The sum of products, from its parts.
    fn join(sums: [Self; 2]) -> Self;
    /// Nearest floats.
    fn to_float(self) -> Self::F;
    /// Sum of the lanes.
    fn sum(self) -> i32;
    /// The bits of floats.
    fn of_bits(x: Self::F) -> Self;
    /// Stores the lanes whose bits are set, side by side.
    ///
    /// # Safety
    /// `N` values must be writable at `to`, which need not be aligned; what stands behind the stored lanes
    /// is overwritten with anything.
    unsafe fn pack(self, bits: u32, to: *mut i32);
}

/// High and low part of a coordinate: `u = 128 h + l` with bytes h and l, for `|u| <= 16256`.
fn halves(u: i32) -> [i8; 2] {
    debug_assert!(u.abs() <= 16256);
    let high = (u + 64) >> 7;
    [high as i8, (u - (high << 7)) as i8]
}

/// Four bytes as a word.
pub(crate) fn quad(bytes: [i8; 4]) -> i32 {
    i32::from_le_bytes(bytes.map(|x| x as u8))
}

/// As `multiversion!`, over [`Unit`]s.
macro_rules! multiversion_ints {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident {
        vnni512: [$($v512:tt)*], vnni256: [$($v256:tt)*], avx2: [$($avx2:tt)*], portable: [$($portable:tt)*] $(,)?
    }) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, clippy::items_after_statements)]
        $vis unsafe fn $name (unit: $crate::simd::ints::Unit, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::simd::ints::{Unit, avx2, vnni256, vnni512};

                #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
                unsafe fn avx2 ($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: the vectors of the type arguments are those of the enabled features; what
                    // else the body asks for is asked of our caller.
                    unsafe { $body::<$($avx2)*>($($arg),*) }
                }

                #[target_feature(enable = "avxvnni,avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
                unsafe fn vnni256 ($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: as above.
                    unsafe { $body::<$($v256)*>($($arg),*) }
                }

                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512cd,avx512vnni,avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
                unsafe fn vnni512 ($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: as above.
                    unsafe { $body::<$($v512)*>($($arg),*) }
                }

                match unit {
                    // SAFETY: whoever made the `Unit` checked that this machine has the features
                    // enabled on the callee.
                    Unit::Vnni512 => return unsafe { vnni512($($arg),*) },
                    // SAFETY: as above.
                    Unit::Vnni256 => return unsafe { vnni256($($arg),*) },
                    // SAFETY: as above.
                    Unit::Avx2 => return unsafe { avx2($($arg),*) },
                    Unit::Portable => {}
                }
            }
            use $crate::simd::ints::portable;
            let _ = unit;
            // SAFETY: portable vectors need nothing; for the rest see above.
            unsafe { $body::<$($portable)*>($($arg),*) }
        }
    };
}
pub(crate) use multiversion_ints;
