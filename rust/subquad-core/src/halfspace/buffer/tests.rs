use super::*;

/// Beyond the size from which blocks come from the system.
const LARGE: usize = 5 << 20;

/// What lies behind the end, as a kernel would read it.
fn slack<T: Pod>(buf: &Buf<T>) -> [u8; SLACK] {
    // SAFETY: so many bytes behind the values can be read.
    unsafe { buf.ptr().add(buf.len()).cast::<[u8; SLACK]>().read() }
}

fn map(bytes: &[u8]) -> Arc<Mmap> {
    let mut pages = memmap2::MmapMut::map_anon(bytes.len()).unwrap();
    pages.copy_from_slice(bytes);
    Arc::new(pages.make_read_only().unwrap())
}

#[test]
fn every_length_is_aligned_zeroed_and_readable_beyond_its_end() {
    for len in [0, 1, 63, 64, 65, 1000, LARGE, LARGE + 1] {
        let buf = Buf::<u8>::try_with_len(len).unwrap();
        let page = if len < LARGE { 64 } else { 2 << 20 };
        assert!(buf.ptr().addr().is_multiple_of(page), "{len} bytes");
        assert_eq!(buf.len(), len);
        assert!(buf.iter().chain(&slack(&buf)).all(|&byte| byte == 0), "{len} bytes");
    }
}

#[test]
fn growth_keeps_values_and_leaves_zeros_behind_them() {
    let mut buf = Buf::<u32>::new();
    let mut plain = Vec::new();
    // From nothing over small blocks into large ones.
    for step in [0_u32, 1, 15, 16, 17, 1000, 1 << 20, 3 << 19] {
        let values: Vec<u32> = (0..step).map(|i| i.wrapping_mul(0x9E37_79B9) ^ step).collect();
        buf.extend_from_slice(&values);
        plain.extend_from_slice(&values);
        assert_eq!(&buf[..], &plain[..]);
        assert_eq!(slack(&buf), [0; SLACK]);
        assert!(buf.ptr().addr().is_multiple_of(64));
    }
}

#[test]
fn repeated_growth_moves_rarely() {
    let mut buf = Buf::<i64>::new();
    let mut places = std::collections::BTreeSet::new();
    for i in 0..10_000 {
        buf.extend_from_slice(&[i]);
        places.insert(buf.ptr().addr());
    }
    assert!(buf.iter().copied().eq(0..10_000));
    assert!(places.len() < 20, "moved {} times", places.len());
}

#[test]
fn what_was_cut_off_is_zero_when_it_comes_back() {
    for len in [40, LARGE] {
        let mut buf = Buf::try_from_slice(&vec![7_u8; len]).unwrap();
        buf.resize(len - 30);
        assert_eq!(slack(&buf)[..30], [0; 30]);
        buf.resize(len);
        assert_eq!(buf[len - 31..][..2], [7, 0]);
        buf.resize(0);
        assert!(buf.is_empty());
    }
}

#[test]
fn reserved_room_is_filled_in_place() {
    let mut buf = Buf::try_from_slice(&[1_u16, 2, 3]).unwrap();
    buf.try_reserve(5000).unwrap();
    let place = buf.ptr();
    buf.extend_from_slice(&[4; 5000]);
    assert_eq!(buf.ptr(), place);
    assert_eq!(buf[..4], [1, 2, 3, 4]);
}

#[test]
fn a_copy_is_another_array() {
    let one = Buf::try_from_slice(&[1.5_f32, -0.0, f32::NAN]).unwrap();
    let mut other = one.clone();
    other.to_mut()[0] = 2.0;
    assert_eq!((one[0], other[0]), (1.5, 2.0));
    assert_eq!(one.bytes()[4..], other.bytes()[4..]);
}

#[test]
fn bytes_are_the_values() {
    let buf = Buf::try_from_slice(&[0x0102_0304_u32, 5]).unwrap();
    assert_eq!(buf.bytes(), [0x0102_0304_u32.to_ne_bytes(), 5_u32.to_ne_bytes()].as_flattened());
    assert_eq!(Buf::<f64>::new().bytes(), [0; 0]);
}

#[test]
fn pages_of_a_file_are_shared_until_they_are_changed() {
    let content: Vec<u8> = (0..=255).collect();
    let file = map(&content);
    let mut buf = Buf::<u16>::of_file(&file, 64..72).unwrap();
    let copy = buf.clone();
    assert!(buf.is_mapped() && copy.is_mapped());
    assert_eq!((buf.ptr(), buf.len()), (copy.ptr(), 4));
    assert_eq!(buf.bytes(), &content[64..72]);
    assert_eq!(slack(&buf)[..], content[72..136]);

    buf.to_mut()[0] = 0;
    assert!(!buf.is_mapped() && copy.is_mapped());
    assert_eq!(buf.bytes()[2..], copy.bytes()[2..]);
    assert_ne!(buf[0], copy[0]);
    assert_eq!(file[..], content[..]);
    // The last view keeps the file mapped.
    drop(file);
    assert_eq!(copy.bytes(), &content[64..72]);
}

#[test]
fn growing_or_cutting_pages_of_a_file_copies_them() {
    let file = map(&[9; 256]);
    for len in [2, 64, 70] {
        let mut buf = Buf::<u8>::of_file(&file, 0..64).unwrap();
        buf.resize(len);
        assert!(!buf.is_mapped());
        assert!(buf.iter().enumerate().all(|(i, &x)| x == if i < 64 { 9 } else { 0 }));
        assert_eq!(buf.len(), len);
        assert_eq!(slack(&buf), [0; SLACK]);
    }
}

#[test]
fn parts_of_a_file_that_would_break_a_kernel_are_refused() {
    let file = map(&[1; 256]);
    assert!(Buf::<u32>::of_file(&file, 0..192).is_some());
    assert!(Buf::<u32>::of_file(&file, 192..192).is_some());
    for range in [1..5, 32..64, 0..6, 0..193, 128..196, 256..256, 64..usize::MAX] {
        assert!(Buf::<u32>::of_file(&file, range.clone()).is_none(), "{range:?}");
    }
}

#[test]
fn more_than_there_is_is_an_error() {
    for len in [usize::MAX, usize::MAX / 8, usize::MAX / 16, usize::MAX / 32] {
        assert!(matches!(Buf::<f64>::try_with_len(len), Err(Error::Memory { .. })), "{len}");
        let mut buf = Buf::try_from_slice(&[1_u8]).unwrap();
        if len > usize::MAX / 16 {
            assert!(matches!(buf.try_resize(len), Err(Error::Memory { .. })), "{len}");
        }
        assert_eq!(buf[..], [1], "an array that could not grow is as it was");
    }
}
