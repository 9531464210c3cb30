//! Python bindings of `subquad-core`: check, detach, call, convert back. No algorithm lives here,
//! and nothing outside this crate knows that Python exists.

mod arrays;
mod attention;
mod detach;
mod halfspace;
mod limits;
mod linalg;
mod pebble;
mod pebble_attention;
mod pebble_generate;
mod pebble_replay;
mod pebble_search;
mod pebble_simulate;
mod polynomial;
mod polynomial_blocks;
mod polynomial_sums;
mod rope;
mod threads;
mod toeplitz;
mod toeplitz_attention;

use pyo3::prelude::*;

#[pymodule]
mod _subquad {
    #[pymodule_export]
    use crate::attention::{
        attention_backward, attention_bounds, attention_forward, attention_kernel,
    };
    #[pymodule_export]
    use crate::halfspace::HalfspaceIndex;
    #[pymodule_export]
    use crate::limits::measure_limits;
    #[pymodule_export]
    use crate::linalg::matrix_product;
    #[pymodule_export]
    use crate::pebble::{PebbleDag, pebble_play};
    #[pymodule_export]
    use crate::pebble_attention::PebbleAttention;
    #[pymodule_export]
    use crate::pebble_generate::{pebble_generate, pebble_names};
    #[pymodule_export]
    use crate::pebble_replay::PebbleTrace;
    #[pymodule_export]
    use crate::pebble_search::PebbleSearch;
    #[pymodule_export]
    use crate::pebble_simulate::{
        PebbleImprover, pebble_depth_first, pebble_family_order, pebble_greedy, pebble_natural,
        pebble_simulate,
    };
    #[pymodule_export]
    use crate::polynomial::{
        polynomial_backward, polynomial_features, polynomial_forward, polynomial_weights,
    };
    #[pymodule_export]
    use crate::polynomial_blocks::{
        polynomial_block_rows, polynomial_block_rows_grad, polynomial_block_sums,
        polynomial_block_sums_grad,
    };
    #[pymodule_export]
    use crate::polynomial_sums::{polynomial_sums, polynomial_sums_grad};
    #[pymodule_export]
    use crate::rope::rope_rotate;
    #[pymodule_export]
    use crate::threads::{cores, get_num_threads, set_num_threads, set_task_order};
    #[pymodule_export]
    use crate::toeplitz::{
        rescaled_toeplitz, rescaled_toeplitz_grad, toeplitz_product, toeplitz_product_grad,
    };
    #[pymodule_export]
    use crate::toeplitz_attention::{toeplitz_backward, toeplitz_forward};

    use pyo3::prelude::*;
    use subquad_core::simd::{Bf16, Isa};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("isa", Isa::checked().map_err(|err| crate::detach::to_py(&err))?.name())?;
        module.add("best_isa", Isa::best().name())?;
        module.add("bf16", Bf16::detect().is_some())?;
        module.add("profile", if cfg!(debug_assertions) { "debug" } else { "release" })
    }
}
