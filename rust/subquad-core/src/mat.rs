//! Views of matrices that live elsewhere: a pointer, a shape and two strides.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};

/// A read-only matrix. Strides count elements and may be zero or negative.
#[derive(Debug)]
pub struct MatRef<'a, E> {
    ptr: *const E,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
    life: PhantomData<&'a [E]>,
}

impl<E> Clone for MatRef<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for MatRef<'_, E> {}

// SAFETY: a view is a shared reference.
unsafe impl<E: Sync> Send for MatRef<'_, E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for MatRef<'_, E> {}

impl<'a, E: Copy> MatRef<'a, E> {
    /// The rows of `data`, one after the other.
    ///
    /// # Panics
    ///
    /// If `data` does not have `rows * cols` entries.
    pub fn from_slice(data: &'a [E], rows: usize, cols: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(cols), "a {rows} x {cols} matrix");
        let (ptr, row_stride, life) = (data.as_ptr(), cols as isize, PhantomData);
        Self { ptr, rows, cols, row_stride, col_stride: 1, life }
    }

    /// A view of memory laid out by somebody else.
    ///
    /// # Safety
    ///
    /// For all `i < rows`, `j < cols` the element at `ptr + i * row_stride + j * col_stride` must be
    /// aligned, initialised and unchanged during `'a`.
    pub unsafe fn from_raw_parts(
        ptr: *const E,
        (rows, cols): (usize, usize),
        (row_stride, col_stride): (isize, isize),
    ) -> Self {
        Self { ptr, rows, cols, row_stride, col_stride, life: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Are the entries of every row next to each other?
    pub fn has_contiguous_rows(&self) -> bool {
        self.col_stride == 1 || self.cols <= 1
    }

    /// Where entry (i, j) is; readable if there is such an entry.
    #[inline(always)]
    pub fn at(&self, i: usize, j: usize) -> *const E {
        self.ptr.wrapping_offset(i as isize * self.row_stride + j as isize * self.col_stride)
    }

    /// Entry (i, j).
    ///
    /// # Panics
    ///
    /// If there is no such entry.
    #[inline(always)]
    pub fn get(&self, i: usize, j: usize) -> E {
        assert!(i < self.rows && j < self.cols);
        // SAFETY: the entry exists, and the constructor's caller promised that it can be read.
        unsafe { *self.at(i, j) }
    }

    /// Row `i`.
    ///
    /// # Panics
    ///
    /// If there is no such row or its entries are not next to each other.
    pub fn row(&self, i: usize) -> &'a [E] {
        assert!(i < self.rows && self.has_contiguous_rows());
        if self.cols == 0 {
            return &[];
        }
        // SAFETY: as in `get`, for `cols` consecutive entries.
        unsafe { std::slice::from_raw_parts(self.at(i, 0), self.cols) }
    }

    /// Row and column stride.
    pub fn strides(&self) -> (isize, isize) {
        (self.row_stride, self.col_stride)
    }

    /// Rows as columns.
    #[must_use]
    pub fn transpose(&self) -> Self {
        let Self { ptr, rows, cols, row_stride, col_stride, life } = *self;
        Self { ptr, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride, life }
    }

    /// The rows of a range.
    ///
    /// # Panics
    ///
    /// If the range reaches beyond the last row.
    #[must_use]
    pub fn slice_rows(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.rows);
        Self { ptr: self.at(range.start, 0), rows: range.len(), ..*self }
    }
}

/// A matrix of any element type that is widened when it is read.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// float32
    F32(MatRef<'a, f32>),
    /// float64
    F64(MatRef<'a, f64>),
    /// float16
    F16(MatRef<'a, f16>),
    /// bfloat16
    Bf16(MatRef<'a, bf16>),
}

/// Evaluates `$body` with `$view` bound to the typed view inside a [`Rows`].
macro_rules! with_rows {
    ($rows:expr, $view:ident => $body:expr) => {
        match $rows {
            $crate::mat::Rows::F32($view) => $body,
            $crate::mat::Rows::F64($view) => $body,
            $crate::mat::Rows::F16($view) => $body,
            $crate::mat::Rows::Bf16($view) => $body,
        }
    };
}
pub(crate) use with_rows;

macro_rules! rows_of {
    ($($t:ty => $variant:ident),*) => {$(
        impl<'a> From<MatRef<'a, $t>> for Rows<'a> {
            fn from(view: MatRef<'a, $t>) -> Self {
                Self::$variant(view)
            }
        }
    )*};
}
rows_of!(f32 => F32, f64 => F64, f16 => F16, bf16 => Bf16);

impl Rows<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        with_rows!(self, view => view.rows)
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        with_rows!(self, view => view.cols)
    }

    /// Entry (i, j), exactly.
    pub fn get(&self, i: usize, j: usize) -> f64 {
        match self {
            Self::F32(view) => view.get(i, j).into(),
            Self::F64(view) => view.get(i, j),
            Self::F16(view) => view.get(i, j).into(),
            Self::Bf16(view) => view.get(i, j).into(),
        }
    }

    /// Bytes of one entry.
    pub fn item_size(&self) -> usize {
        match self {
            Self::F32(_) => 4,
            Self::F64(_) => 8,
            Self::F16(_) | Self::Bf16(_) => 2,
        }
    }

    /// Bytes of some rows.
    pub(crate) fn bytes(&self, rows: usize) -> u64 {
        (rows * self.cols() * self.item_size()) as u64
    }

    /// Are the entries of every row next to each other?
    pub fn has_contiguous_rows(&self) -> bool {
        with_rows!(self, view => view.has_contiguous_rows())
    }

    /// Do both show the same numbers in the same memory?
    pub fn is_same_view(&self, other: &Self) -> bool {
        fn key(rows: &Rows<'_>) -> (*const u8, usize, usize, isize, isize, usize) {
            let size = rows.item_size();
            with_rows!(rows, v => (v.ptr.cast(), v.rows, v.cols, v.row_stride, v.col_stride, size))
        }
        std::mem::discriminant(self) == std::mem::discriminant(other) && key(self) == key(other)
    }
}

