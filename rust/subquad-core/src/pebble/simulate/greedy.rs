//! What costs least next: list scheduling with a memory.

use std::collections::{BinaryHeap, VecDeque};

use super::super::Dag;
use super::on_this_thread;
use crate::{Par, Result};

/// Of what can be computed, always what has the fewest words of operands to load; of equals, what uses most
/// operands for the last time, and then the lowest number. What is loaded is known from a memory of `memory` words,
/// the least recently used leaving. Sources, and what no output needs, are left out.
///
/// O(changes log V), where a value that enters or leaves the memory changes all that is computed from it.
///
/// # Errors
///
/// [`Error::Stopped`](crate::Error::Stopped).
pub fn greedy(dag: &Dag, memory: u64, par: Par) -> Result<Vec<u32>> {
    const BETWEEN_QUESTIONS: usize = 1 << 10;
    on_this_thread(par, |pulse| {
        let mut list = List::new(dag, memory);
        while let Some(v) = list.next() {
            // What a stopped task returns is thrown away.
            if list.order.len().is_multiple_of(BETWEEN_QUESTIONS) && pulse.stopped() {
                break;
            }
            list.compute(v);
        }
        Ok(list.order)
    })
}

/// What is known of a vertex.
#[derive(Clone, Default)]
struct Vertex {
    needed: bool,
    done: bool,
    /// In memory?
    there: bool,
    /// Operands that are not computed yet.
    waits: u32,
    /// Uses to come.
    uses: u32,
    /// When it was used last.
    used: u32,
    /// Words of operands that are not in memory.
    absent: u64,
    /// How often its place in the list has changed.
    version: u32,
}

/// Better is greater: words to load, last uses of operands, number.
type Merit = (std::cmp::Reverse<u64>, u32, std::cmp::Reverse<u32>);

struct List<'a> {
    dag: &'a Dag,
    memory: u64,
    vertices: Vec<Vertex>,
    /// What can be computed, with the version at which that was true.
    ready: BinaryHeap<(Merit, u32)>,
    /// What was used, and when.
    recent: VecDeque<(u32, u32)>,
    words: u64,
    clock: u32,
    /// Vertices whose merit may have changed.
    changed: Vec<u32>,
    order: Vec<u32>,
}

impl<'a> List<'a> {
    fn new(dag: &'a Dag, memory: u64) -> Self {
        let needed = dag.needed();
        let vertex = |v: u32| Vertex {
            needed: needed[v as usize],
            done: dag.is_source(v),
            waits: dag.preds(v).iter().filter(|&&u| !dag.is_source(u)).count() as u32,
            uses: dag.succs(v).iter().filter(|&&w| needed[w as usize]).count() as u32,
            absent: dag.preds(v).iter().map(|&u| dag.weight(u)).sum(),
            ..Vertex::default()
        };
        let numbers = 0..dag.num_vertices() as u32;
        let mut list = Self {
            dag,
            memory,
            vertices: numbers.clone().map(vertex).collect(),
            ready: BinaryHeap::new(),
            recent: VecDeque::new(),
            words: 0,
            clock: 0,
            changed: numbers.collect(),
            order: vec![],
        };
        list.rank();
        list
    }

    fn next(&mut self) -> Option<u32> {
        loop {
            let ((_, _, std::cmp::Reverse(v)), version) = self.ready.pop()?;
            let vertex = &self.vertices[v as usize];
            if !vertex.done && vertex.version == version {
                return Some(v);
            }
        }
    }

    fn compute(&mut self, v: u32) {
        self.order.push(v);
        self.vertices[v as usize].done = true;
        self.clock += 1;
        let dag = self.dag;
        dag.preds(v).iter().for_each(|&u| self.touch(u));
        self.touch(v);
        for &u in dag.preds(v) {
            self.vertices[u as usize].uses -= 1;
            match self.vertices[u as usize].uses {
                0 => self.leave(u),
                1 => self.changed.extend_from_slice(dag.succs(u)),
                _ => {}
            }
        }
        if self.vertices[v as usize].uses == 0 {
            self.leave(v);
        }
        while self.words > self.memory
            && let Some((u, when)) = self.recent.pop_front()
        {
            if self.vertices[u as usize].there && self.vertices[u as usize].used == when {
                self.leave(u);
            }
        }
        for &w in dag.succs(v) {
            self.vertices[w as usize].waits -= 1;
        }
        self.changed.extend_from_slice(dag.succs(v));
        self.rank();
    }

    fn touch(&mut self, v: u32) {
        let clock = self.clock;
        self.recent.push_back((v, clock));
        let vertex = &mut self.vertices[v as usize];
        vertex.used = clock;
        if !std::mem::replace(&mut vertex.there, true) {
            self.words += self.dag.weight(v);
            for &w in self.dag.succs(v) {
                self.vertices[w as usize].absent -= self.dag.weight(v);
                self.changed.push(w);
            }
        }
    }

    fn leave(&mut self, v: u32) {
        if std::mem::replace(&mut self.vertices[v as usize].there, false) {
            self.words -= self.dag.weight(v);
            for &w in self.dag.succs(v) {
                self.vertices[w as usize].absent += self.dag.weight(v);
                self.changed.push(w);
            }
        }
    }

    /// Lists what has changed and can be computed.
    fn rank(&mut self) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        for &v in &changed {
            let vertex = &self.vertices[v as usize];
            if vertex.needed && !vertex.done && vertex.waits == 0 {
                let last = |&&u: &&u32| self.vertices[u as usize].uses == 1;
                let ends = self.dag.preds(v).iter().filter(last).count() as u32;
                let merit = (std::cmp::Reverse(vertex.absent), ends, std::cmp::Reverse(v));
                self.vertices[v as usize].version += 1;
                self.ready.push((merit, self.vertices[v as usize].version));
            }
        }
        changed.clear();
        self.changed = changed;
    }
}
