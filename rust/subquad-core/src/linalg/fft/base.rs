//! Transforms that fit into registers.

use crate::simd::{Float, Lanes, unroll};

/// A vector of complex numbers.
#[derive(Clone, Copy)]
pub(super) struct Complex<V> {
    pub re: V,
    pub im: V,
}

impl<V: Lanes> Complex<V> {
    /// # Safety
    /// The instruction set must be enabled, and a row readable at `p`.
    #[inline(always)]
    pub unsafe fn load(p: *const V::T) -> Self {
        // SAFETY: the caller's promises.
        unsafe { Self { re: V::load(p), im: V::load(p.add(V::N)) } }
    }

    /// # Safety
    /// A row must be writable at `p`.
    #[inline(always)]
    pub unsafe fn store(self, p: *mut V::T) {
        // SAFETY: the caller's promises.
        unsafe {
            self.re.store(p);
            self.im.store(p.add(V::N));
        }
    }

    #[inline(always)]
    pub fn add(self, b: Self) -> Self {
        Self { re: self.re.add(b.re), im: self.im.add(b.im) }
    }

    #[inline(always)]
    pub fn sub(self, b: Self) -> Self {
        Self { re: self.re.sub(b.re), im: self.im.sub(b.im) }
    }

    /// `self - i b` and `self + i b`.
    #[inline(always)]
    pub fn turn(self, b: Self) -> (Self, Self) {
        let minus = Self { re: self.re.add(b.im), im: self.im.sub(b.re) };
        let plus = Self { re: self.re.sub(b.im), im: self.im.add(b.re) };
        (minus, plus)
    }

    /// `self + x b`.
    #[inline(always)]
    fn plus(self, x: V, b: Self) -> Self {
        Self { re: b.re.fma(x, self.re), im: b.im.fma(x, self.im) }
    }

    #[inline(always)]
    fn times(self, x: V) -> Self {
        Self { re: self.re.mul(x), im: self.im.mul(x) }
    }

    /// `w self` for a number `w` at `p`, real part first; `conj(w) self` if `CONJ`.
    ///
    /// # Safety
    /// Two numbers must be readable.
    #[inline(always)]
    pub unsafe fn by<const CONJ: bool>(self, p: *const V::T) -> Self {
        // SAFETY: the caller's promises.
        let (re, im) = unsafe { (V::splat(*p), V::splat(*p.add(1))) };
        if CONJ {
            Self { re: self.re.fma(re, self.im.mul(im)), im: self.im.fms(re, self.re.mul(im)) }
        } else {
            Self { re: self.re.fms(re, self.im.mul(im)), im: self.im.fma(re, self.re.mul(im)) }
        }
    }
}

/// # Safety
/// The instruction set must be enabled.
#[inline(always)]
unsafe fn constant<V: Lanes>(x: f64) -> V {
    // SAFETY: the caller's promise.
    unsafe { V::splat(V::T::from_f64(x)) }
}

#[inline(always)]
fn two<V: Lanes>(x: [Complex<V>; 2]) -> [Complex<V>; 2] {
    [x[0].add(x[1]), x[0].sub(x[1])]
}

#[inline(always)]
pub(super) fn four<V: Lanes>(x: [Complex<V>; 4]) -> [Complex<V>; 4] {
    let [a, c] = two([x[0], x[2]]);
    let [b, d] = two([x[1], x[3]]);
    let (minus, plus) = c.turn(d);
    [a.add(b), minus, a.sub(b), plus]
}

