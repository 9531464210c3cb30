//! Exact softmax attention, fused and tiled: `out = softmax(scale Q K^T + bias) V` row by row over
//! the keys that a query sees, and its gradients, without an array of the size of the logits.
//!
//! Shapes of a head, as in `torch.nn.functional.scaled_dot_product_attention`: query `L x E`, key
//! `S x E`, value `S x Ev`. A query that sees no key gives zeros and a log-sum-exp of minus
//! infinity.
//!
//! A problem is cut into tasks by its shapes alone (`forward`, `backward`, `plan`), and a task is run
//! by one of these:
//!
//! | file | what | cost |
//! |---|---|---|
//! | `dense` | blocks of queries against blocks of keys | `O(L S (E + Ev))`, memory `O(L + tile)` a thread |
//! | `decode` | few queries: reads keys and values once | bandwidth |
//! | `dense_grad` | gradients from the log-sum-exp | 2.5 times the forward pass |
//! | `lags` | biases of the lag `i - j`, and their gradients | `O(L + S)` memory |
//! | `toeplitz` | a matrix for every lag between query and key, and its gradient | `3 t` operations a logit |
//! | `visible` | causal masks and windows as index arithmetic | |
//! | `plan` | which of these, and what it will cost | |
//! | `certificate` | a bound on the rounding error of every row | `O(L E + S (E + Ev))` |

mod backward;
mod certificate;
mod decode;
mod decode_rows;
mod dense;
mod dense_grad;
mod forward;
mod grad_bias;
mod grad_pair;
mod kernels;
mod lag_extremes;
mod lags;
#[cfg(test)]
mod naive;
mod pack;
mod plan;
mod polynomial;
mod scores;
mod strip;
mod toeplitz;
mod visible;

pub use backward::{Upstream, backward};
pub use certificate::{Bounds, bounds};
pub use dense_grad::HeadGradients;
pub use forward::forward;
pub use kernels::Compute;
pub use plan::{Kernel, Plan};
pub use polynomial::{
    BlockGradients, BlockSums, Polynomial, RowSums, SumsGradients, TokenGradients, Weighed,
    polynomial_backward, polynomial_block_rows, polynomial_block_rows_grad, polynomial_block_sums,
    polynomial_block_sums_grad, polynomial_forward, polynomial_sums, polynomial_sums_grad,
    polynomial_sums_half,
};
pub use visible::Visible;

use std::collections::HashSet;

use crate::mat::{MatCell, MatRef, Rows};
use crate::simd::Float;
use crate::{Error, Result};
use dense::Report;

/// One query head with the key head that serves it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `L x E`
    pub query: Rows<'a>,
    /// `S x E`
    pub key: Rows<'a>,
    /// `S x Ev`
    pub value: Rows<'a>,
    /// `L x S`; zero hides a key.
    pub mask: Option<MatRef<'a, u8>>,
    /// `L x S`, added to the logits; minus infinity hides a key.
    pub bias: Option<Rows<'a>>,
    /// `(L + S - 1) x 1`: entry `i - j + S - 1` is added to the logit of query `i` and key `j`; minus
    /// infinity hides it.
    pub lags: Option<Rows<'a>>,
    /// `E x (L + S - 1)`: entry `(c, i - j + S - 1)` is a factor of the product of coordinate c of query
    /// `i` and key `j`. What these are is the caller's: entry `(a, b)` of a matrix for every lag is a
    /// coordinate whose query part is a and whose key part is b.
    pub weights: Option<Rows<'a>>,
}

impl Head<'_> {
    fn check(&self) -> Result<()> {
        let agree = Error::unless_equal;
        let (l, s) = (self.query.rows(), self.key.rows());
        agree("key", "E", self.query.cols(), self.key.cols())?;
        agree("value", "S", s, self.value.rows())?;
        if let Some(mask) = self.mask {
            agree("mask", "L", l, mask.rows())?;
            agree("mask", "S", s, mask.cols())?;
        }
        if let Some(bias) = self.bias {
            agree("bias", "L", l, bias.rows())?;
            agree("bias", "S", s, bias.cols())?;
        }
        if let Some(lags) = self.lags {
            agree("lags", "L + S - 1", lags::count(l, s), lags.rows())?;
            agree("lags", "columns", 1, lags.cols())?;
        }
        if let Some(weights) = self.weights {
            agree("weights", "E", self.query.cols(), weights.rows())?;
            agree("weights", "L + S - 1", lags::count(l, s), weights.cols())?;
        }
        Ok(())
    }

    /// All heads of a problem have the shape of the first, and masks or biases if it has.
    fn check_like(&self, first: &Self) -> Result<()> {
        let agree = Error::unless_equal;
        agree("query", "L", first.query.rows(), self.query.rows())?;
        agree("query", "E", first.query.cols(), self.query.cols())?;
        agree("key", "S", first.key.rows(), self.key.rows())?;
        agree("value", "Ev", first.value.cols(), self.value.cols())?;
        let has = |x: bool| usize::from(x);
        agree("mask", "presence", has(first.mask.is_some()), has(self.mask.is_some()))?;
        agree("bias", "presence", has(first.bias.is_some()), has(self.bias.is_some()))?;
        agree("lags", "presence", has(first.lags.is_some()), has(self.lags.is_some()))?;
        agree("weights", "presence", has(first.weights.is_some()), has(self.weights.is_some()))
    }

    /// Coordinate `c` of the product of query `i` and key `j`.
    fn product(&self, i: usize, j: usize, c: usize) -> f64 {
        let product = self.query.get(i, c) * self.key.get(j, c);
        self.weights.map_or(product, |w| product * w.get(c, i + self.key.rows() - 1 - j))
    }

    /// What is added to the product of query `i` and key `j`.
    fn added(&self, i: usize, j: usize) -> f64 {
        let bias = self.bias.map_or(0.0, |bias| bias.get(i, j));
        bias + self.lags.map_or(0.0, |lags| lags.get(i + self.key.rows() - 1 - j, 0))
    }

    /// Does query `i` see a key at all?
    fn sees_a_key(&self, visible: &Visible, i: usize) -> bool {
        visible.keys(i, self.key.rows()).any(|j| {
            self.mask.is_none_or(|mask| mask.get(i, j) != 0)
                && self.added(i, j) != f64::NEG_INFINITY
        })
    }
}

