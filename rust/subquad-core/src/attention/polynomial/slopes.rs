//! The tasks of a gradient.
//!
//! With `N_i` the numerator of a row, less the mean of the values, and `D_i` its sum of weights, `G_i = dO_i / D_i`
//! and `g_i = -(dO_i . N_i / D_i) / D_i` are the derivatives by both; and `p(s_ij)` gets `G_i . (v_j - mean) + g_i`.
//! So the sums `H = sum_j features(k_j) [v_j - mean, 1]` get `sum_i features(q_i) [G_i, g_i]`, the features of
//! a query `H [G_i, g_i]`, and those of a key the same with the slopes of H: the passes of the forward
//! direction, and one more back through the features. Of sums that nothing divides G and g are given.
//!
//! No row N is ever read: with `T_i = H [dO_i, 0]`, which the features of a query get but for the division,
//! `dO_i . N_i` is the inner product of features and `T_i`. All is linear in `T_i` and in the sums' masses, so
//! each is taken back through the features on its own, and they are put together when D and g are known.

use std::cmp::Ordering;
use std::ops::Range;

use super::call::Operands;
use super::kit::Kit;
use super::tasks::{Found, Scratch};
use super::{Extent, State, TILE, load};
use crate::attention::pack;
use crate::mat::{MatCell, MatRef, Rows};
use crate::par::Pulse;
use crate::polynomial::{absorb, derive, derive_apart};
use crate::simd::{Float, Lanes, multiversion};

/// What the rows of a head get.
#[derive(Clone, Copy)]
pub struct Upstream<'a> {
    /// dO, or G of sums that nothing divides: `L x Ev`.
    pub rows: Rows<'a>,
    /// g of such sums, `L x 1`.
    pub sums: Option<Rows<'a>>,
}

impl Upstream<'_> {
    /// Loads the rows of a tile, also as columns in `turned`, and its sums if there are any; without sums, in
    /// `units` of the rows. Are all finite?
    ///
    /// # Safety
    ///
    /// The rows must exist; the instruction set must be enabled.
    #[inline(always)]
    pub(super) unsafe fn load<V: Lanes>(
        &self,
        kit: &Kit<V::T>,
        rows: Range<usize>,
        scratch: &mut Scratch<V::T>,
    ) -> bool {
        let from = (&self.rows, self.sums.as_ref());
        let (to, columns) = ((scratch.rows.ptr(), scratch.masses.ptr()), kit.columns);
        // SAFETY: the caller's promises.
        unsafe {
            let finite = load::values::<V>(from, rows, columns, &kit.zeros, to);
            if self.sums.is_none() {
                take_units::<V>(columns, scratch);
            }
            turn::<V>(to.0, columns, scratch.turned.ptr());
            finite
        }
    }
}

/// Divides every row of a tile by the power of two below its largest number: what is not yet divided by D must
/// not overflow for it.
///
/// # Safety
///
/// The instruction set must be enabled.
#[inline(always)]
unsafe fn take_units<V: Lanes>(columns: usize, scratch: &mut Scratch<V::T>) {
    let rows = scratch.rows.slice(TILE * columns).chunks_exact_mut(columns);
    for (row, unit) in rows.zip(scratch.units.slice(TILE)) {
        let mut lanes = [V::T::ZERO; 16];
        // SAFETY: rows are whole vectors, and no vector has more lanes.
        unsafe {
            let mut most = V::splat(V::T::ZERO);
            for c in (0..columns).step_by(V::N) {
                most = V::load(row.as_ptr().add(c)).abs().max(most);
            }
            most.store(lanes.as_mut_ptr());
        }
        let largest = lanes.into_iter().fold(V::T::ZERO, Float::max).to_f64();
        let power = f64::from_bits(largest.to_bits() & f64::INFINITY.to_bits());
        let power = if power > 0.0 && power.is_finite() { power } else { 1.0 };
        // Exact, as that is a power of two.
        let per = 1.0 / power;
        for x in row {
            *x = V::T::from_f64(x.to_f64() * per);
        }
        *unit = V::T::from_f64(power);
    }
}

