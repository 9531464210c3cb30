//! Putting slots into order.

/// Sorts distinct slots that lie in `first .. first + len`: by whatever takes least, measured.
pub fn sort(slots: &mut [u32], first: usize, len: usize) {
    match slots.len() {
        n if n >= len.div_ceil(256) => by_bits(slots, first, len),
        0..256 => slots.sort_unstable(),
        _ => by_digits(slots, first, len),
    }
}

/// Marks them in a set of bits, and lists it.
fn by_bits(slots: &mut [u32], first: usize, len: usize) {
    let mut words = vec![0_u64; len.div_ceil(64)];
    for &slot in &*slots {
        let i = slot as usize - first;
        words[i / 64] |= 1 << (i % 64);
    }
    let mut to = slots.iter_mut();
    for (i, mut word) in words.into_iter().enumerate() {
        while word != 0 {
            let slot = to.next().expect("no more bits are set than there are slots");
            *slot = (first + 64 * i) as u32 + word.trailing_zeros();
            word &= word - 1;
        }
    }
}

/// Sorts by digits of at most 11 bits, the last ones first.
fn by_digits(slots: &mut [u32], first: usize, len: usize) {
    let bits = usize::BITS - len.leading_zeros();
    let passes = bits.div_ceil(11);
    let width = bits.div_ceil(passes);
    let mut other = vec![0; slots.len()];
    for pass in 0..passes {
        let digit =
            |slot: u32| (slot - first as u32) as usize >> (pass * width) & ((1 << width) - 1);
        let mut places = [0; 1 << 11];
        for &slot in &*slots {
            places[digit(slot)] += 1;
        }
        let mut end = 0;
        for place in &mut places {
            (*place, end) = (end, end + *place);
        }
        for &slot in &*slots {
            other[places[digit(slot)]] = slot;
            places[digit(slot)] += 1;
        }
        slots.copy_from_slice(&other);
    }
}

#[cfg(test)]
mod tests {
    use super::sort;
    use crate::halfspace::tests::Random;

    #[test]
    fn slots_ascend() {
        let mut random = Random(1);
        for len in [1, 2, 64, 65, 5000, 100_000, 5_000_000] {
            let counts = [0, 1, 255, 256, 3000, len / 300, len];
            for count in counts.into_iter().filter(|&count| count <= 100_000) {
                let first = random.below(1000);
                let some: std::collections::BTreeSet<u32> =
                    (0..count).map(|_| (first + random.below(len)) as u32).collect();
                let mut slots: Vec<u32> = some.iter().copied().collect();
                (0..slots.len()).for_each(|i| slots.swap(i, random.below(i + 1)));
                sort(&mut slots, first, len);
                assert!(slots.into_iter().eq(some));
            }
        }
    }
}
