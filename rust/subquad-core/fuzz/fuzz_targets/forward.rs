//! Attention on one head: it must neither panic nor leave its arrays, and a row is a mean of values
//! unless the kernel said that it met something that is not finite.
//!
//! `cargo +nightly fuzz run forward`, from the folder of the crate.

#![no_main]

mod numbers;
mod problem;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use problem::Arrays;
use subquad_core::Par;
use subquad_core::attention::{Output, Problem, forward};
use subquad_core::mat::MatCell;

fuzz_target!(|data: &[u8]| {
    // Too few bytes for the choices of shape is no input.
    let _ = attend(&mut Unstructured::new(data));
});

fn attend(u: &mut Unstructured<'_>) -> Result<()> {
    // Beyond the widest tile and the longest block of the smallest configuration.
    let arrays = Arrays::new(u, 300, 70)?;
    let [l, _, _, ev] = arrays.shape;
    let problem = Problem::new(vec![arrays.head()], 0.125, arrays.visible).expect("shapes agree");
    let mut out = vec![f32::NAN; l * ev];
    let output = Output { out: MatCell::from_slice(&mut out, l, ev), lse: None, parts: None };
    let stats = forward(&problem, &[output], Par::seq()).expect("nobody asks to stop");

    let largest = arrays.value.iter().fold(0.0, |m: f32, x| m.max(x.abs()));
    if !stats.suspicious {
        assert!(out.iter().all(|x| x.abs() <= largest * 1.001), "beyond all values, {largest}");
    }
    Ok(())
}
