//! Integers as arrays: whatever the compiler makes of them on the target's baseline.

use super::Ints;
use crate::simd::portable::F32x4;

/// 4 lanes without any promise about the machine.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct I32x4([i32; 4]);

impl I32x4 {
    #[inline(always)]
    fn map2(self, b: Self, f: impl Fn(i32, i32) -> i32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }
}

/// Sum of the products of unsigned with signed bytes.
#[inline(always)]
fn products(codes: i32, query: i32) -> i32 {
    let (x, y) = (codes.to_le_bytes(), query.to_le_bytes());
    (0..4).map(|i| i32::from(x[i]) * i32::from(y[i] as i8)).sum()
}

impl Ints for I32x4 {
    type F = F32x4;
    const N: usize = 4;
    const NARROW: bool = false;
    #[inline(always)]
    unsafe fn splat(x: i32) -> Self {
        Self([x; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const u8) -> Self {
        // SAFETY: the caller promises the readable bytes.
        Self(unsafe { p.cast::<[i32; 4]>().read_unaligned() }.map(i32::from_le))
    }
    #[inline(always)]
    fn bits<const SHIFT: i32>(self, mask: Self) -> Self {
        self.map2(mask, |x, mask| (x as u32 >> SHIFT) as i32 & mask)
    }
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.map2(b, i32::wrapping_add)
    }
    #[inline(always)]
    fn dot(self, codes: Self, query: Self) -> Self {
        self.add(codes.map2(query, products))
    }
    #[inline(always)]
    fn pairs(self, codes: Self, query: Self) -> Self {
        self.dot(codes, query)
    }
    #[inline(always)]
    fn widen(self) -> Self {
        self
    }
    #[inline(always)]
    fn fine(sums: [Self; 2], codes: Self, words: [Self; 2]) -> [Self; 2] {
        let part = |codes: i32, word: i32| {
            let low = (codes & 0xff) * i32::from(word as i16);
            low.wrapping_add((codes >> 16 & 0xff) * (word >> 16))
        };
        let odd = Self(codes.0.map(|x| x >> 8));
        [sums[0].add(codes.map2(words[0], part)), sums[1].add(odd.map2(words[1], part))]
    }
    #[inline(always)]
    fn join(sums: [Self; 2]) -> Self {
        sums[0].add(sums[1])
    }
    #[inline(always)]
    fn to_float(self) -> F32x4 {
        F32x4::of(self.0.map(|x| x as f32))
    }
    #[inline(always)]
    fn sum(self) -> i32 {
        self.0.into_iter().fold(0, i32::wrapping_add)
    }
    #[inline(always)]
    fn of_bits(x: F32x4) -> Self {
        Self(x.get().map(|x| x.to_bits() as i32))
    }
    #[inline(always)]
    unsafe fn pack(self, bits: u32, to: *mut i32) {
        let mut at = 0;
        for (i, &x) in self.0.iter().enumerate() {
            // SAFETY: the caller promises room for 4; no lane goes beyond its own number.
            unsafe { to.add(at).write_unaligned(x) };
            at += (bits >> i & 1) as usize;
        }
    }
}
