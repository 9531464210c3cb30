//! Polynomial attention against its definition, key by key.

use super::*;
use crate::attention::{Head, HeadGradients, Visible};
use crate::mat::{MatCell, MatRef, Rows};

pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    pub fn many(&mut self, len: usize) -> Vec<f64> {
        (0..len).map(|_| self.next()).collect()
    }
}

/// Numbers of one head.
struct Case {
    sizes: [usize; 4],
    query: Vec<f64>,
    key: Vec<f64>,
    value: Vec<f64>,
    grad_out: Vec<f64>,
    coefficients: Vec<f64>,
    scale: f64,
    visible: Visible,
}

impl Case {
    fn new(sizes: [usize; 4], coefficients: &[f64], visible: Visible, seed: u64) -> Self {
        let mut random = Random(seed | 1);
        let [l, s, e, ev] = sizes;
        Self {
            sizes,
            query: random.many(l * e),
            key: random.many(s * e),
            value: random.many(s * ev),
            grad_out: random.many(l * ev),
            coefficients: coefficients.to_vec(),
            scale: 0.7 / (e as f64).sqrt(),
            visible,
        }
    }

    /// Output, then the gradients of query, key, value and coefficients.
    fn expected(&self) -> [Vec<f64>; 5] {
        let [l, s, e, ev] = self.sizes;
        let c = &self.coefficients;
        let mut out = vec![0.0; l * ev];
        let mut grads = [vec![0.0; l * e], vec![0.0; s * e], vec![0.0; s * ev], vec![0.0; c.len()]];
        for i in 0..l {
            let keys = self.visible.keys(i, s);
            let q = &self.query[i * e..(i + 1) * e];
            let logit = |j: usize| {
                let k = &self.key[j * e..(j + 1) * e];
                self.scale * q.iter().zip(k).map(|(x, y)| x * y).sum::<f64>()
            };
            let weight = |s: f64| c.iter().rev().fold(0.0, |p, c| p * s + c);
            let slope = |s: f64| {
                c.iter().enumerate().skip(1).rev().fold(0.0, |p, (t, c)| p * s + t as f64 * c)
            };
            let sum: f64 = keys.clone().map(|j| weight(logit(j))).sum();
            for j in keys.clone() {
                for a in 0..ev {
                    out[i * ev + a] += weight(logit(j)) / sum * self.value[j * ev + a];
                }
            }
            let g = &self.grad_out[i * ev..(i + 1) * ev];
            for j in keys {
                let x = logit(j);
                let v = &self.value[j * ev..(j + 1) * ev];
                let inner = |a: usize| g[a] * (v[a] - out[i * ev + a]);
                let up: f64 = (0..ev).map(inner).sum::<f64>() / sum;
                for a in 0..ev {
                    grads[2][j * ev + a] += weight(x) / sum * g[a];
                }
                for a in 0..e {
                    grads[0][i * e + a] += self.scale * up * slope(x) * self.key[j * e + a];
                    grads[1][j * e + a] += self.scale * up * slope(x) * q[a];
                }
                for (t, to) in grads[3].iter_mut().enumerate() {
                    *to += up * x.powi(t as i32);
                }
            }
        }
        let [dq, dk, dv, dc] = grads;
        [out, dq, dk, dv, dc]
    }

    /// As the kernels have it.
    fn found<T: Compute>(&self, threads: usize) -> [Vec<f64>; 5]
    where
        for<'a> Rows<'a>: From<MatRef<'a, T>>,
    {
        let [l, s, e, ev] = self.sizes;
        let of = |x: &[f64]| x.iter().map(|&x| T::from_f64(x)).collect::<Vec<T>>();
        let (q, k, v, g) = (of(&self.query), of(&self.key), of(&self.value), of(&self.grad_out));
        let head = Head {
            query: MatRef::from_slice(&q, l, e).into(),
            key: MatRef::from_slice(&k, s, e).into(),
            value: MatRef::from_slice(&v, s, ev).into(),
            mask: None,
            bias: None,
            lags: None,
            weights: None,
        };
        let problem = Problem::new(vec![head], self.scale, self.visible).unwrap();
        let par = Par::threads(threads);
        let zeros = |len| vec![T::ZERO; len];
        let (mut out, mut dq, mut dk, mut dv) =
            (zeros(l * ev), zeros(l * e), zeros(s * e), zeros(s * ev));
        let output = Output { out: MatCell::from_slice(&mut out, l, ev), lse: None, parts: None };
        polynomial_forward(&problem, &self.coefficients, &[output], par).unwrap();
        let gradients = HeadGradients {
            query: Some(MatCell::from_slice(&mut dq, l, e)),
            key: Some(MatCell::from_slice(&mut dk, s, e)),
            value: Some(MatCell::from_slice(&mut dv, s, ev)),
            bias: None,
            lags: None,
            weights: None,
        };
        let mut dc = vec![0.0; self.coefficients.len()];
        let up = [MatRef::from_slice(&g, l, ev).into()];
        let to = Some(&mut dc[..]);
        polynomial_backward(&problem, &self.coefficients, &up, &[gradients], to, par).unwrap();
        let wide = |x: Vec<T>| x.into_iter().map(T::to_f64).collect::<Vec<f64>>();
        [wide(out), wide(dq), wide(dk), wide(dv), dc]
    }

