//! The game in which a value is computed once, in its normal form.
//!
//! A step computes a value: just before, its missing operands are loaded, and no more is evicted than must
//! be. A dirty value (not in slow memory, and needed there) is stored when it is evicted; a dead one (nothing
//! that is still to be computed needs it) leaves for free; an output that must end blue is stored at once.
//! Nothing is lost: take any play, keep its order of computations, and evict as late as possible. What is in
//! fast memory then contains what was there, and no value moves that did not move. This holds for any weights,
//! and eviction sets may be minimal by inclusion, since what stays may leave later at the same cost.
//!
//! Loads are paid in advance: the *bound* of a state is the words moved so far, the words of every value that
//! is needed and not in fast memory, and those of outputs to come. It starts as the trivial bound, and grows
//! by evictions only: by the words of a clean value, which must come back, and twice those of a dirty one.

use super::mask::Mask;
use crate::pebble::{Dag, Model, Outputs, Sources};

/// A game whose values are the vertices that outputs need, numbered in topological order.
pub struct Game<const N: usize> {
    /// Their numbers in the graph.
    pub vertices: Vec<u32>,
    pub preds: Vec<Mask<N>>,
    pub succs: Vec<Mask<N>>,
    pub weights: Vec<u64>,
    unit: bool,
    pub memory: u64,
    pub all: Mask<N>,
    /// In slow memory from the start.
    pub given: Mask<N>,
    /// Wanted, but for what is given and stays.
    pub outputs: Mask<N>,
    pub sliding: bool,
    /// Must outputs end in slow memory?
    pub outputs_blue: bool,
}

/// Where a play stands. What is computed, needed, and not in fast memory is in slow memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State<const N: usize> {
    /// Computed or given.
    pub done: Mask<N>,
    /// In fast memory, and not dead.
    pub red: Mask<N>,
    /// Those of `red` that are to be stored when they are evicted.
    pub dirty: Mask<N>,
}

/// What to compute next, and what to evict for it: an operand only if pebbles slide, and then one.
#[derive(Clone, Copy)]
pub struct Step<const N: usize> {
    pub vertex: usize,
    pub out: Mask<N>,
}

impl<const N: usize> Game<N> {
    /// The game of a graph; none if more than `64 * N` values are needed. Steps are those of a model that computes
    /// once, lets blue pebbles stay and red ones be deleted.
    pub fn new(dag: &Dag, memory: u64, model: &Model) -> Option<Self> {
        let needed = dag.needed();
        let order = dag.topological_order().iter().copied();
        let vertices: Vec<u32> = order.filter(|&v| needed[v as usize]).collect();
        if vertices.len() > 64 * N {
            return None;
        }
        let mut place = vec![usize::MAX; dag.num_vertices()];
        vertices.iter().enumerate().for_each(|(i, &v)| place[v as usize] = i);
        let rows = |row: &[u32]| -> Mask<N> {
            row.iter().map(|&u| place[u as usize]).filter(|&u| u != usize::MAX).collect()
        };
        let chosen = |is: &dyn Fn(u32) -> bool| -> Mask<N> {
            (0..vertices.len()).filter(|&i| is(vertices[i])).collect()
        };
        let blue = model.sources == Sources::Blue;
        let given = chosen(&|v| blue && dag.is_source(v));
        Some(Self {
            preds: vertices.iter().map(|&v| rows(dag.preds(v))).collect(),
            succs: vertices.iter().map(|&v| rows(dag.succs(v))).collect(),
            weights: vertices.iter().map(|&v| dag.weight(v)).collect(),
            unit: dag.weights().is_none(),
            memory,
            all: Mask::first(vertices.len()),
            given,
            outputs: chosen(&|v| {
                dag.is_output(v) && !(model.blue_persists && blue && dag.is_source(v))
            }),
            sliding: model.sliding,
            outputs_blue: model.outputs == Outputs::Blue,
            vertices,
        })
    }

    /// Words of a set of values.
    pub fn words(&self, set: Mask<N>) -> u64 {
        if self.unit { u64::from(set.len()) } else { set.iter().map(|v| self.weights[v]).sum() }
    }

    /// Before the first move, and the trivial bound.
    pub fn start(&self) -> (State<N>, u64) {
        let state = State { done: self.given, red: Mask::EMPTY, dirty: Mask::EMPTY };
        let used = self.given.iter().filter(|&v| !self.succs[v].is_empty()).collect();
        let stores = if self.outputs_blue { self.words(self.outputs) } else { 0 };
        (state, self.words(used) + stores)
    }

