//! Every vector of integers against plain arithmetic, as far as this machine has it.

use super::{Ints, Unit, multiversion_ints, quad};
use crate::simd::{Isa, Lanes};

/// Numbers without visible order.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// # Safety
///
/// The instruction set must be enabled.
#[inline(always)]
unsafe fn check<V: Ints>(unit: Unit) {
    let mut seed = 7;
    for _ in 0..200 {
        let codes: [u8; 64] = std::array::from_fn(|_| random(&mut seed) as u8);
        // Pairs of at most 128 in all, so that no sum of 16 bits saturates.
        let coarse: [i8; 4] = std::array::from_fn(|_| (random(&mut seed) % 129) as i8 / 2);
        let u: [i32; 4] = std::array::from_fn(|_| (random(&mut seed) % 32513) as i32 - 16256);
        let quads: Vec<&[u8]> = codes.chunks(4).take(V::N).collect();
        // SAFETY: the caller enabled the instruction set; there are 64 bytes.
        unsafe {
            let x = V::load(codes.as_ptr());
            let sum = |of: &[u8], by: &dyn Fn(usize) -> i32| {
                (0..4).map(|j| i32::from(of[j]) * by(j)).sum::<i32>()
            };
            let expected = |by: &dyn Fn(usize) -> i32| -> Vec<f32> {
                quads.iter().map(|q| sum(q, by) as f32).collect()
            };
            let got = |v: V| {
                let mut out = [0.0_f32; 16];
                v.to_float().store(out.as_mut_ptr());
                out[..V::N].to_vec()
            };
            let zero = V::splat(0);
            let query = V::splat(quad(coarse));
            let by_coarse = |j: usize| i32::from(coarse[j]);
            assert_eq!(got(zero.dot(x, query)), expected(&by_coarse));
            assert_eq!(got(zero.pairs(x, query).widen()), expected(&by_coarse));
            let words = unit.words(u).map(|w| V::splat(w));
            assert_eq!(got(V::join(V::fine([zero; 2], x, words))), expected(&|j| u[j]));
            let all: i32 = quads.iter().map(|q| sum(q, &by_coarse)).sum();
            assert_eq!(zero.dot(x, query).sum(), all);

            let one = V::splat(0x0101_0101);
            let byte = |f: fn(u8) -> u8| -> Vec<f32> {
                quads.iter().map(|q| q.iter().map(|&x| f32::from(f(x))).sum()).collect()
            };
            let (low, two) = (V::splat(0x0f0f_0f0f), V::splat(0x0303_0303));
            assert_eq!(got(zero.dot(x.bits::<0>(low), one)), byte(|x| x & 15));
            assert_eq!(got(zero.dot(x.bits::<4>(low), one)), byte(|x| x >> 4));
            assert_eq!(got(zero.dot(x.bits::<2>(two), one)), byte(|x| x >> 2 & 3));
            assert_eq!(got(zero.dot(x.bits::<6>(two), one)), byte(|x| x >> 6));
            for bits in 0..1_u32 << V::N.min(8) {
                let bits = bits | bits << 8 & ((1 << V::N) - 1);
                let mut packed = [7_i32; 16];
                x.pack(bits, packed.as_mut_ptr());
                let word = |i: usize| i32::from_le_bytes(std::array::from_fn(|j| codes[4 * i + j]));
                let kept: Vec<i32> = (0..V::N).filter(|&i| bits >> i & 1 == 1).map(word).collect();
                assert_eq!(packed[..kept.len()], kept);
                assert_eq!(packed[V::N..], [7; 16][V::N..]);
            }
            let mut halves = [0_i32; 16];
            V::of_bits(<V::F as Lanes>::splat(-0.5))
                .pack(u32::MAX >> (32 - V::N), halves.as_mut_ptr());
            assert_eq!(halves[..V::N], [(-0.5_f32).to_bits() as i32; 16][..V::N]);
            let wrapped = V::splat(i32::MAX).add(V::splat(1));
            assert_eq!(got(wrapped), vec![i32::MIN as f32; V::N]);
        }
    }
}

multiversion_ints! {
    unsafe fn check_unit(of: Unit) = check {
        vnni512: [vnni512::I32x16],
        vnni256: [vnni256::Vnni8],
        avx2: [avx2::I32x8],
        portable: [portable::I32x4],
    }
}

#[test]
fn products_of_every_unit_are_exact() {
    for unit in Unit::all(Isa::detect()) {
        // SAFETY: the machine has it.
        unsafe { check_unit(unit, unit) };
    }
}
