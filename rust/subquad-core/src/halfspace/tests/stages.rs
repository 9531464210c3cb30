//! What every stage says of a key, against the exact comparison of its score with the threshold.

use proptest::prelude::*;

use super::{FAMILIES, Random, row};
use crate::halfspace::Method;
use crate::halfspace::coarse::{Coarse, is_tame};
use crate::halfspace::expansion::Expansion;
use crate::halfspace::index::{Index, Parts};
use crate::halfspace::planes::{BLOCK, Planes};
use crate::halfspace::predicate::{Plane, SURE};
use crate::halfspace::scan::{Found, scan};
use crate::halfspace::single::every_way;
use crate::halfspace::tile::{Masks, Narrow, Tiles};
use crate::mat::{MatRef, Rows};
use crate::par::Par;
use crate::simd::Isa;
use crate::simd::ints::Unit;

/// The sign of a score less the threshold.
fn sign(plane: &Plane, key: &[f32]) -> i32 {
    let terms = plane.query().iter().zip(key).map(|(&x, &y)| f64::from(x) * f64::from(y));
    let mut sum = Expansion::of(terms);
    sum.add(-plane.threshold);
    sum.sign()
}

/// Panics if a key was excluded that is in, or called sure that is not.
fn check(stage: &str, found: &[u32], plane: &Plane, keys: &[f32]) {
    let dim = plane.query().len();
    for (slot, key) in keys.chunks_exact(dim).enumerate() {
        let at = found.iter().find(|&x| (x & !SURE) as usize == slot);
        let side = sign(plane, key);
        match at {
            None => assert!(side < 0, "{stage} excludes slot {slot}, which is in"),
            Some(x) if x & SURE != 0 => assert!(side > 0, "{stage} is wrongly sure of {slot}"),
            Some(_) => {}
        }
    }
}

/// The first stage over all keys.
fn first(unit: Unit, coarse: &Coarse, planes: &Planes) -> Found {
    let mut found = Found::default();
    let blocks = 0..planes.len().div_ceil(BLOCK);
    scan(unit, coarse, planes, blocks, &mut found);
    found
}

fn check_unit(unit: Unit, parts: &Parts, plane: &Plane, keys: &[f32]) {
    let Some(quantized) = parts.coded(plane) else { return };
    let query: Vec<f64> = plane.query().iter().map(|&x| x.into()).collect();
    let wide = &quantized.int8;
    let coarse = Coarse::plain(unit, wide.shape(), wide.norms(), plane);
    check("int8", &first(unit, &coarse, wide).slots, plane, keys);

    if let Some((planes, rest)) = &quantized.int4 {
        let coarse = Coarse::plain(unit, planes.shape(), planes.norms(), plane);
        let mut found = first(unit, &coarse, planes);
        check("int4", &found.slots, plane, keys);
        let fine = rest.fine(&query, plane.norm, plane.threshold);
        rest.narrow(unit, &fine, &mut found);
        check("the rest of int4", &found.slots, plane, keys);
    }
    if let Some(rotated) = &parts.rotated
        && let Some((coarse, fine)) = rotated.query(plane)
    {
        let mut found = first(unit, &coarse, &rotated.planes);
        check("rotated", &found.slots, plane, keys);
        rotated.rest.narrow(unit, &fine, &mut found);
        check("the rest of rotated", &found.slots, plane, keys);
    }

    let padded = query.into_iter().chain(std::iter::repeat(0.0));
    let padded: Vec<f64> = padded.take(4 * wide.shape().wide).collect();
    let narrow =
        |_| Narrow::new(unit, &padded, wide.norms(), quantized.pair, plane.norm, plane.threshold);
    let blocks = 0..wide.len().div_ceil(BLOCK);
    let groups = 2 * blocks.len();
    // Tiles of every width.
    for count in [1, 12] {
        let mut masks = Masks::default();
        let queries: Vec<Narrow> = (0..count).map(narrow).collect();
        Tiles::new(unit, wide.shape(), &queries).scan(unit, wide, blocks.clone(), None, &mut masks);
        let mut found = Vec::new();
        for (word, (candidates, sure)) in masks.of(count - 1, groups).enumerate() {
            assert_eq!(sure & !candidates, 0);
            let marked =
                |i: u32| (64 * word as u32 + i) | if sure >> i & 1 == 1 { SURE } else { 0 };
            found.extend((0..64).filter(|i| candidates >> i & 1 == 1).map(marked));
        }
        check("a tile", &found, plane, keys);
    }
}

