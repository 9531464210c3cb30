//! Bindings of [`subquad_core::rope`].

use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use subquad_core::mat::{MatRef, Rows};
use subquad_core::rope::{self, Layout, Rotation};

use crate::arrays::Stack;
use crate::attention::{Array, with_compute_type};
use crate::detach::detached;

/// Rows turned by their positions, into `out`; see `subquad.rope.rotate`. Returns whether something was not
/// finite.
#[pyfunction]
#[pyo3(signature = (x, positions, frequencies, out, *, interleaved, factor, inverse, workers))]
#[allow(clippy::too_many_arguments)]
pub fn rope_rotate<'py>(
    py: Python<'py>,
    x: Array<'py>,
    positions: Array<'py>,
    frequencies: &Bound<'py, PyArray1<f64>>,
    out: Array<'py>,
    interleaved: bool,
    factor: f64,
    inverse: bool,
    workers: usize,
) -> PyResult<bool> {
    let (x, positions, out) =
        (Stack::new("x", x)?, Stack::new("positions", positions)?, Stack::new("out", out)?);
    let (rows, columns) = (x.rows()?, positions.columns()?);
    let columns = columns.into_iter().map(float64).collect::<PyResult<Vec<_>>>()?;
    let frequencies = frequencies.to_vec()?;
    let layout = if interleaved { Layout::Interleaved } else { Layout::Half };
    let rotation = Rotation { frequencies: &frequencies, layout, factor, inverse };
    let finite = with_compute_type!(out, T => {
        let cells = out.cells::<T>(2)?;
        detached(py, workers, |par| rope::rotate(&rows, &columns, rotation, &cells, par))?
    });
    Ok(!finite)
}

fn float64(column: Rows<'_>) -> PyResult<MatRef<'_, f64>> {
    match column {
        Rows::F64(column) => Ok(column),
        _ => Err(PyTypeError::new_err("`positions` must be float64")),
    }
}
