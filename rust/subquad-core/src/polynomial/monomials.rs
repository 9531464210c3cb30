//! Symmetric monomials: the features of a polynomial of an inner product.
//!
//! With `p(s) = sum_t c_t s^t` and x, y of d coordinates,
//!
//! > p(x . y) = sum_t c_t sum_{|a| = t} (t! / a!) x^a y^a,
//!
//! over multi-indices a: `C(d + g, g)` terms for degree g, since equal products are one feature. They
//! stand in graded lexicographic order: by degree, then as the words of their indices
//! `l_1 <= l_2 <= ... <= l_t` are ordered. Weights `c_t t! / a!` belong to the sum over tokens, never
//! to a token.
//!
//! With the coordinates in two blocks, whose parts of the inner product are v and w,
//!
//! > v^k w^u = sum (k! u! / a!) x^a y^a
//!
//! over the multi-indices with k factors in the first block and u in the second: where coordinates of the second
//! are small, fewer of those need to be taken.

use super::words::{Walk, Words};
use crate::mat::{MatCell, Rows};
use crate::par::Par;
use crate::simd::Float;
use crate::{Error, Result};

/// Largest degree.
pub const MOST: usize = 64;

/// All monomials up to a degree, of coordinates in one block or in two.
#[derive(Clone, Debug)]
pub struct Monomials {
    words: Words,
    /// Where each degree begins, and where the last ends.
    starts: Vec<usize>,
}

impl Monomials {
    /// # Errors
    ///
    /// [`Error::Memory`] if there are more than addresses, [`Error::Domain`] beyond degree 64.
    pub fn new(dim: usize, degree: usize) -> Result<Self> {
        Self::two_blocks(dim, dim, degree, 0)
    }

    /// Those with k factors among the first `lead` coordinates and u among the rest, where `k + 2 u <= degree`
    /// and `u <= trailing_degree`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`Error::Domain`] if more lead than there are.
    pub fn two_blocks(
        dim: usize,
        lead: usize,
        degree: usize,
        trailing_degree: usize,
    ) -> Result<Self> {
        let words = Words::new(dim, lead, degree, trailing_degree)?;
        Ok(Self { words, starts: words.starts()? })
    }

    pub(super) fn words(&self) -> Words {
        self.words
    }

    /// Number of variables.
    pub fn dim(&self) -> usize {
        self.words.dim
    }

    /// Largest degree.
    pub fn degree(&self) -> usize {
        self.words.degree
    }

    /// Number of monomials.
    pub fn len(&self) -> usize {
        self.starts[self.words.degree + 1]
    }

    /// Never: the constant is one.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Number of monomials below a degree: those of degree t begin here.
    pub fn below(&self, t: usize) -> usize {
        self.starts[t]
    }

    /// `k! u! / a!` of every monomial: `t! / a!` in one block.
    pub fn weights(&self) -> Vec<f64> {
        let mut weights = Vec::with_capacity(self.len());
        self.for_each_weight(|_, _, weight| weights.push(weight));
        weights
    }

    /// Visits the monomials in their order, with k, u and `k! u! / a!` of each.
    pub fn for_each_weight(&self, mut visit: impl FnMut(usize, usize, f64)) {
        let mut walk = Walk::new(self.words);
        let block = |l: usize| usize::from(l >= self.words.lead);
        visit(0, 0, 1.0);
        while walk.advance().is_some() {
            let (prefix, columns) = walk.run();
            // For every factor, its place in its block over the number of times that its index has occurred.
            let (mut weight, mut times, mut places) = (1.0, 0, [0, 0]);
            for (t, &l) in prefix.iter().enumerate() {
                times = if t > 0 && prefix[t - 1] == l { times + 1 } else { 1 };
                places[block(l)] += 1;
                weight *= places[block(l)] as f64 / f64::from(times);
            }
            for p in columns {
                let again = prefix.last() == Some(&p);
                let last = if again { f64::from(times + 1) } else { 1.0 };
                let mut places = places;
                places[block(p)] += 1;
                visit(places[0], places[1], weight * places[block(p)] as f64 / last);
            }
        }
    }
}

/// The features of some rows, in their order: products of numbers of a row.
///
/// # Errors
///
/// [`Error::Shape`] if the shapes do not fit, [`Error::Stopped`].
pub fn features<T: Float>(
    x: &Rows<'_>,
    all: &Monomials,
    out: &MatCell<'_, T>,
    par: Par<'_>,
) -> Result<()> {
    /// Numbers in a task.
    const TASK: usize = 1 << 16;
    Error::unless_equal("x", "d", all.dim(), x.cols())?;
    Error::unless_equal("out", "n", x.rows(), out.rows())?;
    Error::unless_equal("out", "r", all.len(), out.cols())?;
    let size = (TASK / all.len()).max(1);
    let par = par.for_work(2 * (x.rows() * all.len()) as u64);
    par.map(x.rows().div_ceil(size), |i, pulse| {
        let mut row = vec![T::ZERO; all.dim()];
        for n in i * size..x.rows().min((i + 1) * size) {
            if pulse.stopped() {
                return;
            }
            row.iter_mut().enumerate().for_each(|(l, to)| *to = T::from_f64(x.get(n, l)));
            // SAFETY: tasks have rows of their own.
            fill_row(&row, all, unsafe { out.row_mut(n) });
        }
    })?;
    Ok(())
}

