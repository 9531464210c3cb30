//! The order of the keys of a large tree, down to blocks.
//!
//! As in [`block`](super::block), but by counting, in passes over chunks that every thread may take:
//! a node of a billion keys is neither the work of one task, nor does it keep the caller from stopping.

use std::sync::{Mutex, PoisonError};

use super::block::{BLOCK, middle};
use super::layout::MAX_DIM;
use super::source::{Source, ordered, widest};
use crate::par::Pulse;
use crate::simd::default_float_mode;
use crate::{Par, Result};

/// Keys that a thread counts at a time.
const CHUNK: usize = 1 << 16;

/// A node of so many keys is the work of one task.
const TASK: usize = 1 << 18;

/// Rows that tell along what to split.
const SAMPLE: usize = 4096;

/// Reorders ascending slots so that every block of the tree has its own, ascending.
pub fn into_blocks(source: &Source<'_>, slots: &mut [u32], par: Par<'_>) -> Result<()> {
    let mut nodes = Vec::new();
    large(source, slots, par, &mut nodes)?;
    par.run(nodes.len(), |i, pulse| {
        let mut slots = nodes[i].lock().unwrap_or_else(PoisonError::into_inner);
        default_float_mode(|| small(source, &mut slots, pulse));
    })
}

/// Splits what is too large for a task.
fn large<'a>(
    source: &Source<'_>,
    slots: &'a mut [u32],
    par: Par<'_>,
    nodes: &mut Vec<Mutex<&'a mut [u32]>>,
) -> Result<()> {
    if slots.len() <= TASK {
        nodes.push(Mutex::new(slots));
        return Ok(());
    }
    let middle = split(source, slots, par)?;
    let (left, right) = slots.split_at_mut(middle);
    large(source, left, par, nodes)?;
    large(source, right, par, nodes)
}

/// Splits a task down to blocks.
fn small(source: &Source<'_>, slots: &mut [u32], pulse: &Pulse<'_>) {
    if slots.len() <= BLOCK || pulse.stopped() {
        return;
    }
    let middle = split(source, slots, Par::seq()).expect("nobody asks this to stop");
    let (left, right) = slots.split_at_mut(middle);
    small(source, left, pulse);
    small(source, right, pulse);
}

/// Moves the keys with the smaller numbers along the widest axis to the left, as many as it says. Ties
/// go by slot, and the order of the slots stays on both sides.
fn split(source: &Source<'_>, slots: &mut [u32], par: Par<'_>) -> Result<usize> {
    let axis = axis(source, slots);
    let chunks: Vec<&[u32]> = slots.chunks(CHUNK).collect();
    let numbers: Vec<Vec<u32>> = par.map(chunks.len(), |i, _| {
        let number = |&slot| ordered(source.coordinate(slot, axis));
        default_float_mode(|| chunks[i].iter().map(number).collect())
    })?;
    let middle = middle(slots.len(), BLOCK);
    let (pivot, ties) = nth(&numbers, middle, par)?;

    // The first of the ties go to the left: so many of each chunk.
    let equal = par.map(chunks.len(), |i, _| numbers[i].iter().filter(|&&x| x == pivot).count())?;
    let quotas = equal.iter().scan(ties, |left, &equal| {
        let quota = equal.min(*left);
        *left -= quota;
        Some(quota)
    });
    let quotas: Vec<usize> = quotas.collect();
    let sides = par.map(chunks.len(), |i, _| {
        let mut quota = quotas[i];
        let [mut left, mut right] = [(); 2].map(|()| vec![0; chunks[i].len()]);
        let (mut lefts, mut rights) = (0, 0);
        // Every slot is written to both sides, and stays on one: half of the branches would be wrong.
        for (&slot, &x) in chunks[i].iter().zip(&numbers[i]) {
            let tied = x == pivot && quota > 0;
            quota -= usize::from(tied);
            (left[lefts], right[rights]) = (slot, slot);
            let goes_left = usize::from(x < pivot || tied);
            (lefts, rights) = (lefts + goes_left, rights + 1 - goes_left);
        }
        left.truncate(lefts);
        right.truncate(rights);
        (left, right)
    })?;
    let parts = sides.iter().map(|side| &side.0).chain(sides.iter().map(|side| &side.1));
    let mut end = 0;
    for part in parts {
        slots[end..end + part.len()].copy_from_slice(part);
        end += part.len();
    }
    Ok(middle)
}

/// Along what a node is split.
fn axis(source: &Source<'_>, slots: &[u32]) -> usize {
    let width = source.width();
    let step = slots.len().div_ceil(SAMPLE);
    let sample = slots.iter().step_by(step).map(|&slot| {
        let mut row = [0.0; MAX_DIM + 1];
        source.row(slot, &mut row[..width]);
        row
    });
    widest(width, sample)
}

/// The number with `rank` others before it in ascending order, and how many of those are its equals.
fn nth(numbers: &[Vec<u32>], rank: usize, par: Par<'_>) -> Result<(u32, usize)> {
    let (mut prefix, mut before) = (0, rank);
    for (shift, bits) in [(21, 11), (10, 11), (0, 10)] {
        // Among those with the leading bits that are known, how many have which next ones?
        let counts = par.map(numbers.len(), |i, _| {
            let mut counts = vec![0_u32; 1 << bits];
            for &x in &numbers[i] {
                let digits = u64::from(x) >> shift;
                counts[digits as usize % (1 << bits)] += u32::from(digits >> bits == prefix);
            }
            counts
        })?;
        let total = |digit: usize| counts.iter().map(|x| x[digit] as usize).sum::<usize>();
        let mut digit = 0;
        while total(digit) <= before {
            before -= total(digit);
            digit += 1;
        }
        prefix = prefix << bits | digit as u64;
    }
    Ok((prefix as u32, before))
}
