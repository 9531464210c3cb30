//! How much the bound of a state must grow.

use super::mask::Mask;
use super::oneshot::{Game, State, Step};
use super::store::hash;

/// How far a look ahead goes.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Values that are computed in turn.
    pub depth: usize,
    /// Values that are looked at in all.
    pub looks: u32,
}

/// What is known of sets of computed values: no play from there takes less than the first number, and one takes
/// no more than the second. A set forgets what another with its place has known.
struct Known<const N: usize>(Vec<(Mask<N>, u64, u64)>);

impl<const N: usize> Known<N> {
    const PLACES: usize = 1024;

    fn place(&mut self, done: &Mask<N>) -> &mut (Mask<N>, u64, u64) {
        if self.0.is_empty() {
            self.0.resize(Self::PLACES, (Mask::EMPTY, 0, u64::MAX));
        }
        let place = &mut self.0[hash(done) as usize % Self::PLACES];
        if place.0 != *done {
            *place = (*done, 0, u64::MAX);
        }
        place
    }
}

impl<const N: usize> Game<N> {
    /// Words that the bound of any continuation grows by at least, as far as that matters: between `floor` and
    /// `ceiling`.
    ///
    /// Whatever is computed next, and after that, up to `depth` values: when the last of them is computed, what is
    /// alive and does not fit has left. Each word of it that is clean has cost one word or will, any other two.
    pub fn lookahead(&self, state: &State<N>, effort: Effort, floor: u64, ceiling: u64) -> u64 {
        let floor = floor.max(self.surplus(state));
        if self.is_over(state) || floor >= ceiling {
            return floor;
        }
        let ready: Mask<N> = self.ready(state).collect();
        let mut ahead = Ahead { game: self, looks: effort.looks, known: Known(Vec::new()) };
        ahead.least(state, ready, effort.depth, (floor, ceiling))
    }

    /// The least price of what does not fit when `v` is computed.
    fn least_price(&self, alive: &State<N>, v: usize) -> u64 {
        let killed = self.killed(alive, v);
        let excess = self.excess(alive, v, self.slid(killed));
        if excess == 0 {
            return 0;
        }
        let mut clean = alive.red - alive.dirty - self.preds[v];
        if self.sliding {
            clean = (alive.red | self.preds[v]) - alive.dirty - killed;
        }
        if !self.outputs_blue {
            let done = alive.done | Mask::one(v);
            let spent = (alive.dirty & self.outputs).iter();
            clean = clean | spent.filter(|&u| self.is_spent(u, &done)).collect();
        }
        excess + excess.saturating_sub(self.words(clean))
    }

    /// Words of outputs that will not find room in the end, where they may end in fast memory.
    fn surplus(&self, state: &State<N>) -> u64 {
        if self.outputs_blue {
            return 0;
        }
        let unstored = (self.outputs - state.done) | (state.dirty & self.outputs);
        self.words(unstored).saturating_sub(self.memory)
    }
}

/// A look ahead.
struct Ahead<'a, const N: usize> {
    game: &'a Game<N>,
    looks: u32,
    known: Known<N>,
}

impl<const N: usize> Ahead<'_, N> {
    /// The least, but at least `floor`, over the sequences of up to `depth` values, of the most that one of them
    /// takes; `ceiling` if that is not less. The red values of `alive` may have left. When looks are used up no
    /// more is claimed than `floor`.
    fn least(
        &mut self,
        alive: &State<N>,
        ready: Mask<N>,
        depth: usize,
        (floor, ceiling): (u64, u64),
    ) -> u64 {
        let game = self.game;
        let mut least = ceiling;
        for v in ready.iter() {
            if self.looks == 0 {
                return floor;
            }
            self.looks -= 1;
            let mut most = floor.max(game.least_price(alive, v));
            if most >= least {
                continue;
            }
            if depth > 1 {
                let next = game.play(alive, &Step { vertex: v, out: Mask::EMPTY });
                let enabled = (game.succs[v] - next.done).iter();
                let enabled = enabled.filter(|&w| game.preds[w].within(&next.done)).collect();
                let ready = (ready - Mask::one(v)) | enabled;
                if !ready.is_empty() {
                    most = self.after(&next, ready, depth - 1, (most, least));
                }
            }
            least = least.min(most);
            if least <= floor {
                break;
            }
        }
        least
    }

    /// As [`least`](Self::least), which is asked only what is not known. What is alive, and how far it is to look,
    /// depend only on what is computed.
    fn after(
        &mut self,
        alive: &State<N>,
        ready: Mask<N>,
        depth: usize,
        (floor, ceiling): (u64, u64),
    ) -> u64 {
        if depth == 1 {
            return self.least(alive, ready, depth, (floor, ceiling));
        }
        let &mut (_, lower, upper) = self.known.place(&alive.done);
        if lower >= ceiling || upper <= floor {
            return if upper <= floor { floor } else { ceiling };
        }
        let least = self.least(alive, ready, depth, (floor.max(lower), ceiling));
        if self.looks > 0 {
            let (_, lower, upper) = self.known.place(&alive.done);
            if least > floor {
                *lower = (*lower).max(least);
            }
            if least < ceiling {
                *upper = (*upper).min(least);
            }
        }
        least
    }
}
