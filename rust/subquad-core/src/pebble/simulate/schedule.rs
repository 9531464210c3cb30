//! An order of computation as a list of uses, each of which knows the next use of the same value.

use super::super::{Count, Dag, Model, Move};
use super::engine::{Engine, Sink};
use super::rules::{Belady, Lottery, Queue};
use super::{Policy, on_this_thread};
use crate::par::Pulse;
use crate::{Error, Par, Result};

/// A use that does not come, or a value that is not known yet.
pub(super) const NEVER: u32 = (1 << 30) - 1;
/// Bit of the first use of a step.
pub(super) const FIRST: u32 = 1 << 31;
/// Steps between two questions whether to stop.
const PATIENCE: usize = 1 << 16;

/// An order, checked and prepared: it can be counted for many sizes of memory and rules. 12 bytes per use and
/// vertex.
///
/// Values are numbered as they come: what is computed by its place in the order, then sources. Uses are numbered
/// likewise, step by step. So what a step touches lies close together whatever the numbers of the graph, and the
/// future of a value is one number.
pub struct Schedule<'a> {
    pub(super) dag: &'a Dag,
    /// The vertex of a value.
    pub(super) vertices: Vec<u32>,
    /// How many values are computed.
    steps: usize,
    /// The value of every use, and whether it is the [`FIRST`] of its step, which the end of all is too.
    pub(super) operands: Vec<u32>,
    /// For every use the next one of its value.
    pub(super) next: Vec<u32>,
    /// For every value its first use.
    pub(super) firsts: Vec<u32>,
}

impl<'a> Schedule<'a> {
    /// Prepares an order. Sources need not be in it, for they are loaded when they are used first; sources that are in
    /// it are skipped, and so is what no output needs. O(V + E).
    ///
    /// # Errors
    ///
    /// [`Error::Vertex`] for a vertex that is not there, [`Error::NotOnce`] for one that is missing or there twice,
    /// [`Error::Operand`] for one that comes before its operand, [`Error::Domain`] if there are 2^30 operands or more,
    /// [`Error::Stopped`].
    pub fn new(dag: &'a Dag, order: &[u32], par: Par) -> Result<Self> {
        check(dag)?;
        let needed = needed(dag);
        let numbers = Numbers::new(dag, order, needed.as_deref())?;
        on_this_thread(par, |pulse| Self::link(dag, numbers, pulse)).map_err(|err| match err {
            // The order may hold vertices that are skipped.
            Error::Operand { vertex, operand, .. } => {
                let index = order.iter().position(|&v| v == vertex).unwrap_or(0);
                Error::Operand { index, vertex, operand }
            }
            err => err,
        })
    }

    pub(super) fn link(dag: &'a Dag, numbers: Numbers, pulse: &Pulse) -> Result<Self> {
        let Numbers { values, vertices, steps } = numbers;
        let (rows, items) = dag.pred_rows();
        let mut operands: Vec<u32> = Vec::with_capacity(items.len() + 1);
        for (step, &v) in vertices[..steps].iter().enumerate() {
            if step % PATIENCE == 0 && pulse.stopped() {
                return Err(Error::Stopped);
            }
            let (start, left) = (operands.len(), steps - step);
            let mut late = false;
            // Numbers of sources are often the lowest, and the last use of a step is the first to be evicted.
            operands.extend(items[rows[v as usize]..rows[v as usize + 1]].iter().rev().map(|&u| {
                let value = values[u as usize];
                late |= (value.wrapping_sub(step as u32) as usize) < left;
                value
            }));
            operands[start] |= FIRST;
            if late {
                return Err(first_late(dag, &values, step, v));
            }
        }
        // From the last use to the first: what is known of a value is its next use.
        let mut firsts = values;
        firsts.truncate(vertices.len());
        firsts.fill(NEVER);
        let mut next = vec![0; operands.len()];
        for (this, (next, operand)) in next.iter_mut().zip(&operands).enumerate().rev() {
            *next = std::mem::replace(&mut firsts[(operand & !FIRST) as usize], this as u32);
        }
        operands.push(FIRST);
        Ok(Self { dag, vertices, steps, operands, next, firsts })
    }

    /// How many values are computed.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The order as it is numbered.
    pub(super) fn numbers(&self) -> Numbers {
        let mut values = vec![NEVER; self.dag.num_vertices()];
        for (value, &v) in self.vertices.iter().enumerate() {
            values[v as usize] = value as u32;
        }
        Numbers { values, vertices: self.vertices.clone(), steps: self.steps }
    }

    /// The value of a use.
    pub(super) fn value(&self, this: u32) -> u32 {
        self.operands[this as usize] & !FIRST
    }

    /// Counts what it costs with `memory` words of fast memory. O(V + E) for all but [`Policy::BeladyClean`].
    ///
    /// The game is one-shot, whether the model is or not.
    ///
    /// # Errors
    ///
    /// [`Error::TooSmall`] if the memory is, [`Error::Stopped`].
    pub fn count(&self, memory: u64, policy: Policy, model: Model, par: Par) -> Result<Count> {
        Ok(self.play(memory, policy, model, par, || ())?.0)
    }

