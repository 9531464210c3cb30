//! Bindings of [`subquad_core::pebble::simulate`].

use std::sync::{Mutex, PoisonError};

use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use subquad_core::pebble::Order;
use subquad_core::pebble::simulate::{Improver, Policy, Schedule, depth_first, greedy, natural};

use crate::detach::detached;
use crate::pebble::{Fields, Numbers, PebbleDag, Vector, model, numbers, words};
use crate::pebble_generate::{Spec, family};

fn policy(name: &str, seed: u64) -> PyResult<Policy> {
    Ok(match name {
        "belady" => Policy::Belady,
        "belady-clean" => Policy::BeladyClean,
        "best" => Policy::BeladyBest,
        "lru" => Policy::Lru,
        "fifo" => Policy::Fifo,
        "random" => Policy::Random { seed },
        _ => return Err(PyValueError::new_err(format!("there is no policy {name:?}"))),
    })
}

/// What an order costs, and the moves if they are wanted; see `subquad.pebble.simulate`.
#[pyfunction]
#[pyo3(signature = (dag, order, memory, policy, seed, model, moves))]
#[allow(clippy::needless_pass_by_value, clippy::too_many_arguments, clippy::type_complexity)]
pub fn pebble_simulate<'py>(
    py: Python<'py>,
    dag: &PebbleDag,
    order: PyReadonlyArray1<'py, u32>,
    memory: u64,
    policy: &str,
    seed: u64,
    model: Fields,
    moves: bool,
) -> PyResult<(Numbers, Option<Vector<'py, u32>>)> {
    let (order, model) = (order.as_slice()?, self::model(model)?);
    let policy = self::policy(policy, seed)?;
    let (count, moves) = detached(py, 1, |par| {
        let schedule = Schedule::new(&dag.0, order, par)?;
        if moves {
            let (count, moves) = schedule.moves(memory, policy, model, par)?;
            return Ok((count, Some(moves)));
        }
        Ok((schedule.count(memory, policy, model, par)?, None))
    })?;
    Ok((numbers(&count), moves.map(|moves| words(py, &moves))))
}

/// The order of a generated graph, in blocks or halved; None if the family has none of the kind.
#[pyfunction]
#[pyo3(signature = (spec, block))]
#[allow(clippy::needless_pass_by_value)] // arguments are extracted by value
pub fn pebble_family_order(
    py: Python<'_>,
    spec: Spec,
    block: Option<u64>,
) -> PyResult<Option<Vector<'_, u32>>> {
    let family = family(&spec)?;
    let order = match block {
        Some(block) => Order::Blocked { block: block as usize },
        None => Order::Recursive,
    };
    let order = detached(py, 1, |_| family.order(order))?;
    Ok(order.map(|order| PyArray1::from_vec(py, order)))
}

/// As numbered.
#[pyfunction]
pub fn pebble_natural<'py>(py: Python<'py>, dag: &PebbleDag) -> PyResult<Vector<'py, u32>> {
    let order = detached(py, 1, |_| Ok(natural(&dag.0)))?;
    Ok(PyArray1::from_vec(py, order))
}

/// Depth first.
#[pyfunction]
pub fn pebble_depth_first<'py>(py: Python<'py>, dag: &PebbleDag) -> PyResult<Vector<'py, u32>> {
    let order = detached(py, 1, |_| Ok(depth_first(&dag.0)))?;
    Ok(PyArray1::from_vec(py, order))
}

/// What costs least next.
#[pyfunction]
pub fn pebble_greedy<'py>(
    py: Python<'py>,
    dag: &PebbleDag,
    memory: u64,
) -> PyResult<Vector<'py, u32>> {
    let order = detached(py, 1, |par| greedy(&dag.0, memory, par))?;
    Ok(PyArray1::from_vec(py, order))
}

/// A search for a better order, a slice at a time.
#[pyclass(frozen, module = "subquad._subquad")]
pub struct PebbleImprover(Mutex<Improver>);

#[pymethods]
impl PebbleImprover {
    #[new]
    #[pyo3(signature = (dag, order, memory, model, budget, seed))]
    #[allow(clippy::needless_pass_by_value)] // arguments are extracted by value
    fn new(
        py: Python<'_>,
        dag: &PebbleDag,
        order: PyReadonlyArray1<'_, u32>,
        memory: u64,
        model: Fields,
        budget: u64,
        seed: u64,
    ) -> PyResult<Self> {
        let (order, model) = (order.as_slice()?, self::model(model)?);
        let graph = dag.0.clone();
        let improver =
            detached(py, 1, |_| Improver::new(graph, order, memory, model, budget, seed))?;
        Ok(Self(Mutex::new(improver)))
    }

    /// Looks at so many more orders; is anything of the budget left?
    fn advance(&self, py: Python<'_>, evaluations: u64) -> PyResult<bool> {
        detached(py, 1, |par| self.with(|improver| improver.advance(evaluations, par)))
    }

    /// The best order, what it costs, and how many orders were looked at.
    fn best<'py>(&self, py: Python<'py>) -> PyResult<(Vector<'py, u32>, Numbers, u64)> {
        let (order, count, evaluations) = detached(py, 1, |_| {
            self.with(|improver| {
                let (order, count) = improver.best();
                Ok((order.to_vec(), count, improver.evaluations()))
            })
        })?;
        Ok((PyArray1::from_vec(py, order), numbers(&count), evaluations))
    }
}

impl PebbleImprover {
    /// Called without the interpreter only.
    fn with<T>(&self, work: impl FnOnce(&mut Improver) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
