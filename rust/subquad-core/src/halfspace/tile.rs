//! The first stage for many queries: blocks of keys against tiles of queries.
//!
//! A tile keeps its sums in registers while it walks the coordinates, and leaves two bits for every
//! query and key: candidate, and sure. The intervals are those of [`coarse`](super::coarse), for
//! queries in 8 bits.

use super::coarse::Coarse;
use super::keys::Keys;
use super::planes::{BLOCK, Planes, Shape};
use crate::simd::ints::{Ints, Unit, multiversion_ints};
use crate::simd::{Lanes, touch, touch_second, unroll};

mod narrow;

pub(super) use narrow::Narrow;

/// Lines whose products are added in 16 bits.
pub(super) const FLUSH: usize = 8;

/// Coordinates of a line that share 16 bits, of the four that a key has: the first or the last two.
pub(super) fn lane(coordinate: usize) -> usize {
    coordinate / 2 % 2
}

/// Room for the queries of any tile.
const MOST: usize = 16;

/// Keys that share a mask of 16 bits.
pub(super) const GROUP: usize = 16;

/// Blocks whose masks are kept before any candidate is looked at. Their codes, and the keys that
/// candidates need, stay in the second cache.
pub(super) const LISTED: usize = 64;

/// Masks from one query to the next.
const STRIDE: usize = LISTED * BLOCK / GROUP;

/// Queries, prepared for the kernels.
pub(super) struct Tiles {
    /// Queries in a tile: as many as registers hold.
    width: usize,
    tiles: Vec<Tile>,
}

struct Tile {
    /// `[line][query]`: four coordinates.
    words: Vec<i32>,
    /// `[flush][query]`: what sums begin with.
    start: Vec<i32>,
    alpha: [f32; MOST],
    beta: [f32; MOST],
    gamma: [f32; MOST],
    low: [f32; MOST],
    high: [f32; MOST],
}

/// Queries in a tile: as many as registers hold, or fewer. As in the kernels below.
fn widths(unit: Unit) -> [usize; 2] {
    match unit {
        Unit::Vnni512 => [12, 8],
        Unit::Vnni256 | Unit::Avx2 => [6, 4],
        Unit::Portable => [4, 4],
    }
}

impl Tiles {
    pub fn new(unit: Unit, shape: Shape, queries: &[Narrow]) -> Self {
        // The width that leaves less of the last tile empty.
        let [wide, narrow] = widths(unit);
        let filled = |width: usize| queries.len().next_multiple_of(width);
        let width = if filled(narrow) < filled(wide) { narrow } else { wide };
        let tile = |queries: &[Narrow]| {
            // A tile with room to spare is filled up with queries that find nothing.
            let of = |f: fn(&Coarse) -> f32, none: f32| {
                std::array::from_fn(|t| queries.get(t).map_or(none, |q| f(&q.coarse)))
            };
            let interleave = |of: fn(&Narrow) -> &Vec<i32>| {
                let value = |i: usize, t: usize| queries.get(t).map_or(0, |q| of(q)[i]);
                let len = of(&queries[0]).len();
                (0..len).flat_map(|i| (0..width).map(move |t| value(i, t))).collect()
            };
            Tile {
                words: interleave(|q| &q.words),
                start: interleave(|q| &q.start),
                alpha: of(|c| c.alpha[0], 0.0),
                beta: of(|c| c.beta, 0.0),
                gamma: of(|c| c.gamma, 0.0),
                low: of(|c| c.low, f32::INFINITY),
                high: of(|c| c.high, f32::INFINITY),
            }
        };
        assert!(queries.iter().all(|q| q.words.len() == shape.wide));
        Self { width, tiles: queries.chunks(width).map(tile).collect() }
    }

    /// Number of queries, filled up to whole tiles.
    pub fn len(&self) -> usize {
        self.width * self.tiles.len()
    }

