//! What a call is asked for, and whether it fits.

use super::Weighed;
use super::frame::{Frame, Terms};
use super::visit::Wanted;
use crate::attention::{Compute, check_distinct};
use crate::mat::{MatCell, Rows};
use crate::simd::Isa;
use crate::{Error, Result};

/// An argument, and its matrices.
pub type Named<'a, M> = (&'static str, &'a [M]);

/// Whatever the four functions ask for: see [`Visit`](super::Visit).
pub struct Work<'a, T> {
    pub tokens: Named<'a, Rows<'a>>,
    pub weights: Named<'a, Rows<'a>>,
    pub block: usize,
    pub terms: Terms<'a>,
    pub values: Option<Named<'a, Rows<'a>>>,
    pub masses: Option<Named<'a, Rows<'a>>>,
    /// Sums and masses for every head, block and weight: what is read, and what is added to.
    pub given: Option<[Named<'a, Rows<'a>>; 2]>,
    pub own: Option<[Named<'a, MatCell<'a, T>>; 2]>,
    pub rows: Option<Named<'a, MatCell<'a, T>>>,
    pub row_masses: Option<Named<'a, MatCell<'a, T>>>,
    pub tokens_to: Option<Named<'a, MatCell<'a, T>>>,
    pub weights_to: Option<Named<'a, MatCell<'a, T>>>,
}

impl<'a, T: Compute> Work<'a, T> {
    pub fn new(name: &'static str, of: Weighed<'a>, terms: Terms<'a>) -> Self {
        Self {
            tokens: (name, of.tokens),
            weights: ("weights", of.weights),
            block: of.block,
            terms,
            values: None,
            masses: None,
            given: None,
            own: None,
            rows: None,
            row_masses: None,
            tokens_to: None,
            weights_to: None,
        }
    }

    /// What is wanted for the tokens of a head.
    pub fn wanted(&self, h: usize) -> Wanted<'a, T> {
        let of = |named: Option<Named<'a, MatCell<'a, T>>>| named.map(|(_, cells)| cells[h]);
        Wanted {
            rows: of(self.rows),
            masses: of(self.row_masses),
            tokens: of(self.tokens_to),
            weights: of(self.weights_to),
        }
    }

    /// Passes over the features.
    pub fn passes(&self) -> u64 {
        let reads = self.rows.is_some() || self.row_masses.is_some() || self.weights_to.is_some();
        [reads, self.tokens_to.is_some(), self.own.is_some()].into_iter().map(u64::from).sum()
    }

    /// What all tasks share, if everything fits; nothing if there are no heads.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], [`Error::Domain`], [`Error::Memory`].
    pub fn frame(&self, isa: Isa) -> Result<Option<Frame<T>>> {
        if self.block == 0 {
            return Err(Error::Domain { name: "block", requires: "at least 1", found: 0.0 });
        }
        let heads = self.tokens.1.len();
        let (n, dim) = self.tokens.1.first().map_or((0, 0), of_rows);
        let weights = self.weights.1.first().map_or(1, Rows::rows);
        if weights == 0 {
            let requires = "at least one for every token";
            return Err(Error::Domain { name: "weights", requires, found: 0.0 });
        }
        let width = match (&self.values, &self.rows) {
            (Some((_, values)), _) => values.first().map(Rows::cols),
            (_, Some((_, rows))) => rows.first().map(MatCell::cols),
            _ => None,
        };
        let width = width.unwrap_or(0);
        let blocks = heads * n.div_ceil(self.block) * weights;
        check(self.tokens, heads, (n, dim), of_rows)?;
        check(self.weights, heads, (weights, n), of_rows)?;
        for (named, shape) in [(self.values, (n, width)), (self.masses, (n, 1))] {
            named.map_or(Ok(()), |named| check(named, heads, shape, of_rows))?;
        }
        for (named, shape) in [
            (self.rows, (n, width)),
            (self.row_masses, (n, 1)),
            (self.tokens_to, (n, dim)),
            (self.weights_to, (weights, n)),
        ] {
            named.map_or(Ok(()), |named| check_cells(named, heads, shape))?;
        }
        if heads == 0 {
            return Ok(None);
        }
        let frame = Frame::new(dim, self.terms, (weights, width), isa)?;
        let features = frame.monomials.len();
        let shapes = [(features, width), (features, 1)];
        for (named, shape) in self.given.iter().flatten().zip(shapes) {
            check(*named, blocks, shape, of_rows)?;
        }
        for (named, shape) in self.own.iter().flatten().zip(shapes) {
            check_cells(*named, blocks, shape)?;
        }
        Ok(Some(frame))
    }
}

fn of_rows(rows: &Rows<'_>) -> (usize, usize) {
    (rows.rows(), rows.cols())
}

fn check<M>(
    (name, all): Named<'_, M>,
    count: usize,
    (rows, columns): (usize, usize),
    shape: fn(&M) -> (usize, usize),
) -> Result<()> {
    Error::unless_equal(name, "matrices", count, all.len())?;
    for one in all {
        let found = shape(one);
        Error::unless_equal(name, "rows", rows, found.0)?;
        Error::unless_equal(name, "columns", columns, found.1)?;
    }
    Ok(())
}

/// As [`check`], for what is written.
fn check_cells<T>(
    named: Named<'_, MatCell<'_, T>>,
    count: usize,
    shape: (usize, usize),
) -> Result<()> {
    let (name, cells) = named;
    check(named, count, shape, |cell| (cell.rows(), cell.cols()))?;
    let scattered = |cell: &&MatCell<'_, T>| cell.rows() > 0 && !cell.has_contiguous_rows();
    if let Some(cell) = cells.iter().find(scattered) {
        let requires = "contiguous along its last axis, a stride of 1";
        return Err(Error::Domain { name, requires, found: cell.strides().1 as f64 });
    }
    check_distinct(name, cells.iter())
}
