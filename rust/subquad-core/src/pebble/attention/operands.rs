//! The arrays that schedules of a direction work on.

use super::problem::Problem;
use super::slow::Array;

/// The arrays of a direction.
pub(super) trait Operands: Copy {
    /// Multiplications and additions of products without an array of rows by keys.
    fn flops(p: &Problem) -> u64;
}

/// The arrays of the forward direction.
#[derive(Clone, Copy)]
pub(super) struct Forward {
    pub query: Array,
    pub key: Array,
    pub value: Array,
    pub out: Array,
    /// Logarithms of the sums of exponentials of scores; some schedules do not make it.
    pub lse: Array,
}

/// The arrays of the backward direction.
#[derive(Clone, Copy)]
pub(super) struct Backward {
    pub query: Array,
    pub key: Array,
    pub value: Array,
    pub out: Array,
    pub lse: Array,
    pub grad_out: Array,
    pub grad_query: Array,
    pub grad_key: Array,
    pub grad_value: Array,
}

/// The arrays of the gradient of the attention loss.
#[derive(Clone, Copy)]
pub(super) struct Loss {
    pub a1: Array,
    pub x: Array,
    pub a2: Array,
    pub a3: Array,
    pub y: Array,
    pub grad_out: Array,
    pub grad_x: Array,
}

impl Operands for Forward {
    fn flops(_: &Problem) -> u64 {
        0
    }
}

impl Operands for Backward {
    /// Of the sums of `out * grad_out`.
    fn flops(p: &Problem) -> u64 {
        2 * p.row_words()
    }
}

impl Operands for Loss {
    /// Of `A1 X`, `A3 Y` and `A1^t T`.
    fn flops(p: &Problem) -> u64 {
        2 * p.wide(2 * p.row_words() + p.key_words())
    }
}
