//! The one way from Python into the core and back.

use std::sync::OnceLock;

use pyo3::exceptions::{PyKeyError, PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use subquad_core::par::Stop;
use subquad_core::{Error, Par};

/// Maps an error of the core to the Python exception the docs promise.
pub fn to_py(err: &Error) -> PyErr {
    let text = err.to_string();
    match err {
        Error::Type { .. } => PyTypeError::new_err(text),
        // With the id, for the Python layer to say where in its argument it stands.
        Error::UnknownId { id } | Error::RepeatedId { id } => PyKeyError::new_err((text, *id)),
        Error::Io { path, code: Some(code), message } => {
            // Python adds the number and the path itself; the last argument counts on Windows only,
            // where the number is one of that system's.
            let message = message.split(" (os error").next().unwrap_or(message).to_owned();
            PyOSError::new_err((*code, message, path.clone(), *code))
        }
        Error::Io { .. } => PyOSError::new_err(text),
        // With the vertices, for the Python layer to name them.
        Error::Cycle { vertices } => PyValueError::new_err((text, vertices.clone())),
        Error::Memory { .. } => PyMemoryError::new_err(text),
        // Every other refusal is about a value.
        _ => PyValueError::new_err(text),
    }
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
