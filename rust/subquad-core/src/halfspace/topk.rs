//! The keys with the largest scores, exactly.
//!
//! Any threshold that at least k keys reach contains the answer. A sample of the keys suggests one;
//! the index reports what reaches it, by whichever engine is fastest, and the few reported keys are
//! ranked. A threshold that fewer than k keys reach is lowered.

use std::cmp::Ordering;

use super::index::Parts;
use super::predicate::{self, Plane};
use super::{Info, single};
use crate::{Par, Result};

/// Keys in the sample.
const SAMPLE: usize = 4096;

/// The slots of the k best keys, best first, ties to the lowest. There must be k.
pub(super) fn topk(
    parts: &Parts,
    query: &[f32],
    k: usize,
    par: Par<'_>,
    info: &mut Info,
) -> Result<Vec<u32>> {
    if k == 0 {
        return Ok(Vec::new());
    }
    let mut sample = parts.sample(query, SAMPLE);
    sample.sort_unstable_by(|a, b| b.total_cmp(a));
    let expected = k as f64 * sample.len() as f64 / parts.keys.len() as f64;
    let mut rank = (expected + 3.0 * expected.sqrt() + 2.0).ceil() as usize;
    loop {
        // Beyond the sample: everything.
        let guess = sample.get(rank).copied().filter(|x| x.is_finite());
        let threshold = guess.map_or(f64::NEG_INFINITY, f64::from);
        let plane = Plane::new(query, threshold, false, parts.isa);
        let found = single::slots(parts, &plane, par, info)?;
        if found.len() >= k {
            return Ok(best(query, parts, found, k));
        }
        rank = 2 * rank + 16;
    }
}

/// The k best of some slots, best first.
fn best(query: &[f32], parts: &Parts, slots: Vec<u32>, k: usize) -> Vec<u32> {
    let keys = &parts.keys;
    let scored = |slot: u32| {
        let (score, bound) = predicate::nearly(query, keys, slot as usize);
        (score, bound, slot)
    };
    let mut scored: Vec<_> = slots.into_iter().map(scored).collect();
    // The order of the exact scores, which are computed only where bounds overlap.
    let order = |a: &(f64, f64, u32), b: &(f64, f64, u32)| {
        if (a.0 - b.0).abs() > (a.1 + b.1) * (1.0 + 1e-12) {
            return b.0.total_cmp(&a.0);
        }
        // Nothing rounds where every product is zero; and the same numbers have the same score.
        let same = || keys.same(a.2 as usize, b.2 as usize);
        if (a.0 == b.0 && a.1 == 0.0 && b.1 == 0.0) || same() {
            return a.2.cmp(&b.2);
        }
        match predicate::is_better(query, keys, a.2 as usize, b.2 as usize) {
            Some(true) => Ordering::Less,
            Some(false) => Ordering::Greater,
            None => a.2.cmp(&b.2),
        }
    };
    if k < scored.len() {
        scored.select_nth_unstable_by(k - 1, order);
        scored.truncate(k);
    }
    scored.sort_unstable_by(order);
    scored.into_iter().map(|(_, _, slot)| slot).collect()
}
