//! Bindings of [`subquad_core::limits`].

use pyo3::prelude::*;
use pyo3::types::PyDict;
use subquad_core::limits;

/// This machine's limits, by name; takes about so many seconds.
#[pyfunction]
pub fn measure_limits(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyDict>> {
    let limits = py.detach(|| limits::measure(seconds));
    let figures = PyDict::new(py);
    for (name, value) in limits.entries() {
        figures.set_item(name, value)?;
    }
    Ok(figures)
}
