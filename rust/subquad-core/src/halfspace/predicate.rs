//! Exact membership: is `sum_j q_j k_j >= b` over the real numbers?
//!
//! Decided by a cascade, each stage of which either proves its answer or passes on.
//!
//! **float32.** With `N` lanes, a lane takes at most `ceil(d/N)` multiply-adds, each of two roundings
//! where the machine does not fuse them, and the lanes are added in `log2 N` steps. So for
//! `m = 2 ceil(d/N) + log2 N + 4` and u = 2^-24 (Higham, Accuracy and Stability, section 3.1)
//!
//! > |s - sum q_j k_j| <= gamma_m sum |q_j k_j| + d 2^-148,  gamma_m = m u / (1 - m u),
//!
//! where the last term is what multiplications that underflow may lose. `sum |q_j k_j|` is computed beside
//! `s` in the same way, hence to within the same factor. As m u <= 2070 * 2^-24 < 1.3e-4, the factor
//! 1.01 m u covers `gamma_m / (1 - gamma_m)`. A sum that overflows makes the bound infinite or NaN, and
//! nothing is decided. Where a bound on the norms of all keys is known, `sum |q_j k_j| <= ||q|| ||k||`
//! is tried first, for it needs one sum only; the other bound follows the key, so that one long key
//! does not blur the rest.
//!
//! **float64.** The product of two float32 is exact, between 2^-298 and 2^256; so only the d additions
//! round, u = 2^-53, and nothing underflows or overflows.
//!
//! **Exact.** The products and `-b` are added into an expansion of floating-point numbers that do not
//! overlap (Shewchuk, Discrete Comput. Geom. 18, 1997, GROW-EXPANSION); the sign of the sum is
//! that of its last component.

use half::{bf16, f16};

use super::expansion::Expansion;
use super::keys::{Key, Keys, with_key_type};
use super::{Info, KeyType};
use crate::simd::{Isa, Lanes, multiversion};

/// Set in a candidate that an interval has settled as in.
pub(super) const SURE: u32 = 1 << 31;

/// [`SURE`] or nothing, without a branch.
#[inline(always)]
pub(super) fn sure_if(settled: bool) -> u32 {
    u32::from(settled) << SURE.trailing_zeros()
}

/// A closed or open half-space, `q . k >= b` or `q . k > b`.
pub(super) struct Plane {
    /// The query, followed by zeros up to a multiple of 16.
    query: Vec<f32>,
    dim: usize,
    /// The threshold b.
    pub threshold: f64,
    /// Is b itself outside?
    pub strict: bool,
    /// Not below `||q||`.
    pub norm: f64,
    isa: Isa,
}

/// What a decision needs, as plain values for the kernels.
#[derive(Clone, Copy)]
struct Test {
    query: *const f32,
    dim: usize,
    threshold: f64,
    strict: bool,
    /// Not below `||q|| ||k||` for any key that is tested; may be infinite.
    reach: f64,
}

impl Plane {
    pub fn new(query: &[f32], threshold: f64, strict: bool, isa: Isa) -> Self {
        let dim = query.len();
        let mut padded = Vec::with_capacity(dim.next_multiple_of(16));
        padded.extend_from_slice(query);
        padded.resize(dim.next_multiple_of(16), 0.0);
        let sum: f64 = query.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        // A sum of d <= 4096 squares is off by a factor of 1 + 5e-13 at most.
        let norm = sum.sqrt() * (1.0 + 1e-12);
        Self { query: padded, dim, threshold, strict, norm, isa }
    }

    /// The query's own numbers.
    pub fn query(&self) -> &[f32] {
        &self.query[..self.dim]
    }

