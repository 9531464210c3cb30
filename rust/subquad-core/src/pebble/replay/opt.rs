//! A cache that knows the future.

use super::super::bits::Bits;
use super::lines::Lines;
use super::{Cache, PATIENCE, Trace, Traffic, for_each};
use crate::par::Pulse;
use crate::{Error, Result};

/// A use that does not come.
const NEVER: u32 = u32::MAX;
/// A use that does not need what is there.
const OVERWRITTEN: u32 = u32::MAX - 1;

/// The line is there.
const THERE: u8 = 1;
/// It was written.
const DIRTY: u8 = 2;

/// A set holds the next use of every line that is there, and uses that have come, which are smaller than all
/// others; its largest is the next to leave. O(1) per access where the set is a word or two from its largest.
pub(super) fn replay(
    trace: &Trace,
    cache: &Cache,
    lines: &Lines,
    discard: bool,
    pulse: &Pulse,
) -> Result<Traffic> {
    if trace.len() >= OVERWRITTEN as usize {
        let requires = "of fewer than 2^32 - 2 accesses";
        return Err(Error::Domain { name: "trace", requires, found: trace.len() as f64 });
    }
    let shift = cache.shift();
    match lines.numbers() {
        None => {
            let line = |i: usize| (trace.accesses[i] >> 1 >> shift) as u32;
            look_ahead(trace, cache, lines, discard, line, pulse)
        }
        Some(numbers) => look_ahead(trace, cache, lines, discard, |i| numbers[i], pulse),
    }
}

fn look_ahead(
    trace: &Trace,
    cache: &Cache,
    lines: &Lines,
    discard: bool,
    line: impl Fn(usize) -> u32,
    pulse: &Pulse,
) -> Result<Traffic> {
    let next = next_uses(trace, lines.count(), discard, &line, pulse)?;
    let capacity = cache.lines();
    let mut uses = Bits::new(trace.len());
    let mut state = vec![0; lines.count()];
    let mut count = 0;
    let mut traffic = cache.traffic(trace.len());
    for_each(&trace.accesses, pulse, |i, access| {
        let (number, write) = (line(i), access & 1 != 0);
        let here = &mut state[number as usize];
        if *here & THERE == 0 {
            traffic.misses += 1;
            traffic.fetches += u64::from(!write || cache.fetch_on_write);
            *here = THERE;
            if count == capacity {
                let last = uses.last().expect("what stays has a use to come");
                uses.remove(last);
                let victim = &mut state[line(last) as usize];
                traffic.write_backs += u64::from(*victim & DIRTY != 0);
                *victim = 0;
            } else {
                count += 1;
            }
        }
        let here = &mut state[number as usize];
        *here |= if write { DIRTY } else { 0 };
        if next[i] < OVERWRITTEN {
            uses.insert(next[i] as usize);
        } else {
            let wanted = next[i] == NEVER && cache.wanted(lines.line(number as usize));
            traffic.write_backs += u64::from(*here & DIRTY != 0 && wanted);
            *here = 0;
            count -= 1;
        }
    })?;
    Ok(traffic)
}

/// For every access the next one of the same line; or that there is none, or, if that is to be told apart, that it is
/// a write.
fn next_uses(
    trace: &Trace,
    lines: usize,
    discard: bool,
    line: &impl Fn(usize) -> u32,
    pulse: &Pulse,
) -> Result<Vec<u32>> {
    let mut next = vec![NEVER; trace.len()];
    let mut last = vec![NEVER; lines];
    for i in (0..trace.len()).rev() {
        if i.is_multiple_of(PATIENCE) && pulse.stopped() {
            return Err(Error::Stopped);
        }
        let last = &mut last[line(i) as usize];
        next[i] = *last;
        let write = trace.accesses[i] & 1 != 0;
        *last = if discard && write { OVERWRITTEN } else { i as u32 };
    }
    Ok(next)
}