/// Slopes of some queries of a head, and what they say to the sums over keys.
pub struct QuerySlopes<'a, T> {
    pub kit: &'a Kit<T>,
    pub head: &'a Operands<'a>,
    pub rows: Range<usize>,
    pub state: &'a State<T>,
    pub extent: &'a Extent<T>,
    pub upstream: Upstream<'a>,
    pub query: Option<MatCell<'a, T>>,
    /// Are derivatives by the coefficients wanted?
    pub terms: bool,
}

multiversion! {
    pub(in crate::attention) unsafe fn queries_f32(job: &QuerySlopes<'_, f32>, slopes: &mut State<f32>, scratch: &mut Scratch<f32>, pulse: &Pulse<'_>) -> Found = query_body {
        v4: [avx512::F32x16, 6, 4, 4, 6], v3: [avx2::F32x8, 6, 2, 6, 2], portable: [portable::F32x4, 6, 2, 6, 2],
    }
}

multiversion! {
    pub(in crate::attention) unsafe fn queries_f64(job: &QuerySlopes<'_, f64>, slopes: &mut State<f64>, scratch: &mut Scratch<f64>, pulse: &Pulse<'_>) -> Found = query_body {
        v4: [avx512::F64x8, 6, 4, 4, 6], v3: [avx2::F64x4, 6, 2, 6, 2], portable: [portable::F64x2, 6, 2, 6, 2],
    }
}

/// # Safety
///
/// State, slopes and scratch must be of the kit, and no other task may write the job's rows; the instruction
/// set must be enabled.
#[inline(always)]
unsafe fn query_body<V: Lanes, const R: usize, const C: usize, const DR: usize, const DC: usize>(
    job: &QuerySlopes<'_, V::T>,
    slopes: &mut State<V::T>,
    scratch: &mut Scratch<V::T>,
    pulse: &Pulse<'_>,
) -> Found {
    let (kit, head) = (job.kit, job.head);
    let dim = kit.monomials.dim();
    let wanted = job.query.is_some() || job.terms;
    let mut found = Found { terms: vec![0.0; kit.coefficients.len()], ..Found::default() };
    for start in job.rows.clone().step_by(TILE) {
        if pulse.stopped() {
            break;
        }
        let some = start..job.rows.end.min(start + TILE);
        let x = scratch.tokens.ptr();
        // SAFETY: the queries exist, and the scratch has room for a tile of them.
        unsafe {
            let extent = load::tokens::<V>(&head.query, some.clone(), x);
            let finite = job.upstream.load::<V>(kit, some.clone(), scratch);
            found.counts.suspicious |= !(extent.is_finite && finite);
            if job.upstream.sums.is_none() {
                derive_undivided::<V, DR, DC>(kit, job.state, x, scratch);
                row_slopes(kit, head, job.extent, some.clone(), scratch, &mut found);
                if wanted {
                    divide::<V>(kit, some.len(), scratch, &mut found.terms);
                }
            } else if wanted {
                let masses = scratch.masses.ptr();
                derive_tile::<V, DR, DC>(kit, job.state, x, masses, scratch);
            }
            if let Some(to) = &job.query {
                add_columns::<V>(to, some.clone(), dim, scratch.turning());
            }
            let tile = (scratch.rows.ptr().cast_const(), scratch.masses.ptr().cast_const());
            absorb::<V, R, C>(slopes, &mut scratch.work, x, tile, kit.factors.as_ptr());
        }
        found.counts.tiles += 1;
    }
    let passes = 1 + u64::from(job.upstream.sums.is_none() || wanted);
    found.counts.flops = kit.flops(job.rows.len()) * passes;
    let bytes = head.query.bytes(job.rows.len()) + job.upstream.rows.bytes(job.rows.len());
    found.counts.bytes_read = bytes;
    found
}

/// Slopes of the coordinates of a tile of tokens, into `slopes`, from those of rows in `turned` and of masses.
///
/// # Safety
///
/// State and scratch must be of the kit, and `x` a tile of tokens; the instruction set must be enabled.
#[inline(always)]
pub unsafe fn derive_tile<V: Lanes, const R: usize, const C: usize>(
    kit: &Kit<V::T>,
    state: &State<V::T>,
    x: *const V::T,
    masses: *const V::T,
    scratch: &mut Scratch<V::T>,
) {
    scratch.slopes.slice(kit.monomials.dim() * TILE).fill(V::T::ZERO);
    let (of, slopes) = ((scratch.turned.ptr().cast_const(), masses), scratch.slopes.ptr());
    // SAFETY: the caller's promises.
    unsafe { derive::<V, R, C>(state, &mut scratch.work, x, of, slopes, &kit.dead) };
}

