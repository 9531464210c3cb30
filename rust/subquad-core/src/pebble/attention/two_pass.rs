//! Two passes: over panels of rows for the gradient of queries, over panels of keys for those of keys and values.
//!
//! Scores and slopes are computed twice, seven products instead of five, and no gradient is read again:
//! about 14 n^2 d^2 / M words, 6 for the first pass, where three arrays stay and two pass by, and 8 for the second,
//! where four stay. No two tasks write to the same words. Rows come first, because their sums of `out * grad_out`,
//! which both passes need, are then computed where `grad_out` is in fast memory anyway.

use std::ops::Range;

use super::family::{Family, family};
use super::fault::Step;
use super::key_panels::{KeyPanels, discard_sums};
use super::memory::Memory;
use super::operands::Backward;
use super::planner::Search;
use super::problem::{Block, Problem, Traffic, widest};
use super::slow::Array;
use super::tile::Tile;
use super::visible::pieces;
use super::words::{Class, Words};

family! {
    /// Keys stay for their gradients, then rows for theirs.
    TwoPass {
        /// Keys of a panel.
        keys,
        /// Keys with which scores are computed at once: all of a panel, or fewer.
        tile,
        /// Words of `grad_out` that are loaded at once, if all.
        stream,
        /// Rows of a panel.
        rows,
        /// Rows of which scores are computed at once: all of a panel, or fewer.
        row_tile,
        /// Words of a value that are loaded at once, if all.
        value_stream,
    }
}

impl TwoPass {
    fn panels(self) -> KeyPanels {
        KeyPanels { keys: self.keys, tile: self.tile, stream: self.stream }
    }

    fn row_moments(self, p: &Problem) -> Vec<Words> {
        let Self { rows, row_tile, value_stream, .. } = self;
        let stay = Words::new(2 * rows * p.width, rows * p.width, 2 * rows);
        if row_tile < rows {
            return vec![stay + Words::new(2 * p.width, 2 * row_tile, 0)];
        }
        vec![stay + Words::new(value_stream, rows, 0), stay + Words::new(p.width, 2 * rows, 0)]
    }

    /// The gradient of a panel of queries at a time.
    fn row_pass<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
    ) -> Step<Array> {
        let row_sums = m.scratch("row sums", (p.rows(), 1), Class::Statistic);
        for rows in pieces(p.rows(), self.rows) {
            let grad_out = m.load(arrays.grad_out, rows.clone(), 0..p.width)?;
            let sums = sums_of(p, m, arrays.out, &grad_out, rows.clone())?;
            m.store(&sums, row_sums, rows.start, 0)?;
            let mut stay = Stay {
                grad_out,
                sums,
                query: m.load(arrays.query, rows.clone(), 0..p.width)?,
                lse: m.load(arrays.lse, rows.clone(), 0..1)?,
                grad: m.alloc(Class::Accumulator, rows.len(), p.width)?,
            };
            for key in 0..p.keys() {
                let block = p.block(rows.clone(), key..key + 1);
                if block.look.pairs == 0 {
                    continue;
                }
                if self.row_tile < self.rows {
                    self.tiles(p, m, arrays, &mut stay, &block)?;
                } else {
                    self.key(p, m, arrays, &mut stay, &block)?;
                }
            }
            m.store(&stay.grad, arrays.grad_query, rows.start, 0)?;
            for tile in [stay.query, stay.grad_out, stay.lse, stay.sums, stay.grad] {
                m.free(tile);
            }
        }
        Ok(row_sums)
    }

    /// One key: slopes of weights from a few words of its value at a time, then scores from all of the key.
    fn key<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
        stay: &mut Stay,
        block: &Block,
    ) -> Step {
        let (one, pairs) = (block.keys.clone(), block.look.pairs);
        let mut slopes = m.alloc(Class::Accumulator, block.rows.len(), 1)?;
        for cols in pieces(p.width, self.value_stream) {
            let value = m.load(arrays.value, one.clone(), cols.clone())?;
            let products = pairs * cols.len() as u64;
            m.multiply(&mut slopes, 0, stay.grad_out.columns(cols), value.view().t(), products);
            m.free(value);
        }
        let key = m.load(arrays.key, one, 0..p.width)?;
        let mut weights = m.alloc(Class::Accumulator, block.rows.len(), 1)?;
        m.multiply(&mut weights, 0, stay.query.view(), key.view().t(), p.wide(pairs));
        stay.slopes::<DATA>(p, &mut slopes, &weights, block, 0);
        m.free(weights);
        m.multiply(&mut stay.grad, 0, slopes.view(), key.view(), p.wide(pairs));
        m.free(key);
        m.free(slopes);
        Ok(())
    }

    /// One key and its value, some rows at a time.
    fn tiles<const DATA: bool>(
        self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
        stay: &mut Stay,
        panel: &Block,
    ) -> Step {
        let value = m.load(arrays.value, panel.keys.clone(), 0..p.width)?;
        let key = m.load(arrays.key, panel.keys.clone(), 0..p.width)?;
        let first = panel.rows.start;
        for rows in pieces(panel.rows.len(), self.row_tile) {
            let block = p.block(first + rows.start..first + rows.end, panel.keys.clone());
            let products = p.wide(block.look.pairs);
            if products == 0 {
                continue;
            }
            let mut slopes = m.alloc(Class::Accumulator, rows.len(), 1)?;
            m.multiply(
                &mut slopes,
                0,
                stay.grad_out.rows(rows.clone()),
                value.view().t(),
                products,
            );
            let mut weights = m.alloc(Class::Accumulator, rows.len(), 1)?;
            m.multiply(&mut weights, 0, stay.query.rows(rows.clone()), key.view().t(), products);
            stay.slopes::<DATA>(p, &mut slopes, &weights, &block, rows.start);
            m.free(weights);
            m.multiply_at(&mut stay.grad, (rows.start, 0), slopes.view(), key.view(), products);
            m.free(slopes);
        }
        m.free(value);
        m.free(key);
        Ok(())
    }

    /// The best panels of rows, either way, beside the panels of keys.
    fn best_rows(self, search: &Search) -> Option<Self> {
        let p = search.problem;
        let fits = |member: Self| search.fits(&member.row_moments(p));
        let whole = |rows| Self { rows, row_tile: rows, value_stream: 1, ..self };
        let parts = |rows| Self { rows, row_tile: 1, value_stream: p.width, ..self };
        let at_once = search.rows(|rows| fits(whole(rows)));
        let in_parts = search.rows(|rows| fits(parts(rows)));
        match (at_once, in_parts) {
            (Some((_, keys)), Some((rows, fewer))) if fewer < keys => {
                let tile = widest(rows - 1, |row_tile| fits(Self { row_tile, ..parts(rows) }));
                Some(Self { row_tile: tile.unwrap_or(1), ..parts(rows) })
            }
            (Some((rows, _)), _) => {
                let fits = |value_stream| fits(Self { value_stream, ..whole(rows) });
                widest(p.width, fits).map(|value_stream| Self { value_stream, ..whole(rows) })
            }
            (None, Some((rows, _))) => Some(parts(rows)),
            (None, None) => None,
        }
    }
}

