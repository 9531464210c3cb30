//! Orders of computation that keep few values at a time.

use std::ops::Range;

use super::builder::Builder;
use super::shapes::place;
use super::{Family, Softmax};
use crate::{Error, Result};

/// In which order the vertices of a [`Family`] are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// As they are numbered.
    Natural,
    /// In blocks; not for chains, trees and random graphs.
    ///
    /// | family | `block` |
    /// |---|---|
    /// | product of matrices | rows and columns of C that are summed up at a time |
    /// | butterflies | points that are taken through as many stages as they allow, a power of two from 2 |
    /// | grid | columns that are taken through all rows |
    /// | stencil, pyramid | the same in coordinates in which every operand is to the left or below |
    /// | attention | queries that share a pass over the keys |
    /// | its gradient | keys that share a pass over the queries |
    Blocked {
        /// How large they are.
        block: usize,
    },
    /// Halved again and again, for all sizes of memory at once: products of matrices along the longest
    /// side, butterflies along their stages.
    Recursive,
}

impl Family {
    /// The vertices that are computed, sources left out, in this order; nothing if the family has none of
    /// that kind. O(V).
    ///
    /// # Errors
    ///
    /// [`Error::Domain`] for the sizes or the block.
    pub fn order(&self, order: Order) -> Result<Option<Vec<u32>>> {
        self.check()?;
        if let Order::Blocked { block } = order {
            let fft = matches!(self, Self::Fft { .. });
            if fft && (block < 2 || !block.is_power_of_two()) {
                let requires = "a power of two, at least 2";
                return Err(Error::Domain { name: "block", requires, found: block as f64 });
            }
            if block == 0 {
                return Err(Error::Domain { name: "block", requires: "at least 1", found: 0.0 });
            }
        }
        let pieces = || {
            let mut builder = Builder::of_pieces();
            self.build(&mut builder);
            let mut pieces = Pieces { pieces: builder.pieces(), order: vec![] };
            pieces.order.reserve(self.size() as usize);
            pieces
        };
        Ok(match (order, *self) {
            (Order::Natural, _) => Some((self.inputs()..self.size() as u32).collect()),
            (Order::Blocked { block }, Self::Matmul { m, n, k, .. }) => {
                Some(matmul(pieces(), [m, n, k], block))
            }
            (Order::Blocked { block }, Self::Attention { n, softmax, .. }) => {
                Some(attention(pieces(), n, softmax == Softmax::Safe, block))
            }
            (Order::Blocked { block }, Self::AttentionGrad { n, .. }) => {
                Some(gradient(pieces(), n, block))
            }
            (Order::Blocked { block }, Self::Fft { n }) => {
                let most = block.trailing_zeros();
                Some(fft(pieces(), n, &|stages| if stages > most { most } else { 1 }))
            }
            (Order::Blocked { block }, Self::Grid { rows, columns }) => {
                let mut order = bands(pieces(), &(0..rows).map(|_| (0, columns)), block);
                order.retain(|&v| v > 0);
                Some(order)
            }
            (Order::Blocked { block }, Self::Stencil { width, steps }) => {
                Some(bands(pieces(), &(0..steps).map(|step| (step, width)), block))
            }
            (Order::Blocked { block }, Self::Pyramid { height }) => {
                Some(bands(pieces(), &(0..height).map(|row| (row, height - row)), block))
            }
            (Order::Recursive, Self::Matmul { m, n, k, .. }) => {
                let mut pieces = pieces();
                halve(&mut pieces, n, k, [0..m, 0..n, 0..k]);
                Some(pieces.order)
            }
            (Order::Recursive, Self::Fft { n }) => Some(fft(pieces(), n, &|stages| stages / 2)),
            _ => None,
        })
    }

    /// How many sources: they are numbered first.
    pub(super) fn inputs(&self) -> u32 {
        let inputs = match *self {
            Self::Chain { .. } | Self::Grid { .. } => 1,
            Self::Tree { height } => 1 << height,
            Self::Pyramid { height } => height + 1,
            Self::Stencil { width, .. } => width,
            Self::Fft { n } => n,
            Self::Matmul { m, n, k, .. } => k * (m + n),
            Self::Attention { n, d, .. } => 3 * n * d,
            Self::AttentionGrad { n, d, .. } => n * (5 * d + 1),
            Self::Random { sources, .. } => sources,
        };
        inputs as u32
    }
}

