//! Changes of an order that leave it legal.
//!
//! A block of neighbours moves as far as its operands and users allow; or a value moves further, and takes along what
//! is in the way: up to a place before it with all it needs that is computed in between, or down to a place after it
//! with all that needs it.

use std::ops::Range;

use super::super::super::Dag;
use super::super::super::random::Random;
use super::super::schedule::Numbers;

/// What was at some places.
pub(super) struct Undo {
    first: usize,
    vertices: Vec<u32>,
}

impl Numbers {
    /// A random change, if what was drawn is one.
    pub(super) fn change(&mut self, dag: &Dag, random: &mut Random) -> Option<Undo> {
        if self.steps == 0 {
            return None;
        }
        let at = random.below(self.steps);
        match random.below(4) {
            0 => self.shift(dag, random, at, 1),
            1 => {
                let length = distance(random, self.steps / 4);
                self.shift(dag, random, at, length)
            }
            2 => {
                let range = at.saturating_sub(distance(random, self.steps))..at + 1;
                self.with_operands(dag, range)
            }
            _ => {
                let range = at..(at + 1 + distance(random, self.steps)).min(self.steps);
                self.with_users(dag, range)
            }
        }
    }

    /// Takes a change back.
    pub(super) fn restore(&mut self, undo: &Undo) {
        self.vertices[undo.first..undo.first + undo.vertices.len()].copy_from_slice(&undo.vertices);
        self.renumber(undo.first..undo.first + undo.vertices.len());
    }

    fn renumber(&mut self, places: Range<usize>) {
        for place in places {
            self.values[self.vertices[place] as usize] = place as u32;
        }
    }

    /// Another order of some places.
    fn rearrange(&mut self, places: Range<usize>, change: impl FnOnce(&mut [u32])) -> Option<Undo> {
        let undo = Undo { first: places.start, vertices: self.vertices[places.clone()].to_vec() };
        change(&mut self.vertices[places.clone()]);
        if self.vertices[places.clone()] == undo.vertices {
            return None;
        }
        self.renumber(places);
        Some(undo)
    }

    /// Moves a block of neighbours to one of the places that are open to it.
    fn shift(
        &mut self,
        dag: &Dag,
        random: &mut Random,
        first: usize,
        length: usize,
    ) -> Option<Undo> {
        let last = (first + length).min(self.steps);
        let length = last - first;
        let open = self.open(dag, first, last);
        let places = open.len() - length;
        if places == 0 {
            return None;
        }
        let drawn = open.start + random.below(places);
        let to = drawn + usize::from(drawn >= first);
        if to < first {
            self.rearrange(to..last, |vertices| vertices.rotate_right(length))
        } else {
            self.rearrange(first..to + length, |vertices| vertices.rotate_left(length))
        }
    }

    /// From after the last operand of a block to before its first user.
    fn open(&self, dag: &Dag, first: usize, last: usize) -> Range<usize> {
        let (mut lowest, mut highest) = (0, self.steps);
        for &v in &self.vertices[first..last] {
            for &u in dag.preds(v) {
                let place = self.values[u as usize] as usize;
                if place < first {
                    lowest = lowest.max(place + 1);
                }
            }
            for &w in dag.succs(v) {
                let place = self.values[w as usize] as usize;
                if place >= last {
                    highest = highest.min(place);
                }
            }
        }
        lowest..highest
    }

    /// Moves the last of some places to the first, and before it what it needs of them.
    fn with_operands(&mut self, dag: &Dag, places: Range<usize>) -> Option<Undo> {
        let mut moved = vec![false; places.len()];
        *moved.last_mut()? = true;
        for place in places.clone().rev().filter(|&place| place > places.start) {
            if moved[place - places.start] {
                for &u in dag.preds(self.vertices[place]) {
                    let operand = self.values[u as usize] as usize;
                    if operand >= places.start && operand < place {
                        moved[operand - places.start] = true;
                    }
                }
            }
        }
        self.split(places, &moved)
    }

    /// Moves the first of some places to the last, and after it what needs it of them.
    fn with_users(&mut self, dag: &Dag, places: Range<usize>) -> Option<Undo> {
        let mut moved = vec![true; places.len()];
        *moved.first_mut()? = false;
        for place in places.clone() {
            if !moved[place - places.start] {
                for &w in dag.succs(self.vertices[place]) {
                    let user = self.values[w as usize] as usize;
                    if user < places.end {
                        moved[user - places.start] = false;
                    }
                }
            }
        }
        self.split(places, &moved)
    }

    /// Puts what is chosen before the rest; both stay in order.
    fn split(&mut self, places: Range<usize>, chosen: &[bool]) -> Option<Undo> {
        self.rearrange(places, |vertices| {
            let pick = |which: bool| {
                let pairs = vertices.iter().zip(chosen);
                pairs.filter(move |&(_, &chosen)| chosen == which).map(|(&v, _)| v)
            };
            let split: Vec<u32> = pick(true).chain(pick(false)).collect();
            vertices.copy_from_slice(&split);
        })
    }
}

/// From 1 to about `most`; short ones are as frequent as long ones.
fn distance(random: &mut Random, most: usize) -> usize {
    let scale = random.below(most.max(2).ilog2() as usize + 1);
    random.below(1 << scale) + 1
}
