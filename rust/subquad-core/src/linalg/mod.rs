//! Dense linear algebra that is not fused into a kernel.

mod eigen;
pub mod fft;
mod gemm;
mod product;
pub(crate) mod tile;

pub use eigen::symmetric_eigen;
pub use gemm::{Product, gemm};
pub use product::product;
