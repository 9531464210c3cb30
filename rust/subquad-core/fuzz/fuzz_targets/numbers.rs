//! Many arbitrary numbers from little input.

use libfuzzer_sys::arbitrary::{Result, Unstructured};

/// `len` numbers from a few bytes each of the input, over and over: long arrays from short inputs.
pub fn numbers(u: &mut Unstructured<'_>, len: usize) -> Result<Vec<f32>> {
    let pattern: [[u8; 4]; 9] = u.arbitrary()?;
    let small = u.arbitrary()?;
    let number = |bytes: [u8; 4]| match small {
        true => f32::from(bytes[0] as i8) / 16.0,
        false => f32::from_le_bytes(bytes),
    };
    Ok(repeat(&pattern.map(number), len))
}

/// The pattern over and over, `len` of it in all.
pub fn repeat<T: Copy>(pattern: &[T], len: usize) -> Vec<T> {
    pattern.iter().copied().cycle().take(len).collect()
}
