//! Sums of Toeplitz matrices whose rows and columns are scaled.

use std::ops::Range;

use super::Transform;
use super::product::refuse;
use super::spectra::Room;
use super::terms::{Cut, Sums, Terms};
use crate::linalg::fft::{From, Job, Part, Scaled, Sum, To};
use crate::mat::{MatCell, MatRef};
use crate::par::{Par, Pulse};
use crate::scratch::{Buffer, Pool};
use crate::{Error, Result};

/// Rows of the result that a task adds up.
const ROWS: usize = 1024;

/// `out += sum_t diag(left[t]) T_t diag(right[t]) x`, of shape `L x C`, where `left` is `n x L`, `right` `n x S`
/// for n terms, and `weights` has a row for every term or one for all.
///
/// Terms are not added up one by one: each of at most 16 parts has a sum of its own, of the size of `out` with
/// whole vectors for columns.
///
/// # Errors
///
/// [`Error::Shape`] if shapes do not fit, [`Error::NonFinite`] if a result is not finite, [`Error::Stopped`].
pub fn rescaled_sum<T: Transform>(
    weights: &MatRef<'_, T>,
    left: &MatRef<'_, T>,
    right: &MatRef<'_, T>,
    x: &MatRef<'_, T>,
    out: &MatCell<'_, T>,
    par: Par<'_>,
) -> Result<()> {
    Error::unless_equal("x", "S", right.cols(), x.rows())?;
    Error::unless_equal("out", "L", left.cols(), out.rows())?;
    Error::unless_equal("out", "C", x.cols(), out.cols())?;
    let Some(terms) = Terms::new(weights, left, right, x.cols())? else { return Ok(()) };
    let cut = terms.cut(x);
    let par = par.for_work(terms.plan.work(terms.isa) * terms.packs() as u64);
    let shared = terms.spectrum();
    let call = Call { terms: &terms, cut: &cut, spectrum: shared.as_deref(), pool: Pool::new() };
    // Terms with weights of their own need them for all their groups.
    let across = if terms.share() { terms.groups + terms.single } else { 1 };
    let sums = par.map(terms.parts.len() * across, |task, pulse| {
        call.part(terms.parts[task / across].clone(), task % across, pulse)
    })?;
    merge(&terms, &sums, across, out, par)
}

/// Adds the sums of the parts in their order.
pub(super) fn merge<T: Transform>(
    terms: &Terms<'_, T>,
    sums: &[Sums<T>],
    across: usize,
    out: &MatCell<'_, T>,
    par: Par<'_>,
) -> Result<()> {
    let lanes = T::lanes(terms.isa);
    let finite = par.map(out.rows().div_ceil(ROWS), |task, _| {
        let mut finite = true;
        for i in task * ROWS..out.rows().min((task + 1) * ROWS) {
            for g in 0..terms.groups + terms.single {
                let mut row = [T::ZERO; 16];
                for part in sums.chunks_exact(across) {
                    let from = if across == 1 { part[0].row(g, i) } else { part[g].row(0, i) };
                    row.iter_mut().zip(from).for_each(|(sum, &x)| *sum = *sum + x);
                }
                let (first, count) = if g < terms.groups {
                    (g * lanes, lanes.min(out.cols() - g * lanes))
                } else {
                    row[0] = row[..lanes].iter().fold(T::ZERO, |sum, &x| sum + x);
                    (terms.groups * lanes + g - terms.groups, 1)
                };
                for (c, &x) in row[..count].iter().enumerate() {
                    finite &= x.is_finite();
                    let to = out.at(i, first + c);
                    // SAFETY: the entry exists, and no other task has this row.
                    unsafe { *to = *to + x };
                }
            }
        }
        finite
    })?;
    refuse(finite.iter().position(|finite| !finite))
}

struct Call<'a, T> {
    terms: &'a Terms<'a, T>,
    cut: &'a Cut<T>,
    spectrum: Option<&'a [T]>,
    pool: Pool<Scratch<T>>,
}

struct Scratch<T> {
    work: Buffer<T>,
    left: [Buffer<T>; 2],
    right: [Buffer<T>; 2],
}

