//! Bindings of [`subquad_core::pebble`]: graphs, models and the referee.

use std::sync::Arc;

use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use subquad_core::pebble::{self, Count, Dag, Illegal, Model, Move, Outputs, Sources};

use crate::detach::detached;

/// A vector that goes to Python.
pub type Vector<'py, T> = Bound<'py, PyArray1<T>>;

/// The fields of `subquad.pebble.Model`, in their order.
pub type Fields = (bool, bool, bool, bool, f64, String, String);

/// Loads, stores, peak, recomputations, computations.
pub type Numbers = (u64, u64, u64, u64, u64);

/// Step, operation, vertex, rule, what is missing, words with the move.
pub type Refusal = (usize, Option<&'static str>, u32, &'static str, Vec<u32>, u64);

/// The model of these fields.
pub fn model(fields: Fields) -> PyResult<Model> {
    let (recompute, sliding, blue_persists, deletes, compute_cost, sources, outputs) = fields;
    let sources = match sources.as_str() {
        "blue" => Sources::Blue,
        "computable" => Sources::Computable,
        _ => return refuse("sources", "\"blue\" or \"computable\"", &sources),
    };
    let outputs = match outputs.as_str() {
        "blue" => Outputs::Blue,
        "any" => Outputs::Any,
        _ => return refuse("outputs", "\"blue\" or \"any\"", &outputs),
    };
    Ok(Model { recompute, sliding, blue_persists, deletes, compute_cost, sources, outputs })
}

fn refuse<T>(name: &str, requires: &str, found: &str) -> PyResult<T> {
    Err(PyValueError::new_err(format!("`{name}` must be {requires}, got {found:?}")))
}

/// The numbers of a count.
pub fn numbers(count: &Count) -> Numbers {
    let Count { loads, stores, peak, computations, recomputations, .. } = *count;
    (loads, stores, peak, recomputations, computations)
}

/// The words of a list of moves.
pub fn words<'py>(py: Python<'py>, moves: &[Move]) -> Vector<'py, u32> {
    PyArray1::from_slice(py, Move::words(moves))
}

/// A computation; see `subquad.pebble.Dag`.
#[pyclass(frozen, module = "subquad._subquad")]
pub struct PebbleDag(pub Arc<Dag>);

#[pymethods]
impl PebbleDag {
    /// Edges are the rows of an array, each from an operand to what is computed from it.
    #[new]
    #[allow(clippy::needless_pass_by_value)] // arguments are extracted by value
    #[pyo3(signature = (num_vertices, edges, outputs, weights))]
    fn new(
        py: Python<'_>,
        num_vertices: usize,
        edges: PyReadonlyArray2<'_, u32>,
        outputs: Option<PyReadonlyArray1<'_, u32>>,
        weights: Option<PyReadonlyArray1<'_, u32>>,
    ) -> PyResult<Self> {
        if edges.shape()[1] != 2 {
            return Err(PyValueError::new_err("`edges` must have shape (E, 2)"));
        }
        let (edges, _) = edges.as_slice()?.as_chunks::<2>();
        let outputs = outputs.as_ref().map(|outputs| outputs.as_slice()).transpose()?;
        let weights = weights.as_ref().map(|weights| weights.as_slice()).transpose()?;
        let dag = detached(py, 1, |_| {
            Dag::new(num_vertices, edges, outputs, weights.map(<[u32]>::to_vec))
        })?;
        Ok(Self(Arc::new(dag)))
    }

    /// Vertices and edges.
    fn sizes(&self, py: Python<'_>) -> PyResult<(usize, usize)> {
        detached(py, 1, |_| Ok((self.0.num_vertices(), self.0.num_edges())))
    }

    /// Where the operands of each vertex begin, and the operands.
    #[allow(clippy::type_complexity)]
    fn predecessors<'py>(&self, py: Python<'py>) -> PyResult<(Vector<'py, u64>, Vector<'py, u32>)> {
        let (starts, items) = detached(py, 1, |_| Ok(copied(self.0.pred_rows())))?;
        Ok((PyArray1::from_vec(py, starts), PyArray1::from_vec(py, items)))
    }

    /// As `predecessors`, of what is computed from each vertex.
    #[allow(clippy::type_complexity)]
    fn successors<'py>(&self, py: Python<'py>) -> PyResult<(Vector<'py, u64>, Vector<'py, u32>)> {
        let (starts, items) = detached(py, 1, |_| Ok(copied(self.0.succ_rows())))?;
        Ok((PyArray1::from_vec(py, starts), PyArray1::from_vec(py, items)))
    }

    /// What is wanted, ascending.
    fn outputs<'py>(&self, py: Python<'py>) -> PyResult<Vector<'py, u32>> {
        let outputs = detached(py, 1, |_| Ok(self.0.outputs().collect()))?;
        Ok(PyArray1::from_vec(py, outputs))
    }

    /// Words of each value; None where all have one.
    fn weights<'py>(&self, py: Python<'py>) -> PyResult<Option<Vector<'py, u32>>> {
        let weights = detached(py, 1, |_| Ok(self.0.weights().map(<[u32]>::to_vec)))?;
        Ok(weights.map(|weights| PyArray1::from_vec(py, weights)))
    }

    /// Every vertex after its operands.
    fn topological_order<'py>(&self, py: Python<'py>) -> PyResult<Vector<'py, u32>> {
        let order = detached(py, 1, |_| Ok(self.0.topological_order().to_vec()))?;
        Ok(PyArray1::from_vec(py, order))
    }

    /// Words of fast memory without which no play ends.
    #[allow(clippy::needless_pass_by_value)] // arguments are extracted by value
    fn least_memory(&self, py: Python<'_>, model: Fields) -> PyResult<u64> {
        let model = self::model(model)?;
        detached(py, 1, |_| Ok(self.0.least_memory(&model)))
    }
}

/// Offsets and entries, in types of one width on every machine.
fn copied((starts, items): (&[usize], &[u32])) -> (Vec<u64>, Vec<u32>) {
    (starts.iter().map(|&start| start as u64).collect(), items.to_vec())
}

/// What the moves cost, or why the first illegal one is; see `subquad.pebble.play`.
#[pyfunction]
#[pyo3(signature = (dag, moves, memory, model))]
#[allow(clippy::needless_pass_by_value)] // arguments are extracted by value
pub fn pebble_play(
    py: Python<'_>,
    dag: &PebbleDag,
    moves: PyReadonlyArray1<'_, u32>,
    memory: u64,
    model: Fields,
) -> PyResult<(Option<Numbers>, Option<Refusal>)> {
    let (moves, model) = (Move::from_words(moves.as_slice()?), self::model(model)?);
    let verdict = detached(py, 1, |par| pebble::play(&dag.0, moves, memory, model, par))?;
    Ok(match verdict {
        Ok(count) => (Some(numbers(&count)), None),
        Err(illegal) => (None, Some(refusal(*illegal))),
    })
}

fn refusal(illegal: Illegal) -> Refusal {
    let Illegal { step, op, vertex, rule, missing, words, .. } = illegal;
    (step, op.map(pebble::Op::name), vertex, rule.name(), missing, words)
}
