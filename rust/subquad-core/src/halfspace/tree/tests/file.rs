//! Forests in files.

use super::{isas, keys, report, some_trees};
use crate::halfspace::keys::Dead;
use crate::halfspace::predicate::Plane;
use crate::halfspace::store::{Reader, Writer};
use crate::halfspace::tests::Random;
use crate::halfspace::tree::Forest;
use crate::simd::Isa;
use crate::{Error, Par};

fn encoded(forest: &Forest) -> Vec<u8> {
    let mut writer = Writer::new();
    forest.write(&mut writer);
    writer.to_bytes().unwrap()
}

#[test]
fn a_file_holds_the_trees() {
    let mut random = Random(7);
    let keys = keys(0, 6000, 3, &mut random);
    let saved = some_trees(&keys);
    let bytes = encoded(&saved);
    let mut read = Forest::read(&Reader::from_bytes(&bytes).unwrap(), 3, 5600).unwrap();
    assert_eq!(read.bytes(), saved.bytes());
    read.extend(&keys, 5610, Par::seq()).unwrap();
    let mut grown = saved.clone();
    grown.extend(&keys, 5610, Par::seq()).unwrap();
    for _ in 0..20 {
        let query: Vec<f32> = (0..3).map(|_| random.normal()).collect();
        let plane = Plane::new(&query, random.normal().into(), false, Isa::detect());
        let ask = |forest| report(forest, &plane, &keys, &Dead::none());
        assert_eq!(ask(&read), ask(&grown));
    }
    for (dim, n) in [(2, 5600), (4, 5600), (0, 5600), (13, 5600), (3, 5599), (3, 5601), (3, 0)] {
        let other = Forest::read(&Reader::from_bytes(&bytes).unwrap(), dim, n);
        assert!(matches!(other, Err(Error::Format { .. })), "{dim}, {n}");
    }
}

#[test]
fn a_crafted_file_is_refused_or_harmless() {
    let mut random = Random(8);
    let keys = keys(0, 5600, 2, &mut random);
    let saved = some_trees(&keys);
    for round in 0..400 {
        let mut bad = saved.clone();
        let i = random.below(3);
        let tree = if i < 2 { &mut bad.trees[i] } else { &mut bad.tail };
        let any = random.bits() as u32;
        let odd = [f32::NAN, f32::INFINITY, -1e38, 1e-45, f32::from_bits(any)][random.below(5)];
        match random.below(4) {
            0 => {
                let at = random.below(tree.order.len());
                tree.order.to_mut()[at] = any >> random.below(32);
            }
            1 => {
                let at = random.below(tree.leaves.len());
                tree.leaves.to_mut()[at] = odd;
            }
            2 => tree.boxes.to_mut().iter_mut().step_by(1 + random.below(9)).for_each(|x| *x = odd),
            _ => {
                if let Some(scale) = &mut tree.scale {
                    scale.weight[random.below(2)] = odd;
                    scale.centre[random.below(2)] = odd;
                }
            }
        }
        match Forest::read(&Reader::from_bytes(&encoded(&bad)).unwrap(), 2, 5600) {
            Err(err) => assert!(matches!(err, Error::Format { .. }), "{err:?}"),
            Ok(read) => {
                let query = [random.normal(), random.normal()];
                for isa in isas() {
                    let cut = f64::from(random.normal());
                    let plane = Plane::new(&query, cut, false, isa);
                    let found = report(&read, &plane, &keys, &Dead::none()).0;
                    assert!(found.len() <= 5600 && found.is_sorted(), "round {round}");
                    assert!(found.iter().all(|&slot| slot < 5600));
                }
            }
        }
    }
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    let mut random = Random(9);
    let keys = keys(0, 5600, 2, &mut random);
    let saved = some_trees(&keys);
    let lists: [&[u64]; 9] = [
        &[],
        &[5600],
        &[4000, 1500],
        &[4000, 1500, 99],
        &[4000, 1500, 101],
        &[4000, 0, 1600],
        &[1500, 4000, 100],
        &[u64::MAX, 5601, 100],
        &[0; 70],
    ];
    for lengths in lists {
        let mut writer = Writer::new();
        writer.put_copy("trees", lengths);
        for (i, tree) in saved.trees.iter().chain([&saved.tail]).enumerate() {
            tree.write(i, &mut writer);
        }
        let bytes = writer.to_bytes().unwrap();
        let read = Forest::read(&Reader::from_bytes(&bytes).unwrap(), 2, 5600);
        assert!(matches!(read, Err(Error::Format { .. })), "{lengths:?}");
    }
}
