//! Dense linear algebra that is not fused into a kernel.

mod gemm;

pub use gemm::{Product, gemm};