    /// Fills the masks of some blocks, at most [`LISTED`]. `rows` are the keys themselves, if they are to
    /// be brought nearer meanwhile.
    pub fn scan(
        &self,
        unit: Unit,
        planes: &Planes,
        blocks: std::ops::Range<usize>,
        rows: Option<&Keys>,
        masks: &mut Masks,
    ) {
        let shape = planes.shape();
        assert!(blocks.end <= planes.len().div_ceil(BLOCK) && blocks.len() <= LISTED);
        masks.candidates.resize(self.len() * STRIDE, 0);
        masks.sure.resize(self.len() * STRIDE, 0);
        if blocks.len() < LISTED {
            // Nobody is a candidate of a block that is not scanned.
            masks.candidates.fill(0);
            masks.sure.fill(0);
        }
        for i in blocks.clone() {
            let block = planes.ptr().wrapping_add(i * shape.block());
            let (from, bytes) = rows.map_or((block, 0), |keys| keys.block(i * BLOCK, BLOCK));
            let share = bytes.div_ceil(self.tiles.len());
            // With one tile the machine's own guess is in time, and this would be in its way.
            let next = if self.tiles.len() > 1 { shape.block() / self.tiles.len() } else { 0 };
            for (t, tile) in self.tiles.iter().enumerate() {
                touch_second(from.wrapping_add(t * share), share);
                touch(block.wrapping_add(shape.block() + t * next), next);
                let at = t * self.width * STRIDE + 2 * (i - blocks.start);
                let (to, also) = (&mut masks.candidates[at..], &mut masks.sure[at..]);
                assert!(to.len() > (self.width - 1) * STRIDE + 1 && also.len() == to.len());
                let (to, also) = (to.as_mut_ptr(), also.as_mut_ptr());
                // SAFETY: the block exists; the tile has words for its lines; masks have room for two
                // groups of every query.
                unsafe {
                    if self.width == widths(unit)[0] {
                        tile_scan(unit, block, shape.wide, tile, to, also);
                    } else {
                        tile_scan_narrow(unit, block, shape.wide, tile, to, also);
                    }
                }
            }
        }
    }
}

/// For every query and every group of keys, which are candidates and which of those are sure: bit `i` of
/// group `g` is key `16 g + i`, counted from the first block that was scanned.
#[derive(Default)]
pub(super) struct Masks {
    candidates: Vec<u16>,
    sure: Vec<u16>,
}

impl Masks {
    /// The masks of a query for so many groups and up to three more, four groups at a time, lowest bits
    /// first.
    pub fn of(&self, query: usize, groups: usize) -> impl Iterator<Item = (u64, u64)> {
        let at = query * STRIDE..query * STRIDE + groups.next_multiple_of(4);
        let word = |&[a, b, c, d]: &[u16; 4]| {
            u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48
        };
        let (candidates, sure) = (&self.candidates[at.clone()], &self.sure[at]);
        let pairs = candidates.as_chunks().0.iter().zip(sure.as_chunks().0);
        pairs.map(move |(candidates, sure)| (word(candidates), word(sure)))
    }
}

multiversion_ints! {
    unsafe fn tile_scan(block: *const u8, lines: usize, tile: &Tile, candidates: *mut u16, sure: *mut u16) = tile_body {
        vnni512: [vnni512::I32x16, 12, 2],
        vnni256: [vnni256::Vnni8, 6, 2],
        avx2: [avx2::I32x8, 6, 2],
        portable: [portable::I32x4, 4, 4],
    }
}

multiversion_ints! {
    unsafe fn tile_scan_narrow(block: *const u8, lines: usize, tile: &Tile, candidates: *mut u16, sure: *mut u16) = tile_body {
        vnni512: [vnni512::I32x16, 8, 2],
        vnni256: [vnni256::Vnni8, 4, 2],
        avx2: [avx2::I32x8, 4, 2],
        portable: [portable::I32x4, 4, 4],
    }
}

