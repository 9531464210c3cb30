//! What takes the products of the passes that sums begin and end with.

use std::ops::Range;

use super::state::{State, absorb, read};
use super::workspace::Workspace;
use crate::simd::Lanes;

/// [`absorb`] and [`read`], by products of some kind.
pub(crate) trait Passes<V: Lanes> {
    /// # Safety
    ///
    /// As [`absorb`].
    unsafe fn absorb(
        state: &mut State<V::T>,
        work: &mut Workspace<V::T>,
        x: *const V::T,
        tile: (*const V::T, *const V::T),
        factors: *const V::T,
    );

    /// # Safety
    ///
    /// As [`read`].
    unsafe fn read(
        state: &State<V::T>,
        work: &mut Workspace<V::T>,
        x: *const V::T,
        to: (*mut V::T, *mut V::T),
        dead: &[Range<usize>],
    );
}

/// By products of the working precision, in tiles of `R` rows of `C` vectors.
pub(crate) struct Single<const R: usize, const C: usize>;

impl<V: Lanes, const R: usize, const C: usize> Passes<V> for Single<R, C> {
    #[inline(always)]
    unsafe fn absorb(
        state: &mut State<V::T>,
        work: &mut Workspace<V::T>,
        x: *const V::T,
        tile: (*const V::T, *const V::T),
        factors: *const V::T,
    ) {
        // SAFETY: the caller's promises.
        unsafe { absorb::<V, R, C>(state, work, x, tile, factors) }
    }

    #[inline(always)]
    unsafe fn read(
        state: &State<V::T>,
        work: &mut Workspace<V::T>,
        x: *const V::T,
        to: (*mut V::T, *mut V::T),
        dead: &[Range<usize>],
    ) {
        // SAFETY: the caller's promises.
        unsafe { read::<V, R, C>(state, work, x, to, dead) }
    }
}
