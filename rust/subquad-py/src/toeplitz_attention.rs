//! Bindings of exact attention with a matrix for every lag.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use subquad_core::attention::{self, Upstream};

use crate::arrays::Stack;
use crate::attention::{
    Array, Inputs, KeyHeads, gradients, outputs, report, visible, with_compute_type,
};
use crate::detach::detached;

/// Attention with logits `scale * sum_t left[i, t] weights[t, i - j + S - 1] right[j, t]`; see
/// `subquad.toeplitz_attention`. Returns as `attention_forward`.
#[pyfunction]
#[pyo3(signature = (left, right, value, weights, out, lse, *, scale, shift, workers))]
#[allow(clippy::too_many_arguments)]
pub fn toeplitz_forward<'py>(
    py: Python<'py>,
    left: Array<'py>,
    right: Array<'py>,
    value: Array<'py>,
    weights: Array<'py>,
    out: Array<'py>,
    lse: Array<'py>,
    scale: f64,
    shift: Option<isize>,
    workers: usize,
) -> PyResult<(bool, Bound<'py, PyDict>)> {
    let inputs = Inputs::new((left, right, value), None, None, None)?.weighted(weights)?;
    let problem = inputs.problem(scale, visible(shift, None))?;
    let (out, lse) = (Stack::new("out", out)?, Stack::new("lse", lse)?);
    let stats = with_compute_type!(out, T => {
        let outputs = outputs::<T>(&out, Some(&lse))?;
        detached(py, workers, |par| attention::forward(&problem, &outputs, par))?
    });
    report(py, &stats)
}

/// Adds the gradients of `toeplitz_forward` to `grad_*`, of which `grad_weights` is float64.
#[pyfunction]
#[pyo3(signature = (grad_out, left, right, value, weights, out, lse, grad_left, grad_right,
                    grad_value, grad_weights, *, scale, shift, workers))]
#[allow(clippy::too_many_arguments)]
pub fn toeplitz_backward<'py>(
    py: Python<'py>,
    grad_out: Array<'py>,
    left: Array<'py>,
    right: Array<'py>,
    value: Array<'py>,
    weights: Array<'py>,
    out: Array<'py>,
    lse: Array<'py>,
    grad_left: Array<'py>,
    grad_right: Array<'py>,
    grad_value: Array<'py>,
    grad_weights: Array<'py>,
    scale: f64,
    shift: Option<isize>,
    workers: usize,
) -> PyResult<(bool, Bound<'py, PyDict>)> {
    let inputs = Inputs::new((left, right, value), None, None, None)?.weighted(weights)?;
    let problem = inputs.problem(scale, visible(shift, None))?;
    let (grad_out, out) = (Stack::new("grad_out", grad_out)?, Stack::new("out", out)?);
    let lse = Stack::new("lse", lse)?;
    let rows = grad_out.rows()?.into_iter().zip(out.rows()?).zip(lse.columns()?);
    let upstream: Vec<_> =
        rows.map(|((grad_out, out), lse)| Upstream { grad_out, out, lse }).collect();
    let to = [
        Some(Stack::new("grad_left", grad_left)?),
        Some(Stack::new("grad_right", grad_right)?),
        Some(Stack::new("grad_value", grad_value)?),
        None,
        None,
        Some(Stack::new("grad_weights", grad_weights)?),
    ];
    let heads = problem.heads().len();
    let served_by = KeyHeads::new(&inputs.query, &inputs.key, heads, inputs.key.rows()?.len())?;
    let stats = with_compute_type!(out, T => {
        let gradients = gradients::<T>(&to, &served_by, heads)?;
        detached(py, workers, |par| attention::backward(&problem, &upstream, &gradients, par))?
    });
    report(py, &stats)
}
