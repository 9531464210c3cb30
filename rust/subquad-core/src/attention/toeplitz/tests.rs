//! Weighted products against the definition, forward and backward.

use super::super::naive;
use super::super::{Compute, Head, Output, Upstream, Visible, backward, bounds, forward};
use super::*;
use crate::mat::MatRef;
use crate::par::Par;

fn numbers(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

struct Case<T> {
    /// L, S, E, Ev
    shape: (usize, usize, usize, usize),
    query: Vec<T>,
    key: Vec<T>,
    value: Vec<T>,
    weights: Vec<T>,
}

impl<T: Compute> Case<T> {
    fn new(shape: (usize, usize, usize, usize)) -> Self {
        let (l, s, e, ev) = shape;
        let make = |len, seed| numbers(len, seed).into_iter().map(T::from_f64).collect();
        Self {
            shape,
            query: make(l * e, 1),
            key: make(s * e, 2),
            value: make(s * ev, 3),
            weights: make(e * (l + s - 1), 4),
        }
    }

    fn head(&self) -> Head<'_> {
        let (l, s, e, ev) = self.shape;
        let view = |data, rows, cols| T::as_rows(MatRef::from_slice(data, rows, cols));
        Head {
            query: view(&self.query, l, e),
            key: view(&self.key, s, e),
            value: view(&self.value, s, ev),
            mask: None,
            bias: None,
            lags: None,
            weights: Some(view(&self.weights, e, l + s - 1)),
        }
    }

    fn forward(&self, visible: Visible, par: Par<'_>) -> (Vec<T>, Vec<T>) {
        let (l, _, _, ev) = self.shape;
        let (mut out, mut lse) = (vec![T::ONE; l * ev], vec![T::ONE; l]);
        let output = Output {
            out: MatCell::from_slice(&mut out, l, ev),
            lse: Some(MatCell::from_slice(&mut lse, l, 1)),
            parts: None,
        };
        let problem = Problem::new(vec![self.head()], 0.7, visible).unwrap();
        assert!(!forward(&problem, &[output], par).unwrap().suspicious);
        (out, lse)
    }

    /// Gradients of query, key and value, and of the weights.
    fn backward(&self, visible: Visible, par: Par<'_>) -> ([Vec<T>; 3], Vec<f64>) {
        let (l, s, e, ev) = self.shape;
        let view = |data, rows, cols| T::as_rows(MatRef::from_slice(data, rows, cols));
        let (out, lse) = self.forward(visible, par);
        let grad_out = self.grad_out();
        let upstream = Upstream {
            grad_out: view(&grad_out, l, ev),
            out: view(&out, l, ev),
            lse: view(&lse, l, 1),
        };
        let mut weights = vec![0.0; e * (l + s - 1)];
        let mut grads = [l * e, s * e, s * ev].map(|len| vec![T::ZERO; len]);
        let [query, key, value] = grads.each_mut().map(|x| &mut x[..]);
        let to = HeadGradients {
            query: Some(MatCell::from_slice(query, l, e)),
            key: Some(MatCell::from_slice(key, s, e)),
            value: Some(MatCell::from_slice(value, s, ev)),
            bias: None,
            lags: None,
            weights: Some(MatCell::from_slice(&mut weights, e, l + s - 1)),
        };
        let problem = Problem::new(vec![self.head()], 0.7, visible).unwrap();
        assert!(!backward(&problem, &[upstream], &[to], par).unwrap().suspicious);
        (grads, weights)
    }

    fn grad_out(&self) -> Vec<T> {
        let (l, _, _, ev) = self.shape;
        numbers(l * ev, 5).into_iter().map(T::from_f64).collect()
    }
}

fn close(found: impl Iterator<Item = f64>, exact: &[f64], tolerance: f64, what: &str) {
    let top = exact.iter().fold(1.0, |top: f64, x| top.max(x.abs()));
    for (x, y) in found.zip(exact) {
        assert!((x - y).abs() <= tolerance * top, "{what}: {x} {y}");
    }
}

fn rules() -> impl Iterator<Item = Visible> {
    let shifts = [0, 7, -3].map(|shift| Visible::causal(shift, None));
    [Visible::ALL].into_iter().chain(shifts)
}

fn agrees_with_the_definition<T: Compute>(tolerance: f64) {
    for (l, s) in [(1, 1), (1, 300), (5, 3), (33, 40), (97, 300), (130, 610), (700, 50)] {
        for (e, ev) in [(0, 2), (1, 1), (3, 5), (9, 33)] {
            let case = Case::<T>::new((l, s, e, ev));
            for visible in rules() {
                let what = format!("{l} {s} {e} {ev} {visible:?}");
                let (out, _) = case.forward(visible, Par::seq());
                let mut expected = vec![0.0; l * ev];
                for (i, row) in expected.chunks_exact_mut(ev).enumerate() {
                    naive::row(&case.head(), &visible, 0.7_f64, i, row);
                }
                close(out.iter().map(|x| x.to_f64()), &expected, tolerance, &what);
                let grad_out = case.grad_out();
                let grad_out = T::as_rows(MatRef::from_slice(&grad_out, l, ev));
                let exact = naive::gradients(&case.head(), &visible, 0.7, &grad_out);
                let (grads, weights) = case.backward(visible, Par::threads(2));
                for (grad, exact) in grads.iter().zip(&exact) {
                    close(grad.iter().map(|x| x.to_f64()), exact, tolerance, &what);
                }
                close(weights.into_iter(), &exact[4], tolerance, &what);
            }
        }
    }
}

#[test]
fn single_precision_agrees_with_the_definition() {
    agrees_with_the_definition::<f32>(2e-5);
}

#[test]
fn double_precision_agrees_with_the_definition() {
    agrees_with_the_definition::<f64>(1e-13);
}

#[test]
fn gradients_are_the_same_for_every_number_of_threads() {
    let case = Case::<f32>::new((400, 2100, 4, 6));
    let [first, second, third] =
        [1, 2, 7].map(|threads| case.backward(Visible::causal(300, None), Par::threads(threads)));
    assert_eq!(first, second);
    assert_eq!(first, third);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let case = Case::<f64>::new((4, 6, 2, 1));
    let short = MatRef::from_slice(&case.weights[..16], 2, 8).into();
    let head = Head { weights: Some(short), ..case.head() };
    assert!(Problem::new(vec![head], 1.0, Visible::ALL).is_err());
    let none = Head { weights: None, ..case.head() };
    assert!(Problem::new(vec![case.head(), none], 1.0, Visible::ALL).is_err());
    let problem = Problem::new(vec![case.head()], 1.0, Visible::ALL).unwrap();
    assert!(bounds::<f64>(&problem, Par::seq()).is_err());
}
