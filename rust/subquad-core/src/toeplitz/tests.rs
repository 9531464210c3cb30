//! Products and sums against sums over entries.

use super::{Gradients, Transform, product, product_grad, rescaled_sum, rescaled_sum_grad};
use crate::mat::{MatCell, MatRef};
use crate::par::with_room;
use crate::{Error, Par};

/// Numbers without order, from -1 to 1.
fn numbers<T: Transform>(len: usize, seed: usize) -> Vec<T> {
    let mut state = seed as u64 * 2_654_435_761 + 12345;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| T::from_f64(next())).collect()
}

fn wide<T: Transform>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

/// `T x` by its definition, of shape `l x c`.
fn apply(w: &[f64], x: &[f64], (l, s, c): (usize, usize, usize)) -> Vec<f64> {
    let mut out = vec![0.0; l * c];
    for i in 0..l {
        for j in 0..s {
            for k in 0..c {
                out[i * c + k] += w[i + s - 1 - j] * x[j * c + k];
            }
        }
    }
    out
}

/// `T^t x`, of shape `s x c`.
fn apply_transposed(w: &[f64], x: &[f64], (l, s, c): (usize, usize, usize)) -> Vec<f64> {
    let back: Vec<f64> = w.iter().rev().copied().collect();
    apply(&back, x, (s, l, c))
}

/// `sum g[i] . x[j]` over `i - j = lag`.
fn lags(g: &[f64], x: &[f64], (l, s, c): (usize, usize, usize)) -> Vec<f64> {
    let mut out = vec![0.0; l + s - 1];
    for i in 0..l {
        for j in 0..s {
            for k in 0..c {
                out[i + s - 1 - j] += g[i * c + k] * x[j * c + k];
            }
        }
    }
    out
}

fn scaled(by: &[f64], x: &[f64], c: usize) -> Vec<f64> {
    x.iter().enumerate().map(|(at, x)| by[at / c] * x).collect()
}

fn assert_near<T: Transform>(found: &[T], expected: &[f64], error: f64, what: &str) {
    let size = expected.iter().fold(1.0, |most: f64, x| most.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let found = found.to_f64();
        assert!(
            (found - expected).abs() <= error * size,
            "{what}: {found}, not {expected}, at {i}"
        );
    }
}

const SHAPES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (2, 1, 3),
    (1, 3, 2),
    (3, 3, 17),
    (129, 127, 2),
    (257, 256, 33),
    (31, 700, 16),
    (700, 31, 40),
    (501, 499, 65),
    (1024, 1025, 1),
    (5000, 3, 2),
    (4200, 4100, 1),
];

fn products_are_sums<T: Transform>(error: f64) {
    for (l, s, c) in SHAPES {
        let n = 3;
        let w: Vec<T> = numbers(2 * (l + s - 1), 1);
        let (x, g): (Vec<T>, Vec<T>) = (numbers(n * s * c, 2), numbers(n * l * c, 3));
        let which = [1, 0, 1];
        let weights = MatRef::from_slice(&w, 2, l + s - 1);
        let xs: Vec<_> = x.chunks(s * c).map(|x| MatRef::from_slice(x, s, c)).collect();
        let gs: Vec<_> = g.chunks(l * c).map(|g| MatRef::from_slice(g, l, c)).collect();
        for workers in [1, 2] {
            let par = Par::threads(workers);
            let mut out = vec![T::ZERO; n * l * c];
            let to: Vec<_> = out.chunks_mut(l * c).map(|x| MatCell::from_slice(x, l, c)).collect();
            product(&weights, &which, &xs, &to, false, par).unwrap();
            let mut back = vec![T::ZERO; n * s * c];
            let to: Vec<_> = back.chunks_mut(s * c).map(|x| MatCell::from_slice(x, s, c)).collect();
            product(&weights, &which, &gs, &to, true, par).unwrap();
            let mut grad = vec![T::ONE; 2 * (l + s - 1)];
            let to = MatCell::from_slice(&mut grad, 2, l + s - 1);
            product_grad(&gs, &xs, &which, &to, par).unwrap();
            let (w, x, g) = (wide(&w), wide(&x), wide(&g));
            let mut of_weights = vec![1.0; 2 * (l + s - 1)];
            for m in 0..n {
                let at = which[m] * (l + s - 1);
                let w = &w[at..at + l + s - 1];
                let (x, g) = (&x[m * s * c..(m + 1) * s * c], &g[m * l * c..(m + 1) * l * c]);
                let what = format!("{l} x {s}, {c} columns");
                assert_near(&out[m * l * c..], &apply(w, x, (l, s, c)), error, &what);
                assert_near(&back[m * s * c..], &apply_transposed(w, g, (l, s, c)), error, &what);
                for (i, x) in lags(g, x, (l, s, c)).into_iter().enumerate() {
                    of_weights[at + i] += x;
                }
            }
            assert_near(&grad, &of_weights, error, "weights");
        }
    }
}

#[test]
fn products_are_sums_in_double() {
    with_room(|| products_are_sums::<f64>(1e-13));
}

#[test]
fn products_are_sums_in_single() {
    with_room(|| products_are_sums::<f32>(2e-5));
}

