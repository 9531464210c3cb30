//! Sums and their vector-Jacobian products against the definition, key by key.

use super::super::tests::{Random, TAYLOR};
use super::*;
use crate::attention::{Head, Visible};
use crate::mat::MatRef;

/// Numbers of one head, and its cotangents.
struct Case {
    sizes: [usize; 4],
    query: Vec<f64>,
    key: Vec<f64>,
    value: Vec<f64>,
    masses: Vec<f64>,
    grad_rows: Vec<f64>,
    grad_sums: Vec<f64>,
    coefficients: Vec<f64>,
    /// So many coordinates lead, and the same polynomial is written in two variables.
    lead: Option<usize>,
    scale: f64,
    visible: Visible,
}

/// Rows, sums, and the gradients of query, key, value and masses.
type Results = [Vec<f64>; 6];

const NAMES: [&str; 6] = ["rows", "sums", "query", "key", "value", "masses"];

impl Case {
    fn new(sizes: [usize; 4], coefficients: &[f64], visible: Visible, seed: u64) -> Self {
        let mut random = Random(seed | 1);
        let [l, s, e, ev] = sizes;
        Self {
            sizes,
            query: random.many(l * e),
            key: random.many(s * e),
            value: random.many(s * ev).iter().map(|x| x + 3.0).collect(),
            masses: random.many(s),
            grad_rows: random.many(l * ev),
            grad_sums: random.many(l),
            coefficients: coefficients.to_vec(),
            lead: None,
            scale: 0.7 / (e as f64).sqrt(),
            visible,
        }
    }

    fn expected(&self) -> Results {
        let [l, s, e, ev] = self.sizes;
        let c = &self.coefficients;
        let (mut rows, mut sums) = (vec![0.0; l * ev], vec![0.0; l]);
        let (mut dq, mut dk) = (vec![0.0; l * e], vec![0.0; s * e]);
        let (mut dv, mut dm) = (vec![0.0; s * ev], vec![0.0; s]);
        for i in 0..l {
            let (q, g) = (&self.query[i * e..][..e], &self.grad_rows[i * ev..][..ev]);
            for j in self.visible.keys(i, s) {
                let (k, v) = (&self.key[j * e..][..e], &self.value[j * ev..][..ev]);
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let x = self.scale * dot(q, k);
                let weight = c.iter().rev().fold(0.0, |p, c| p * x + c);
                let powers = c.iter().enumerate().skip(1).rev();
                let slope = powers.fold(0.0, |p, (t, c)| p * x + t as f64 * c) * self.scale;
                let up = dot(g, v) + self.grad_sums[i] * self.masses[j];
                for a in 0..ev {
                    rows[i * ev + a] += weight * v[a];
                    dv[j * ev + a] += weight * g[a];
                }
                for a in 0..e {
                    dq[i * e + a] += up * slope * k[a];
                    dk[j * e + a] += up * slope * q[a];
                }
                sums[i] += weight * self.masses[j];
                dm[j] += weight * self.grad_sums[i];
            }
        }
        [rows, sums, dq, dk, dv, dm]
    }

    /// As the kernels have it; `wanted` are the gradients asked for.
    fn found<T: Compute>(&self, threads: usize, wanted: [bool; 4]) -> Results
    where
        for<'a> Rows<'a>: From<MatRef<'a, T>>,
    {
        let [l, s, e, ev] = self.sizes;
        let of = |x: &[f64]| x.iter().map(|&x| T::from_f64(x)).collect::<Vec<T>>();
        let (q, k, v, m) = (of(&self.query), of(&self.key), of(&self.value), of(&self.masses));
        let (g, h) = (of(&self.grad_rows), of(&self.grad_sums));
        let view = |x, rows, cols| Rows::from(MatRef::from_slice(x, rows, cols));
        let head = Head {
            query: view(&q, l, e),
            key: view(&k, s, e),
            value: view(&v, s, ev),
            mask: None,
            bias: None,
            lags: None,
            weights: None,
        };
        let problem = Problem::new(vec![head], self.scale, self.visible).unwrap();
        let (masses, par) = ([view(&m, s, 1)], Par::threads(threads));
        let shapes = [(l, ev), (l, 1), (l, e), (s, e), (s, ev), (s, 1)];
        // Sums are written, gradients are added.
        let mut to = shapes.map(|(rows, cols)| vec![T::ONE; rows * cols]);
        let mut cells = to.iter_mut().zip(shapes);
        let mut cell = || cells.next().map(|(to, (m, n))| MatCell::from_slice(to, m, n)).unwrap();
        let output = RowSums { rows: cell(), sums: cell() };
        let mut cell_if = |wanted: bool| Some(cell()).filter(|_| wanted);
        let gradients = SumsGradients {
            query: cell_if(wanted[0]),
            key: cell_if(wanted[1]),
            value: cell_if(wanted[2]),
            masses: cell_if(wanted[3]),
        };
        let (terms, table) = (self.coefficients.len(), bivariate(&self.coefficients));
        let table = MatRef::from_slice(&table, terms, 2 * terms - 1);
        let polynomial = match self.lead {
            Some(lead) => Polynomial::Bivariate { lead, table },
            None => Polynomial::Univariate(&self.coefficients),
        };
        polynomial_sums(&problem, &masses, polynomial, &[output], par).unwrap();
        let upstream = (&[view(&g, l, ev)][..], &[view(&h, l, 1)][..]);
        polynomial_sums_grad(&problem, &masses, polynomial, upstream, &[gradients], par).unwrap();
        let mut found = to.map(|x| x.into_iter().map(T::to_f64).collect::<Vec<f64>>());
        found[2..].iter_mut().flatten().for_each(|x| *x -= 1.0);
        found
    }

