//! What transforms of one length share: factors, twiddles, and where rows are.

use crate::scratch::Buffer;
use crate::simd::{Float, Isa};

/// Rows of a part above which two passes are one: such a part does not fit into the second cache, of which a row
/// takes 128 bytes at most.
const LARGE: usize = 6000;

/// Rows of a block of two passes: 16 such blocks are half of the first cache.
pub(super) const CHUNK: usize = 8;

/// The cheapest length of at least `needed` that transforms have.
pub fn embedding_length(needed: usize) -> usize {
    // Four times a base of passes.
    [16_usize, 12, 20]
        .into_iter()
        .filter_map(|least| {
            let double = needed.div_ceil(least).checked_next_power_of_two()?;
            least.checked_mul(double)
        })
        .min()
        .expect("a length that can be addressed")
}

/// A transform of length `n`.
pub(crate) struct Plan<T> {
    pub n: usize,
    /// Length of what is done in registers.
    pub base: usize,
    /// For lengths n, n / 4, ... above the base: w^k, w^2k, w^3k with w = exp(-2 pi i / length), for k up to a
    /// quarter of it, as six numbers.
    twiddles: Vec<Buffer<T>>,
}

impl<T: Float> Plan<T> {
    /// # Panics
    ///
    /// If it is not one of the lengths that [`embedding_length`] gives.
    pub fn new(n: usize) -> Self {
        let mut base = n;
        let mut twiddles = Vec::new();
        while base > 10 || base == n {
            assert!(base.is_multiple_of(4), "a length of transforms");
            twiddles.push(quarter(base));
            base /= 4;
        }
        assert!([3, 4, 5, 6, 8, 10].contains(&base), "a length of transforms");
        Self { n, base, twiddles }
    }

    /// The table of a level; the first is that of the whole.
    #[inline(always)]
    pub fn twiddles(&self, level: usize) -> *const T {
        self.twiddles[level].as_ptr()
    }

    /// Numbers of a workspace for a pack.
    pub fn workspace(&self, isa: Isa) -> usize {
        span(self.n) * 2 * (isa.register_bytes() / size_of::<T>())
    }

    /// Floating-point operations of a convolution of a pack, roughly.
    pub fn work(&self, isa: Isa) -> u64 {
        let lanes = (isa.register_bytes() / size_of::<T>()) as u64;
        14 * self.n as u64 * u64::from(self.n.ilog2()) * lanes
    }
}

/// Are two passes over a part of `m` rows one?
#[inline(always)]
pub(super) fn is_large(m: usize) -> bool {
    m >= LARGE
}

/// Rows of memory for a part of `m` rows. Those of a large one are 16 parts with a gap behind each, or the rows
/// that a pass combines would all lie in one set of the caches.
pub(crate) fn span(m: usize) -> usize {
    if is_large(m) { 16 * (span(m / 16) + CHUNK) } else { m }
}

/// Where row `k` of a part of `m` rows is.
pub(crate) fn at(m: usize, k: usize) -> usize {
    if is_large(m) {
        let sixteenth = m / 16;
        k / sixteenth * (span(sixteenth) + CHUNK) + at(sixteenth, k % sixteenth)
    } else {
        k
    }
}

fn quarter<T: Float>(m: usize) -> Buffer<T> {
    let mut table = Buffer::new(m / 4 * 6);
    for (k, to) in table.slice(m / 4 * 6).chunks_exact_mut(6).enumerate() {
        for j in 1..4 {
            let (re, im) = root(j * k, m);
            (to[2 * j - 2], to[2 * j - 1]) = (T::from_f64(re), T::from_f64(im));
        }
    }
    table
}

/// exp(-2 pi i k / m) for k < m, to within 4e-16: by symmetry the angle is at most pi / 4, where it is rounded
/// twice, and so is the result.
pub(super) fn root(k: usize, m: usize) -> (f64, f64) {
    let (k, m) = (k as u64, m as u64);
    // Eighths of a turn, counted from the nearest quarter.
    let quarter = (8 * k + m) / (2 * m) % 4;
    let rest = 4 * k as i64 - ((8 * k + m) / (2 * m) * m) as i64;
    let angle = std::f64::consts::FRAC_PI_2 * rest as f64 / m as f64;
    let (sin, cos) = angle.sin_cos();
    match quarter {
        0 => (cos, -sin),
        1 => (-sin, -cos),
        2 => (-cos, sin),
        _ => (sin, cos),
    }
}
