//! Every family against its closed forms and against the definition.

use super::schedule::plans;
use super::*;
use crate::par::Stop;
use crate::{Error, Par};

const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Backward, Direction::Loss];

fn dense(n: usize, d: usize) -> Problem {
    let visible = Visible { queries: n, keys: n, group: 1, causal: false, mask: None };
    Problem { visible, width: d, scale: 1.0 / (d as f64).sqrt() }
}

/// Numbers between -1 and 1 without visible order.
fn numbers(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Outputs, logarithms, and gradients of query, key and value, by their definitions.
fn definition(p: &Problem, inputs: &[Vec<f64>], grad_out: &[f64]) -> [Vec<f64>; 5] {
    let (rows, keys, d) = (p.visible.rows(), p.visible.keys, p.width);
    let (q, k, v) = (&inputs[0], &inputs[1], &inputs[2]);
    let dot = |a: &[f64], i: usize, b: &[f64], j: usize| -> f64 {
        (0..d).map(|c| a[i * d + c] * b[j * d + c]).sum()
    };
    let (mut out, mut lse) = (vec![0.0; rows * d], vec![f64::NEG_INFINITY; rows]);
    let (mut dq, mut dk, mut dv) = (vec![0.0; rows * d], vec![0.0; keys * d], vec![0.0; keys * d]);
    for i in 0..rows {
        let seen: Vec<usize> = (0..keys).filter(|&j| p.visible.sees(i, j)).collect();
        let scores: Vec<f64> = seen.iter().map(|&j| p.scale * dot(q, i, k, j)).collect();
        let total: f64 = scores.iter().map(|s| s.exp()).sum();
        lse[i] = total.ln();
        for (&j, s) in seen.iter().zip(&scores) {
            for c in 0..d {
                out[i * d + c] += s.exp() / total * v[j * d + c];
            }
        }
        let sum = dot(&out, i, grad_out, i);
        for (&j, s) in seen.iter().zip(&scores) {
            let weight = s.exp() / total;
            let slope = weight * (dot(grad_out, i, v, j) - sum) * p.scale;
            for c in 0..d {
                dq[i * d + c] += slope * k[j * d + c];
                dk[j * d + c] += slope * q[i * d + c];
                dv[j * d + c] += weight * grad_out[i * d + c];
            }
        }
    }
    [out, lse, dq, dk, dv]
}

fn near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (x, y) in found.iter().zip(expected) {
        assert!(x == y || (x - y).abs() < 1e-12, "{x} is not {y}");
    }
}

/// The gradient of X, by its definition.
fn loss_definition(p: &Problem, inputs: &[Vec<f64>]) -> Vec<f64> {
    let (rows, keys, d) = (p.visible.rows(), p.visible.keys, p.width);
    let product = |a: &[f64], b: &[f64], n: usize| -> Vec<f64> {
        let at = |i: usize, j: usize| (0..d).map(|k| a[i * d + k] * b[k * d + j]).sum();
        (0..n * d).map(|at_| at(at_ / d, at_ % d)).collect()
    };
    let (projected, values) =
        (product(&inputs[0], &inputs[1], rows), product(&inputs[3], &inputs[4], keys));
    let given = [projected, inputs[2].clone(), values];
    let [_, _, of_projected, _, _] = definition(p, &given, &inputs[5]);
    let entry = |a: usize, b: usize| {
        (0..rows).map(|i| inputs[0][i * d + a] * of_projected[i * d + b]).sum()
    };
    (0..d * d).map(|at| entry(at / d, at % d)).collect()
}

/// Executes with data in no more memory than the peak of the closed form; everything must agree.
fn check(p: &Problem, schedule: &Schedule, widths: Widths) {
    let direction = schedule.direction();
    let shapes = direction.inputs(p).into_iter().zip(1..);
    let mut inputs: Vec<_> =
        shapes.map(|((rows, cols), seed)| numbers(rows * cols, seed)).collect();
    let expected = match direction {
        Direction::Forward => {
            let unused = numbers(p.visible.rows() * p.width, 9);
            definition(p, &inputs, &unused)[..2].to_vec()
        }
        Direction::Backward => {
            let [out, lse, gradients @ ..] = definition(p, &inputs, &inputs[5]);
            (inputs[3], inputs[4]) = (out, lse);
            gradients.to_vec()
        }
        Direction::Loss => vec![loss_definition(p, &inputs)],
    };
    let peak = schedule.peak(p, widths);
    let given: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
    let run = schedule.execute(p, peak, widths, &given, Par::seq()).unwrap();
    let (counts, outputs) = run.unwrap();
    let without = schedule.count(p, peak, widths, Par::seq()).unwrap().unwrap();
    assert_eq!(counts, without, "{schedule:?} depends on data");
    let predicted = Counts { steps: counts.steps, ..schedule.predict(p, widths) };
    // Where a mask hides the largest blocks, less is in fast memory.
    let seen = p.visible.mask.is_none();
    let predicted = if seen { predicted } else { Counts { peak: counts.peak, ..predicted } };
    assert_eq!(counts, predicted, "{schedule:?} {p:?}");
    for (found, expected) in outputs.iter().zip(&expected) {
        near(found, expected);
    }
}