    fn check(&self) {
        let expected = self.expected();
        let all = [true; 4];
        for (found, tolerance) in
            [(self.found::<f64>(1, all), 1e-12), (self.found::<f32>(1, all), 3e-5)]
        {
            for ((found, expected), name) in found.iter().zip(&expected).zip(NAMES) {
                let size = expected.iter().fold(0.1_f64, |a, b| a.max(b.abs()));
                for (x, y) in found.iter().zip(expected) {
                    let place = (self.sizes, self.visible);
                    assert!((x - y).abs() <= tolerance * size, "{name} {place:?}: {x} for {y}");
                }
            }
        }
    }
}

/// `sum_t c_t (v + w)^t` as a table: powers of w in rows, of v in columns.
fn bivariate(c: &[f64]) -> Vec<f64> {
    let columns = 2 * c.len() - 1;
    let mut table = vec![0.0; c.len() * columns];
    for (t, &c) in c.iter().enumerate() {
        let mut binomial = c;
        for u in 0..=t {
            table[u * columns + t - u] = binomial;
            binomial *= (t - u) as f64 / (u + 1) as f64;
        }
    }
    table
}

#[test]
fn the_definition_is_met() {
    let shapes = [[1, 1, 1, 1], [5, 7, 3, 2], [96, 96, 8, 16], [97, 200, 5, 33], [300, 95, 17, 7]];
    for (i, sizes) in shapes.into_iter().enumerate() {
        for degree in [0, 1, 2, 3] {
            Case::new(sizes, &TAYLOR[..=degree], Visible::ALL, i as u64 + 3).check();
        }
    }
    // Terms may be missing, and weights negative.
    for coefficients in [&[0.0, 1.0][..], &[-2.0, 0.5, 0.0, 0.1, 0.0], &[0.0, 0.0, 0.0]] {
        Case::new([50, 120, 6, 5], coefficients, Visible::ALL, 9).check();
    }
}

#[test]
fn queries_may_see_only_keys_before_them() {
    let shapes = [[1, 1, 2, 2], [96, 96, 4, 5], [97, 97, 3, 2], [250, 250, 6, 17], [40, 300, 5, 3]];
    for sizes in shapes.into_iter().chain([[300, 40, 5, 3]]) {
        let [l, s, ..] = sizes;
        for shift in [0, s as isize - l as isize, -3, 50, -150] {
            Case::new(sizes, &TAYLOR[..3], Visible::causal(shift, None), 11).check();
        }
    }
}

#[test]
fn a_polynomial_of_two_parts_of_the_logit_may_be_that_of_their_sum() {
    for sizes in [[1, 1, 1, 1], [97, 200, 5, 33], [130, 95, 7, 4]] {
        for coefficients in [&TAYLOR[..1], &TAYLOR[..2], &TAYLOR[..4], &[0.0, -0.5, 0.0, 0.2]] {
            for lead in [0, 1, sizes[2] / 2, sizes[2]] {
                let mut case = Case::new(sizes, coefficients, Visible::ALL, 13);
                case.lead = Some(lead);
                case.check();
            }
        }
    }
}

#[test]
fn any_of_the_gradients_may_be_left_out() {
    for visible in [Visible::ALL, Visible::causal(5, None)] {
        let case = Case::new([130, 110, 4, 6], &TAYLOR[..3], visible, 7);
        let all = case.found::<f64>(1, [true; 4]);
        for left_out in 0..4 {
            let some = case.found::<f64>(1, std::array::from_fn(|i| i != left_out));
            let only = case.found::<f64>(1, std::array::from_fn(|i| i == left_out));
            for i in 0..4 {
                let (with, without) = if i == left_out { (&only, &some) } else { (&some, &only) };
                assert_eq!(with[2 + i], all[2 + i]);
                assert!(without[2 + i].iter().all(|&x| x == 0.0));
            }
        }
    }
}

#[test]
fn threads_change_nothing() {
    for visible in [Visible::ALL, Visible::causal(-100, None)] {
        let case = Case::new([20_000, 17_000, 3, 4], &TAYLOR[..3], visible, 5);
        let one = case.found::<f32>(1, [true; 4]);
        for threads in [2, 3] {
            assert_eq!(case.found::<f32>(threads, [true; 4]), one);
        }
    }
}
