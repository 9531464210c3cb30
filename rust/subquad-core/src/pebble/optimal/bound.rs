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

/// What is computed in turn, looking ahead.
#[derive(Clone, Copy)]
struct Path<const N: usize> {
    /// As if nothing had left: red values may have.
    alive: State<N>,
    ready: Mask<N>,
    /// Words that did not fit when the last value was computed, all of them of `others`.
    excess: u64,
    others: Mask<N>,
    /// Words that left before that and came back.
    back: u64,
}

impl<const N: usize> Game<N> {
    /// Words that the bound of any continuation grows by at least, as far as that matters: between `floor` and
    /// `ceiling`.
    ///
    /// Whatever is computed next, and after that, up to `depth` values: when the last of them is computed, what is
    /// alive and does not fit has left. Each word of it that is clean has cost one word or will, any other two.
    /// And what did not fit before, and has come back since, has cost one word more.
    pub fn lookahead(&self, state: &State<N>, effort: Effort, floor: u64, ceiling: u64) -> u64 {
        let floor = floor.max(self.surplus(state));
        if self.is_over(state) || floor >= ceiling {
            return floor;
        }
        let ready: Mask<N> = self.ready(state).collect();
        let Effort { depth, mut looks } = effort;
        let path = Path { alive: *state, ready, excess: 0, others: Mask::EMPTY, back: 0 };
        self.ahead(&path, depth, &mut looks, (floor, ceiling))
    }

    /// The least, but at least `floor`, over the sequences of up to `depth` values, of the most that one of them
    /// takes; `ceiling` if that is not less. When `looks` are used up no more is claimed than `floor`.
    fn ahead(
        &self,
        path: &Path<N>,
        depth: usize,
        looks: &mut u32,
        (floor, ceiling): (u64, u64),
    ) -> u64 {
        let mut least = ceiling;
        for v in path.ready.iter() {
            if *looks == 0 {
                return floor;
            }
            *looks -= 1;
            let (price, mut next) = self.along(path, v);
            let mut most = floor.max(price);
            if most >= least {
                continue;
            }
            if depth > 1 {
                next.alive = self.play(&path.alive, &Step { vertex: v, out: Mask::EMPTY });
                let enabled = (self.succs[v] - next.alive.done).iter();
                let enabled = enabled.filter(|&w| self.preds[w].within(&next.alive.done));
                next.ready = (path.ready - Mask::one(v)) | enabled.collect();
                if !next.ready.is_empty() {
                    most = self.ahead(&next, depth - 1, looks, (most, least));
                }
            }
            least = least.min(most);
            if least <= floor {
                break;
            }
        }
        least
    }

    /// The least price until `v` is computed, and the path but for what is alive and ready then.
    fn along(&self, path: &Path<N>, v: usize) -> (u64, Path<N>) {
        let (alive, operands) = (&path.alive, self.preds[v]);
        let killed = self.killed(alive, v);
        let excess = self.excess(alive, v, self.slid(killed));
        // Of what did not fit before, no more can still be absent than is not needed now.
        let back = path.back + path.excess.saturating_sub(self.words(path.others - operands));
        let others =
            if self.sliding { (alive.red | operands) - killed } else { alive.red - operands };
        let mut price = back;
        if excess > 0 {
            let mut clean = others - alive.dirty;
            if !self.outputs_blue {
                let done = alive.done | Mask::one(v);
                let spent = (alive.dirty & self.outputs).iter();
                clean = clean | spent.filter(|&u| self.is_spent(u, &done)).collect();
            }
            price += excess + excess.saturating_sub(self.words(clean));
        }
        (price, Path { excess, others, back, ..*path })
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
