//! Random games, and the definition of their optimum: shortest paths over single moves.

use std::collections::{BTreeMap, HashMap};

use crate::pebble::{Dag, Model, Outputs, Sources};

/// Numbers that look random.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    /// A graph of `n` vertices, some of whose outputs are needed for others, with weights up to `heaviest`.
    pub fn dag(&mut self, n: u64, heaviest: u64) -> Dag {
        let sources = 2 + self.below(3);
        let mut edges = Vec::new();
        for v in sources..n {
            for _ in 0..=self.below(3) {
                edges.push([self.below(v) as u32, v as u32]);
            }
        }
        let used = |v: u64| edges.iter().any(|&[from, _]| u64::from(from) == v);
        let unused: Vec<bool> = (0..n).map(|v| !used(v)).collect();
        let is_output = |v: &u64| (*v >= sources && unused[*v as usize]) || self.below(6) == 0;
        let outputs: Vec<u32> = (0..n).filter(is_output).map(|v| v as u32).collect();
        let weights = (0..n).map(|_| 1 + self.below(heaviest) as u32).collect();
        Dag::new(n as usize, &edges, Some(&outputs), Some(weights)).unwrap()
    }
}

/// Red, blue and computed values as bits.
type Position = (u32, u32, u32);

/// Twice the optimum, if any; `compute_cost` must be a multiple of one half.
pub fn optimum(dag: &Dag, memory: u64, model: &Model) -> Option<u64> {
    let n = dag.num_vertices();
    let words = |set: u32| -> u64 { bits(set).map(|v| dag.weight(v)).sum() };
    let mut preds = vec![0u32; n];
    let (mut outputs, mut given) = (0, 0);
    for v in 0..n as u32 {
        dag.preds(v).iter().for_each(|u| preds[v as usize] |= 1 << u);
        outputs |= u32::from(dag.is_output(v)) << v;
        given |= u32::from(dag.is_source(v) && model.sources == Sources::Blue) << v;
    }
    let mut best: HashMap<Position, u64> = HashMap::from([((0, given, 0), 0)]);
    let mut open: BTreeMap<u64, Vec<Position>> = BTreeMap::from([(0, vec![(0, given, 0)])]);
    while let Some(mut entry) = open.first_entry() {
        let cost = *entry.key();
        let Some(position) = entry.get_mut().pop() else {
            entry.remove();
            continue;
        };
        if best[&position] < cost {
            continue;
        }
        let (red, blue, computed) = position;
        let kept = if model.outputs == Outputs::Any { red | blue } else { blue };
        if outputs & !kept == 0 {
            return Some(cost);
        }
        let mut after: Vec<(Position, u64)> = Vec::new();
        for v in 0..n as u32 {
            let (bit, weight) = (1 << v, 2 * dag.weight(v));
            if red & bit != 0 {
                let stays = if model.blue_persists { red } else { red & !bit };
                after.push(((stays, blue | bit, computed), weight));
                if model.deletes || blue & bit != 0 {
                    after.push(((red & !bit, blue, computed), 0));
                }
                continue;
            }
            if blue & bit != 0 && words(red | bit) <= memory {
                let stays = if model.blue_persists { blue } else { blue & !bit };
                after.push(((red | bit, stays, computed), weight));
            }
            let again = computed & bit != 0 && !model.recompute;
            if given & bit != 0 || again || preds[v as usize] & !red != 0 {
                continue;
            }
            let price = (2.0 * model.compute_cost) as u64;
            let computed = if model.recompute { 0 } else { computed | bit };
            if words(red | bit) <= memory {
                after.push(((red | bit, blue, computed), price));
            }
            for u in bits(preds[v as usize]).filter(|_| model.sliding) {
                let deletable = model.deletes || blue >> u & 1 == 1;
                let red = (red | bit) & !(1 << u);
                if deletable && words(red) <= memory {
                    after.push(((red, blue, computed), price));
                }
            }
        }
        for (next, more) in after {
            let total = cost + more;
            if best.get(&next).is_none_or(|&known| total < known) {
                best.insert(next, total);
                open.entry(total).or_default().push(next);
            }
        }
    }
    None
}

fn bits(set: u32) -> impl Iterator<Item = u32> {
    (0..32).filter(move |v| set >> v & 1 == 1)
}
