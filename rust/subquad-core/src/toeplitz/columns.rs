//! Columns of matrices in groups of as many as a vector has lanes.

use crate::linalg::fft::{Given, Taken, Transform};
use crate::mat::{MatCell, MatRef};
use crate::scratch::Buffer;
use crate::simd::Isa;

/// A column: of which matrix, and which of it.
pub(super) type Column = (usize, usize);

/// At most as many columns as there are lanes.
pub(super) type Group<'a> = &'a [Column];

/// Are they neighbours that fill a vector?
fn fills_a_vector(group: Group<'_>, lanes: usize) -> bool {
    let first = group[0];
    group.len() == lanes && group[lanes - 1] == (first.0, first.1 + lanes - 1)
}

/// Rows of a group of columns; copied to `room` where they do not lie next to each other.
pub(super) fn rows<T: Transform>(
    isa: Isa,
    x: &[MatRef<'_, T>],
    group: Group<'_>,
    room: &mut Buffer<T>,
) -> Taken<T> {
    let (lanes, first) = (T::lanes(isa), group[0]);
    let view = &x[first.0];
    if fills_a_vector(group, lanes) && view.has_contiguous_rows() {
        return Taken { ptr: view.at(0, first.1), stride: view.strides().0 };
    }
    let count = view.rows();
    prepare(room, count * lanes);
    let to = room.slice(count * lanes);
    for (lane, &(matrix, column)) in group.iter().enumerate() {
        let view = &x[matrix];
        for i in 0..count {
            to[i * lanes + lane] = view.get(i, column);
        }
    }
    for row in to.chunks_exact_mut(lanes) {
        row[group.len()..].fill(T::ZERO);
    }
    Taken { ptr: to.as_ptr(), stride: lanes as isize }
}

/// Where rows of a group may be written: its place, or `room` for [`deliver`].
pub(super) fn place<T: Transform>(
    isa: Isa,
    out: &[MatCell<'_, T>],
    group: Group<'_>,
    room: &mut Buffer<T>,
) -> Given<T> {
    let (lanes, first) = (T::lanes(isa), group[0]);
    let cell = &out[first.0];
    let (row, column) = cell.strides();
    if fills_a_vector(group, lanes) && (column == 1 || cell.cols() == 1) {
        return Given { ptr: cell.at(0, first.1), stride: row };
    }
    prepare(room, cell.rows() * lanes);
    Given { ptr: room.ptr(), stride: lanes as isize }
}

/// Copies the rows to their place if they are not there, and says whether all are finite.
///
/// # Safety
/// They must have been written to what [`place`] gave for this group, and nobody else may touch the columns.
pub(super) unsafe fn deliver<T: Transform>(
    out: &[MatCell<'_, T>],
    group: Group<'_>,
    from: Given<T>,
) -> bool {
    let rows = out[group[0].0].rows();
    if from.ptr != out[group[0].0].at(0, group[0].1) {
        for i in 0..rows {
            // SAFETY: the row has a number for every column of the group.
            let row = unsafe { std::slice::from_raw_parts(from.at(i), group.len()) };
            for (&x, &(matrix, column)) in row.iter().zip(group) {
                // SAFETY: the entry exists, and the column is ours.
                unsafe { *out[matrix].at(i, column) = x };
            }
        }
    }
    // SAFETY: rows have so many numbers.
    unsafe {
        match group.len() {
            4 => are_finite::<T, 4>(from, rows),
            8 => are_finite::<T, 8>(from, rows),
            16 => are_finite::<T, 16>(from, rows),
            len => (0..rows).all(|i| (0..len).all(|c| (*from.at(i).wrapping_add(c)).is_finite())),
        }
    }
}

/// # Safety
/// Rows of N numbers must be there.
unsafe fn are_finite<T: Transform, const N: usize>(from: Given<T>, rows: usize) -> bool {
    let mut bad = [T::ZERO; N];
    for i in 0..rows {
        // SAFETY: the caller's promise.
        let row = unsafe { *from.at(i).cast::<[T; N]>() };
        for (bad, x) in bad.iter_mut().zip(row) {
            // Not a number, once x is not finite.
            *bad = *bad + x * T::ZERO;
        }
    }
    bad.iter().all(|&x| x == T::ZERO)
}

/// Makes room for so many numbers.
pub(super) fn prepare<T: Transform>(room: &mut Buffer<T>, len: usize) {
    if room.len() < len {
        *room = Buffer::new(len);
    }
}