/// The sums of `out * grad_out` of a panel of rows.
fn sums_of<const DATA: bool>(
    p: &Problem,
    m: &mut Memory<DATA>,
    out: Array,
    grad_out: &Tile,
    rows: Range<usize>,
) -> Step<Tile> {
    let mut sums = m.alloc(Class::Statistic, rows.len(), 1)?;
    let out = m.load(out, rows, 0..p.width)?;
    for i in 0..sums.rows {
        let (a, b) = (out.rows(i..i + 1), grad_out.rows(i..i + 1));
        m.multiply_at(&mut sums, (i, 0), a, b.t(), p.width as u64);
    }
    m.free(out);
    Ok(sums)
}

/// What stays while keys pass by.
struct Stay {
    query: Tile,
    grad_out: Tile,
    lse: Tile,
    sums: Tile,
    grad: Tile,
}

impl Stay {
    /// Slopes of scores, from those of weights and from scores; the first row of the block is that number of the panel.
    fn slopes<const DATA: bool>(
        &self,
        p: &Problem,
        slopes: &mut Tile,
        scores: &Tile,
        block: &Block,
        first: usize,
    ) {
        p.map::<DATA>(slopes, block, |i, _, slope| {
            let weight = (scores.words[i] * p.scale - self.lse.words[first + i]).exp();
            weight * (slope - self.sums.words[first + i]) * p.scale
        });
    }
}

impl Family for TwoPass {
    type Arrays = Backward;
    const PRODUCTS: u64 = 7;

    fn traffic(&self, p: &Problem) -> Traffic {
        let (rows, keys) = (p.row_words(), p.wide(p.visible.keys_of_panels(self.rows)));
        let statistics = Words::statistics(p.rows() as u64);
        let first = Traffic {
            loads: Words::operands(3 * rows + 2 * keys) + statistics,
            stores: Words::operands(rows) + statistics,
        };
        first + self.panels().traffic(p)
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let mut moments = self.panels().moments(p);
        moments.extend(self.row_moments(p));
        moments.push(Words::new(2 * self.rows * p.width, 0, self.rows));
        moments
    }

    fn workspace(&self, p: &Problem) -> u64 {
        p.rows() as u64
    }

    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Backward,
    ) -> Step {
        let sums = self.row_pass(p, m, arrays)?;
        self.panels().run(p, m, arrays, sums, |_, _, _, _| Ok(()))?;
        discard_sums(p, m, sums);
        Ok(())
    }

    fn best(search: &Search) -> Option<Self> {
        let KeyPanels { keys, tile, stream } = KeyPanels::best(search)?;
        let first = Self { keys, tile, stream, rows: 1, row_tile: 1, value_stream: 1 };
        first.best_rows(search)
    }
}
