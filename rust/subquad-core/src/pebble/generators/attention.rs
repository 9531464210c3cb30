//! Attention, forward and backward.

use super::Form;
use super::builder::{Builder, Matrix, Sum};

/// An entry of the product of one matrix with the transpose of another.
fn dot(b: &mut Builder, label: &str, at: [usize; 2], form: Form, x: Matrix, y: Matrix) -> u32 {
    let [i, j] = at;
    let mut sum = Sum::new(label, at, form, x.columns());
    (0..x.columns()).for_each(|c| sum.multiply(b, [x.at(i, c), y.at(j, c)]));
    sum.value()
}

/// Sums over keys, for one query.
struct Row<'a> {
    weights: Sum<'a, 1>,
    values: Vec<Sum<'a, 2>>,
}

impl Row<'_> {
    fn new(i: usize, n: usize, d: usize, form: Form) -> Self {
        let values = (0..d).map(|c| Sum::new("U", [i, c], form, n)).collect();
        Self { weights: Sum::new("l", [i], form, n), values }
    }

    fn add(&mut self, b: &mut Builder, weight: u32, value: Matrix, j: usize) {
        self.weights.add(b, weight);
        for (c, sum) in self.values.iter_mut().enumerate() {
            sum.multiply(b, [weight, value.at(j, c)]);
        }
    }
}

fn divide(b: &mut Builder, i: usize, values: impl Iterator<Item = u32>, weights: u32) {
    for (c, value) in values.enumerate() {
        let output = b.vertex("O", &[i, c], &[value, weights]);
        b.output(output);
    }
}

/// With exponentials of the scores, or, if it is `safe`, of what they are below the maximum.
pub(super) fn forward(b: &mut Builder, n: usize, d: usize, form: Form, safe: bool) {
    let [q, k, v] = ["Q", "K", "V"].map(|label| b.input(label, n, d));
    for i in 0..n {
        let mut row = Row::new(i, n, d, form);
        let mut scores = vec![];
        let mut maximum = Sum::new("m", [i], form, n);
        for j in 0..n {
            b.piece();
            let score = dot(b, "S", [i, j], form, q, k);
            if safe {
                maximum.add(b, score);
                scores.push(score);
            } else {
                let weight = b.vertex("P", &[i, j], &[score]);
                row.add(b, weight, v, j);
            }
        }
        for (j, &score) in scores.iter().enumerate() {
            b.piece();
            let weight = b.vertex("P", &[i, j], &[score, maximum.value()]);
            row.add(b, weight, v, j);
        }
        b.piece();
        divide(b, i, row.values.iter().map(Sum::value), row.weights.value());
    }
}

/// With exponentials of what scores are below the maximum so far.
pub(super) fn online(b: &mut Builder, n: usize, d: usize, form: Form) {
    let [q, k, v] = ["Q", "K", "V"].map(|label| b.input(label, n, d));
    for i in 0..n {
        let mut row: Option<Online> = None;
        for j in 0..n {
            b.piece();
            let score = dot(b, "S", [i, j], form, q, k);
            row = Some(match row {
                None => {
                    let weights = b.vertex("P", &[i, j], &[score]);
                    let first = |c| b.vertex("U", &[i, c, 0], &[weights, v.at(j, c)]);
                    Online { maximum: score, weights, values: (0..d).map(first).collect() }
                }
                Some(before) => before.next(b, form, [i, j], score, v),
            });
        }
        b.piece();
        if let Some(row) = row {
            divide(b, i, row.values.into_iter(), row.weights);
        }
    }
}

/// What is known of a query after some keys.
struct Online {
    maximum: u32,
    weights: u32,
    values: Vec<u32>,
}

impl Online {
    fn next(self, b: &mut Builder, form: Form, at: [usize; 2], score: u32, value: Matrix) -> Self {
        let [i, j] = at;
        let maximum = b.vertex("m", &at, &[self.maximum, score]);
        let scale = b.vertex("r", &at, &[self.maximum, maximum]);
        let weight = b.vertex("P", &at, &[score, maximum]);
        let fused = form == Form::Fma;
        let weights = if fused {
            b.vertex("l", &at, &[self.weights, scale, weight])
        } else {
            let scaled = b.vertex("r*l", &at, &[self.weights, scale]);
            b.vertex("l", &at, &[scaled, weight])
        };
        let step = |(c, before): (usize, u32)| {
            let (at, v) = ([i, c, j], value.at(j, c));
            if fused {
                return b.vertex("U", &at, &[before, scale, weight, v]);
            }
            let product = b.vertex("P*V", &at, &[weight, v]);
            let scaled = b.vertex("r*U", &at, &[before, scale]);
            b.vertex("U", &at, &[scaled, product])
        };
        let values = self.values.into_iter().enumerate().map(step).collect();
        Self { maximum, weights, values }
    }
}

pub(super) fn backward(b: &mut Builder, n: usize, d: usize, form: Form) {
    let [q, k, v, o, grad] = ["Q", "K", "V", "O", "dO"].map(|label| b.input(label, n, d));
    let logs: Vec<u32> = (0..n).map(|i| b.vertex("L", &[i], &[])).collect();
    let inner: Vec<u32> = (0..n)
        .map(|i| {
            b.piece();
            let mut sum = Sum::new("D", [i], form, d);
            (0..d).for_each(|c| sum.multiply(b, [grad.at(i, c), o.at(i, c)]));
            sum.value()
        })
        .collect();
    let sums = |label, i| (0..d).map(move |c| Sum::new(label, [i, c], form, n)).collect::<Vec<_>>();
    let mut query_sums: Vec<_> = (0..n).map(|i| sums("dQ", i)).collect();
    for j in 0..n {
        let (mut key_sums, mut value_sums) = (sums("dK", j), sums("dV", j));
        for i in 0..n {
            b.piece();
            let score = dot(b, "S", [i, j], form, q, k);
            let weight = b.vertex("P", &[i, j], &[score, logs[i]]);
            for (c, sum) in value_sums.iter_mut().enumerate() {
                sum.multiply(b, [weight, grad.at(i, c)]);
            }
            let weight_slope = dot(b, "dP", [i, j], form, grad, v);
            let slope = b.vertex("dS", &[i, j], &[weight, weight_slope, inner[i]]);
            for c in 0..d {
                query_sums[i][c].multiply(b, [slope, k.at(j, c)]);
                key_sums[c].multiply(b, [slope, q.at(i, c)]);
            }
        }
        key_sums.iter().chain(&value_sums).for_each(|sum| b.output(sum.value()));
    }
    query_sums.iter().flatten().for_each(|sum| b.output(sum.value()));
}
