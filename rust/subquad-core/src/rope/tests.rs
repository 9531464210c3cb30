//! Rows against turns taken one by one, in every type, layout and width.

use half::{bf16, f16};

use super::{Layout, Rotation, Turnable, rotate};
use crate::Error;
use crate::mat::{MatCell, MatRef, Rows};
use crate::par::Par;

fn frequencies(pairs: usize) -> Vec<f64> {
    (0..pairs).map(|i| 100_f64.powf(-(i as f64) / pairs as f64)).collect()
}

fn number(i: usize) -> f64 {
    ((i * 37 + 11) % 101) as f64 / 50.0 - 1.0
}

/// The coordinates of pair `i` of so many.
fn pair(layout: Layout, i: usize, pairs: usize) -> (usize, usize) {
    match layout {
        Layout::Half => (i, i + pairs),
        Layout::Interleaved => (2 * i, 2 * i + 1),
    }
}

/// One row by its definition.
fn turned(x: &[f64], position: f64, rotation: &Rotation<'_>) -> Vec<f64> {
    let mut y = x.to_vec();
    for (i, w) in rotation.frequencies.iter().enumerate() {
        let (a, b) = pair(rotation.layout, i, rotation.frequencies.len());
        let (sin, cos) = (position * w).sin_cos();
        let sin = if rotation.inverse { -sin } else { sin };
        y[a] = rotation.factor * (x[a] * cos - x[b] * sin);
        y[b] = rotation.factor * (x[b] * cos + x[a] * sin);
    }
    y
}

fn check<T: Turnable>(x: Rows<'_>, positions: &[f64], rotation: &Rotation<'_>, tolerance: f64) {
    let (rows, cols) = (x.rows(), x.cols());
    // Every second row of something larger, beginning at no particular place.
    let mut out = vec![T::ZERO; 2 * rows * cols + 1];
    // SAFETY: the rows are there, and nobody else has them.
    let cells = unsafe {
        MatCell::from_raw_parts(out[1..].as_mut_ptr(), (rows, cols), (2 * cols as isize, 1))
    };
    let places = MatRef::from_slice(positions, rows, 1);
    assert_eq!(rotate(&[x], &[places], *rotation, &[cells], Par::threads(2)), Ok(true));
    for i in 0..rows {
        let row: Vec<f64> = (0..cols).map(|j| x.get(i, j)).collect();
        for (j, want) in turned(&row, positions[i], rotation).into_iter().enumerate() {
            let found = out[1 + 2 * i * cols + j].to_f64();
            let place = (rotation.layout, cols, i, j);
            assert!((found - want).abs() <= tolerance, "{place:?}: {found} is not {want}");
        }
        assert!(out[1 + (2 * i + 1) * cols..][..cols].iter().all(|x| *x == T::ZERO));
    }
}

#[test]
fn rows_are_turned_in_every_type_layout_and_width() {
    for (pairs, cols) in [(1, 2), (2, 7), (3, 6), (8, 16), (9, 18), (16, 33), (17, 64), (40, 80)] {
        let (frequencies, rows) = (frequencies(pairs), 5);
        let numbers: Vec<f64> = (0..rows * cols).map(number).collect();
        let single: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
        let half: Vec<f16> = numbers.iter().map(|&x| f16::from_f64(x)).collect();
        let brain: Vec<bf16> = numbers.iter().map(|&x| bf16::from_f64(x)).collect();
        for layout in [Layout::Half, Layout::Interleaved] {
            for (inverse, factor) in [(false, 1.0), (true, 1.0), (false, 1.5), (true, 1.5)] {
                let rotation = Rotation { frequencies: &frequencies, layout, factor, inverse };
                let positions = [0.0, 300.0, -7.0, 0.25, 99.0];
                let view = MatRef::from_slice(&numbers, rows, cols);
                check::<f64>(view.into(), &positions, &rotation, 1e-13);
                let view = MatRef::from_slice(&single, rows, cols);
                check::<f32>(view.into(), &positions, &rotation, 1e-6);
                check::<f64>(view.into(), &positions, &rotation, 1e-13);
                let view = MatRef::from_slice(&half, rows, cols);
                check::<f32>(view.into(), &positions, &rotation, 1e-6);
                let view = MatRef::from_slice(&brain, rows, cols);
                check::<f32>(view.into(), &positions, &rotation, 1e-6);
            }
        }
    }
}

