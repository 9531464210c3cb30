//! The two ways through the parts of a scan, bit for bit.

use super::super::polynomial_forward;
use super::super::tests::{Random, TAYLOR};
use crate::attention::{Head, Output, Problem, Visible};
use crate::mat::{MatCell, MatRef};
use crate::par::Par;

const WIDTH: usize = 3;

/// Rows of heads, each given by its queries and its keys, and the operations that they took.
fn rows(
    [l, s]: [usize; 2],
    heads: &[[usize; 2]],
    shift: isize,
    workers: usize,
) -> (Vec<Vec<f32>>, u64) {
    let numbers = |seed: usize, len| {
        let numbers = Random(seed as u64 * 2 + 1).many(len * WIDTH);
        numbers.into_iter().map(|x| x as f32).collect::<Vec<_>>()
    };
    let queries: Vec<_> = (0..3).map(|i| numbers(i, l)).collect();
    let keys: Vec<_> = (3..6).map(|i| numbers(i, s)).collect();
    let of = |&[q, k]: &[usize; 2]| {
        let key = MatRef::from_slice(&keys[k], s, WIDTH).into();
        let query = MatRef::from_slice(&queries[q], l, WIDTH).into();
        Head { query, key, value: key, mask: None, bias: None, lags: None, weights: None }
    };
    let visible = Visible::causal(shift, None);
    let problem = Problem::new(heads.iter().map(of).collect(), 0.3, visible).unwrap();
    let mut out = vec![vec![0.0; l * WIDTH]; heads.len()];
    let cell = |out| Output { out: MatCell::from_slice(out, l, WIDTH), lse: None, parts: None };
    let outputs: Vec<_> = out.iter_mut().map(|out| cell(&mut out[..])).collect();
    let par = Par::threads(workers);
    let stats = polynomial_forward(&problem, &TAYLOR[..3], &outputs, par).unwrap();
    (out, stats.flops)
}

#[test]
fn parts_side_by_side_give_the_bits_of_a_strand() {
    // A shift may hide all keys of a part, leave a tile with a few, or put more than a part of them ahead.
    for (sizes, shifts) in [
        ([33_000, 40_000], &[0, -3, -16_500, 7, 20_001][..]),
        ([40_000, 30_000], &[0, -1000, 15_000]),
        ([200, 36_000], &[35_800]),
    ] {
        for &shift in shifts {
            let (strand, fewer) = rows(sizes, &[[0, 0]], shift, 1);
            for workers in [2, 3, 8] {
                let (found, flops) = rows(sizes, &[[0, 0]], shift, workers);
                assert!(found == strand, "{sizes:?}, {shift}, {workers}");
                assert!(flops > fewer || sizes[0] < 1000, "the ways are the same");
            }
        }
    }
}

#[test]
fn heads_are_as_they_are_alone() {
    let sizes = [33_000, 33_000];
    for heads in [&[[0, 0], [1, 1], [2, 2]][..], &[[0, 1], [1, 1], [2, 2]], &[[0, 0], [1, 0]]] {
        let alone: Vec<_> =
            heads.iter().map(|&head| rows(sizes, &[head], 5, 3).0.remove(0)).collect();
        for workers in 1..5 {
            assert!(rows(sizes, heads, 5, workers).0 == alone, "{heads:?}, {workers}");
        }
    }
}
