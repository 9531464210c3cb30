//! Attention on one head of arbitrary shape and arbitrary numbers, NaN and infinity included: it must
//! neither panic nor leave its arrays, and a row is a mean of values unless the kernel said that it
//! met something that is not finite.
//!
//! `cargo +nightly fuzz run forward`, from the folder of the crate.

#![no_main]

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use subquad_core::Par;
use subquad_core::attention::{Head, Output, Problem, Visible, forward};
use subquad_core::mat::{MatCell, MatRef, Rows};

/// Beyond the widest tile and the longest block of the smallest configuration.
const LONGEST: usize = 300;
const WIDEST: usize = 70;

fuzz_target!(|data: &[u8]| {
    // Too few bytes for the choices of shape is no input.
    let _ = attend(&mut Unstructured::new(data));
});

fn attend(u: &mut Unstructured<'_>) -> Result<()> {
    let (l, s) = (u.int_in_range(0..=LONGEST)?, u.int_in_range(0..=LONGEST)?);
    let (e, ev) = (u.int_in_range(0..=WIDEST)?, u.int_in_range(0..=WIDEST)?);
    let visible = match u.arbitrary::<Option<u8>>()? {
        None => Visible::default(),
        Some(shift) => {
            let window = u.arbitrary::<Option<u8>>()?.map(|w| usize::from(w) + 1);
            Visible::causal(isize::from(shift as i8), window)
        }
    };
    let (query, key, value) = (numbers(u, l * e)?, numbers(u, s * e)?, numbers(u, s * ev)?);
    let bias = if u.arbitrary()? { Some(numbers(u, l * s)?) } else { None };
    let mask: Option<Vec<u8>> =
        if u.arbitrary()? { Some(repeat(u.bytes(7)?, l * s)) } else { None };

    let head = Head {
        query: Rows::F32(MatRef::from_slice(&query, l, e)),
        key: Rows::F32(MatRef::from_slice(&key, s, e)),
        value: Rows::F32(MatRef::from_slice(&value, s, ev)),
        mask: mask.as_ref().map(|mask| MatRef::from_slice(mask, l, s)),
        bias: bias.as_ref().map(|bias| Rows::F32(MatRef::from_slice(bias, l, s))),
    };
    let problem = Problem::new(vec![head], 0.125, visible).expect("shapes agree");
    let mut out = vec![f32::NAN; l * ev];
    let output = Output { out: MatCell::from_slice(&mut out, l, ev), lse: None, parts: None };
    let stats = forward(&problem, &[output], Par::seq()).expect("nobody asks to stop");

    let largest = value.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
    if !stats.suspicious {
        assert!(out.iter().all(|x| x.abs() <= largest * 1.001), "beyond all values, {largest}");
    }
    Ok(())
}

/// `len` numbers from a few bytes each of the input, over and over: long arrays from short inputs.
fn numbers(u: &mut Unstructured<'_>, len: usize) -> Result<Vec<f32>> {
    let pattern: [[u8; 4]; 9] = u.arbitrary()?;
    let small = u.arbitrary()?;
    let number = |bytes: [u8; 4]| match small {
        true => f32::from(bytes[0] as i8) / 16.0,
        false => f32::from_le_bytes(bytes),
    };
    Ok(repeat(&pattern.map(number), len))
}

fn repeat<T: Copy>(pattern: &[T], len: usize) -> Vec<T> {
    pattern.iter().copied().cycle().take(len).collect()
}