    /// The query and the zeros behind it.
    pub fn padded(&self) -> &[f32] {
        &self.query
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    fn test(&self, longest: f64) -> Test {
        let (threshold, strict, reach) = (self.threshold, self.strict, self.norm * longest);
        // Sums that might overflow are not looked at in haste.
        let reach = if reach < 1e38 { reach } else { f64::INFINITY };
        Test { query: self.query.as_ptr(), dim: self.dim, threshold, strict, reach }
    }

    /// Is the key of this slot inside?
    pub fn holds(&self, keys: &Keys, slot: usize, info: &mut Info) -> bool {
        let mut one = [slot as u32];
        self.keep(keys, f64::INFINITY, &mut one, info) == 1
    }

    /// Moves the slots whose keys are inside to the front, in their order, and counts them. Slots
    /// marked [`SURE`] are not tested; the mark is taken off. No key may be longer than `longest`.
    ///
    /// # Panics
    ///
    /// If a slot does not exist or the dimension differs.
    pub fn keep(&self, keys: &Keys, longest: f64, slots: &mut [u32], info: &mut Info) -> usize {
        assert_eq!(keys.dim(), self.dim);
        let largest = slots.iter().fold(0, |a, &b| a.max(b & !SURE)) as usize;
        assert!(slots.is_empty() || largest < keys.len());
        let run = match keys.kind() {
            KeyType::F32 => keep_f32,
            KeyType::F16 => keep_f16,
            KeyType::Bf16 => keep_bf16,
        };
        // SAFETY: the slots exist, as was checked, and have elements of this type; rows can be read
        // for 64 bytes beyond the last, and the query is padded with zeros.
        unsafe { run(self.isa, self.test(longest), keys, slots, info) }
    }
}

/// The kernel for one type of keys.
macro_rules! keep {
    ($name:ident, $key:ty) => {
        multiversion! {
            unsafe fn $name(test: Test, keys: &Keys, slots: &mut [u32], info: &mut Info) -> usize = keep_body {
                v4: [avx512::F32x16, $key],
                v3: [avx2::F32x8, $key],
                portable: [portable::F32x4, $key],
            }
        }
    };
}

keep!(keep_f32, f32);
keep!(keep_f16, f16);
keep!(keep_bf16, bf16);

/// # Safety
///
/// The slots must exist in `keys`, whose elements must be `E`; the query must be readable up to the
/// next multiple of 16 numbers, and zero beyond `dim`; the instruction set must be enabled.
#[inline(always)]
unsafe fn keep_body<V: Lanes<T = f32>, E: Key>(
    test: Test,
    keys: &Keys,
    slots: &mut [u32],
    info: &mut Info,
) -> usize {
    let (bound, underflow) = margin::<V>(test.dim);
    let plainly = bound * test.reach + underflow;
    let (rows, mut kept) = (keys.rows(), 0);
    rows.touch_first(slots);
    for i in 0..slots.len() {
        let slot = slots[i];
        rows.touch_later(slots, i);
        let inside = slot & SURE != 0 || {
            let row = keys.row::<E>(slot as usize);
            // SAFETY: the caller's promises.
            let gap = unsafe { f64::from(dot::<V, E>(test.query, row, test.dim)) - test.threshold };
            if gap.abs() > plainly {
                info.f32 += 1;
                gap > 0.0
            } else {
                // SAFETY: the caller's promises.
                unsafe { look_closer::<V, E>(test, row, info) }
            }
        };
        slots[kept] = slot & !SURE;
        kept += usize::from(inside);
    }
    kept
}

/// Factor of `sum |q k|` and constant of the bound in float32, see the top of this file.
#[inline(always)]
fn margin<V: Lanes>(dim: usize) -> (f64, f64) {
    let roundings = 2 * dim.div_ceil(V::N) + V::N.ilog2() as usize + 4;
    (1.01 * 2_f64.powi(-24) * roundings as f64, 2_f64.powi(-148) * dim as f64)
}

/// `sum q k`.
///
/// # Safety
///
/// As [`keep_body`], for one row.
#[inline(always)]
unsafe fn dot<V: Lanes<T = f32>, E: Key>(query: *const f32, row: *const E, dim: usize) -> f32 {
    // SAFETY: whoever calls has the instruction set, and the padding of query and rows.
    unsafe {
        let mut sum = V::splat(0.0);
        let mut j = 0;
        while j < dim {
            sum = V::load(query.add(j)).fma(E::load::<V>(row.add(j)), sum);
            j += V::N;
        }
        sum.sum()
    }
}

/// float32 again, with a bound for this very row, and the stages after it.
///
/// # Safety
///
/// As [`keep_body`], for one row.
#[inline(always)]
unsafe fn look_closer<V: Lanes<T = f32>, E: Key>(
    test: Test,
    row: *const E,
    info: &mut Info,
) -> bool {
    let (bound, underflow) = margin::<V>(test.dim);
    // SAFETY: the caller's promises.
    unsafe {
        let (mut sum, mut size) = (V::splat(0.0), V::splat(0.0));
        let mut j = 0;
        while j < test.dim {
            let (x, y) = (V::load(test.query.add(j)), E::load::<V>(row.add(j)));
            sum = x.fma(y, sum);
            size = x.abs().fma(y.abs(), size);
            j += V::N;
        }
        let gap = f64::from(sum.sum()) - test.threshold;
        if gap.abs() > bound * f64::from(size.sum()) + underflow {
            info.f32 += 1;
            return gap > 0.0;
        }
        settle(test, row, info)
    }
}

/// The stages after float32.
///
/// # Safety
///
/// As [`keep_body`], for one row.
#[cold]
#[inline(never)]
unsafe fn settle<E: Key>(test: Test, row: *const E, info: &mut Info) -> bool {
    // SAFETY: both have `dim` numbers.
    let (query, row) = unsafe {
        let slice = std::slice::from_raw_parts;
        (slice(test.query, test.dim), std::slice::from_raw_parts(row, test.dim))
    };
    let (s, bound) = sum64(query, row);
    let gap = s - test.threshold;
    if gap.abs() > bound {
        info.f64 += 1;
        return gap > 0.0;
    }
    info.exact += 1;
    let mut sum = Expansion::of(products(query, row));
    sum.add(-test.threshold);
    if test.strict { sum.sign() > 0 } else { sum.sign() >= 0 }
}

/// The exact products.
fn products<E: Key>(query: &[f32], row: &[E]) -> impl Iterator<Item = f64> {
    query.iter().zip(row).map(|(&x, &y)| f64::from(x) * f64::from(y.widen()))
}

/// The sum in float64, and a bound on its error.
fn sum64<E: Key>(query: &[f32], row: &[E]) -> (f64, f64) {
    let add = |(s, size): (f64, f64), x: f64| (s + x, size + x.abs());
    let (s, size) = products(query, row).fold((0.0, 0.0), add);
    (s, 1.01 * 2_f64.powi(-53) * (row.len() + 4) as f64 * size)
}

/// The score of a row, correctly rounded to float32, ties to even.
pub(super) fn score(query: &[f32], keys: &Keys, slot: usize) -> f32 {
    assert_eq!(keys.dim(), query.len());
    with_key_type!(keys.kind(), E => {
        // SAFETY: `row` is that of an existing slot, aligned to its elements.
        let row = unsafe { std::slice::from_raw_parts(keys.row::<E>(slot), query.len()) };
        let (s, bound) = sum64(query, row);
        let (low, high) = ((s - bound) as f32, (s + bound) as f32);
        if low == high && s.abs() > bound { low } else { Expansion::of(products(query, row)).round() }
    })
}

/// Is the first score above the second? Exactly; `None` if they are equal.
pub(super) fn is_better(query: &[f32], keys: &Keys, first: usize, second: usize) -> Option<bool> {
    with_key_type!(keys.kind(), E => {
        // SAFETY: as in `score`.
        let row = |slot| unsafe {
            std::slice::from_raw_parts(keys.row::<E>(slot), query.len())
        };
        let mut sum = Expansion::of(products(query, row(first)));
        products(query, row(second)).for_each(|x| sum.add(-x));
        match sum.sign() {
            0 => None,
            sign => Some(sign > 0),
        }
    })
}

/// The score in float64 and a bound on its error.
pub(super) fn nearly(query: &[f32], keys: &Keys, slot: usize) -> (f64, f64) {
    with_key_type!(keys.kind(), E => {
        // SAFETY: as in `score`.
        let row = unsafe { std::slice::from_raw_parts(keys.row::<E>(slot), query.len()) };
        sum64(query, row)
    })
}
