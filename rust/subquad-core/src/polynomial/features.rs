//! Features of a tile of tokens, and the derivatives through them.
//!
//! A tile holds [`TILE`] tokens; a feature is a row of as many numbers. Features come a few at a time, in
//! the order of [`monomials`](super::monomials): never more exist. A run of features shares all factors but
//! the last, and the product of those is kept, one row for each level: one multiplication per feature and
//! token.

use super::words::{Walk, Words};
use crate::scratch::Buffer;
use crate::simd::{Float, Lanes, unroll};

/// Tokens at a time: whole vectors of every type and width, and whole groups of six.
pub(crate) const TILE: usize = 96;

/// Features at a time: with a tile they fill half of the first cache.
pub(crate) const BLOCK: usize = 48;

/// Vectors of a row that are worked on side by side: the chains of their sums hide each other's latency, and two
/// such groups fit into 16 registers. A tile has whole groups.
pub(super) const SIDE: usize = 6;

/// Where a pass over the features stands, and the products of the factors that a run shares.
pub(super) struct Features<T> {
    words: Words,
    walk: Walk,
    /// Features of the run that have been passed.
    passed: usize,
    /// Row k: the product of the first k + 2 factors.
    products: Buffer<T>,
    /// Row k: the derivative by the product of the first k + 1 factors, as far as it has been summed up. Of two
    /// sums.
    slopes: [Buffer<T>; 2],
    done: bool,
}

impl<T: Float> Features<T> {
    pub fn new(words: Words) -> Self {
        let levels = words.degree.saturating_sub(1);
        Self {
            words,
            walk: Walk::new(words),
            passed: 0,
            products: Buffer::new(levels * TILE),
            slopes: [Buffer::new(levels * TILE), Buffer::new(levels * TILE)],
            done: false,
        }
    }

    /// Back to the constant.
    pub fn restart(&mut self) {
        self.walk = Walk::new(self.words);
        (self.passed, self.done) = (0, false);
        for slopes in &mut self.slopes {
            slopes.slice(self.words.degree.saturating_sub(1) * TILE).fill(T::ZERO);
        }
    }

    /// The product of the first `len` factors.
    fn product(&mut self, x: *const T, len: usize) -> *const T {
        match len {
            1 => x.wrapping_add(self.walk.run().0[0] * TILE),
            _ => self.products.ptr().wrapping_add((len - 2) * TILE),
        }
    }

    /// Goes on to the next run, and gives the number of factors at the front that stay.
    fn next_run(&mut self) -> Option<usize> {
        self.passed = 0;
        let stay = self.walk.advance();
        self.done = stay.is_none();
        stay
    }

    /// Computes the products of a run of which the first `stay` factors are known.
    ///
    /// # Safety
    ///
    /// `x` must have a row for every variable; the instruction set must be enabled.
    #[inline(always)]
    unsafe fn renew<V: Lanes<T = T>>(&mut self, x: *const T, stay: usize) {
        let len = self.walk.run().0.len();
        for level in stay.max(1)..len {
            let (before, l) = (self.product(x, level), self.walk.run().0[level]);
            let to = self.products.ptr().wrapping_add((level - 1) * TILE);
            // SAFETY: rows of the tile and of the products, which were made for this degree.
            unsafe { multiply::<V>(to, before, x.add(l * TILE), 1) };
        }
    }

    /// Writes the next features, at most `room`, and gives their number; none at the end.
    ///
    /// # Safety
    ///
    /// `x` must have a row for every variable, `to` room for so many; the instruction set must be
    /// enabled.
    #[inline(always)]
    pub unsafe fn fill<V: Lanes<T = T>>(&mut self, x: *const T, to: *mut T, room: usize) -> usize {
        let mut count = 0;
        // SAFETY: rows of the tile, of the products and of the room.
        unsafe {
            while count < room && !self.done {
                let (prefix, columns) = self.walk.run();
                let (len, first) = (prefix.len(), columns.start + self.passed);
                let some = (columns.end - first).min(room - count);
                match (self.walk.degree, len) {
                    (0, _) => fill::<V>(to, T::ONE),
                    (_, 0) => copy::<V>(to.add(count * TILE), x.add(first * TILE), some),
                    _ => {
                        let (to, product) = (to.add(count * TILE), self.product(x, len));
                        multiply::<V>(to, product, x.add(first * TILE), some);
                    }
                }
                (count, self.passed) = (count + some, self.passed + some);
                if first + some == columns.end
                    && let Some(stay) = self.next_run()
                {
                    self.renew::<V>(x, stay);
                }
            }
        }
        count
    }

