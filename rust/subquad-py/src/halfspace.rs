//! Bindings of [`subquad_core::halfspace`].
//!
//! An index has one lock. Calls that read share it, calls that change the index have it alone; so a
//! call sees the index as it was before a change or as it is after one, whichever thread comes first.
//! Nobody waits for the lock while holding the interpreter: whoever has the lock may need the
//! interpreter, to ask whether Ctrl-C was pressed.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::RwLock;

use numpy::{PyArray1, PyArrayMethods, PyUntypedArray};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use subquad_core::halfspace::{Index, Info, Method};
use subquad_core::mat::{MatRef, Rows};
use subquad_core::{Par, Result, par};

use crate::arrays::Stack;
use crate::detach::detached;

type Array<'py> = Bound<'py, PyUntypedArray>;
type Vector<'py, T> = Bound<'py, PyArray1<T>>;

/// Scores if wanted, and counts if wanted.
type Extras<'py> = (Option<Vector<'py, f32>>, Option<Bound<'py, PyDict>>);

/// Keys that can be searched; see `subquad.halfspace.Index`.
#[pyclass(frozen, module = "subquad._subquad")]
pub struct HalfspaceIndex(RwLock<Index>);

#[pymethods]
impl HalfspaceIndex {
    #[new]
    #[pyo3(signature = (keys, queries, method, workers))]
    fn new(
        py: Python<'_>,
        keys: Array<'_>,
        queries: Option<Array<'_>>,
        method: &str,
        workers: Option<usize>,
    ) -> PyResult<Self> {
        let keys = Stack::new("keys", keys)?;
        let queries = queries.map(|array| Stack::new("queries", array)).transpose()?;
        let (keys, typical) = (matrix(&keys)?, queries.as_ref().map(matrix).transpose()?);
        let method = parse(method)?;
        let index = detached(py, threads(workers), |par| Index::new(keys, typical, method, par))?;
        Ok(Self(RwLock::new(index)))
    }

