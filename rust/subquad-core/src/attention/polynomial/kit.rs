//! What all tasks of a call share.

use std::ops::Range;

use super::{BLOCK, Monomials, PARTS, Polynomial, State, TILE, parts};
use crate::attention::{Compute, Head, Problem, Visible};
use crate::polynomial::{SPARE, Workspace};
use crate::simd::{Bf16, Float, Isa};
use crate::{Error, Result};

/// Features, and what they are multiplied with.
pub struct Kit<T> {
    pub monomials: Monomials,
    /// `e_t scale^t t! / a!` of every feature, zeros behind them; `e_t` is the coefficient, or 1 where that
    /// is zero. Of a bivariate polynomial, `e_ku scale^(k + u) k! u! / a!`, where zeros may stay.
    pub factors: Vec<T>,
    /// Features of every degree, and of those whose coefficient is zero.
    pub degrees: Vec<Range<usize>>,
    pub dead: Vec<Range<usize>>,
    /// Width of the values, padded to whole vectors.
    pub columns: usize,
    pub width: usize,
    /// As many as there are columns.
    pub zeros: Vec<T>,
    /// Of the powers of the logit: none of a bivariate polynomial, whose weights nobody computes key by key.
    pub coefficients: Vec<f64>,
    pub scale: f64,
    /// Both as the kernels have them.
    pub terms: Vec<T>,
    pub factor: T,
    pub visible: Visible,
    /// What multiplies features of degree 2 and more, if they are rounded to bf16: only of float32.
    pub half: Option<Bf16>,
    /// Bound on the relative rounding of a sum of weights.
    rounding: f64,
}

impl<T: Compute> Kit<T> {
    /// # Panics
    ///
    /// If there are no coefficients.
    pub fn new(problem: &Problem<'_>, polynomial: Polynomial<'_>, isa: Isa) -> Result<Self> {
        let (scale, head) = (problem.scale, problem.heads.first());
        let width = head.map_or(1, |head| head.value.cols());
        let dim = head.map(|head| head.query.cols());
        let monomials = polynomial.monomials(dim, problem.visible)?;
        let columns = width.next_multiple_of(T::lanes(isa)).max(T::lanes(isa));
        let tokens = head.map_or(0, |head| head.key.rows().max(head.query.rows()));
        let needed = (monomials.len() + BLOCK + SPARE)
            .checked_mul((columns + 1) * size_of::<T>())
            .and_then(|state| state.checked_mul(parts(tokens).len() + 3))
            .ok_or(Error::Memory { bytes: usize::MAX })?;
        // An error now, where states made later could only abort.
        let probe = Vec::<u8>::new().try_reserve_exact(needed);
        probe.map_err(|_| Error::Memory { bytes: needed })?;
        let room = monomials.len() + BLOCK + SPARE;
        let factors = factors(&monomials, polynomial, scale, room)?;
        let coefficients = polynomial.of_logit().to_vec();
        let of_degree = |t| monomials.below(t)..monomials.below(t + 1);
        let degrees: Vec<_> = (0..coefficients.len()).map(of_degree).collect();
        let zero = |t: &usize| coefficients[*t] == 0.0;
        let dead = (0..coefficients.len()).filter(zero).map(of_degree).collect();
        let tiles = parts(tokens).first().map_or(0, |part| part.len().div_ceil(TILE));
        // Of a scan, what is before a part is itself in parts, and gets the tiles of one more.
        let scans = if problem.visible == Visible::ALL { 1 } else { 2 };
        let sums = scans * (tiles + PARTS);
        // Over features: in blocks, or factor by factor.
        let features = (BLOCK + room / BLOCK).max(monomials.degree() * monomials.dim());
        let roundings = 3 * monomials.degree() + 6 + TILE + sums + features;
        let rounding = 1.01 * roundings as f64 * T::UNIT_ROUNDOFF;
        let zeros = vec![T::ZERO; columns];
        let terms = coefficients.iter().map(|&c| T::from_f64(c)).collect();
        let factor = T::from_f64(scale);
        Ok(Self {
            monomials,
            factors,
            degrees,
            dead,
            columns,
            width,
            zeros,
            coefficients,
            scale,
            terms,
            factor,
            visible: problem.visible,
            half: None,
            rounding,
        })
    }
}

impl<T: Float> Kit<T> {
    /// Of no tokens yet.
    pub fn state(&self) -> State<T> {
        State::new(self.monomials.len(), self.columns)
    }

    /// For the tasks of a call.
    pub fn workspace(&self) -> Workspace<T> {
        let work = Workspace::new(&self.monomials);
        if self.half.is_some() { work.rounding(self.columns, self.exact()) } else { work }
    }

    /// The features that are never rounded to bf16, those of degree 0 and 1: few, and with most of the sums.
    pub fn exact(&self) -> usize {
        self.monomials.below(2.min(self.monomials.degree() + 1))
    }

    /// Operations of a call.
    pub fn work(&self, problem: &Problem<'_>) -> u64 {
        let tokens = |head: &Head<'_>| head.query.rows() + head.key.rows();
        let tokens: usize = problem.heads.iter().map(tokens).sum();
        self.flops(tokens)
    }

    /// Operations that so many tokens take in one pass.
    pub fn flops(&self, tokens: usize) -> u64 {
        2 * (tokens * self.monomials.len() * (self.width + 1)) as u64
    }

    /// What the sum of the weights of a query may be off by: see the top of `polynomial.rs`.
    pub fn doubt(&self, query: f64, longest_key: f64, keys: usize) -> f64 {
        let sum = |s: f64, least: f64| {
            self.coefficients.iter().rev().fold(0.0, |sum, c| sum * s + (c.abs() + least))
        };
        let size = sum(self.scale.abs() * query * longest_key, 0.0);
        let most = self.scale.abs().max(1.0) * query.max(1.0) * longest_key.max(1.0);
        let lost = sum(self.monomials.dim().max(1) as f64 * most, 1.0);
        let products = (2 * self.coefficients.len() + 2) as f64;
        (self.rounding * size + T::SMALLEST * products * lost) * keys as f64
    }
}

/// See [`Kit::factors`]; `room` numbers, zeros behind those of the features.
fn factors<T: Float>(
    monomials: &Monomials,
    polynomial: Polynomial<'_>,
    scale: f64,
    room: usize,
) -> Result<Vec<T>> {
    let mut factors = Vec::new();
    let refused = Error::Memory { bytes: room * size_of::<T>() };
    factors.try_reserve_exact(room).map_err(|_| refused)?;
    let powers: Vec<_> = (0..=monomials.degree()).map(|t| scale.powi(t as i32)).collect();
    monomials.for_each_weight(|k, u, weight| {
        factors.push(T::from_f64(weight * (powers[k + u] * polynomial.factor(k, u))));
    });
    factors.resize(room, T::ZERO);
    Ok(factors)
}

/// Neighbours of so many that are alike.
pub fn groups(count: usize, alike: impl Fn(usize, usize) -> bool) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for i in 0..count {
        match groups.last_mut().filter(|group| alike(group.start, i)) {
            Some(group) => group.end = i + 1,
            None => groups.push(i..i + 1),
        }
    }
    groups
}
