//! Rows turned by their positions: one pass over memory.
//!
//! A block of positions gets a table of cosines and sines in the compute type, which then serves all
//! matrices that have these positions. With u the unit roundoff of the compute type, the rotation of a row x
//! is off by at most `(2 + sqrt(2)) u |x|` for rounding cosines and sines (u), products (`sqrt(2) u`, less
//! where they are fused) and sums (u), and by what turns are off by ([`turns`](super::turns)) and one
//! rounding of their factor more: together at most `(4 u + 2^-49) |x|` of what is turned. What underflows
//! adds at most three of the smallest numbers to a coordinate.

use std::ops::Range;

use super::turns::{Cursor, Turns};
use crate::mat::{MatCell, MatRef, Rows, with_rows};
use crate::par::Par;
use crate::scratch::Buffer;
use crate::simd::{Element, Float, Isa, Lanes, multiversion, touch};
use crate::{Error, Result};

/// Bytes of a table: it is read from the second cache, and a matrix many rows at a time.
const TABLE: usize = 1 << 16;

/// Rows that share a table, at most.
const ROWS: usize = 128;

/// Numbers in a task, and matrices.
const TASK: usize = 1 << 18;
/// See [`TASK`].
const MATRICES: usize = 32;

/// Bytes of results from which on they are written past the caches.
const PAST: usize = 1 << 24;

/// Which coordinates make pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `i` with `i + d / 2`.
    Half,
    /// `2 i` with `2 i + 1`.
    Interleaved,
}

/// What is done to a row at position p: pair i is turned by `p * frequencies[i]`, and multiplied.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// One for every pair. Coordinates beyond the pairs stay as they are.
    pub frequencies: &'a [f64],
    /// Where the pairs are.
    pub layout: Layout,
    /// What turned coordinates are multiplied with.
    pub factor: f64,
    /// Whether to turn back.
    pub inverse: bool,
}

/// Matrices with the same positions, and some of their rows.
struct Task {
    matrices: Range<usize>,
    rows: Range<usize>,
}

/// Turns the rows of every `x` by their positions, a column for each matrix, into `out`. Returns whether all
/// results are finite.
///
/// # Errors
///
/// [`Error::Shape`] if the shapes do not fit, [`Error::Stopped`].
///
/// # Panics
///
/// If rows of `x` or `out` are not contiguous.
pub fn rotate<T: Turnable>(
    x: &[Rows<'_>],
    positions: &[MatRef<'_, f64>],
    rotation: Rotation<'_>,
    out: &[MatCell<'_, T>],
    par: Par<'_>,
) -> Result<bool> {
    Error::unless_equal("positions", "matrices", x.len(), positions.len())?;
    Error::unless_equal("out", "matrices", x.len(), out.len())?;
    for ((x, positions), out) in x.iter().zip(positions).zip(out) {
        Error::unless_equal("positions", "L", x.rows(), positions.rows())?;
        Error::unless_equal("out", "L", x.rows(), out.rows())?;
        Error::unless_equal("out", "E", x.cols(), out.cols())?;
        let turned = 2 * rotation.frequencies.len();
        Error::unless_equal("frequencies", "pairs", turned.min(x.cols()), turned)?;
        assert!(x.has_contiguous_rows() && out.has_contiguous_rows());
    }
    let tasks = tasks(x, positions);
    let numbers: usize = x.iter().map(|x| x.rows() * x.cols()).sum();
    let different = tasks.iter().map(|task| task.rows.len()).sum();
    let turns = Turns::new(rotation.frequencies, different);
    let call = Call {
        x,
        positions,
        out,
        turns: &turns,
        rotation,
        isa: Isa::detect(),
        past: numbers * size_of::<T>() >= PAST,
    };
    // Memory takes as long for a number as for so many operations.
    let finite = par.for_work(32 * numbers as u64).map(tasks.len(), |i, pulse| {
        let mut cursor = Cursor::new(&turns);
        let height = call.height();
        let mut table = Buffer::new(2 * turns.width() * height);
        let Task { matrices, rows } = &tasks[i];
        let mut finite = true;
        for first in rows.clone().step_by(height) {
            if pulse.stopped() {
                return finite;
            }
            let rows = first..rows.end.min(first + height);
            let table = table.ptr();
            // SAFETY: the rows of these matrices are this task's alone, shapes were compared, and the table
            // has room for so many rows.
            finite &= unsafe { T::block(&call, matrices.clone(), rows, &mut cursor, table) };
        }
        finite
    })?;
    Ok(finite.into_iter().all(|x| x))
}

/// Cuts a call into tasks by its shapes.
fn tasks(x: &[Rows<'_>], positions: &[MatRef<'_, f64>]) -> Vec<Task> {
    let same = |a: &MatRef<'_, f64>, b: &MatRef<'_, f64>| {
        (a.at(0, 0), a.rows(), a.strides().0) == (b.at(0, 0), b.rows(), b.strides().0)
    };
    let (mut tasks, mut first) = (Vec::new(), 0);
    for matrices in positions.chunk_by(same).map(<[_]>::len) {
        let group = first..first + matrices;
        first = group.end;
        for some in group.clone().step_by(MATRICES) {
            let some = some..group.end.min(some + MATRICES);
            let numbers = some.len() * x[some.start].cols().max(1);
            let height = (TASK / numbers).next_multiple_of(ROWS).max(ROWS);
            let rows = x[some.start].rows();
            tasks.extend(
                (0..rows)
                    .step_by(height)
                    .map(|row| Task { matrices: some.clone(), rows: row..rows.min(row + height) }),
            );
        }
    }
    tasks
}

/// What all tasks of a call share.
pub struct Call<'a, T> {
    x: &'a [Rows<'a>],
    positions: &'a [MatRef<'a, f64>],
    out: &'a [MatCell<'a, T>],
    turns: &'a Turns,
    rotation: Rotation<'a>,
    isa: Isa,
    /// Whether results are too many for a cache to hold.
    past: bool,
}

