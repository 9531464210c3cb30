//! Beam search in the one-shot game: plays, not bounds.
//!
//! Of the states that have computed as many values, those with the least estimates go on. Ties are broken by
//! the states themselves, so the outcome depends on nothing but the width.

use std::collections::{BTreeMap, HashMap};

use super::expand::Expander;
use super::mask::Mask;
use super::oneshot::State;
use super::store::{Child, NONE, dominates};
use crate::{Par, Result};

/// A search that goes on layer by layer.
pub struct Beam<const N: usize> {
    width: usize,
    layers: BTreeMap<u32, Vec<Child<N>>>,
    /// States that went on, and the place of the parent of each.
    kept: Vec<(State<N>, u32)>,
}

/// The states of a play from the start to the end, and its cost.
pub struct Line<const N: usize> {
    pub cost: u64,
    pub states: Vec<State<N>>,
}

impl<const N: usize> Beam<N> {
    pub fn new(width: usize, start: Child<N>) -> Self {
        let start = Child { parent: NONE, ..start };
        let layers = BTreeMap::from([(start.state.done.len(), vec![start])]);
        Self { width, layers, kept: Vec::new() }
    }

    /// Expands one layer. Returns the number of states expanded, none when all is done, and the best play of less
    /// than `most` words or exactly so many if one ends in this layer.
    pub fn step(
        &mut self,
        expander: &Expander<N>,
        par: Par,
        most: u64,
    ) -> Result<(Option<usize>, Option<Line<N>>)> {
        let Some((_, layer)) = self.layers.first_key_value() else { return Ok((None, None)) };
        let chosen = choose(expander, layer, self.width, most);
        let first = self.kept.len() as u32;
        let batch: Vec<Child<N>> = chosen
            .iter()
            .zip(first..)
            .map(|(child, parent)| Child { parent, refined: true, ..*child })
            .collect();
        let found = expander.expand(par, &batch, most)?;
        self.layers.pop_first();
        self.kept.extend(chosen.iter().map(|child| (child.state, child.parent)));
        let mut best: Option<Child<N>> = None;
        for child in found.into_iter().flat_map(|litter| litter.children).flatten() {
            if !expander.game.is_over(&child.state) {
                self.layers.entry(child.state.done.len()).or_default().push(child);
            } else if best.is_none_or(|best| child.bound < best.bound) {
                best = Some(child);
            }
        }
        let line = best.map(|child| {
            let mut states = vec![child.state];
            let mut at = child.parent;
            while at != NONE {
                let (state, parent) = self.kept[at as usize];
                states.push(state);
                at = parent;
            }
            states.reverse();
            Line { cost: child.bound, states }
        });
        Ok((Some(batch.len()), line))
    }

    /// Bytes of the states at hand, about.
    pub fn bytes(&self) -> usize {
        let layers: usize = self.layers.values().map(Vec::len).sum();
        layers * size_of::<Child<N>>() + self.kept.len() * size_of::<(State<N>, u32)>()
    }
}

/// The `width` best of a layer, none dominated by another that is chosen.
fn choose<const N: usize>(
    expander: &Expander<N>,
    layer: &[Child<N>],
    width: usize,
    most: u64,
) -> Vec<Child<N>> {
    let mut layer: Vec<&Child<N>> = layer.iter().filter(|child| child.estimate <= most).collect();
    layer.sort_unstable_by_key(|child| {
        (child.estimate, child.bound, child.state.red.len(), child.state, child.parent)
    });
    let mut chosen: Vec<Child<N>> = Vec::new();
    let mut groups: HashMap<Mask<N>, Vec<usize>> = HashMap::new();
    for child in layer {
        let group = groups.entry(child.state.done).or_default();
        let beaten = |&i: &usize| {
            let best: &Child<N> = &chosen[i];
            dominates(expander.game, (&best.state, best.bound), (&child.state, child.bound))
        };
        if !group.iter().any(beaten) {
            group.push(chosen.len());
            chosen.push(*child);
            if chosen.len() == width {
                break;
            }
        }
    }
    chosen
}
