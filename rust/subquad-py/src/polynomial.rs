//! Bindings of polynomial attention and of [`subquad_core::polynomial`].

use numpy::{PyArray1, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use subquad_core::attention::{self, Stats};
use subquad_core::polynomial::{self, Monomials};
use subquad_core::{Error, Result};

use crate::arrays::Stack;
use crate::attention::{
    Array, Inputs, KeyHeads, gradients, outputs, report, visible, with_compute_type,
};
use crate::detach::{detached, to_py};

/// A head, counted over all, a row of it, what its weights add up to, and what that may be off by.
type Refused = (usize, usize, f64, f64);

/// As `attention_forward` returns, and the first row that has no result.
type Done<'py> = (bool, Bound<'py, PyDict>, Option<Refused>);

/// Polynomial attention for every head; see `subquad.polynomial_attention`.
#[pyfunction]
#[pyo3(signature = (query, key, value, coefficients, out, *, scale, shift, workers))]
#[allow(clippy::too_many_arguments)]
pub fn polynomial_forward<'py>(
    py: Python<'py>,
    query: Array<'py>,
    key: Array<'py>,
    value: Array<'py>,
    coefficients: &Bound<'py, PyArray1<f64>>,
    out: Array<'py>,
    scale: f64,
    shift: Option<isize>,
    workers: usize,
) -> PyResult<Done<'py>> {
    let inputs = Inputs::new((query, key, value), None, None, None)?;
    let problem = inputs.problem(scale, visible(shift, None))?;
    let terms = take_terms(coefficients)?;
    let out = Stack::new("out", out)?;
    let done = with_compute_type!(out, T => {
        let outputs = outputs::<T>(&out, None)?;
        detached(py, workers, |par| {
            split(attention::polynomial_forward(&problem, &terms, &outputs, par))
        })?
    });
    finish(py, done)
}

/// Adds the gradients of polynomial attention to `grad_*`; see `subquad.polynomial_attention_grad`; computes in
/// float64 if `double`. Returns as `polynomial_forward`.
#[pyfunction]
#[pyo3(signature = (grad_out, query, key, value, coefficients, grad_query, grad_key, grad_value,
                    grad_coefficients, *, double, scale, shift, workers))]
#[allow(clippy::too_many_arguments)]
pub fn polynomial_backward<'py>(
    py: Python<'py>,
    grad_out: Array<'py>,
    query: Array<'py>,
    key: Array<'py>,
    value: Array<'py>,
    coefficients: &Bound<'py, PyArray1<f64>>,
    grad_query: Option<Array<'py>>,
    grad_key: Option<Array<'py>>,
    grad_value: Option<Array<'py>>,
    grad_coefficients: Option<&Bound<'py, PyArray1<f64>>>,
    double: bool,
    scale: f64,
    shift: Option<isize>,
    workers: usize,
) -> PyResult<Done<'py>> {
    let inputs = Inputs::new((query, key, value), None, None, None)?;
    let problem = inputs.problem(scale, visible(shift, None))?;
    let terms = take_terms(coefficients)?;
    let grad_out = Stack::new("grad_out", grad_out)?;
    let upstream = grad_out.rows()?;
    let stack = |name, array: Option<Array<'py>>| array.map(|a| Stack::new(name, a)).transpose();
    let to = [
        stack("grad_query", grad_query)?,
        stack("grad_key", grad_key)?,
        stack("grad_value", grad_value)?,
        None,
        None,
        None,
    ];
    let heads = problem.heads().len();
    let served_by = KeyHeads::new(&inputs.query, &inputs.key, heads, inputs.key.rows()?.len())?;
    let mut of_terms = grad_coefficients.map(|_| vec![0.0; terms.len()]);
    let into = of_terms.as_deref_mut();
    let done = if double {
        let to = gradients::<f64>(&to, &served_by, heads)?;
        detached(py, workers, |par| {
            split(attention::polynomial_backward(&problem, &terms, &upstream, &to, into, par))
        })?
    } else {
        let to = gradients::<f32>(&to, &served_by, heads)?;
        detached(py, workers, |par| {
            split(attention::polynomial_backward(&problem, &terms, &upstream, &to, into, par))
        })?
    };
    if let (Some(to), Some(found)) = (grad_coefficients, of_terms) {
        let mut to = to.readwrite();
        let wrong = || PyValueError::new_err("`grad_coefficients` must be contiguous, of as many");
        let to = to.as_slice_mut().ok().filter(|to| to.len() == found.len()).ok_or_else(wrong)?;
        to.iter_mut().zip(found).for_each(|(to, x)| *to += x);
    }
    finish(py, done)
}

/// The core has no meaning for a polynomial without terms.
fn take_terms(coefficients: &Bound<'_, PyArray1<f64>>) -> PyResult<Vec<f64>> {
    let terms = coefficients.to_vec()?;
    if terms.is_empty() {
        return Err(PyValueError::new_err("`coefficients` must not be empty"));
    }
    Ok(terms)
}

/// A row without a result is no error here: the Python layer knows what to call it.
fn split(done: Result<Stats>) -> Result<(Stats, Option<Refused>)> {
    match done {
        Ok(stats) => Ok((stats, None)),
        Err(Error::Weights { head, row, sum, doubt }) => {
            Ok((Stats::default(), Some((head, row, sum, doubt))))
        }
        Err(err) => Err(err),
    }
}

fn finish(py: Python<'_>, (stats, refused): (Stats, Option<Refused>)) -> PyResult<Done<'_>> {
    let (suspicious, counts) = report(py, &stats)?;
    counts.set_item("rows_anew", stats.rows_anew)?;
    Ok((suspicious, counts, refused))
}

/// Features of rows, into `out`; see `subquad.polynomial.features`.
#[pyfunction]
#[pyo3(signature = (x, degree, out, *, workers))]
pub fn polynomial_features(
    py: Python<'_>,
    x: Array<'_>,
    degree: usize,
    out: Array<'_>,
    workers: usize,
) -> PyResult<()> {
    let (x, out) = (Stack::new("x", x)?, Stack::new("out", out)?);
    let rows = x.rows()?;
    let [rows] = rows[..] else { return Err(PyValueError::new_err("`x` must be a matrix")) };
    let all = Monomials::new(rows.cols(), degree).map_err(|err| to_py(&err))?;
    with_compute_type!(out, T => {
        let cells = out.cells::<T>(2)?;
        let [cell] = cells[..] else { return Err(PyValueError::new_err("`out` must be a matrix")) };
        detached(py, workers, |par| polynomial::features(&rows, &all, &cell, par))
    })
}

/// Multinomial weights of the features of so many coordinates.
#[pyfunction]
pub fn polynomial_weights(
    py: Python<'_>,
    dim: usize,
    degree: usize,
) -> PyResult<Bound<'_, PyArray1<f64>>> {
    let all = Monomials::new(dim, degree).map_err(|err| to_py(&err))?;
    Ok(PyArray1::from_vec(py, all.weights()))
}