/// The pieces of a computation, as numbered, and those that have been put in order.
struct Pieces {
    pieces: Vec<Range<u32>>,
    order: Vec<u32>,
}

impl Pieces {
    fn take(&mut self, piece: usize) {
        self.order.extend(self.pieces[piece].clone());
    }
}

fn blocks(length: usize, block: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(block).map(move |first| first..length.min(first.saturating_add(block)))
}

fn matmul(mut pieces: Pieces, [m, n, k]: [usize; 3], block: usize) -> Vec<u32> {
    for rows in blocks(m, block) {
        for columns in blocks(n, block) {
            for l in 0..k {
                for i in rows.clone() {
                    columns.clone().for_each(|j| pieces.take((i * n + j) * k + l));
                }
            }
        }
    }
    pieces.order
}

/// The longest side is halved; terms of a sum stay in order.
fn halve(pieces: &mut Pieces, n: usize, k: usize, sides: [Range<usize>; 3]) {
    let lengths = sides.clone().map(|side| side.len());
    if lengths == [1; 3] {
        return pieces.take((sides[0].start * n + sides[1].start) * k + sides[2].start);
    }
    // Of equals the first.
    let longest = (0..3).rev().max_by_key(|&side| lengths[side]).expect("there are three");
    let middle = sides[longest].start + lengths[longest] / 2;
    let (mut lower, mut upper) = (sides.clone(), sides);
    lower[longest].end = middle;
    upper[longest].start = middle;
    halve(pieces, n, k, lower);
    halve(pieces, n, k, upper);
}

fn attention(mut pieces: Pieces, n: usize, safe: bool, block: usize) -> Vec<u32> {
    // Per query: keys, once or twice, and the division.
    let passes = if safe { 2 } else { 1 };
    let per_query = passes * n + 1;
    for queries in blocks(n, block) {
        for j in 0..passes * n {
            queries.clone().for_each(|i| pieces.take(i * per_query + j));
        }
        queries.for_each(|i| pieces.take(i * per_query + passes * n));
    }
    pieces.order
}

fn gradient(mut pieces: Pieces, n: usize, block: usize) -> Vec<u32> {
    (0..n).for_each(|i| pieces.take(i));
    for keys in blocks(n, block) {
        for i in 0..n {
            keys.clone().for_each(|j| pieces.take(n + j * n + i));
        }
    }
    pieces.order
}

/// Bands of points, each taken through all rows; a row is how far it is moved to the right, and its length.
fn bands(
    mut pieces: Pieces,
    rows: &(impl Iterator<Item = (usize, usize)> + Clone),
    block: usize,
) -> Vec<u32> {
    let width = rows.clone().map(|(shift, length)| shift + length).max().unwrap_or(0);
    for band in blocks(width, block) {
        let mut first = 0;
        for (shift, length) in rows.clone() {
            let points = band.start.max(shift)..band.end.min(shift + length);
            points.for_each(|at| pieces.take(first + at - shift));
            first += length;
        }
    }
    pieces.order
}

/// Butterflies in recursive order; `split` tells how many of several stages come first.
fn fft(mut pieces: Pieces, n: usize, split: &dyn Fn(u32) -> u32) -> Vec<u32> {
    stages(&mut pieces, n, 0..n.trailing_zeros(), 0, split);
    pieces.order
}

/// Takes points that differ from `base` in the bits of these stages through them.
fn stages(
    pieces: &mut Pieces,
    n: usize,
    bits: Range<u32>,
    base: usize,
    split: &dyn Fn(u32) -> u32,
) {
    match bits.end - bits.start {
        0 => {}
        1 => pieces.take(bits.start as usize * (n / 2) + place(base, bits.start) / 2),
        count => {
            let middle = bits.start + split(count);
            for high in 0..1 << (bits.end - middle) {
                stages(pieces, n, bits.start..middle, base | high << middle, split);
            }
            for low in 0..1 << (middle - bits.start) {
                stages(pieces, n, middle..bits.end, base | low << bits.start, split);
            }
        }
    }
}