/// All rows of some matrices, which share the positions in pairs.
fn all<T: Turnable>(x: &[T], shape: (usize, usize), places: &[Vec<f64>], par: Par<'_>) -> Vec<T>
where
    for<'a> Rows<'a>: From<MatRef<'a, T>>,
{
    let (rows, cols) = shape;
    let frequencies = frequencies(cols / 2);
    let rotation = Rotation {
        frequencies: &frequencies,
        layout: Layout::Interleaved,
        factor: 1.0,
        inverse: false,
    };
    // Room for vectors at places of their own.
    let mut out = vec![T::ZERO; x.len() + 16];
    let first = out.as_ptr().align_offset(64);
    let to = &mut out[first..first + x.len()];
    let view = |m| Rows::from(MatRef::from_slice(m, rows, cols));
    let matrices: Vec<Rows<'_>> = x.chunks(rows * cols).map(view).collect();
    let cells: Vec<_> =
        to.chunks_mut(rows * cols).map(|m| MatCell::from_slice(m, rows, cols)).collect();
    let places: Vec<_> =
        (0..cells.len()).map(|h| MatRef::from_slice(&places[h / 2], rows, 1)).collect();
    assert_eq!(rotate(&matrices, &places, rotation, &cells, par), Ok(true));
    to.to_vec()
}

/// Enough numbers to be written past the caches.
#[test]
fn large_calls_give_the_bits_of_small_ones_whatever_the_threads() {
    let (rows, cols, matrices) = (9000, 160, 3);
    let x: Vec<f32> = (0..matrices * rows * cols).map(|i| number(i) as f32).collect();
    let places: Vec<Vec<f64>> =
        (0..2).map(|g| (0..rows).map(|i| (i + 1000 * g) as f64).collect()).collect();
    let large = all(&x, (rows, cols), &places, Par::threads(3));
    assert!(large == all(&x, (rows, cols), &places, Par::seq()));
    for (h, first, some) in [(0, 0, 1), (1, 517, 3), (2, 8500, 500)] {
        let at = (h * rows + first) * cols;
        let places = vec![places[h / 2][first..first + some].to_vec()];
        let small = all(&x[at..at + some * cols], (some, cols), &places, Par::seq());
        assert!(small == large[at..at + some * cols], "rows {first} and on of matrix {h}");
    }
}

#[test]
fn what_is_not_finite_is_reported_wherever_it_is() {
    let frequencies = frequencies(9);
    for layout in [Layout::Half, Layout::Interleaved] {
        for (j, bad) in (0..21).flat_map(|j| [f32::NAN, f32::INFINITY].map(|bad| (j, bad))) {
            let mut x = vec![1_f32; 3 * 21];
            x[21 + j] = bad;
            let mut out = vec![0_f32; 3 * 21];
            let rotation =
                Rotation { frequencies: &frequencies, layout, factor: 1.0, inverse: false };
            let rows = [MatRef::from_slice(&x, 3, 21).into()];
            let (places, cells) =
                (MatRef::from_slice(&[1.0; 3], 3, 1), MatCell::from_slice(&mut out, 3, 21));
            assert_eq!(rotate(&rows, &[places], rotation, &[cells], Par::seq()), Ok(false), "{j}");
        }
    }
}

#[test]
fn shapes_must_fit() {
    let (x, mut out, frequencies) = ([0.0; 6], [0.0; 6], [1.0; 2]);
    let rotation =
        Rotation { frequencies: &frequencies, layout: Layout::Half, factor: 1.0, inverse: false };
    let cells = [MatCell::from_slice(&mut out, 2, 3)];
    let rows = [MatRef::from_slice(&x, 2, 3).into()];
    let places = [MatRef::from_slice(&x[..2], 2, 1)];
    let name = |found| match found {
        Err(Error::Shape { name, .. }) => name,
        _ => "none",
    };
    assert_eq!(name(rotate(&rows, &places, rotation, &cells, Par::seq())), "frequencies");
    let one = Rotation { frequencies: &frequencies[..1], ..rotation };
    let none = Rotation { frequencies: &[], ..rotation };
    assert_eq!(rotate(&rows, &places, none, &cells, Par::seq()), Ok(true));
    let short = [MatRef::from_slice(&x[..1], 1, 1)];
    assert_eq!(name(rotate(&rows, &short, one, &cells, Par::seq())), "positions");
    assert_eq!(name(rotate(&rows, &places, one, &cells[..0], Par::seq())), "out");
    assert_eq!(rotate(&rows, &places, one, &cells, Par::seq()), Ok(true));
}
