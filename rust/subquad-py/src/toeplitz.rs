//! Bindings of [`subquad_core::toeplitz`].

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use subquad_core::mat::{MatCell, MatRef, Rows};
use subquad_core::toeplitz::{self, Gradients, Transform};

use crate::arrays::Stack;
use crate::attention::{Array, with_compute_type};
use crate::detach::detached;

/// An element type of these functions.
trait Number: Transform {
    fn of<'a>(rows: &Rows<'a>) -> Option<MatRef<'a, Self>>;
}

impl Number for f32 {
    fn of<'a>(rows: &Rows<'a>) -> Option<MatRef<'a, Self>> {
        if let Rows::F32(view) = rows { Some(*view) } else { None }
    }
}

impl Number for f64 {
    fn of<'a>(rows: &Rows<'a>) -> Option<MatRef<'a, Self>> {
        if let Rows::F64(view) = rows { Some(*view) } else { None }
    }
}

/// The matrices of an array of the compute type.
fn views<'a, T: Number>(stack: &'a Stack<'_>, name: &str) -> PyResult<Vec<MatRef<'a, T>>> {
    let matrices = stack.rows()?;
    let views: Option<Vec<_>> = matrices.iter().map(T::of).collect();
    views.ok_or_else(|| PyTypeError::new_err(format!("`{name}` must have the type of the result")))
}

/// The only matrix of an array.
fn view<'a, T: Number>(stack: &'a Stack<'_>, name: &str) -> PyResult<MatRef<'a, T>> {
    match views(stack, name)?[..] {
        [one] if stack.shape().len() == 2 => Ok(one),
        _ => Err(PyValueError::new_err(format!("`{name}` must have two axes"))),
    }
}

/// As [`view`], to be written.
fn cell<'a, T: Number>(stack: &'a Stack<'_>, name: &str) -> PyResult<MatCell<'a, T>> {
    match stack.cells(2)?[..] {
        [one] if stack.shape().len() == 2 => Ok(one),
        _ => Err(PyValueError::new_err(format!("`{name}` must have two axes"))),
    }
}

/// Which row of the weights each matrix has: the only one, or one of its own, if nothing is said.
fn rows_of(which: Option<Vec<usize>>, weights: usize, matrices: usize) -> Vec<usize> {
    which.unwrap_or_else(|| (0..matrices).map(|m| if weights == 1 { 0 } else { m }).collect())
}

/// `out[m] = T x[m]` for matrices `x` of shape `(N, S, C)`, where the weights of T, one for each lag, are row
/// `which[m]` of `weights`; with `transpose`, `out[m] = T^t x[m]` for `x` of shape `(N, L, C)`.
#[pyfunction]
#[pyo3(signature = (weights, x, out, *, transpose, workers, which=None))]
pub fn toeplitz_product<'py>(
    py: Python<'py>,
    weights: Array<'py>,
    x: Array<'py>,
    out: Array<'py>,
    transpose: bool,
    workers: usize,
    which: Option<Vec<usize>>,
) -> PyResult<()> {
    let (weights, x) = (Stack::new("weights", weights)?, Stack::new("x", x)?);
    let out = Stack::new("out", out)?;
    with_compute_type!(out, T => {
        let (weights, x) = (view::<T>(&weights, "weights")?, views::<T>(&x, "x")?);
        let out = out.cells::<T>(2)?;
        let which = rows_of(which, weights.rows(), x.len());
        detached(py, workers, |par| toeplitz::product(&weights, &which, &x, &out, transpose, par))
    })
}

/// Adds to row `which[m]` of `grad_weights` the gradient of `sum(grad_out[m] * (T x[m]))` for matrices of
/// shapes `(N, L, C)` and `(N, S, C)`. For transposed products, exchange the two.
#[pyfunction]
#[pyo3(signature = (grad_out, x, grad_weights, *, workers, which=None))]
pub fn toeplitz_product_grad<'py>(
    py: Python<'py>,
    grad_out: Array<'py>,
    x: Array<'py>,
    grad_weights: Array<'py>,
    workers: usize,
    which: Option<Vec<usize>>,
) -> PyResult<()> {
    let (grad_out, x) = (Stack::new("grad_out", grad_out)?, Stack::new("x", x)?);
    let to = Stack::new("grad_weights", grad_weights)?;
    with_compute_type!(to, T => {
        let (grad_out, x) = (views::<T>(&grad_out, "grad_out")?, views::<T>(&x, "x")?);
        let to = cell::<T>(&to, "grad_weights")?;
        let which = rows_of(which, to.rows(), x.len());
        detached(py, workers, |par| toeplitz::product_grad(&grad_out, &x, &which, &to, par))
    })
}