    fn check(&self) {
        let expected = self.expected();
        let (double, single) = (self.found::<f64>(1), self.found::<f32>(1));
        for (found, tolerance) in [(double, 1e-12), (single, 3e-5)] {
            let names = ["out", "query", "key", "value", "coefficients"];
            for ((found, expected), name) in found.iter().zip(&expected).zip(names) {
                let size = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs())).max(0.1);
                for (x, y) in found.iter().zip(expected) {
                    let off = (x - y).abs() / size;
                    let place = (self.sizes, self.visible);
                    assert!(off <= tolerance, "{name} {place:?}: {x} for {y}");
                }
            }
        }
    }
}

pub const TAYLOR: [f64; 5] = [1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0];

#[test]
fn the_definition_is_met() {
    let shapes = [
        [1, 1, 1, 1],
        [5, 7, 3, 2],
        [96, 96, 8, 16],
        [97, 200, 5, 33],
        [300, 95, 17, 7],
        [130, 130, 33, 65],
    ];
    for (i, sizes) in shapes.into_iter().enumerate() {
        for degree in [0, 1, 2, 3, 4] {
            if degree < 4 || sizes[2] < 20 {
                Case::new(sizes, &TAYLOR[..=degree], Visible::ALL, i as u64 + 3).check();
            }
        }
    }
}

#[test]
fn queries_may_see_only_keys_before_them() {
    let shapes = [[1, 1, 2, 2], [96, 96, 4, 5], [97, 97, 3, 2], [250, 250, 6, 17], [40, 300, 5, 3]];
    for sizes in shapes.into_iter().chain([[300, 40, 5, 3]]) {
        let [l, s, ..] = sizes;
        for shift in [0, s as isize - l as isize, -3, 50, -150] {
            let visible = Visible::causal(shift, None);
            let case = Case::new(sizes, &TAYLOR[..3], visible, 11);
            case.check();
        }
    }
}

#[test]
fn terms_may_be_missing() {
    for coefficients in [&[1.0, 0.0, 0.5][..], &[2.0, 0.5, 0.0, 0.1, 0.0], &[1.0, 0.3, 0.0]] {
        Case::new([50, 120, 6, 5], coefficients, Visible::ALL, 9).check();
    }
}

#[test]
fn gradients_are_as_large_as_what_they_are_of() {
    for visible in [Visible::ALL, Visible::causal(20, None)] {
        let case = |factor: f64| {
            let mut case = Case::new([130, 150, 6, 5], &TAYLOR[..3], visible, 13);
            case.grad_out.iter_mut().for_each(|x| *x *= factor);
            case.found::<f32>(1)
        };
        let [_, expected @ ..] = case(1.0);
        for factor in [2.0_f64.powi(110), 2.0_f64.powi(-70)] {
            let [_, found @ ..] = case(factor);
            for (found, expected) in found.iter().zip(&expected) {
                assert!(found.iter().zip(expected).all(|(x, y)| *x == y * factor));
            }
        }
    }
}

#[test]
fn threads_change_nothing() {
    // Three parts, also of a scan; keys that all queries see, and keys that few do.
    let sizes = [33_000, 34_000, 3, 5];
    let scans = [0, 17_000, -3, -17_000].map(|shift| Visible::causal(shift, None));
    for visible in scans.into_iter().chain([Visible::ALL]) {
        let case = Case::new(sizes, &TAYLOR[..3], visible, 5);
        let one = case.found::<f32>(1);
        for threads in [2, 3] {
            assert!(case.found::<f32>(threads) == one, "{visible:?}, {threads}");
        }
    }
}