    /// Takes the derivatives by the next `count` features, and adds what follows to those by the variables.
    ///
    /// # Safety
    ///
    /// `x` and `slopes_of_x` must have a row for every variable, `slopes` one for each of the features;
    /// the instruction set must be enabled.
    #[inline(always)]
    pub unsafe fn sweep<V: Lanes<T = T>>(
        &mut self,
        x: *const T,
        slopes: *const T,
        count: usize,
        slopes_of_x: *mut T,
    ) {
        let mut taken = 0;
        // SAFETY: rows of the tile, of the products and of what is passed.
        unsafe {
            while taken < count && !self.done {
                let (prefix, columns) = self.walk.run();
                let (len, first) = (prefix.len(), columns.start + self.passed);
                let some = (columns.end - first).min(count - taken);
                let (slopes, of_x) = (slopes.add(taken * TILE), slopes_of_x.add(first * TILE));
                match (self.walk.degree, len) {
                    (0, _) => {}
                    (_, 0) => add::<V>(of_x, slopes, some),
                    _ => {
                        let product = self.product(x, len);
                        let of_product = self.slopes[0].ptr().add((len - 1) * TILE);
                        let x = x.add(first * TILE);
                        both::<V>((product, of_product), (x, of_x), slopes, some);
                    }
                }
                (taken, self.passed) = (taken + some, self.passed + some);
                if first + some == columns.end {
                    let old = self.walk.clone();
                    let stay = self.next_run();
                    let (before, _) = old.run();
                    self.settle::<V>(x, before, stay.unwrap_or(0), 0, (slopes_of_x, None));
                    if let Some(stay) = stay {
                        self.renew::<V>(x, stay);
                    }
                }
            }
        }
    }

    /// As [`sweep`](Self::sweep), for two sums over features at once: one gives them slopes, the other a number for
    /// all tokens, its mass. Both sums are added to `moments`: that of `x . slope of x`, by first factors, is the
    /// same as that over all words.
    ///
    /// # Safety
    ///
    /// As [`sweep`](Self::sweep); there must be a mass for each of the features, and a row for both moments.
    #[inline(always)]
    pub unsafe fn sweep_apart<V: Lanes<T = T>>(
        &mut self,
        x: *const T,
        (slopes, masses): (*const T, *const T),
        count: usize,
        slopes_of_x: [*mut T; 2],
        moments: [*mut T; 2],
    ) {
        let mut taken = 0;
        // SAFETY: rows of the tile, of the products and of what is passed.
        unsafe {
            while taken < count && !self.done {
                let (prefix, columns) = self.walk.run();
                let (len, first) = (prefix.len(), columns.start + self.passed);
                let some = (columns.end - first).min(count - taken);
                let (slopes, masses) = (slopes.add(taken * TILE), masses.add(taken));
                let at = first * TILE;
                let (b, of_b) = (x.add(at), [slopes_of_x[0].add(at), slopes_of_x[1].add(at)]);
                match (self.walk.degree, len) {
                    (0, _) => add_apart::<V>(moments, (slopes, masses)),
                    (_, 0) => {
                        for row in 0..some {
                            let (at, b) = (row * TILE, b.add(row * TILE));
                            let (slope, mass) = (slopes.add(at), masses.add(row));
                            add_apart::<V>([of_b[0].add(at), of_b[1].add(at)], (slope, mass));
                            add_product::<V>(moments[0], b, slope);
                            add_multiple::<V>(moments[1], b, mass);
                        }
                    }
                    _ => {
                        let product = self.product(x, len);
                        let at = (len - 1) * TILE;
                        let of_product =
                            [self.slopes[0].ptr().add(at), self.slopes[1].ptr().add(at)];
                        let (a, b) = ((product, of_product), (b, of_b));
                        both_apart::<V>(a, b, (slopes, masses), some);
                    }
                }
                (taken, self.passed) = (taken + some, self.passed + some);
                if first + some == columns.end {
                    let old = self.walk.clone();
                    let stay = self.next_run();
                    let (before, _) = old.run();
                    for which in 0..2 {
                        let to = (slopes_of_x[which], Some(moments[which]));
                        self.settle::<V>(x, before, stay.unwrap_or(0), which, to);
                    }
                    if let Some(stay) = stay {
                        self.renew::<V>(x, stay);
                    }
                }
            }
        }
    }

