//! Read bandwidth of main memory: a plain sum over a buffer that no cache holds.

use std::array;
use std::hint::black_box;

use super::rate;
use crate::simd::{Isa, Level};

/// Words of the buffer, 256 MiB: more than a shared cache holds. Tests make do with less.
const WORDS: usize = if cfg!(test) { 1 << 16 } else { 1 << 25 };

/// Places read at once, equal parts of what a thread reads: a few per cent faster than one, since
/// each has a prefetcher that works ahead, and closer to a kernel that reads keys and values.
const PLACES: usize = 4;

/// Words read at a place before the next: two cache lines. All places together keep 512 bytes of
/// running sums, the vector registers of AVX2.
const STEP: usize = 16;

/// A buffer of [`WORDS`] numbers, each written, so that its pages exist before anybody times reading.
///
/// One thread fills it, as one thread fills the arrays that users bring. Unlike numpy's, its pages
/// are huge only where the system makes them so unasked: a kernel on such an array may exceed the
/// figure a little. A system that refuses so much memory gets a smaller buffer.
pub(super) fn buffer() -> Vec<u64> {
    let mut words = WORDS;
    let mut buffer = Vec::new();
    while buffer.try_reserve_exact(words).is_err() {
        words /= 2;
    }
    buffer.extend((0..words as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    buffer
}

/// Reads the buffer once, an equal part of it on each of `threads` threads, and returns GB/s.
pub(super) fn pass(isa: Isa, buffer: &[u64], threads: usize) -> f64 {
    let part = buffer.len().div_ceil(threads).max(1);
    rate(threads, |i| {
        let part = buffer.chunks(part).nth(i).unwrap_or_default();
        black_box(sum(isa, part));
        size_of_val(part) as f64
    })
}

/// Sum of all words, modulo 2^64.
fn sum(isa: Isa, words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if isa.0 >= Level::V3 {
        // SAFETY: an `Isa` of this level means that the machine has AVX2.
        return unsafe { sum_avx2(words) };
    }
    let _ = isa;
    sum_body(words)
}

/// Also for AVX-512, whose wider loads wait for the same memory.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(words: &[u64]) -> u64 {
    sum_body(words)
}

#[inline(always)]
fn sum_body(words: &[u64]) -> u64 {
    let place = words.len() / PLACES / STEP;
    let (blocks, tail) = words.as_chunks::<STEP>();
    let (places, rest) = blocks.split_at(place * PLACES);
    let [mut s, mut t, mut u, mut v] = [[0; STEP]; PLACES];
    for i in 0..place {
        s = add(s, &places[i]);
        t = add(t, &places[place + i]);
        u = add(u, &places[2 * place + i]);
        v = add(v, &places[3 * place + i]);
    }
    let sums = [s, t, u, v];
    let all = sums.iter().chain(rest).flatten().chain(tail);
    all.fold(0, |sum, word| sum.wrapping_add(*word))
}

#[inline(always)]
fn add(sums: [u64; STEP], block: &[u64; STEP]) -> [u64; STEP] {
    array::from_fn(|i| sums[i].wrapping_add(block[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_once() {
        // A sum that missed a word or took one twice would differ.
        for len in [0, 1, 3, 4, 7, 63, 64, 5 * 64 + 7, 1000] {
            let words: Vec<u64> = (0..len as u64).map(|i| i * i + 1).collect();
            assert_eq!(sum(Isa::detect(), &words), words.iter().sum::<u64>(), "{len} words");
        }
    }
}