fn fill_row<T: Float>(x: &[T], all: &Monomials, to: &mut [T]) {
    let mut walk = Walk::new(all.words);
    // Products of the first factors.
    let mut products = [T::ONE; MOST + 1];
    let (mut at, mut stay) = (0, 0);
    loop {
        let (prefix, columns) = walk.run();
        for (level, &l) in prefix.iter().enumerate().skip(stay) {
            products[level + 1] = products[level] * x[l];
        }
        if walk.degree == 0 {
            to[0] = T::ONE;
            at = 1;
        } else {
            let (product, count) = (products[prefix.len()], columns.len());
            for (to, &x) in to[at..at + count].iter_mut().zip(&x[columns]) {
                *to = product * x;
            }
            at += count;
        }
        match walk.advance() {
            Some(level) => stay = level,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mat::MatRef;

    #[test]
    fn there_are_as_many_as_the_binomial_says() {
        for (dim, degree, len) in
            [(0, 3, 1), (1, 5, 6), (3, 2, 10), (16, 3, 969), (64, 2, 2145), (32, 4, 58905)]
        {
            let all = Monomials::new(dim, degree).unwrap();
            assert_eq!(all.len(), len);
            assert_eq!(all.weights().len(), len);
        }
        assert!(Monomials::new(4096, 32).is_err() && Monomials::new(1, 65).is_err());
    }

    #[test]
    fn weights_are_multinomial() {
        let all = Monomials::new(2, 3).unwrap();
        // 1; x, y; xx, xy, yy; xxx, xxy, xyy, yyy
        assert_eq!(all.weights(), [1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 3.0, 3.0, 1.0]);
        for (dim, degree) in [(3, 4), (5, 3), (1, 7)] {
            let all = Monomials::new(dim, degree).unwrap();
            for t in 0..=degree {
                let sum: f64 = all.weights()[all.below(t)..all.below(t + 1)].iter().sum();
                assert_eq!(sum, (dim as f64).powi(t as i32));
            }
        }
    }

    /// `sum c(k, u) v^k w^u` of two blocks, by features and directly.
    fn evaluate(all: &Monomials, lead: usize, x: &[f64], y: &[f64]) -> (f64, f64) {
        let dim = x.len();
        let c = |k: usize, u: usize| 1.0 / (1.0 + k as f64 + 0.5 * u as f64);
        let numbers = [x, y].concat();
        let mut out = vec![0.0; 2 * all.len()];
        let rows = MatRef::from_slice(&numbers, 2, dim).into();
        let cell = MatCell::from_slice(&mut out, 2, all.len());
        features(&rows, all, &cell, Par::threads(1)).unwrap();
        let (of_x, of_y) = out.split_at(all.len());
        let (mut at, mut sum) = (0, 0.0);
        let mut terms = std::collections::BTreeSet::new();
        all.for_each_weight(|k, u, weight| {
            sum += c(k, u) * weight * of_x[at] * of_y[at];
            terms.insert((k, u));
            at += 1;
        });
        assert_eq!(at, all.len());
        let part = |l: std::ops::Range<usize>| l.map(|l| x[l] * y[l]).sum::<f64>();
        let (v, w) = (part(0..lead), part(lead..dim));
        let term = |&(k, u): &(usize, usize)| c(k, u) * v.powi(k as i32) * w.powi(u as i32);
        (sum, terms.iter().map(term).sum())
    }

    #[test]
    fn weights_of_two_blocks_are_those_of_the_powers() {
        for (dim, degree) in (1..=5).flat_map(|dim| (0..=6).map(move |degree| (dim, degree))) {
            let x: Vec<f64> = (0..dim).map(|l| 1.1 - 0.3 * l as f64).collect();
            let y: Vec<f64> = (0..dim).map(|l| 0.4 + 0.2 * l as f64).collect();
            for (lead, trailing) in (0..=dim).flat_map(|lead| (0..=4).map(move |h| (lead, h))) {
                let all = Monomials::two_blocks(dim, lead, degree, trailing).unwrap();
                let (found, expected) = evaluate(&all, lead, &x, &y);
                let place = (dim, lead, degree, trailing);
                assert!((found - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{place:?}");
            }
        }
    }
}