    /// Passes on what has been summed up by the products of more than the first `stay` factors: of one of the two
    /// sums. What the first factor gets is also multiplied with it, into a row of moments if there is one.
    ///
    /// # Safety
    ///
    /// As [`sweep`](Self::sweep).
    #[inline(always)]
    unsafe fn settle<V: Lanes<T = T>>(
        &mut self,
        x: *const T,
        factors: &[usize],
        stay: usize,
        which: usize,
        (slopes_of_x, moments): (*mut T, Option<*mut T>),
    ) {
        let slopes = self.slopes[which].ptr();
        // SAFETY: as in `sweep`; the products are still those of `factors`.
        unsafe {
            for level in (stay..factors.len()).rev() {
                let slope = slopes.add(level * TILE);
                let l = factors[level];
                let of_x = slopes_of_x.add(l * TILE);
                if level == 0 {
                    add::<V>(of_x, slope, 1);
                    if let Some(moments) = moments {
                        add_product::<V>(moments, x.add(l * TILE), slope);
                    }
                } else {
                    let product = match level {
                        1 => x.add(factors[0] * TILE),
                        _ => self.products.ptr().add((level - 2) * TILE).cast_const(),
                    };
                    let of_product = slopes.add((level - 1) * TILE);
                    both::<V>((product, of_product), (x.add(l * TILE), of_x), slope, 1);
                }
                fill::<V>(slope, T::ZERO);
            }
        }
    }
}

/// # Safety
///
/// A row must be writable, and the instruction set enabled.
#[inline(always)]
unsafe fn fill<V: Lanes>(to: *mut V::T, x: V::T) {
    for i in (0..TILE).step_by(V::N) {
        // SAFETY: the caller's promise.
        unsafe { V::splat(x).store(to.add(i)) };
    }
}

/// # Safety
///
/// So many rows must be readable and writable; the instruction set must be enabled.
#[inline(always)]
unsafe fn copy<V: Lanes>(to: *mut V::T, from: *const V::T, rows: usize) {
    for i in (0..rows * TILE).step_by(V::N) {
        // SAFETY: the caller's promise.
        unsafe { V::load(from.add(i)).store(to.add(i)) };
    }
}

/// `to = a b`, for one row of `a`, which stays in registers, and so many of the others.
///
/// # Safety
///
/// As [`copy`], for so many rows.
#[inline(always)]
unsafe fn multiply<V: Lanes>(to: *mut V::T, a: *const V::T, b: *const V::T, rows: usize) {
    for i in (0..TILE).step_by(SIDE * V::N) {
        // SAFETY: the caller's promise.
        unsafe {
            let a = side_by_side::<V>(a.add(i));
            for row in 0..rows {
                let (to, b) = (to.add(row * TILE + i), b.add(row * TILE + i));
                unroll!(SIDE, c => {
                    a[c].mul(V::load(b.add(c * V::N))).store(to.add(c * V::N));
                });
            }
        }
    }
}

/// `to += a`.
///
/// # Safety
///
/// As [`copy`].
#[inline(always)]
unsafe fn add<V: Lanes>(to: *mut V::T, a: *const V::T, rows: usize) {
    for i in (0..rows * TILE).step_by(V::N) {
        // SAFETY: the caller's promise.
        unsafe { V::load(to.add(i)).add(V::load(a.add(i))).store(to.add(i)) };
    }
}

/// The derivatives by both factors of products: of each, its value and the sum so far. One row is the first
/// factor of all, so that its sum stays in registers.
///
/// # Safety
///
/// As [`copy`], for one row of `a` and so many of `b` and of the slopes; none may overlap.
#[inline(always)]
unsafe fn both<V: Lanes>(
    (a, of_a): (*const V::T, *mut V::T),
    (b, of_b): (*const V::T, *mut V::T),
    slopes: *const V::T,
    rows: usize,
) {
    for i in (0..TILE).step_by(SIDE * V::N) {
        // SAFETY: the caller's promise.
        unsafe {
            let (a, of_a) = (side_by_side::<V>(a.add(i)), of_a.add(i));
            let mut sum = side_by_side::<V>(of_a);
            for row in 0..rows {
                let at = row * TILE + i;
                let (b, of_b, slopes) = (b.add(at), of_b.add(at), slopes.add(at));
                unroll!(SIDE, c => {
                    let slope = V::load(slopes.add(c * V::N));
                    sum[c] = slope.fma(V::load(b.add(c * V::N)), sum[c]);
                    let of_b = of_b.add(c * V::N);
                    slope.fma(a[c], V::load(of_b)).store(of_b);
                });
            }
            unroll!(SIDE, c => {
                sum[c].store(of_a.add(c * V::N));
            });
        }
    }
}

