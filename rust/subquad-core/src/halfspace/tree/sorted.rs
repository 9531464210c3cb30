//! Putting slots into order.

/// Sorts distinct slots that lie in `first .. first + len`.
pub fn sort(slots: &mut [u32], first: usize, len: usize) {
    if slots.len() < len / SPARSE {
        slots.sort_unstable();
        return;
    }
    let mut words = vec![0_u64; len.div_ceil(64)];
    for &slot in slots.iter() {
        let i = slot as usize - first;
        words[i / 64] |= 1 << (i % 64);
    }
    let mut at = 0;
    for (i, &word) in words.iter().enumerate() {
        let mut left = word;
        while left != 0 {
            slots[at] = (first + 64 * i) as u32 + left.trailing_zeros();
            at += 1;
            left &= left - 1;
        }
    }
}

/// Where fewer than one slot in so many is to be sorted, that costs less than a walk along all bits.
const SPARSE: usize = 1024;
