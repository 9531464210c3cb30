//! Forward schedules that write the scores, and read them for the output.
//!
//! A panel of the output needs the scores of its rows, and those are computed just before, panel by panel of
//! their own height. So at most the scores of two panels are in slow memory at a time, not all n^2. The largest score
//! of a row and the sum of its exponentials are found while the first columns of the output are computed.

use super::family::Family;
use super::fault::Step;
use super::memory::Memory;
use super::operands::Forward;
use super::phases::Product;
use super::planner::Search;
use super::problem::{Block, Problem, Traffic};
use super::scores::Scores;
use super::slow::Array;
use super::softmax::Online;
use super::tile::Tile;
use super::visible::pieces;
use super::words::{Class, Words};

/// A family of such schedules.
pub(super) trait Unfused: Copy {
    /// How the scores are computed.
    type Scores: Scores;

    /// The sizes for the scores, and for the output.
    fn parts(&self) -> (Self::Scores, Product);

    /// The member with these sizes.
    fn new(scores: Self::Scores, out: Product) -> Self;
}

impl<F: Unfused> Family for F {
    type Arrays = Forward;
    const PRODUCTS: u64 = 2;

    fn traffic(&self, p: &Problem) -> Traffic {
        let (scores, product) = self.parts();
        let stores = Words::operands(p.visible.pairs()) + Words::statistics(p.rows() as u64);
        scores.traffic(p) + Traffic { loads: Words::default(), stores } + product.traffic(p, false)
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let (scores, product) = self.parts();
        let mut moments = vec![scores.moment(p), scores.finished(p)];
        moments.extend(product_moments(product));
        moments
    }

    fn workspace(&self, p: &Problem) -> u64 {
        let (scores, product) = self.parts();
        workspace(p, scores.rows(), product.rows)
    }

    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Forward,
    ) -> Step {
        let (scores, product) = self.parts();
        execute(p, m, arrays, &scores, product)
    }

    fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let scores = F::Scores::best(search, |s| search.fits(&[s.moment(p), s.finished(p)]))?;
        let out = Product::best(search, false, |product| search.fits(&product_moments(product)))?;
        Some(F::new(scores, out))
    }
}

/// `out = softmax(scores) value`.
fn execute<const DATA: bool>(
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
            scores.store(p, m, (arrays.query, arrays.key), panel, stored, None)?;
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
        for block in p.along_keys(&rows, 0..p.keys(), 1) {
            let mut weights = p.load_pairs(m, scores, &block)?;
            match (&mut online, &lse) {
                (Some(online), _) => online.take(m, p, &block, &mut weights, Some(&mut out))?,
                (None, Some(lse)) => weigh::<DATA>(p, &mut weights, &block, lse),
                (None, None) => unreachable!("softmax is found with the first columns"),
            }
            for part in pieces(cols.len(), product.stream) {
                let words = cols.start + part.start..cols.start + part.end;
                let products = block.look.pairs * words.len() as u64;
                let value = m.load(arrays.value, block.keys.clone(), words)?;
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

/// What is in fast memory while the output is computed.
fn product_moments(product: Product) -> [Words; 2] {
    let Product { rows, columns, .. } = product;
    let found = Words::new(rows, rows * columns, 2 * rows + 1);
    [product.moment() + Words::new(0, 0, 2 * rows), found]
}

/// The most scores that are in slow memory.
fn workspace(p: &Problem, height: usize, product: usize) -> u64 {
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
