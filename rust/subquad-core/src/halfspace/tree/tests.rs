//! The forest against the exact decision on every key.

mod file;

use super::layout::{FAN, LEAF, MAX_DIM, reach_row, size_row};
use super::{Forest, Tree};
use crate::halfspace::keys::{Dead, Keys};
use crate::halfspace::predicate::Plane;
use crate::halfspace::tests::{Random, row};
use crate::halfspace::{Info, KeyType};
use crate::mat::{MatRef, Rows};
use crate::par::{Stop, TaskOrder, set_task_order};
use crate::simd::{Isa, Level};
use crate::{Error, Par};

/// The levels that this machine has.
fn isas() -> impl Iterator<Item = Isa> {
    [Level::Portable, Level::V3, Level::V4].into_iter().filter(|&x| x <= Isa::best().0).map(Isa)
}

/// Families of the other engines' tests, and then some.
const FAMILIES: usize = 12 + 5;

/// A key of a family.
fn key(family: usize, dim: usize, random: &mut Random) -> Vec<f32> {
    match family {
        // A cube.
        12 => (0..dim).map(|_| random.unit() as f32 - 0.5).collect(),
        // Many duplicates.
        13 => (0..dim).map(|_| random.below(3) as f32 - 1.0).collect(),
        // One key in a hundred is out of all bounds.
        14 => {
            let size = if random.below(100) == 0 { 1e38 } else { 1.0 };
            (0..dim).map(|_| size * (random.unit() as f32 - 0.5)).collect()
        }
        // Far from the origin.
        15 => (0..dim).map(|_| 1e5 + random.normal()).collect(),
        // A different scale in every coordinate.
        16 => (0..dim).map(|j| random.normal() * 10_f32.powi(7 * (j as i32 % 5) - 14)).collect(),
        _ => row(family, dim, random),
    }
}

/// Keys of a family.
fn keys(family: usize, n: usize, dim: usize, random: &mut Random) -> Keys {
    let numbers: Vec<f32> = (0..n).flat_map(|_| key(family, dim, random)).collect();
    let mut keys = Keys::new(KeyType::F32, dim);
    keys.extend("keys", &Rows::F32(MatRef::from_slice(&numbers, n, dim))).unwrap();
    keys
}

/// A forest of all keys.
fn forest(keys: &Keys) -> Forest {
    let mut forest = Forest::new(keys.dim());
    forest.extend(keys, keys.len(), Par::seq()).unwrap();
    forest
}

/// A forest of several trees and a tail.
fn some_trees(keys: &Keys) -> Forest {
    let mut forest = Forest::new(keys.dim());
    for upto in [4000, 5500, 5600] {
        forest.extend(keys, upto, Par::seq()).unwrap();
    }
    assert_eq!(forest.trees.len(), 2);
    forest
}

/// What a forest reports.
fn report(forest: &Forest, plane: &Plane, keys: &Keys, dead: &Dead) -> (Vec<u32>, Info) {
    let (mut out, mut info) = (vec![u32::MAX], Info::default());
    forest.report(usize::MAX, plane, keys, dead, &mut out, &mut info);
    assert_eq!(out.remove(0), u32::MAX);
    (out, info)
}

/// What it should report.
fn expected(plane: &Plane, keys: &Keys, dead: &Dead) -> Vec<u32> {
    let inside = |slot: &u32| plane.holds(keys, *slot as usize, &mut Info::default());
    let alive = (0..keys.len() as u32).filter(|&slot| !dead.contains(slot as usize));
    alive.filter(inside).collect()
}

/// A key's score.
fn score(query: &[f32], keys: &Keys, slot: usize) -> f64 {
    let mut key = vec![0.0; keys.dim()];
    keys.widen(slot, &mut key);
    query.iter().zip(key).map(|(&x, y)| f64::from(x) * f64::from(y)).sum()
}

/// A query of a family, and thresholds that cut its scores here and there, at keys and between.
fn cuts(family: usize, keys: &Keys, random: &mut Random) -> (Vec<f32>, Vec<f64>) {
    let mut query = key(family, keys.dim(), random);
    match random.below(8) {
        0 => query.fill(0.0),
        1 => query.iter_mut().for_each(|x| *x *= 1e-35),
        2 => query.iter_mut().for_each(|x| *x = x.signum()),
        3 if keys.len() > 0 => keys.widen(random.below(keys.len()), &mut query),
        _ => {}
    }
    let mut scores: Vec<f64> = (0..keys.len()).map(|slot| score(&query, keys, slot)).collect();
    scores.sort_unstable_by(f64::total_cmp);
    let n = scores.len();
    let mut cuts = vec![0.0, -1.0, 1e300, -1e300, f64::INFINITY, f64::NEG_INFINITY];
    if n > 0 {
        let places = [0, n - 1, n - 1 - n / 100, n / 2, random.below(n), random.below(n)];
        cuts.extend(places.map(|i| scores[i]));
        cuts.extend(places.map(|i| scores[i].next_up()));
        cuts.extend(places.map(|i| f64::from(scores[i] as f32)));
    }
    (query, cuts)
}

