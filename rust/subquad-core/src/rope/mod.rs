//! Rotary positions: pairs of coordinates turned by angles that grow with the position.
//!
//! With `R_p` the rotation for position p, `(R_p q) . (R_s k) = q . R_{s-p} k` depends on the difference of
//! positions alone, and it is an inner product: what works for `q . k` works for rotated rows.

mod rotation;
#[cfg(test)]
mod tests;
mod turns;

pub use rotation::{Layout, Rotation, Turnable, rotate};
