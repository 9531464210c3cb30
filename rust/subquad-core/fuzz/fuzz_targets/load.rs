//! Saved indices that somebody has meddled with: reading them, and using what could be read, must
//! neither panic nor leave its arrays. Lengths and checksums are made right again, or no change would
//! get past them.
//!
//! `cargo +nightly fuzz run load`, from the folder of the crate.

#![no_main]

mod numbers;

use half::{bf16, f16};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use numbers::numbers;
use subquad_core::Par;
use subquad_core::halfspace::{Index, KeyType, Method};
use subquad_core::mat::{MatRef, Rows};

fuzz_target!(|data: &[u8]| {
    let _ = Index::from_bytes(data);
    // Too few bytes for the choices is no input.
    let _ = meddle(&mut Unstructured::new(data));
});

fn meddle(u: &mut Unstructured<'_>) -> Result<()> {
    let index = build(u)?;
    let file = index.to_bytes().expect("a small index fits into memory");
    let mut sections = sections(&file);
    assert_eq!(assemble(&file, &sections), file);
    for _ in 0..u.int_in_range(0..=4)? {
        change(u, &mut sections)?;
    }
    match Index::from_bytes(&assemble(&file, &sections)) {
        Ok(index) => exercise(u, index),
        Err(_) => Ok(()),
    }
}

/// Keys of any type: some removed and forgotten, some removed.
fn build(u: &mut Unstructured<'_>) -> Result<Index> {
    // Beyond the number from which a basis is learnt.
    let (n, d) = (u.int_in_range(0..=330)?, u.int_in_range(1..=20)?);
    let kind = *u.choose(&[KeyType::F32, KeyType::F16, KeyType::Bf16])?;
    let method = *u.choose(&Method::ALL)?;
    let method = if method == Method::Tree && d > 12 { Method::Auto } else { method };
    let keys = finite(u, n * d)?;
    let mut index = with_rows(kind, &keys, d, |rows| {
        Index::new(rows, None, method, Par::seq()).expect("finite keys")
    });
    let (first, second): (Vec<i64>, Vec<i64>) =
        (0..n as i64).filter(|id| id % 5 == 3).partition(|id| id % 2 == 0);
    if u.arbitrary()? {
        index.remove(&first).expect("ids that are there");
        index.compact(Par::seq()).expect("nobody asks to stop");
    }
    index.remove(&second).expect("ids that are there");
    Ok(index)
}

