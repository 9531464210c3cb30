//! Bindings of sums of features over blocks of tokens, and of rows that are read from them.
//!
//! Arrays are `(*lead, n, .)` for tokens, `(*lead, K, n)` for weights, `(*lead, nb, K, r, Ev)` for sums and
//! `(*lead, nb, K, r)` for their masses, with `nb = ceil(n / block)`.

use numpy::{PyArray1, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use subquad_core::attention::{self, BlockSums, TokenGradients, Weighed};
use subquad_core::mat::{MatCell, Rows};

use crate::arrays::Stack;
use crate::attention::{Array, report, with_compute_type};
use crate::detach::detached;

/// As `attention_forward` returns.
type Report<'py> = (bool, Bound<'py, PyDict>);

/// Arrays that agree about leading axes, about blocks, and about the number of weights.
struct Blocks<'py> {
    tokens: Stack<'py>,
    weights: Stack<'py>,
    block: usize,
}

fn refuse<T>(name: &str, what: &str, found: &[usize]) -> PyResult<T> {
    Err(PyValueError::new_err(format!("`{name}` must have {what}, got shape {found:?}")))
}

impl<'py> Blocks<'py> {
    fn new(
        name: &'static str,
        tokens: Array<'py>,
        weights: Array<'py>,
        block: usize,
    ) -> PyResult<Self> {
        let this = Self {
            tokens: Stack::new(name, tokens)?,
            weights: Stack::new("weights", weights)?,
            block,
        };
        if this.tokens.shape().len() < 2 {
            return refuse(name, "two axes or more", this.tokens.shape());
        }
        this.stack_of("weights", &this.weights, 2)?;
        Ok(this)
    }

    fn lead(&self) -> &[usize] {
        let shape = self.tokens.shape();
        &shape[..shape.len() - 2]
    }

    /// Does an array have the leading axes of the tokens, and so many others?
    fn stack_of(&self, name: &str, stack: &Stack<'_>, axes: usize) -> PyResult<()> {
        let (shape, lead) = (stack.shape(), self.lead());
        if shape.len() == lead.len() + axes && shape.starts_with(lead) {
            return Ok(());
        }
        refuse(name, &format!("{lead:?} and {axes} more axes"), shape)
    }

    /// An array of tokens, with as many axes behind the leading ones.
    fn array(&self, name: &'static str, array: Array<'py>, axes: usize) -> PyResult<Stack<'py>> {
        let stack = Stack::new(name, array)?;
        self.stack_of(name, &stack, axes)?;
        Ok(stack)
    }

    fn maybe(
        &self,
        name: &'static str,
        array: Option<Array<'py>>,
        axes: usize,
    ) -> PyResult<Option<Stack<'py>>> {
        array.map(|array| self.array(name, array, axes)).transpose()
    }

    /// Sums or masses: of every block and weight.
    fn of_blocks(
        &self,
        name: &'static str,
        array: Array<'py>,
        axes: usize,
    ) -> PyResult<Stack<'py>> {
        let stack = self.array(name, array, axes)?;
        let (lead, tokens, weights) = (self.lead(), self.tokens.shape(), self.weights.shape());
        let found = &stack.shape()[lead.len()..lead.len() + 2];
        let blocks = tokens[lead.len()].div_ceil(self.block.max(1));
        if found != [blocks, weights[lead.len()]] {
            let expected = [blocks, weights[lead.len()]];
            return refuse(name, &format!("(nb, K) = {expected:?}"), stack.shape());
        }
        Ok(stack)
    }
}

/// The matrices of all heads.
struct Views<'a> {
    tokens: Vec<Rows<'a>>,
    weights: Vec<Rows<'a>>,
    block: usize,
}

impl<'a> Views<'a> {
    fn new(blocks: &'a Blocks<'_>) -> PyResult<Self> {
        let (tokens, weights) = (blocks.tokens.rows()?, blocks.weights.rows()?);
        Ok(Self { tokens, weights, block: blocks.block })
    }

    fn weighed(&self) -> Weighed<'_> {
        Weighed { tokens: &self.tokens, weights: &self.weights, block: self.block }
    }
}

/// The core has no meaning for a polynomial without terms.
fn take_terms(coefficients: &Bound<'_, PyArray1<f64>>) -> PyResult<Vec<f64>> {
    if coefficients.is_empty() {
        return Err(PyValueError::new_err("`coefficients` must not be empty"));
    }
    Ok(coefficients.to_vec()?)
}

