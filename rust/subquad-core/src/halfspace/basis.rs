//! A basis in which few bits say most, learnt from keys and typical queries.
//!
//! Real keys are anisotropic, and so are queries. With M the second moment of typical queries, shrunk
//! towards its mean so that it has an inverse, and A = M^(1/2), the keys become `A (k - mu)`, in which
//! every direction matters alike to the queries; W are their principal axes. A key is coded in the
//! coordinates `y = W^T A (k - mu)`, a query in `g = W^T A^-1 q`, and `g . y = q . (k - mu)`.
//!
//! Coordinates get 4, 2 or no bits, by their variance: reverse water-filling over the widths that
//! are cheap to read. Steps are those that lose least on the sample.
//!
//! Nothing here is certified, and nothing needs to be: whatever the basis, the bounds of
//! [`rotated`](super::rotated) hold.

use super::coder::{self, Bits, Summary, wide16};
use super::keys::Keys;
use super::planes::{BLOCK, Shape};
use super::quantized;
use crate::linalg::{gemm, symmetric_eigen};
use crate::mat::{MatCell, MatRef};
use crate::simd::Isa;

/// Keys that the basis is learnt from.
const SAMPLE: usize = 8192;

/// Queries that the basis is learnt from.
pub(super) const QUERIES: usize = 4096;

/// Queries that widths are tried on.
const TRIED: usize = 48;

/// Largest dimension: learning takes d^3 operations, a query d^2.
pub(super) const LARGEST: usize = 1024;

/// Share of the keys that a query is expected to report.
const REPORTED: f64 = 1e-3;

/// What a key costs, in bytes: its codes, and what it takes to look closer at the share of keys that are
/// candidates, each as much as so many bytes more.
pub(super) fn cost(shape: Shape, candidates: f64, each: f64) -> f64 {
    shape.block() as f64 / BLOCK as f64 + each * candidates
}

/// What a candidate costs where a basis is learnt. From a cache it takes 8 ns, in which a scan reads 400
/// bytes; from memory more, but there few bytes matter most.
pub(super) const CANDIDATE: f64 = 400.0;

/// A change of coordinates, and how many bits each gets.
#[derive(Clone)]
pub(super) struct Basis {
    pub dim: usize,
    /// What is subtracted from keys.
    pub mean: Vec<f32>,
    /// `y = forward (k - mean)`, row by row.
    pub forward: Vec<f64>,
    /// `g = backward q`, row by row; nearly `k - mean = backward^T y`. Then 16 zeros, for kernels that
    /// read beyond the end.
    pub backward: Vec<f32>,
    /// Step of every coordinate that has bits: those of 4 bits, then those of 2.
    pub steps: Vec<f32>,
    pub shape: Shape,
    /// What a key is expected to cost with codes of its own coordinates, over what it costs here.
    pub saves: f64,
}

/// `a b^T` for matrices with rows of length `n`.
pub(super) fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let (rows, cols) = (a.len() / n, b.len() / n);
    let mut out = vec![0.0; rows * cols];
    let (a, b) = (MatRef::from_slice(a, rows, n), MatRef::from_slice(b, cols, n));
    gemm(&mut MatCell::from_slice(&mut out, rows, cols), false, &a, &b.transpose());
    out
}

fn transposed(a: &[f64], n: usize) -> Vec<f64> {
    (0..a.len()).map(|x| a[x % (a.len() / n) * n + x / (a.len() / n)]).collect()
}

/// Second moments of the rows.
fn moments(rows: &[f64], n: usize) -> Vec<f64> {
    let columns = transposed(rows, n);
    let count = rows.len() / n;
    let mut sum = product(&columns, &columns, count);
    for x in &mut sum {
        *x /= count as f64;
    }
    sum
}

/// The square root of a positive matrix and its inverse, after shrinking it by the share `by`.
fn roots(moments: &[f64], n: usize, by: f64) -> Option<[Vec<f64>; 2]> {
    let (mut values, vectors) = symmetric_eigen(moments, n)?;
    let mean = values.iter().sum::<f64>() / n as f64;
    for x in &mut values {
        *x = (1.0 - by) * x.max(0.0) + by * mean;
    }
    if !values.iter().all(|&x| x > 0.0) {
        return None;
    }
    let columns = transposed(&vectors, n);
    let of = |f: fn(f64) -> f64| {
        let scaled: Vec<f64> =
            columns.iter().enumerate().map(|(x, v)| v * f(values[x % n])).collect();
        product(&scaled, &columns, n)
    };
    Some([of(f64::sqrt), of(|x| 1.0 / x.sqrt())])
}

