//! The loops of [`peak`](super::peak) in the instructions of x86-64.
//!
//! Assembly, because a compiler is free to use fewer accumulators than there are registers. Each
//! function loads the registers from their image, runs `rounds` rounds (one at least) of one
//! instruction per accumulator, and stores them again. 12 accumulators of AVX2 and 24 of AVX-512
//! hide a latency of six cycles and more at two instructions a cycle.

use std::arch::asm;

use super::peak::Image;

/// Defines a function that repeats `$line`s on the registers `$register` with the numbers `$all`,
/// `$bytes` bytes each; `.irp` is the assembler's own loop, with `\r` running over a list.
macro_rules! register_loop {
    ($(#[$doc:meta])* $name:ident, $features:literal, $register:literal, $bytes:literal, $all:literal,
     [$($line:expr),* $(,)?]) => {
        $(#[$doc])*
        #[target_feature(enable = $features)]
        pub(super) fn $name(rounds: u32, image: &mut Image) {
            // SAFETY: the function has the features that its instructions need, the registers fit
            // into the image (16 of 32 bytes or 32 of 64), and all of them are declared clobbered.
            unsafe {
                asm!(
                    concat!(".irp r, ", $all),
                    concat!("vmovups ", $register, r"\r, [rdx + ", $bytes, r" * \r]"),
                    ".endr",
                    "2:",
                    $($line,)*
                    "dec ecx",
                    "jnz 2b",
                    concat!(".irp r, ", $all),
                    concat!("vmovups [rdx + ", $bytes, r" * \r], ", $register, r"\r"),
                    ".endr",
                    "vzeroupper",
                    inout("ecx") rounds => _,
                    in("rdx") image.as_mut_ptr(),
                    clobber_abi("sysv64"),
                    options(nostack),
                );
            }
        }
    };
}

/// 24 accumulators and 8 operands of 64 bytes.
macro_rules! zmm {
    ($(#[$doc:meta])* $name:ident, $features:literal, $instruction:literal) => {
        register_loop!(
            $(#[$doc])* $name, $features, "zmm", 64,
            "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            [
                ".irp r, 0,1,2,3,4,5",
                concat!($instruction, r" zmm\r, zmm24, zmm28"),
                ".endr",
                ".irp r, 6,7,8,9,10,11",
                concat!($instruction, r" zmm\r, zmm25, zmm29"),
                ".endr",
                ".irp r, 12,13,14,15,16,17",
                concat!($instruction, r" zmm\r, zmm26, zmm30"),
                ".endr",
                ".irp r, 18,19,20,21,22,23",
                concat!($instruction, r" zmm\r, zmm27, zmm31"),
                ".endr",
            ]
        );
    };
}

/// 12 accumulators and 4 operands of 32 bytes.
macro_rules! ymm {
    ($(#[$doc:meta])* $name:ident, $features:literal, $instruction:literal) => {
        register_loop!(
            $(#[$doc])* $name, $features, "ymm", 32, "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
            [
                ".irp r, 0,1,2,3",
                concat!($instruction, r" ymm\r, ymm12, ymm14"),
                ".endr",
                ".irp r, 4,5,6,7",
                concat!($instruction, r" ymm\r, ymm13, ymm15"),
                ".endr",
                ".irp r, 8,9,10,11",
                concat!($instruction, r" ymm\r, ymm12, ymm15"),
                ".endr",
            ]
        );
    };
}

zmm!(
    /// Multiply-add of 16 `f32`.
    fma_f32_v4, "avx512f", "vfmadd231ps"
);
zmm!(
    /// Multiply-add of 8 `f64`.
    fma_f64_v4, "avx512f", "vfmadd231pd"
);
zmm!(
    /// 64 products of bytes, added up in fours.
    dot_v4, "avx512f,avx512vnni", "vpdpbusd"
);
ymm!(
    /// Multiply-add of 8 `f32`.
    fma_f32_v3, "avx2,fma", "vfmadd231ps"
);
ymm!(
    /// Multiply-add of 4 `f64`.
    fma_f64_v3, "avx2,fma", "vfmadd231pd"
);
ymm!(
    /// 32 products of bytes, added up in fours.
    dot_v3, "avx2,avxvnni", "{{vex}} vpdpbusd"
);
register_loop!(
    /// 32 products of bytes, added up in pairs, and an addition to 16-bit accumulators: what AVX2
    /// has for bytes. Eight accumulators, four temporaries, four operands.
    pairs_v3, "avx2", "ymm", 32, "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    [
        ".irp r, 0,1,2,3",
        "vpmaddubsw ymm8, ymm12, ymm14",
        r"vpaddw ymm\r, ymm\r, ymm8",
        ".endr",
        ".irp r, 4,5,6,7",
        "vpmaddubsw ymm9, ymm13, ymm15",
        r"vpaddw ymm\r, ymm\r, ymm9",
        ".endr",
    ]
);