    /// Ids that reach the threshold, their scores, counts.
    #[pyo3(signature = (query, threshold, strict, scores, info, workers))]
    #[allow(clippy::too_many_arguments)]
    fn report<'py>(
        &self,
        py: Python<'py>,
        query: &Vector<'py, f32>,
        threshold: f64,
        strict: bool,
        scores: bool,
        info: bool,
        workers: Option<usize>,
    ) -> PyResult<(Vector<'py, i64>, Extras<'py>)> {
        let query = slice("query", query)?;
        let (found, scores) = self.read(py, workers, |index, par| {
            let found = index.report(query, threshold, strict, par)?;
            let scores = scores.then(|| index.scores(query, &found.ids)).transpose()?;
            Ok((found, scores))
        })?;
        let info = info.then(|| counts(py, &found.info)).transpose()?;
        Ok((array(py, found.ids), (scores.map(|scores| array(py, scores)), info)))
    }

    /// Limits of what each query found, ids, their scores, counts.
    #[pyo3(signature = (queries, thresholds, strict, scores, info, workers))]
    #[allow(clippy::too_many_arguments)]
    fn report_batch<'py>(
        &self,
        py: Python<'py>,
        queries: Array<'py>,
        thresholds: &Vector<'py, f64>,
        strict: bool,
        scores: bool,
        info: bool,
        workers: Option<usize>,
    ) -> PyResult<(Vector<'py, i64>, Vector<'py, i64>, Extras<'py>)> {
        let queries = Stack::new("queries", queries)?;
        let (queries, thresholds) = (floats(&queries)?, slice("thresholds", thresholds)?);
        let (found, scores) = self.read(py, workers, |index, par| {
            let found = index.report_batch(queries, thresholds, strict, par)?;
            let of = |i: usize| &found.ids[found.lims[i] as usize..found.lims[i + 1] as usize];
            let scores = scores.then(|| scores_of(index, queries, of, par)).transpose()?;
            Ok((found, scores))
        })?;
        let info = info.then(|| counts(py, &found.info)).transpose()?;
        let scores = scores.map(|scores| array(py, scores));
        Ok((array(py, found.lims), array(py, found.ids), (scores, info)))
    }

    /// How many keys reach the threshold.
    #[pyo3(signature = (query, threshold, strict, workers))]
    fn count(
        &self,
        py: Python<'_>,
        query: &Vector<'_, f32>,
        threshold: f64,
        strict: bool,
        workers: Option<usize>,
    ) -> PyResult<u64> {
        let query = slice("query", query)?;
        self.read(py, workers, |index, par| index.count(query, threshold, strict, par))
    }

    /// Ids of the `k` best keys of every query, one query after the other, and their scores.
    #[pyo3(signature = (queries, k, scores, workers))]
    fn topk<'py>(
        &self,
        py: Python<'py>,
        queries: Array<'py>,
        k: usize,
        scores: bool,
        workers: Option<usize>,
    ) -> PyResult<(Vector<'py, i64>, Option<Vector<'py, f32>>)> {
        let queries = Stack::new("queries", queries)?;
        let queries = floats(&queries)?;
        let (ids, scores) = self.read(py, workers, |index, par| {
            let ids = index.topk(queries, k, par)?;
            let of = |i: usize| &ids[i * k..(i + 1) * k];
            let scores = scores.then(|| scores_of(index, queries, of, par)).transpose()?;
            Ok((ids, scores))
        })?;
        Ok((array(py, ids), scores.map(|scores| array(py, scores))))
    }

    /// Adds keys; returns the first of their ids and the one after the last.
    #[pyo3(signature = (keys, workers))]
    fn add(&self, py: Python<'_>, keys: Array<'_>, workers: Option<usize>) -> PyResult<(i64, i64)> {
        let keys = Stack::new("keys", keys)?;
        let keys = matrix(&keys)?;
        let ids = self.write(py, workers, |index, par| index.add(keys, par))?;
        Ok((ids.start, ids.end))
    }

    /// Removes keys, all of them or none.
    fn remove(&self, py: Python<'_>, ids: &Vector<'_, i64>) -> PyResult<()> {
        let ids = slice("ids", ids)?;
        self.write(py, None, |index, _| index.remove(ids))
    }

    /// Forgets removed keys.
    #[pyo3(signature = (workers))]
    fn compact(&self, py: Python<'_>, workers: Option<usize>) -> PyResult<()> {
        self.write(py, workers, Index::compact)
    }

    /// Writes the index to a file.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.read(py, None, move |index, _| index.save(&path))
    }

    /// Reads an index from a file.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf, mmap: bool) -> PyResult<Self> {
        let index = detached(py, 1, move |_| Index::load(&path, mmap))?;
        Ok(Self(RwLock::new(index)))
    }

    /// The index as `save` would write it.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.read(py, None, |index, _| index.to_bytes())?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The inverse of `to_bytes`.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        let index = detached(py, 1, |_| Index::from_bytes(data))?;
        Ok(Self(RwLock::new(index)))
    }

    /// An index of its own with the same keys and ids.
    fn copy(&self, py: Python<'_>) -> PyResult<Self> {
        let index = self.read(py, None, |index, _| Ok(index.clone()))?;
        Ok(Self(RwLock::new(index)))
    }

    /// What the index consists of, by name.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.read(py, None, |index, _| Ok(index.stats()))?;
        let figures = PyDict::new(py);
        figures.set_item("keys", stats.keys)?;
        figures.set_item("removed", stats.removed)?;
        figures.set_item("dim", stats.dim)?;
        figures.set_item("dtype", stats.key_type.name())?;
        figures.set_item("method", stats.method.name())?;
        figures.set_item("engines", stats.engines)?;
        figures.set_item("bytes_keys", stats.bytes_keys)?;
        figures.set_item("bytes_codes", stats.bytes_codes)?;
        figures.set_item("bytes_other", stats.bytes_other)?;
        figures.set_item("mapped", stats.mapped)?;
        figures.set_item("next_id", stats.next_id)?;
        Ok(figures)
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.read(py, None, |index, _| Ok(index.len()))
    }
}

