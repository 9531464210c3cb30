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
    lags: Option<Vec<T>>,
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
        Self { lags: None, ..Self::with_lags(shape, masked, biased) }
    }

    /// With a bias by lags as well.
    fn with_lags(shape: (usize, usize, usize, usize), masked: bool, biased: bool) -> Self {
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
            lags: Some(numbers(l + s - 1, 7).into_iter().map(bias).collect()),
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
            lags: self.lags.as_ref().map(|lags| T::view(lags, lags.len(), 1)),
            weights: None,
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
    for (l, s) in
        [(1, 1), (1, 300), (1, 9000), (8, 4100), (5, 3), (33, 40), (64, 192), (70, 193), (200, 410)]
    {
        for (e, ev) in [(1, 1), (8, 5), (40, 33), (64, 80)] {
            for (masked, biased, lags) in [
                (false, false, false),
                (true, false, false),
                (false, true, false),
                (true, true, false),
                (false, false, true),
                (true, false, true),
            ] {
                for visible in rules {
                    let make = if lags { Arrays::<T>::with_lags } else { Arrays::<T>::new };
                    let arrays = make((l, s, e, ev), masked, biased);
                    let problem = Problem::new(vec![arrays.head()], 0.3, visible).unwrap();
                    let (out, lse, stats) = run::<T>(&problem, Par::seq());
                    assert!(!stats.suspicious);
                    for i in 0..l {
                        let mut expected = vec![0.0; ev];
                        let wide = naive::row(&arrays.head(), &visible, 0.3_f64, i, &mut expected);
                        for (x, y) in out[i * ev..(i + 1) * ev].iter().zip(expected) {
                            let error = (x.to_f64() - y).abs();
                            assert!(
                                error <= tolerance,
                                "{l} {s} {e} {ev} {visible:?} row {i}: {error}"
                            );
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

fn gradients_agree_with_the_definition<T: View>(tolerance: f64) {
    let rules = [Visible::ALL, Visible::causal(0, None), Visible::causal(7, Some(5))];
    for (l, s) in [(1, 1), (5, 3), (33, 40), (97, 300), (130, 610)] {
        for (e, ev) in [(1, 1), (8, 5), (40, 33), (64, 80)] {
            for (masked, biased, lags) in [
                (false, false, false),
                (true, false, false),
                (false, true, false),
                (false, false, true),
                (true, false, true),
            ] {
                for visible in rules {
                    let make = if lags { Arrays::<T>::with_lags } else { Arrays::<T>::new };
                    let arrays = make((l, s, e, ev), masked, biased);
                    let grad_out: Vec<T> =
                        numbers(l * ev, 6).into_iter().map(T::from_f64).collect();
                    let grad_out = T::view(&grad_out, l, ev);
                    let exact = naive::gradients(&arrays.head(), &visible, 0.3, &grad_out);
                    let problem = Problem::new(vec![arrays.head()], 0.3, visible).unwrap();
                    let (out, lse, _) = run::<T>(&problem, Par::seq());
                    let (out, lse) = (T::view(&out, l, ev), T::view(&lse, l, 1));
                    let upstream = Upstream { grad_out, out, lse };
                    let shapes = [(l, e), (s, e), (s, ev), (l, s)];
                    let mut by_lag = vec![0.0; l + s - 1];
                    let mut grads = shapes.map(|(rows, cols)| vec![T::ZERO; rows * cols]);
                    let [query, key, value, bias] = grads.each_mut().map(|x| &mut x[..]);
                    let to = HeadGradients {
                        query: Some(MatCell::from_slice(query, l, e)),
                        key: Some(MatCell::from_slice(key, s, e)),
                        value: Some(MatCell::from_slice(value, s, ev)),
                        bias: Some(MatCell::from_slice(bias, l, s)),
                        lags: lags.then(|| MatCell::from_slice(&mut by_lag, l + s - 1, 1)),
                        weights: None,
                    };
                    let stats = backward(&problem, &[upstream], &[to], Par::threads(2)).unwrap();
                    assert!(!stats.suspicious);
                    if lags {
                        let mut exact_by_lag = vec![0.0; l + s - 1];
                        for (at, x) in exact[3].iter().enumerate() {
                            exact_by_lag[at / s + s - 1 - at % s] += x;
                        }
                        let top = exact_by_lag.iter().fold(1.0, |top: f64, x| top.max(x.abs()));
                        for (x, y) in by_lag.iter().zip(&exact_by_lag) {
                            let error = (x - y).abs() / top;
                            assert!(error <= tolerance, "{l} {s} {e} {ev} {visible:?}: {error}");
                        }
                    }
                    for (grad, exact) in grads.iter().zip(&exact) {
                        let top = exact.iter().fold(1.0, |top: f64, x| top.max(x.abs()));
                        for (x, y) in grad.iter().zip(exact) {
                            let error = (x.to_f64() - y).abs() / top;
                            assert!(error <= tolerance, "{l} {s} {e} {ev} {visible:?}: {error}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn single_precision_gradients_agree_with_the_definition() {
    gradients_agree_with_the_definition::<f32>(2e-5);
}

#[test]
fn double_precision_gradients_agree_with_the_definition() {
    gradients_agree_with_the_definition::<f64>(1e-13);
}

#[test]
fn heads_of_a_group_get_what_they_get_alone() {
    let (queries, s, e) = (6, 5000, 24);
    let arrays = Arrays::<f32>::new((queries, s, e, e), true, false);
    let whole = arrays.head();
    let alone = |i: usize| {
        let query = MatRef::from_slice(&arrays.query[i * e..(i + 1) * e], 1, e);
        let mask = whole.mask.map(|mask| mask.slice_rows(i..i + 1));
        Head { query: Rows::F32(query), mask, ..whole }
    };
    let heads: Vec<Head<'_>> = (0..queries).map(alone).collect();
    let problem = Problem::new(heads.clone(), 0.3, Visible::ALL).unwrap();
    let mut out = vec![0.0; queries * e];
    let outputs: Vec<_> = out
        .chunks_exact_mut(e)
        .map(|out| Output { out: MatCell::from_slice(out, 1, e), lse: None, parts: None })
        .collect();
    let stats = forward(&problem, &outputs, Par::seq()).unwrap();
    // Keys and values are read once for all of them.
    assert_eq!(stats.bytes_read, 2 * (s * e * 4) as u64);
    for (i, head) in heads.into_iter().enumerate() {
        let problem = Problem::new(vec![head], 0.3, Visible::ALL).unwrap();
        let (row, _, _) = run::<f32>(&problem, Par::seq());
        for (x, y) in row.iter().zip(&out[i * e..]) {
            assert!((x - y).abs() <= 1e-6, "query {i}: {x} {y}");
        }
    }
}

#[test]
fn rows_are_the_same_for_every_number_of_threads() {
    let arrays = Arrays::<f32>::new((300, 700, 40, 24), true, true);
    let problem = Problem::new(vec![arrays.head(); 3], 0.3, Visible::causal(400, None)).unwrap();
    let results = [1, 2, 7].map(|threads| {
        let mut out = vec![0.0; 3 * 300 * 24];
        let outputs: Vec<_> = out
            .chunks_exact_mut(300 * 24)
            .map(|out| Output { out: MatCell::from_slice(out, 300, 24), lse: None, parts: None })
            .collect();
        forward(&problem, &outputs, Par::threads(threads)).unwrap();
        out
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

fn errors_stay_below_the_bound<T: View>(factor: f64) {
    for (l, s) in [(3, 40), (40, 700)] {
        for (biased, lags) in [(false, false), (true, false), (false, true)] {
            let make = if lags { Arrays::<T>::with_lags } else { Arrays::<T>::new };
            let mut arrays = make((l, s, 24, 8), false, biased);
            for x in arrays.query.iter_mut().chain(&mut arrays.key) {
                *x = *x * T::from_f64(factor);
            }
            let problem = Problem::new(vec![arrays.head()], 0.2, Visible::ALL).unwrap();
            let (out, _, _) = run::<T>(&problem, Par::seq());
            let bounds = bounds::<T>(&problem, Par::seq()).unwrap().remove(0);
            for (i, bound) in bounds.rows.iter().enumerate() {
                let mut exact = vec![0.0; 8];
                naive::row(&arrays.head(), &Visible::ALL, 0.2_f64, i, &mut exact);
                let row = out[i * 8..(i + 1) * 8].iter().zip(exact);
                let error = row.map(|(x, y)| (x.to_f64() - y).powi(2)).sum::<f64>().sqrt();
                // The oracle is in float64: its own error is that of double precision.
                assert!(error <= bound + 1e-12, "row {i}: {error} above {bound}");
                assert!(*bound <= 2.01 * bounds.spread + 1e-3);
            }
        }
    }
}

#[test]
fn errors_of_flat_and_of_peaked_rows_stay_below_the_bound() {
    errors_stay_below_the_bound::<f32>(1.0);
    errors_stay_below_the_bound::<f32>(8.0);
    errors_stay_below_the_bound::<f64>(8.0);
}
