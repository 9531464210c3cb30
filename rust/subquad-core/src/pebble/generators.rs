//! Computations by name: sizes in, a [`Dag`] out, and what each vertex is.
//!
//! Inputs are numbered first, matrices row by row in the order in which they are named; everything else is
//! numbered in an order of computation that needs little memory wherever the family has an obvious one. The
//! order of numbers is therefore always an order of computation. O(V + E).

mod attention;
mod builder;
mod orders;
mod shapes;

use super::Dag;
use crate::{Error, Result};
use builder::Builder;
pub use orders::Order;

/// How a sum of products is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Multiplied and added in one step: a sum of k terms is k values, each of the one before and the factors.
    Fma,
    /// Products are values, added one after the other.
    Chain,
    /// Products are values, added in pairs, the sums in pairs, and so on; an odd one waits for the next round.
    Tree,
}

/// How a row of weights is made of a row of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Softmax {
    /// Exponentials of the scores, divided by their sum at the end: no maximum is subtracted.
    Unnormalised,
    /// The maximum of the whole row is subtracted first, so every exponential needs every score of its row.
    Safe,
    /// The maximum so far is subtracted, and sums are scaled whenever it may have grown.
    Online,
}

/// A computation that sizes describe.
///
/// What a vertex is, [`name`](Self::name) tells: `S[0,3]` is an entry of a matrix, and `S[0,3;0:2]` the sum of
/// terms 0 to 1 of the sum that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// One source, and `length` values each computed from the one before: `x[i]`.
    Chain {
        /// Values that are computed.
        length: usize,
    },
    /// A complete binary tree: the leaves, from left to right, then what is computed, in postorder.
    /// `x[l,i]` is value i of level l; leaves are level 0.
    Tree {
        /// Levels above the leaves.
        height: usize,
    },
    /// Row 0 of `height + 1` sources, and rows that are one shorter each: `x[r,i]` from `x[r-1,i]` and
    /// `x[r-1,i+1]`. Row by row.
    Pyramid {
        /// Rows that are computed.
        height: usize,
    },
    /// `x[r,c]` from `x[r-1,c]` and `x[r,c-1]`, as far as they exist; one source and one sink. Row by row.
    Grid {
        /// Rows.
        rows: usize,
        /// Columns.
        columns: usize,
    },
    /// `x[t,i]` from `x[t-1,i-1]`, `x[t-1,i]` and `x[t-1,i+1]`, as far as they exist. Step by step.
    Stencil {
        /// Points.
        width: usize,
        /// Steps that are computed.
        steps: usize,
    },
    /// Butterflies: `x[s,i]` from `x[s-1,i]` and the point whose number differs in bit `s - 1`. Stage by stage,
    /// in each the two results of a butterfly beside each other.
    Fft {
        /// Points, a power of two.
        n: usize,
    },
    /// C = A B, where `A[i,l]` is m by k and `B[l,j]` k by n: the entries `C[i,j]` row by row, each summed up
    /// before the next.
    Matmul {
        /// Rows of A and C.
        m: usize,
        /// Columns of B and C.
        n: usize,
        /// Columns of A, rows of B.
        k: usize,
        /// How sums are computed.
        form: Form,
    },
    /// O = softmax(Q K^T) V of n by d matrices Q, K, V: scores `S`, maxima `m`, exponentials `P`, their sums
    /// `l`, sums `U` of exponentials times rows of V, outputs `O`; online, `r` is what sums are scaled by.
    /// Row by row, in a row key by key (for `Safe`: key by key up to the maximum, then again).
    Attention {
        /// Rows, of queries and of keys.
        n: usize,
        /// Columns.
        d: usize,
        /// How sums are computed. Online, sums over keys are one after the other whatever the form.
        form: Form,
        /// How weights are made.
        softmax: Softmax,
    },
    /// dQ, dK and dV from Q, K, V, O, dO and L, the logarithms of the sums of exponentials: D, the row sums
    /// of dO times O; S = Q K^T, P = exp(S - L), dP = dO V^T, dS = P (dP - D), dV = P^T dO, dQ = dS K,
    /// dK = dS^T Q. D first; then key by key, and for a key query by query.
    AttentionGrad {
        /// Rows, of queries and of keys.
        n: usize,
        /// Columns.
        d: usize,
        /// How sums are computed.
        form: Form,
    },
    /// `sources` sources and values of random operands: how many is drawn from `least..=most`, then each is
    /// drawn from all vertices before, and one that is drawn twice counts once. What is computed and not used is an
    /// output. `x[i]`.
    Random {
        /// Vertices, sources included.
        vertices: usize,
        /// Sources.
        sources: usize,
        /// The fewest operands that are drawn.
        least: usize,
        /// The most operands that are drawn.
        most: usize,
        /// Fixes what is drawn.
        seed: u64,
    },
}

impl Family {
    /// The computation.
    ///
    /// # Errors
    ///
    /// [`Error::Domain`] for sizes that there are not, or with more than 2^30 vertices.
    pub fn dag(&self) -> Result<Dag> {
        self.check()?;
        let mut builder = Builder::of_edges();
        self.build(&mut builder);
        builder.dag()
    }

