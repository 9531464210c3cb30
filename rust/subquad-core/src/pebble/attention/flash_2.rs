//! The order of the second flash attention (Dao, arXiv:2307.08691): a panel of rows and its output stay in fast memory, keys and values
//! pass by.
//!
//! r rows, their sums, a block of r by c scores, and `stream` columns of c keys: 2nd + n + 2d ceil(n / r) n words
//! move, if every row sees every key. For small blocks of keys c = 1 is best, and a word of a key or a value at a
//! time is enough: then r (2d + 3) + 1 words fit, and about 4 n^2 d^2 / M words move.

use super::family::{Family, family};
use super::fault::Step;
use super::memory::Memory;
use super::operands::Forward;
use super::planner::Search;
use super::problem::{Problem, Traffic, widest};
use super::softmax::Online;
use super::visible::pieces;
use super::words::{Class, Words};

family! {
    /// Rows stay, keys pass by.
    Flash2 {
        /// Rows of a panel.
        rows,
        /// Keys of a block.
        keys,
        /// Columns of keys and values that are loaded at once.
        stream,
    }
}

impl Family for Flash2 {
    type Arrays = Forward;
    const PRODUCTS: u64 = 2;

    fn traffic(&self, p: &Problem) -> Traffic {
        let keys = p.wide(p.visible.keys_of_panels(self.rows));
        Traffic {
            loads: Words::operands(p.row_words() + 2 * keys),
            stores: Words::operands(p.row_words()) + Words::statistics(p.rows() as u64),
        }
    }

    fn moments(&self, p: &Problem) -> Vec<Words> {
        let Self { rows, keys, stream } = *self;
        let rest = Words::new(rows * p.width, rows * (p.width + keys), 2 * rows);
        vec![rest + Words::new(keys * stream, 0, 0), rest + Words::new(0, 0, 1)]
    }

    fn workspace(&self, _: &Problem) -> u64 {
        0
    }

    fn execute<const DATA: bool>(
        &self,
        p: &Problem,
        m: &mut Memory<DATA>,
        arrays: Forward,
    ) -> Step {
        for rows in pieces(p.rows(), self.rows) {
            let query = m.load(arrays.query, rows.clone(), 0..p.width)?;
            let mut out = m.alloc(Class::Accumulator, rows.len(), p.width)?;
            let mut online = Online::new(m, rows.len())?;
            for block in p.along_keys(&rows, 0..p.keys(), self.keys) {
                let mut scores = m.alloc(Class::Accumulator, rows.len(), block.keys.len())?;
                for cols in pieces(p.width, self.stream) {
                    let key = p.load_keys(m, arrays.key, &block, cols.clone())?;
                    let products = block.look.pairs * cols.len() as u64;
                    m.multiply(&mut scores, 0, query.columns(cols), key.view().t(), products);
                    m.free(key);
                }
                p.map::<DATA>(&mut scores, &block, |_, _, score| score * p.scale);
                online.take(m, p, &block, &mut scores, Some(&mut out))?;
                for cols in pieces(p.width, self.stream) {
                    let value = p.load_keys(m, arrays.value, &block, cols.clone())?;
                    let products = block.look.pairs * cols.len() as u64;
                    m.multiply(&mut out, cols.start, scores.view(), value.view(), products);
                    m.free(value);
                }
                m.free(scores);
            }
            let lse = online.end(m, Some(&mut out));
            m.store(&out, arrays.out, rows.start, 0)?;
            m.store(&lse, arrays.lse, rows.start, 0)?;
            m.free(query);
            m.free(out);
            m.free(lse);
        }
        Ok(())
    }

    fn best(search: &Search) -> Option<Self> {
        let p = search.problem;
        let fits = |rows, stream| search.fits(&Self { rows, keys: 1, stream }.moments(p));
        let (rows, _) = search.rows(|rows| fits(rows, 1))?;
        let stream = widest(p.width, |stream| fits(rows, stream))?;
        Some(Self { rows, keys: 1, stream })
    }
}
