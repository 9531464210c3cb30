//! The game, played by an order and a rule.

mod slide;

use std::ops::Range;

use super::super::{Count, Model, Move, Op, Outputs, Sources};
use super::rules::Rule;
use super::schedule::{FIRST, NEVER, Schedule};
use crate::par::Pulse;
use crate::{Error, Result};

/// It is in fast memory.
const RED: u32 = 1;
/// It is in slow memory.
pub(super) const BLUE: u32 = 2;
const BITS: u32 = 2;
/// Steps between two questions whether to stop.
const PATIENCE: usize = 1 << 16;

/// The next use in the state of a value.
#[inline]
pub(super) fn expected(state: u32) -> u32 {
    state >> BITS
}

/// Who is told of moves.
pub(super) trait Sink {
    fn push(&mut self, op: Op, vertex: u32);
}

/// Nobody.
impl Sink for () {
    fn push(&mut self, _op: Op, _vertex: u32) {}
}

impl Sink for Vec<Move> {
    fn push(&mut self, op: Op, vertex: u32) {
        self.push(Move::new(op, vertex));
    }
}

/// A game that is played.
pub(super) struct Engine<'a, R, S> {
    schedule: &'a Schedule<'a>,
    weights: Option<&'a [u32]>,
    memory: u64,
    rule: R,
    sink: S,
    /// Of every value: its next use, [`RED`], [`BLUE`].
    state: Vec<u32>,
    /// In fast memory, without uses to come, and not to be had for nothing.
    kept: Vec<u32>,
    words: u64,
    /// If pebbles slide: words after a computation, unless the next move slides one of its operands.
    doubt: Option<(u64, Range<u32>)>,
    count: Count,
}

impl<'a, R: Rule, S: Sink> Engine<'a, R, S> {
    pub(super) fn new(
        (schedule, memory, model): (&'a Schedule<'a>, u64, Model),
        rule: R,
        sink: S,
    ) -> Self {
        let blue = if model.sources == Sources::Blue { BLUE } else { 0 };
        let mut state = vec![0; schedule.vertices.len()];
        state[schedule.steps()..].fill(blue);
        let count =
            Count { loads: 0, stores: 0, peak: 0, computations: 0, recomputations: 0, model };
        let weights = schedule.dag.weights();
        Self {
            schedule,
            weights,
            memory,
            rule,
            sink,
            state,
            kept: vec![],
            words: 0,
            doubt: None,
            count,
        }
    }

    pub(super) fn run(self, pulse: &Pulse) -> Result<(Count, S)> {
        self.run_until(u64::MAX, pulse)
    }

    /// Ends early, with a count that is above the limit, if it is going to be.
    pub(super) fn run_until(mut self, limit: u64, pulse: &Pulse) -> Result<(Count, S)> {
        let mut start = 0;
        for step in 0..self.schedule.steps() {
            // What a stopped task returns is thrown away.
            if step % PATIENCE == 0 && pulse.stopped() {
                return Err(Error::Stopped);
            }
            start = self.step(step, start)?;
            if self.count.loads + self.count.stores > limit {
                return Ok((self.count, self.sink));
            }
        }
        self.unused_outputs()?;
        self.settle(None);
        Ok((self.count, self.sink))
    }

    /// Computes a value whose operands are the uses from `start` on; returns where they end.
    #[inline]
    fn step(&mut self, step: usize, start: u32) -> Result<u32> {
        let schedule = self.schedule;
        let rest = &schedule.operands[start as usize + 1..];
        let others = rest.iter().position(|operand| operand & FIRST != 0).unwrap_or(rest.len());
        let end = start + 1 + others as u32;
        let operands = &schedule.operands[start as usize..end as usize];
        let mut there = RED;
        for operand in operands {
            let value = operand & !FIRST;
            let state = self.state[value as usize];
            there &= state;
            if R::LOOKS_BACK && state & RED != 0 {
                self.rule.touch(value);
            }
        }
        if there == 0 {
            for this in start..end {
                self.bring(this, end)?;
            }
        }
        let value = step as u32;
        if self.count.model.sliding {
            self.slide_into(value, start..end)?;
        } else {
            self.make_room(self.weight(value), end)?;
            self.compute(value);
            self.hold();
        }
        for (operand, &next) in operands.iter().zip(&schedule.next[start as usize..end as usize]) {
            self.advance(operand & !FIRST, next);
        }
        self.rule.enter(value);
        self.state[value as usize] = RED;
        self.advance(value, schedule.firsts[step]);
        Ok(end)
    }

    #[inline]
    fn weight(&self, value: u32) -> u64 {
        match self.weights {
            None => 1,
            Some(weights) => u64::from(weights[self.vertex(value) as usize]),
        }
    }

    fn vertex(&self, value: u32) -> u32 {
        self.schedule.vertices[value as usize]
    }