impl<T: Transform> Call<'_, T> {
    /// The sum over some terms: of one group if they share their weights, else of all.
    fn part(&self, range: Range<usize>, group: usize, pulse: &Pulse<'_>) -> Sums<T> {
        let terms = self.terms;
        let count = if terms.share() { 1 } else { terms.groups };
        let mut sums = Sums::new(terms.extent.rows, T::lanes(terms.isa), count);
        let make = || {
            let room = || [Buffer::new(0), Buffer::new(0)];
            let work = Buffer::new(terms.plan.workspace(terms.isa));
            Scratch { work, left: room(), right: room() }
        };
        self.pool.with(make, |s| match self.spectrum {
            Some(spectrum) if group < terms.groups => {
                for t in range.clone().step_by(2).take_while(|_| !pulse.stopped()) {
                    let also = (t + 1 < range.end).then_some((t + 1, group));
                    self.pack(spectrum, [Some((t, group)), also], &mut sums, [0, 0], s);
                }
            }
            Some(spectrum) => {
                let step = 2 * T::lanes(terms.isa);
                for t in range.clone().step_by(step).take_while(|_| !pulse.stopped()) {
                    let some = t..range.end.min(t + step);
                    self.lanes(spectrum, some, group - terms.groups, &mut sums, s);
                }
            }
            None => self.own(range, &mut sums, s, pulse),
        });
        sums
    }

    /// Terms with weights of their own.
    fn own(&self, range: Range<usize>, sums: &mut Sums<T>, s: &mut Scratch<T>, pulse: &Pulse<'_>) {
        let terms = self.terms;
        let mut room = Room::new(&terms.plan, terms.isa);
        for t in range {
            if pulse.stopped() {
                return;
            }
            let spectrum = room.spectrum(terms.extent, (&terms.weights, t), false);
            for g in (0..terms.groups).step_by(2) {
                let also = (g + 1 < terms.groups).then_some((t, g + 1));
                self.pack(&spectrum, [Some((t, g)), also], sums, [g, g + 1], s);
            }
        }
    }

    /// A pack of at most two groups, each a term and its columns, added to sums.
    fn pack(
        &self,
        spectrum: &[T],
        groups: [Option<(usize, usize)>; 2],
        sums: &mut Sums<T>,
        to: [usize; 2],
        s: &mut Scratch<T>,
    ) {
        let terms = self.terms;
        let of = |group: Option<(usize, usize)>| {
            let (t, g) = group.or(groups[0]).expect("a pack has columns");
            Scaled { rows: self.cut.group(g), by: Terms::numbers(&terms.right, t) }
        };
        let parts = [0, 1].map(|i| match groups[i] {
            None => Part::NONE,
            Some((t, _)) => {
                let by = Terms::numbers(&terms.left, t);
                Part { scaled: Some((sums.at(to[i]), by)), ..Part::NONE }
            }
        });
        self.run(spectrum, groups.map(of), parts, &mut s.work);
    }

    /// A column of some terms, a lane for each.
    fn lanes(
        &self,
        spectrum: &[T],
        range: Range<usize>,
        column: usize,
        sums: &mut Sums<T>,
        s: &mut Scratch<T>,
    ) {
        let (terms, lanes) = (self.terms, T::lanes(self.terms.isa));
        let middle = range.end.min(range.start + lanes);
        let halves = [range.start..middle, middle..range.end];
        for i in 0..2 {
            terms.lanes(&terms.left, halves[i].clone(), &mut s.left[i]);
            terms.lanes(&terms.right, halves[i].clone(), &mut s.right[i]);
        }
        let row = |room: &Buffer<T>| crate::linalg::fft::Taken {
            ptr: room.as_ptr(),
            stride: lanes as isize,
        };
        let by = self.cut.single(column);
        let from = [0, 1].map(|i| Scaled { rows: row(&s.right[i]), by });
        let parts = [0, 1].map(|i| {
            let times = (sums.at(0), row(&s.left[i]));
            let times = (!halves[i].is_empty()).then_some(times);
            Part { times, ..Part::NONE }
        });
        self.run(spectrum, from, parts, &mut s.work);
    }

    fn run(&self, spectrum: &[T], from: [Scaled<T>; 2], parts: [Part<T>; 2], work: &mut Buffer<T>) {
        let Terms { isa, plan, extent, .. } = self.terms;
        let job = Job {
            from: From::Scaled(from),
            rows: extent.columns,
            spectrum,
            to: To::Sum(Sum(parts)),
            wanted: extent.rows,
        };
        // SAFETY: rows and numbers exist, the sums are the task's own, the workspace is for this plan.
        unsafe { T::run(*isa, plan, &job, work.ptr()) };
    }
}
