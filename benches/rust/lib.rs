//! Problems for the benchmarks of the kernels.

/// Reproducible numbers between -1 and 1, about as spread out as a unit normal.
pub fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| uniform() + uniform() + uniform()).collect()
}
