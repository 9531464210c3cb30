//! Best-first search in all other games, where a value may be computed again, a pebble is recoloured, or
//! what is not stored may not be deleted. For small graphs: positions are pebbles, not orders.
//! `rules.rs` has what leads from one to the next.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use super::Status;
use super::mask::Mask;
use super::oneshot::{Game, State};
use super::patience::Patience;
use super::price::{Cost, Price};
use super::rules::{Action, Position, Rules};
use super::symmetry::Symmetry;
use crate::pebble::{Model, Move, Op};
use crate::{Error, Par, Result};

/// Positions that are expanded between two looks at the clock.
const BATCH: usize = 256;
/// No position.
const NONE: u32 = u32::MAX;

struct Record<const N: usize> {
    position: Position<N>,
    cost: Cost,
    parent: u32,
}

/// The search.
pub struct General<const N: usize> {
    rules: Rules<N>,
    symmetry: Symmetry<N>,
    records: Vec<Record<N>>,
    /// The cheapest record of each position.
    known: HashMap<Position<N>, u32>,
    open: BTreeMap<u128, (Cost, Vec<u32>)>,
    pub upper: Option<Cost>,
    goal: u32,
    pub lower: Cost,
    pub expanded: u64,
    pub status: Status,
    max_bytes: u64,
}

impl<const N: usize> General<N> {
    pub fn new(game: Game<N>, model: Model, max_bytes: u64) -> Self {
        let symmetry = Symmetry::new(&game);
        let position = State { done: Mask::EMPTY, red: Mask::EMPTY, dirty: game.given };
        let mut search = Self {
            rules: Rules { game, price: Price::new(model.compute_cost), model },
            symmetry,
            records: Vec::new(),
            known: HashMap::new(),
            open: BTreeMap::new(),
            upper: None,
            goal: NONE,
            lower: Cost::default(),
            expanded: 0,
            status: Status::Running,
            max_bytes,
        };
        search.reach(position, Cost::default(), NONE, Cost::default());
        search.look();
        search
    }

    /// Only plays that cost less are of interest.
    pub fn cap(&mut self, upper: Cost) {
        self.upper = Some(upper);
        self.look();
    }

    /// Takes a position in if it is new or cheaper than before.
    fn reach(&mut self, position: Position<N>, cost: Cost, parent: u32, floor: Cost) {
        let known = self.known.get(&position).map(|&i| self.records[i as usize].cost);
        if known.is_some_and(|known| self.rules.price.key(known) <= self.rules.price.key(cost)) {
            return;
        }
        let Some(rest) = self.rules.estimate(&position) else { return };
        let total = cost.plus(rest);
        let total =
            if self.rules.price.key(total) < self.rules.price.key(floor) { floor } else { total };
        if self
            .upper
            .is_some_and(|upper| self.rules.price.key(total) >= self.rules.price.key(upper))
        {
            return;
        }
        let i = self.records.len() as u32;
        self.records.push(Record { position, cost, parent });
        self.known.insert(position, i);
        if self.rules.is_over(&position) {
            self.upper = Some(total);
            self.goal = i;
        } else {
            self.open.entry(self.rules.price.key(total)).or_insert((total, Vec::new())).1.push(i);
        }
    }

    /// Sees whether the search is over.
    fn look(&mut self) {
        while let Some(entry) = self.open.first_entry() {
            if entry.get().1.is_empty() {
                entry.remove();
                continue;
            }
            let (key, total) = (*entry.key(), entry.get().0);
            if self.upper.is_some_and(|upper| self.rules.price.key(upper) <= key) {
                break;
            }
            self.lower = total;
            if self.bytes() > self.max_bytes || self.records.len() > (NONE - 1) as usize / 2 {
                self.status = Status::MemoryLimit;
            }
            return;
        }
        self.status = match self.upper {
            None => Status::Infeasible,
            Some(upper) => {
                self.lower = upper;
                Status::Optimal
            }
        };
    }