/// Heads that share a scale and a rule of visibility.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    heads: Vec<Head<'a>>,
    scale: f64,
    visible: Visible,
}

impl<'a> Problem<'a> {
    /// Checks that shapes agree within each head and that all heads have the same.
    pub fn new(heads: Vec<Head<'a>>, scale: f64, visible: Visible) -> Result<Self> {
        for head in &heads {
            head.check()?;
            head.check_like(&heads[0])?;
        }
        if !scale.is_finite() {
            let requires = "finite";
            return Err(Error::Domain { name: "scale", requires, found: scale });
        }
        Ok(Self { heads, scale, visible })
    }

    /// The heads.
    pub fn heads(&self) -> &[Head<'a>] {
        &self.heads
    }
}

/// Where the results of one head go.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a, T> {
    /// `L x Ev`
    pub out: MatCell<'a, T>,
    /// Log-sum-exp of the logits, `L x 1`.
    pub lse: Option<MatCell<'a, T>>,
    /// The log-sum-exp as a sum `reference + ln(mass)`, `L x 1` each: exact where the logits are so
    /// large that their sum with a logarithm is not.
    pub parts: Option<[MatCell<'a, T>; 2]>,
}

impl<T: Float> Output<'_, T> {
    /// # Safety
    /// Row `i` must belong to the caller's task.
    unsafe fn write_statistics(&self, i: usize, lse: T, reference: T, mass: T) {
        // SAFETY: passed on.
        unsafe {
            if let Some(to) = &self.lse {
                to.row_mut(i)[0] = lse;
            }
            if let Some([references, masses]) = &self.parts {
                references.row_mut(i)[0] = reference;
                masses.row_mut(i)[0] = mass;
            }
        }
    }
}

/// What a call found and did: exact counts, the same on every run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Something that was read, or computed from it, was not finite.
    pub suspicious: bool,
    /// Tasks handed out.
    pub tasks: u64,
    /// Score tiles computed.
    pub tiles: u64,
    /// Floating-point operations of the matrix products, padding included.
    pub flops: u64,
    /// Bytes of the inputs that were read.
    pub bytes_read: u64,
    /// Rows computed anew, key by key, for polynomial weights.
    pub rows_anew: u64,
}

impl Stats {
    /// Adds the report of a task.
    fn take(&mut self, report: &Report) {
        self.suspicious |= report.suspicious;
        self.tasks += 1;
        self.tiles += report.tiles;
        self.flops += report.flops;
        self.bytes_read += report.bytes_read;
    }

    fn add(&mut self, other: &Self) {
        self.suspicious |= other.suspicious;
        self.tasks += other.tasks;
        self.tiles += other.tiles;
        self.flops += other.flops;
        self.bytes_read += other.bytes_read;
        self.rows_anew += other.rows_anew;
    }

    /// The sum of the reports of all tasks.
    fn of(reports: &[Report]) -> Self {
        let mut sum = Report::default();
        for report in reports {
            sum.add(report);
        }
        let Report { suspicious, tiles, flops, bytes_read } = sum;
        let tasks = reports.len() as u64;
        Self { suspicious, tasks, tiles, flops, bytes_read, rows_anew: 0 }
    }
}

fn check_outputs<T>(problem: &Problem<'_>, outputs: &[Output<'_, T>]) -> Result<()> {
    let agree = |dim, expected, found| Error::unless_equal("out", dim, expected, found);
    agree("heads", problem.heads.len(), outputs.len())?;
    for (head, output) in problem.heads.iter().zip(outputs) {
        agree("L", head.query.rows(), output.out.rows())?;
        agree("Ev", head.value.cols(), output.out.cols())?;
        for column in output.lse.iter().chain(output.parts.iter().flatten()) {
            agree("L", head.query.rows(), column.rows())?;
        }
    }
    check_distinct("out", outputs.iter().map(|output| &output.out))
}

/// Views can be copied, so the type does not rule out that two heads write the same rows.
fn check_distinct<'a, T: 'a>(
    name: &'static str,
    cells: impl Iterator<Item = &'a MatCell<'a, T>>,
) -> Result<()> {
    let whole = cells.filter(|cell| cell.rows() * cell.cols() > 0);
    let places: Vec<_> = whole.map(|cell| cell.at(0, 0)).collect();
    let (count, distinct) = (places.len(), places.iter().collect::<HashSet<_>>().len());
    Error::unless_equal(name, "matrices of their own for all heads, as many as", count, distinct)
}

#[cfg(test)]
mod tests;
