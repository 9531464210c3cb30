//! A call: what its tasks share, and the sums over keys that they begin with.

use std::ops::Range;

use super::kit::Kit;
use super::tasks::{Scratch, Sum};
use super::{Extent, Polynomial, State, load, parts};
use crate::Result;
use crate::attention::{Compute, Problem, Stats, Visible};
use crate::mat::Rows;
use crate::par::Par;
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
        let sums = self.sums(head, &parts(head.key.rows()), &mean)?;
        let mut all = self.kit.state();
        let mut longest: f64 = 0.0;
        for (state, report) in &sums {
            all.add(state);
            longest = longest.max(report.longest);
            stats.take(&report.counts);
        }
        Ok((all, Extent { mean, longest }))
    }

    /// The sums over some ranges of keys.
    fn sums(
        &self,
        head: &Operands<'_>,
        ranges: &[Range<usize>],
        mean: &[T],
    ) -> Result<Vec<(State<T>, super::Found)>> {
        let Self { kit, isa, pool, .. } = self;
        self.par.map(ranges.len(), |i, pulse| {
            let job = Sum { kit, head, keys: ranges[i].clone(), mean };
            let mut state = kit.state();
            // SAFETY: the state is one of this kit's features.
            let found = pool.with(
                || Scratch::new(kit),
                |scratch| unsafe { T::sum(*isa, &job, &mut state, scratch, pulse) },
            );
            (state, found)
        })
    }

    /// Where a causal scan begins.
    pub fn before(&self, head: &Operands<'_>, stats: &mut Stats) -> Result<Vec<Before<T>>> {
        let kit = &self.kit;
        let keys = head.key.rows();
        let rows = parts(head.query.rows());
        let mut start = 0;
        let between: Vec<Range<usize>> = rows
            .iter()
            .map(|rows| {
                let end = kit.visible.keys(rows.start, keys).end;
                std::mem::replace(&mut start, end)..end
            })
            .collect();
        // Pieces of what lies between two parts, as it may be long.
        let (owners, pieces): (Vec<usize>, Vec<Range<usize>>) = between
            .iter()
            .enumerate()
            .flat_map(|(i, between)| {
                let moved = move |piece: Range<usize>| {
                    (i, between.start + piece.start..between.start + piece.end)
                };
                parts(between.len()).into_iter().map(moved)
            })
            .unzip();
        let sums = self.sums(head, &pieces, &kit.zeros)?;
        let (mut all, mut longest) = (kit.state(), 0.0_f64);
        let mut next = owners.iter().zip(&sums).peekable();
        let mut found = Vec::with_capacity(rows.len());
        for (i, rows) in rows.into_iter().enumerate() {
            while let Some((_, (state, report))) = next.next_if(|(owner, _)| **owner == i) {
                all.add(state);
                longest = longest.max(report.longest);
                stats.take(&report.counts);
            }
            let mut state = kit.state();
            state.add(&all);
            let extent = Extent { mean: kit.zeros.clone(), longest };
            found.push(Before { rows, state, extent });
        }
        Ok(found)
    }

    /// Does a query see all keys?
    pub fn sees_all(&self) -> bool {
        self.kit.visible == Visible::ALL
    }
}

/// A part of the queries, and the sums over the keys that the first of them sees.
pub struct Before<T> {
    pub rows: Range<usize>,
    pub state: State<T>,
    pub extent: Extent<T>,
}
