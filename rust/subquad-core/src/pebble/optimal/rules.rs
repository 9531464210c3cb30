//! Positions of the games in which pebbles are all that counts, and the actions that lead from one to the next.
//!
//! An action places a pebble, by loading or computing, and makes room for it first, by no more than it must.
//! Nothing is lost: what leaves later, or is stored later, was no obstacle before (where a pebble may slide from
//! a value only if it is blue too, it may be stored at any time). Where blue pebbles stay and outputs must end blue,
//! an output is stored when it is computed, since it will be; and what serves nothing leaves at once where that
//! is free.

use super::mask::Mask;
use super::oneshot::{Game, State};
use super::patience::Patience;
use super::price::{Cost, Price};
use crate::pebble::{Model, Op};

/// Pebbles, and what has been computed if that may be done once only. A state of the one-shot game whose
/// `dirty` values are the blue ones, so that it can be renamed as one.
pub type Position<const N: usize> = State<N>;

/// What is done to come to the next position.
#[derive(Clone, Copy)]
pub struct Action<const N: usize> {
    pub vertex: usize,
    pub op: Op,
    /// Values that leave fast memory, and those of them that are stored.
    pub out: Mask<N>,
    pub stored: Mask<N>,
    /// The operand whose pebble slides; if it is in `stored`, it is stored before.
    pub slide: Option<usize>,
}

/// The rules of a game.
pub struct Rules<const N: usize> {
    pub game: Game<N>,
    pub price: Price,
    pub model: Model,
}

impl<const N: usize> Rules<N> {
    /// Outputs that are not blue.
    pub fn unstored(&self, position: &Position<N>) -> Mask<N> {
        self.game.outputs - position.dirty
    }

    /// Is nothing left but to store outputs that are red, if they must be?
    pub fn is_over(&self, position: &Position<N>) -> bool {
        self.unstored(position).within(&position.red)
    }

    /// Values that may yet serve an output that is not blue.
    fn useful(&self, position: &Position<N>) -> Mask<N> {
        let mut useful = self.unstored(position);
        if !self.model.recompute {
            let left = self.game.all - self.game.given - position.done;
            return left.iter().fold(useful, |useful, v| useful | self.game.preds[v]);
        }
        if !self.model.blue_persists {
            // An output that is blue may be loaded, lost, and computed again.
            return self.game.all;
        }
        // Vertices are in topological order.
        for v in (0..self.game.preds.len()).rev() {
            if useful.has(v) {
                useful = useful | self.game.preds[v];
            }
        }
        useful
    }

    /// The least that a position costs yet; none if it cannot be won.
    pub fn estimate(&self, position: &Position<N>) -> Option<Cost> {
        let game = &self.game;
        let unstored = self.unstored(position);
        let mut cost = Cost::default();
        if game.outputs_blue {
            cost.words += game.words(unstored);
        }
        let mut computed = if self.model.recompute {
            unstored - position.red
        } else {
            // What is computed, and in neither memory, is lost.
            if !(unstored - position.red).within(&(game.all - game.given - position.done)) {
                return None;
            }
            game.all - game.given - position.done
        };
        let mut loaded = Mask::<N>::EMPTY;
        for v in (0..game.preds.len()).rev().filter(|&v| !position.red.has(v)) {
            if computed.has(v) {
                if game.given.has(v) {
                    return None;
                }
                cost.computations += 1;
            }
            if !computed.has(v) && !loaded.has(v) {
                continue;
            }
            if !computed.has(v) {
                let load = Cost { words: game.weights[v], computations: 0 };
                let again = Cost { words: 0, computations: 1 };
                let is_cheaper = self.price.key(again) < self.price.key(load);
                let again = self.model.recompute && !game.given.has(v) && is_cheaper;
                cost = cost.plus(if again { Cost { words: 0, computations: 1 } } else { load });
                continue;
            }
            for u in (game.preds[v] - position.red).iter() {
                if position.dirty.has(u) {
                    loaded.insert(u);
                } else if self.model.recompute && !game.given.has(u) {
                    computed.insert(u);
                } else if !computed.has(u) {
                    return None;
                }
            }
        }
        Some(cost)
    }

    /// Hands out the positions that may come next, and what they cost.
    pub fn actions(
        &self,
        at: &Position<N>,
        patience: &mut Patience,
        mut found: impl FnMut(Action<N>, Position<N>, Cost),
    ) {
        let game = &self.game;
        let words = game.words(at.red);
        let useful = self.useful(at);
        if self.model.sliding && self.model.recompute && !self.model.blue_persists {
            // What is stored and computed again is in both memories, and a pebble may slide from it.
            let (out, stored) = (Mask::EMPTY, Mask::EMPTY);
            for vertex in (at.red - at.dirty - game.given).iter() {
                let action = Action { vertex, op: Op::Store, out, stored, slide: None };
                let (next, cost) = self.act(at, &action);
                found(action, next, cost);
            }
        }
        for v in (useful - at.red).iter() {
            let mut place = |op: Op, slide: Option<usize>| {
                let freed = slide.map_or(0, |u| game.weights[u]);
                let excess = (words + game.weights[v] - freed).saturating_sub(game.memory);
                let keep = if op == Op::Load { at.red } else { at.red - game.preds[v] };
                let mut items: Vec<(u64, usize)> =
                    keep.iter().map(|u| (game.weights[u], u)).collect();
                items.sort_unstable_by_key(|&(weight, u)| (std::cmp::Reverse(weight), u));
                let (out, stored) = (Mask::EMPTY, Mask::EMPTY);
                let action = Action { vertex: v, op, out, stored, slide };
                self.choose((at, &useful, &items), excess, action, patience, &mut |action| {
                    let (next, cost) = self.act(at, &action);
                    found(action, next, cost);
                });
            };
            if at.dirty.has(v) {
                place(Op::Load, None);
            }
            let again = !self.model.recompute && at.done.has(v);
            if game.given.has(v) || again || !game.preds[v].within(&at.red) {
                continue;
            }
            place(Op::Compute, None);
            if self.model.sliding && words + game.weights[v] > game.memory {
                game.preds[v].iter().for_each(|u| place(Op::Compute, Some(u)));
            }
        }
    }