impl Basis {
    /// Learns a basis, if the data allow one; `typical` are queries, row by row.
    pub fn learn(keys: &Keys, typical: Option<&[f32]>) -> Option<Self> {
        let n = keys.dim();
        if !(8..=LARGEST).contains(&n) || keys.len() < 256 {
            return None;
        }
        let sample = Sample::of(keys);
        let queries: Option<Vec<f64>> =
            typical.filter(|q| !q.is_empty()).map(|q| q.iter().map(|&x| x.into()).collect());
        let [root, inverse] = match &queries {
            Some(queries) => {
                let shrink = n as f64 / (n + queries.len() / n) as f64;
                roots(&moments(queries, n), n, shrink)?
            }
            None => [identity(n), identity(n)],
        };
        let stretched = product(&sample.centred, &root, n);
        let (variances, axes) = symmetric_eigen(&moments(&stretched, n), n)?;
        let (forward, backward) = (product(&axes, &root, n), product(&axes, &inverse, n));
        let coordinates = product(&sample.centred, &forward, n);
        let trial = Trial::new(&coordinates, &variances, n, |tried| {
            let own = || sample.centred.chunks_exact(n).step_by((sample.count / TRIED).max(1));
            let of_queries = |q: &[f64]| {
                let (count, tried) = (q.len() / n, tried.min(q.len() / n));
                let row = |i: usize| &q[spread(i, tried, count) * n..][..n];
                (0..tried).flat_map(row).copied().collect()
            };
            let chosen: Vec<f64> = match &queries {
                Some(queries) => of_queries(queries),
                None => own().take(tried).flatten().copied().collect(),
            };
            let turned = product(&chosen, &backward, n);
            (chosen, turned)
        });
        let (shape, least) = trial.best()?;
        let saves = trial.plain_cost(&sample) / least;
        let padding = std::iter::repeat_n(0.0, 16);
        let backward: Vec<f32> = backward.iter().map(|&x| x as f32).chain(padding).collect();
        let steps = trial.steps(shape)?;
        let sound = backward.iter().all(|x| x.is_finite()) && forward.iter().all(|x| x.is_finite());
        sound.then_some(Self { dim: n, mean: sample.mean, forward, backward, steps, shape, saves })
    }
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|x| f64::from(u8::from(x / n == x % n))).collect()
}

/// The i-th of `count` places spread over `len` evenly, but out of step with any period. Real keys often have
/// one, the length of their sequences.
pub(super) fn spread(i: usize, count: usize, len: usize) -> usize {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let jitter = (i as u64).wrapping_mul(GOLDEN) >> 32;
    let jitter = if count < len { (jitter * len as u64) >> 32 } else { 0 };
    ((i as u64 * len as u64 + jitter) / count as u64) as usize
}

/// Keys spread evenly, without their mean.
struct Sample {
    count: usize,
    mean: Vec<f32>,
    centred: Vec<f64>,
}

impl Sample {
    fn of(keys: &Keys) -> Self {
        let (n, count) = (keys.dim(), keys.len().min(SAMPLE));
        let slots: Vec<usize> = (0..count).map(|i| spread(i, count, keys.len())).collect();
        let mut rows = vec![0.0_f32; slots.len() * n];
        slots.iter().zip(rows.chunks_exact_mut(n)).for_each(|(&slot, row)| keys.widen(slot, row));
        let mut mean = vec![0.0_f64; n];
        for row in rows.chunks_exact(n) {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let mean: Vec<f32> = mean.iter().map(|sum| (sum / slots.len() as f64) as f32).collect();
        let centre = |(x, &y): (usize, &f32)| f64::from(y) - f64::from(mean[x % n]);
        let centred = rows.iter().enumerate().map(centre).collect();
        Self { count: slots.len(), mean, centred }
    }
}

/// Widths tried on the sample.
struct Trial<'a> {
    coordinates: &'a [f64],
    n: usize,
    /// Mean square that a coordinate loses with no bits, 2 and 4, and the steps of the last two.
    losses: Vec<([f64; 3], [f32; 2])>,
    queries: Vec<Tried>,
}

/// A query on the sample.
struct Tried {
    /// Its norm in the keys' own coordinates, and in those of the basis.
    norms: [f64; 2],
    /// The scores of the sample, largest first.
    scores: Vec<f64>,
}

impl<'a> Trial<'a> {
    fn new(
        coordinates: &'a [f64],
        variances: &[f64],
        n: usize,
        queries: impl FnOnce(usize) -> (Vec<f64>, Vec<f64>),
    ) -> Self {
        let loss = |j: usize| {
            let column: Vec<f64> =
                coordinates.chunks_exact(n).step_by(4).map(|row| row[j]).collect();
            let none = column.iter().map(|x| x * x).sum::<f64>() / column.len() as f64;
            let [two, four] = [4, 16].map(|levels| best_step(&column, variances[j], levels));
            ([none, two.0, four.0], [two.1, four.1])
        };
        let (own, turned) = queries(TRIED);
        let scores = product(&turned, coordinates, n);
        let count = coordinates.len() / n;
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let tried = |i: usize| {
            let mut scores = scores[i * count..(i + 1) * count].to_vec();
            scores.sort_unstable_by(|a, b| b.total_cmp(a));
            let row = i * n..(i + 1) * n;
            Tried { norms: [norm(&own[row.clone()]), norm(&turned[row])], scores }
        };
        let queries = (0..own.len() / n).map(tried).collect();
        Self { coordinates, n, losses: (0..n).map(loss).collect(), queries }
    }