impl HalfspaceIndex {
    /// Runs `work` together with other calls that read.
    fn read<T: Send>(
        &self,
        py: Python<'_>,
        workers: Option<usize>,
        work: impl FnOnce(&Index, Par<'_>) -> Result<T> + Send,
    ) -> PyResult<T> {
        let _entered = Entered::new(self)?;
        let done = detached(py, threads(workers), |par| match self.0.read() {
            Ok(index) => work(&index, par).map(Some),
            Err(_) => Ok(None),
        })?;
        done.ok_or_else(broken)
    }

    /// Runs `work` when no other call is at the index.
    fn write<T: Send>(
        &self,
        py: Python<'_>,
        workers: Option<usize>,
        work: impl FnOnce(&mut Index, Par<'_>) -> Result<T> + Send,
    ) -> PyResult<T> {
        let _entered = Entered::new(self)?;
        let done = detached(py, threads(workers), |par| match self.0.write() {
            Ok(mut index) => work(&mut index, par).map(Some),
            Err(_) => Ok(None),
        })?;
        done.ok_or_else(broken)
    }
}

fn broken() -> PyErr {
    PyRuntimeError::new_err("a change of this index panicked, which leaves it undefined")
}

thread_local! {
    /// Addresses of the indices whose calls this thread is in.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A thread's call at an index.
///
/// While a call runs, Python may run signal handlers and finalizers on its thread. One that used the
/// same index would wait for ever for the lock that its own thread holds: it gets an error instead.
struct Entered;

impl Entered {
    fn new(index: &HalfspaceIndex) -> PyResult<Self> {
        let address = std::ptr::from_ref(index).addr();
        INSIDE.with_borrow_mut(|inside| {
            if inside.contains(&address) {
                let text = "the index is in use by the call that this handler interrupted";
                return Err(PyRuntimeError::new_err(text));
            }
            inside.push(address);
            Ok(Self)
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        INSIDE.with_borrow_mut(Vec::pop);
    }
}

fn threads(workers: Option<usize>) -> usize {
    workers.unwrap_or_else(par::num_threads)
}

fn parse(method: &str) -> PyResult<Method> {
    Method::ALL
        .into_iter()
        .find(|candidate| candidate.name() == method)
        .ok_or_else(|| PyValueError::new_err(format!("`method` is unknown, got {method:?}")))
}

/// The one matrix of a stack.
fn matrix<'a>(stack: &'a Stack<'_>) -> PyResult<Rows<'a>> {
    match stack.rows()?[..] {
        [rows] => Ok(rows),
        _ => Err(PyValueError::new_err("one matrix is needed")),
    }
}

/// The one matrix of a stack, of float32 in rows without gaps.
fn floats<'a>(stack: &'a Stack<'_>) -> PyResult<MatRef<'a, f32>> {
    match matrix(stack)? {
        Rows::F32(view) if view.rows() == 0 || view.has_contiguous_rows() => Ok(view),
        _ => Err(PyValueError::new_err("`queries` must be rows of float32")),
    }
}

fn slice<'a, T: numpy::Element>(name: &str, vector: &'a Vector<'_, T>) -> PyResult<&'a [T]> {
    // SAFETY: nobody writes to an input during a call, see `detached`.
    let slice = unsafe { vector.as_slice() };
    slice.map_err(|err| PyValueError::new_err(format!("`{name}`: {err}")))
}

/// A numpy array of these numbers.
fn array<T: numpy::Element>(py: Python<'_>, numbers: Vec<T>) -> Vector<'_, T> {
    // Handing over the memory takes longer than copying a little.
    const LITTLE: usize = 512;
    if numbers.len() <= LITTLE {
        PyArray1::from_slice(py, &numbers)
    } else {
        PyArray1::from_vec(py, numbers)
    }
}

/// The scores of what each query found, a task per query.
fn scores_of<'a>(
    index: &Index,
    queries: MatRef<'_, f32>,
    found: impl Fn(usize) -> &'a [i64] + Sync,
    par: Par<'_>,
) -> Result<Vec<f32>> {
    let parts = par.map(queries.rows(), |i, _| index.scores(queries.row(i), found(i)))?;
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

fn counts<'py>(py: Python<'py>, info: &Info) -> PyResult<Bound<'py, PyDict>> {
    let counts = PyDict::new(py);
    counts.set_item("engine", info.engine)?;
    counts.set_item("bytes_read", info.bytes_read)?;
    counts.set_item("scanned", info.scanned)?;
    counts.set_item("candidates", info.candidates)?;
    counts.set_item("sure", info.sure)?;
    counts.set_item("residual", info.residual)?;
    counts.set_item("float32", info.f32)?;
    counts.set_item("float64", info.f64)?;
    counts.set_item("exact", info.exact)?;
    counts.set_item("reported", info.reported)?;
    Ok(counts)
}
