//! Bindings of [`subquad_core::attention`].

use numpy::{PyArray1, PyArrayDyn, PyArrayMethods, PyUntypedArray};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use subquad_core::attention::{
    self, Compute, Head, HeadGradients, Output, Problem, Stats, Upstream, Visible,
};
use subquad_core::mat::MatCell;

use crate::arrays::Stack;
use crate::detach::{detached, to_py};

pub type Array<'py> = Bound<'py, PyUntypedArray>;

/// The inputs of attention, all of shape `(*lead, ., .)`.
pub struct Inputs<'py> {
    pub query: Stack<'py>,
    pub key: Stack<'py>,
    value: Stack<'py>,
    mask: Option<Stack<'py>>,
    bias: Option<Stack<'py>>,
    lags: Option<Stack<'py>>,
    weights: Option<Stack<'py>>,
}

impl<'py> Inputs<'py> {
    pub fn new(
        (query, key, value): (Array<'py>, Array<'py>, Array<'py>),
        mask: Option<Array<'py>>,
        bias: Option<Array<'py>>,
        lags: Option<Array<'py>>,
    ) -> PyResult<Self> {
        Ok(Self {
            query: Stack::new("query", query)?,
            key: Stack::new("key", key)?,
            value: Stack::new("value", value)?,
            mask: mask.map(|mask| Stack::new("mask", mask)).transpose()?,
            bias: bias.map(|bias| Stack::new("bias", bias)).transpose()?,
            lags: lags.map(|lags| Stack::new("lags", lags)).transpose()?,
            weights: None,
        })
    }

    /// With factors of the products, one for every coordinate and lag.
    pub fn weighted(self, weights: Array<'py>) -> PyResult<Self> {
        Ok(Self { weights: Some(Stack::new("weights", weights)?), ..self })
    }

    /// Every query head with the key head that serves it: groups of consecutive query heads share
    /// one.
    pub fn problem(&self, scale: f64, visible: Visible) -> PyResult<Problem<'_>> {
        let (query, key, value) = (self.query.rows()?, self.key.rows()?, self.value.rows()?);
        let mask = self.mask.as_ref().map(Stack::mask).transpose()?;
        let bias = self.bias.as_ref().map(Stack::rows).transpose()?;
        let lags = self.lags.as_ref().map(Stack::columns).transpose()?;
        let weights = self.weights.as_ref().map(Stack::rows).transpose()?;
        let served_by = KeyHeads::new(&self.query, &self.key, query.len(), key.len())?;
        let fits = |n: Option<usize>| n.is_none_or(|n| n == query.len());
        if key.len() != value.len()
            || !fits(mask.as_ref().map(Vec::len))
            || !fits(bias.as_ref().map(Vec::len))
            || !fits(lags.as_ref().map(Vec::len))
            || !fits(weights.as_ref().map(Vec::len))
        {
            return Err(PyValueError::new_err("leading axes must agree"));
        }
        let head = |(h, &query)| {
            let g = served_by.of(h);
            let (mask, bias) = (mask.as_ref().map(|m| m[h]), bias.as_ref().map(|b| b[h]));
            let (lags, weights) = (lags.as_ref().map(|l| l[h]), weights.as_ref().map(|w| w[h]));
            Head { query, key: key[g], value: value[g], mask, bias, lags, weights }
        };
        let heads = query.iter().enumerate().map(head).collect();
        Problem::new(heads, scale, visible).map_err(|err| to_py(&err))
    }
}

/// Which key head serves a query head, both counted over all leading axes.
pub struct KeyHeads {
    query_heads: usize,
    key_heads: usize,
}

impl KeyHeads {
    pub fn new(query: &Stack<'_>, key: &Stack<'_>, queries: usize, keys: usize) -> PyResult<Self> {
        let (query_heads, key_heads) = (query.heads(), key.heads());
        if queries * key_heads == keys * query_heads
            && (queries == 0 || query_heads.is_multiple_of(key_heads))
        {
            return Ok(Self { query_heads, key_heads });
        }
        Err(PyValueError::new_err(format!(
            "`query` has {query_heads} heads ({queries} in all), which `key` with {key_heads} \
             ({keys} in all) cannot serve"
        )))
    }

    /// Key heads in all, for so many query heads in all.
    fn count(&self, queries: usize) -> usize {
        queries * self.key_heads / self.query_heads.max(1)
    }

    fn of(&self, h: usize) -> usize {
        let group = self.query_heads / self.key_heads;
        h / self.query_heads * self.key_heads + h % self.query_heads / group
    }

