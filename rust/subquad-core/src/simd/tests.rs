//! Every vector type against plain arithmetic on its lanes, as far as this machine has it.

use half::{bf16, f16};

use super::{Exp2, Float, Isa, Lanes, Level, transpose};

fn lanes<V: Lanes>(x: V) -> Vec<f64> {
    let mut lanes = [V::T::ZERO; 16];
    // SAFETY: there is room for the widest vector.
    unsafe { x.store(lanes.as_mut_ptr()) };
    lanes[..V::N].iter().map(|&x| Float::to_f64(x)).collect()
}

/// Lanes `f(0), f(1), ...`.
fn vector<V: Lanes>(f: impl Fn(usize) -> f64) -> V {
    let lanes: [V::T; 16] = std::array::from_fn(|i| V::T::from_f64(f(i)));
    // SAFETY: the callers have checked the instruction set.
    unsafe { V::load(lanes.as_ptr()) }
}

fn expected<V: Lanes>(f: impl Fn(usize) -> f64) -> Vec<f64> {
    (0..V::N).map(f).collect()
}

fn arithmetic<V: Lanes>() {
    let (f, g) = (|i: usize| i as f64 + 1.0, |i: usize| 3.0 - i as f64);
    let (a, b) = (vector::<V>(f), vector::<V>(g));
    assert_eq!(lanes(a.add(b)), expected::<V>(|i| f(i) + g(i)));
    assert_eq!(lanes(a.sub(b)), expected::<V>(|i| f(i) - g(i)));
    assert_eq!(lanes(a.mul(b)), expected::<V>(|i| f(i) * g(i)));
    assert_eq!(lanes(a.fma(b, a)), expected::<V>(|i| f(i) * g(i) + f(i)));
    assert_eq!(lanes(a.max(b)), expected::<V>(|i| f(i).max(g(i))));
    assert_eq!(Float::to_f64(a.sum()), (V::N * (V::N + 1) / 2) as f64);
    for at in 0..V::N {
        let peak = vector::<V>(|i| if i == at { 2.0 } else { -(i as f64) });
        assert_eq!(Float::to_f64(peak.largest()), 2.0, "lane {at}");
    }
    assert!(a.any_gt(vector(|_| 1.5)) && !b.any_gt(vector(|_| 3.0)));
    let nan = vector::<V>(|_| f64::NAN);
    assert_eq!(lanes(b.abs()), expected::<V>(|i| g(i).abs()));
    let at_least = (0..V::N).fold(0, |bits, i| bits | u32::from(f(i) >= g(i)) << i);
    assert_eq!((a.ge_bits(b), nan.ge_bits(a), a.ge_bits(nan)), (at_least, 0, 0));
    assert_eq!(lanes(nan.max(a)), lanes(a), "the second operand where either is NaN");
}

fn hiding<V: Lanes>() {
    let a = vector::<V>(|i| i as f64);
    for from in -2..=V::N as i32 + 1 {
        for to in -2..=V::N as i32 + 1 {
            let inside = |i: usize| from <= i as i32 && (i as i32) < to;
            let kept = expected::<V>(|i| if inside(i) { i as f64 } else { f64::NEG_INFINITY });
            assert_eq!(lanes(a.keep(from, to)), kept);
        }
    }
    let hidden = vector::<V>(|_| f64::NEG_INFINITY);
    let nearly = |x: f64| vector::<V>(|i| if i == V::N - 1 { x } else { f64::NEG_INFINITY });
    assert!(hidden.all_hidden());
    assert!(!nearly(0.0).all_hidden() && !nearly(f64::NAN).all_hidden());
}

fn order<V: Lanes>() {
    let mut rows: [V; 16] = std::array::from_fn(|i| vector(|j| (100 * i + j) as f64));
    transpose(&mut rows);
    for (i, row) in rows[..V::N].iter().enumerate() {
        assert_eq!(lanes(*row), expected::<V>(|j| (100 * j + i) as f64));
    }
    let swapped = vector::<V>(|i| i as f64).swap_pairs();
    assert_eq!(lanes(swapped), expected::<V>(|i| (i ^ 1) as f64));
}