/// A matrix shared by tasks that write disjoint parts of it.
#[derive(Debug)]
pub struct MatCell<'a, T> {
    ptr: *mut T,
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
    life: PhantomData<&'a mut [T]>,
}

impl<T> Clone for MatCell<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for MatCell<'_, T> {}

// SAFETY: every access is unsafe, and its caller promises that no other thread has the same part.
unsafe impl<T: Send> Send for MatCell<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for MatCell<'_, T> {}

impl<'a, T> MatCell<'a, T> {
    /// The rows of `data`, one after the other.
    ///
    /// # Panics
    ///
    /// If `data` does not have `rows * cols` entries.
    pub fn from_slice(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(cols), "a {rows} x {cols} matrix");
        let (ptr, row_stride, life) = (data.as_mut_ptr(), cols as isize, PhantomData);
        Self { ptr, rows, cols, row_stride, col_stride: 1, life }
    }

    /// A view of memory laid out by somebody else.
    ///
    /// # Safety
    ///
    /// As [`MatRef::from_raw_parts`], and nothing else may read or write the entries during `'a`.
    pub unsafe fn from_raw_parts(
        ptr: *mut T,
        (rows, cols): (usize, usize),
        (row_stride, col_stride): (isize, isize),
    ) -> Self {
        Self { ptr, rows, cols, row_stride, col_stride, life: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Are the entries of every row next to each other?
    pub fn has_contiguous_rows(&self) -> bool {
        self.col_stride == 1 || self.cols <= 1
    }

    /// Row and column stride.
    pub fn strides(&self) -> (isize, isize) {
        (self.row_stride, self.col_stride)
    }

    /// Rows as columns.
    #[must_use]
    pub fn transpose(&self) -> Self {
        let Self { ptr, rows, cols, row_stride, col_stride, life } = *self;
        Self { ptr, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride, life }
    }

    /// Are all rows, and all columns, the same entries?
    pub(crate) fn broadcasts(&self) -> (bool, bool) {
        (self.row_stride == 0 || self.rows <= 1, self.col_stride == 0 || self.cols <= 1)
    }

    /// Where entry (i, j) is.
    #[inline(always)]
    pub fn at(&self, i: usize, j: usize) -> *mut T {
        self.ptr.wrapping_offset(i as isize * self.row_stride + j as isize * self.col_stride)
    }

    /// Row `i`, to be written.
    ///
    /// # Safety
    ///
    /// No other reference to an entry of this row may exist while the result does.
    ///
    /// # Panics
    ///
    /// If there is no such row or its entries are not next to each other.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn row_mut(&self, i: usize) -> &'a mut [T] {
        assert!(i < self.rows && self.has_contiguous_rows());
        if self.cols == 0 {
            return &mut [];
        }
        // SAFETY: the constructor's caller promised `cols` such entries, this caller that they are
        // not aliased.
        unsafe { std::slice::from_raw_parts_mut(self.at(i, 0), self.cols) }
    }

    /// The same entries, read only.
    ///
    /// # Safety
    ///
    /// Nothing may write the entries while the result exists.
    pub unsafe fn as_ref(&self) -> MatRef<'a, T> {
        let Self { ptr, rows, cols, row_stride, col_stride, .. } = *self;
        MatRef { ptr, rows, cols, row_stride, col_stride, life: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_may_be_negative_or_zero() {
        let data = [1_f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        // SAFETY: three rows of two, read backwards.
        let back = unsafe { MatRef::from_raw_parts(&raw const data[4], (3, 2), (-2, 1)) };
        assert_eq!(
            [back.row(0), back.row(1), back.row(2)],
            [&[5.0, 6.0], &[3.0, 4.0], &[1.0, 2.0]]
        );
        // SAFETY: the same row three times.
        let same = unsafe { MatRef::from_raw_parts(data.as_ptr(), (3, 2), (0, 1)) };
        assert_eq!(same.row(2), &[1.0, 2.0]);
        assert_eq!(same.slice_rows(1..3).get(1, 1), 2.0);
    }

    #[test]
    fn views_are_the_same_only_with_the_same_memory_type_and_shape() {
        let (a, b) = ([0_f32; 4], [0_f32; 4]);
        let view = |x, rows, cols| Rows::F32(MatRef::from_slice(x, rows, cols));
        assert!(view(&a, 2, 2).is_same_view(&view(&a, 2, 2)));
        assert!(!view(&a, 2, 2).is_same_view(&view(&a, 1, 4)));
        assert!(!view(&a, 2, 2).is_same_view(&view(&b, 2, 2)));
    }
}
