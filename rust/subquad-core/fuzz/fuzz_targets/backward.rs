//! The gradients of one head, tasks in any order: they must neither panic nor leave their arrays, and
//! are finite unless the kernel said that it met something that is not.
//!
//! `cargo +nightly fuzz run backward`, from the folder of the crate.

#![no_main]

mod numbers;
mod problem;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use numbers::numbers;
use problem::Arrays;
use subquad_core::Par;
use subquad_core::attention::{HeadGradients, Output, Problem, Upstream, backward, forward};
use subquad_core::mat::{MatCell, MatRef, Rows};
use subquad_core::par::{TaskOrder, set_task_order};

fuzz_target!(|data: &[u8]| {
    // Too few bytes for the choices of shape is no input.
    let _ = differentiate(&mut Unstructured::new(data));
});

fn differentiate(u: &mut Unstructured<'_>) -> Result<()> {
    // More keys than one part has, more rows than one block.
    let arrays = Arrays::new(u, 1200, 40)?;
    let [l, s, e, ev] = arrays.shape;
    let grad_out = numbers(u, l * ev)?;
    let order = [TaskOrder::Forward, TaskOrder::Reverse, TaskOrder::Shuffled];
    set_task_order(*u.choose(&order)?);

    let problem = Problem::new(vec![arrays.head()], 0.125, arrays.visible).expect("shapes agree");
    let (mut out, mut lse) = (vec![0.0; l * ev], vec![0.0; l]);
    let output = Output {
        out: MatCell::from_slice(&mut out, l, ev),
        lse: Some(MatCell::from_slice(&mut lse, l, 1)),
        parts: None,
    };
    let ahead = forward(&problem, &[output], Par::seq()).expect("nobody asks to stop");
    let upstream = Upstream {
        grad_out: Rows::F32(MatRef::from_slice(&grad_out, l, ev)),
        out: Rows::F32(MatRef::from_slice(&out, l, ev)),
        lse: Rows::F32(MatRef::from_slice(&lse, l, 1)),
    };
    let mut grads = [l * e, s * e, s * ev, l * s].map(|len| vec![0_f32; len]);
    let mut by_lag = vec![0.0; (l + s).saturating_sub(1)];
    let count = by_lag.len();
    let [query, key, value, bias] = grads.each_mut();
    let to = HeadGradients {
        query: Some(MatCell::from_slice(query, l, e)),
        key: Some(MatCell::from_slice(key, s, e)),
        value: Some(MatCell::from_slice(value, s, ev)),
        bias: u.arbitrary::<bool>()?.then(|| MatCell::from_slice(bias, l, s)),
        lags: arrays.lags.as_ref().map(|_| MatCell::from_slice(&mut by_lag, count, 1)),
        weights: None,
    };
    let stats = backward(&problem, &[upstream], &[to], Par::seq()).expect("nobody asks to stop");
    if !ahead.suspicious && !stats.suspicious {
        for grad in &grads[..3] {
            assert!(grad.iter().all(|x| x.is_finite()));
        }
    }
    Ok(())
}
