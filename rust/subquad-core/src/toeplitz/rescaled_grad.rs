//! Gradients of sums of rescaled Toeplitz matrices.

use std::ops::Range;

use super::Transform;
use super::grad::back;
use super::product::refuse;
use super::rescaled::merge;
use super::spectra::{Room, conjugate, unit};
use super::terms::{Cut, Sums, Terms};
use crate::linalg::fft::{From, Given, Job, Part, Scaled, Sum, Taken, To, span};
use crate::mat::{MatCell, MatRef};
use crate::par::{Par, Pulse};
use crate::scratch::{Buffer, Pool};
use crate::{Error, Result};

/// What gradients are added to, each where it is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Gradients<'a, T> {
    /// `n x L`.
    pub left: Option<MatCell<'a, T>>,
    /// `n x S`.
    pub right: Option<MatCell<'a, T>>,
    /// `S x C`.
    pub x: Option<MatCell<'a, T>>,
    /// `n` or one row for the lags.
    pub weights: Option<MatCell<'a, T>>,
}

/// Adds the gradients of `sum(grad_out * out)` where `out` is the sum of [`rescaled_sum`](super::rescaled_sum).
///
/// # Errors
///
/// [`Error::Shape`] if shapes do not fit, [`Error::NonFinite`] if a result is not finite, [`Error::Stopped`].
pub fn rescaled_sum_grad<T: Transform>(
    weights: &MatRef<'_, T>,
    left: &MatRef<'_, T>,
    right: &MatRef<'_, T>,
    x: &MatRef<'_, T>,
    grad_out: &MatRef<'_, T>,
    to: &Gradients<'_, T>,
    par: Par<'_>,
) -> Result<()> {
    Error::unless_equal("x", "S", right.cols(), x.rows())?;
    Error::unless_equal("grad_out", "L", left.cols(), grad_out.rows())?;
    Error::unless_equal("grad_out", "C", x.cols(), grad_out.cols())?;
    for (name, to, like) in [
        ("grad_left", &to.left, left),
        ("grad_right", &to.right, right),
        ("grad_x", &to.x, x),
        ("grad_weights", &to.weights, weights),
    ] {
        if let Some(to) = to {
            Error::unless_equal(name, "number of rows", like.rows(), to.rows())?;
            Error::unless_equal(name, "number of columns", like.cols(), to.cols())?;
        }
    }
    let Some(terms) = Terms::new(weights, left, right, x.cols())? else { return Ok(()) };
    let (cut, cut_grad) = (terms.cut(x), terms.cut(grad_out));
    let par = par.for_work(2 * terms.plan.work(terms.isa) * terms.packs() as u64);
    let shared = terms.spectrum();
    let call = Call {
        terms: &terms,
        x: &cut,
        grad_out: &cut_grad,
        spectrum: shared.map(|spectrum| (conjugate(&spectrum), spectrum)),
        unit: unit(&terms.plan),
        to,
        pool: Pool::new(),
    };
    let parts = par.map(terms.parts.len(), |i, pulse| call.part(terms.parts[i].clone(), pulse))?;
    let (mut sums, mut lags) = (Vec::new(), Vec::new());
    for part in parts {
        sums.extend(part.x);
        lags.push(part.weights);
    }
    if let Some(to) = &to.x {
        merge(&terms, &sums, 1, to, par)?;
    }
    if let (Some(to), true) = (&to.weights, terms.share()) {
        for lags in &lags {
            terms.add_lags(lags, to, 0);
        }
    }
    check(to)
}

/// Refuses gradients that are not finite.
fn check<T: Transform>(to: &Gradients<'_, T>) -> Result<()> {
    for cell in [&to.left, &to.right, &to.weights].into_iter().flatten() {
        // SAFETY: no task runs any more.
        let view = unsafe { cell.as_ref() };
        let finite = |t: &usize| (0..view.cols()).all(|i| view.get(*t, i).is_finite());
        refuse((0..view.rows()).find(|t| !finite(t)))?;
    }
    Ok(())
}

