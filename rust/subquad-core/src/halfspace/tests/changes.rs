//! What may go wrong while an index is built, changed or asked.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Random;
use crate::Error;
use crate::halfspace::index::Index;
use crate::halfspace::predicate::Plane;
use crate::halfspace::{Info, Method, single};
use crate::mat::{MatRef, Rows};
use crate::par::{Par, Stop};
use crate::simd::Isa;

fn rows(keys: &[f32], dim: usize) -> Rows<'_> {
    Rows::F32(MatRef::from_slice(keys, keys.len() / dim, dim))
}

#[test]
fn products_that_underflow_settle_nothing() {
    let dim = 8;
    let mut keys = vec![0.0_f32; 3 * dim];
    keys[0] = 1.0;
    keys[dim..2 * dim].fill(2_f32.powi(-99));
    keys[2 * dim..].fill(-2_f32.powi(-99));
    let query = vec![2_f32.powi(-61); dim];
    let index = Index::new(rows(&keys, dim), None, Method::Quantized, Par::seq()).unwrap();
    for exponent in [-158, -157] {
        for threshold in [2_f64.powi(exponent), -2_f64.powi(exponent)] {
            let plane = Plane::new(&query, threshold, false, Isa::detect());
            let parts = index.parts();
            let holds = |slot: &u32| plane.holds(&parts.keys, *slot as usize, &mut Info::default());
            let expected: Vec<u32> = (0..3).filter(holds).collect();
            for (engine, found) in single::every_way(parts, &plane) {
                assert_eq!(found, expected, "{engine} at {threshold:e}");
            }
        }
    }
}

#[test]
fn an_addition_that_is_stopped_changes_nothing() {
    let mut random = Random(99);
    for (dim, old, more) in [(4, 3000, 60_000), (32, 300, 20_000)] {
        let mut normal = |n: usize| (0..n * dim).map(|_| random.normal()).collect::<Vec<f32>>();
        let (keys, new, query) = (normal(old), normal(more), normal(1));
        let base = Index::new(rows(&keys, dim), None, Method::Auto, Par::seq()).unwrap();
        let expected = base.report(&query, 1.0, false, Par::seq()).unwrap().ids;
        // Stopped after so many questions whether to stop; every task asks one.
        let asked = AtomicUsize::new(0);
        let mut stopped = 0;
        for patience in (0..60).step_by(3) {
            asked.store(0, Ordering::Relaxed);
            let wanted = || asked.fetch_add(1, Ordering::Relaxed) >= patience;
            let stop = Stop::impatient(&wanted);
            let mut index = base.clone();
            match index.add(rows(&new, dim), Par::seq().stop_if(&stop)) {
                Ok(ids) => assert_eq!(ids, old as i64..(old + more) as i64),
                Err(err) => {
                    assert_eq!(err, Error::Stopped);
                    stopped += 1;
                    let found = index.report(&query, 1.0, false, Par::seq()).unwrap().ids;
                    assert_eq!((found, index.stats()), (expected.clone(), base.stats()));
                    let next = index.add(rows(&new[..dim], dim), Par::seq()).unwrap();
                    assert_eq!(next, old as i64..old as i64 + 1);
                }
            }
        }
        assert!(stopped > 2, "{stopped}");
    }
}

#[test]
fn scores_of_what_is_no_number_are_refused() {
    let index = Index::new(rows(&[1.0, 2.0], 2), None, Method::Auto, Par::seq()).unwrap();
    let refused = Error::NonFinite { name: "query", row: 0, column: 1 };
    assert_eq!(index.scores(&[0.0, f32::NAN], &[0]), Err(refused));
    assert_eq!(index.scores(&[2.0, -1.0], &[0]).unwrap()[0].to_bits(), 0);
    assert_eq!(index.scores(&[2.0, -1.0], &[1]), Err(Error::UnknownId { id: 1 }));
}

#[test]
fn removing_is_all_or_nothing() {
    let keys: Vec<f32> = (0..400 * 8).map(|i| i as f32).collect();
    let mut index = Index::new(rows(&keys, 8), None, Method::Quantized, Par::seq()).unwrap();
    assert_eq!(index.remove(&[3, 400]), Err(Error::UnknownId { id: 400 }));
    assert_eq!(index.remove(&[3, 5, 3]), Err(Error::RepeatedId { id: 3 }));
    assert_eq!(index.len(), 400);
    index.remove(&[5, 3]).unwrap();
    assert_eq!(index.remove(&[3]), Err(Error::UnknownId { id: 3 }));
    index.compact(Par::seq()).unwrap();
    assert_eq!(index.add(rows(&keys[..8], 8), Par::seq()), Ok(400..401));
    let found = index.report(&[1.0; 8], f64::NEG_INFINITY, false, Par::seq()).unwrap().ids;
    assert!(found.iter().copied().eq((0..401).filter(|id| ![3, 5].contains(id))));
}
