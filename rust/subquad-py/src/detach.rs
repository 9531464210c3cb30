//! The one way from Python into the core and back.

use std::sync::OnceLock;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use subquad_core::par::Stop;
use subquad_core::{Error, Par};

/// Maps an error of the core to the Python exception the docs promise.
pub fn to_py(err: &Error) -> PyErr {
    // Every refusal so far is about a value; a variant that is not gets its own arm here.
    PyValueError::new_err(err.to_string())
}

/// Runs `work` on up to `workers` threads without holding the interpreter, and lets Ctrl-C interrupt
/// it.
///
/// Inputs stay borrowed meanwhile. Other Python threads can still write to them: the package's docs
/// forbid it, as numpy's do.
pub fn detached<T: Send>(
    py: Python<'_>,
    workers: usize,
    work: impl FnOnce(Par<'_>) -> subquad_core::Result<T> + Send,
) -> PyResult<T> {
    let raised = OnceLock::new();
    #[allow(clippy::redundant_closure_for_method_calls)] // the path does not have the lifetimes
    let stop = || match Python::attach(|py| py.check_signals()) {
        Ok(()) => false,
        Err(err) => raised.set(err).is_ok(),
    };
    let stop = Stop::new(&stop);
    let result = py.detach(|| work(Par::threads(workers).stop_if(&stop)));
    match raised.into_inner() {
        Some(err) => Err(err),
        None => result.map_err(|err| to_py(&err)),
    }
}
