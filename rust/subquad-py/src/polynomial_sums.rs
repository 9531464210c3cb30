//! Bindings of sums with polynomial weights that nothing divides.

use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use subquad_core::attention::{self, Polynomial, RowSums, SumsGradients};
use subquad_core::mat::MatRef;
use subquad_core::simd::{Bf16, Float};

use crate::arrays::Stack;
use crate::attention::{Array, Inputs, KeyHeads, gradients, report, visible, with_compute_type};
use crate::detach::detached;

/// Coefficients of the powers of the logit, or with `lead` of those of its two parts.
struct Terms {
    numbers: Vec<f64>,
    /// How many coordinates lead, and the shape of the table.
    blocks: Option<(usize, [usize; 2])>,
}

impl Terms {
    fn new(coefficients: &Bound<'_, PyArrayDyn<f64>>, lead: Option<usize>) -> PyResult<Self> {
        let refuse = |what| PyValueError::new_err(format!("`coefficients` must {what}"));
        let blocks = match (coefficients.shape(), lead) {
            (&[_], None) => None,
            (&[rows, columns], Some(lead)) => Some((lead, [rows, columns])),
            _ => return Err(refuse("have one axis, or two if `lead` is given")),
        };
        if coefficients.is_empty() {
            return Err(refuse("not be empty"));
        }
        // Columns one after the other count as contiguous, too.
        if !coefficients.is_c_contiguous() {
            return Err(refuse("be contiguous"));
        }
        Ok(Self { numbers: coefficients.to_vec()?, blocks })
    }

    fn polynomial(&self) -> Polynomial<'_> {
        let Some((lead, [rows, columns])) = self.blocks else {
            return Polynomial::Univariate(&self.numbers);
        };
        Polynomial::Bivariate { lead, table: MatRef::from_slice(&self.numbers, rows, columns) }
    }
}

/// As `attention_forward` returns.
type Report<'py> = (bool, Bound<'py, PyDict>);

/// Sums with polynomial weights that nothing divides, of the values into `rows`, of `masses` into `sums`:
/// `sum_j p(s_ij) value_j` and `sum_j p(s_ij) masses_j`. Computes in the type of `rows`.
///
/// With `lead`, `p = sum coefficients[u, k] v^k w^u` over `k + 2 u <= g`, zero beyond: v is the part of `s_ij`
/// that the first `lead` coordinates make, w that of the others. `coefficients` are `(h + 1, g + 1)`.
///
/// With `half`, features of degree 2 and more are multiplied in bf16: only in float32, without shift and `lead`,
/// and on a machine that can (`bf16`).
#[pyfunction]
#[pyo3(signature = (query, key, value, masses, coefficients, rows, sums, *, scale, shift, workers, lead=None,
                    half=false))]
#[allow(clippy::too_many_arguments)]
pub fn polynomial_sums<'py>(
    py: Python<'py>,
    query: Array<'py>,
    key: Array<'py>,
    value: Array<'py>,
    masses: Array<'py>,
    coefficients: &Bound<'py, PyArrayDyn<f64>>,
    rows: Array<'py>,
    sums: Array<'py>,
    scale: f64,
    shift: Option<isize>,
    workers: usize,
    lead: Option<usize>,
    half: bool,
) -> PyResult<Report<'py>> {
    let inputs = Inputs::new((query, key, value), None, None, None)?;
    let problem = inputs.problem(scale, visible(shift, None))?;
    let (heads, terms) = (problem.heads().len(), Terms::new(coefficients, lead)?);
    let polynomial = terms.polynomial();
    let served_by = KeyHeads::new(&inputs.query, &inputs.key, heads, inputs.key.rows()?.len())?;
    let masses = Stack::new("masses", masses)?;
    let masses = served_by.pick("masses", &masses.columns()?, heads)?;
    let (rows, sums) = (Stack::new("rows", rows)?, Stack::new("sums", sums)?);
    if half {
        let bf16 = unit_of_half(rows.is_compute::<f64>(), lead)?;
        let outputs = row_sums::<f32>(&rows, &sums)?;
        let stats = detached(py, workers, |par| {
            let c = &terms.numbers;
            attention::polynomial_sums_half(&problem, &masses, c, &outputs, bf16, par)
        })?;
        return report(py, &stats);
    }
    let stats = with_compute_type!(rows, T => {
        let outputs = row_sums::<T>(&rows, &sums)?;
        detached(py, workers, |par| {
            attention::polynomial_sums(&problem, &masses, polynomial, &outputs, par)
        })?
    });
    report(py, &stats)
}