/// # Safety
///
/// The block must be readable and have so many lines, all of 8 bits, and scales; the tile words for
/// them, and `Q` queries; the masks must have room for two groups at every [`STRIDE`], `Q` times; `G`
/// vectors must be one group or two; the instruction set must be enabled.
#[inline(always)]
unsafe fn tile_body<V: Ints, const Q: usize, const G: usize>(
    block: *const u8,
    lines: usize,
    tile: &Tile,
    candidates: *mut u16,
    sure: *mut u16,
) {
    let groups = V::N * G / GROUP;
    for first in (0..BLOCK / GROUP).step_by(groups) {
        // SAFETY: the caller's promises.
        unsafe {
            let at = first * GROUP;
            let sums = sums::<V, Q, G>(block.add(4 * at), lines, tile);
            let number = |which: usize, g: usize| {
                let at = 4 * BLOCK * lines + 2 * (which * BLOCK + at + g * V::N);
                <V::F as Lanes>::load_bf16(block.add(at).cast())
            };
            let splat = |x: f32| <V::F as Lanes>::splat(x);
            // Before masks are written, of which the compiler knows nothing.
            let (mut scale, mut rest) = ([splat(0.0); G], [splat(0.0); G]);
            for g in 0..G {
                (scale[g], rest[g]) = (number(0, g), number(1, g));
            }
            unroll!(Q, t => {
                let (mut candidate, mut certain) = (0_u32, 0_u32);
                let (alpha, beta) = (splat(tile.alpha[t]), splat(tile.beta[t]));
                let (gamma, low) = (splat(tile.gamma[t]), splat(tile.low[t]));
                for g in 0..G {
                    let score = sums[t][g].to_float();
                    let most = rest[g].fma(gamma, score.fma(alpha, beta).mul(scale[g]));
                    let bits = most.ge_bits(low);
                    if bits != 0 {
                        let middle = score.mul(alpha).sub(beta).mul(scale[g]);
                        let least = middle.sub(rest[g].mul(gamma));
                        candidate |= bits << (g * V::N);
                        certain |= (bits & least.ge_bits(splat(tile.high[t]))) << (g * V::N);
                    }
                }
                for k in 0..groups {
                    let to = t * STRIDE + first + k;
                    *candidates.add(to) = (candidate >> (GROUP * k)) as u16;
                    *sure.add(to) = (certain >> (GROUP * k)) as u16;
                }
            });
        }
    }
}

/// # Safety
///
/// As [`tile_body`].
#[inline(always)]
unsafe fn sums<V: Ints, const Q: usize, const G: usize>(
    codes: *const u8,
    lines: usize,
    tile: &Tile,
) -> [[V; G]; Q] {
    // SAFETY: the caller's promises.
    unsafe {
        let part = |first: usize, lines: usize, start: *const i32| {
            let mut part = [[V::splat(0); G]; Q];
            unroll!(Q, t => { part[t] = [V::splat(*start.add(t)); G]; });
            for j in first..first + lines {
                let words = tile.words.as_ptr().add(j * Q);
                let mut line = [V::splat(0); G];
                for g in 0..G {
                    line[g] = V::load(codes.add(4 * (BLOCK * j + g * V::N)));
                }
                unroll!(Q, t => {
                    let word = V::splat(*words.add(t));
                    for g in 0..G {
                        part[t][g] = part[t][g].pairs(line[g], word);
                    }
                });
            }
            part
        };
        let start = tile.start.as_ptr();
        if !V::NARROW {
            return part(0, lines, start);
        }
        let mut sums = [[V::splat(0); G]; Q];
        for first in (0..lines).step_by(FLUSH) {
            let next = part(first, FLUSH.min(lines - first), start.add(first / FLUSH * Q));
            unroll!(Q, t => {
                for g in 0..G {
                    sums[t][g] = sums[t][g].add(next[t][g].widen());
                }
            });
        }
        sums
    }
}
