//! The gradient of the weights of products, added up over columns in the frequency domain.

use super::columns;
use super::product::{Groups, refuse};
use super::spectra::unit;
use super::{Extent, Transform};
use crate::linalg::fft::{From, Given, Job, Part, Plan, Sum, Taken, To, embedding_length, span};
use crate::mat::{MatCell, MatRef};
use crate::par::{Par, Pulse};
use crate::scratch::{Buffer, Pool};
use crate::simd::Isa;
use crate::{Error, Result};

/// Parts of the sum over the columns of all matrices, at most.
const PARTS: usize = 16;

/// Adds to row `which[m]` of `grad_weights` the gradient of `sum(grad_out[m] * (T x[m]))`: to the weight of a
/// lag, the sum over `i - j = lag` of `grad_out[m][i] . x[m][j]`. For `T^t x`, exchange `grad_out` and `x`.
///
/// # Errors
///
/// [`Error::Shape`] if shapes do not fit, [`Error::NonFinite`] if a result is not finite, [`Error::Stopped`].
pub fn product_grad<T: Transform>(
    grad_out: &[MatRef<'_, T>],
    x: &[MatRef<'_, T>],
    which: &[usize],
    grad_weights: &MatCell<'_, T>,
    par: Par<'_>,
) -> Result<()> {
    Error::unless_equal("x", "N", grad_out.len(), x.len())?;
    Error::unless_equal("grad_weights", "N", grad_out.len(), which.len())?;
    let Some((first, other)) = grad_out.first().zip(x.first()) else { return Ok(()) };
    let extent = Extent { rows: first.rows(), columns: other.rows() };
    for (g, x) in grad_out.iter().zip(x) {
        Error::unless_equal("grad_out", "L", extent.rows, g.rows())?;
        Error::unless_equal("x", "S", extent.columns, x.rows())?;
        Error::unless_equal("grad_out", "C", first.cols(), g.cols())?;
        Error::unless_equal("x", "C", first.cols(), x.cols())?;
    }
    if extent.rows == 0 || extent.columns == 0 || first.cols() == 0 {
        return Ok(());
    }
    Error::unless_equal("grad_weights", "L + S - 1", extent.lags(), grad_weights.cols())?;
    let isa = Isa::detect();
    let plan = Plan::shared(embedding_length(extent.lags()));
    let groups = Groups::new(which, grad_weights.rows(), first.cols(), T::lanes(isa));
    let unit = unit(&plan);
    let call = Call { isa, plan: &plan, unit: &unit, grad_out, x, groups: &groups };
    let tasks = parts(&groups);
    let par = par.for_work(2 * plan.work(isa) * groups.packs.len() as u64);
    let pool = Pool::new();
    let sums = par.map(tasks.len(), |i, pulse| {
        pool.with(|| Scratch::new(&plan, isa), |s| call.part(tasks[i].clone(), s, pulse))
    })?;
    let mut bad = None;
    for (task, sum) in tasks.iter().zip(sums) {
        let w = groups.packs[task.start].0;
        for index in 0..extent.lags() {
            let x = sum[extent.place(plan.n, index)];
            if !x.is_finite() {
                bad = bad.or(Some(w));
            }
            let to = grad_weights.at(w, index);
            // SAFETY: the entry exists, and no task runs.
            unsafe { *to = *to + x };
        }
    }
    refuse(bad)
}

/// Packs of one row of weights, cut into parts by their number alone.
fn parts(groups: &Groups) -> Vec<std::ops::Range<usize>> {
    let packs = &groups.packs;
    let size = packs.len().div_ceil(PARTS);
    let mut parts: Vec<std::ops::Range<usize>> = Vec::new();
    for p in 0..packs.len() {
        match parts.last_mut() {
            Some(part) if packs[part.start].0 == packs[p].0 && part.len() < size => {
                part.end = p + 1;
            }
            _ => parts.push(p..p + 1),
        }
    }
    parts
}

struct Call<'a, T> {
    isa: Isa,
    plan: &'a Plan<T>,
    unit: &'a [T],
    grad_out: &'a [MatRef<'a, T>],
    x: &'a [MatRef<'a, T>],
    groups: &'a Groups,
}

/// What a task works in: two packs, and their products.
struct Scratch<T> {
    packs: [Buffer<T>; 2],
    sum: Buffer<T>,
    rows: [Buffer<T>; 4],
}

impl<T: Transform> Scratch<T> {
    fn new(plan: &Plan<T>, isa: Isa) -> Self {
        let pack = || Buffer::new(plan.workspace(isa));
        let rows = || Buffer::new(0);
        Self { packs: [pack(), pack()], sum: pack(), rows: [rows(), rows(), rows(), rows()] }
    }
}

impl<T: Transform> Call<'_, T> {
    /// The gradient that some packs of one row of weights make, in the order of transforms.
    fn part(&self, packs: std::ops::Range<usize>, s: &mut Scratch<T>, pulse: &Pulse<'_>) -> Vec<T> {
        let (isa, plan) = (self.isa, self.plan);
        s.sum.slice(plan.workspace(isa)).fill(T::ZERO);
        let zeros = [T::ZERO; 16];
        let nothing = Taken { ptr: zeros.as_ptr(), stride: 0 };
        for p in packs {
            if pulse.stopped() {
                return vec![T::ZERO; plan.n];
            }
            let [real, imaginary] = [self.groups.group(p, 0), self.groups.group(p, 1)];
            let real = real.expect("a pack has columns");
            let [a, b, c, d] = &mut s.rows;
            let [of_x, of_grad] = &mut s.packs;
            for (x, rooms, to) in [(self.x, [a, b], of_x), (self.grad_out, [c, d], of_grad)] {
                let [first, second] = rooms;
                let re = columns::rows(isa, x, real, first);
                let im = imaginary.map_or(nothing, |group| columns::rows(isa, x, group, second));
                let from = From::Rows([re, im]);
                let rows = x[0].rows();
                let job = Job { from, rows, spectrum: &[], to: To::Frequencies, wanted: 0 };
                // SAFETY: the rows exist, and the workspace is for this plan.
                unsafe { T::run(isa, plan, &job, to.ptr()) };
            }
            let [x, g] = &mut s.packs;
            // SAFETY: all have the size of a workspace.
            unsafe { T::add_products(isa, s.sum.ptr(), x.ptr(), g.ptr(), span(plan.n)) };
        }
        back(isa, plan, self.unit, &mut s.sum)
    }
}

/// Transforms sums of products back, and adds up the lanes of their real parts: the imaginary parts are what
/// columns of different groups would contribute.
pub(super) fn back<T: Transform>(
    isa: Isa,
    plan: &Plan<T>,
    unit: &[T],
    sum: &mut Buffer<T>,
) -> Vec<T> {
    let mut out = vec![T::ZERO; plan.n];
    let ones = [T::ONE; 16];
    let to = Given { ptr: out.as_mut_ptr(), stride: 1 };
    let dots = Part { dots: Some((to, Taken { ptr: ones.as_ptr(), stride: 0 })), ..Part::NONE };
    let to = To::Sum(Sum([dots, Part::NONE]));
    let job = Job { from: From::Frequencies, rows: 0, spectrum: unit, to, wanted: plan.n };
    // SAFETY: there is a number for every row, and the workspace is for this plan.
    unsafe { T::run(isa, plan, &job, sum.ptr()) };
    out
}