    #[inline]
    fn push(&mut self, op: Op, value: u32) {
        if self.doubt.is_some() {
            self.settle(Some((op, value)));
        }
        let vertex = self.schedule.vertices[value as usize];
        self.sink.push(op, vertex);
    }

    /// The memory has never held more.
    fn hold(&mut self) {
        self.count.peak = self.count.peak.max(self.words);
    }

    /// Sees to it that the operand of a use is there.
    fn bring(&mut self, this: u32, end: u32) -> Result<()> {
        let value = self.schedule.value(this);
        let state = self.state[value as usize];
        if state & RED != 0 {
            return Ok(());
        }
        let weight = self.weight(value);
        self.make_room(weight, end)?;
        let mut blue = state & BLUE;
        if blue == 0 {
            // A source that has to be computed.
            self.push(Op::Compute, value);
            self.count.computations += 1;
        } else {
            self.push(Op::Load, value);
            self.count.loads += weight;
            if !self.count.model.blue_persists {
                blue = 0;
            }
        }
        self.words += weight;
        self.hold();
        self.state[value as usize] = this << BITS | blue | RED;
        self.rule.enter(value);
        Ok(())
    }

    #[inline]
    fn compute(&mut self, value: u32) {
        self.push(Op::Compute, value);
        self.count.computations += 1;
        self.words += self.weight(value);
    }

    /// Evicts until so many words are free; uses before `limit` are those of the running step.
    #[inline]
    fn make_room(&mut self, words: u64, limit: u32) -> Result<()> {
        while self.words + words > self.memory {
            let least = self.words + words;
            match self.victim(limit) {
                Some(value) => self.evict(value),
                None => {
                    return Err(Error::TooSmall { name: "memory", least, found: self.memory });
                }
            }
        }
        Ok(())
    }

    fn victim(&mut self, limit: u32) -> Option<u32> {
        let kept = self.kept.last().copied();
        kept.or_else(|| self.rule.victim(self.schedule, &self.state, limit))
    }

    fn evict(&mut self, value: u32) {
        let state = self.state[value as usize];
        let this = expected(state);
        if this == NEVER {
            self.kept.pop();
        } else {
            self.rule.leave(value, Some(this));
        }
        let kept = self.save(value);
        if kept {
            self.delete(value);
        }
        self.state[value as usize] = this << BITS | BLUE;
    }

    /// Stores a value unless it is in slow memory; is it still in fast memory?
    fn save(&mut self, value: u32) -> bool {
        if self.state[value as usize] & BLUE != 0 {
            return true;
        }
        let weight = self.weight(value);
        self.push(Op::Store, value);
        self.count.stores += weight;
        if self.count.model.blue_persists {
            self.state[value as usize] |= BLUE;
        } else {
            self.words -= weight;
        }
        self.count.model.blue_persists
    }

    #[inline]
    fn delete(&mut self, value: u32) {
        self.push(Op::Delete, value);
        self.words -= self.weight(value);
    }

    /// A value has been used, or computed.
    #[inline(always)]
    fn advance(&mut self, value: u32, next: u32) {
        let state = self.state[value as usize] & (RED | BLUE);
        self.state[value as usize] = next << BITS | state;
        if state & RED == 0 {
            // It has been slid.
            return;
        }
        if next == NEVER {
            self.end(value);
        } else {
            self.rule.expect(next);
        }
    }

    /// A value in fast memory has no more uses.
    #[inline]
    fn end(&mut self, value: u32) {
        self.rule.leave(value, None);
        let (dirty, output, model) = self.fate(value);
        if dirty && output && model.outputs == Outputs::Blue {
            if self.save(value) {
                self.delete(value);
            }
            self.state[value as usize] = NEVER << BITS | BLUE;
        } else if dirty && (output || !model.deletes) {
            self.kept.push(value);
        } else {
            self.delete(value);
            self.state[value as usize] &= !RED;
        }
    }

    fn fate(&self, value: u32) -> (bool, bool, Model) {
        let dirty = self.state[value as usize] & BLUE == 0;
        (dirty, self.schedule.dag.is_output(self.vertex(value)), self.count.model)
    }

    /// Outputs that are sources and that nothing is computed from.
    fn unused_outputs(&mut self) -> Result<()> {
        let schedule = self.schedule;
        for value in schedule.steps()..schedule.vertices.len() {
            let output = schedule.dag.is_output(schedule.vertices[value]);
            if output && schedule.firsts[value] == NEVER && self.state[value] & BLUE == 0 {
                let value = value as u32;
                self.make_room(self.weight(value), NEVER)?;
                self.compute(value);
                self.hold();
                self.rule.enter(value);
                self.state[value as usize] = RED;
                self.advance(value, NEVER);
            }
        }
        Ok(())
    }
}
