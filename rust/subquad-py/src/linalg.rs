//! Bindings of [`subquad_core::linalg`].

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use subquad_core::linalg;
use subquad_core::mat::Rows;

use crate::arrays::Stack;
use crate::attention::Array;
use crate::detach::detached;

/// `out = a b`, of matrices of one type, float32 or float64; for many rows.
#[pyfunction]
#[pyo3(signature = (a, b, out, *, workers))]
pub fn matrix_product<'py>(
    py: Python<'py>,
    a: Array<'py>,
    b: Array<'py>,
    out: Array<'py>,
    workers: usize,
) -> PyResult<()> {
    let (a, b, out) = (Stack::new("a", a)?, Stack::new("b", b)?, Stack::new("out", out)?);
    match (&a.rows()?[..], &b.rows()?[..]) {
        ([Rows::F32(a), ..], [Rows::F32(b), ..]) => {
            let to = out.cells::<f32>(2)?[0];
            detached(py, workers, |par| linalg::product(&to, a, b, par))
        }
        ([Rows::F64(a), ..], [Rows::F64(b), ..]) => {
            let to = out.cells::<f64>(2)?[0];
            detached(py, workers, |par| linalg::product(&to, a, b, par))
        }
        _ => Err(PyTypeError::new_err("`a`, `b` and `out` must have one type")),
    }
}