/// `out += sum_t diag(left[t]) T_t diag(right[t]) x` for `left (n, L)`, `right (n, S)`, `x (S, C)`,
/// `out (L, C)` and weights of one row for each term, or of one for all.
#[pyfunction]
#[pyo3(signature = (weights, left, right, x, out, *, workers))]
pub fn rescaled_toeplitz<'py>(
    py: Python<'py>,
    weights: Array<'py>,
    left: Array<'py>,
    right: Array<'py>,
    x: Array<'py>,
    out: Array<'py>,
    workers: usize,
) -> PyResult<()> {
    let (weights, left) = (Stack::new("weights", weights)?, Stack::new("left", left)?);
    let (right, x) = (Stack::new("right", right)?, Stack::new("x", x)?);
    let out = Stack::new("out", out)?;
    with_compute_type!(out, T => {
        let (weights, x) = (view::<T>(&weights, "weights")?, view::<T>(&x, "x")?);
        let (left, right) = (view::<T>(&left, "left")?, view::<T>(&right, "right")?);
        let out = cell::<T>(&out, "out")?;
        detached(py, workers, |par| {
            toeplitz::rescaled_sum(&weights, &left, &right, &x, &out, par)
        })
    })
}

/// Adds the gradients of `sum(grad_out * out)` where `out` is what `rescaled_toeplitz` adds up, each to an
/// array of the shape of its argument; None where it is not wanted.
#[pyfunction]
#[pyo3(signature = (weights, left, right, x, grad_out, grad_left, grad_right, grad_x, grad_weights, *, workers))]
#[allow(clippy::too_many_arguments)]
pub fn rescaled_toeplitz_grad<'py>(
    py: Python<'py>,
    weights: Array<'py>,
    left: Array<'py>,
    right: Array<'py>,
    x: Array<'py>,
    grad_out: Array<'py>,
    grad_left: Option<Array<'py>>,
    grad_right: Option<Array<'py>>,
    grad_x: Option<Array<'py>>,
    grad_weights: Option<Array<'py>>,
    workers: usize,
) -> PyResult<()> {
    let (weights, left) = (Stack::new("weights", weights)?, Stack::new("left", left)?);
    let (right, x) = (Stack::new("right", right)?, Stack::new("x", x)?);
    let grad_out = Stack::new("grad_out", grad_out)?;
    let stack = |name, array: Option<Array<'py>>| array.map(|a| Stack::new(name, a)).transpose();
    let grad_left = stack("grad_left", grad_left)?;
    let grad_right = stack("grad_right", grad_right)?;
    let grad_x = stack("grad_x", grad_x)?;
    let grad_weights = stack("grad_weights", grad_weights)?;
    with_compute_type!(x, T => {
        let (weights, x) = (view::<T>(&weights, "weights")?, view::<T>(&x, "x")?);
        let (left, right) = (view::<T>(&left, "left")?, view::<T>(&right, "right")?);
        let grad_out = view::<T>(&grad_out, "grad_out")?;
        let to = Gradients {
            left: grad_left.as_ref().map(|to| cell::<T>(to, "grad_left")).transpose()?,
            right: grad_right.as_ref().map(|to| cell::<T>(to, "grad_right")).transpose()?,
            x: grad_x.as_ref().map(|to| cell::<T>(to, "grad_x")).transpose()?,
            weights: grad_weights.as_ref().map(|to| cell::<T>(to, "grad_weights")).transpose()?,
        };
        detached(py, workers, |par| {
            toeplitz::rescaled_sum_grad(&weights, &left, &right, &x, &grad_out, &to, par)
        })
    })
}