    /// What belongs to key heads, for every one of so many query heads.
    pub fn pick<T: Copy>(&self, name: &str, of_keys: &[T], queries: usize) -> PyResult<Vec<T>> {
        let (expected, found) = (self.count(queries), of_keys.len());
        if expected != found {
            let text = format!("`{name}` must have {expected} heads in all, got {found}");
            return Err(PyValueError::new_err(text));
        }
        Ok((0..queries).map(|h| of_keys[self.of(h)]).collect())
    }
}

pub fn visible(shift: Option<isize>, window: Option<usize>) -> Visible {
    shift.map_or(Visible::ALL, |shift| Visible::causal(shift, window))
}

/// Evaluates `$call` with `$t` standing for the element type of an array.
macro_rules! with_compute_type {
    ($stack:expr, $t:ident => $call:expr) => {
        if $stack.is_compute::<f64>() {
            type $t = f64;
            $call
        } else {
            type $t = f32;
            $call
        }
    };
}
pub(crate) use with_compute_type;

/// Attention for every head; see `subquad.attention`. Returns whether something was not finite, and
/// counts.
#[pyfunction]
#[pyo3(signature = (query, key, value, mask, bias, lags, out, lse, *, scale, shift, window, workers))]
#[allow(clippy::too_many_arguments)]
pub fn attention_forward<'py>(
    py: Python<'py>,
    query: Array<'py>,
    key: Array<'py>,
    value: Array<'py>,
    mask: Option<Array<'py>>,
    bias: Option<Array<'py>>,
    lags: Option<Array<'py>>,
    out: Array<'py>,
    lse: Option<Array<'py>>,
    scale: f64,
    shift: Option<isize>,
    window: Option<usize>,
    workers: usize,
) -> PyResult<(bool, Bound<'py, PyDict>)> {
    let inputs = Inputs::new((query, key, value), mask, bias, lags)?;
    let problem = inputs.problem(scale, visible(shift, window))?;
    let out = Stack::new("out", out)?;
    let lse = lse.map(|lse| Stack::new("lse", lse)).transpose()?;
    let stats = with_compute_type!(out, T => {
        let outputs = outputs::<T>(&out, lse.as_ref())?;
        detached(py, workers, |par| attention::forward(&problem, &outputs, par))?
    });
    report(py, &stats)
}

pub fn outputs<'a, T: Compute>(
    out: &'a Stack<'_>,
    lse: Option<&'a Stack<'_>>,
) -> PyResult<Vec<Output<'a, T>>> {
    let out: Vec<MatCell<'_, T>> = out.cells(2)?;
    let lse = lse.map(|lse| lse.cells(1)).transpose()?;
    let lse_of = |h: usize| lse.as_ref().and_then(|lse| lse.get(h).copied());
    let output = |(h, out)| Output { out, lse: lse_of(h), parts: None };
    Ok(out.into_iter().enumerate().map(output).collect())
}

pub fn report<'py>(py: Python<'py>, stats: &Stats) -> PyResult<(bool, Bound<'py, PyDict>)> {
    let counts = PyDict::new(py);
    counts.set_item("tasks", stats.tasks)?;
    counts.set_item("tiles", stats.tiles)?;
    counts.set_item("flops", stats.flops)?;
    counts.set_item("bytes_read", stats.bytes_read)?;
    Ok((stats.suspicious, counts))
}

/// Adds the gradients of attention to `grad_*`; see `subquad.attention_grad`. Returns as
/// `attention_forward`.
#[pyfunction]
#[pyo3(signature = (grad_out, query, key, value, mask, bias, lags, out, lse, grad_query,
                    grad_key, grad_value, grad_bias, grad_lags, *, scale, shift, window, workers))]
#[allow(clippy::too_many_arguments)]
pub fn attention_backward<'py>(
    py: Python<'py>,
    grad_out: Array<'py>,
    query: Array<'py>,
    key: Array<'py>,
    value: Array<'py>,
    mask: Option<Array<'py>>,
    bias: Option<Array<'py>>,
    lags: Option<Array<'py>>,
    out: Array<'py>,
    lse: Array<'py>,
    grad_query: Option<Array<'py>>,
    grad_key: Option<Array<'py>>,
    grad_value: Option<Array<'py>>,
    grad_bias: Option<Array<'py>>,
    grad_lags: Option<Array<'py>>,
    scale: f64,
    shift: Option<isize>,
    window: Option<usize>,
    workers: usize,
) -> PyResult<(bool, Bound<'py, PyDict>)> {
    let inputs = Inputs::new((query, key, value), mask, bias, lags)?;
    let problem = inputs.problem(scale, visible(shift, window))?;
    let (grad_out, out) = (Stack::new("grad_out", grad_out)?, Stack::new("out", out)?);
    let lse = Stack::new("lse", lse)?;
    let upstream: Vec<_> = grad_out
        .rows()?
        .into_iter()
        .zip(out.rows()?)
        .zip(lse.columns()?)
        .map(|((grad_out, out), lse)| Upstream { grad_out, out, lse })
        .collect();
    let stack = |name, array: Option<Array<'py>>| array.map(|a| Stack::new(name, a)).transpose();
    let to = [
        stack("grad_query", grad_query)?,
        stack("grad_key", grad_key)?,
        stack("grad_value", grad_value)?,
        stack("grad_bias", grad_bias)?,
        stack("grad_lags", grad_lags)?,
        None,
    ];
    let served_by =
        KeyHeads::new(&inputs.query, &inputs.key, problem.heads().len(), inputs.key.rows()?.len())?;
    let stats = with_compute_type!(out, T => {
        let gradients = gradients::<T>(&to, &served_by, problem.heads().len())?;
        detached(py, workers, |par| attention::backward(&problem, &upstream, &gradients, par))?
    });
    report(py, &stats)
}