    /// As [`count`](Self::count), with the moves.
    ///
    /// # Errors
    ///
    /// As for [`count`](Self::count).
    pub fn moves(
        &self,
        memory: u64,
        policy: Policy,
        model: Model,
        par: Par,
    ) -> Result<(Count, Vec<Move>)> {
        self.play(memory, policy, model, par, Vec::new)
    }

    fn play<S: Sink + Send + Sync>(
        &self,
        memory: u64,
        policy: Policy,
        model: Model,
        par: Par,
        sink: impl Fn() -> S + Sync,
    ) -> Result<(Count, S)> {
        let done = self.play_unexplained(memory, policy, model, par, sink);
        done.map_err(|err| match err {
            // What the step would have needed at which there was no room; others may need more.
            Error::TooSmall { name, least, found } => {
                Error::TooSmall { name, least: least.max(self.dag.least_memory(&model)), found }
            }
            err => err,
        })
    }

    fn play_unexplained<S: Sink + Send + Sync>(
        &self,
        memory: u64,
        policy: Policy,
        model: Model,
        par: Par,
        sink: impl Fn() -> S + Sync,
    ) -> Result<(Count, S)> {
        let game = (self, memory, model);
        let uses = self.next.len();
        match policy {
            Policy::Belady => {
                on_this_thread(par, |p| Engine::new(game, Belady::<1>::new(uses), sink()).run(p))
            }
            Policy::BeladyClean => {
                on_this_thread(par, |p| Engine::new(game, Belady::<8>::new(uses), sink()).run(p))
            }
            Policy::BeladyBest => {
                let plain = self.count(memory, Policy::Belady, model, par)?;
                let clean = self.count(memory, Policy::BeladyClean, model, par)?;
                let cleaner = clean.loads + clean.stores < plain.loads + plain.stores;
                let better = if cleaner { Policy::BeladyClean } else { Policy::Belady };
                self.play(memory, better, model, par, sink)
            }
            Policy::Lru | Policy::Fifo => {
                let queue = || Queue::new(self.vertices.len(), policy == Policy::Lru);
                on_this_thread(par, |p| Engine::new(game, queue(), sink()).run(p))
            }
            Policy::Random { seed } => {
                let lottery = || Lottery::new(self.vertices.len(), seed);
                on_this_thread(par, |p| Engine::new(game, lottery(), sink()).run(p))
            }
        }
    }
}

fn check(dag: &Dag) -> Result<()> {
    if dag.num_edges() < NEVER as usize - dag.num_vertices() {
        return Ok(());
    }
    let found = dag.num_edges() as f64;
    Err(Error::Domain { name: "dag", requires: "of fewer than 2^30 operands and values", found })
}

/// What an output needs, unless that is everything: so it is where all sinks are outputs.
fn needed(dag: &Dag) -> Option<Vec<bool>> {
    let (starts, _) = dag.succ_rows();
    let useless = |v: u32| starts[v as usize] == starts[v as usize + 1] && !dag.is_output(v);
    (0..dag.num_vertices() as u32).any(useless).then(|| dag.needed())
}

/// The refusal of a step one of whose operands is not computed before.
fn first_late(dag: &Dag, values: &[u32], step: usize, vertex: u32) -> Error {
    let late = |&&u: &&u32| !dag.is_source(u) && values[u as usize] as usize >= step;
    let operand = dag.preds(vertex).iter().find(late).copied().unwrap_or(vertex);
    Error::Operand { index: step, vertex, operand }
}

/// The values of vertices, the vertices of values, and how many are computed: those are the first.
#[derive(Clone)]
pub(super) struct Numbers {
    /// [`NEVER`] for what is not needed.
    pub(super) values: Vec<u32>,
    pub(super) vertices: Vec<u32>,
    pub(super) steps: usize,
}

impl Numbers {
    /// What is computed.
    pub(super) fn order(&self) -> &[u32] {
        &self.vertices[..self.steps]
    }

    /// Checks that an order holds what is needed once.
    fn new(dag: &Dag, order: &[u32], needed: Option<&[bool]>) -> Result<Self> {
        let count = dag.num_vertices();
        let skipped = |v: u32| dag.is_source(v) || needed.is_some_and(|needed| !needed[v as usize]);
        let mut values = vec![NEVER; count];
        let mut vertices = Vec::with_capacity(count);
        for (index, &v) in order.iter().enumerate() {
            let Some(value) = values.get_mut(v as usize) else {
                let vertex = u64::from(v);
                return Err(Error::Vertex { name: "order", index, vertex, vertices: count });
            };
            if skipped(v) {
                continue;
            }
            if *value != NEVER {
                let times = order.iter().filter(|&&u| u == v).count();
                return Err(Error::NotOnce { vertex: v, times });
            }
            *value = vertices.len() as u32;
            vertices.push(v);
        }
        let steps = vertices.len();
        for (v, value) in values.iter_mut().enumerate().filter(|(_, value)| **value == NEVER) {
            if dag.is_source(v as u32) {
                *value = vertices.len() as u32;
                vertices.push(v as u32);
            } else if !skipped(v as u32) {
                return Err(Error::NotOnce { vertex: v as u32, times: 0 });
            }
        }
        Ok(Self { values, vertices, steps })
    }
}
