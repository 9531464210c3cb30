//! The fast kernels against the definition.

use super::*;
use crate::Par;

/// Reproducible numbers, roughly normal.
fn numbers(len: usize, seed: u32) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| uniform() + uniform() + uniform()).collect()
}

/// Arrays of one head in type `T`.
struct Arrays<T> {
    shape: (usize, usize, usize, usize),
    query: Vec<T>,
    key: Vec<T>,
    value: Vec<T>,
    mask: Option<Vec<u8>>,
    bias: Option<Vec<T>>,
}

trait View: Compute {
    fn view(data: &[Self], rows: usize, cols: usize) -> Rows<'_>;
}

impl View for f32 {
    fn view(data: &[f32], rows: usize, cols: usize) -> Rows<'_> {
        Rows::F32(MatRef::from_slice(data, rows, cols))
    }
}

impl View for f64 {
    fn view(data: &[f64], rows: usize, cols: usize) -> Rows<'_> {
        Rows::F64(MatRef::from_slice(data, rows, cols))
    }
}

impl<T: View> Arrays<T> {
    fn new(shape: (usize, usize, usize, usize), masked: bool, biased: bool) -> Self {
        let (l, s, e, ev) = shape;
        let make = |len, seed| numbers(len, seed).into_iter().map(T::from_f64).collect();
        let hide = |x: f64| u8::from(x > -0.8);
        // One key in ten is hidden by the bias too.
        let bias = |x: f64| T::from_f64(if x > 1.5 { f64::NEG_INFINITY } else { 3.0 * x });
        Self {
            shape,
            query: make(l * e, 1),
            key: make(s * e, 2),
            value: make(s * ev, 3),
            mask: masked.then(|| numbers(l * s, 4).into_iter().map(hide).collect()),
            bias: biased.then(|| numbers(l * s, 5).into_iter().map(bias).collect()),
        }
    }

    fn head(&self) -> Head<'_> {
        let (l, s, e, ev) = self.shape;
        Head {
            query: T::view(&self.query, l, e),
            key: T::view(&self.key, s, e),
            value: T::view(&self.value, s, ev),
            mask: self.mask.as_ref().map(|mask| MatRef::from_slice(mask, l, s)),
            bias: self.bias.as_ref().map(|bias| T::view(bias, l, s)),
        }
    }
}

fn run<T: View>(problem: &Problem<'_>, par: Par<'_>) -> (Vec<T>, Vec<T>, Stats) {
    let head = problem.heads()[0];
    let (l, ev) = (head.query.rows(), head.value.cols());
    let (mut out, mut lse) = (vec![T::ONE; l * ev], vec![T::ONE; l]);
    let output = Output {
        out: MatCell::from_slice(&mut out, l, ev),
        lse: Some(MatCell::from_slice(&mut lse, l, 1)),
        parts: None,
    };
    let stats = forward(problem, &[output], par).unwrap();
    (out, lse, stats)
}

fn agrees_with_the_definition<T: View>(tolerance: f64) {
    let rules = [Visible::ALL, Visible::causal(0, None), Visible::causal(7, Some(5))];
    let mut checked = 0;
    for (l, s) in [(1, 1), (1, 300), (1, 9000), (8, 4100), (5, 3), (33, 40), (64, 192), (70, 193), (200, 410)] {
        for (e, ev) in [(1, 1), (8, 5), (40, 33), (64, 80)] {
            for (masked, biased) in [(false, false), (true, false), (false, true), (true, true)] {
                for visible in rules {
                    let arrays = Arrays::<T>::new((l, s, e, ev), masked, biased);
                    let problem = Problem::new(vec![arrays.head()], 0.3, visible).unwrap();
                    let (out, lse, stats) = run::<T>(&problem, Par::seq());
                    assert!(!stats.suspicious);
                    for i in 0..l {
                        let mut expected = vec![0.0; ev];
                        let wide = naive::row(&arrays.head(), &visible, 0.3_f64, i, &mut expected);
                        for (x, y) in out[i * ev..(i + 1) * ev].iter().zip(expected) {
                            let error = (x.to_f64() - y).abs();
                            assert!(error <= tolerance, "{l} {s} {e} {ev} {visible:?} row {i}: {error}");
                        }
                        let error = (lse[i].to_f64() - wide).abs();
                        assert!(lse[i].to_f64() == wide || error <= 5.0 * tolerance, "lse {error}");
                        checked += 1;
                    }
                }
            }
        }
    }
    assert!(checked > 10_000);
}

#[test]
fn single_precision_agrees_with_the_definition() {
    agrees_with_the_definition::<f32>(1e-5);
}

#[test]
fn double_precision_agrees_with_the_definition() {
    agrees_with_the_definition::<f64>(2e-14);
}
