//! States that a search has met, grouped by what is computed, and those that are open.
//!
//! A store is a shard of all states: those whose sets of computed values hash to it. A state is dominated by
//! another that has computed the same if that one can become as good and has still moved no more: it drops
//! what only it has red, stores what only it has dirty, and loads what it lacks. In terms of bounds, where
//! loads are paid in advance, it pays for what it drops and for what it stores.

use std::collections::BTreeMap;

use super::mask::Mask;
use super::oneshot::{Game, State};

/// What the search meets.
#[derive(Clone, Copy)]
pub struct Child<const N: usize> {
    pub state: State<N>,
    /// The bound of the state.
    pub bound: u64,
    /// No play through the state ends below.
    pub estimate: u64,
    /// From where: a number of [`Store::number`], or [`NONE`].
    pub parent: u32,
    /// Has the estimate been refined?
    pub refined: bool,
}

/// No state.
pub const NONE: u32 = u32::MAX;
/// Shards.
pub const SHARDS: usize = 16;
/// States are kept in blocks, so that growing copies none.
const BLOCK: usize = 1024;
/// The bound of a state that another dominates.
const DOMINATED: u64 = u64::MAX;

struct Record<const N: usize> {
    state: State<N>,
    bound: u64,
    parent: u32,
    /// The next that has computed the same.
    next: u32,
}

/// One shard.
pub struct Store<const N: usize> {
    shard: u32,
    blocks: Vec<Vec<Record<N>>>,
    len: u32,
    /// First records of groups, hashed by what is computed.
    table: Vec<u32>,
    groups: usize,
    /// Open states by their estimate and then by how much is computed.
    open: BTreeMap<(u64, u32), Vec<u32>>,
    /// Places in the lists of `open`.
    places: usize,
}

/// The shard of a state.
pub fn shard<const N: usize>(state: &State<N>) -> usize {
    (hash(&state.done) >> 60) as usize % SHARDS
}

/// A number that looks random and depends on the set.
pub fn hash<const N: usize>(set: &Mask<N>) -> u64 {
    set.words().iter().fold(0, |hash: u64, &word| {
        let mixed = (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed ^ mixed >> 32
    })
}

impl<const N: usize> Store<N> {
    pub fn new(shard: usize) -> Self {
        Self {
            shard: shard as u32,
            blocks: Vec::new(),
            len: 0,
            table: vec![NONE; 16],
            groups: 0,
            open: BTreeMap::new(),
            places: 0,
        }
    }

    fn record(&self, i: u32) -> &Record<N> {
        &self.blocks[i as usize / BLOCK][i as usize % BLOCK]
    }

    fn record_mut(&mut self, i: u32) -> &mut Record<N> {
        &mut self.blocks[i as usize / BLOCK][i as usize % BLOCK]
    }

    /// The place in the table of the group that has computed `done`, or where it would be.
    fn slot(&self, done: &Mask<N>) -> usize {
        let last = self.table.len() - 1;
        let mut slot = hash(done) as usize & last;
        while self.table[slot] != NONE && self.record(self.table[slot]).state.done != *done {
            slot = (slot + 1) & last;
        }
        slot
    }

    /// Takes a state in, unless it is dominated; forgets those that it dominates. It is open if it is to be
    /// `opened`. Returns its number.
    pub fn insert(&mut self, game: &Game<N>, child: &Child<N>, opened: bool) -> Option<u32> {
        if 4 * (self.groups + 1) > 3 * self.table.len() {
            self.grow();
        }
        let slot = self.slot(&child.state.done);
        let (mut at, mut before) = (self.table[slot], NONE);
        let is_new = at == NONE;
        while at != NONE {
            let Record { state, bound, next, .. } = *self.record(at);
            if dominates(game, (&state, bound), (&child.state, child.bound)) {
                return None;
            }
            if dominates(game, (&child.state, child.bound), (&state, bound)) {
                self.record_mut(at).bound = DOMINATED;
                if before == NONE {
                    self.table[slot] = next;
                } else {
                    self.record_mut(before).next = next;
                }
            } else {
                before = at;
            }
            at = next;
        }
        let i = self.len;
        if (i as usize).is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let Child { state, bound, parent, estimate, refined } = *child;
        let next = self.table[slot];
        let block = self.blocks.last_mut().expect("a block was pushed for the first record");
        block.push(Record { state, bound, parent, next });
        self.table[slot] = i;
        self.len += 1;
        self.groups += usize::from(is_new);
        if opened {
            self.open(i, estimate, refined);
        }
        Some(self.number(i))
    }

    /// Opens a state, again perhaps.
    pub fn open(&mut self, i: u32, estimate: u64, refined: bool) {
        let key = (estimate, 2 * self.record(i).state.done.len() + u32::from(refined));
        let list = self.open.entry(key).or_default();
        let before = list.capacity();
        list.push(i);
        self.places += list.capacity() - before;
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.table);
        self.table = vec![NONE; 2 * old.len()];
        for head in old.into_iter().filter(|&head| head != NONE) {
            let slot = self.slot(&self.record(head).state.done);
            self.table[slot] = head;
        }
    }

    /// The number of a record among those of all shards.
    pub fn number(&self, i: u32) -> u32 {
        i * SHARDS as u32 + self.shard
    }

    /// The least estimate of an open state, and how much that state has computed.
    pub fn first(&self) -> Option<(u64, u32)> {
        self.open.keys().next().copied()
    }

    /// Takes an open state with this key out, if there is one that is not dominated.
    pub fn pop(&mut self, key: (u64, u32)) -> Option<Child<N>> {
        let list = self.open.get_mut(&key)?;
        while let Some(i) = list.pop() {
            let Record { state, bound, .. } = self.blocks[i as usize / BLOCK][i as usize % BLOCK];
            if bound != DOMINATED {
                let (estimate, refined, parent) = (key.0, key.1 % 2 == 1, self.number(i));
                return Some(Child { state, bound, estimate, parent, refined });
            }
        }
        self.places -= list.capacity();
        self.open.remove(&key);
        None
    }

    /// The state of a number, and the number of its parent.
    pub fn lookup(&self, number: u32) -> (State<N>, u32) {
        let record = self.record(number / SHARDS as u32);
        (record.state, record.parent)
    }

    /// How many states.
    pub fn len(&self) -> u64 {
        u64::from(self.len)
    }

    /// Is there room for the numbers of this many more?
    pub fn has_room(&self, more: usize) -> bool {
        (self.len as usize + more) * SHARDS < NONE as usize
    }

    /// Bytes of states, table and lists.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK * size_of::<Record<N>>() + (self.table.len() + self.places) * 4
    }
}

/// Is the first state, with its bound, as good as the second, which has computed the same?
pub fn dominates<const N: usize>(
    game: &Game<N>,
    (a, bound_a): (&State<N>, u64),
    (b, bound_b): (&State<N>, u64),
) -> bool {
    bound_a <= bound_b
        && bound_a + game.words(a.red - b.red) + game.words(a.dirty - b.dirty) <= bound_b
}
