//! The keys of a tree that is being built, and along what they may be split.

use super::layout::MAX_DIM;
use super::node::Scale;
use crate::halfspace::keys::Keys;

/// Keys that the scale is taken from, and that tell along what to split.
const SAMPLE: usize = 1 << 16;

/// How much a distance from the centre counts beside a coordinate. By distances, the shells far out are
/// split from the bulk, which half-spaces that report little do not meet. 3 to 6 do about as well.
const RADIAL: f64 = 4.0;

/// Keys, each with its distance from their centre as one more coordinate.
pub struct Source<'a> {
    keys: &'a Keys,
    pub dim: usize,
    pub scale: Scale,
    /// What a distance is multiplied with to compare it with coordinates.
    radial: f64,
}

impl<'a> Source<'a> {
    /// Slots `first .. first + len`.
    pub fn new(keys: &'a Keys, first: usize, len: usize) -> Self {
        let dim = keys.dim();
        let step = len.div_ceil(SAMPLE);
        let mut mean = [0.0; MAX_DIM];
        let mut row = [0.0; MAX_DIM];
        let sampled = || (first..first + len).step_by(step);
        let count = sampled().len() as f64;
        for slot in sampled() {
            keys.widen(slot, &mut row[..dim]);
            (0..dim).for_each(|j| mean[j] += f64::from(row[j]) / count);
        }
        let centre = mean.map(|x| x as f32);
        let mut variance = [0.0; MAX_DIM];
        for slot in sampled() {
            keys.widen(slot, &mut row[..dim]);
            for j in 0..dim {
                let x = f64::from(row[j]) - f64::from(centre[j]);
                variance[j] += x * x / count;
            }
        }
        let largest = variance.iter().fold(0.0, |a: f64, &b| a.max(b));
        let deviation = |j: usize| if variance[j] > 0.0 { variance[j] } else { largest }.sqrt();
        let mut weight = [1.0; MAX_DIM];
        for j in 0..dim {
            if largest > 0.0 {
                weight[j] = 2_f32.powi((-deviation(j).log2().round()).clamp(-126.0, 126.0) as i32);
            }
        }
        let unit = |j: usize| 1.0 / f64::from(weight[j]);
        let units = (0..dim).map(|j| unit(j) * unit(j)).sum::<f64>() / dim as f64;
        let scale = Scale { centre, weight };
        Self { keys, dim, scale, radial: RADIAL * units.sqrt() }
    }

    /// Numbers of a [`row`](Self::row).
    pub fn width(&self) -> usize {
        self.dim + 1
    }

    /// A key, and its distance to be compared with the coordinates.
    #[inline(always)]
    pub fn row(&self, slot: u32, row: &mut [f32]) {
        self.keys.widen(slot as usize, &mut row[..self.dim]);
        row[self.dim] = (self.radial * self.scale.reach(&row[..self.dim]).sqrt()) as f32;
    }

    /// One number of a row.
    #[inline(always)]
    pub fn coordinate(&self, slot: u32, axis: usize) -> f32 {
        let mut row = [0.0; MAX_DIM + 1];
        if axis < self.dim {
            self.keys.widen(slot as usize, &mut row[..self.dim]);
        } else {
            self.row(slot, &mut row[..self.width()]);
        }
        row[axis]
    }
}

/// Along which of its `width` columns do some rows differ most?
pub fn widest(width: usize, rows: impl Iterator<Item = impl AsRef<[f32]>>) -> usize {
    let (mut low, mut high) = ([f32::INFINITY; MAX_DIM + 1], [f32::NEG_INFINITY; MAX_DIM + 1]);
    for row in rows {
        for (j, &x) in row.as_ref()[..width].iter().enumerate() {
            low[j] = low[j].min(x);
            high[j] = high[j].max(x);
        }
    }
    let extent = |j: usize| f64::from(high[j]) - f64::from(low[j]);
    (1..width).fold(0, |best, j| if extent(j) > extent(best) { j } else { best })
}

/// An integer that orders as the number does, zeros of either sign alike.
#[inline(always)]
pub fn ordered(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}