impl<T> Call<'_, T> {
    /// Rows that share a table.
    fn height(&self) -> usize {
        (TABLE / (2 * size_of::<T>() * self.turns.width().max(1))).clamp(8, ROWS)
    }
}

/// A type that rows are turned in.
pub trait Turnable: Float {
    /// Turns some rows of some matrices; are the results finite?
    ///
    /// # Safety
    ///
    /// They must exist in `x` and `out`, nobody else may use those of `out`, and `table` must have room for
    /// two rows of cosines for each.
    #[doc(hidden)]
    unsafe fn block(
        call: &Call<'_, Self>,
        matrices: Range<usize>,
        rows: Range<usize>,
        cursor: &mut Cursor<'_>,
        table: *mut Self,
    ) -> bool;
}

macro_rules! turnable {
    ($t:ident, $name:ident, $v4:ident, $v3:ident, $portable:ident) => {
        multiversion! {
            unsafe fn $name<'a>(call: &Call<'a, $t>, matrices: Range<usize>, rows: Range<usize>,
                cursor: &mut Cursor<'_>, table: *mut $t) -> bool = block_body {
                v4: [avx512::$v4], v3: [avx2::$v3], portable: [portable::$portable],
            }
        }

        impl Turnable for $t {
            unsafe fn block(
                call: &Call<'_, Self>,
                matrices: Range<usize>,
                rows: Range<usize>,
                cursor: &mut Cursor<'_>,
                table: *mut Self,
            ) -> bool {
                // SAFETY: passed on.
                unsafe { $name(call.isa, call, matrices, rows, cursor, table) }
            }
        }
    };
}
turnable!(f32, block_f32, F32x16, F32x8, F32x4);
turnable!(f64, block_f64, F64x8, F64x4, F64x2);

/// # Safety
///
/// As [`Turnable::block`]; the instruction set must be enabled.
#[inline(always)]
unsafe fn block_body<V: Lanes>(
    call: &Call<'_, V::T>,
    matrices: Range<usize>,
    rows: Range<usize>,
    cursor: &mut Cursor<'_>,
    table: *mut V::T,
) -> bool {
    let (width, rotation) = (call.turns.width(), &call.rotation);
    let positions = &call.positions[matrices.start];
    // SAFETY: the caller's promises.
    unsafe {
        for (r, i) in rows.clone().enumerate() {
            let to = std::slice::from_raw_parts_mut(table.add(2 * width * r), 2 * width);
            table_row(cursor, positions.get(i, 0), rotation, to);
        }
        let mut bad = V::splat(V::T::ZERO);
        for h in matrices {
            let out = &call.out[h];
            let past = call.past && is_aligned::<V>(out, width);
            let rows = rows.clone();
            let at = (table.cast_const(), width);
            bad = with_rows!(&call.x[h], x => match rotation.layout {
                Layout::Half if past => turn_halves::<V, _, true, true>(x, out, rows, at, bad),
                Layout::Half if width >= V::N => {
                    turn_halves::<V, _, true, false>(x, out, rows, at, bad)
                }
                Layout::Half => turn_halves::<V, _, false, false>(x, out, rows, at, bad),
                Layout::Interleaved if past => {
                    turn_neighbours::<V, _, true, true>(x, out, rows, at, bad)
                }
                Layout::Interleaved if width >= V::N => {
                    turn_neighbours::<V, _, true, false>(x, out, rows, at, bad)
                }
                Layout::Interleaved => turn_neighbours::<V, _, false, false>(x, out, rows, at, bad),
            });
        }
        if call.past {
            V::drain();
        }
        bad.sum() == V::T::ZERO
    }
}

