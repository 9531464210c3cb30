//! Bindings of [`subquad_core::pebble::replay`].

use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use subquad_core::pebble::replay::{
    Cache, Nest, Replacement, Trace, Traffic, replay, reuse_distances,
};

use crate::detach::detached;
use crate::pebble::Vector;

/// Capacity, line, policy, ways, does a write fetch, are dead words discarded, what is wanted at the end.
type Kind = (u64, u64, String, usize, bool, bool, Option<(u64, u64)>);

/// Accesses, misses, fetches, lines written back.
type Figures = (u64, u64, u64, u64);

fn cache(kind: Kind) -> PyResult<Cache> {
    let (capacity, line, policy, ways, fetch_on_write, discard, live_out) = kind;
    let replacement = match policy.as_str() {
        "lru" => Replacement::Lru,
        "set-associative" => Replacement::SetAssociative { ways },
        "opt" => Replacement::Opt { discard },
        _ => return Err(PyValueError::new_err(format!("there is no policy {policy:?}"))),
    };
    let live_out = live_out.map(|(first, end)| first..end);
    Ok(Cache { capacity, line, replacement, fetch_on_write, live_out })
}

fn figures(traffic: &Traffic) -> Figures {
    (traffic.accesses, traffic.misses, traffic.fetches, traffic.write_backs)
}

/// A loop nest of attention: n, d, and, if it is blocked, the sizes of blocks.
fn nest(n: usize, d: usize, blocks: Option<(usize, usize)>) -> Nest {
    match blocks {
        None => Nest::Naive { n, d },
        Some((rows, columns)) => Nest::Blocked { n, d, rows, columns },
    }
}

/// Reads and writes; see `subquad.pebble.Trace`.
#[pyclass(frozen, module = "subquad._subquad")]
pub struct PebbleTrace(Trace);

#[pymethods]
impl PebbleTrace {
    #[new]
    #[pyo3(signature = (addresses, writes))]
    #[allow(clippy::needless_pass_by_value)] // arguments are extracted by value
    fn new(
        py: Python<'_>,
        addresses: PyReadonlyArray1<'_, u64>,
        writes: Option<PyReadonlyArray1<'_, bool>>,
    ) -> PyResult<Self> {
        let addresses = addresses.as_slice()?;
        let writes = writes.as_ref().map(|writes| writes.as_slice()).transpose()?;
        Ok(Self(detached(py, 1, |_| Trace::new(addresses, writes))?))
    }

    /// What attention accesses, and the addresses of its outputs.
    #[staticmethod]
    #[pyo3(signature = (n, d, blocks))]
    fn attention(
        py: Python<'_>,
        n: usize,
        d: usize,
        blocks: Option<(usize, usize)>,
    ) -> PyResult<(Self, (u64, u64))> {
        let nest = nest(n, d, blocks);
        let (trace, outputs) = detached(py, 1, |par| Ok((nest.trace(par)?, nest.live_out()?)))?;
        Ok((Self(trace), (outputs.start, outputs.end)))
    }

    /// How many accesses.
    fn length(&self, py: Python<'_>) -> PyResult<usize> {
        detached(py, 1, |_| Ok(self.0.len()))
    }

    /// Addresses, and which accesses are writes.
    #[allow(clippy::type_complexity)]
    fn arrays<'py>(&self, py: Python<'py>) -> PyResult<(Vector<'py, u64>, Vector<'py, bool>)> {
        let (addresses, writes) =
            detached(py, 1, |_| Ok(self.0.iter().unzip::<u64, bool, Vec<_>, Vec<_>>()))?;
        Ok((PyArray1::from_vec(py, addresses), PyArray1::from_vec(py, writes)))
    }

    /// What a cache moves.
    fn replay(&self, py: Python<'_>, kind: Kind) -> PyResult<Figures> {
        let cache = cache(kind)?;
        Ok(figures(&detached(py, 1, |par| replay(&self.0, &cache, par))?))
    }

    /// Histograms of reads, writes and rewrites; lines first read, first written, and ever written.
    #[allow(clippy::type_complexity)]
    fn distances<'py>(
        &self,
        py: Python<'py>,
        line: u64,
    ) -> PyResult<([Vector<'py, u64>; 3], (u64, u64, u64))> {
        let found = detached(py, 1, |par| reuse_distances(&self.0, line, par))?;
        let histograms = [found.reads, found.writes, found.rewrites];
        let lines = (found.first_reads, found.first_writes, found.written);
        Ok((histograms.map(|histogram| PyArray1::from_vec(py, histogram)), lines))
    }
}
