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

use crate::mat::{MatCell, Rows};
use crate::par::Par;
use crate::simd::Float;
use crate::{Error, Result};

/// Largest degree.
pub const MOST: usize = 64;

/// All monomials up to a degree.
#[derive(Clone, Debug)]
pub struct Monomials {
    dim: usize,
    degree: usize,
    /// Where each degree begins, and where the last ends.
    starts: Vec<usize>,
}

impl Monomials {
    /// # Errors
    ///
    /// [`Error::Memory`] if there are more than addresses, [`Error::Domain`] beyond degree 64.
    pub fn new(dim: usize, degree: usize) -> Result<Self> {
        if degree > MOST {
            let (requires, found) = ("at most 64", degree as f64);
            return Err(Error::Domain { name: "degree", requires, found });
        }
        let mut starts = vec![0];
        let mut of_degree: u128 = 1;
        let mut sum: u128 = 0;
        for t in 0..=degree {
            // C(d + t - 1, t), from the one before.
            if t > 0 {
                let next = of_degree.checked_mul((dim + t - 1) as u128);
                of_degree = next.ok_or(Error::Memory { bytes: usize::MAX })? / t as u128;
            }
            sum += of_degree;
            let fits = usize::try_from(sum).ok().filter(|&n| n <= isize::MAX as usize / 8);
            starts.push(fits.ok_or(Error::Memory { bytes: usize::MAX })?);
        }
        Ok(Self { dim, degree, starts })
    }

    /// Number of variables.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Largest degree.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// Number of monomials.
    pub fn len(&self) -> usize {
        self.starts[self.degree + 1]
    }

    /// Never: the constant is one.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Number of monomials below a degree: those of degree t begin here.
    pub fn below(&self, t: usize) -> usize {
        self.starts[t]
    }

    /// `t! / a!` of every monomial.
    pub fn weights(&self) -> Vec<f64> {
        let mut weights = Vec::with_capacity(self.len());
        let mut walk = Walk::new(self.dim, self.degree);
        loop {
            let (prefix, columns) = walk.run();
            if walk.degree == 0 {
                weights.push(1.0);
            } else {
                // A factor t over the number of times that its index has occurred, for every factor.
                let mut weight = 1.0;
                let mut times = 0;
                for (t, &l) in prefix.iter().enumerate() {
                    times = if t > 0 && prefix[t - 1] == l { times + 1 } else { 1 };
                    weight *= (t + 1) as f64 / f64::from(times);
                }
                let degree = walk.degree as f64;
                for p in columns {
                    let again = prefix.last() == Some(&p);
                    let last = if again { f64::from(times + 1) } else { 1.0 };
                    weights.push(weight * degree / last);
                }
            }
            if walk.advance().is_none() {
                return weights;
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
    Error::unless_equal("x", "d", all.dim, x.cols())?;
    Error::unless_equal("out", "n", x.rows(), out.rows())?;
    Error::unless_equal("out", "r", all.len(), out.cols())?;
    let size = (TASK / all.len()).max(1);
    let par = par.for_work(2 * (x.rows() * all.len()) as u64);
    par.map(x.rows().div_ceil(size), |i, pulse| {
        let mut row = vec![T::ZERO; all.dim];
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
    let mut walk = Walk::new(all.dim, all.degree);
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

/// Goes through the monomials in their order, in runs that share all indices but the last.
#[derive(Clone)]
pub(super) struct Walk {
    dim: usize,
    most: usize,
    /// Degree of the run.
    pub degree: usize,
    prefix: [usize; MOST],
}

impl Walk {
    /// At the constant.
    pub fn new(dim: usize, degree: usize) -> Self {
        Self { dim, most: if dim == 0 { 0 } else { degree }, degree: 0, prefix: [0; MOST] }
    }

    /// All indices but the last, and the range of that.
    pub fn run(&self) -> (&[usize], std::ops::Range<usize>) {
        if self.degree == 0 {
            return (&[], 0..1);
        }
        let prefix = &self.prefix[..self.degree - 1];
        (prefix, prefix.last().copied().unwrap_or(0)..self.dim)
    }

    /// The next run. Gives the number of indices at the front that stay, or nothing at the end.
    pub fn advance(&mut self) -> Option<usize> {
        let len = self.degree.saturating_sub(1);
        for level in (0..len).rev() {
            let next = self.prefix[level] + 1;
            if next < self.dim {
                self.prefix[level..len].fill(next);
                return Some(level);
            }
        }
        if self.degree == self.most {
            return None;
        }
        self.degree += 1;
        self.prefix.fill(0);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
