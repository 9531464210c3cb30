//! What sums over terms have in common: packs of groups, of columns of one term or of terms of one column.
//!
//! Terms that share their weights share a pack, one in its real parts and one in its imaginary parts. Where few
//! columns are left over from groups of as many as there are lanes, lanes are terms instead: what is a row for
//! the others is a number, and the other way round.

use std::ops::Range;

use std::sync::Arc;

use super::spectra::Room;
use super::{Extent, Transform, columns};
use crate::linalg::fft::{Plan, Taken, embedding_length};
use crate::mat::MatRef;
use crate::scratch::Buffer;
use crate::simd::Isa;
use crate::{Error, Result};

/// Most parts of a sum over terms, each with sums of its own.
const PARTS: usize = 16;

/// Arguments that all sums over terms have.
pub(super) struct Terms<'a, T> {
    pub isa: Isa,
    pub plan: Arc<Plan<T>>,
    pub extent: Extent,
    pub weights: MatRef<'a, T>,
    pub left: MatRef<'a, T>,
    pub right: MatRef<'a, T>,
    /// How many groups of columns there are, and how many columns have terms in their lanes.
    pub groups: usize,
    pub single: usize,
    pub parts: Vec<Range<usize>>,
}

impl<'a, T: Transform> Terms<'a, T> {
    /// Nothing if there is nothing to add up.
    pub fn new(
        weights: &MatRef<'a, T>,
        left: &MatRef<'a, T>,
        right: &MatRef<'a, T>,
        columns: usize,
    ) -> Result<Option<Self>> {
        let (terms, isa) = (left.rows(), Isa::detect());
        Error::unless_equal("right", "T", terms, right.rows())?;
        if weights.rows() != 1 {
            Error::unless_equal("weights", "T", terms, weights.rows())?;
        }
        let extent = Extent { rows: left.cols(), columns: right.cols() };
        if terms == 0 || columns == 0 || extent.rows == 0 || extent.columns == 0 {
            return Ok(None);
        }
        Error::unless_equal("weights", "L + S - 1", extent.lags(), weights.cols())?;
        let lanes = T::lanes(isa);
        let (whole, rest) = (columns / lanes, columns % lanes);
        let shared = weights.rows() == 1 && terms > 1;
        let single = if shared && rest * terms.div_ceil(lanes) < terms { rest } else { 0 };
        let groups = whole + usize::from(rest > single);
        // By whole packs of terms.
        let chunks = terms.div_ceil(2 * lanes);
        let size = chunks.div_ceil(PARTS) * 2 * lanes;
        let parts = (0..terms).step_by(size).map(|t| t..terms.min(t + size)).collect();
        let plan = Plan::shared(embedding_length(extent.lags()));
        let (weights, left, right) = (*weights, *left, *right);
        Ok(Some(Self { isa, plan, extent, weights, left, right, groups, single, parts }))
    }

    /// Have all terms the same weights?
    pub fn share(&self) -> bool {
        self.weights.rows() == 1
    }

    /// The spectrum that all terms share, if they do.
    pub fn spectrum(&self) -> Option<Vec<T>> {
        if !self.share() {
            return None;
        }
        let mut room = Room::new(&self.plan, self.isa);
        Some(room.spectrum(self.extent, (&self.weights, 0), false))
    }

    /// Packs of a sum over all terms.
    pub fn packs(&self) -> usize {
        let (terms, lanes) = (self.left.rows(), T::lanes(self.isa));
        if self.share() {
            self.groups * terms.div_ceil(2) + self.single * terms.div_ceil(2 * lanes)
        } else {
            terms * self.groups.div_ceil(2)
        }
    }

    /// The groups of columns of a matrix, and the columns that are left over.
    pub fn cut(&self, x: &MatRef<'_, T>) -> Cut<T> {
        let lanes = T::lanes(self.isa);
        let groups = (0..self.groups).map(|g| {
            let end = x.cols().min((g + 1) * lanes);
            let columns: Vec<_> = (g * lanes..end).map(|c| (0, c)).collect();
            let mut room = Buffer::new(x.rows() * lanes);
            let direct = columns::rows(self.isa, &[*x], &columns, &mut room);
            if direct.ptr != room.as_ptr() {
                // Rows next to each other: a row of the matrix may be as long as a page.
                for i in 0..x.rows() {
                    // SAFETY: a row of a group has a number for every lane.
                    let row = unsafe { std::slice::from_raw_parts(direct.at(i), lanes) };
                    room.slice(x.rows() * lanes)[i * lanes..(i + 1) * lanes].copy_from_slice(row);
                }
            }
            room
        });
        let singles = (0..self.single).map(|c| {
            let mut room = Buffer::new(x.rows());
            for (i, to) in room.slice(x.rows()).iter_mut().enumerate() {
                *to = x.get(i, self.groups * lanes + c);
            }
            room
        });
        Cut { groups: groups.collect(), singles: singles.collect(), lanes }
    }

    /// Numbers of a term, one for each row.
    pub fn numbers(of: &MatRef<'_, T>, term: usize) -> Taken<T> {
        Taken { ptr: of.at(term, 0), stride: of.strides().1 }
    }

    /// Numbers of some terms as rows with a lane for each, zeros behind the last.
    pub fn lanes(&self, of: &MatRef<'_, T>, terms: Range<usize>, room: &mut Buffer<T>) {
        let lanes = T::lanes(self.isa);
        columns::prepare(room, of.cols() * lanes);
        let to = room.slice(of.cols() * lanes);
        for (lane, t) in terms.clone().enumerate() {
            for i in 0..of.cols() {
                to[i * lanes + lane] = of.get(t, i);
            }
        }
        for row in to.chunks_exact_mut(lanes) {
            row[terms.len()..].fill(T::ZERO);
        }
    }
}

/// Columns of a matrix, as packs read them.
pub(super) struct Cut<T> {
    groups: Vec<Buffer<T>>,
    singles: Vec<Buffer<T>>,
    lanes: usize,
}

impl<T: Transform> Cut<T> {
    pub fn group(&self, g: usize) -> Taken<T> {
        Taken { ptr: self.groups[g].as_ptr(), stride: self.lanes as isize }
    }

    pub fn single(&self, c: usize) -> Taken<T> {
        Taken { ptr: self.singles[c].as_ptr(), stride: 1 }
    }
}

/// Sums for every row, in as many lanes: of groups, and of the columns left over, whose lanes are to be added.
pub(super) struct Sums<T> {
    buffers: Vec<Buffer<T>>,
    rows: usize,
    lanes: usize,
}

impl<T: Transform> Sums<T> {
    pub fn new(rows: usize, lanes: usize, count: usize) -> Self {
        Self { buffers: (0..count).map(|_| Buffer::new(rows * lanes)).collect(), rows, lanes }
    }

    pub fn at(&mut self, i: usize) -> crate::linalg::fft::Given<T> {
        crate::linalg::fft::Given { ptr: self.buffers[i].ptr(), stride: self.lanes as isize }
    }

    /// Row `i` of a buffer.
    pub fn row(&self, buffer: usize, i: usize) -> &[T] {
        assert!(i < self.rows);
        // SAFETY: there are so many rows.
        unsafe {
            std::slice::from_raw_parts(
                self.buffers[buffer].as_ptr().add(i * self.lanes),
                self.lanes,
            )
        }
    }
}
