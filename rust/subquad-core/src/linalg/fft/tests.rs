//! Transforms against their definition.

use super::plan::{Roots, at, span};
use super::{From, Job, Plan, Sequence, Taken, To, Transform, embedding_length};
use crate::par::with_room;
use crate::scratch::Buffer;
use crate::simd::Isa;

#[test]
fn lengths_are_the_least_there_are() {
    let all: Vec<usize> = (0..12).flat_map(|a| [16 << a, 12 << a, 20 << (2 * a)]).collect();
    for needed in 1..3000 {
        let least = all.iter().filter(|&&n| n >= needed).min();
        assert_eq!(Some(&embedding_length(needed)), least);
    }
}

#[test]
fn roots_are_near() {
    for m in [4, 12, 20, 64, 1280, 3 << 12] {
        let roots = Roots::new(m);
        for k in 0..m {
            let angle = -2.0 * std::f64::consts::PI * k as f64 / m as f64;
            let (re, im) = roots.get(k);
            assert!((re - angle.cos()).abs() < 3e-15 && (im - angle.sin()).abs() < 3e-15);
            let one = re * re + im * im;
            assert!((one - 1.0).abs() < 5e-16, "{k} of {m}: {one}");
        }
    }
}

/// Columns convolved with the same numbers: with 0, 0, 1 in place of weights, rows move by two.
fn moves_rows<T: Transform>(n: usize, rows: usize, wanted: usize, error: f64) {
    let (isa, plan) = (Isa::detect(), Plan::<T>::new(n));
    let lanes = T::lanes(isa);
    let number = |i: usize, c: usize| T::from_f64((((i * 31 + c * 17) % 29) as f64 - 14.0) / 14.0);
    let from: Vec<T> =
        (0..rows * 2 * lanes).map(|x| number(x / (2 * lanes), x % (2 * lanes))).collect();
    let stride = 2 * lanes as isize;
    let parts = [0, lanes].map(|at| Taken { ptr: from[at..].as_ptr(), stride });
    let mut sequence = Sequence::new(&plan, isa);
    sequence.numbers()[2] = T::ONE;
    let spectrum = sequence.transform(T::from_f64(1.0 / n as f64));
    let mut work = Buffer::new(plan.workspace(isa));
    assert_eq!(plan.workspace(isa), span(n) * 2 * lanes);
    let mut out = vec![T::from_f64(f64::NAN); wanted * 2 * lanes];
    let to = [0, lanes].map(|at| Some(super::Given { ptr: out[at..].as_mut_ptr(), stride }));
    let job = Job { from: From::Rows(parts), rows, spectrum: &spectrum, to: To::Rows(to), wanted };
    // SAFETY: as above.
    unsafe { T::run(isa, &plan, &job, work.ptr()) };
    for i in 0..wanted {
        for c in 0..2 * lanes {
            let expected = match (i + n - 2) % n {
                j if j < rows => number(j, c).to_f64(),
                _ => 0.0,
            };
            let found = out[i * 2 * lanes + c].to_f64();
            assert!(
                (found - expected).abs() < error,
                "row {i}, column {c} of {n}: {found} is not {expected}"
            );
        }
    }
}

/// The transform of one sequence, against that of a pack with the sequence in one lane.
fn sequence_is_a_column<T: Transform>(n: usize, error: f64) {
    let (isa, plan) = (Isa::detect(), Plan::<T>::new(n));
    let lanes = T::lanes(isa);
    let number = |i: usize| T::from_f64(((i * 31 % 29) as f64 - 14.0) / 14.0);
    let mut column = vec![T::ZERO; n * lanes];
    column.chunks_exact_mut(lanes).enumerate().for_each(|(i, row)| row[0] = number(i));
    let zeros = [T::ZERO; 16];
    let from = [
        Taken { ptr: column.as_ptr(), stride: lanes as isize },
        Taken { ptr: zeros.as_ptr(), stride: 0 },
    ];
    let from = From::Rows(from);
    let mut work = Buffer::new(plan.workspace(isa));
    let job = Job { from, rows: n, spectrum: &[], to: To::Frequencies, wanted: 0 };
    // SAFETY: the rows exist, and the workspace is for this plan.
    unsafe { T::run(isa, &plan, &job, work.ptr()) };
    let all = work.slice(span(n) * 2 * lanes);
    let mut sequence = Sequence::new(&plan, isa);
    // Room is used again.
    for scale in [3.0, 1.0] {
        sequence.numbers().iter_mut().enumerate().for_each(|(i, x)| *x = number(i));
        let found = sequence.transform(T::from_f64(scale));
        for k in 0..n {
            for (part, found) in found[2 * k..2 * k + 2].iter().enumerate() {
                let expected = scale * all[(2 * at(n, k) + part) * lanes].to_f64();
                let off = (found.to_f64() - expected).abs();
                assert!(off <= error * scale * (n as f64).sqrt(), "frequency {k} of {n}: {off}");
            }
        }
    }
}

#[test]
fn a_sequence_is_a_column_of_a_pack() {
    with_room(|| {
        for n in [12, 16, 20, 48, 64, 80, 96, 192, 256, 320, 1536, 2048, 5120, 8192] {
            sequence_is_a_column::<f64>(n, 2e-14);
            sequence_is_a_column::<f32>(n, 1e-5);
        }
    });
}

#[test]
fn rows_move() {
    with_room(all_rows_move);
}

fn all_rows_move() {
    // Where nothing is optimised long transforms are slow.
    let most = if cfg!(debug_assertions) { 6144 } else { usize::MAX };
    let lengths = [
        12,
        16,
        20,
        24,
        32,
        48,
        64,
        80,
        96,
        192,
        320,
        1024,
        2048,
        5120,
        6144,
        8192,
        20480,
        1 << 17,
    ];
    for n in lengths.into_iter().filter(|&n| n <= most) {
        for (rows, wanted) in [(n, n), (n / 2, n / 2), (1, n), (n - 1, 1), (n / 4 + 1, 3 * n / 4)] {
            moves_rows::<f64>(n, rows, wanted, 1e-14);
            moves_rows::<f32>(n, rows, wanted, 1e-5);
        }
    }
}