/// `to += a b`.
///
/// # Safety
///
/// As [`copy`], for one row of each.
#[inline(always)]
unsafe fn add_product<V: Lanes>(to: *mut V::T, a: *const V::T, b: *const V::T) {
    for i in (0..TILE).step_by(V::N) {
        // SAFETY: the caller's promise.
        unsafe { V::load(a.add(i)).fma(V::load(b.add(i)), V::load(to.add(i))).store(to.add(i)) };
    }
}

/// `to += a b`, for a number b.
///
/// # Safety
///
/// As [`copy`], for one row.
#[inline(always)]
unsafe fn add_multiple<V: Lanes>(to: *mut V::T, a: *const V::T, b: *const V::T) {
    for i in (0..TILE).step_by(V::N) {
        // SAFETY: the caller's promise.
        unsafe { V::load(a.add(i)).fma(V::splat(*b), V::load(to.add(i))).store(to.add(i)) };
    }
}

/// Adds a row to the one, a number to all of the other.
///
/// # Safety
///
/// As [`copy`], for one row of each.
#[inline(always)]
unsafe fn add_apart<V: Lanes>(to: [*mut V::T; 2], (row, mass): (*const V::T, *const V::T)) {
    // SAFETY: the caller's promise.
    unsafe {
        let mass = V::splat(*mass);
        add::<V>(to[0], row, 1);
        for i in (0..TILE).step_by(V::N) {
            V::load(to[1].add(i)).add(mass).store(to[1].add(i));
        }
    }
}

/// As [`both`], for slopes and for masses: see [`sweep_apart`](Features::sweep_apart).
///
/// # Safety
///
/// As [`both`].
#[inline(always)]
unsafe fn both_apart<V: Lanes>(
    (a, of_a): (*const V::T, [*mut V::T; 2]),
    (b, of_b): (*const V::T, [*mut V::T; 2]),
    (slopes, masses): (*const V::T, *const V::T),
    rows: usize,
) {
    // Half as many side by side, as there are two sums.
    for i in (0..TILE).step_by(SIDE / 2 * V::N) {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = V::splat(V::T::ZERO);
            let (mut factor, mut by_slope, mut by_mass) =
                ([zero; SIDE / 2], [zero; SIDE / 2], [zero; SIDE / 2]);
            unroll!(SIDE / 2, c => {
                let at = i + c * V::N;
                factor[c] = V::load(a.add(at));
                by_slope[c] = V::load(of_a[0].add(at));
                by_mass[c] = V::load(of_a[1].add(at));
            });
            for row in 0..rows {
                let mass = V::splat(*masses.add(row));
                unroll!(SIDE / 2, c => {
                    let at = row * TILE + i + c * V::N;
                    let (slope, b) = (V::load(slopes.add(at)), V::load(b.add(at)));
                    by_slope[c] = slope.fma(b, by_slope[c]);
                    by_mass[c] = mass.fma(b, by_mass[c]);
                    let (first, second) = (of_b[0].add(at), of_b[1].add(at));
                    slope.fma(factor[c], V::load(first)).store(first);
                    mass.fma(factor[c], V::load(second)).store(second);
                });
            }
            unroll!(SIDE / 2, c => {
                let at = i + c * V::N;
                by_slope[c].store(of_a[0].add(at));
                by_mass[c].store(of_a[1].add(at));
            });
        }
    }
}

/// # Safety
///
/// So many vectors must be readable; the instruction set must be enabled.
#[inline(always)]
pub(super) unsafe fn side_by_side<V: Lanes>(from: *const V::T) -> [V; SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut vectors = [V::splat(V::T::ZERO); SIDE];
        unroll!(SIDE, c => {
            vectors[c] = V::load(from.add(c * V::N));
        });
        vectors
    }
}