impl<T: Transform> Terms<'_, T> {
    /// Adds numbers in the order of transforms to those of the lags.
    fn add_lags(&self, from: &[T], to: &MatCell<'_, T>, row: usize) {
        if from.is_empty() {
            return;
        }
        for index in 0..self.extent.lags() {
            let to = to.at(row, index);
            // SAFETY: the entry exists, and is ours: no other task has the row.
            unsafe { *to = *to + from[self.extent.place(self.plan.n, index)] };
        }
    }
}

struct Call<'a, T> {
    terms: &'a Terms<'a, T>,
    x: &'a Cut<T>,
    grad_out: &'a Cut<T>,
    /// The conjugate, and the spectrum, if all terms share it.
    spectrum: Option<(Vec<T>, Vec<T>)>,
    unit: Vec<T>,
    to: &'a Gradients<'a, T>,
    pool: Pool<Scratch<T>>,
}

/// What a part finds.
struct Found<T> {
    x: Option<Sums<T>>,
    /// The gradient of shared weights in the order of transforms; empty if nobody asks.
    weights: Vec<T>,
}

struct Scratch<T> {
    /// Two packs and the sum of their products.
    packs: [Buffer<T>; 2],
    products: Buffer<T>,
    /// Terms in lanes, for the two groups of a pack: factors, and gradients.
    left: [Buffer<T>; 2],
    right: [Buffer<T>; 2],
    grad_left: [Buffer<T>; 2],
    grad_right: [Buffer<T>; 2],
}

impl<T: Transform> Scratch<T> {
    fn new(terms: &Terms<'_, T>, products: bool) -> Self {
        let size = terms.plan.workspace(terms.isa);
        let none = || [Buffer::new(0), Buffer::new(0)];
        let other = if products { size } else { 0 };
        Self {
            packs: [Buffer::new(size), Buffer::new(other)],
            products: Buffer::new(other),
            left: none(),
            right: none(),
            grad_left: none(),
            grad_right: none(),
        }
    }
}

/// Both directions of a pack: what is convolved with the weights and where it goes, and the same for the
/// transposed matrices.
struct Pack<T> {
    forth: ([Scaled<T>; 2], [Part<T>; 2]),
    back: ([Scaled<T>; 2], [Part<T>; 2]),
}

