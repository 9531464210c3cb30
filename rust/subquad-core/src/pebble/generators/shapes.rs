//! Chains, trees, pyramids, grids, stencils, butterflies, products of matrices, and random graphs.

use super::super::random::Random;
use super::Form;
use super::builder::{Builder, Sum};

pub(super) fn chain(b: &mut Builder, length: usize) {
    let mut last = b.vertex("x", &[0], &[]);
    for i in 1..=length {
        last = b.vertex("x", &[i], &[last]);
    }
    b.output(last);
}

pub(super) fn tree(b: &mut Builder, height: usize) {
    let leaves = 1 << height;
    for i in 0..leaves {
        b.vertex("x", &[0, i], &[]);
    }
    // Subtrees that wait for their right neighbour: level, number in it, vertex.
    let mut waiting: Vec<(usize, usize, u32)> = vec![];
    for leaf in 0..leaves {
        waiting.push((0, leaf, leaf as u32));
        while let [.., (x, i, left), (y, _, right)] = waiting[..] {
            if x != y {
                break;
            }
            waiting.truncate(waiting.len() - 2);
            let v = b.vertex("x", &[x + 1, i / 2], &[left, right]);
            waiting.push((x + 1, i / 2, v));
        }
    }
    b.output(waiting[0].2);
}

pub(super) fn pyramid(b: &mut Builder, height: usize) {
    let mut below = b.input("x", 1, height + 1).at(0, 0);
    for row in 1..=height {
        for i in 0..=height - row {
            b.piece();
            let left = below + i as u32;
            b.vertex("x", &[row, i], &[left, left + 1]);
        }
        below += (height + 2 - row) as u32;
    }
    b.output(below);
}

pub(super) fn grid(b: &mut Builder, rows: usize, columns: usize) {
    for row in 0..rows {
        for column in 0..columns {
            b.piece();
            let v = (row * columns + column) as u32;
            let above = (row > 0).then(|| v - columns as u32);
            let left = (column > 0).then(|| v - 1);
            let operands: Vec<u32> = above.into_iter().chain(left).collect();
            b.vertex("x", &[row, column], &operands);
        }
    }
    b.output((rows * columns - 1) as u32);
}

pub(super) fn stencil(b: &mut Builder, width: usize, steps: usize) {
    b.input("x", 1, width);
    for step in 1..=steps {
        let below = (step - 1) * width;
        for i in 0..width {
            b.piece();
            let near = i.saturating_sub(1)..(i + 2).min(width);
            let operands = near.map(|j| (below + j) as u32).collect::<Vec<_>>();
            b.vertex("x", &[step, i], &operands);
        }
    }
    (0..width).for_each(|i| b.output((steps * width + i) as u32));
}

/// Point number `at` of the order in which those that differ in a bit are neighbours.
pub(super) fn paired(at: usize, bit: u32) -> usize {
    let (pair, upper) = (at / 2, at % 2);
    let low = pair & ((1 << bit) - 1);
    ((pair - low) << 1) | (upper << bit) | low
}

/// Where a point is in that order.
pub(super) fn place(point: usize, bit: u32) -> usize {
    let low = point & ((1 << bit) - 1);
    ((((point >> (bit + 1)) << bit) | low) << 1) | ((point >> bit) & 1)
}

pub(super) fn fft(b: &mut Builder, n: usize) {
    let stages = n.trailing_zeros();
    b.input("x", 1, n);
    for stage in 1..=stages {
        let bit = stage - 1;
        // The stage before is in the order of its own bit; the sources are in the order of points.
        let before = |point| if bit == 0 { point } else { place(point, bit - 1) };
        let first = bit as usize * n;
        for at in 0..n {
            let point = paired(at, bit);
            if at % 2 == 0 {
                b.piece();
            }
            let operands = [point, point ^ (1 << bit)].map(|i| (first + before(i)) as u32);
            b.vertex("x", &[stage as usize, point], &operands);
        }
    }
    (0..n).for_each(|i| b.output((stages as usize * n + i) as u32));
}

pub(super) fn matmul(b: &mut Builder, [m, n, k]: [usize; 3], form: Form) {
    let (left, right) = (b.input("A", m, k), b.input("B", k, n));
    for i in 0..m {
        for j in 0..n {
            let mut sum = Sum::new("C", [i, j], form, k);
            for l in 0..k {
                b.piece();
                sum.multiply(b, [left.at(i, l), right.at(l, j)]);
            }
            b.output(sum.value());
        }
    }
}

pub(super) fn random(
    b: &mut Builder,
    vertices: usize,
    sources: usize,
    [least, most]: [usize; 2],
    seed: u64,
) {
    let mut random = Random::new(seed);
    let mut used = vec![false; vertices];
    for v in 0..vertices {
        let drawn = if v < sources { 0 } else { least + random.below(most - least + 1) };
        let operands: Vec<u32> = (0..drawn).map(|_| random.below(v) as u32).collect();
        for &u in &operands {
            used[u as usize] = true;
        }
        b.vertex("x", &[v], &operands);
    }
    (sources..vertices).filter(|&v| !used[v]).for_each(|v| b.output(v as u32));
}