fn problems() -> Vec<Problem> {
    let mut all = Vec::new();
    for (n, d) in [(1_usize, 1), (8, 2), (13, 3), (16, 4), (19, 8)] {
        for causal in [false, true] {
            for group in [1, 3] {
                for block in [0, 4, 5] {
                    let side = |block: usize| n.div_ceil(block);
                    let open = |i: usize, j: usize| !(i * i + 3 * j).is_multiple_of(4) && i != 2;
                    let blocks = |block: usize| {
                        let of_row = |i: usize| (0..side(block)).map(|j| open(i, j)).collect();
                        (0..side(block)).map(of_row).collect()
                    };
                    let mask = (block > 0).then(|| Mask { block, blocks: blocks(block) });
                    let visible = Visible { queries: n, keys: n, group, causal, mask };
                    all.push(Problem { visible, width: d, scale: 0.7 });
                }
            }
        }
    }
    let visible = Visible { queries: 9, keys: 14, group: 2, causal: false, mask: None };
    all.push(Problem { visible, width: 3, scale: 1.0 });
    all
}

#[test]
fn executions_equal_formulas_and_the_definition() {
    let mut runs = 0;
    for p in problems() {
        let bytes = p.visible.group == 3;
        for widths in if bytes { vec![Widths([2, 4, 8])] } else { vec![Widths::WORDS] } {
            for direction in DIRECTIONS {
                let memories = [6, 9, 12, 16, 24, 40, 64, 100, 160, 300, 700];
                for (found, memory) in plans(&p, &memories, widths, direction).iter().zip(memories)
                {
                    for schedule in found.iter().filter_map(|(_, schedule)| schedule.as_ref()) {
                        assert!(schedule.peak(&p, widths) <= memory);
                        check(&p, schedule, widths);
                        runs += 1;
                    }
                }
            }
        }
    }
    assert!(runs > 2000, "{runs}");
}

#[test]
fn blocks_of_any_size_are_as_good() {
    for p in [dense(23, 7), problems()[9].clone(), problems()[11].clone()] {
        let (n, d) = (p.visible.queries, p.width);
        for seed in 1..40 {
            let r = numbers(10, seed);
            let to = |i: usize, most: usize| 1 + (r[i].abs() * most as f64) as usize % most;
            let (a, b, c, e) = (to(0, n), to(1, n), to(2, n), to(3, d));
            let (f, g) = (to(4, e), to(5, n));
            let all = [
                Schedule::Flash2(Flash2 { rows: a, keys: b, stream: e }),
                Schedule::Flash1(Flash1 { keys: a, rows: b }),
                Schedule::Square(Square { side: a }),
                Schedule::Naive(Naive {
                    side: a,
                    softmax: if b > n / 2 { p.visible.keys } else { 1 },
                }),
                Schedule::Rectangular(Rectangular {
                    rows: a,
                    keys: b,
                    stream: to(6, b),
                    out_rows: g,
                    out_columns: e,
                    out_stream: f,
                }),
                Schedule::RowResident(RowResident {
                    rows: a,
                    stream: e,
                    out_rows: g,
                    out_columns: e,
                    out_stream: f,
                }),
                Schedule::OnePass(OnePass { keys: a, stream: e }),
                Schedule::TwoPass(TwoPass {
                    keys: a,
                    tile: to(7, a),
                    stream: e,
                    rows: b,
                    row_tile: to(8, b),
                    value_stream: f,
                }),
                Schedule::TwoPass(TwoPass {
                    keys: a,
                    tile: a,
                    stream: e,
                    rows: b,
                    row_tile: b,
                    value_stream: f,
                }),
                Schedule::StoredSlopes(StoredSlopes {
                    keys: a,
                    tile: if c > n / 2 { a } else { to(7, a) },
                    stream: e,
                    rows: c,
                    columns: e,
                    key_stream: f,
                }),
                Schedule::FourPhase(FourPhase { side: a }),
                Schedule::GradRowResident(GradRowResident {
                    rows: a,
                    stream: e,
                    keys: b,
                    grad_stream: f,
                    query_rows: c,
                    query_columns: e,
                    query_stream: f,
                    key_rows: g,
                    key_columns: e,
                    key_stream: f,
                }),
                Schedule::GradRectangular(GradRectangular {
                    rows: a,
                    keys: b,
                    stream: to(6, b),
                    query_rows: c,
                    query_columns: e,
                    query_stream: f,
                    key_rows: g,
                    key_columns: e,
                    key_stream: f,
                }),
                Schedule::LossSmallCache(LossSmallCache { side: a }),
                Schedule::LossLargeCache(LossLargeCache { rows: a, side: b }),
            ];
            for schedule in all {
                check(&p, &schedule, Widths::WORDS);
            }
        }
    }
}

