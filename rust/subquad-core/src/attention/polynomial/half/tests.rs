//! Sums by products of bf16 against those of float32, and against the definition within their bound.

use super::super::tests::{Random, TAYLOR};
use super::super::{TILE, polynomial_sums};
use super::*;
use crate::attention::{Head, Visible};
use crate::mat::{MatCell, MatRef};

/// Numbers of one head: `[L, S, E, Ev]`.
struct Case {
    sizes: [usize; 4],
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    masses: Vec<f32>,
    coefficients: Vec<f64>,
    scale: f64,
}

impl Case {
    fn new(sizes: [usize; 4], coefficients: &[f64]) -> Self {
        let mut random = Random(7);
        let [l, s, e, ev] = sizes;
        let mut many = |len| random.many(len).into_iter().map(|x| x as f32).collect::<Vec<_>>();
        Self {
            sizes,
            query: many(l * e),
            key: many(s * e),
            value: many(s * ev).iter().map(|x| x + 0.5).collect(),
            masses: many(s),
            coefficients: coefficients.to_vec(),
            scale: 0.7,
        }
    }

    /// Rows and sums, by products of float32 or of bf16.
    fn found(&self, half: Option<Bf16>, visible: Visible, threads: usize) -> Result<[Vec<f32>; 2]> {
        let [l, s, e, ev] = self.sizes;
        let view = |x, rows, cols| Rows::from(MatRef::from_slice(x, rows, cols));
        let head = Head {
            query: view(&self.query, l, e),
            key: view(&self.key, s, e),
            value: view(&self.value, s, ev),
            mask: None,
            bias: None,
            lags: None,
            weights: None,
        };
        let problem = Problem::new(vec![head], self.scale, visible).unwrap();
        let (masses, par) = ([view(&self.masses, s, 1)], Par::threads(threads));
        let (mut rows, mut sums) = (vec![7.0_f32; l * ev], vec![7.0_f32; l]);
        let output = [RowSums {
            rows: MatCell::from_slice(&mut rows, l, ev),
            sums: MatCell::from_slice(&mut sums, l, 1),
        }];
        let c = &self.coefficients;
        match half {
            Some(bf16) => polynomial_sums_half(&problem, &masses, c, &output, bf16, par)?,
            None => polynomial_sums(&problem, &masses, Polynomial::Univariate(c), &output, par)?,
        };
        Ok([rows, sums])
    }

    /// A number of the rows key by key; its absolute terms, and those of degree 2 and more.
    fn expected(&self, i: usize, c: usize) -> [f64; 3] {
        let [_, s, e, ev] = self.sizes;
        let mut all = [0.0; 3];
        for j in 0..s {
            let (q, k) = (&self.query[i * e..][..e], &self.key[j * e..][..e]);
            let dot = |of: fn(f64) -> f64| {
                let terms = q.iter().zip(k).map(|(&q, &k)| of(f64::from(q) * f64::from(k)));
                self.scale * terms.sum::<f64>()
            };
            let (x, most, v) = (dot(|x| x), dot(f64::abs), f64::from(self.value[j * ev + c]));
            for (t, &p) in self.coefficients.iter().enumerate() {
                let term = (p * v).abs() * most.powi(t as i32);
                all[0] += p * x.powi(t as i32) * v;
                all[1] += term;
                all[2] += if t < 2 { 0.0 } else { term };
            }
        }
        all
    }

    fn check(&self, bf16: Bf16) {
        let single = self.found(None, Visible::ALL, 1).unwrap();
        let found = self.found(Some(bf16), Visible::ALL, 1).unwrap();
        assert_eq!(found[1], single[1], "{:?}", self.sizes);
        let ev = self.sizes[3];
        for (at, &x) in found[0].iter().enumerate() {
            let [expected, size, rounded] = self.expected(at / ev, at % ev);
            let most = 1.02 * ((1.0 + 2.0_f64.powi(-8)).powi(4) - 1.0) * rounded + 1e-5 * size;
            let place = (self.sizes, &self.coefficients, at);
            assert!((f64::from(x) - expected).abs() <= most, "{place:?}: {x} for {expected}");
        }
    }
}

#[test]
fn the_definition_is_met_within_the_bound() {
    let Some(bf16) = Bf16::detect() else { return };
    // Numbers of features of degree 2 and more that are odd, and more than a block.
    for sizes in [
        [1, 1, 1, 1],
        [5, 7, 2, 16],
        [TILE - 1, TILE + 1, 5, 17],
        [TILE, TILE, 8, 64],
        [TILE + 1, TILE - 1, 11, 100],
        [70, 400, 17, 33],
    ] {
        for degree in 2..=4 {
            if degree < 4 || sizes[2] < 9 {
                Case::new(sizes, &TAYLOR[..=degree]).check(bf16);
            }
        }
    }
    for coefficients in [&[1.0, 0.0, 0.5][..], &[-2.0, 0.5, 0.0, 0.1, 0.0], &[0.0, 0.0, 3.0]] {
        Case::new([50, 120, 6, 5], coefficients).check(bf16);
    }
}

#[test]
fn small_integers_are_not_rounded() {
    let Some(bf16) = Bf16::detect() else { return };
    for sizes in [[97, 30, 5, 17], [2, 29, 10, 80], [200, 1, 3, 4]] {
        let mut case = Case::new(sizes, &[1.0; 3]);
        case.scale = 1.0;
        for x in case.query.iter_mut().chain(&mut case.key).chain(&mut case.value) {
            *x = (*x * 2.0).round();
        }
        let [rows, _] = case.found(Some(bf16), Visible::ALL, 1).unwrap();
        for (at, &x) in rows.iter().enumerate() {
            let [expected, ..] = case.expected(at / sizes[3], at % sizes[3]);
            assert_eq!(f64::from(x), expected);
        }
    }
}

#[test]
fn degrees_below_two_are_those_of_float32() {
    let Some(bf16) = Bf16::detect() else { return };
    for coefficients in [&[0.3][..], &[0.3, -1.7], &[0.0, 1.0, 0.0, 0.0], &[0.0]] {
        for sizes in [[130, 300, 60, 33], [3, 4, 1, 5]] {
            let case = Case::new(sizes, coefficients);
            let [half, single] = [Some(bf16), None].map(|of| case.found(of, Visible::ALL, 1));
            assert_eq!(half, single);
        }
    }
}

#[test]
fn threads_change_nothing() {
    let Some(bf16) = Bf16::detect() else { return };
    let case = Case::new([20_000, 17_000, 3, 4], &TAYLOR[..4]);
    let one = case.found(Some(bf16), Visible::ALL, 1);
    for threads in [2, 3] {
        assert_eq!(case.found(Some(bf16), Visible::ALL, threads), one);
    }
}

#[test]
fn every_key_must_be_visible() {
    let Some(bf16) = Bf16::detect() else { return };
    let case = Case::new([5, 7, 3, 2], &TAYLOR[..3]);
    let refused = case.found(Some(bf16), Visible::causal(0, None), 1);
    assert!(matches!(refused, Err(Error::Domain { name: "half", .. })));
}
