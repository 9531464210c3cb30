//! The thread limit, for Python and for `threadpoolctl`.

use std::ffi::c_int;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use subquad_core::par::{self, TaskOrder};

/// Number of threads a call may use.
#[pyfunction]
pub fn get_num_threads() -> usize {
    par::num_threads()
}

/// Sets the number of threads a call may use; 0 restores one per core.
#[pyfunction]
pub fn set_num_threads(n: usize) {
    par::set_num_threads(n);
}

/// Threads that this process may run at the same time.
#[pyfunction]
pub fn cores() -> usize {
    par::cores()
}

/// The order in which tasks are handed out, a hook for tests: "forward", "reverse" or "shuffled".
#[pyfunction]
pub fn set_task_order(order: &str) -> PyResult<()> {
    par::set_task_order(match order {
        "forward" => TaskOrder::Forward,
        "reverse" => TaskOrder::Reverse,
        "shuffled" => TaskOrder::Shuffled,
        _ => return Err(PyValueError::new_err("`order` must be forward, reverse or shuffled")),
    });
    Ok(())
}

/// Exported for `threadpoolctl`, which reads and writes pool sizes through C symbols.
// SAFETY: the prefix keeps the name unique.
#[unsafe(no_mangle)]
pub extern "C" fn subquad_get_num_threads() -> c_int {
    par::num_threads() as c_int
}

/// See [`subquad_get_num_threads`].
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn subquad_set_num_threads(n: c_int) {
    par::set_num_threads(n.max(0) as usize);
}