    /// Does nothing that is still to be computed need it?
    pub fn is_spent(&self, v: usize, done: &Mask<N>) -> bool {
        self.succs[v].within(done)
    }

    /// Values that may be computed next.
    pub fn ready(&self, state: &State<N>) -> impl Iterator<Item = usize> {
        let done = state.done;
        (self.all - done).iter().filter(move |&v| self.preds[v].within(&done))
    }

    /// Operands that are dead once `v` is computed.
    pub fn killed(&self, state: &State<N>, v: usize) -> Mask<N> {
        let done = state.done | Mask::one(v);
        let kept = if self.outputs_blue { Mask::EMPTY } else { state.dirty & self.outputs };
        (self.preds[v] - kept).iter().filter(|&u| self.is_spent(u, &done)).collect()
    }

    /// Words that must leave fast memory before `v` is computed, given those of the dead operand that `v`
    /// may slide onto.
    pub fn excess(&self, state: &State<N>, v: usize, slid: u64) -> u64 {
        let before = self.words(state.red | self.preds[v]);
        let after = before + self.weights[v] - slid;
        if self.sliding { before.max(after) } else { after }.saturating_sub(self.memory)
    }

    /// Words of the largest dead operand, where pebbles slide.
    pub fn slid(&self, killed: Mask<N>) -> u64 {
        let words = killed.iter().map(|u| self.weights[u]);
        if self.sliding { words.max().unwrap_or(0) } else { 0 }
    }

    /// What the bound grows by if a value of `red` is evicted, or an operand is slid onto, when `done` is done.
    pub fn price(&self, state: &State<N>, u: usize, done: &Mask<N>) -> u64 {
        let times = if !state.dirty.has(u) {
            1
        } else if self.is_spent(u, done) {
            // An output that nothing needs does not come back.
            1
        } else {
            2
        };
        times * self.weights[u]
    }

    /// Computes a value after evicting others.
    pub fn play(&self, state: &State<N>, step: &Step<N>) -> State<N> {
        let v = step.vertex;
        let killed = self.killed(state, v);
        let mut next = State {
            done: state.done | Mask::one(v),
            red: (state.red | self.preds[v]) - step.out - killed,
            dirty: state.dirty - step.out - killed,
        };
        let wanted_red = self.outputs.has(v) && !self.outputs_blue;
        if !self.is_spent(v, &next.done) || wanted_red {
            next.red.insert(v);
            if !(self.outputs.has(v) && self.outputs_blue) {
                next.dirty.insert(v);
            }
        }
        next
    }

    /// A value that may as well be computed now, without evictions.
    ///
    /// Its operands are red, or are loaded for the last time, and there is room. Take the best play; it
    /// computes `v` later. Compute `v` now instead.
    /// - If `v` is an output that nothing needs, it is stored and gone: nothing else changes.
    /// - Let K be the red operands that die with `v`. While one of K is red in that play, `v` is red in ours,
    ///   in its place: no value of K is smaller. When the last of K leaves, `v` is evicted, and it comes back
    ///   with the first of K. Until `v` is computed there, each value of K comes back once, whose price is
    ///   that of `v` or more in all, and for each further time that all have left one comes back once more.
    pub fn forced(&self, state: &State<N>) -> Option<usize> {
        self.ready(state).find(|&v| {
            let killed = self.killed(state, v);
            if !(self.preds[v] - state.red).within(&killed)
                || self.excess(state, v, self.slid(killed)) > 0
            {
                return false;
            }
            let (done, weight) = (state.done | Mask::one(v), self.weights[v]);
            let (is_output, spent) = (self.outputs.has(v), self.is_spent(v, &done));
            if spent && self.outputs_blue {
                return true;
            }
            // Once stored, or with nothing that needs it, it is evicted for its words.
            let price = if is_output && self.outputs_blue || spent { weight } else { 2 * weight };
            let held = killed & state.red;
            let fits = held.iter().all(|u| self.weights[u] >= weight);
            !held.is_empty()
                && fits
                && held.iter().map(|u| self.price(state, u, &state.done)).sum::<u64>() >= price
        })
    }

    /// Computes what is forced, and tells what that was.
    pub fn settle(&self, mut state: State<N>, mut computed: impl FnMut(usize)) -> State<N> {
        while let Some(vertex) = self.forced(&state) {
            state = self.play(&state, &Step { vertex, out: Mask::EMPTY });
            computed(vertex);
        }
        state
    }

    /// Is the play over but for what has been paid?
    pub fn is_over(&self, state: &State<N>) -> bool {
        state.done == self.all
    }
}