    /// Mean over the queries of the share of keys left open by codes that lose so much, in the keys'
    /// own coordinates (0) or in those of the basis (1).
    fn open(&self, loss: f64, coordinates: usize) -> f64 {
        let count = self.coordinates.len() / self.n;
        let share = |tried: &Tried| {
            let rank = ((REPORTED * count as f64) as usize).min(count - 1);
            let low = tried.scores[rank] - tried.norms[coordinates] * loss.sqrt();
            tried.scores.partition_point(|&score| score >= low) as f64 / count as f64
        };
        self.queries.iter().map(share).sum::<f64>() / self.queries.len().max(1) as f64
    }

    /// What a key costs with 8 bits or 4 of its own coordinates, whichever is less.
    fn plain_cost(&self, sample: &Sample) -> f64 {
        let padded = self.n.next_multiple_of(16);
        let (mut codes, mut bits) = (vec![0; padded], vec![0.0; padded]);
        let (mut sum, mut count) = (0.0, 0.0);
        for row in sample.centred.chunks_exact(self.n).step_by(16) {
            let key = row.iter().zip(&sample.mean).map(|(&x, &mean)| x as f32 + mean);
            let mut key: Vec<f32> = key.chain(std::iter::repeat(0.0)).take(padded).collect();
            let isa = Isa::detect();
            let mut coded = [Summary::default()];
            let (key, bits, codes) = (&mut key, &mut bits, &mut codes);
            coder::code(isa, Bits::Four, self.n, key, bits, codes, &mut coded);
            sum += f64::from(wide16(coded[0].rest)).powi(2);
            count += 1.0;
        }
        let four = cost(quantized::narrow(self.n), self.open(sum / count, 0), CANDIDATE);
        four.min(cost(quantized::wide(self.n), 0.0, CANDIDATE))
    }

    /// The widths that cost least, and what they cost.
    fn best(&self) -> Option<(Shape, f64)> {
        let mut best: Option<(Shape, f64)> = None;
        let lines = self.n.div_ceil(8);
        // About two dozen of each are enough to choose from.
        let every = lines.div_ceil(24);
        for nibbles in (0..=lines).step_by(every) {
            let left = self.n.saturating_sub(8 * nibbles).div_ceil(16);
            for crumbs in (0..=left).step_by(every) {
                let shape = Shape { wide: 0, nibbles, crumbs, scaled: false };
                if shape.lines() == 0 {
                    continue;
                }
                let width = |j: usize| match j {
                    j if j < 8 * nibbles => 2,
                    j if j < 8 * nibbles + 16 * crumbs => 1,
                    _ => 0,
                };
                let loss: f64 = (0..self.n).map(|j| self.losses[j].0[width(j)]).sum();
                let cost = cost(shape, self.open(loss, 1), CANDIDATE);
                if best.as_ref().is_none_or(|(_, least)| cost < *least) {
                    best = Some((shape, cost));
                }
            }
        }
        best
    }

    /// The steps of the coordinates that have bits, 1 for those that only fill a line.
    fn steps(&self, shape: Shape) -> Option<Vec<f32>> {
        let step = |j: usize| {
            let width = usize::from(j < 8 * shape.nibbles);
            self.losses.get(j).map_or(1.0, |(_, steps)| steps[width])
        };
        let steps: Vec<f32> = (0..8 * shape.nibbles + 16 * shape.crumbs).map(step).collect();
        steps.iter().all(|x| x.is_finite() && *x > 0.0).then_some(steps)
    }
}

/// The least mean square that so many levels lose, and their step.
fn best_step(column: &[f64], variance: f64, levels: i32) -> (f64, f32) {
    let deviation = variance.max(1e-30).sqrt();
    let half = f64::from(levels / 2);
    let loss = |step: f64| {
        let square = |&x: &f64| {
            let code = (x / step).floor().clamp(-half, half - 1.0) + 0.5;
            (x - step * code) * (x - step * code)
        };
        column.iter().map(square).sum::<f64>() / column.len() as f64
    };
    // Gaussian coordinates want 0.996 with 4 levels and 0.335 with 16.
    let around = if levels == 4 { 0.996 } else { 0.335 } * deviation;
    let tried = [0.5, 0.65, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5].map(|x| x * around);
    let best = tried.map(|step| (loss(f64::from(step as f32)), step as f32));
    best.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, 1.0))
}