/// Where the sums of every head go.
fn row_sums<'a, T: Float>(
    rows: &'a Stack<'_>,
    sums: &'a Stack<'_>,
) -> PyResult<Vec<RowSums<'a, T>>> {
    let (rows, sums) = (rows.cells::<T>(2)?, sums.cells::<T>(1)?);
    if rows.len() != sums.len() {
        return Err(PyValueError::new_err("leading axes of `rows` and `sums` must agree"));
    }
    Ok(rows.into_iter().zip(sums).map(|(rows, sums)| RowSums { rows, sums }).collect())
}

/// What multiplies bf16, if it may.
fn unit_of_half(double: bool, lead: Option<usize>) -> PyResult<Bf16> {
    let refuse = |what| Err(PyValueError::new_err(format!("`half` must be left out {what}")));
    match Bf16::detect() {
        _ if double => refuse("where results are float64"),
        _ if lead.is_some() => refuse("if `lead` is given"),
        None => refuse("where the machine, or SUBQUAD_ISA, has no AVX512_BF16"),
        Some(bf16) => Ok(bf16),
    }
}

/// Adds the vector-Jacobian products of `polynomial_sums` with `grad_rows` and `grad_sums` to the other
/// `grad_*`. Computes in the type of `grad_rows`.
#[pyfunction]
#[pyo3(signature = (grad_rows, grad_sums, query, key, value, masses, coefficients, grad_query, grad_key,
                    grad_value, grad_masses, *, scale, shift, workers, lead=None))]
#[allow(clippy::too_many_arguments)]
pub fn polynomial_sums_grad<'py>(
    py: Python<'py>,
    grad_rows: Array<'py>,
    grad_sums: Array<'py>,
    query: Array<'py>,
    key: Array<'py>,
    value: Array<'py>,
    masses: Array<'py>,
    coefficients: &Bound<'py, PyArrayDyn<f64>>,
    grad_query: Option<Array<'py>>,
    grad_key: Option<Array<'py>>,
    grad_value: Option<Array<'py>>,
    grad_masses: Option<Array<'py>>,
    scale: f64,
    shift: Option<isize>,
    workers: usize,
    lead: Option<usize>,
) -> PyResult<Report<'py>> {
    let inputs = Inputs::new((query, key, value), None, None, None)?;
    let problem = inputs.problem(scale, visible(shift, None))?;
    let (heads, terms) = (problem.heads().len(), Terms::new(coefficients, lead)?);
    let polynomial = terms.polynomial();
    let served_by = KeyHeads::new(&inputs.query, &inputs.key, heads, inputs.key.rows()?.len())?;
    let masses = Stack::new("masses", masses)?;
    let masses = served_by.pick("masses", &masses.columns()?, heads)?;
    let grad_rows = Stack::new("grad_rows", grad_rows)?;
    let grad_sums = Stack::new("grad_sums", grad_sums)?;
    let (rows, sums) = (grad_rows.rows()?, grad_sums.columns()?);
    let stack = |name, array: Option<Array<'py>>| array.map(|a| Stack::new(name, a)).transpose();
    let to = [
        stack("grad_query", grad_query)?,
        stack("grad_key", grad_key)?,
        stack("grad_value", grad_value)?,
        None,
        None,
        None,
    ];
    let of_masses = stack("grad_masses", grad_masses)?;
    let stats = with_compute_type!(grad_rows, T => {
        let of_masses = of_masses.as_ref().map(|stack| stack.cells::<T>(1)).transpose()?;
        let of_masses = of_masses.map(|cells| served_by.pick("grad_masses", &cells, heads)).transpose()?;
        let to: Vec<_> = gradients::<T>(&to, &served_by, heads)?
            .into_iter()
            .enumerate()
            .map(|(h, to)| SumsGradients {
                query: to.query,
                key: to.key,
                value: to.value,
                masses: of_masses.as_ref().map(|cells| cells[h]),
            })
            .collect();
        detached(py, workers, |par| {
            attention::polynomial_sums_grad(&problem, &masses, polynomial, (&rows, &sums), &to, par)
        })?
    });
    report(py, &stats)
}