/// Are all vectors of all rows whole, and in places of their own?
#[inline(always)]
fn is_aligned<V: Lanes>(out: &MatCell<'_, V::T>, width: usize) -> bool {
    let bytes = V::N * size_of::<V::T>();
    let row = out.strides().0 * size_of::<V::T>() as isize;
    let whole = width.is_multiple_of(V::N) && out.cols().is_multiple_of(V::N);
    whole && (out.at(0, 0) as usize).is_multiple_of(bytes) && row % bytes as isize == 0
}

/// Cosines and sines of a position, in the compute type.
#[inline(always)]
fn table_row<T: Float>(
    cursor: &mut Cursor<'_>,
    position: f64,
    rotation: &Rotation<'_>,
    to: &mut [T],
) {
    let of_cos = rotation.factor;
    let of_sin = if rotation.inverse { -of_cos } else { of_cos };
    let (a, b) = cursor.turns(position);
    let (cos, sin) = to.split_at_mut(to.len() / 2);
    // Slices of one length leave no check in the loop.
    let n = cos.len();
    let (a_cos, a_sin, b_cos, b_sin) = (&a.cos[..n], &a.sin[..n], &b.cos[..n], &b.sin[..n]);
    let sin = &mut sin[..n];
    for j in 0..n {
        let c = a_cos[j] * b_cos[j] - a_sin[j] * b_sin[j];
        let s = a_sin[j] * b_cos[j] + a_cos[j] * b_sin[j];
        (cos[j], sin[j]) = (T::from_f64(c * of_cos), T::from_f64(s * of_sin));
    }
}

/// Asks for what is read some rows later: a machine's own guesses end where blocks do.
#[inline(always)]
fn ahead<E: Copy>(x: &MatRef<'_, E>, i: usize) {
    const BYTES: usize = 2048;
    let row = size_of::<E>() * x.cols();
    touch(x.at(i + BYTES / row.clamp(1, BYTES), 0).cast(), row);
}

/// Turns pairs of `j` and `j + width`, and copies what is beyond; adds nothing to `bad`, or what is not a number.
///
/// # Safety
///
/// The rows must exist, in the table too; the instruction set must be enabled.
#[inline(always)]
unsafe fn turn_halves<V: Lanes, E: Element, const WHOLE: bool, const PAST: bool>(
    x: &MatRef<'_, E>,
    out: &MatCell<'_, V::T>,
    rows: Range<usize>,
    (table, width): (*const V::T, usize),
    mut bad: V,
) -> V {
    // SAFETY: the caller's promises; windows end at the last number.
    unsafe {
        let zero = V::splat(V::T::ZERO);
        for (r, i) in rows.enumerate() {
            ahead(x, i);
            let (from, to) = (x.at(i, 0), out.at(i, 0));
            let cos = table.add(2 * width * r);
            let sin = cos.add(width);
            let mut j = 0;
            while j < width {
                let (at, len) = window::<V>(j, width);
                let (a, b) = (
                    read::<V, _, WHOLE>(from.add(at), len),
                    read::<V, _, WHOLE>(from.add(width + at), len),
                );
                let (c, s) =
                    (read::<V, _, WHOLE>(cos.add(at), len), read::<V, _, WHOLE>(sin.add(at), len));
                let low = a.fma(c, zero.sub(b.mul(s)));
                let high = b.fma(c, a.mul(s));
                bad = high.fma(zero, low.fma(zero, bad));
                write::<V, WHOLE, PAST>(low, to.add(at), len);
                write::<V, WHOLE, PAST>(high, to.add(width + at), len);
                j += V::N;
            }
            let turned = 2 * width;
            bad = copy::<V, E, PAST>(from.add(turned), to.add(turned), x.cols() - turned, bad);
        }
        bad
    }
}