/// One set of keys, and thresholds at and around scores.
fn case(seed: u64, family: usize, dim: usize, n: usize, off: f64) {
    let mut random = Random(seed | 1);
    let keys: Vec<f32> = (0..n).flat_map(|_| row(family, dim, &mut random)).collect();
    let query = row(if seed.is_multiple_of(3) { family } else { 0 }, dim, &mut random);
    let rows = Rows::F32(MatRef::from_slice(&keys, n, dim));
    let scored = |key: &[f32]| {
        query.iter().zip(key).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>()
    };
    let score = scored(&keys[random.below(n) * dim..][..dim]);
    let size = keys.chunks_exact(dim).map(|key| scored(key).abs()).fold(0.0, f64::max);
    for method in [Method::Quantized, Method::Rotated] {
        let index = Index::new(rows, None, method, Par::seq()).unwrap();
        for threshold in [score, score + off * size, score - off * size, score.next_up()] {
            let plane = Plane::new(&query, threshold, false, Isa::detect());
            if index.parts().plainly(&plane).is_none() && is_tame(plane.norm) {
                for unit in Unit::all(Isa::detect()) {
                    check_unit(unit, index.parts(), &plane, &keys);
                }
            }
        }
    }
}

/// Without optimisation a case takes long.
const CASES: u32 = if cfg!(debug_assertions) { 40 } else { 200 };

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_stage_is_ever_wrong(
        seed in any::<u64>(),
        family in 0..FAMILIES,
        dim in 1_usize..150,
        n in 256_usize..400,
        exponent in -9_i32..0,
    ) {
        case(seed, family, dim, n, 10_f64.powi(exponent));
    }
}

#[test]
fn stages_list_all_keys_of_many_blocks() {
    let (dim, n) = (16, 4500);
    let mut random = Random(5);
    let keys: Vec<f32> = (0..n * dim).map(|_| random.normal()).collect();
    let query: Vec<f32> = (0..dim).map(|_| random.normal()).collect();
    let rows = Rows::F32(MatRef::from_slice(&keys, n, dim));
    let index = Index::new(rows, None, Method::Rotated, Par::seq()).unwrap();
    let score = |key: &[f32]| key.iter().zip(&query).map(|(x, y)| f64::from(x * y)).sum::<f64>();
    let least = keys.chunks_exact(dim).map(score).fold(f64::INFINITY, f64::min);
    for threshold in [least - 1e-3, -1.0, 0.0, 8.0] {
        let plane = Plane::new(&query, threshold, false, Isa::detect());
        let inside = keys.chunks_exact(dim).filter(|key| sign(&plane, key) >= 0).count();
        let ways = every_way(index.parts(), &plane);
        assert!(ways.iter().any(|(engine, _)| *engine == "rotated"));
        for (engine, slots) in ways {
            assert!(slots.len() == inside && slots.is_sorted(), "{engine} at {threshold}");
        }
        for unit in Unit::all(Isa::detect()) {
            let wide = &index.parts().coded(&plane).unwrap().int8;
            let coarse = Coarse::plain(unit, wide.shape(), wide.norms(), &plane);
            let found = first(unit, &coarse, wide).slots;
            assert!(found.len() >= inside && found.is_sorted_by_key(|slot| slot & !SURE));
        }
    }
}

#[test]
fn long_vectors_stay_within_32_bits() {
    for dim in [1024, 1025, 4096] {
        // Everything as large as it gets: all codes and integers at their limits.
        let keys: Vec<f32> = (0..40 * dim).map(|i| if i % 7 == 0 { -1.0 } else { 1.0 }).collect();
        let query = vec![1.0_f32; dim];
        let rows = Rows::F32(MatRef::from_slice(&keys, 40, dim));
        let index = Index::new(rows, None, Method::Quantized, Par::seq()).unwrap();
        for threshold in [0.0, dim as f64 * 0.7, dim as f64 * 0.715] {
            let plane = Plane::new(&query, threshold, false, Isa::detect());
            for unit in Unit::all(Isa::detect()) {
                check_unit(unit, index.parts(), &plane, &keys);
            }
        }
    }
}