/// What a tile of queries gets before its D are known, from dO in `turned`, all in `units`: `dO . N` in `dots`, D in `others`;
/// the two by degrees in `moments`; and their slopes in `slopes` and `mass_slopes`. Leaves zeros in
/// `masses`.
///
/// # Safety
///
/// As [`derive_tile`].
#[inline(always)]
pub unsafe fn derive_undivided<V: Lanes, const R: usize, const C: usize>(
    kit: &Kit<V::T>,
    state: &State<V::T>,
    x: *const V::T,
    scratch: &mut Scratch<V::T>,
) {
    let (dim, degrees) = (kit.monomials.dim(), &kit.degrees);
    for (buffer, rows) in [
        (&mut scratch.slopes, dim),
        (&mut scratch.mass_slopes, dim),
        (&mut scratch.moments, 2 * degrees.len()),
        (&mut scratch.dots, 1),
        (&mut scratch.others, 1),
        (&mut scratch.masses, 1),
    ] {
        buffer.slice(rows * TILE).fill(V::T::ZERO);
    }
    let of = (scratch.turned.ptr().cast_const(), scratch.masses.ptr().cast_const());
    let to = [scratch.slopes.ptr(), scratch.mass_slopes.ptr()];
    let (moments, work) = ((scratch.moments.ptr(), &degrees[..]), &mut scratch.work);
    // SAFETY: the caller's promises.
    unsafe { derive_apart::<V, R, C>(state, work, x, of, to, moments, &kit.dead) };
    let live = kit.coefficients.iter().enumerate().filter(|(_, c)| **c != 0.0);
    for (degree, _) in live {
        let rows = &scratch.moments.slice(2 * degrees.len() * TILE)[2 * degree * TILE..];
        let (dots, masses) = rows.split_at(TILE);
        for (to, from) in [(&mut scratch.dots, dots), (&mut scratch.others, masses)] {
            to.slice(TILE).iter_mut().zip(from).for_each(|(to, &x)| *to = *to + x);
        }
    }
}

/// Makes G and g of a tile out of dO in `rows` and `dO . N` in `dots`, both in `units`, and D in `others`: in `rows`
/// and `masses`; and leaves units / D in `others`.
pub fn row_slopes<T: Float>(
    kit: &Kit<T>,
    head: &Operands<'_>,
    extent: &Extent<T>,
    rows: Range<usize>,
    scratch: &mut Scratch<T>,
    found: &mut Found,
) {
    let (columns, width) = (kit.columns, kit.width);
    let norms = load::norms(scratch.tokens.slice(kit.monomials.dim() * TILE));
    for (t, i) in rows.enumerate() {
        let upstream = &mut scratch.rows.slice(TILE * columns)[t * columns..][..width];
        let keys = kit.visible.keys(i, head.key.rows()).len();
        if keys == 0 {
            upstream.fill(T::ZERO);
            scratch.masses.slice(TILE)[t] = T::ZERO;
            scratch.others.slice(TILE)[t] = T::ZERO;
            continue;
        }
        let mut mass = scratch.others.slice(TILE)[t].to_f64();
        let mut dot = scratch.dots.slice(TILE)[t].to_f64();
        found.counts.suspicious |= !mass.is_finite();
        let doubt = kit.doubt(norms[t], extent.longest, keys);
        if mass.partial_cmp(&doubt) != Some(Ordering::Greater) {
            let Some((out, sum)) = found.row(kit, head, i) else { continue };
            mass = sum;
            let rows = upstream.iter().zip(out).zip(&extent.mean);
            dot = rows.map(|((g, x), mean)| g.to_f64() * (x - mean.to_f64()) * sum).sum();
        }
        let unit = scratch.units.slice(TILE)[t].to_f64();
        let per = T::from_f64(unit / mass);
        for g in upstream {
            *g = *g * per;
        }
        scratch.masses.slice(TILE)[t] = T::from_f64(-(dot / mass) * (unit / mass));
        scratch.others.slice(TILE)[t] = per;
    }
}

