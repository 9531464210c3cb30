//! Computations as directed acyclic graphs, in compressed sparse rows.

use super::{Model, Move, Sources};
use crate::{Error, Result};

/// A computation. Vertices are numbered from 0; a value is computed from its predecessors; outputs are
/// what is wanted. O(V + E) memory.
#[derive(Clone, Debug)]
pub struct Dag {
    preds: Rows,
    succs: Rows,
    /// Words of each value; none where all have one.
    weights: Option<Vec<u32>>,
    is_output: Vec<bool>,
    /// All vertices, each after its predecessors.
    order: Vec<u32>,
}

impl Dag {
    /// The largest number of vertices.
    pub const MAX_VERTICES: usize = 1 << Move::BITS;

    /// The graph of `edges`, each from an operand to what is computed from it; an edge that is repeated counts
    /// once. `outputs` are the sinks if not given. `weights` are the words of each value, one if not given.
    ///
    /// # Errors
    ///
    /// [`Error::Vertex`], [`Error::Cycle`] (an edge from a vertex to itself is one), [`Error::Shape`] or [`Error::Domain`].
    pub fn new(
        num_vertices: usize,
        edges: &[[u32; 2]],
        outputs: Option<&[u32]>,
        weights: Option<Vec<u32>>,
    ) -> Result<Self> {
        let requires = "at most 2^30";
        if num_vertices > Self::MAX_VERTICES {
            let found = num_vertices as f64;
            return Err(Error::Domain { name: "num_vertices", requires, found });
        }
        let vertices = num_vertices;
        for (index, edge) in edges.iter().enumerate() {
            check_vertices("edges", edge, index, vertices)?;
            if edge[0] == edge[1] {
                return Err(Error::Cycle { vertices: vec![edge[0]] });
            }
        }
        for (index, &output) in outputs.unwrap_or_default().iter().enumerate() {
            check_vertices("outputs", &[output], index, vertices)?;
        }
        if let Some(weights) = &weights {
            Error::unless_equal("weights", "V", vertices, weights.len())?;
            if weights.contains(&0) {
                return Err(Error::Domain { name: "weights", requires: "at least 1", found: 0.0 });
            }
        }
        let preds = Rows::gather(vertices, edges.iter().map(|&[from, to]| (to, from)));
        let succs = Rows::gather(vertices, edges.iter().map(|&[from, to]| (from, to)));
        let order = topological(&preds, &succs)?;
        let is_output = match outputs {
            None => (0..vertices).map(|v| succs.row(v).is_empty()).collect(),
            Some(outputs) => {
                let mut is_output = vec![false; vertices];
                for &v in outputs {
                    is_output[v as usize] = true;
                }
                is_output
            }
        };
        let weights = weights.filter(|weights| weights.iter().any(|&w| w != 1));
        Ok(Self { preds, succs, weights, is_output, order })
    }

    /// How many values.
    pub fn num_vertices(&self) -> usize {
        self.is_output.len()
    }

    /// How many pairs of a value and one of its operands.
    pub fn num_edges(&self) -> usize {
        self.preds.items.len()
    }

    /// The operands of a value, ascending.
    pub fn preds(&self, v: u32) -> &[u32] {
        self.preds.row(v as usize)
    }

    /// What is computed from a value, ascending.
    pub fn succs(&self, v: u32) -> &[u32] {
        self.succs.row(v as usize)
    }

    /// All operands, row after row, and where the rows begin: [`preds`](Self::preds) without a call per vertex.
    pub fn pred_rows(&self) -> (&[usize], &[u32]) {
        (&self.preds.starts, &self.preds.items)
    }

    /// As [`pred_rows`](Self::pred_rows), for [`succs`](Self::succs).
    pub fn succ_rows(&self) -> (&[usize], &[u32]) {
        (&self.succs.starts, &self.succs.items)
    }

    /// Has it no operands?
    pub fn is_source(&self, v: u32) -> bool {
        self.preds(v).is_empty()
    }

    /// Is it wanted?
    pub fn is_output(&self, v: u32) -> bool {
        self.is_output[v as usize]
    }

