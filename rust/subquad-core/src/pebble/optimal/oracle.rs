//! Random games, and the definition of their optimum: shortest paths over single moves.

use std::collections::{BTreeMap, HashMap};

use crate::pebble::random::Random;
use crate::pebble::{Dag, Model, Outputs, Sources};

/// A graph of `n` vertices, some of whose outputs are needed for others, with weights up to `heaviest`.
pub fn random_dag(random: &mut Random, n: usize, heaviest: usize) -> Dag {
    let sources = 2 + random.below(3);
    let mut edges = Vec::new();
    for v in sources..n {
        for _ in 0..=random.below(3) {
            edges.push([random.below(v) as u32, v as u32]);
        }
    }
    let mut used = vec![false; n];
    for &[from, _] in &edges {
        used[from as usize] = true;
    }
    let mut is_output = |v: &usize| (*v >= sources && !used[*v]) || random.below(6) == 0;
    let outputs: Vec<u32> = (0..n).filter(&mut is_output).map(|v| v as u32).collect();
    let weights = (0..n).map(|_| 1 + random.below(heaviest) as u32).collect();
    Dag::new(n, &edges, Some(&outputs), Some(weights))
        .expect("operands are drawn from those before")
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