/// Makes slopes of so many queries of what [`derive_undivided`] has found, in `slopes`, and adds the derivatives by
/// the coefficients, if there are any.
///
/// # Safety
///
/// The scratch must be of the kit; the instruction set must be enabled.
#[inline(always)]
pub unsafe fn divide<V: Lanes>(
    kit: &Kit<V::T>,
    queries: usize,
    scratch: &mut Scratch<V::T>,
    terms: &mut [f64],
) {
    let (slopes, by_mass) = (scratch.slopes.ptr(), scratch.mass_slopes.ptr());
    let (per, g) = (scratch.others.ptr(), scratch.masses.ptr());
    for l in 0..kit.monomials.dim() {
        for t in (0..TILE).step_by(V::N) {
            // SAFETY: rows of a tile.
            unsafe {
                let at = slopes.add(l * TILE + t);
                let of_mass = V::load(by_mass.add(l * TILE + t)).mul(V::load(g.add(t)));
                V::load(at).fma(V::load(per.add(t)), of_mass).store(at);
            }
        }
    }
    let (per, g) = (scratch.others.slice(TILE), scratch.masses.slice(TILE));
    let moments = scratch.moments.slice(2 * kit.degrees.len() * TILE).chunks_exact(2 * TILE);
    for ((term, moments), &c) in terms.iter_mut().zip(moments).zip(&kit.coefficients) {
        let of = |t: usize| {
            moments[t].to_f64() * per[t].to_f64() + moments[TILE + t].to_f64() * g[t].to_f64()
        };
        // The factors of features have the coefficient in them, unless it is zero.
        *term += (0..queries).map(of).sum::<f64>() / if c == 0.0 { 1.0 } else { c };
    }
}

/// Rows of a tile as columns.
///
/// # Safety
///
/// `from` must have [`TILE`] rows, `to` room for as many columns and a vector more; the instruction set must be
/// enabled.
#[inline(always)]
pub unsafe fn turn<V: Lanes>(from: *const V::T, columns: usize, to: *mut V::T) {
    // SAFETY: the caller's promises.
    unsafe {
        let rows = std::slice::from_raw_parts(from, TILE * columns);
        let rows = MatRef::from_slice(rows, TILE, columns);
        pack::transposed_rows::<V, _>(&rows, 0..TILE, TILE, V::T::ONE, to);
    }
}

/// Adds columns of slopes, as rows. Overwrites `turned`.
///
/// # Safety
///
/// No other task may write the rows; there must be `dim` columns of [`TILE`], and room in `turned` for a tile of
/// rows of `dim` numbers, padded to a multiple of 16; the instruction set must be enabled.
#[inline(always)]
pub unsafe fn add_columns<V: Lanes>(
    to: &MatCell<'_, V::T>,
    rows: Range<usize>,
    dim: usize,
    (slopes, turned): (*const V::T, *mut V::T),
) {
    let stride = dim.next_multiple_of(16);
    if dim == 0 {
        return;
    }
    // SAFETY: the caller's promises.
    unsafe {
        let columns = MatRef::from_slice(std::slice::from_raw_parts(slopes, dim * TILE), dim, TILE);
        pack::transposed_rows::<V, _>(&columns, 0..dim, stride, V::T::ONE, turned);
        add_rows(to, rows, stride, turned);
    }
}

/// Adds rows of `stride` numbers.
///
/// # Safety
///
/// No other task may write the rows; `from` must have as many.
pub unsafe fn add_rows<T: Float>(
    to: &MatCell<'_, T>,
    rows: Range<usize>,
    stride: usize,
    from: *const T,
) {
    for (t, i) in rows.enumerate() {
        // SAFETY: the caller's promises.
        let (row, from) =
            unsafe { (to.row_mut(i), std::slice::from_raw_parts(from.add(t * stride), stride)) };
        row.iter_mut().zip(from).for_each(|(to, &x)| *to = *to + x);
    }
}