    /// What is wanted, ascending.
    pub fn outputs(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.num_vertices() as u32).filter(|&v| self.is_output(v))
    }

    /// Words of a value.
    pub fn weight(&self, v: u32) -> u64 {
        self.weights.as_ref().map_or(1, |weights| u64::from(weights[v as usize]))
    }

    /// Words of all values, unless all have one.
    pub fn weights(&self) -> Option<&[u32]> {
        self.weights.as_deref()
    }

    /// Every vertex after its predecessors; of those that may come next, the smallest first.
    pub fn topological_order(&self) -> &[u32] {
        &self.order
    }

    /// Does an output need it?
    pub fn needed(&self) -> Vec<bool> {
        let mut needed = self.is_output.clone();
        for &v in self.order.iter().rev() {
            needed[v as usize] |= self.succs(v).iter().any(|&w| needed[w as usize]);
        }
        needed
    }

    /// Words of fast memory without which no play ends: room for the most demanding of the values that an
    /// output needs, beside its operands or, if pebbles slide, in the place of the largest of them. A source that is
    /// in slow memory needs room as an operand alone, even if it is an output.
    pub fn least_memory(&self, model: &Model) -> u64 {
        let needed = self.needed();
        let is_computed = |v| model.sources == Sources::Computable || !self.is_source(v);
        let room = |&v: &u32| {
            let operands = self.preds(v).iter().map(|&u| self.weight(u));
            let sum = operands.clone().sum::<u64>();
            let freed = if model.sliding { operands.max().unwrap_or(0) } else { 0 };
            sum.max(sum + self.weight(v) - freed)
        };
        let computed = self.order.iter().filter(|&&v| needed[v as usize] && is_computed(v));
        computed.map(room).max().unwrap_or(0)
    }
}

fn check_vertices(name: &'static str, found: &[u32], index: usize, vertices: usize) -> Result<()> {
    match found.iter().find(|&&v| v as usize >= vertices) {
        None => Ok(()),
        Some(&vertex) => Err(Error::Vertex { name, index, vertex: u64::from(vertex), vertices }),
    }
}

/// Every vertex after its predecessors, or a cycle.
fn topological(preds: &Rows, succs: &Rows) -> Result<Vec<u32>> {
    let vertices = preds.starts.len() - 1;
    // Where every operand has a smaller number, as in what generators make, the smallest that may come next is the
    // next number.
    let below = |v: usize| preds.row(v).last().is_none_or(|&u| (u as usize) < v);
    if (0..vertices).all(below) {
        return Ok((0..vertices as u32).collect());
    }
    let mut missing: Vec<usize> = (0..vertices).map(|v| preds.row(v).len()).collect();
    let mut order = Vec::with_capacity(vertices);
    let mut ready: std::collections::BinaryHeap<std::cmp::Reverse<u32>> =
        (0..vertices as u32).filter(|&v| missing[v as usize] == 0).map(std::cmp::Reverse).collect();
    while let Some(std::cmp::Reverse(v)) = ready.pop() {
        order.push(v);
        for &w in succs.row(v as usize) {
            missing[w as usize] -= 1;
            if missing[w as usize] == 0 {
                ready.push(std::cmp::Reverse(w));
            }
        }
    }
    if order.len() == vertices {
        Ok(order)
    } else {
        Err(Error::Cycle { vertices: cycle(preds, &missing) })
    }
}

/// A cycle among the vertices that miss predecessors: back along those, until one comes again.
fn cycle(preds: &Rows, missing: &[usize]) -> Vec<u32> {
    let mut path: Vec<u32> = Vec::new();
    let mut place = vec![usize::MAX; missing.len()];
    let mut next = missing.iter().position(|&m| m > 0);
    while let Some(v) = next {
        if place[v] < path.len() {
            path.drain(..place[v]);
            break;
        }
        place[v] = path.len();
        path.push(v as u32);
        next = preds.row(v).iter().map(|&u| u as usize).find(|&u| missing[u] > 0);
    }
    path.reverse();
    path
}

/// Lists of vertices, one after the other.
#[derive(Clone, Debug)]
struct Rows {
    starts: Vec<usize>,
    items: Vec<u32>,
}

