//! A call: what its tasks share, and the sums over keys that they begin with.

use std::ops::Range;

use super::kit::Kit;
use super::tasks::{Found, Scratch, Sum};
use super::{Extent, Polynomial, State, TILE, load, parts};
use crate::Result;
use crate::attention::{Compute, Problem, Stats, Visible};
use crate::mat::Rows;
use crate::par::{Par, Pulse};
use crate::scratch::Pool;
use crate::simd::Isa;

/// A query head with the key head that serves it.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    pub query: Rows<'a>,
    pub key: Rows<'a>,
    pub value: Rows<'a>,
    /// What every key adds to the sum of weights, `S x 1`; one if nothing is said.
    pub masses: Option<Rows<'a>>,
}

impl Operands<'_> {
    /// Do two heads have the same sums over keys?
    pub fn has_keys_of(&self, other: &Self) -> bool {
        let same = match (&self.masses, &other.masses) {
            (Some(a), Some(b)) => a.is_same_view(b),
            (None, None) => true,
            _ => false,
        };
        same && self.key.is_same_view(&other.key) && self.value.is_same_view(&other.value)
    }
}

/// What the tasks of a call share.
pub struct Call<'a, T> {
    pub kit: Kit<T>,
    pub heads: Vec<Operands<'a>>,
    pub isa: Isa,
    pub pool: Pool<Scratch<T>>,
    pub par: Par<'a>,
}

impl<'a, T: Compute> Call<'a, T> {
    /// Sums that are not divided have masses, as many as there are heads.
    pub fn new(
        problem: &Problem<'a>,
        masses: Option<&[Rows<'a>]>,
        polynomial: Polynomial<'_>,
        par: Par<'a>,
        passes: u64,
    ) -> Result<Self> {
        let isa = Isa::detect();
        let kit = Kit::new(problem, polynomial, isa)?;
        let par = par.for_work(passes * kit.work(problem));
        let heads = problem.heads.iter().enumerate().map(|(h, head)| Operands {
            query: head.query,
            key: head.key,
            value: head.value,
            masses: masses.map(|masses| masses[h]),
        });
        Ok(Self { kit, heads: heads.collect(), isa, pool: Pool::new(), par })
    }

    /// The sums over the keys of a head. Nothing is taken off values whose sums will not be divided.
    pub fn sum(&self, head: &Operands<'_>, stats: &mut Stats) -> Result<(State<T>, Extent<T>)> {
        let mean = match head.masses {
            Some(_) => self.kit.zeros.clone(),
            None => load::mean::<T>(&head.value),
        };
        let pieces: Vec<_> = parts(head.key.rows()).into_iter().map(tiles).collect();
        let sums = self.sums(head, &pieces, &mean)?;
        let mut all = self.kit.state();
        let mut longest: f64 = 0.0;
        for (state, report) in &sums {
            all.add(state);
            longest = longest.max(report.longest);
            stats.take(&report.counts);
        }
        if self.kit.half.is_some() {
            all.round(self.kit.exact());
        }
        Ok((all, Extent { mean, longest }))
    }

    /// The sums over some pieces of the keys, which are tiles each.
    pub fn sums(
        &self,
        head: &Operands<'_>,
        pieces: &[Vec<Range<usize>>],
        mean: &[T],
    ) -> Result<Vec<(State<T>, Found)>> {
        self.par.map(pieces.len(), |i, pulse| {
            let mut state = self.kit.state();
            let found = self.add_sums(head, &pieces[i], mean, &mut state, pulse);
            (state, found)
        })
    }

    /// Adds the sums over some tiles of keys.
    pub fn add_sums(
        &self,
        head: &Operands<'_>,
        tiles: &[Range<usize>],
        mean: &[T],
        state: &mut State<T>,
        pulse: &Pulse<'_>,
    ) -> Found {
        let Self { kit, isa, pool, .. } = self;
        let job = Sum { kit, head, tiles, mean };
        // SAFETY: the state is one of this kit's features.
        pool.with(|| Scratch::new(kit), |s| unsafe { T::sum(*isa, &job, state, s, pulse) })
    }

    /// Does a query see all keys?
    pub fn sees_all(&self) -> bool {
        self.kit.visible == Visible::ALL
    }
}

/// Tiles of some tokens.
pub fn tiles(tokens: Range<usize>) -> Vec<Range<usize>> {
    let end = tokens.end;
    tokens.step_by(TILE).map(|start| start..end.min(start + TILE)).collect()
}
