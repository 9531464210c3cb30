//! From the states of a play to its moves.
//!
//! States of a search are images under symmetries, and know no steps. So the step from each to the next is
//! searched again, and the renamings that made the next one its own image are undone.

use super::astar::AStar;
use super::mask::Mask;
use super::oneshot::{Game, State, Step};
use super::patience::Patience;
use crate::pebble::{Move, Op};

/// The moves of a play, given its states.
pub fn moves<const N: usize>(search: &AStar<N>, states: &[State<N>]) -> Vec<Move> {
    let game = &search.game;
    let mut writer = Writer { game, state: game.start().0, moves: Vec::new() };
    // Where the values of a state are in the play that is written.
    let mut place: Vec<usize> = (0..game.vertices.len()).collect();
    game.settle(game.start().0, |v| writer.write(Step { vertex: v, out: Mask::EMPTY }));
    for pair in states.windows(2) {
        let (steps, image) = steps_between(search, &pair[0], &pair[1]);
        for step in steps {
            let out = step.out.iter().map(|u| place[u]).collect();
            writer.write(Step { vertex: place[step.vertex], out });
        }
        // `image[v]` is what the next state calls `v`.
        let mut next = vec![0; place.len()];
        image.iter().zip(&place).for_each(|(&to, &from)| next[to] = from);
        place = next;
    }
    writer.moves
}

/// The cheapest steps from one state to an image of which the next is, and the renaming.
fn steps_between<const N: usize>(
    search: &AStar<N>,
    state: &State<N>,
    next: &State<N>,
) -> (Vec<Step<N>>, Vec<usize>) {
    let game = &search.game;
    let mut best: Option<(u64, Step<N>)> = None;
    game.steps(state, u64::MAX / 2, &mut Patience::endless(), |step, cost| {
        let child = game.settle(game.play(state, &step), |_| ());
        let better = best.as_ref().is_none_or(|&(least, _)| cost < least);
        if better && search.symmetry.smallest(&child, |_| ()) == *next {
            best = Some((cost, step));
        }
    });
    let (_, step) = best.expect("a state of a play follows from the one before it");
    let mut steps = vec![step];
    let child = game.settle(game.play(state, &step), |vertex| {
        steps.push(Step { vertex, out: Mask::EMPTY });
    });
    let mut image: Vec<usize> = (0..game.vertices.len()).collect();
    search.symmetry.smallest(&child, |map| image.iter_mut().for_each(|v| *v = map[*v]));
    (steps, image)
}

/// Writes steps as moves.
struct Writer<'a, const N: usize> {
    game: &'a Game<N>,
    state: State<N>,
    moves: Vec<Move>,
}

impl<const N: usize> Writer<'_, N> {
    fn push(&mut self, op: Op, v: usize) {
        self.moves.push(Move::new(op, self.game.vertices[v]));
    }

    fn write(&mut self, step: Step<N>) {
        let (game, state, v) = (self.game, self.state, step.vertex);
        let slid = step.out & game.preds[v];
        for u in (step.out - slid).iter() {
            if state.dirty.has(u) {
                self.push(Op::Store, u);
            }
            self.push(Op::Delete, u);
        }
        (game.preds[v] - state.red).iter().for_each(|u| self.push(Op::Load, u));
        (slid & state.dirty).iter().for_each(|u| self.push(Op::Store, u));
        self.push(Op::Compute, v);
        // The next move makes room, where pebbles slide.
        let mut dead: Vec<usize> = game.killed(&state, v).iter().collect();
        dead.sort_by_key(|&u| std::cmp::Reverse(game.weights[u]));
        slid.iter().chain(dead).for_each(|u| self.push(Op::Delete, u));
        if game.outputs.has(v) && game.outputs_blue {
            self.push(Op::Store, v);
        }
        self.state = game.play(&state, &step);
        if !self.state.red.has(v) {
            self.push(Op::Delete, v);
        }
    }
}
