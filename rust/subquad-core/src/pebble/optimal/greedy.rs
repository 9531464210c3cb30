//! A play that is found at once: topological order, and what is needed last leaves first.
//!
//! For graphs that are too large to search, and as a first play where the search has none. O(E log E).

use std::collections::BTreeSet;

use crate::pebble::{Dag, Model, Move, Op, Outputs, Sources};

/// Never needed again.
const NEVER: u32 = u32::MAX;

/// Legal moves in any model; none if it finds none, as where a pebble that slides is lost.
pub fn play(dag: &Dag, memory: u64, model: &Model) -> Option<Vec<Move>> {
    let mut player = Player::new(dag, memory, model);
    for t in 0..player.order.len() {
        player.compute(t as u32)?;
    }
    if model.outputs == Outputs::Blue {
        let unstored = |v: &u32| player.red[*v as usize] && !player.blue[*v as usize];
        let late: Vec<u32> = dag.outputs().filter(unstored).collect();
        player.moves.extend(late.into_iter().map(|v| Move::new(Op::Store, v)));
    }
    Some(player.moves)
}

struct Player<'a> {
    dag: &'a Dag,
    model: &'a Model,
    memory: u64,
    /// What is computed, in this order.
    order: Vec<u32>,
    /// When each value is needed, ascending, from the place in `first` on.
    uses: Vec<u32>,
    first: Vec<usize>,
    red: Vec<bool>,
    blue: Vec<bool>,
    words: u64,
    /// Red values by when they are needed next.
    queue: BTreeSet<(u32, u32)>,
    /// By when each red value is in the queue.
    next: Vec<u32>,
    moves: Vec<Move>,
}

impl<'a> Player<'a> {
    fn new(dag: &'a Dag, memory: u64, model: &'a Model) -> Self {
        let n = dag.num_vertices();
        let needed = dag.needed();
        let given = |v: u32| model.sources == Sources::Blue && dag.is_source(v);
        let order = dag.topological_order().iter().copied();
        let order: Vec<u32> = order.filter(|&v| needed[v as usize] && !given(v)).collect();
        let mut time = vec![NEVER; n];
        order.iter().zip(0..).for_each(|(&v, t)| time[v as usize] = t);
        let (mut uses, mut first) = (Vec::with_capacity(dag.num_edges()), vec![0]);
        for v in 0..n as u32 {
            let times = dag.succs(v).iter().map(|&w| time[w as usize]);
            uses.extend(times.filter(|&time| time != NEVER));
            uses[first[v as usize]..].sort_unstable();
            first.push(uses.len());
        }
        let blue = (0..n as u32).map(given).collect();
        let (red, next) = (vec![false; n], vec![NEVER; n]);
        let (queue, moves) = (BTreeSet::new(), Vec::new());
        Self { dag, model, memory, order, uses, first, red, blue, words: 0, queue, next, moves }
    }

    fn push(&mut self, op: Op, v: u32) {
        self.moves.push(Move::new(op, v));
    }

    /// The first time from `t` on at which a value is needed.
    fn needed_at(&self, v: u32, t: u32) -> u32 {
        let uses = &self.uses[self.first[v as usize]..self.first[v as usize + 1]];
        uses.get(uses.partition_point(|&time| time < t)).copied().unwrap_or(NEVER)
    }

    fn place(&mut self, v: u32, t: u32) {
        self.red[v as usize] = true;
        self.words += self.dag.weight(v);
        self.requeue(v, t);
    }

    fn requeue(&mut self, v: u32, t: u32) {
        self.queue.remove(&(self.next[v as usize], v));
        self.next[v as usize] = self.needed_at(v, t);
        self.queue.insert((self.next[v as usize], v));
    }

    fn remove(&mut self, v: u32) {
        self.red[v as usize] = false;
        self.words -= self.dag.weight(v);
        self.queue.remove(&(self.next[v as usize], v));
    }

    /// Is it needed no more, in any way?
    fn is_useless(&self, v: u32) -> bool {
        let wanted = self.dag.is_output(v) && !self.blue[v as usize];
        self.next[v as usize] == NEVER && !wanted
    }

    /// Takes a value out of fast memory such that it can come back if it is needed.
    fn evict(&mut self, v: u32) {
        let lost = self.is_useless(v) && self.model.deletes;
        if !self.blue[v as usize] && !lost {
            self.push(Op::Store, v);
            self.blue[v as usize] = true;
            if !self.model.blue_persists {
                return self.remove(v);
            }
        }
        self.push(Op::Delete, v);
        self.remove(v);
    }

    fn compute(&mut self, t: u32) -> Option<()> {
        let v = self.order[t as usize];
        let operands = self.dag.preds(v);
        let words = |missing: &mut dyn Iterator<Item = &u32>| -> u64 {
            missing.map(|&u| self.dag.weight(u)).sum()
        };
        let all = words(&mut operands.iter()) + self.dag.weight(v);
        let loads = words(&mut operands.iter().filter(|&&u| !self.red[u as usize]));
        // The operand that the pebble slides from, where there is no room for all.
        let slide = (all > self.memory).then(|| {
            let later = |u: u32| self.needed_at(u, t + 1);
            operands.iter().copied().max_by_key(|&u| (self.dag.weight(u), later(u)))
        });
        let slide = slide.flatten();
        let freed = slide.map_or(0, |u| self.dag.weight(u));
        while self.words + loads > self.memory
            || self.words + loads + self.dag.weight(v) - freed > self.memory
        {
            let &(next, u) = self.queue.last()?;
            if next == t {
                return None;
            }
            self.evict(u);
        }
        for &u in operands.iter().filter(|&&u| !self.red[u as usize]).collect::<Vec<_>>() {
            self.push(Op::Load, u);
            self.blue[u as usize] = self.model.blue_persists;
            self.place(u, t);
        }
        if let Some(u) = slide {
            let needed = self.needed_at(u, t + 1) != NEVER || self.dag.is_output(u);
            if !self.blue[u as usize] && (needed || !self.model.deletes) {
                if !self.model.blue_persists {
                    return None;
                }
                self.push(Op::Store, u);
                self.blue[u as usize] = true;
            }
        }
        self.push(Op::Compute, v);
        self.place(v, t + 1);
        if let Some(u) = slide {
            self.push(Op::Delete, u);
            self.remove(u);
        }
        let wanted = self.dag.is_output(v) && self.model.outputs == Outputs::Blue;
        if wanted && self.model.blue_persists {
            self.push(Op::Store, v);
            self.blue[v as usize] = true;
        }
        for &u in operands.iter().chain([&v]) {
            if self.red[u as usize] {
                self.requeue(u, t + 1);
                if self.is_useless(u) && (self.model.deletes || self.blue[u as usize]) {
                    self.evict(u);
                }
            }
        }
        Some(())
    }
}