fn sums_of_terms_are_sums<T: Transform>(error: f64) {
    let counts = [(1, 1), (3, 1), (3, 3), (41, 1), (40, 40), (70, 1)];
    // Where nothing is optimised many terms take long.
    let counts = if cfg!(debug_assertions) { &counts[1..4] } else { &counts[..] };
    for (l, s, c) in [(5, 7, 1), (40, 33, 17), (100, 90, 34), (64, 64, 16), (300, 1, 70)] {
        for &(terms, rows) in counts {
            let w: Vec<T> = numbers(rows * (l + s - 1), 1);
            let (left, right): (Vec<T>, Vec<T>) = (numbers(terms * l, 2), numbers(terms * s, 3));
            let (x, g): (Vec<T>, Vec<T>) = (numbers(s * c, 4), numbers(l * c, 5));
            let [weights, lefts, rights, xs, gs] = [
                (&w, rows, l + s - 1),
                (&left, terms, l),
                (&right, terms, s),
                (&x, s, c),
                (&g, l, c),
            ]
            .map(|(x, rows, cols)| MatRef::from_slice(x, rows, cols));
            let mut results = Vec::new();
            for workers in [1, 2] {
                let par = Par::threads(workers);
                let mut out = vec![T::ONE; l * c];
                let to = MatCell::from_slice(&mut out, l, c);
                rescaled_sum(&weights, &lefts, &rights, &xs, &to, par).unwrap();
                let mut grads = [&left, &right, &x, &w].map(|x| vec![T::ONE; x.len()]);
                let [a, b, d, e] = &mut grads;
                let to = Gradients {
                    left: Some(MatCell::from_slice(a, terms, l)),
                    right: Some(MatCell::from_slice(b, terms, s)),
                    x: Some(MatCell::from_slice(d, s, c)),
                    weights: Some(MatCell::from_slice(e, rows, l + s - 1)),
                };
                rescaled_sum_grad(&weights, &lefts, &rights, &xs, &gs, &to, par).unwrap();
                // Without the weights nothing else changes but the order of operations.
                let mut some = [&left, &right, &x].map(|x| vec![T::ONE; x.len()]);
                let [a, b, d] = &mut some;
                let to = Gradients {
                    left: Some(MatCell::from_slice(a, terms, l)),
                    right: Some(MatCell::from_slice(b, terms, s)),
                    x: Some(MatCell::from_slice(d, s, c)),
                    weights: None,
                };
                rescaled_sum_grad(&weights, &lefts, &rights, &xs, &gs, &to, par).unwrap();
                for (some, all) in some.iter().zip(&grads) {
                    assert_near(some, &wide(all), error, "without weights");
                }
                results.push((out, grads));
            }
            assert_eq!(results[0], results[1]);
            let (out, grads) = results.pop().unwrap();
            let [w, left, right, x, g] = [&w, &left, &right, &x, &g].map(|x| wide(x));
            let mut expected = vec![1.0; l * c];
            let mut of = [&left, &right, &x, &w].map(|x| vec![1.0; x.len()]);
            for t in 0..terms {
                let own = if rows == 1 { 0 } else { t * (l + s - 1) };
                let w = &w[own..own + l + s - 1];
                let (left, right) = (&left[t * l..(t + 1) * l], &right[t * s..(t + 1) * s]);
                let y = apply(w, &scaled(right, &x, c), (l, s, c));
                let z = apply_transposed(w, &scaled(left, &g, c), (l, s, c));
                for at in 0..l * c {
                    expected[at] += left[at / c] * y[at];
                    of[0][t * l + at / c] += g[at] * y[at];
                }
                for at in 0..s * c {
                    of[1][t * s + at / c] += x[at] * z[at];
                    of[2][at] += right[at / c] * z[at];
                }
                let by_lag = lags(&scaled(left, &g, c), &scaled(right, &x, c), (l, s, c));
                by_lag.iter().enumerate().for_each(|(i, x)| of[3][own + i] += x);
            }
            let what = format!("{terms} terms of {l} x {s}, {c} columns, {rows} weights");
            assert_near(&out, &expected, error, &what);
            for (i, (found, expected)) in grads.iter().zip(&of).enumerate() {
                assert_near(found, expected, error, &format!("gradient {i}: {what}"));
            }
        }
    }
}

#[test]
fn sums_of_terms_are_sums_in_double() {
    with_room(|| sums_of_terms_are_sums::<f64>(1e-13));
}

#[test]
fn sums_of_terms_are_sums_in_single() {
    with_room(|| sums_of_terms_are_sums::<f32>(3e-5));
}

#[test]
fn what_is_not_finite_is_refused() {
    with_room(not_finite);
}

fn not_finite() {
    for (l, s) in [(3, 4), (400, 300)] {
        for bad in [f64::NAN, f64::INFINITY] {
            let w = vec![1.0; l + s - 1];
            let mut x = vec![0.5; s * 3];
            x[3 * (s - 1) + 1] = bad;
            let mut out = vec![0.0; l * 3];
            let (weights, x) = (MatRef::from_slice(&w, 1, l + s - 1), MatRef::from_slice(&x, s, 3));
            let to = [MatCell::from_slice(&mut out, l, 3)];
            let found = product(&weights, &[0], &[x], &to, false, Par::seq());
            assert!(matches!(found, Err(Error::NonFinite { .. })));
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let data = [0.0_f64; 64];
    let view = |rows, cols| MatRef::from_slice(&data[..rows * cols], rows, cols);
    let mut out = [0.0; 64];
    let to = [MatCell::from_slice(&mut out[..6], 3, 2)];
    for (weights, which, x) in
        [(view(1, 5), 0, view(4, 2)), (view(1, 6), 1, view(4, 2)), (view(1, 6), 0, view(4, 3))]
    {
        assert!(product(&weights, &[which], &[x], &to, false, Par::seq()).is_err());
    }
    assert!(product(&view(1, 6), &[0], &[view(4, 2)], &to, false, Par::seq()).is_ok());
}
