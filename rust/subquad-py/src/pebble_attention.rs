//! Bindings of [`subquad_core::pebble::attention`].

use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use subquad_core::pebble::attention::{
    Counts, Direction, Fault, Flash1, Mask, Problem, Schedule, Visible, Widths, plans,
};

use crate::detach::detached;

/// A family, the names of the sizes of its blocks, and the sizes.
type Member = (&'static str, Vec<(&'static str, usize)>);

/// Loads and stores by class, peak, flops, workspace, steps.
type Figures = ([u64; 3], [u64; 3], u64, u64, u64, u64);

/// Attention of rows to keys, of which schedules are planned, counted and executed.
#[pyclass(frozen, module = "subquad._subquad")]
pub struct PebbleAttention(Problem);

fn direction(name: &str) -> PyResult<Direction> {
    match name {
        "forward" => Ok(Direction::Forward),
        "backward" => Ok(Direction::Backward),
        "loss" => Ok(Direction::Loss),
        _ => {
            Err(PyValueError::new_err("`direction` must be \"forward\", \"backward\" or \"loss\""))
        }
    }
}

fn schedule(name: &str, sizes: &[usize], way: &str) -> PyResult<Schedule> {
    let found = Schedule::new(name, direction(way)?, sizes).filter(|_| !sizes.contains(&0));
    found
        .ok_or_else(|| PyValueError::new_err("`schedule` must be a family and sizes of its blocks"))
}

fn figures(counts: &Counts) -> Figures {
    let Counts { loads, stores, peak, flops, workspace, steps } = *counts;
    (loads.0, stores.0, peak, flops, workspace, steps)
}

fn broken(fault: &Fault) -> PyErr {
    PyRuntimeError::new_err(fault.to_string())
}

#[allow(clippy::needless_pass_by_value)] // arguments are extracted by value
#[pymethods]
impl PebbleAttention {
    /// With a mask, `block` is the size of its blocks.
    #[new]
    #[pyo3(signature = (queries, keys, group, width, scale, *, causal, mask, block))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        queries: usize,
        keys: usize,
        group: usize,
        width: usize,
        scale: f64,
        causal: bool,
        mask: Option<PyReadonlyArray2<'_, bool>>,
        block: usize,
    ) -> PyResult<Self> {
        if [queries, keys, group, width, block].contains(&0) || causal && queries != keys {
            return Err(PyValueError::new_err("sizes must be positive, and equal if causal"));
        }
        if let Some(mask) = &mask
            && mask.shape() != [queries.div_ceil(block), keys.div_ceil(block)]
        {
            return Err(PyValueError::new_err("`mask` must have an entry for each block"));
        }
        let entries = mask.as_ref().map(|mask| mask.as_slice()).transpose()?;
        detached(py, 1, |_| {
            let mask = entries.map(|entries| Mask::new(block, keys.div_ceil(block), entries));
            let visible = Visible { queries, keys, group, causal, mask };
            Ok(Self(Problem { visible, width, scale }))
        })
    }

    /// Pairs of a row and a key that it sees.
    fn pairs(&self, py: Python<'_>) -> PyResult<u64> {
        detached(py, 1, |_| Ok(self.0.visible.pairs()))
    }

    /// The least memory in which some schedule fits.
    fn least_memory(&self, py: Python<'_>, widths: [u64; 3], direction: &str) -> PyResult<u64> {
        let direction = self::direction(direction)?;
        detached(py, 1, |_| Ok(Schedule::least_memory(&self.0, Widths(widths), direction)))
    }

    /// For each memory the best member of each family with its figures; None where none fits.
    #[allow(clippy::type_complexity)]
    fn plans(
        &self,
        py: Python<'_>,
        memories: Vec<u64>,
        widths: [u64; 3],
        direction: &str,
    ) -> PyResult<Vec<Vec<(&'static str, Option<(Member, Figures)>)>>> {
        let (direction, widths) = (self::direction(direction)?, Widths(widths));
        let found = detached(py, 1, |_| {
            let found = plans(&self.0, &memories, widths, direction).into_iter();
            let figures_of = |schedule: Schedule| (schedule, schedule.predict(&self.0, widths));
            Ok(found
                .map(|row| {
                    row.into_iter().map(|(name, best)| (name, best.map(figures_of))).collect()
                })
                .collect::<Vec<Vec<_>>>())
        })?;
        let member = |(schedule, counts): (Schedule, Counts)| {
            ((schedule.name(), schedule.blocks()), figures(&counts))
        };
        let row =
            |row: Vec<(_, Option<_>)>| row.into_iter().map(|(n, x)| (n, x.map(member))).collect();
        Ok(found.into_iter().map(row).collect())
    }

    /// The figures of a member of a family, by its closed forms.
    fn predict(
        &self,
        py: Python<'_>,
        name: &str,
        sizes: Vec<usize>,
        widths: [u64; 3],
        direction: &str,
    ) -> PyResult<Figures> {
        let schedule = self::schedule(name, &sizes, direction)?;
        detached(py, 1, |_| Ok(figures(&schedule.predict(&self.0, Widths(widths)))))
    }

    /// The sizes of the rule of flash attention, keys and rows.
    fn flash_rule(&self, py: Python<'_>, memory: usize) -> PyResult<Vec<usize>> {
        detached(py, 1, |_| Ok(Flash1::rule(&self.0, memory).blocks()))
    }

    /// The figures of a member of a family, by executing it without data.
    fn count(
        &self,
        py: Python<'_>,
        name: &str,
        sizes: Vec<usize>,
        memory: u64,
        widths: [u64; 3],
        direction: &str,
    ) -> PyResult<Figures> {
        let schedule = self::schedule(name, &sizes, direction)?;
        let run = detached(py, 1, |par| schedule.count(&self.0, memory, Widths(widths), par))?;
        Ok(figures(&run.map_err(|fault| broken(&fault))?))
    }

    /// Words that a cache of `memory` words moves, in lines of `line` words.
    #[allow(clippy::too_many_arguments)]
    fn replay(
        &self,
        py: Python<'_>,
        name: &str,
        sizes: Vec<usize>,
        memory: u64,
        line: u64,
        ways: usize,
        direction: &str,
    ) -> PyResult<u64> {
        let schedule = self::schedule(name, &sizes, direction)?;
        detached(py, 1, |par| schedule.replay(&self.0, memory, line, ways, par))
    }

    /// Executes a member of a family, and returns figures and results, rows one after the other.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn execute<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        sizes: Vec<usize>,
        memory: u64,
        widths: [u64; 3],
        direction: &str,
        inputs: Vec<PyReadonlyArray1<'py, f64>>,
    ) -> PyResult<(Figures, Vec<Bound<'py, PyArray1<f64>>>)> {
        let schedule = self::schedule(name, &sizes, direction)?;
        let inputs = inputs.iter().map(|input| input.as_slice()).collect::<Result<Vec<_>, _>>()?;
        let shapes = self::direction(direction)?.inputs(&self.0);
        let fits = |(input, (rows, cols)): (&&[f64], &(usize, usize))| input.len() == rows * cols;
        if inputs.len() != shapes.len() || !inputs.iter().zip(&shapes).all(fits) {
            return Err(PyValueError::new_err("`inputs` must have the sizes of the problem"));
        }
        let run =
            detached(py, 1, |par| schedule.execute(&self.0, memory, Widths(widths), &inputs, par))?;
        let (counts, values) = run.map_err(|fault| broken(&fault))?;
        let values = values.into_iter().map(|values| PyArray1::from_vec(py, values)).collect();
        Ok((figures(&counts), values))
    }
}