    /// Expands some positions.
    ///
    /// # Errors
    ///
    /// [`Error::Stopped`], by the caller or by the time.
    pub fn step(&mut self, par: Par, until: Option<Instant>) -> Result<()> {
        for _ in 0..BATCH {
            if self.status != Status::Running {
                return Ok(());
            }
            let mut entry =
                self.open.first_entry().expect("a search that runs has an open position");
            let total = entry.get().0;
            let i = entry.get_mut().1.pop().expect("empty lists are removed");
            let Record { position, cost, .. } = self.records[i as usize];
            if self.known[&position] == i {
                let followers = self.followers(&position, par, until).inspect_err(|_| {
                    // It is open still.
                    self.open
                        .entry(self.rules.price.key(total))
                        .or_insert((total, Vec::new()))
                        .1
                        .push(i);
                })?;
                self.expanded += 1;
                for (next, more) in followers {
                    self.reach(next, cost.plus(more), i, total);
                }
            }
            self.look();
        }
        Ok(())
    }

    /// What may come after a position, and its cost.
    fn followers(
        &self,
        position: &Position<N>,
        par: Par,
        until: Option<Instant>,
    ) -> Result<Vec<(Position<N>, Cost)>> {
        let found = par.map(1, |_, pulse| {
            let mut patience = Patience::new(pulse, until);
            let mut found = Vec::new();
            self.rules.actions(position, &mut patience, |_, next, more| {
                found.push((self.symmetry.smallest(&next, |_| ()), more));
            });
            if patience.is_over() { None } else { Some(found) }
        })?;
        found.into_iter().next().flatten().ok_or(Error::Stopped)
    }

    /// The moves of the best play, if the search found it.
    pub fn moves(&self) -> Option<Vec<Move>> {
        if self.goal == NONE {
            return None;
        }
        let mut path = Vec::new();
        let mut at = self.goal;
        while at != NONE {
            path.push(at);
            at = self.records[at as usize].parent;
        }
        path.reverse();
        let mut moves = Vec::new();
        let mut place: Vec<usize> = (0..self.rules.game.vertices.len()).collect();
        for pair in path.windows(2) {
            let [from, to] = [pair[0], pair[1]].map(|i| &self.records[i as usize]);
            let mut best: Option<(u128, Action<N>, Position<N>)> = None;
            self.rules.actions(&from.position, &mut Patience::endless(), |action, next, cost| {
                let key = self.rules.price.key(cost);
                if best.as_ref().is_none_or(|best| key < best.0)
                    && self.symmetry.smallest(&next, |_| ()) == to.position
                {
                    best = Some((key, action, next));
                }
            });
            let (_, action, next) = best.expect("a position of a play follows from the one before");
            let mut push =
                |op, v: usize| moves.push(Move::new(op, self.rules.game.vertices[place[v]]));
            self.rules.write(&from.position, &action, &mut push);
            let mut image: Vec<usize> = (0..place.len()).collect();
            self.symmetry.smallest(&next, |map| image.iter_mut().for_each(|v| *v = map[*v]));
            let mut renamed = vec![0; place.len()];
            image.iter().zip(&place).for_each(|(&to, &from)| renamed[to] = from);
            place = renamed;
        }
        let end = self.records[self.goal as usize].position;
        if self.rules.game.outputs_blue {
            let late = self.rules.unstored(&end).iter();
            late.for_each(|v| moves.push(Move::new(Op::Store, self.rules.game.vertices[place[v]])));
        }
        Some(moves)
    }

    pub fn states(&self) -> u64 {
        self.records.len() as u64
    }

    /// Bytes of records and of the tables over them, about.
    pub fn bytes(&self) -> u64 {
        let entry = size_of::<Position<N>>() + 5;
        (self.records.capacity() * (size_of::<Record<N>>() + 4) + self.known.capacity() * entry)
            as u64
    }
}