/// # Safety
/// The instruction set must be enabled.
#[inline(always)]
unsafe fn eight<V: Lanes>(x: [Complex<V>; 8]) -> [Complex<V>; 8] {
    let even = four([x[0], x[2], x[4], x[6]]);
    let odd = four([x[1], x[3], x[5], x[7]]);
    // SAFETY: the caller's promise.
    let half = unsafe { constant(std::f64::consts::FRAC_1_SQRT_2) };
    // (1 - i) / sqrt(2), -i and (-1 - i) / sqrt(2), the first and the last without their factor.
    let first = Complex { re: odd[1].re.add(odd[1].im), im: odd[1].im.sub(odd[1].re) }.times(half);
    let (minus, plus) = even[2].turn(odd[2]);
    // Less (1 + i) / sqrt(2).
    let last = Complex { re: odd[3].re.sub(odd[3].im), im: odd[3].im.add(odd[3].re) }.times(half);
    [
        even[0].add(odd[0]),
        even[1].add(first),
        minus,
        even[3].sub(last),
        even[0].sub(odd[0]),
        even[1].sub(first),
        plus,
        even[3].add(last),
    ]
}

/// # Safety
/// The instruction set must be enabled.
#[inline(always)]
unsafe fn three<V: Lanes>(x: [Complex<V>; 3]) -> [Complex<V>; 3] {
    // SAFETY: the caller's promise.
    let (minus_half, sine) = unsafe { (constant(-0.5), constant(0.866_025_403_784_438_6)) };
    let [sum, difference] = two([x[1], x[2]]);
    let middle = x[0].plus(minus_half, sum);
    let (minus, plus) = middle.turn(difference.times(sine));
    [x[0].add(sum), minus, plus]
}

/// # Safety
/// The instruction set must be enabled.
#[inline(always)]
unsafe fn five<V: Lanes>(x: [Complex<V>; 5]) -> [Complex<V>; 5] {
    // SAFETY: the caller's promise.
    let (c1, c2, s1, s2, minus_s1) = unsafe {
        (
            constant(0.309_016_994_374_947_4),
            constant(-0.809_016_994_374_947_4),
            constant(0.951_056_516_295_153_6),
            constant(0.587_785_252_292_473_1),
            constant(-0.951_056_516_295_153_6),
        )
    };
    let [p, q] = two([x[1], x[4]]);
    let [r, s] = two([x[2], x[3]]);
    let first = x[0].plus(c1, p).plus(c2, r);
    let second = x[0].plus(c2, p).plus(c1, r);
    let (a, d) = first.turn(q.times(s1).plus(s2, s));
    let (b, c) = second.turn(q.times(s2).plus(minus_s1, s));
    [x[0].add(p).add(r), a, b, c, d]
}

/// The transform of the first `M` rows, in an order of its own for 6, where rows and frequencies are
/// those of a product of two transforms without twiddles between them.
///
/// # Safety
/// The instruction set must be enabled.
#[inline(always)]
pub(super) unsafe fn transform<V: Lanes, const M: usize>(x: [Complex<V>; M]) -> [Complex<V>; M] {
    let mut y = x;
    // SAFETY: the caller's promise.
    unsafe {
        match M {
            3 => {
                let a = three([x[0], x[1], x[2]]);
                unroll!(3, i => { y[i] = a[i]; });
            }
            4 => {
                let a = four([x[0], x[1], x[2], x[3]]);
                unroll!(4, i => { y[i] = a[i]; });
            }
            5 => {
                let a = five([x[0], x[1], x[2], x[3], x[4]]);
                unroll!(5, i => { y[i] = a[i]; });
            }
            6 => {
                let (a, b) = (three([x[0], x[1], x[2]]), three([x[3], x[4], x[5]]));
                unroll!(3, i => { (y[i], y[i + 3]) = (a[i].add(b[i]), a[i].sub(b[i])); });
            }
            8 => {
                let a = eight([x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]]);
                unroll!(8, i => { y[i] = a[i]; });
            }
            _ => unreachable!("a base of plans"),
        }
    }
    y
}

/// The row that the base takes as its `i`-th.
pub(super) const fn row_of(base: usize, i: usize) -> usize {
    match base {
        6 => (3 * (i / 3) + 2 * (i % 3)) % 6,
        _ => i,
    }
}
