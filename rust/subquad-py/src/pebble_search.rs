//! Bindings of [`subquad_core::pebble::Search`].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use numpy::PyArray1;
use pyo3::prelude::*;
use subquad_core::pebble::{Cost, Move, Progress, Search};

use crate::detach::detached;
use crate::pebble::{Fields, PebbleDag, Vector, model};

/// Words and computations.
pub type Pair = (u64, u64);

/// The bound, the cost of the best play, states expanded, states and bytes kept, and the status.
pub type Report = (Pair, Option<Pair>, u64, u64, u64, &'static str);

/// A search for the best play; see `subquad.pebble.optimal`.
#[pyclass(frozen, module = "subquad._subquad")]
pub struct PebbleSearch(Mutex<Search>);

fn report(progress: &Progress) -> Report {
    let pair = |cost: Cost| (cost.words, cost.computations);
    let Progress { lower, upper, expanded, states, bytes, status } = *progress;
    (pair(lower), upper.map(pair), expanded, states, bytes, status.name())
}

#[pymethods]
impl PebbleSearch {
    #[new]
    #[pyo3(signature = (dag, memory, model, max_bytes))]
    fn new(
        py: Python<'_>,
        dag: &PebbleDag,
        memory: u64,
        model: Fields,
        max_bytes: u64,
    ) -> PyResult<Self> {
        let model = self::model(model)?;
        let search = detached(py, 1, |_| Search::new(&dag.0, memory, model, max_bytes))?;
        Ok(Self(Mutex::new(search)))
    }

    /// Goes on for some seconds, and leaves what it is at when the second number of them is over.
    fn advance(
        &self,
        py: Python<'_>,
        seconds: f64,
        limit: f64,
        workers: usize,
    ) -> PyResult<Report> {
        // What is too long for a duration, or not a number, is no limit.
        let duration = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let (time, limit) = (duration(seconds), duration(limit));
        let progress = detached(py, workers, |par| {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).advance(par, time, limit)
        })?;
        Ok(report(&progress))
    }

    /// What is known.
    fn progress(&self, py: Python<'_>) -> PyResult<Report> {
        let progress = detached(py, 1, |_| {
            Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).progress())
        })?;
        Ok(report(&progress))
    }

    /// The moves of the best play, if there is one.
    fn moves<'py>(&self, py: Python<'py>) -> PyResult<Option<Vector<'py, u32>>> {
        let moves =
            detached(py, 1, |_| Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).moves()))?;
        Ok(moves.map(|moves| PyArray1::from_slice(py, Move::words(&moves))))
    }
}
