//! Every engine against the exact decision on every key.

mod changes;
mod stages;

use half::{bf16, f16};

use super::index::Index;
use super::{Info, Method};
use crate::mat::{MatRef, Rows};
use crate::par::Par;

/// Numbers without visible order.
pub(super) struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// In (0, 1].
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed.
    pub fn normal(&mut self) -> f32 {
        let (radius, angle) =
            ((-2.0 * self.unit().ln()).sqrt(), self.unit() * std::f64::consts::TAU);
        (radius * angle.cos()) as f32
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() >> 16) as usize % n
    }
}

/// Kinds of data, each hard in its own way.
const FAMILIES: usize = 12;

/// Row `i` of a family.
pub(super) fn row(family: usize, dim: usize, random: &mut Random) -> Vec<f32> {
    let mut x: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
    let size = ((random.unit() * 48.0 - 24.0).exp()) as f32;
    let change: &dyn Fn(f32) -> f32 = match family {
        // Ties, and duplicates where d is small.
        1 => &f32::round,
        2 => &|_| 0.0,
        3 => &|x| x * 1e30,
        4 => &|x| x * 1e-30,
        5 => &|x| x * 1e-41,
        6 => &|x| x * size,
        8 => &|x| if x > 0.0 { 1e38 } else { -1e38 },
        9 => &|x| -x.abs(),
        10 => &|_| 1.0,
        11 => &|x| x.signum() * 0.0,
        _ => &|x| x,
    };
    x = x.into_iter().map(change).collect();
    if family == 7 {
        x[0] *= 1e4;
    }
    x
}

/// The sets of one data set, for several thresholds, by every method.
fn check(family: usize, n: usize, dim: usize, random: &mut Random) {
    let keys: Vec<f32> = (0..n).flat_map(|_| row(family, dim, random)).collect();
    let half: Vec<f16> = keys.iter().map(|&x| f16::from_f32(x)).collect();
    let brain: Vec<bf16> = keys.iter().map(|&x| bf16::from_f32(x)).collect();
    let finite = half.iter().all(|x| x.is_finite()) && brain.iter().all(|x| x.is_finite());
    let kinds = [
        Rows::F32(MatRef::from_slice(&keys, n, dim)),
        Rows::F16(MatRef::from_slice(&half, n, dim)),
        Rows::Bf16(MatRef::from_slice(&brain, n, dim)),
    ];
    for rows in kinds.into_iter().take(if finite { 3 } else { 1 }) {
        let scan = Index::new(rows, None, Method::Scan, Par::seq()).unwrap();
        let others: Vec<Index> = Method::ALL
            .into_iter()
            .filter(|&method| method != Method::Tree || dim <= 12)
            .map(|method| Index::new(rows, None, method, Par::seq()).unwrap())
            .collect();
        let query =
            row(if random.below(4) == 0 { random.below(FAMILIES) } else { family }, dim, random);
        let all: Vec<i64> = (0..n as i64).collect();
        let mut scores = scan.scores(&query, &all).unwrap();
        scores.retain(|x| x.is_finite());
        scores.sort_unstable_by(f32::total_cmp);
        let mut thresholds = vec![0.0, -1e-320, 1e300, -1e300, f64::from(random.normal())];
        for _ in 0..4 {
            if !scores.is_empty() {
                thresholds.push(scores[random.below(scores.len())].into());
            }
        }
        for threshold in thresholds {
            for strict in [false, true] {
                let plane =
                    super::predicate::Plane::new(&query, threshold, strict, scan.parts().isa);
                let mut info = Info::default();
                let expected: Vec<i64> = all
                    .iter()
                    .copied()
                    .filter(|&i| plane.holds(&scan.parts().keys, i as usize, &mut info))
                    .collect();
                for index in &others {
                    let what = (family, n, dim, index.method(), index.key_type(), threshold);
                    for (engine, slots) in super::single::every_way(index.parts(), &plane) {
                        let ids: Vec<i64> = slots.into_iter().map(i64::from).collect();
                        assert_eq!(ids, expected, "{what:?} by {engine}");
                    }
                    let found = index.report(&query, threshold, strict, Par::seq()).unwrap();
                    assert_eq!(found.ids, expected, "{what:?}");
                    assert_eq!(found.info.reported, expected.len() as u64);
                    let queries: Vec<f32> = query.iter().copied().cycle().take(7 * dim).collect();
                    let queries = MatRef::from_slice(&queries, 7, dim);
                    let mut thresholds = [threshold; 7];
                    thresholds[3] = f64::INFINITY;
                    let batch =
                        index.report_batch(queries, &thresholds, strict, Par::seq()).unwrap();
                    let one = expected.len() as i64;
                    assert_eq!(
                        batch.lims,
                        [0, one, 2 * one, 3 * one, 3 * one, 4 * one, 5 * one, 6 * one]
                    );
                    assert_eq!(batch.ids, expected.repeat(6), "{what:?} as a batch");
                }
            }
        }
    }
}

#[test]
fn every_engine_reports_the_exact_set() {
    const SIZES: [(usize, usize); 7] =
        [(1, 1), (15, 3), (33, 8), (64, 13), (257, 100), (300, 32), (1000, 64)];
    // Under a sanitizer the largest take minutes, and reach no other code.
    let sizes = if cfg!(debug_assertions) { &SIZES[..5] } else { &SIZES[..] };
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for family in 0..FAMILIES {
        for &(n, dim) in sizes {
            check(family, n, dim, &mut random);
        }
    }
}

#[test]
fn boxes_leave_much_to_codes() {
    let mut random = Random(11);
    let (n, dim) = (20_000, 6);
    let keys: Vec<f32> = (0..n * dim).map(|_| random.normal()).collect();
    let rows = Rows::F32(MatRef::from_slice(&keys, n, dim));
    let query: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
    let [auto, scan] =
        [Method::Auto, Method::Scan].map(|m| Index::new(rows, None, m, Par::seq()).unwrap());
    let length = query.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (deviations, by_boxes) in [(3.5, true), (0.0, false), (-1.0, false)] {
        let threshold = f64::from(length * deviations);
        let [found, expected] =
            [&auto, &scan].map(|index| index.report(&query, threshold, true, Par::seq()).unwrap());
        assert_eq!(found.ids, expected.ids);
        let info = found.info;
        assert_eq!(info.engine == "tree", by_boxes, "{info:?}");
        if !by_boxes {
            assert!(info.scanned == n as u64 && info.candidates <= info.scanned, "{info:?}");
        }
    }
}

#[test]
fn the_first_stage_settles_most_keys() {
    let mut random = Random(7);
    let (n, dim) = (1 << 15, 128);
    let keys: Vec<f32> = (0..n * dim).map(|_| random.normal()).collect();
    let query: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
    let rows = Rows::F32(MatRef::from_slice(&keys, n, dim));
    let index = Index::new(rows, None, Method::Quantized, Par::seq()).unwrap();
    let norm = query.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (deviations, open) in [(3.1, 0.1), (2.3, 0.02), (1.0, 0.04)] {
        let found = index.report(&query, f64::from(norm * deviations), false, Par::seq()).unwrap();
        let info = found.info;
        let refined = (info.f32 + info.f64 + info.exact) as f64 / n as f64;
        assert!(refined < open, "{deviations}: {info:?}");
        assert!(info.exact == 0 && info.f64 < 5, "{info:?}");
    }
}
