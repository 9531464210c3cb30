//! The floating-point mode in which the bounds of this crate are proven.
//!
//! A host program may have told its threads to round differently, or to flush denormal numbers to
//! zero: `torch.set_flush_denormal` does, and so do libraries built with `-ffast-math`. Threads
//! inherit that. What is certified here assumes IEEE arithmetic, to nearest, denormals and all.

/// Runs `work` in IEEE mode, and puts the caller's mode back, also if `work` panics.
#[inline(always)]
pub(crate) fn default_float_mode<R>(work: impl FnOnce() -> R) -> R {
    let _until_the_end = Restore::new();
    isolated(work)
}

/// A call that stays one, or the compiler might move arithmetic to the other side of the switch.
#[inline(never)]
fn isolated<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Sets the default mode, and the one before when dropped.
struct Restore(control::Word);

impl Restore {
    fn new() -> Self {
        let before = control::read();
        // Writing stalls the pipeline, so not for nothing.
        if !control::is_default(before) {
            control::write(control::DEFAULT);
        }
        Self(before)
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if !control::is_default(self.0) {
            control::write(self.0);
        }
    }
}

/// The control register of x86-64, MXCSR.
#[cfg(target_arch = "x86_64")]
mod control {
    use std::arch::asm;

    pub type Word = u32;

    /// Exceptions masked, none raised; rounding to nearest; no flushing.
    pub const DEFAULT: Word = 0x1F80;

    /// Exceptions that have been raised: they change nothing.
    const RAISED: Word = 0x3F;

    pub fn is_default(word: Word) -> bool {
        word & !RAISED == DEFAULT
    }

    pub fn read() -> Word {
        let mut word = 0;
        // SAFETY: stores 4 bytes at the address given.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack)) };
        word
    }

    pub fn write(word: Word) {
        // SAFETY: loads 4 bytes, no reserved bit among them, for they are the default or were read.
        // What the compiler assumes of the mode is the default.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack)) };
    }
}

/// The control register of AArch64, FPCR.
#[cfg(target_arch = "aarch64")]
mod control {
    use std::arch::asm;

    pub type Word = u64;

    /// Exceptions masked; rounding to nearest; no flushing; NaNs propagate.
    pub const DEFAULT: Word = 0;

    pub fn is_default(word: Word) -> bool {
        word == DEFAULT
    }

    pub fn read() -> Word {
        let word;
        // SAFETY: reads a register that user code may read.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nostack)) };
        word
    }

    pub fn write(word: Word) {
        // SAFETY: the default, or what was read. What the compiler assumes is the default.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nostack)) };
    }
}

/// Elsewhere the mode is taken to be the default.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod control {
    pub type Word = ();

    pub const DEFAULT: Word = ();

    pub fn is_default((): Word) -> bool {
        true
    }

    pub fn read() -> Word {}

    pub fn write((): Word) {}
}

#[cfg(test)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tests {
    use std::hint::black_box;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Everything that a host can change: towards zero, denormals flushed and read as zero.
    #[cfg(target_arch = "x86_64")]
    const ODD: control::Word = 0x1F80 | 3 << 13 | 1 << 15 | 1 << 6;
    #[cfg(target_arch = "aarch64")]
    const ODD: control::Word = 3 << 22 | 1 << 24;

    /// Runs `work` in the odd mode, as a host would call us.
    fn oddly<R>(work: impl FnOnce() -> R) -> R {
        let before = control::read();
        control::write(ODD);
        let result = catch_unwind(AssertUnwindSafe(|| isolated(work)));
        control::write(before);
        result.expect("nothing but what is caught within panics")
    }

    /// A denormal product, a denormal operand, and a quotient that is rounded up to nearest; without
    /// comparisons, which may see denormals as zero.
    #[inline(never)]
    fn samples() -> [u32; 3] {
        let (tiny, denormal) = (black_box(f32::MIN_POSITIVE), black_box(f32::from_bits(3)));
        let up = black_box(2.0_f32) / black_box(3.0);
        [tiny * black_box(0.5), denormal * black_box(1e30), up].map(f32::to_bits)
    }

    #[test]
    fn the_mode_of_the_host_changes_nothing_within_and_is_back_afterwards() {
        let (outside, within, after, word) = oddly(|| {
            let outside = samples();
            (outside, default_float_mode(samples), samples(), control::read())
        });
        let expected = samples();
        assert_eq!(within, expected);
        for (odd, ieee) in outside.into_iter().zip(expected) {
            assert_ne!(odd, ieee, "the odd mode must show, or this test shows nothing");
        }
        assert_eq!(after, outside);
        assert!(word & ODD == ODD, "{word:#x}");
    }

    #[test]
    fn the_mode_of_the_host_is_back_after_a_panic() {
        let (caught, after) = oddly(|| {
            let caught = catch_unwind(|| default_float_mode(|| panic!("on purpose")));
            (caught.is_err(), samples())
        });
        assert!(caught);
        assert_eq!(after, oddly(samples));
    }

    #[test]
    fn calls_may_be_nested() {
        let between = oddly(|| {
            default_float_mode(|| {
                default_float_mode(samples);
                samples()
            })
        });
        assert_eq!(between, samples());
    }
}
