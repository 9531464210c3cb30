//! Walking a tree.

use super::Tree;
use super::emit::Hits;
use super::layout::{FAN, LEAF, MAX_LEVELS, reach_row, size_row};
use super::query::{ALPHA, Cap, Query};
use crate::simd::{Isa, Lanes, multiversion};

/// Collects the keys of `tree` that lie inside, in no order. Did it finish? It gives up when it has looked
/// at too many.
pub fn search(isa: Isa, tree: &Tree, query: &Query, hits: &mut Hits<'_>) -> bool {
    assert_eq!(query.dim, tree.layout.dim);
    let cap = tree.scale.and_then(|scale| Cap::new(query, &scale, tree.reach()));
    // SAFETY: the arrays of a tree have the lengths of its layout, and the dimensions agree.
    unsafe {
        match &cap {
            Some(cap) => search_cap(isa, tree, query, cap, hits),
            None => search_box(isa, tree, query, &Cap::NONE, hits),
        }
    }
}

multiversion! {
    unsafe fn search_cap(tree: &Tree, query: &Query, cap: &Cap, hits: &mut Hits<'_>) -> bool = search_body {
        v4: [avx512::F32x16, true], v3: [avx2::F32x8, true], portable: [portable::F32x4, true],
    }
}

multiversion! {
    unsafe fn search_box(tree: &Tree, query: &Query, cap: &Cap, hits: &mut Hits<'_>) -> bool = search_body {
        v4: [avx512::F32x16, false], v3: [avx2::F32x8, false], portable: [portable::F32x4, false],
    }
}

/// Children of a pack: those that the half-space may cut, and those that lie in it.
struct Sides {
    cut: u32,
    inside: u32,
}

/// # Safety
///
/// The arrays of the tree must have the lengths of its layout, whose dimension must be the query's; the
/// instruction set must be enabled.
#[inline(always)]
unsafe fn search_body<V: Lanes<T = f32>, const CAP: bool>(
    tree: &Tree,
    query: &Query,
    cap: &Cap,
    hits: &mut Hits<'_>,
) -> bool {
    let layout = &tree.layout;
    let (pack_size, leaf_size) = (layout.pack_size(), layout.leaf_size());
    let top = layout.levels - 1;
    // For every level below the top, a pack and its children that are still to be visited.
    let mut path = [(0, 0_u32); MAX_LEVELS + 1];
    let (mut level, mut pack) = (top, 0);
    let mut limits = [[0.0; FAN]; 2];
    let (mut packs, mut leaves, mut scanned) = (0, 0, 0);
    // SAFETY: packs and leaves are children that exist, see the masks below.
    unsafe {
        'walk: loop {
            let at = tree.boxes.ptr().add((layout.level(level).start + pack) * pack_size);
            let count = (layout.nodes(level) - pack * FAN).min(FAN);
            let exist = u32::MAX >> (32 - count);
            let sides = look::<V, CAP>(at, query, cap, &mut limits);
            packs += 1;
            let node = |i: u32| pack * FAN + i as usize;
            for_each(sides.inside & exist, |i| hits.all(tree, layout.keys(level, node(i))));
            let cut = sides.cut & exist;
            if level == 0 {
                for_each(cut, |i| {
                    let keys = tree.leaves.ptr().add(node(i) * leaf_size);
                    let (out, inside) = (limits[0][i as usize], limits[1][i as usize]);
                    let (some, sure) = scores::<V>(keys, query, out, inside);
                    let len = layout.keys(0, node(i)).len();
                    let some = some & u64::MAX >> (LEAF - len);
                    if some != 0 {
                        hits.leaf(tree, node(i), some, sure);
                    }
                    scanned += len;
                    leaves += 1;
                });
                if scanned > hits.left() {
                    break;
                }
            } else {
                path[level] = (pack, cut);
                level -= 1;
            }
            // The next child that is left, on the lowest level that has one.
            while path[level + 1].1 == 0 {
                level += 1;
                if level >= top {
                    break 'walk;
                }
            }
            let (parent, left) = path[level + 1];
            path[level + 1].1 = left & (left - 1);
            pack = parent * FAN + left.trailing_zeros() as usize;
        }
    }
    let finished = scanned <= hits.left();
    hits.count(4 * (packs * pack_size + leaves * leaf_size), scanned);
    finished
}