#[test]
fn reports_what_the_definition_says() {
    let mut random = Random(1);
    let sizes = [0, 1, 2, 15, 16, 17, 63, 64, 65, 129, 1023, 1024, 1025, 5000];
    for family in 0..FAMILIES {
        for (i, &n) in sizes.iter().enumerate() {
            let dim = 1 + (family + 5 * i) % MAX_DIM;
            let keys = keys(family, n, dim, &mut random);
            let (grown, dead) = (forest(&keys), Dead::none());
            let (query, cuts) = cuts(family, &keys, &mut random);
            for &cut in cuts.iter().take(if n > 1100 { 9 } else { cuts.len() }) {
                let strict = random.below(2) == 0;
                let mut right = None;
                for isa in isas() {
                    let plane = Plane::new(&query, cut, strict, isa);
                    let right = right.get_or_insert_with(|| expected(&plane, &keys, &dead));
                    let (found, info) = report(&grown, &plane, &keys, &dead);
                    let what = (family, n, dim, isa, &query, cut, strict);
                    assert_eq!(found, *right, "{what:?}");
                    assert!(info.sure <= info.candidates && info.scanned <= n as u64);
                }
            }
        }
    }
}

#[test]
fn keys_come_and_go() {
    let mut random = Random(2);
    for family in [0, 1, 14] {
        let dim = 1 + random.below(4);
        let keys = keys(family, 6000, dim, &mut random);
        let (mut grown, mut dead) = (Forest::new(dim), Dead::none());
        while grown.len() < keys.len() {
            let step = [1, 3, 63, 64, 200, 1024, 1500][random.below(7)];
            let upto = keys.len().min(grown.len() + step);
            grown.extend(&keys, upto, Par::seq()).unwrap();
            for _ in 0..random.below(50) {
                dead.reserve(upto).unwrap();
                dead.insert(random.below(upto));
            }
            let present = keys.gather(0..upto as u32).unwrap();
            let (query, cuts) = cuts(family, &present, &mut random);
            let plane = Plane::new(&query, cuts[6 + random.below(18)], false, Isa::detect());
            let found = report(&grown, &plane, &keys, &dead).0;
            assert_eq!(found, expected(&plane, &present, &dead), "{query:?}");
        }
        let lengths: Vec<usize> = grown.trees.iter().map(|tree| tree.layout.len).collect();
        assert!(lengths.windows(2).all(|pair| pair[0] >= 2 * pair[1]), "{lengths:?}");
    }
}

/// Is every key in all the boxes and balls above it, and is every slot there once?
fn check_bounds(tree: &Tree, keys: &Keys) {
    let layout = &tree.layout;
    let mut slots = tree.order.to_vec();
    slots.sort_unstable();
    assert!(slots.iter().map(|&x| x as usize).eq(tree.first..tree.first + layout.len));
    for (place, &slot) in tree.order.iter().enumerate() {
        let mut key = vec![0.0; layout.dim];
        keys.widen(slot as usize, &mut key);
        assert_eq!(tree.key(place / LEAF, place % LEAF)[..layout.dim], key);
        let length = key.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let reach = tree.scale.map_or(f64::INFINITY, |scale| scale.reach(&key));
        for level in 0..layout.levels {
            let node = place / (LEAF << (4 * level));
            let pack = (layout.level(level).start + node / FAN) * layout.pack_size();
            let number = |row: usize| tree.boxes[pack + row * FAN + node % FAN];
            for j in 0..layout.dim {
                assert!(number(2 * j + 1) <= key[j] && key[j] <= number(2 * j));
            }
            assert!(f64::from(number(size_row(layout.dim))) >= length);
            assert!(-f64::from(number(reach_row(layout.dim))) >= reach);
        }
    }
}

#[test]
fn boxes_hold_their_keys() {
    let mut random = Random(3);
    for family in 0..FAMILIES {
        for n in [1, 65, 1024, 1025, 16_385, 20_000] {
            let keys = keys(family, n, 1 + random.below(3), &mut random);
            let forest = forest(&keys);
            forest.trees.iter().chain([&forest.tail]).for_each(|tree| check_bounds(tree, &keys));
        }
    }
}