#[test]
fn less_memory_than_the_peak_is_refused() {
    let p = dense(13, 3);
    for direction in DIRECTIONS {
        for (_, schedule) in &plans(&p, &[64], Widths::WORDS, direction)[0] {
            let schedule = schedule.expect("64 words are enough for all");
            let peak = schedule.peak(&p, Widths::WORDS);
            let refused = schedule.count(&p, peak - 1, Widths::WORDS, Par::seq()).unwrap();
            assert!(matches!(refused, Err(Fault::Full { .. })), "{schedule:?}");
        }
    }
}

#[test]
fn the_least_memory_is_that_of_the_smallest_member() {
    for p in problems() {
        for direction in DIRECTIONS {
            let least = Schedule::least_memory(&p, Widths::WORDS, direction);
            let found = plans(&p, &[least - 1, least], Widths::WORDS, direction);
            assert!(found[0].iter().all(|(_, schedule)| schedule.is_none()));
            assert!(found[1].iter().any(|(_, schedule)| schedule.is_some()));
        }
    }
}

#[test]
fn a_stop_stops() {
    let p = dense(1024, 4);
    let flash = Schedule::Flash2(Flash2 { rows: 1, keys: 1, stream: 1 });
    let stop = Stop::impatient(&|| true);
    let stopped = flash.count(&p, 1 << 20, Widths::WORDS, Par::seq().stop_if(&stop));
    assert_eq!(stopped, Err(Error::Stopped));
}

#[test]
fn the_rule_of_flash_attention_does_not_fit() {
    // The numbers of `Flash1`: with the rule, more is in fast memory than there is at M = 4 d^2.
    for d in [16, 64, 128] {
        let (p, memory) = (dense(1024, d), 4 * d * d);
        let flash = Schedule::Flash1(Flash1::rule(&p, memory));
        let peak = flash.peak(&p, Widths::WORDS);
        assert!(peak as usize > memory, "d = {d}: {peak} of {memory}");
        let counts = flash.count(&p, peak, Widths::WORDS, Par::seq()).unwrap().unwrap();
        assert_eq!(counts.peak, peak);
    }
}

#[test]
fn a_cache_for_everything_moves_everything_once() {
    let (n, d, line) = (48, 16, 16);
    let p = dense(n, d);
    let flash = Schedule::Flash2(Flash2 { rows: 12, keys: 1, stream: d });
    let (once, buffers) = (5 * n * d + 2 * n, 12 * (d + 4) + 4 * line);
    let found = flash.replay(&p, 1 << 16, line as u64, 8, Par::seq()).unwrap() as usize;
    assert!(once <= found && found <= once + buffers, "{once} {found} {buffers}");
}

#[test]
fn blocks_that_fill_a_cache_thrash_and_smaller_ones_do_not() {
    let (n, d, words) = (256, 32, 2048);
    let p = dense(n, d);
    let of = |rows| Schedule::Flash2(Flash2 { rows, keys: 1, stream: d });
    let ratio = |rows| {
        let schedule: Schedule = of(rows);
        let moved = schedule.replay(&p, words, 16, 8, Par::seq()).unwrap();
        moved as f64 / schedule.traffic(&p).moved().total() as f64
    };
    // The largest panel of a fast memory of its own is (M - 1) / (2d + 3).
    assert!(ratio(30) > 4.0, "{}", ratio(30));
    assert!(ratio(20) < 1.25, "{}", ratio(20));
}
