//! What the tasks of sums over blocks share, and what each works with.

use super::super::{BLOCK, Monomials, State, TILE};
use super::abreast::Abreast;
use crate::attention::Compute;
use crate::polynomial::{SPARE, Workspace};
use crate::scratch::Buffer;
use crate::simd::{Float, Isa};
use crate::{Error, Result};

/// What sums of features are multiplied with.
#[derive(Clone, Copy)]
pub enum Terms<'a> {
    /// Nothing, up to this degree.
    Plain(usize),
    /// The coefficient of a power of the logit, and the scale of that.
    Powers(&'a [f64], f64),
}

/// Features, and where their sums are.
pub struct Frame<T> {
    pub monomials: Monomials,
    /// `c_t scale^t t! / a!` of every feature, or ones; zeros behind them.
    pub factors: Vec<T>,
    pub abreast: Abreast,
    /// As many as a row of values has.
    pub zeros: Vec<T>,
}

impl<T: Compute> Frame<T> {
    /// For tokens of so many coordinates, with so many weights each, and values of a width.
    pub fn new(
        dim: usize,
        terms: Terms<'_>,
        (weights, width): (usize, usize),
        isa: Isa,
    ) -> Result<Self> {
        let degree = match terms {
            Terms::Plain(degree) => degree,
            Terms::Powers(coefficients, _) => coefficients.len().saturating_sub(1),
        };
        let monomials = Monomials::new(dim, degree)?;
        let too_many = Error::Memory { bytes: usize::MAX };
        let abreast = Abreast::new(weights, width, T::lanes(isa)).ok_or(too_many.clone())?;
        let room = monomials.len() + BLOCK + SPARE;
        let bytes = room
            .checked_mul((2 * (abreast.columns + 1)).checked_mul(size_of::<T>()).ok_or(too_many)?)
            .ok_or(Error::Memory { bytes: usize::MAX })?;
        // An error now, where states made later could only abort.
        let probe = Vec::<u8>::new().try_reserve_exact(bytes);
        probe.map_err(|_| Error::Memory { bytes })?;
        let factors = factors(&monomials, terms, room)?;
        Ok(Self { monomials, factors, abreast, zeros: vec![T::ZERO; abreast.stride] })
    }
}

impl<T: Float> Frame<T> {
    /// Of no tokens yet.
    pub fn state(&self) -> State<T> {
        State::new(self.monomials.len(), self.abreast.columns)
    }

    /// Operations that so many tokens take in one pass.
    pub fn flops(&self, tokens: usize) -> u64 {
        let Abreast { weights, width, .. } = self.abreast;
        2 * (tokens * self.monomials.len() * weights * (width + 1)) as u64
    }
}

/// See [`Frame::factors`].
fn factors<T: Float>(monomials: &Monomials, terms: Terms<'_>, room: usize) -> Result<Vec<T>> {
    let mut factors = Vec::new();
    let refused = Error::Memory { bytes: room * size_of::<T>() };
    factors.try_reserve_exact(room).map_err(|_| refused)?;
    match terms {
        Terms::Plain(_) => factors.resize(monomials.len(), T::ONE),
        Terms::Powers(coefficients, scale) => monomials.for_each_weight(|t, _, weight| {
            factors.push(T::from_f64(weight * (scale.powi(t as i32) * coefficients[t])));
        }),
    }
    factors.resize(room, T::ZERO);
    Ok(factors)
}

/// Workspace of a task.
pub struct BlockScratch<T> {
    pub work: Workspace<T>,
    /// A row of [`TILE`] numbers for every coordinate, and as much for slopes.
    pub tokens: Buffer<T>,
    pub slopes: Buffer<T>,
    /// A row of values for every token, and a mass.
    pub values: Buffer<T>,
    pub masses: Buffer<T>,
    /// A row of [`TILE`] numbers for every weight.
    pub weights: Buffer<T>,
    /// Rows of all weights abreast, the same with a row for every column, and masses.
    pub packed: Buffer<T>,
    pub turned: Buffer<T>,
    /// Slopes of coordinates as rows.
    pub columns: Buffer<T>,
    pub packed_masses: Buffer<T>,
    /// What is read from sums: rows of all weights abreast, and masses.
    pub read: Buffer<T>,
    pub read_masses: Buffer<T>,
    /// The sums that were given.
    pub given: Option<State<T>>,
}

impl<T: Float> BlockScratch<T> {
    pub fn new(frame: &Frame<T>) -> Self {
        let (dim, Abreast { weights, stride, columns, .. }) =
            (frame.monomials.dim(), frame.abreast);
        let rows = |of: usize| Buffer::new(of * TILE);
        Self {
            work: Workspace::new(&frame.monomials),
            tokens: rows(dim + SPARE),
            slopes: rows(dim + SPARE),
            values: rows(stride),
            masses: rows(1),
            weights: rows(weights),
            packed: rows(columns),
            turned: rows(columns),
            columns: rows(dim.next_multiple_of(16)),
            packed_masses: rows(1),
            read: rows(columns),
            read_masses: rows(1),
            given: None,
        }
    }
}