/// As [`turn_halves`], for pairs of neighbours: two vectors of them for one of cosines.
///
/// # Safety
///
/// As [`turn_halves`].
#[inline(always)]
unsafe fn turn_neighbours<V: Lanes, E: Element, const WHOLE: bool, const PAST: bool>(
    x: &MatRef<'_, E>,
    out: &MatCell<'_, V::T>,
    rows: Range<usize>,
    (table, width): (*const V::T, usize),
    mut bad: V,
) -> V {
    // SAFETY: the caller's promises; windows end at the last number.
    unsafe {
        let zero = V::splat(V::T::ZERO);
        for (r, i) in rows.enumerate() {
            ahead(x, i);
            let (from, to) = (x.at(i, 0), out.at(i, 0));
            let cos = table.add(2 * width * r);
            let sin = cos.add(width);
            let mut j = 0;
            while j < width {
                let (at, len) = window::<V>(j, width);
                let (c, s) =
                    (read::<V, _, WHOLE>(cos.add(at), len), read::<V, _, WHOLE>(sin.add(at), len));
                let (c, s) = (c.zip(c), zero.sub(s).zip(s));
                let (low, high) = ((2 * len).min(V::N), (2 * len).saturating_sub(V::N));
                let (from, to) = (from.add(2 * at), to.add(2 * at));
                let a: V = read::<V, _, WHOLE>(from, low);
                let y = a.fma(c.0, a.swap_pairs().mul(s.0));
                bad = y.fma(zero, bad);
                write::<V, WHOLE, PAST>(y, to, low);
                if WHOLE || high > 0 {
                    let a: V = read::<V, _, WHOLE>(from.add(V::N), high);
                    let y = a.fma(c.1, a.swap_pairs().mul(s.1));
                    bad = y.fma(zero, bad);
                    write::<V, WHOLE, PAST>(y, to.add(V::N), high);
                }
                j += V::N;
            }
            let turned = 2 * width;
            bad = copy::<V, E, PAST>(from.add(turned), to.add(turned), x.cols() - turned, bad);
        }
        bad
    }
}

/// # Safety
///
/// So many numbers must be readable and writable; the instruction set must be enabled.
#[inline(always)]
unsafe fn copy<V: Lanes, E: Element, const PAST: bool>(
    from: *const E,
    to: *mut V::T,
    count: usize,
    mut bad: V,
) -> V {
    let mut j = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while j < count {
            let (at, len) = window::<V>(j, count);
            let x = read::<V, _, PAST>(from.add(at), len);
            bad = x.fma(V::splat(V::T::ZERO), bad);
            write::<V, PAST, PAST>(x, to.add(at), len);
            j += V::N;
        }
    }
    bad
}

/// The vector that has number `j` of `count`: where it begins, and how many numbers it has. The last one
/// overlaps the one before.
#[inline(always)]
fn window<V: Lanes>(j: usize, count: usize) -> (usize, usize) {
    if count >= V::N { (j.min(count - V::N), V::N) } else { (0, count) }
}

/// The next `len` numbers, zeros beyond.
///
/// # Safety
///
/// They must be readable, and the instruction set enabled.
#[inline(always)]
unsafe fn read<V: Lanes, E: Element, const WHOLE: bool>(from: *const E, len: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe {
        if WHOLE || len == V::N {
            return E::load(from);
        }
        let mut lanes = [V::T::ZERO; 16];
        for (j, x) in lanes.iter_mut().enumerate().take(len) {
            *x = V::T::narrow((*from.add(j)).to_f64());
        }
        V::load(lanes.as_ptr())
    }
}

/// Writes the first `len` numbers of a vector: all if `WHOLE`, past the caches if `PAST`.
///
/// # Safety
///
/// There must be room for them, at a place of their own if `PAST`; the instruction set must be enabled.
#[inline(always)]
unsafe fn write<V: Lanes, const WHOLE: bool, const PAST: bool>(x: V, to: *mut V::T, len: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if PAST {
            return x.stream(to);
        }
        if WHOLE || len == V::N {
            return x.store(to);
        }
        let mut lanes = [V::T::ZERO; 16];
        x.store(lanes.as_mut_ptr());
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, len);
    }
}