fn cells<'a, T: 'static>(
    stack: Option<&'a Stack<'_>>,
    axes: usize,
) -> PyResult<Option<Vec<MatCell<'a, T>>>> {
    stack.map(|stack| stack.cells(axes)).transpose()
}

/// Adds the sums of features of the keys of every block to `sums` `(*lead, nb, K, r, Ev)` and `masses`
/// `(*lead, nb, K, r)`: `f_m sum_j weights[k, j] phi_m(key_j) [value_j, 1]` with `f_m = c_t scale^t t! / a!`.
/// Computes in the type of `sums`.
#[pyfunction]
#[pyo3(signature = (key, value, weights, coefficients, sums, masses, *, scale, block, workers))]
#[allow(clippy::too_many_arguments)]
pub fn polynomial_block_sums<'py>(
    py: Python<'py>,
    key: Array<'py>,
    value: Array<'py>,
    weights: Array<'py>,
    coefficients: &Bound<'py, PyArray1<f64>>,
    sums: Array<'py>,
    masses: Array<'py>,
    scale: f64,
    block: usize,
    workers: usize,
) -> PyResult<Report<'py>> {
    let blocks = Blocks::new("key", key, weights, block)?;
    let (views, terms) = (Views::new(&blocks)?, take_terms(coefficients)?);
    let value = blocks.array("value", value, 2)?;
    let (sums, masses) =
        (blocks.of_blocks("sums", sums, 4)?, blocks.of_blocks("masses", masses, 3)?);
    let values = value.rows()?;
    let stats = with_compute_type!(sums, T => {
        let (sums, masses) = (sums.cells::<T>(2)?, masses.cells::<T>(1)?);
        let to = BlockSums { sums: &sums, masses: &masses };
        detached(py, workers, |par| {
            attention::polynomial_block_sums(views.weighed(), &values, (&terms, scale), to, par)
        })?
    });
    report(py, &stats)
}

/// Adds to `rows` `(*lead, L, Ev)` and `row_masses` `(*lead, L)` what the sums of a query's block say:
/// `sum_k weights[k, i] sum_m phi_m(query_i) sums[k, m]`, with features up to `degree`. Computes in the type of
/// `rows`.
#[pyfunction]
#[pyo3(signature = (query, weights, sums, masses, rows, row_masses, *, degree, block, workers))]
#[allow(clippy::too_many_arguments)]
pub fn polynomial_block_rows<'py>(
    py: Python<'py>,
    query: Array<'py>,
    weights: Array<'py>,
    sums: Array<'py>,
    masses: Array<'py>,
    rows: Array<'py>,
    row_masses: Array<'py>,
    degree: usize,
    block: usize,
    workers: usize,
) -> PyResult<Report<'py>> {
    let blocks = Blocks::new("query", query, weights, block)?;
    let views = Views::new(&blocks)?;
    let (sums, masses) =
        (blocks.of_blocks("sums", sums, 4)?, blocks.of_blocks("masses", masses, 3)?);
    let (sums, masses) = (sums.rows()?, masses.columns()?);
    let from = BlockSums { sums: &sums, masses: &masses };
    let (rows, row_masses) =
        (blocks.array("rows", rows, 2)?, blocks.array("row_masses", row_masses, 1)?);
    let stats = with_compute_type!(rows, T => {
        let (rows, row_masses) = (rows.cells::<T>(2)?, row_masses.cells::<T>(1)?);
        detached(py, workers, |par| {
            let to = (&rows[..], &row_masses[..]);
            attention::polynomial_block_rows(views.weighed(), from, degree, to, par)
        })?
    });
    report(py, &stats)
}

/// Adds the vector-Jacobian products of `polynomial_block_rows` with `grad_rows` and `grad_row_masses` to the
/// other `grad_*`, each of which may be None but for `grad_sums` and `grad_masses`, which go together. Computes
/// in the type of `grad_rows`.
#[pyfunction]
#[pyo3(signature = (grad_rows, grad_row_masses, query, weights, sums, masses, grad_query, grad_weights,
                    grad_sums, grad_masses, *, degree, block, workers))]
