//! Best-first search in the one-shot game: bounds from below that rise to the optimum.
//!
//! Open states are expanded in batches of the least estimate, those that have computed least first, since what
//! dominates a state has computed the same. The size of a batch is fixed, children are taken in by shards and
//! in the order of their parents: the outcome does not depend on the number of workers. Plays are found by
//! beams, wider and wider while the search goes on, and nothing is kept whose estimate is not below the best.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::beam::{Beam, Line};
use super::expand::{Expander, Litter, SHALLOW};
use super::oneshot::{Game, State};
use super::price::Cost;
use super::store::{Child, NONE, SHARDS, Store, shard};
use super::symmetry::Symmetry;
use super::{Progress, Status};
use crate::{Par, Result};

/// States that are expanded before their children are taken in.
const BATCH: usize = 512;
/// Widths of beams. The first two start at once, another when the search has expanded four times what it may.
const WIDTHS: [usize; 5] = [1, 16, 64, 1024, 8192];

/// The search.
pub struct AStar<const N: usize> {
    pub game: Game<N>,
    pub symmetry: Symmetry<N>,
    stores: Vec<Mutex<Store<N>>>,
    start: Child<N>,
    beam: Option<Beam<N>>,
    /// How many widths have been tried.
    tried: usize,
    best: Option<Line<N>>,
    /// What a play costs that is known from elsewhere.
    cap: u64,
    lower: u64,
    expanded: u64,
    status: Status,
    max_bytes: u64,
}

impl<const N: usize> AStar<N> {
    /// A search for plays of fewer than `cap` words.
    pub fn new(game: Game<N>, cap: u64, max_bytes: u64) -> Self {
        let symmetry = Symmetry::new(&game);
        let (state, bound) = game.start();
        let state = game.settle(state, |_| ());
        let estimate = bound + game.lookahead(&state, SHALLOW, 0, u64::MAX);
        let start = Child { state, bound, estimate, parent: NONE, refined: false };
        let stores: Vec<_> = (0..SHARDS).map(|i| Mutex::new(Store::new(i))).collect();
        let mut search = Self {
            game,
            symmetry,
            stores,
            start,
            beam: None,
            tried: 0,
            best: None,
            cap,
            lower: estimate,
            expanded: 0,
            status: Status::Running,
            max_bytes,
        };
        if !search.game.is_over(&state) {
            search.store(shard(&state)).insert(&search.game, &start, true);
        } else if bound < cap {
            search.best = Some(Line { cost: bound, states: vec![state] });
        }
        search.settle_status();
        search
    }

    fn store(&self, i: usize) -> MutexGuard<'_, Store<N>> {
        self.stores[i].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The greatest estimate of a state that may lead to a better play.
    fn most(&self) -> u64 {
        self.upper().saturating_sub(1)
    }

    /// What the best play costs, this search's or the one from elsewhere.
    fn upper(&self) -> u64 {
        self.best.as_ref().map_or(self.cap, |best| best.cost)
    }

    /// A layer of a beam, or a batch of the search.
    pub fn step(&mut self, par: Par, until: Option<Instant>) -> Result<()> {
        if self.status != Status::Running {
            return Ok(());
        }
        if self.beam.is_none() && self.beam_is_due() {
            self.beam = Some(Beam::new(WIDTHS[self.tried], self.start));
        }
        if let Some(mut beam) = self.beam.take() {
            let expander = Expander { game: &self.game, symmetry: &self.symmetry, until };
            let stepped = beam.step(&expander, par, self.most());
            let (expanded, line) = match stepped {
                Ok(stepped) => stepped,
                Err(err) => {
                    self.beam = Some(beam);
                    return Err(err);
                }
            };
            self.best = line.or(self.best.take());
            match expanded {
                Some(states) => {
                    self.expanded += states as u64;
                    self.beam = Some(beam);
                }
                None => self.tried += 1,
            }
            self.settle_status();
            return Ok(());
        }
        self.batch(par, until)
    }

    fn beam_is_due(&self) -> bool {
        let Some(&width) = WIDTHS.get(self.tried) else { return false };
        let layers = u64::from((self.game.all - self.game.given).len());
        let bytes = width * 64 * size_of::<Child<N>>();
        let share = if self.tried < 2 { 0 } else { 4 * width as u64 * layers };
        self.expanded >= share && (bytes as u64) < self.max_bytes / 2
    }