impl<T: Transform> Call<'_, T> {
    fn part(&self, range: Range<usize>, pulse: &Pulse<'_>) -> Found<T> {
        let (terms, lanes) = (self.terms, T::lanes(self.terms.isa));
        let count = terms.groups + terms.single;
        let mut x = self.to.x.map(|_| Sums::new(terms.extent.columns, lanes, count));
        let make = || Scratch::new(terms, self.to.weights.is_some());
        let weights = self.pool.with(make, |s| {
            s.clear();
            let Some((conjugate, spectrum)) = &self.spectrum else {
                self.own(range, &mut x, s, pulse);
                return Vec::new();
            };
            let spectra = (&spectrum[..], &conjugate[..]);
            for t in range.clone().step_by(2) {
                for g in 0..terms.groups {
                    if pulse.stopped() {
                        return Vec::new();
                    }
                    let also = (t + 1 < range.end).then_some((t + 1, g));
                    let pack = self.pack([Some((t, g)), also], &mut x);
                    self.run(spectra, &pack, s);
                }
            }
            if terms.single > 0 {
                for t in range.clone().step_by(2 * lanes) {
                    let some = t..range.end.min(t + 2 * lanes);
                    self.lanes(spectra, some, &mut x, s, pulse);
                }
            }
            self.lags(s)
        });
        Found { x, weights }
    }

    /// Terms with weights of their own.
    fn own(
        &self,
        range: Range<usize>,
        x: &mut Option<Sums<T>>,
        s: &mut Scratch<T>,
        pulse: &Pulse<'_>,
    ) {
        let terms = self.terms;
        let mut room = Room::new(&terms.plan, terms.isa);
        for t in range {
            if pulse.stopped() {
                return;
            }
            let spectrum = room.spectrum(terms.extent, (&terms.weights, t), false);
            let conjugate = conjugate(&spectrum);
            for g in (0..terms.groups).step_by(2) {
                let also = (g + 1 < terms.groups).then_some((t, g + 1));
                let pack = self.pack([Some((t, g)), also], x);
                self.run((&spectrum, &conjugate), &pack, s);
            }
            if let Some(to) = &self.to.weights {
                terms.add_lags(&self.lags(s), to, t);
                s.clear();
            }
        }
    }

    /// The gradient of weights from the products so far, if anybody asks.
    fn lags(&self, s: &mut Scratch<T>) -> Vec<T> {
        match self.to.weights {
            Some(_) => back(self.terms.isa, &self.terms.plan, &self.unit, &mut s.products),
            None => Vec::new(),
        }
    }

    /// A pack of at most two groups, each a term and its columns.
    fn pack(&self, groups: [Option<(usize, usize)>; 2], x: &mut Option<Sums<T>>) -> Pack<T> {
        let terms = self.terms;
        let zero = Taken { ptr: self.unit[1..].as_ptr(), stride: 0 };
        let given = |cell: &Option<MatCell<'_, T>>, t: usize| {
            cell.map(|cell| Given { ptr: cell.at(t, 0), stride: cell.strides().1 })
        };
        let mut pack = Pack::empty();
        for i in 0..2 {
            let Some((t, g)) = groups[i] else {
                // Nothing, so that products of spectra get nothing either.
                let (_, g) = groups[0].expect("a pack has columns");
                pack.forth.0[i] = Scaled { rows: self.x.group(g), by: zero };
                pack.back.0[i] = Scaled { rows: self.grad_out.group(g), by: zero };
                continue;
            };
            let (right, left) = (Terms::numbers(&terms.right, t), Terms::numbers(&terms.left, t));
            let (rows, grads) = (self.x.group(g), self.grad_out.group(g));
            pack.forth.0[i] = Scaled { rows, by: right };
            pack.forth.1[i].dots = given(&self.to.left, t).map(|to| (to, grads));
            pack.back.0[i] = Scaled { rows: grads, by: left };
            pack.back.1[i].dots = given(&self.to.right, t).map(|to| (to, rows));
            pack.back.1[i].scaled = x.as_mut().map(|x| (x.at(g), right));
        }
        pack
    }

    /// The columns left over, with terms in the lanes.
    fn lanes(
        &self,
        spectra: (&[T], &[T]),
        range: Range<usize>,
        x: &mut Option<Sums<T>>,
        s: &mut Scratch<T>,
        pulse: &Pulse<'_>,
    ) {
        let (terms, lanes) = (self.terms, T::lanes(self.terms.isa));
        let middle = range.end.min(range.start + lanes);
        let halves = [range.start..middle, middle..range.end];
        let (rows, columns) = (terms.extent.rows, terms.extent.columns);
        for i in 0..2 {
            terms.lanes(&terms.left, halves[i].clone(), &mut s.left[i]);
            terms.lanes(&terms.right, halves[i].clone(), &mut s.right[i]);
            for (room, rows) in [(&mut s.grad_left[i], rows), (&mut s.grad_right[i], columns)] {
                super::columns::prepare(room, rows * lanes);
                room.slice(rows * lanes).fill(T::ZERO);
            }
        }
        let stride = lanes as isize;
        let taken = |room: &Buffer<T>| Taken { ptr: room.as_ptr(), stride };
        for column in 0..terms.single {
            if pulse.stopped() {
                return;
            }
            let (numbers, grads) = (self.x.single(column), self.grad_out.single(column));
            let mut pack = Pack::empty();
            for i in 0..2 {
                let (left, right) = (taken(&s.left[i]), taken(&s.right[i]));
                pack.forth.0[i] = Scaled { rows: right, by: numbers };
                pack.back.0[i] = Scaled { rows: left, by: grads };
                if halves[i].is_empty() {
                    continue;
                }
                let given = |room: &mut Buffer<T>| Given { ptr: room.ptr(), stride };
                pack.forth.1[i].scaled = self.to.left.map(|_| (given(&mut s.grad_left[i]), grads));
                pack.back.1[i].scaled =
                    self.to.right.map(|_| (given(&mut s.grad_right[i]), numbers));
                pack.back.1[i].times = x.as_mut().map(|x| (x.at(terms.groups + column), right));
            }
            self.run(spectra, &pack, s);
        }
        for i in 0..2 {
            for (cell, room) in
                [(&self.to.left, &mut s.grad_left[i]), (&self.to.right, &mut s.grad_right[i])]
            {
                let Some(cell) = cell else { continue };
                let from = room.slice(cell.cols() * lanes);
                for (lane, t) in halves[i].clone().enumerate() {
                    for k in 0..cell.cols() {
                        let to = cell.at(t, k);
                        // SAFETY: the entry exists, and no other task has this term.
                        unsafe { *to = *to + from[k * lanes + lane] };
                    }
                }
            }
        }
    }

    /// Convolves both ways, as far as anybody asks for what comes of it.
    fn run(&self, (spectrum, conjugate): (&[T], &[T]), pack: &Pack<T>, s: &mut Scratch<T>) {
        let Terms { isa, plan, extent, .. } = self.terms;
        let [first, second] = &mut s.packs;
        let is_wanted = |parts: &[Part<T>; 2]| parts.iter().any(Part::is_something);
        let ((forth, forth_to), (back, back_to)) = (&pack.forth, &pack.back);
        let (rows, wanted) = (extent.columns, extent.rows);
        let job = |from, spectrum, to, transpose: bool| {
            let (rows, wanted) = if transpose { (wanted, rows) } else { (rows, wanted) };
            Job { from, rows, spectrum, to, wanted }
        };
        // SAFETY: rows and numbers exist; what is written belongs to the terms of this task, or to its
        // scratch; the workspaces are for this plan.
        unsafe {
            if self.to.weights.is_none() {
                for (from, parts, spectrum, transpose) in
                    [(forth, forth_to, spectrum, false), (back, back_to, conjugate, true)]
                {
                    if is_wanted(parts) {
                        let to = To::Sum(Sum(*parts));
                        let job = job(From::Scaled(*from), spectrum, to, transpose);
                        T::run(*isa, plan, &job, first.ptr());
                    }
                }
                return;
            }
            for (from, work, transpose) in [(forth, first.ptr(), false), (back, second.ptr(), true)]
            {
                let job = job(From::Scaled(*from), spectrum, To::Frequencies, transpose);
                T::run(*isa, plan, &job, work);
            }
            T::add_products(*isa, s.products.ptr(), first.ptr(), second.ptr(), span(plan.n));
            for (parts, spectrum, work, transpose) in
                [(forth_to, spectrum, first.ptr(), false), (back_to, conjugate, second.ptr(), true)]
            {
                if is_wanted(parts) {
                    let job = job(From::Frequencies, spectrum, To::Sum(Sum(*parts)), transpose);
                    T::run(*isa, plan, &job, work);
                }
            }
        }
    }
}

impl<T: Transform> Scratch<T> {
    /// Forgets products.
    fn clear(&mut self) {
        let len = self.products.len();
        self.products.slice(len).fill(T::ZERO);
    }
}

impl<T> Pack<T> {
    /// To be filled.
    fn empty() -> Self {
        let nothing = Taken { ptr: std::ptr::null(), stride: 0 };
        let side = || {
            let from = Scaled { rows: nothing, by: nothing };
            ([from, from], [Part::NONE, Part::NONE])
        };
        Self { forth: side(), back: side() }
    }
}