#[allow(clippy::too_many_arguments)]
pub fn polynomial_block_rows_grad<'py>(
    py: Python<'py>,
    grad_rows: Array<'py>,
    grad_row_masses: Array<'py>,
    query: Array<'py>,
    weights: Array<'py>,
    sums: Array<'py>,
    masses: Array<'py>,
    grad_query: Option<Array<'py>>,
    grad_weights: Option<Array<'py>>,
    grad_sums: Option<Array<'py>>,
    grad_masses: Option<Array<'py>>,
    degree: usize,
    block: usize,
    workers: usize,
) -> PyResult<Report<'py>> {
    let blocks = Blocks::new("query", query, weights, block)?;
    let views = Views::new(&blocks)?;
    let (sums, masses) =
        (blocks.of_blocks("sums", sums, 4)?, blocks.of_blocks("masses", masses, 3)?);
    let (sums, masses) = (sums.rows()?, masses.columns()?);
    let from = BlockSums { sums: &sums, masses: &masses };
    let grad_rows = blocks.array("grad_rows", grad_rows, 2)?;
    let grad_row_masses = blocks.array("grad_row_masses", grad_row_masses, 1)?;
    let (of_rows, of_masses) = (grad_rows.rows()?, grad_row_masses.columns()?);
    let query = blocks.maybe("grad_query", grad_query, 2)?;
    let weights = blocks.maybe("grad_weights", grad_weights, 2)?;
    let own = match (grad_sums, grad_masses) {
        (Some(sums), Some(masses)) => Some((
            blocks.of_blocks("grad_sums", sums, 4)?,
            blocks.of_blocks("grad_masses", masses, 3)?,
        )),
        (None, None) => None,
        _ => return Err(PyValueError::new_err("`grad_sums` and `grad_masses` must go together")),
    };
    let stats = with_compute_type!(grad_rows, T => {
        let (query, weights) = (cells::<T>(query.as_ref(), 2)?, cells::<T>(weights.as_ref(), 2)?);
        let own = own.as_ref().map(|(sums, masses)| {
            Ok::<_, PyErr>((sums.cells::<T>(2)?, masses.cells::<T>(1)?))
        });
        let own = own.transpose()?;
        let to = TokenGradients { tokens: query.as_deref(), weights: weights.as_deref() };
        let to_sums = own.as_ref().map(|(sums, masses)| BlockSums { sums, masses });
        detached(py, workers, |par| {
            let (upstream, to) = ((&of_rows[..], &of_masses[..]), (to, to_sums));
            attention::polynomial_block_rows_grad(upstream, views.weighed(), from, degree, to, par)
        })?
    });
    report(py, &stats)
}

/// Adds the vector-Jacobian products of `polynomial_block_sums` with `grad_sums` and `grad_masses` to the other
/// `grad_*`, each of which may be None. Computes in the type of `grad_sums`.
#[pyfunction]
#[pyo3(signature = (grad_sums, grad_masses, key, value, weights, coefficients, grad_key, grad_value,
                    grad_weights, *, scale, block, workers))]
#[allow(clippy::too_many_arguments)]
pub fn polynomial_block_sums_grad<'py>(
    py: Python<'py>,
    grad_sums: Array<'py>,
    grad_masses: Array<'py>,
    key: Array<'py>,
    value: Array<'py>,
    weights: Array<'py>,
    coefficients: &Bound<'py, PyArray1<f64>>,
    grad_key: Option<Array<'py>>,
    grad_value: Option<Array<'py>>,
    grad_weights: Option<Array<'py>>,
    scale: f64,
    block: usize,
    workers: usize,
) -> PyResult<Report<'py>> {
    let blocks = Blocks::new("key", key, weights, block)?;
    let (views, terms) = (Views::new(&blocks)?, take_terms(coefficients)?);
    let value = blocks.array("value", value, 2)?;
    let values = value.rows()?;
    let grad_sums = blocks.of_blocks("grad_sums", grad_sums, 4)?;
    let grad_masses = blocks.of_blocks("grad_masses", grad_masses, 3)?;
    let (sums, masses) = (grad_sums.rows()?, grad_masses.columns()?);
    let grad = BlockSums { sums: &sums, masses: &masses };
    let key = blocks.maybe("grad_key", grad_key, 2)?;
    let of_value = blocks.maybe("grad_value", grad_value, 2)?;
    let weights = blocks.maybe("grad_weights", grad_weights, 2)?;
    let stats = with_compute_type!(grad_sums, T => {
        let (key, weights) = (cells::<T>(key.as_ref(), 2)?, cells::<T>(weights.as_ref(), 2)?);
        let of_value = cells::<T>(of_value.as_ref(), 2)?;
        let to = TokenGradients { tokens: key.as_deref(), weights: weights.as_deref() };
        detached(py, workers, |par| {
            let (powers, to) = ((&terms[..], scale), (to, of_value.as_deref()));
            attention::polynomial_block_sums_grad(grad, views.weighed(), &values, powers, to, par)
        })?
    });
    report(py, &stats)
}