/// Calls `work` with rows of `d` numbers, which are finite in every type.
fn with_rows<R>(kind: KeyType, x: &[f32], d: usize, work: impl FnOnce(Rows<'_>) -> R) -> R {
    let n = x.len() / d;
    let narrow: Vec<_> = x.iter().map(|&x| f16::from_f32(x)).collect();
    let brain: Vec<_> = x.iter().map(|&x| bf16::from_f32(x)).collect();
    work(match kind {
        KeyType::F32 => Rows::F32(MatRef::from_slice(x, n, d)),
        KeyType::F16 => Rows::F16(MatRef::from_slice(&narrow, n, d)),
        KeyType::Bf16 => Rows::Bf16(MatRef::from_slice(&brain, n, d)),
    })
}

/// Numbers that float16 holds.
fn finite(u: &mut Unstructured<'_>, len: usize) -> Result<Vec<f32>> {
    let bounded = |x: f32| if x.is_nan() { 0.0 } else { x.clamp(-6e4, 6e4) };
    Ok(numbers(u, len)?.into_iter().map(bounded).collect())
}

/// Name and bytes.
type Section = ([u8; 8], Vec<u8>);

/// The sections of a sound file.
fn sections(file: &[u8]) -> Vec<Section> {
    let number = |at: usize| u64::from_ne_bytes(file[at..at + 8].try_into().expect("8 bytes"));
    let count = number(24) as u32 as usize;
    (1..=count)
        .map(|i| 32 * i)
        .map(|entry| {
            let (begin, len) = (number(entry + 8) as usize, number(entry + 16) as usize);
            (number(entry).to_ne_bytes(), file[begin..begin + len].to_vec())
        })
        .collect()
}

/// A file of the same kind as another, of these sections.
fn assemble(other: &[u8], sections: &[Section]) -> Vec<u8> {
    let (mut front, mut body) = (other[..16].to_vec(), Vec::new());
    let size = (32 * (1 + sections.len())).next_multiple_of(64);
    front.extend([0; 8]);
    front.extend((sections.len() as u32).to_ne_bytes());
    front.extend([0; 4]);
    for (name, bytes) in sections {
        front.extend(name);
        front.extend(((size + body.len()) as u64).to_ne_bytes());
        front.extend((bytes.len() as u64).to_ne_bytes());
        front.extend(crc32fast::hash(bytes).to_ne_bytes());
        front.extend([0; 4]);
        body.extend(bytes);
        body.resize(body.len().next_multiple_of(64) + 64, 0);
    }
    front.resize(size, 0);
    front[16..24].copy_from_slice(&((size + body.len()) as u64).to_ne_bytes());
    let checksum = crc32fast::hash(&front);
    front[28..32].copy_from_slice(&checksum.to_ne_bytes());
    [front, body].concat()
}

/// Another byte or number in a section, another length, the content of another, or none of it.
fn change(u: &mut Unstructured<'_>, sections: &mut Vec<Section>) -> Result<()> {
    if sections.is_empty() {
        return Ok(());
    }
    let (i, j) = (u.choose_index(sections.len())?, u.choose_index(sections.len())?);
    let kind = u.int_in_range(0..=5)?;
    let other = sections[j].1.clone();
    let bytes = &mut sections[i].1;
    match kind {
        0 | 1 if bytes.is_empty() => {}
        0 => {
            let at = u.choose_index(bytes.len())?;
            bytes[at] = u.arbitrary()?;
        }
        1 => {
            // Close to zero, as lengths and indices are, or anything.
            let small = i64::from(u.arbitrary::<i16>()?) as u64;
            let number = if u.arbitrary()? { small } else { u.arbitrary()? };
            let at = u.choose_index(bytes.len().div_ceil(8))? * 8;
            let size = (bytes.len() - at).min(8);
            bytes[at..at + size].copy_from_slice(&number.to_ne_bytes()[..size]);
        }
        2 => bytes.resize(u.int_in_range(0..=bytes.len() + 64)?, u.arbitrary()?),
        3 => *bytes = other,
        4 => sections.swap(i, j),
        _ => drop(sections.remove(i)),
    }
    Ok(())
}

/// Everything that an index can do.
fn exercise(u: &mut Unstructured<'_>, mut index: Index) -> Result<()> {
    let (d, par) = (index.dim(), Par::seq());
    let queries = finite(u, 3 * d)?;
    let queries = MatRef::from_slice(&queries, 3, d);
    let thresholds = [0.0, f64::from(u.arbitrary::<i16>()?), f64::NEG_INFINITY];
    let strict = u.arbitrary()?;
    index.report_batch(queries, &thresholds, strict, par).expect("finite queries");
    index.topk(queries, index.len().min(3), par).expect("so many keys");
    for (i, threshold) in thresholds.into_iter().enumerate() {
        let query = queries.row(i);
        let ids = index.report(query, threshold, strict, par).expect("a finite query").ids;
        index.count(query, threshold, strict, par).expect("a finite query");
        index.scores(query, &ids).expect("ids that were reported");
        index.remove(&ids[..ids.len() / 2]).expect("ids that were reported");
        let keys = finite(u, 2 * d)?;
        with_rows(index.key_type(), &keys, d, |rows| index.add(rows, par)).expect("finite keys");
        if u.arbitrary()? {
            index.compact(par).expect("nobody asks to stop");
        }
    }
    index.stats();
    let file = index.to_bytes().expect("a small index fits into memory");
    Index::from_bytes(&file).expect("what was saved is sound");
    Ok(())
}