#[test]
fn a_large_tree_is_the_same_whoever_builds_it() {
    let mut random = Random(4);
    let n = 300_000;
    // Ties, so that their order matters.
    let numbers: Vec<f32> = (0..2 * n).map(|_| random.below(500) as f32).collect();
    let mut keys = Keys::new(KeyType::F32, 2);
    keys.extend("keys", &Rows::F32(MatRef::from_slice(&numbers, n, 2))).unwrap();
    let one = Tree::build(&keys, 0, n, Par::seq()).unwrap();
    check_bounds(&one, &keys);
    for (threads, order) in
        [(2, TaskOrder::Forward), (3, TaskOrder::Reverse), (2, TaskOrder::Shuffled)]
    {
        set_task_order(order);
        let other = Tree::build(&keys, 0, n, Par::threads(threads)).unwrap();
        set_task_order(TaskOrder::Forward);
        assert!(one.order[..] == other.order[..] && one.leaves.bytes() == other.leaves.bytes());
        assert!(one.boxes.bytes() == other.boxes.bytes());
    }
    let (query, dead) = ([0.6, 0.8], Dead::none());
    let forest = Forest { dim: 2, trees: vec![one], tail: Tree::tail(2, n) };
    for cut in [-1.0, 350.0, 698.6] {
        let plane = Plane::new(&query, cut, false, Isa::detect());
        let (found, info) = report(&forest, &plane, &keys, &dead);
        assert!(found == expected(&plane, &keys, &dead));
        assert!(info.scanned < n as u64 / 8, "{cut} {info:?}");
    }
}

#[test]
fn few_keys_are_looked_at() {
    let mut random = Random(5);
    for (dim, most) in [(2, 700), (3, 1500), (4, 2500), (6, 9000)] {
        let keys = keys(0, 60_000, dim, &mut random);
        let forest = forest(&keys);
        let (mut looked, mut found) = (0, 0);
        for _ in 0..10 {
            let query: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
            let mut scores: Vec<f64> =
                (0..keys.len()).map(|slot| score(&query, &keys, slot)).collect();
            scores.sort_unstable_by(f64::total_cmp);
            let cut = f64::midpoint(scores[keys.len() - 65], scores[keys.len() - 64]);
            for sign in [1.0, -1.0] {
                let query: Vec<f32> = query.iter().map(|&x| sign as f32 * x).collect();
                let plane = Plane::new(&query, sign * cut, false, Isa::detect());
                let (slots, info) = report(&forest, &plane, &keys, &Dead::none());
                looked += info.scanned;
                found += slots.len();
            }
        }
        assert_eq!(found, 10 * keys.len());
        assert!(looked / 20 < most, "d = {dim}: {} keys", looked / 20);
    }
}

#[test]
fn a_search_gives_up_where_it_is_told() {
    let mut random = Random(10);
    let keys = keys(0, 6000, 6, &mut random);
    let forest = some_trees(&keys);
    let plane = Plane::new(&[1.0, -1.0, 1.0, 1.0, 2.0, -1.0], 1.0, false, Isa::detect());
    let (all, info) = report(&forest, &plane, &keys, &Dead::none());
    for most in [0, 100, 2000, info.scanned as usize - 1, info.scanned as usize, usize::MAX] {
        let (mut out, mut counts) = (vec![7], Info::default());
        let finished = forest.report(most, &plane, &keys, &Dead::none(), &mut out, &mut counts);
        assert_eq!(finished, most >= info.scanned as usize);
        assert_eq!(out[1..], if finished { &all[..] } else { &[] }[..]);
        assert!(counts.scanned <= most.saturating_add(FAN * LEAF) as u64);
    }
}

#[test]
fn a_build_that_is_stopped_changes_nothing() {
    let mut random = Random(6);
    let keys = keys(0, 3000, 2, &mut random);
    let mut forest = Forest::new(2);
    forest.extend(&keys, 1500, Par::seq()).unwrap();
    forest.extend(&keys, 1600, Par::seq()).unwrap();
    let stop = Stop::new(&|| true);
    std::thread::sleep(std::time::Duration::from_millis(60));
    let stopped = forest.extend(&keys, 3000, Par::seq().stop_if(&stop));
    assert_eq!(stopped, Err(Error::Stopped));
    assert_eq!(forest.len(), 1600);
    let plane = Plane::new(&[1.0, 0.0], 0.5, false, Isa::detect());
    let present = keys.gather(0..1600).unwrap();
    let found = report(&forest, &plane, &keys, &Dead::none()).0;
    assert_eq!(found, expected(&plane, &present, &Dead::none()));
}
