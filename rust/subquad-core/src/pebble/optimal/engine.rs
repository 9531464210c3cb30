//! What a search is made of: one engine for each kind of game and size of graph.

use std::time::Instant;

use super::astar::AStar;
use super::general::General;
use super::oneshot::Game;
use super::price::Cost;
use super::{Progress, Status, greedy, replay};
use crate::pebble::{Dag, Model, Move, Outputs, Sources, play};
use crate::{Par, Result};

/// States that the search of the one-shot game expands at most to find a first play for other games.
const WARM_UP: u64 = 20_000;

/// A search that goes on step by step.
pub trait Engine: Send {
    /// Some milliseconds of work.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`](crate::Error::Stopped), when `until` has come too; the next step begins where this one did.
    fn step(&mut self, par: Par, until: Option<Instant>) -> Result<()>;
    fn progress(&self) -> Progress;
    /// The best play.
    fn moves(&self) -> Option<Vec<Move>>;
}

/// The engine of a game. `memory` suffices for every value.
pub fn engine(dag: &Dag, memory: u64, model: &Model, max_bytes: u64) -> Box<dyn Engine> {
    let first = greedy::play(dag, memory, model).map(|moves| {
        let cost = cost(dag, &moves, memory, model);
        First { moves, cost }
    });
    sized::<1>(dag, memory, model, first.as_ref(), max_bytes)
        .or_else(|| sized::<2>(dag, memory, model, first.as_ref(), max_bytes))
        .or_else(|| sized::<4>(dag, memory, model, first.as_ref(), max_bytes))
        .or_else(|| sized::<16>(dag, memory, model, first.as_ref(), max_bytes))
        .unwrap_or_else(|| Box::new(Large::new(dag, model, first)))
}

/// A play from elsewhere.
#[derive(Clone)]
struct First {
    moves: Vec<Move>,
    cost: Cost,
}

/// The engine for up to `64 * N` values that outputs need.
fn sized<const N: usize>(
    dag: &Dag,
    memory: u64,
    model: &Model,
    first: Option<&First>,
    max_bytes: u64,
) -> Option<Box<dyn Engine>> {
    let game = Game::<N>::new(dag, memory, model)?;
    let first = first.cloned();
    if model.blue_persists && model.deletes && !model.recompute {
        let first = first.expect("there is a play where what is stored stays");
        let search = AStar::new(game, first.cost.words, max_bytes);
        return Some(Box::new(OneShot { search, first }));
    }
    let mut warm = None;
    if let Some(first) = first.as_ref().filter(|_| model.blue_persists && model.deletes) {
        // Computing once is legal where computing again is.
        let once = Game::<N>::new(dag, memory, model)?;
        warm = Some(AStar::new(once, first.cost.words, max_bytes / 2));
    }
    let mut general = General::new(game, *model, max_bytes);
    if let Some(first) = &first {
        general.cap(first.cost);
    }
    Some(Box::new(Other { general, warm, first }))
}

/// What a legal play costs.
fn cost(dag: &Dag, moves: &[Move], memory: u64, model: &Model) -> Cost {
    let verdict = play(dag, moves, memory, *model, Par::seq()).expect("nobody stops it");
    let count = verdict.expect("plays that are found are legal");
    Cost { words: count.loads + count.stores, computations: count.computations }
}

/// Every value is computed once, blue pebbles stay, red ones may be deleted.
struct OneShot<const N: usize> {
    search: AStar<N>,
    first: First,
}

impl<const N: usize> Engine for OneShot<N> {
    fn step(&mut self, par: Par, until: Option<Instant>) -> Result<()> {
        self.search.step(par, until)
    }

    fn progress(&self) -> Progress {
        self.search.progress()
    }

    fn moves(&self) -> Option<Vec<Move>> {
        let found = self.search.best().map(|states| replay::moves(&self.search, states));
        found.or_else(|| Some(self.first.moves.clone()))
    }
}

/// All other games.
struct Other<const N: usize> {
    general: General<N>,
    /// Looks for a first play.
    warm: Option<AStar<N>>,
    first: Option<First>,
}

impl<const N: usize> Engine for Other<N> {
    fn step(&mut self, par: Par, until: Option<Instant>) -> Result<()> {
        let Some(mut warm) = self.warm.take() else {
            return self.general.step(par, until);
        };
        let stepped = warm.step(par, until);
        let Progress { upper, expanded, status, .. } = warm.progress();
        if stepped.is_ok() && (status != Status::Running || expanded > WARM_UP) {
            if let (Some(cost), Some(states)) = (upper, warm.best()) {
                self.first = Some(First { moves: replay::moves(&warm, states), cost });
                self.general.cap(cost);
            }
        } else {
            self.warm = Some(warm);
        }
        stepped
    }

    fn progress(&self) -> Progress {
        let general = &self.general;
        let mut progress = Progress {
            lower: general.lower,
            upper: general.upper,
            expanded: general.expanded,
            states: general.states(),
            bytes: general.bytes(),
            status: general.status,
        };
        if let Some(warm) = &self.warm {
            let Progress { upper, expanded, states, bytes, .. } = warm.progress();
            progress = Progress { upper, expanded, states, bytes, ..progress };
        }
        progress
    }

    fn moves(&self) -> Option<Vec<Move>> {
        let warm = || {
            let warm = self.warm.as_ref()?;
            warm.best().map(|states| replay::moves(warm, states))
        };
        let first = || self.first.as_ref().map(|first| first.moves.clone());
        self.general.moves().or_else(warm).or_else(first)
    }
}

/// More values than a state has bits for: the trivial bound, and the first play that comes to mind.
struct Large {
    progress: Progress,
    first: Option<First>,
}

impl Large {
    fn new(dag: &Dag, model: &Model, first: Option<First>) -> Self {
        let needed = dag.needed();
        let is_given = |v: u32| model.sources == Sources::Blue && dag.is_source(v);
        let mut lower = Cost::default();
        for v in (0..dag.num_vertices() as u32).filter(|&v| needed[v as usize]) {
            let is_used = dag.succs(v).iter().any(|&w| needed[w as usize]);
            let is_stored = dag.is_output(v) && model.outputs == Outputs::Blue;
            if is_given(v) && is_used || !is_given(v) && is_stored {
                lower.words += dag.weight(v);
            }
            lower.computations += u64::from(!is_given(v));
        }
        let upper = first.as_ref().map(|first| first.cost);
        let status = if upper == Some(lower) { Status::Optimal } else { Status::TooLarge };
        let progress = Progress { lower, upper, expanded: 0, states: 0, bytes: 0, status };
        Self { progress, first }
    }
}

impl Engine for Large {
    fn step(&mut self, _par: Par, _until: Option<Instant>) -> Result<()> {
        Ok(())
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn moves(&self) -> Option<Vec<Move>> {
        self.first.as_ref().map(|first| first.moves.clone())
    }
}