/// Where the widest vector has a place of its own.
#[repr(align(64))]
struct Line<T>([T; 16]);

fn loads<V: Lanes>() {
    let numbers: [f64; 16] = std::array::from_fn(|i| 0.5 * i as f64 - 3.0);
    let want = expected::<V>(|i| numbers[i]);
    let mask: [u8; 16] = std::array::from_fn(|i| (i % 3) as u8);
    // SAFETY: the arrays are as long as the widest vector.
    unsafe {
        assert_eq!(lanes(V::load_f32(numbers.map(|x| x as f32).as_ptr())), want);
        assert_eq!(lanes(V::load_f64(numbers.as_ptr())), want);
        assert_eq!(lanes(V::load_f16(numbers.map(f16::from_f64).as_ptr())), want);
        assert_eq!(lanes(V::load_bf16(numbers.map(bf16::from_f64).as_ptr())), want);
        let seen = |i: usize| if i.is_multiple_of(3) { f64::NEG_INFINITY } else { 0.0 };
        assert_eq!(lanes(V::load_mask(mask.as_ptr())), expected::<V>(seen));
        let mut line = Line([V::T::ZERO; 16]);
        V::load_f64(numbers.as_ptr()).stream(line.0.as_mut_ptr());
        V::drain();
        assert_eq!(lanes(V::load(line.0.as_ptr())), want);
        let huge = lanes(V::load_f64([-1.7e308; 16].as_ptr()));
        assert!(huge.iter().all(|x| x.is_finite()), "what is finite stays finite");
    }
}

/// The exponential is as close as the certificate says: the polynomial's error and eight roundings.
fn exponential<V: Lanes>() {
    let allowed = V::T::EXP2_ERROR + 8.0 * V::T::UNIT_ROUNDOFF;
    let step = 1.0 / 128.0;
    for block in 0..2000 {
        let x = |i: usize| -((block * V::N + i) as f64) * step / 2.0 + 8.0;
        let x = |i: usize| Float::to_f64(V::T::from_f64(x(i)));
        for (i, y) in lanes(vector::<V>(x).exp2(Exp2::table())).into_iter().enumerate() {
            let exact = x(i).exp2();
            if exact > 2.0 * V::T::SMALLEST_NORMAL {
                assert!((y / exact - 1.0).abs() <= allowed, "2^{} is {y}", x(i));
            } else {
                assert!((y - exact).abs() <= 2.0 * V::T::SMALLEST_NORMAL);
            }
        }
    }
    let hidden = lanes(vector::<V>(|_| f64::NEG_INFINITY).exp2(Exp2::table()));
    assert_eq!(hidden, expected::<V>(|_| 0.0));
    let nan = lanes(vector::<V>(|_| f64::NAN).exp2(Exp2::table()));
    assert!(nan.iter().all(|x| x.is_nan()));
    assert_eq!(lanes(vector::<V>(|_| 0.0).exp2(Exp2::table())), expected::<V>(|_| 1.0));
}

fn all<V: Lanes>() {
    arithmetic::<V>();
    hiding::<V>();
    order::<V>();
    loads::<V>();
    exponential::<V>();
}

#[test]
fn portable_vectors_do_what_they_say() {
    all::<super::portable::F32x4>();
    all::<super::portable::F64x2>();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx2_vectors_do_what_they_say() {
    if Isa::detect().0 >= Level::V3 {
        all::<super::avx2::F32x8>();
        all::<super::avx2::F64x4>();
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx512_vectors_do_what_they_say() {
    if Isa::detect().0 >= Level::V4 {
        all::<super::avx512::F32x16>();
        all::<super::avx512::F64x8>();
    }
}