    /// What a vertex is; nothing if there is no such vertex. O(V): it is built until there.
    ///
    /// # Errors
    ///
    /// As for [`dag`](Self::dag).
    pub fn name(&self, vertex: u32) -> Result<Option<String>> {
        self.check()?;
        let mut builder = Builder::of_names(Some(vertex));
        self.build(&mut builder);
        Ok(builder.names().pop())
    }

    /// What the vertices are.
    ///
    /// # Errors
    ///
    /// As for [`dag`](Self::dag).
    pub fn names(&self) -> Result<Vec<String>> {
        self.check()?;
        let mut builder = Builder::of_names(None);
        self.build(&mut builder);
        Ok(builder.names())
    }

    fn build(&self, b: &mut Builder) {
        match *self {
            Self::Chain { length } => shapes::chain(b, length),
            Self::Tree { height } => shapes::tree(b, height),
            Self::Pyramid { height } => shapes::pyramid(b, height),
            Self::Grid { rows, columns } => shapes::grid(b, rows, columns),
            Self::Stencil { width, steps } => shapes::stencil(b, width, steps),
            Self::Fft { n } => shapes::fft(b, n),
            Self::Matmul { m, n, k, form } => shapes::matmul(b, [m, n, k], form),
            Self::Attention { n, d, form, softmax: Softmax::Online } => {
                attention::online(b, n, d, form);
            }
            Self::Attention { n, d, form, softmax } => {
                attention::forward(b, n, d, form, softmax == Softmax::Safe);
            }
            Self::AttentionGrad { n, d, form } => attention::backward(b, n, d, form),
            Self::Random { vertices, sources, least, most, seed } => {
                shapes::random(b, vertices, sources, [least, most], seed);
            }
        }
    }

    fn check(&self) -> Result<()> {
        let positive: &[(&'static str, usize)] = match self {
            Self::Chain { .. } | Self::Tree { .. } | Self::Pyramid { .. } => &[],
            Self::Grid { rows, columns } => &[("rows", *rows), ("columns", *columns)],
            Self::Stencil { width, .. } => &[("width", *width)],
            Self::Fft { n } => &[("n", *n)],
            Self::Matmul { m, n, k, .. } => &[("m", *m), ("n", *n), ("k", *k)],
            Self::Attention { n, d, .. } | Self::AttentionGrad { n, d, .. } => {
                &[("n", *n), ("d", *d)]
            }
            Self::Random { sources, least, .. } => &[("sources", *sources), ("least", *least)],
        };
        let domain = |name, requires, found: usize| {
            Err(Error::Domain { name, requires, found: found as f64 })
        };
        if let Some(&(name, found)) = positive.iter().find(|(_, size)| *size == 0) {
            return domain(name, "at least 1", found);
        }
        match *self {
            Self::Fft { n } if !n.is_power_of_two() => {
                return domain("n", "a power of two", n);
            }
            Self::Random { vertices, sources, .. } if vertices < sources => {
                return domain("vertices", "at least `sources`", vertices);
            }
            Self::Random { least, most, .. } if most < least => {
                return domain("most", "at least `least`", most);
            }
            _ => {}
        }
        let found = self.size();
        if found > Dag::MAX_VERTICES as f64 {
            return Err(Error::Domain { name: "num_vertices", requires: "at most 2^30", found });
        }
        Ok(())
    }

    /// How many vertices: a float, for sizes beyond all integers; exact where it fits.
    fn size(&self) -> f64 {
        // Values of a sum of that many terms.
        let sum = |form, terms: f64| if form == Form::Fma { terms } else { 2.0 * terms - 1.0 };
        let real = |x: usize| x as f64;
        match *self {
            Self::Chain { length } => real(length) + 1.0,
            Self::Tree { height } => (real(height) + 1.0).exp2() - 1.0,
            Self::Pyramid { height } => (real(height) + 1.0) * (real(height) + 2.0) / 2.0,
            Self::Grid { rows, columns } => real(rows) * real(columns),
            Self::Stencil { width, steps } => real(width) * (real(steps) + 1.0),
            Self::Fft { n } => real(n) * (real(n).log2() + 1.0),
            Self::Matmul { m, n, k, form } => {
                let (m, n, k) = (real(m), real(n), real(k));
                k * (m + n) + m * n * sum(form, k)
            }
            Self::Attention { n, d, form, softmax } => {
                let (n, d) = (real(n), real(d));
                // Scores, exponentials and, without scaling, the sums of a row.
                let row = n * (sum(form, d) + 1.0) + d;
                let sums = n - 1.0 + d * sum(form, n);
                let (scale, step) = if form == Form::Fma { (1.0, 1.0) } else { (2.0, 3.0) };
                let rest = match softmax {
                    Softmax::Unnormalised => sums,
                    Softmax::Safe => sums + n - 1.0,
                    Softmax::Online => d + (n - 1.0) * (2.0 + scale + d * step),
                };
                3.0 * n * d + n * (row + rest)
            }
            Self::AttentionGrad { n, d, form } => {
                let (n, d) = (real(n), real(d));
                let pair = 2.0 * sum(form, d) + 2.0;
                n * (5.0 * d + 1.0) + n * sum(form, d) + n * n * pair + 3.0 * n * d * sum(form, n)
            }
            Self::Random { vertices, .. } => real(vertices),
        }
    }
}

#[cfg(test)]
mod tests;
