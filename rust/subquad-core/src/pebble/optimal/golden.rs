//! Optima that are known, and theorems.

use super::Status;
use super::tests::solve;
use crate::pebble::{Dag, Family, Form, Model, Softmax};

/// The optimum of the one-shot game, which must be proved.
fn optimum(dag: &Dag, memory: u64) -> u64 {
    let progress = solve(dag, memory, Model::default());
    assert_eq!(progress.status, Status::Optimal);
    progress.lower.words
}

fn matmul(m: usize, n: usize, k: usize, form: Form) -> Family {
    Family::Matmul { m, n, k, form }
}

fn attention(n: usize, d: usize) -> Family {
    Family::Attention { n, d, form: Form::Fma, softmax: Softmax::Unnormalised }
}

/// Checks optima, listed as "memory:optimum".
fn check(family: Family, optima: &str) {
    let dag = family.dag().unwrap();
    for pair in optima.split(' ') {
        let (memory, expected) = pair.split_once(':').unwrap();
        let began = std::time::Instant::now();
        let found = optimum(&dag, memory.parse().unwrap());
        println!("{family:?} {memory} {:.3}", began.elapsed().as_secs_f64());
        assert_eq!(found, expected.parse::<u64>().unwrap(), "{family:?}, memory {memory}");
    }
}

#[test]
fn matrix_products_have_their_optima() {
    check(matmul(2, 2, 2, Form::Fma), "4:17 5:14 6:13 7:12 8:12");
    for form in [Form::Chain, Form::Tree] {
        check(matmul(2, 2, 2, form), "3:25 4:17 5:14 6:13 7:12");
    }
    check(matmul(3, 2, 2, Form::Fma), "4:25 5:20 6:18 7:17 8:16");
    check(matmul(3, 3, 2, Form::Fma), "4:37 5:29 6:27 7:25 8:23 9:22 10:21");
    check(matmul(2, 2, 3, Form::Fma), "4:28");
    check(matmul(2, 2, 4, Form::Fma), "4:36");
    check(matmul(2, 2, 6, Form::Fma), "5:40");
    check(
        matmul(3, 3, 3, Form::Fma),
        "4:63 5:47 6:39 7:37 8:35 9:33 10:31 11:30 12:29 13:28 14:27",
    );
}

#[test]
fn transforms_have_their_optima() {
    check(Family::Fft { n: 4 }, "3:14 4:11 5:9 6:8");
    check(Family::Fft { n: 8 }, "3:40 4:31 5:27 6:24 7:22 8:20 9:18 10:16");
}

#[test]
fn meshes_have_their_optima() {
    let pyramids = [
        "3:6 4:4",
        "3:11 4:7 5:5",
        "3:18 4:10 5:8 6:6",
        "3:25 4:15 5:11 6:9 7:7",
        "3:35 4:20 5:14 6:12 7:10 8:8",
    ];
    (2..).zip(pyramids).for_each(|(height, optima)| check(Family::Pyramid { height }, optima));
    let grids = ["3:6 4:2", "3:14 4:6 5:2", "3:25 4:10 5:6 6:2", "4:17 5:10 6:6 7:2"];
    (3..).zip(grids).for_each(|(k, optima)| check(Family::Grid { rows: k, columns: k }, optima));
    check(Family::Pyramid { height: 8 }, "5:24");
    check(Family::Grid { rows: 8, columns: 8 }, "5:21");
    check(Family::Stencil { width: 6, steps: 3 }, "4:28 5:22 6:16 7:14");
    check(Family::Stencil { width: 8, steps: 4 }, "4:52 5:42 6:26 7:24");
}

#[test]
fn attention_has_its_optima() {
    check(attention(2, 1), "4:16 5:11 6:10 7:9 8:8");
    check(attention(2, 2), "4:38 5:24 6:22 7:20 8:16 10:16");
    check(attention(3, 1), "7:18 8:16 9:14 10:13");
    check(attention(2, 3), "6:35");
}

#[test]
#[ignore = "about a minute"]
fn large_graphs_have_their_optima() {
    check(attention(3, 1), "5:27 6:22");
    check(attention(2, 4), "6:47");
    check(Family::Stencil { width: 8, steps: 8 }, "6:46 7:39");
    check(Family::Pyramid { height: 9 }, "5:29");
    check(Family::Pyramid { height: 10 }, "5:35");
    check(Family::Tree { height: 5 }, "4:47 5:39");
}

/// Words of a complete binary tree with 2^k leaves: those of its leaves and its root, and two for each value
/// that does not stay. A subtree of k levels needs k + 2 words, one less if pebbles slide.
fn of_tree(k: u32, memory: u32) -> u64 {
    (1 << k) + 1 + 2 * ((1 << (k + 2).saturating_sub(memory)) - 1)
}

#[test]
fn trees_cost_what_leaves_and_lost_subtrees_do() {
    for height in 2..5 {
        let dag = Family::Tree { height }.dag().unwrap();
        let sliding = Model { sliding: true, ..Model::default() };
        for memory in 3..7 {
            let expected = of_tree(height as u32, memory);
            assert_eq!(optimum(&dag, u64::from(memory)), expected);
            let slid = solve(&dag, u64::from(memory) - 1, sliding);
            assert_eq!((slid.status, slid.lower.words), (Status::Optimal, expected));
        }
    }
}

#[test]
fn closed_forms_hold() {
    let of = |family: Family, memory: usize| optimum(&family.dag().unwrap(), memory as u64);
    for length in 1..6 {
        assert_eq!(of(Family::Chain { length }, 2), 2);
    }
    for k in 4..9 {
        let pyramid = Family::Pyramid { height: k };
        let expected = [k as u64 + 6, k as u64 + 4, k as u64 + 2];
        assert_eq!([k, k + 1, k + 2].map(|memory| of(pyramid, memory)), expected);
        let grid = Family::Grid { rows: k, columns: k };
        assert_eq!([k, k + 1].map(|memory| of(grid, memory)), [6, 2]);
    }
    for log in 1..5 {
        assert_eq!(of(Family::Fft { n: 1 << log }, (1 << log) + 2), 2 << log);
    }
    for k in 1..5 {
        assert_eq!(of(matmul(k, k, k, Form::Fma), k * k + k + 2), 3 * (k * k) as u64);
    }
}