pub fn gradients<'a, T: Compute>(
    [query, key, value, bias, lags, weights]: &'a [Option<Stack<'_>>; 6],
    served_by: &KeyHeads,
    heads: usize,
) -> PyResult<Vec<HeadGradients<'a, T>>> {
    let cells = |stack: &'a Option<Stack<'_>>| -> PyResult<Option<Vec<MatCell<'a, T>>>> {
        stack.as_ref().map(|stack| stack.cells(2)).transpose()
    };
    let (query, key, value, bias) = (cells(query)?, cells(key)?, cells(value)?, cells(bias)?);
    let lags = lags.as_ref().map(|stack| stack.cells::<f64>(1)).transpose()?;
    let weights = weights.as_ref().map(|stack| stack.cells::<f64>(2)).transpose()?;
    let pick = |cells: &Option<Vec<MatCell<'a, T>>>, h: usize| cells.as_ref().map(|c| c[h]);
    let of = |h: usize| HeadGradients {
        query: pick(&query, h),
        key: pick(&key, served_by.of(h)),
        value: pick(&value, served_by.of(h)),
        bias: pick(&bias, h),
        lags: lags.as_ref().map(|cells| cells[h]),
        weights: weights.as_ref().map(|cells| cells[h]),
    };
    let count = |cells: &Option<Vec<MatCell<'a, T>>>| cells.as_ref().map(Vec::len);
    for (name, found, expected) in [
        ("grad_query", count(&query), heads),
        ("grad_key", count(&key), served_by.count(heads)),
        ("grad_value", count(&value), served_by.count(heads)),
        ("grad_bias", count(&bias), heads),
        ("grad_lags", lags.as_ref().map(Vec::len), heads),
        ("grad_weights", weights.as_ref().map(Vec::len), heads),
    ] {
        if let Some(found) = found.filter(|&n| n != expected) {
            let text = format!("`{name}` must have {expected} heads in all, got {found}");
            return Err(PyValueError::new_err(text));
        }
    }
    Ok((0..heads).map(of).collect())
}

/// Name of the kernel for so many queries and keys: "tiled" or "decode".
#[pyfunction]
pub fn attention_kernel(queries: usize, keys: usize) -> &'static str {
    attention::Kernel::of(queries, keys).name()
}

/// Bounds on the rounding error of every row, shape `(*lead, L)`, and the spread of the values of every
/// head, shape `(*lead,)`.
#[pyfunction]
#[pyo3(signature = (query, key, value, mask, bias, lags, out, *, scale, shift, window, workers))]
#[allow(clippy::too_many_arguments)]
#[allow(clippy::type_complexity)]
pub fn attention_bounds<'py>(
    py: Python<'py>,
    query: Array<'py>,
    key: Array<'py>,
    value: Array<'py>,
    mask: Option<Array<'py>>,
    bias: Option<Array<'py>>,
    lags: Option<Array<'py>>,
    out: Array<'py>,
    scale: f64,
    shift: Option<isize>,
    window: Option<usize>,
    workers: usize,
) -> PyResult<(Bound<'py, PyArrayDyn<f64>>, Bound<'py, PyArrayDyn<f64>>)> {
    let inputs = Inputs::new((query, key, value), mask, bias, lags)?;
    let problem = inputs.problem(scale, visible(shift, window))?;
    let out = Stack::new("out", out)?;
    let bounds = with_compute_type!(out, T => {
        detached(py, workers, |par| attention::bounds::<T>(&problem, par))?
    });
    let spread = bounds.iter().map(|head| head.spread);
    let rows = bounds.iter().flat_map(|head| head.rows.iter().copied());
    let shape = inputs.query.shape();
    let (lead, length) = (&shape[..shape.len() - 2], &shape[..shape.len() - 1]);
    Ok((
        PyArray1::from_iter(py, rows).reshape(length)?,
        PyArray1::from_iter(py, spread).reshape(lead)?,
    ))
}
