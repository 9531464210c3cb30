//! Forward schedules that write the scores, and read them for the output.
//!
//! A panel of the output needs the scores of its rows, and those are computed just before, panel by panel of
//! their own height. So at most the scores of two panels are in slow memory at a time, not all n^2. The largest score
//! of a row and the sum of its exponentials are found while the first columns of the output are computed.

use super::fault::Step;
use super::memory::Memory;
use super::phases::{Product, Scores};
use super::planner::Search;
use super::problem::{Block, Forward, Problem, Traffic};
use super::slow::Array;
use super::softmax::Online;
use super::tile::Tile;
use super::visible::pieces;
use super::words::{Class, Words};

/// `out = softmax(scores) value`.
pub(super) fn execute<const DATA: bool>(
    p: &Problem,
    m: &mut Memory<DATA>,
    arrays: Forward,
    scores: &impl Scores,
    product: Product,
) -> Step {
    let stored = p.pairs_array(m, "scores");
    let mut panels = pieces(p.rows(), scores.rows());
    let mut done = 0;
    for rows in pieces(p.rows(), product.rows) {
        while done < rows.end {
            let panel = panels.next().expect("panels of scores cover all rows");
            done = panel.end;
            let operands = (arrays.query, arrays.key);
            scores.panel(p, m, operands, panel, |m, mut tile, block| {
                p.map::<DATA>(&mut tile, block, |_, _, score| score * p.scale);
                p.store_pairs(m, &tile, stored, block, true)?;
                m.free(tile);
                Ok(())
            })?;
        }
        out_panel(p, m, arrays, stored, product, &p.block(rows.clone(), 0..p.keys()))?;
        p.discard_pairs(m, stored, rows);
    }
    Ok(())
}

/// The output of a panel of rows, some columns at a time: with the first, softmax is found.
fn out_panel<const DATA: bool>(
    p: &Problem,
    m: &mut Memory<DATA>,
    arrays: Forward,
    scores: Array,
    product: Product,
    panel: &Block,
) -> Step {
    let rows = panel.rows.clone();
    let mut lse = None;
    for cols in pieces(p.width, product.columns) {
        let mut out = m.alloc(Class::Accumulator, rows.len(), cols.len())?;
        let mut online = if lse.is_none() { Some(Online::new(m, rows.len())?) } else { None };
        for key in 0..p.keys() {
            let block = p.block(rows.clone(), key..key + 1);
            if block.look.pairs == 0 {
                continue;
            }
            let mut weights = p.load_pairs(m, scores, &block)?;
            match (&mut online, &lse) {
                (Some(online), _) => online.take(m, p, &block, &mut weights, Some(&mut out))?,
                (None, Some(lse)) => weigh::<DATA>(p, &mut weights, &block, lse),
                (None, None) => unreachable!("softmax is found with the first columns"),
            }
            for part in pieces(cols.len(), product.stream) {
                let words = cols.start + part.start..cols.start + part.end;
                let products = block.look.pairs * words.len() as u64;
                let value = m.load(arrays.value, key..key + 1, words)?;
                m.multiply(&mut out, part.start, weights.view(), value.view(), products);
                m.free(value);
            }
            m.free(weights);
        }
        if let Some(online) = online {
            let found = online.end(m, Some(&mut out));
            m.store(&found, arrays.lse, rows.start, 0)?;
            lse = Some(found);
        }
        m.store(&out, arrays.out, rows.start, cols.start)?;
        m.free(out);
    }
    if let Some(lse) = lse {
        m.free(lse);
    }
    Ok(())
}

/// Scores become weights.
pub(super) fn weigh<const DATA: bool>(p: &Problem, scores: &mut Tile, block: &Block, lse: &Tile) {
    p.map::<DATA>(scores, block, |i, _, score| (score - lse.words[i]).exp());
}

/// Words moved.
pub(super) fn traffic(p: &Problem, scores: &impl Scores, product: Product) -> Traffic {
    let stores = Words::operands(p.visible.pairs()) + Words::statistics(p.rows() as u64);
    scores.traffic(p) + Traffic { loads: Words::default(), stores } + product.traffic(p, false)
}

/// What is in fast memory when.
pub(super) fn moments(p: &Problem, scores: &impl Scores, product: Product) -> Vec<Words> {
    let mut moments = vec![scores.moment(p), scores.finished(p)];
    moments.extend(product_moments(product));
    moments
}

/// What is in fast memory while the output is computed.
pub(super) fn product_moments(product: Product) -> [Words; 2] {
    let Product { rows, columns, .. } = product;
    let found = Words::new(rows, rows * columns, 2 * rows + 1);
    [product.moment() + Words::new(0, 0, 2 * rows), found]
}

/// The most scores that are in slow memory.
pub(super) fn workspace(p: &Problem, height: usize, product: usize) -> u64 {
    let pairs = |rows| p.visible.look(rows, 0..p.keys()).pairs;
    let (mut panels, mut done, mut held, mut most) = (pieces(p.rows(), height), 0, 0, 0);
    for rows in pieces(p.rows(), product) {
        while done < rows.end {
            let panel = panels.next().expect("panels of scores cover all rows");
            done = panel.end;
            held += pairs(panel);
        }
        most = most.max(held);
        held -= pairs(rows);
    }
    most
}

/// The best blocks of the output.
pub(super) fn best_product(
    search: &Search,
    passes: impl Fn(u64, usize) -> u64,
    fits: impl Fn(Product) -> bool,
) -> Option<Product> {
    let found = search.columns().into_iter().filter_map(|columns| {
        let at = |rows| Product { rows, columns, stream: 1 };
        let (rows, keys) = search.rows(|rows| fits(at(rows)))?;
        Some((passes(keys, columns), at(rows)))
    });
    let (_, product) = found.min_by_key(|&(cost, _)| cost)?;
    Some(product.widened(fits))
}
