//! What transforms of one length share: factors, twiddles, and where rows are.

use std::sync::{Arc, Mutex};

use super::Transform;
use crate::scratch::Buffer;
use crate::simd::{Float, Isa};

/// Rows of a part above which two passes are one: such a part does not fit into the second cache, of which a row
/// takes 128 bytes at most.
const LARGE: usize = 6000;

/// Rows of a block of two passes: 16 such blocks are half of the first cache.
pub(super) const CHUNK: usize = 8;

/// The cheapest length of at least `needed` that transforms have.
///
/// # Panics
///
/// If it cannot be addressed.
pub fn embedding_length(needed: usize) -> usize {
    // Four times a base of passes: 4, 3 and 5, of which twice the last would not fit into registers.
    [(16_usize, 1), (12, 1), (20, 2)]
        .into_iter()
        .filter_map(|(least, bits)| {
            let double = needed.div_ceil(least).checked_next_power_of_two()?;
            let even = double.ilog2().next_multiple_of(bits);
            least.checked_mul(1_usize.checked_shl(even)?)
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
    twiddles: Vec<Arc<Buffer<T>>>,
    /// Those of the passes along a sequence, as six rows; see `sequence.rs`.
    along: Vec<Arc<Vec<T>>>,
}

/// Plans that were asked for last, the last one first.
pub type Recent<T> = Mutex<Vec<Arc<Plan<T>>>>;

impl<T: Transform> Plan<T> {
    /// A plan that is kept for the next call, unless its tables are megabytes.
    pub fn shared(n: usize) -> Arc<Self> {
        const KEPT: usize = 8;
        const LARGEST: usize = 1 << 16;
        if n > LARGEST {
            return Arc::new(Self::new(n));
        }
        // Nobody waits for the lock: a fork may have left it locked, and a plan can be made anew.
        let mut recent = T::recent().try_lock().ok();
        let known = recent.as_mut().and_then(|recent| {
            let place = recent.iter().position(|plan| plan.n == n)?;
            recent[..=place].rotate_right(1);
            Some(Arc::clone(&recent[0]))
        });
        known.unwrap_or_else(|| {
            let plan = Arc::new(Self::new(n));
            if let Some(recent) = &mut recent {
                recent.truncate(KEPT - 1);
                recent.insert(0, Arc::clone(&plan));
            }
            plan
        })
    }
}

impl<T: Float> Plan<T> {
    /// # Panics
    ///
    /// If it is not one of the lengths that [`embedding_length`] gives.
    pub fn new(n: usize) -> Self {
        let mut base = n;
        let mut twiddles: Vec<Arc<Buffer<T>>> = Vec::new();
        while base > 8 || base == n {
            assert!(base.is_multiple_of(4), "a length of transforms");
            let table = match twiddles.last() {
                None => whole(n),
                Some(above) => fourth(above, base),
            };
            twiddles.push(Arc::new(table));
            base /= 4;
        }
        assert!([3, 4, 5, 6, 8].contains(&base), "a length of transforms");
        let quarters = (0..passes_along(n)).map(|level| (level, n >> (2 * level + 2)));
        let along = quarters.map(|(level, q)| Arc::new(turned(&twiddles[level], q))).collect();
        Self { n, base, twiddles, along }
    }

    /// The plan of the parts after so many passes.
    pub fn part(&self, passes: usize) -> Self {
        let twiddles = self.twiddles[passes..].to_vec();
        Self { n: self.n >> (2 * passes), base: self.base, twiddles, along: Vec::new() }
    }

    /// Twiddles for the passes along a sequence: for each, six rows.
    pub fn along(&self) -> &[Arc<Vec<T>>] {
        &self.along
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

/// The table of twiddles of length `m`.
fn whole<T: Float>(m: usize) -> Buffer<T> {
    let roots = Roots::new(m);
    let mut table = Buffer::new(m / 4 * 6);
    for (k, to) in table.slice(m / 4 * 6).chunks_exact_mut(6).enumerate() {
        for j in 1..4 {
            let (re, im) = roots.get(j * k);
            (to[2 * j - 2], to[2 * j - 1]) = (T::from_f64(re), T::from_f64(im));
        }
    }
    table
}

/// The same for length `m` from that of length `4 m`, which has its roots among others.
fn fourth<T: Float>(above: &Buffer<T>, m: usize) -> Buffer<T> {
    let mut table = Buffer::new(m / 4 * 6);
    for (k, to) in table.slice(m / 4 * 6).chunks_exact_mut(6).enumerate() {
        // SAFETY: the table above is four times as long.
        to.copy_from_slice(unsafe { std::slice::from_raw_parts(above.as_ptr().add(24 * k), 6) });
    }
    table
}

/// How many passes go along a sequence: two, unless the rest would be too short for a transform.
fn passes_along(n: usize) -> usize {
    const SHORTEST: usize = 12;
    (0..2).take_while(|level| n >> (2 * level + 2) >= SHORTEST).count()
}

/// A table of twiddles as six rows of `q` numbers.
fn turned<T: Float>(table: &Buffer<T>, q: usize) -> Vec<T> {
    assert!(table.len() == 6 * q);
    // SAFETY: the table has so many numbers.
    let table = unsafe { std::slice::from_raw_parts(table.as_ptr(), 6 * q) };
    (0..6).flat_map(|i| table[i..].iter().step_by(6).copied()).collect()
}

/// The numbers exp(-2 pi i k / m) for k < m, to within 4e-16: angles up to pi / 4 are rounded twice, and so are
/// their sine and cosine; for the rest there is symmetry.
pub(super) struct Roots {
    m: usize,
    /// Cosine and sine for an eighth of a turn.
    eighth: Vec<(f64, f64)>,
}

impl Roots {
    /// # Panics
    ///
    /// If 4 does not divide `m`.
    pub fn new(m: usize) -> Self {
        assert!(m.is_multiple_of(4));
        let of = |d| {
            let (sin, cos) = (2.0 * std::f64::consts::PI * d as f64 / m as f64).sin_cos();
            (cos, sin)
        };
        Self { m, eighth: (0..=m / 8).map(of).collect() }
    }

    pub fn get(&self, k: usize) -> (f64, f64) {
        // Quarters of a turn, to the nearest, and what is left.
        let quarter = (8 * k + self.m) / (2 * self.m);
        let rest = k as isize - (quarter * self.m / 4) as isize;
        let (cos, sin) = self.eighth[rest.unsigned_abs()];
        let sin = if rest < 0 { -sin } else { sin };
        match quarter % 4 {
            0 => (cos, -sin),
            1 => (-sin, -cos),
            2 => (-cos, sin),
            _ => (sin, cos),
        }
    }
}