    fn settle_status(&mut self) {
        let first = (0..SHARDS).filter_map(|i| self.store(i).first()).min();
        let most = self.most();
        match first {
            Some((estimate, _)) if estimate <= most => {
                self.lower = self.lower.max(estimate);
                if self.bytes() > self.max_bytes
                    || !(0..SHARDS).all(|i| self.store(i).has_room(1 << 20))
                {
                    self.status = Status::MemoryLimit;
                }
            }
            _ => {
                self.status = Status::Optimal;
                self.lower = self.upper();
            }
        }
    }

    /// Expands up to [`BATCH`] states of the least key.
    fn batch(&mut self, par: Par, until: Option<Instant>) -> Result<()> {
        let key = (0..SHARDS).filter_map(|i| self.store(i).first()).min();
        let key = key.expect("a search that is not over has an open state");
        let mut batch = Vec::with_capacity(BATCH);
        for i in 0..SHARDS {
            let mut store = self.store(i);
            while batch.len() < BATCH
                && let Some(child) = store.pop(key)
            {
                batch.push(child);
            }
        }
        let most = self.most();
        let expander = Expander { game: &self.game, symmetry: &self.symmetry, until };
        let taken = expander.expand(par, &batch, most).and_then(|litters| self.take(par, &litters));
        let (goals, postponed) = match taken {
            Ok(taken) => taken,
            Err(err) => {
                // Expanding them again changes nothing.
                for child in &batch {
                    self.store(child.parent as usize % SHARDS).open(
                        child.parent / SHARDS as u32,
                        child.estimate,
                        child.refined,
                    );
                }
                return Err(err);
            }
        };
        self.expanded += (batch.len() - postponed) as u64;
        let better = goals.into_iter().min_by_key(|goal| goal.bound);
        if let Some(goal) = better.filter(|goal| goal.bound <= most) {
            self.best = Some(self.line(&goal));
        }
        self.settle_status();
        Ok(())
    }

    /// Takes children in; returns those that are over, and how many states were not expanded.
    fn take(&self, par: Par, litters: &[Litter<N>]) -> Result<(Vec<Child<N>>, usize)> {
        let children: usize =
            litters.iter().flat_map(|litter| &litter.children).map(Vec::len).sum();
        let par = par.for_work(children as u64 * 4_000);
        let goals = par.map(SHARDS, |i, _| {
            let mut store = self.store(i);
            let mut goals = Vec::new();
            for child in litters.iter().flat_map(|litter| &litter.children[i]) {
                if self.game.is_over(&child.state) {
                    goals.push(*child);
                } else {
                    store.insert(&self.game, child, true);
                }
            }
            goals
        })?;
        let most = self.most();
        let mut postponed = 0;
        for child in litters.iter().flat_map(|litter| &litter.postponed) {
            postponed += 1;
            if child.estimate <= most {
                self.store(child.parent as usize % SHARDS).open(
                    child.parent / SHARDS as u32,
                    child.estimate,
                    true,
                );
            }
        }
        Ok((goals.into_iter().flatten().collect(), postponed))
    }

    fn line(&self, goal: &Child<N>) -> Line<N> {
        let mut states = vec![goal.state];
        let mut at = goal.parent;
        while at != NONE {
            let (state, parent) = self.store(at as usize % SHARDS).lookup(at);
            states.push(state);
            at = parent;
        }
        states.reverse();
        Line { cost: goal.bound, states }
    }

    fn bytes(&self) -> u64 {
        let stores: usize = (0..SHARDS).map(|i| self.store(i).bytes()).sum();
        let beam = self.beam.as_ref().map_or(0, Beam::bytes);
        (stores + beam + self.symmetry.bytes()) as u64
    }

    /// The states of the best play, unless that is the one from elsewhere.
    pub fn best(&self) -> Option<&[State<N>]> {
        self.best.as_ref().map(|line| &line.states[..])
    }

    pub fn progress(&self) -> Progress {
        let computations = u64::from((self.game.all - self.game.given).len());
        let cost = |words| Cost { words, computations };
        Progress {
            lower: cost(self.lower),
            upper: Some(cost(self.upper())),
            expanded: self.expanded,
            states: (0..SHARDS).map(|i| self.store(i).len()).sum(),
            bytes: self.bytes(),
            status: self.status,
        }
    }
}