/// Calls `f` with the place of every bit that is set.
#[inline(always)]
fn for_each(mut bits: u32, mut f: impl FnMut(u32)) {
    while bits != 0 {
        f(bits.trailing_zeros());
        bits &= bits - 1;
    }
}

/// Compares the 16 boxes of a pack with the half-space. For every box, `limits` are what the scores of
/// its keys are to be compared with: see [`scores`].
///
/// # Safety
///
/// A pack of the query's dimension must be readable, and the instruction set enabled.
#[inline(always)]
unsafe fn look<V: Lanes<T = f32>, const CAP: bool>(
    pack: *const f32,
    query: &Query,
    cap: &Cap,
    limits: &mut [[f32; FAN]; 2],
) -> Sides {
    let dim = query.dim;
    let mut sides = Sides { cut: 0, inside: 0 };
    // SAFETY: rows lie within the pack.
    unsafe {
        let zero = V::splat(0.0);
        let (out, inside) = (V::splat(query.out), V::splat(query.inside));
        for g in (0..FAN).step_by(V::N) {
            let (mut most, mut least, mut distance) = (zero, zero, zero);
            for j in 0..dim {
                let far = V::load(pack.add(query.far[j] + g));
                let near = V::load(pack.add(query.near[j] + g));
                let q = V::splat(query.q[j]);
                most = q.fma(far, most);
                least = q.fma(near, least);
                if CAP {
                    let (w, p) = (cap.weight[j], cap.foot[j]);
                    let beyond = near.fma(V::splat(w), V::splat(-p));
                    let short = far.fma(V::splat(-w), V::splat(p));
                    let gap = beyond.max(short).max(zero);
                    distance = gap.fma(gap, distance);
                }
            }
            let size = V::load(pack.add(size_row(dim) * FAN + g));
            let (epsilon, minus) = (V::splat(query.epsilon), V::splat(-query.epsilon));
            // Negated, so that NaN is not out.
            let mut cut = !out.ge_bits(size.fma(epsilon, most));
            let mut within = size.fma(minus, least).ge_bits(inside);
            size.fma(minus, out).store(limits[0].as_mut_ptr().add(g));
            size.fma(epsilon, inside).store(limits[1].as_mut_ptr().add(g));
            if CAP {
                let reach = V::load(pack.add(reach_row(dim) * FAN + g));
                let away = distance.fma(V::splat(ALPHA), reach).ge_bits(V::splat(cap.limit));
                if cap.holds_inside {
                    cut &= !away;
                } else {
                    within |= away;
                }
            }
            let lanes = u32::MAX >> (32 - V::N);
            sides.inside |= (within & lanes) << g;
            sides.cut |= (cut & !within & lanes) << g;
        }
    }
    sides
}

/// The keys of a leaf whose scores are above the first limit, and those that reach the second.
///
/// # Safety
///
/// As [`look`], for a leaf.
#[inline(always)]
unsafe fn scores<V: Lanes<T = f32>>(
    keys: *const f32,
    query: &Query,
    out: f32,
    inside: f32,
) -> (u64, u64) {
    /// Sums at a time.
    const GROUP: usize = 4;
    if inside == f32::INFINITY {
        // The box is not bounded.
        return (u64::MAX, 0);
    }
    let (mut some, mut sure) = (0, 0);
    // SAFETY: the numbers lie within the leaf.
    unsafe {
        let (out, inside) = (V::splat(out), V::splat(inside));
        for first in (0..LEAF).step_by(GROUP * V::N) {
            let mut sums = [V::splat(0.0); GROUP];
            for j in 0..query.dim {
                let q = V::splat(query.q[j]);
                let row = keys.add(j * LEAF + first);
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = q.fma(V::load(row.add(v * V::N)), *sum);
                }
            }
            // Shifted in one after the other: the compiler would make vectors of independent ones.
            for sum in sums {
                let push = |bits: u64, new: u32| bits >> V::N | u64::from(new) << (LEAF - V::N);
                some = push(some, !out.ge_bits(sum));
                sure = push(sure, sum.ge_bits(inside));
            }
        }
    }
    (some, sure)
}