    /// All ways to free `excess` words, with no value too many, and to let go the operand that is slid onto.
    fn choose(
        &self,
        (at, useful, items): (&Position<N>, &Mask<N>, &[(u64, usize)]),
        excess: u64,
        action: Action<N>,
        patience: &mut Patience,
        found: &mut impl FnMut(Action<N>),
    ) {
        if patience.is_over() {
            return;
        }
        if excess > 0 {
            for (i, &(weight, u)) in items.iter().enumerate() {
                let (rest, after) = (excess.saturating_sub(weight), (at, useful, &items[i + 1..]));
                let out = action.out | Mask::one(u);
                if at.dirty.has(u) {
                    self.choose(after, rest, Action { out, ..action }, patience, found);
                    continue;
                }
                let stored = action.stored | Mask::one(u);
                self.choose(after, rest, Action { out, stored, ..action }, patience, found);
                if self.may_lose(useful.has(u)) {
                    self.choose(after, rest, Action { out, ..action }, patience, found);
                }
            }
            return;
        }
        let Some(u) = action.slide else { return found(action) };
        let wanted = self.unstored(at).has(u);
        let still = self.game.succs[u] - at.done - Mask::one(action.vertex);
        if at.dirty.has(u) {
            return found(action);
        }
        if self.may_lose(wanted || !still.is_empty()) {
            found(action);
        }
        if self.model.blue_persists {
            found(Action { stored: action.stored | Mask::one(u), ..action });
        }
    }

    /// May a value that is not blue be deleted? Not if it is certainly of use and cannot come back.
    fn may_lose(&self, useful: bool) -> bool {
        self.model.deletes && (self.model.recompute || !useful)
    }

    /// The position after an action, and what that costs.
    fn act(&self, at: &Position<N>, action: &Action<N>) -> (Position<N>, Cost) {
        let (game, v) = (&self.game, action.vertex);
        let mut cost = Cost { words: game.words(action.stored), computations: 0 };
        let mut next = *at;
        next.dirty = next.dirty | action.stored;
        next.red = (next.red - action.out) | Mask::one(v);
        match action.op {
            Op::Load => {
                cost.words += game.weights[v];
                if !self.model.blue_persists {
                    next.dirty = next.dirty - Mask::one(v);
                }
            }
            Op::Store => {
                cost.words += game.weights[v];
                next.dirty.insert(v);
                next.red = next.red - Mask::one(v);
            }
            _ => {
                cost.computations += 1;
                if !self.model.recompute {
                    next.done.insert(v);
                }
                next.red = next.red - action.slide.map_or(Mask::EMPTY, Mask::one);
                if self.stores_at_once(v, &next) {
                    next.dirty.insert(v);
                    cost.words += game.weights[v];
                }
            }
        }
        next.red = next.red - self.useless(&next);
        (next, cost)
    }

    fn stores_at_once(&self, v: usize, position: &Position<N>) -> bool {
        self.model.blue_persists && self.game.outputs_blue && self.unstored(position).has(v)
    }

    /// Red values that serve nothing and may be deleted.
    fn useless(&self, position: &Position<N>) -> Mask<N> {
        let useless = position.red - self.useful(position);
        if self.model.deletes { useless } else { useless & position.dirty }
    }

    pub fn write(&self, at: &Position<N>, action: &Action<N>, push: &mut impl FnMut(Op, usize)) {
        let v = action.vertex;
        for u in action.out.iter() {
            if action.stored.has(u) {
                push(Op::Store, u);
            }
            if !action.stored.has(u) || self.model.blue_persists {
                push(Op::Delete, u);
            }
        }
        if let Some(u) = action.slide.filter(|&u| action.stored.has(u)) {
            push(Op::Store, u);
        }
        push(action.op, v);
        if let Some(u) = action.slide {
            push(Op::Delete, u);
        }
        let mut next = *at;
        next.dirty = next.dirty | action.stored;
        if action.op == Op::Compute && self.stores_at_once(v, &next) {
            push(Op::Store, v);
        }
        let (after, _) = self.act(at, action);
        let slid = action.slide.map_or(Mask::EMPTY, Mask::one);
        let left = at.red - action.out - slid;
        let placed = Mask::one(v);
        let left = if action.op == Op::Store { left - placed } else { left | placed };
        (left - after.red).iter().for_each(|u| push(Op::Delete, u));
    }
}
