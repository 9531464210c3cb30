//! How much the bound of a state must grow.

use super::mask::Mask;
use super::oneshot::{Game, State, Step};

/// How far a look ahead goes.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Values that are computed in turn.
    pub depth: usize,
    /// Values that are looked at in all.
    pub looks: u32,
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
        let Effort { depth, mut looks } = effort;
        self.ahead(state, ready, depth, &mut looks, (floor, ceiling))
    }

    /// The least, but at least `floor`, over the sequences of up to `depth` values, of the most that one of them
    /// takes; `ceiling` if that is not less. The red values of `alive` may have left. When `looks` are used up
    /// no more is claimed than `floor`.
    fn ahead(
        &self,
        alive: &State<N>,
        ready: Mask<N>,
        depth: usize,
        looks: &mut u32,
        (floor, ceiling): (u64, u64),
    ) -> u64 {
        let mut least = ceiling;
        for v in ready.iter() {
            if *looks == 0 {
                return floor;
            }
            *looks -= 1;
            let mut most = floor.max(self.least_price(alive, v));
            if most >= least {
                continue;
            }
            if depth > 1 {
                let next = self.play(alive, &Step { vertex: v, out: Mask::EMPTY });
                let enabled = (self.succs[v] - next.done).iter();
                let enabled = enabled.filter(|&w| self.preds[w].within(&next.done)).collect();
                let ready = (ready - Mask::one(v)) | enabled;
                if !ready.is_empty() {
                    most = self.ahead(&next, ready, depth - 1, looks, (most, least));
                }
            }
            least = least.min(most);
            if least <= floor {
                break;
            }
        }
        least
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