impl Rows {
    /// For every pair `(key, item)` the item in the row of its key: ascending, without repetitions.
    fn gather(rows: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Self {
        let mut starts = vec![0; rows + 1];
        pairs.clone().for_each(|(key, _)| starts[key as usize + 1] += 1);
        (0..rows).for_each(|row| starts[row + 1] += starts[row]);
        let mut next = starts.clone();
        let mut items = vec![0; starts[rows]];
        for (key, item) in pairs {
            items[next[key as usize]] = item;
            next[key as usize] += 1;
        }
        let (mut kept, mut first) = (0, 0);
        for row in 0..rows {
            let last = starts[row + 1];
            items[first..last].sort_unstable();
            starts[row] = kept;
            let mut before = None;
            for i in first..last {
                // Places up to `kept` have been read, `i` included.
                if before != Some(items[i]) {
                    before = Some(items[i]);
                    items[kept] = items[i];
                    kept += 1;
                }
            }
            first = last;
        }
        starts[rows] = kept;
        items.truncate(kept);
        Self { starts, items }
    }

    fn row(&self, i: usize) -> &[u32] {
        &self.items[self.starts[i]..self.starts[i + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diamond() -> Dag {
        Dag::new(4, &[[2, 3], [0, 1], [0, 2], [1, 3], [0, 1]], None, None).unwrap()
    }

    #[test]
    fn rows_are_sorted_and_edges_count_once() {
        let dag = diamond();
        assert_eq!((dag.num_vertices(), dag.num_edges()), (4, 4));
        assert_eq!((dag.preds(3), dag.succs(0)), (&[1, 2][..], &[1, 2][..]));
        assert_eq!(dag.outputs().collect::<Vec<_>>(), [3]);
        assert_eq!(dag.topological_order(), [0, 1, 2, 3]);
        assert!(dag.is_source(0) && !dag.is_source(1));
    }

    #[test]
    fn a_cycle_is_told_from_first_to_last() {
        let edges = [[0, 1], [1, 2], [2, 3], [3, 1], [3, 4]];
        let Err(Error::Cycle { vertices }) = Dag::new(5, &edges, None, None) else { panic!() };
        let mut steps = vertices.iter().zip(vertices.iter().cycle().skip(1));
        assert_eq!(vertices.len(), 3);
        assert!(steps.all(|(&from, &to)| edges.contains(&[from, to])));
        let edges: Vec<[u32; 2]> = (0..100).map(|v| [v, (v + 1) % 100]).collect();
        let message = Dag::new(100, &edges, None, None).unwrap_err().to_string();
        assert!(message.ends_with("] and 92 more") && message.len() < 120, "{message}");
        let itself = Dag::new(2, &[[0, 1], [1, 1]], None, None);
        assert_eq!(itself.unwrap_err(), Error::Cycle { vertices: vec![1] });
    }

    #[test]
    fn of_what_may_come_next_the_smallest_number_is_first() {
        let order = |edges: &[[u32; 2]]| {
            Dag::new(5, edges, None, None).unwrap().topological_order().to_vec()
        };
        assert_eq!(order(&[[0, 2], [1, 4], [2, 3]]), [0, 1, 2, 3, 4]);
        assert_eq!(order(&[[4, 0], [3, 1], [0, 2]]), [3, 1, 4, 0, 2]);
    }

    #[test]
    fn a_vertex_that_is_not_there_is_told() {
        let err = Dag::new(2, &[[0, 1], [0, 2]], None, None).unwrap_err();
        assert_eq!(err, Error::Vertex { name: "edges", index: 1, vertex: 2, vertices: 2 });
        let err = Dag::new(2, &[[0, 1]], Some(&[1, 7]), None).unwrap_err();
        assert_eq!(err, Error::Vertex { name: "outputs", index: 1, vertex: 7, vertices: 2 });
    }

    #[test]
    fn least_memory_counts_words_of_what_is_needed() {
        let least = |dag: &Dag| {
            [false, true].map(|sliding| dag.least_memory(&Model { sliding, ..Model::default() }))
        };
        assert_eq!(least(&diamond()), [3, 2]);
        // 4 is not needed for 3.
        let edges = [[0, 1], [0, 2], [1, 3], [2, 3], [0, 4], [1, 4], [2, 4], [3, 4]];
        let dag = Dag::new(5, &edges, Some(&[3]), Some(vec![5, 2, 7, 1, 1])).unwrap();
        assert_eq!(dag.needed(), [true, true, true, true, false]);
        // Room for 0 and 2, of 5 and 7 words, or for the larger of them.
        assert_eq!(least(&dag), [12, 9]);
        assert_eq!(least(&Dag::new(0, &[], None, None).unwrap()), [0, 0]);
        // A source that is wanted is where it should be, unless it is computed.
        let dag = Dag::new(3, &[[0, 1]], None, Some(vec![1, 1, 100])).unwrap();
        assert_eq!(least(&dag), [2, 1]);
        let computable = Model { sources: Sources::Computable, ..Model::default() };
        assert_eq!(dag.least_memory(&computable), 100);
    }
}
