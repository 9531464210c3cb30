//! Where the rows of a pack come from, and where they go.

use super::base::Complex;
use crate::simd::Lanes;

/// Rows of `N` numbers, or numbers: the `i`-th begins at `ptr + i * stride`.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    pub ptr: *const T,
    pub stride: isize,
}

/// As [`Taken`], to be written.
#[derive(Debug)]
pub(crate) struct Given<T> {
    pub ptr: *mut T,
    pub stride: isize,
}

impl<T> Clone for Taken<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Taken<T> {}
impl<T> Clone for Given<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Given<T> {}

impl<T> Taken<T> {
    #[inline(always)]
    pub fn at(&self, i: usize) -> *const T {
        self.ptr.wrapping_offset(i as isize * self.stride)
    }
}

impl<T> Given<T> {
    #[inline(always)]
    pub fn at(&self, i: usize) -> *mut T {
        self.ptr.wrapping_offset(i as isize * self.stride)
    }
}

/// Gives row `i` of a pack.
pub(super) trait Source<V: Lanes>: Copy {
    /// # Safety
    /// The row must exist, and the instruction set be enabled.
    unsafe fn row(&self, i: usize) -> Complex<V>;
}

/// Takes row `i` of a pack.
pub(super) trait Sink<V: Lanes>: Copy {
    /// # Safety
    /// The row must exist, nobody else may touch it, and the instruction set be enabled.
    unsafe fn take(&self, i: usize, x: Complex<V>);
}

/// Real and imaginary parts of a pack as they are.
impl<V: Lanes> Source<V> for [Taken<V::T>; 2] {
    #[inline(always)]
    unsafe fn row(&self, i: usize) -> Complex<V> {
        // SAFETY: the caller's promise.
        unsafe { Complex { re: V::load(self[0].at(i)), im: V::load(self[1].at(i)) } }
    }
}

/// Rows, each times a number.
#[derive(Debug)]
pub(crate) struct Scaled<T> {
    pub rows: Taken<T>,
    pub by: Taken<T>,
}

impl<T> Clone for Scaled<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Scaled<T> {}

impl<V: Lanes> Source<V> for [Scaled<V::T>; 2] {
    #[inline(always)]
    unsafe fn row(&self, i: usize) -> Complex<V> {
        // SAFETY: the caller's promise.
        unsafe {
            let re = V::load(self[0].rows.at(i)).mul(V::splat(*self[0].by.at(i)));
            let im = V::load(self[1].rows.at(i)).mul(V::splat(*self[1].by.at(i)));
            Complex { re, im }
        }
    }
}

/// The parts of a pack, where anybody wants them.
impl<V: Lanes> Sink<V> for [Option<Given<V::T>>; 2] {
    #[inline(always)]
    unsafe fn take(&self, i: usize, x: Complex<V>) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(to) = self[0] {
                x.re.store(to.at(i));
            }
            if let Some(to) = self[1] {
                x.im.store(to.at(i));
            }
        }
    }
}

/// What to add up of the rows of one part of a pack.
#[derive(Debug)]
pub(crate) struct Part<T> {
    /// Adds to rows what is taken times a number.
    pub scaled: Option<(Given<T>, Taken<T>)>,
    /// Adds to rows what is taken times rows, lane by lane.
    pub times: Option<(Given<T>, Taken<T>)>,
    /// Adds to numbers the inner products of what is taken and rows.
    pub dots: Option<(Given<T>, Taken<T>)>,
}

impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Part<T> {}

impl<T> Part<T> {
    /// Nothing.
    pub const NONE: Self = Self { scaled: None, times: None, dots: None };

    /// Is anything to be added?
    pub fn is_something(&self) -> bool {
        self.scaled.is_some() || self.times.is_some() || self.dots.is_some()
    }

    /// # Safety
    /// As [`Sink::take`].
    #[inline(always)]
    unsafe fn take<V: Lanes<T = T>>(&self, i: usize, x: V)
    where
        T: std::ops::Add<Output = T> + Copy,
    {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some((to, by)) = self.scaled {
                let to = to.at(i);
                x.fma(V::splat(*by.at(i)), V::load(to)).store(to);
            }
            if let Some((to, by)) = self.times {
                let to = to.at(i);
                x.fma(V::load(by.at(i)), V::load(to)).store(to);
            }
            if let Some((to, by)) = self.dots {
                let to = to.at(i);
                *to = *to + x.mul(V::load(by.at(i))).sum();
            }
        }
    }
}

/// What to add up of the real parts and of the imaginary parts. Both may go to the same place.
#[derive(Debug)]
pub(crate) struct Sum<T>(pub [Part<T>; 2]);

impl<T> Clone for Sum<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Sum<T> {}

impl<V: Lanes> Sink<V> for Sum<V::T> {
    #[inline(always)]
    unsafe fn take(&self, i: usize, x: Complex<V>) {
        // SAFETY: the caller's promise.
        unsafe {
            self.0[0].take(i, x.re);
            self.0[1].take(i, x.im);
        }
    }
}
