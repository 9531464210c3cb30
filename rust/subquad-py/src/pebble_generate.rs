//! Bindings of [`subquad_core::pebble::Family`].

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use subquad_core::pebble::{Family, Form, Softmax};

use crate::detach::detached;
use crate::pebble::PebbleDag;

/// A family by name, its numbers in their order, form and softmax.
pub type Spec = (String, Vec<u64>, String, String);

/// The family of a specification.
pub fn family(spec: &Spec) -> PyResult<Family> {
    let (name, numbers, form, softmax) = spec;
    let form = match form.as_str() {
        "fma" => Form::Fma,
        "chain" => Form::Chain,
        "tree" => Form::Tree,
        _ => return Err(unknown("form", form)),
    };
    let softmax = match softmax.as_str() {
        "unnormalised" => Softmax::Unnormalised,
        "safe" => Softmax::Safe,
        "online" => Softmax::Online,
        _ => return Err(unknown("softmax", softmax)),
    };
    let sizes: Vec<usize> = numbers.iter().map(|&n| n as usize).collect();
    Ok(match (name.as_str(), &sizes[..]) {
        ("chain", &[length]) => Family::Chain { length },
        ("tree", &[height]) => Family::Tree { height },
        ("pyramid", &[height]) => Family::Pyramid { height },
        ("grid", &[rows, columns]) => Family::Grid { rows, columns },
        ("stencil", &[width, steps]) => Family::Stencil { width, steps },
        ("fft", &[n]) => Family::Fft { n },
        ("matmul", &[m, n, k]) => Family::Matmul { m, n, k, form },
        ("attention", &[n, d]) => Family::Attention { n, d, form, softmax },
        ("attention_grad", &[n, d]) => Family::AttentionGrad { n, d, form },
        ("random", &[vertices, sources, least, most, _]) => {
            Family::Random { vertices, sources, least, most, seed: numbers[4] }
        }
        _ => return Err(unknown("family", name)),
    })
}

fn unknown(name: &str, found: &str) -> PyErr {
    PyValueError::new_err(format!("`{name}` must be one that there is, got {found:?}"))
}

/// The computation that a specification describes; see the methods of `subquad.pebble.Dag`.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // arguments are extracted by value
pub fn pebble_generate(py: Python<'_>, spec: Spec) -> PyResult<PebbleDag> {
    let family = family(&spec)?;
    Ok(PebbleDag(Arc::new(detached(py, 1, |_| family.dag())?)))
}

/// The names of all its vertices, or of one.
#[pyfunction]
#[pyo3(signature = (spec, vertex))]
#[allow(clippy::needless_pass_by_value)] // arguments are extracted by value
pub fn pebble_names(py: Python<'_>, spec: Spec, vertex: Option<u32>) -> PyResult<Vec<String>> {
    let family = family(&spec)?;
    detached(py, 1, |_| match vertex {
        None => family.names(),
        Some(vertex) => Ok(family.name(vertex)?.into_iter().collect()),
    })
}
