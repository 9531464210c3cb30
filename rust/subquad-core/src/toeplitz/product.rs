//! Products with Toeplitz matrices, and with transposed ones.

use super::columns::{self, Column};
use super::spectra::Room;
use super::{Extent, Transform};
use crate::linalg::fft::{From, Job, Plan, To, embedding_length};
use crate::linalg::gemm;
use crate::mat::{MatCell, MatRef};
use crate::par::Par;
use crate::scratch::{Buffer, Pool};
use crate::simd::Isa;
use crate::{Error, Result};

/// Multiplications of a plain product that take as long as one row of a transform.
const MULTIPLICATIONS_PER_ROW: usize = 40;

/// Columns that a plain product does at once.
const LEAST_COLUMNS: usize = 8;

/// `out[m] = T x[m]` of shape `L x C` where the weights of T are row `which[m]` of `weights`, one for each of
/// the `L + S - 1` lags, and `x[m]` is `S x C`. With `transpose`, `x[m]` is `L x C` and `out[m] = T^t x[m]` is
/// `S x C`. All `x` must have the shape of the first.
///
/// # Errors
///
/// [`Error::Shape`] if shapes do not fit, [`Error::NonFinite`] if a result is not finite (with the number of
/// its matrix), [`Error::Stopped`].
pub fn product<T: Transform>(
    weights: &MatRef<'_, T>,
    which: &[usize],
    x: &[MatRef<'_, T>],
    out: &[MatCell<'_, T>],
    transpose: bool,
    par: Par<'_>,
) -> Result<()> {
    let Some((from, to)) = check(weights, which, x, out)? else { return Ok(()) };
    let (rows, columns) = if transpose { (from, to) } else { (to, from) };
    let extent = Extent { rows, columns };
    Error::unless_equal("weights", "L + S - 1", extent.lags(), weights.cols())?;
    let (isa, n) = (Isa::detect(), embedding_length(extent.lags()));
    let (pack, all) = (2 * T::lanes(isa), x.len() * x[0].cols());
    // Few columns take as long as some.
    let plain = rows * columns * x.len() * x[0].cols().next_multiple_of(LEAST_COLUMNS);
    if plain <= MULTIPLICATIONS_PER_ROW * n * all.next_multiple_of(pack) {
        return plainly(weights, which, x, out, (extent, transpose), par);
    }
    let plan = Plan::shared(n);
    let call = Call { isa, plan: &plan, extent, transpose };
    let groups = Groups::new(which, weights.rows(), x[0].cols(), T::lanes(isa));
    let par = par.for_work(plan.work(isa) * groups.packs.len() as u64);
    let spectra = call.all_spectra(weights, par)?;
    call.convolve(&spectra, &groups, x, out, par)
}

/// Rows of the matrices that come and of those that go; nothing if nothing is to be computed.
fn check<T: Transform>(
    weights: &MatRef<'_, T>,
    which: &[usize],
    x: &[MatRef<'_, T>],
    out: &[MatCell<'_, T>],
) -> Result<Option<(usize, usize)>> {
    Error::unless_equal("out", "N", x.len(), out.len())?;
    Error::unless_equal("weights", "N", x.len(), which.len())?;
    let Some((first, to)) = x.first().zip(out.first()) else { return Ok(None) };
    for (x, out) in x.iter().zip(out) {
        Error::unless_equal("x", "S", first.rows(), x.rows())?;
        Error::unless_equal("x", "C", first.cols(), x.cols())?;
        Error::unless_equal("out", "C", first.cols(), out.cols())?;
        Error::unless_equal("out", "L", to.rows(), out.rows())?;
    }
    for &w in which {
        if w >= weights.rows() {
            return Err(Error::Domain {
                name: "which",
                requires: "below the number of weights",
                found: w as f64,
            });
        }
    }
    let empty = first.cols() == 0 || first.rows() == 0 || to.rows() == 0;
    Ok((!empty).then_some((first.rows(), to.rows())))
}

/// A few rows and columns: the matrix is a view of the weights.
fn plainly<T: Transform>(
    weights: &MatRef<'_, T>,
    which: &[usize],
    x: &[MatRef<'_, T>],
    out: &[MatCell<'_, T>],
    (extent, transpose): (Extent, bool),
    par: Par<'_>,
) -> Result<()> {
    let par = par.for_work(2 * (extent.rows * extent.columns * x[0].cols() * x.len()) as u64);
    let finite = par.map(x.len(), |m, _| {
        let (first, step) = (weights.at(which[m], extent.columns - 1), weights.strides().1);
        let shape = (extent.rows, extent.columns);
        // SAFETY: a step down is one to the next lag, a step right one to the lag before.
        let matrix = unsafe { MatRef::from_raw_parts(first, shape, (step, -step)) };
        let matrix = if transpose { matrix.transpose() } else { matrix };
        let mut to = out[m];
        gemm(&mut to, false, &matrix, &x[m]);
        // SAFETY: no other task has this matrix.
        let written = unsafe { to.as_ref() };
        (0..to.rows()).all(|i| (0..to.cols()).all(|j| written.get(i, j).is_finite()))
    })?;
    refuse(finite.iter().position(|finite| !finite))
}

/// Refuses a matrix whose result is not finite.
pub(super) fn refuse(matrix: Option<usize>) -> Result<()> {
    let error = |row| Error::NonFinite { name: "out", row, column: 0 };
    matrix.map_or(Ok(()), |row| Err(error(row)))
}

/// All columns, by the weights they are multiplied with, in groups and pairs of groups.
pub(super) struct Groups {
    columns: Vec<Column>,
    /// Of every pack: its weights, and the columns of its two groups.
    pub packs: Vec<(usize, [std::ops::Range<usize>; 2])>,
}

impl Groups {
    pub fn new(which: &[usize], weights: usize, cols: usize, lanes: usize) -> Self {
        let mut of_weights = vec![Vec::new(); weights];
        for (m, &w) in which.iter().enumerate() {
            of_weights[w].extend((0..cols).map(|c| (m, c)));
        }
        let (mut columns, mut packs) = (Vec::new(), Vec::new());
        for (w, of_weights) in of_weights.iter().enumerate() {
            let first = columns.len();
            columns.extend_from_slice(of_weights);
            for begin in (first..columns.len()).step_by(2 * lanes) {
                let middle = (begin + lanes).min(columns.len());
                packs.push((w, [begin..middle, middle..(middle + lanes).min(columns.len())]));
            }
        }
        Self { columns, packs }
    }

    /// The columns of a group of a pack; nothing if it has none.
    pub fn group(&self, pack: usize, part: usize) -> Option<&[Column]> {
        let group = &self.columns[self.packs[pack].1[part].clone()];
        (!group.is_empty()).then_some(group)
    }
}

/// What the tasks of a call share.
struct Call<'a, T> {
    isa: Isa,
    plan: &'a Plan<T>,
    extent: Extent,
    transpose: bool,
}

/// What a task works in.
struct Scratch<T> {
    work: Buffer<T>,
    from: [Buffer<T>; 2],
    to: [Buffer<T>; 2],
}

impl<T: Transform> Call<'_, T> {
    fn all_spectra(&self, weights: &MatRef<'_, T>, par: Par<'_>) -> Result<Vec<Vec<T>>> {
        let pool = Pool::new();
        par.map(weights.rows(), |row, pulse| {
            if pulse.stopped() {
                return Vec::new();
            }
            let make = || Room::new(self.plan, self.isa);
            pool.with(make, |room| room.spectrum(self.extent, (weights, row), self.transpose))
        })
    }

    fn convolve(
        &self,
        spectra: &[Vec<T>],
        groups: &Groups,
        x: &[MatRef<'_, T>],
        out: &[MatCell<'_, T>],
        par: Par<'_>,
    ) -> Result<()> {
        let (isa, pool) = (self.isa, Pool::new());
        let finite = par.map(groups.packs.len(), |p, pulse| {
            if pulse.stopped() {
                return true;
            }
            let make = || Scratch {
                work: Buffer::new(self.plan.workspace(isa)),
                from: [Buffer::new(0), Buffer::new(0)],
                to: [Buffer::new(0), Buffer::new(0)],
            };
            pool.with(make, |s| {
                let [real, imaginary] = [groups.group(p, 0), groups.group(p, 1)];
                let real = real.expect("a pack has columns");
                let [first, second] = &mut s.from;
                let re = columns::rows(isa, x, real, first);
                // Without a second group, what the first is in both parts.
                let im = imaginary.map_or(re, |group| columns::rows(isa, x, group, second));
                let [first, second] = &mut s.to;
                let to = columns::place(isa, out, real, first);
                let also = imaginary.map(|group| columns::place(isa, out, group, second));
                let job = Job {
                    from: From::Rows([re, im]),
                    rows: x[0].rows(),
                    spectrum: &spectra[groups.packs[p].0],
                    to: To::Rows([Some(to), also]),
                    wanted: out[0].rows(),
                };
                // SAFETY: the rows are those of the arguments or of the scratch, and no other task has
                // these columns.
                unsafe {
                    T::run(isa, self.plan, &job, s.work.ptr());
                    let mut finite = columns::deliver(out, real, to);
                    if let Some((group, also)) = imaginary.zip(also) {
                        finite &= columns::deliver(out, group, also);
                    }
                    finite
                }
            })
        })?;
        let bad = finite.iter().position(|finite| !finite);
        refuse(bad.map(|p| groups.group(p, 0).expect("a pack has columns")[0].0))
    }
}
