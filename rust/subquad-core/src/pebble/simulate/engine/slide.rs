//! Pebbles that slide: a value takes the place of one of its operands.

use std::ops::Range;

use super::super::rules::Rule;
use super::super::schedule::NEVER;
use super::{BLUE, Engine, Op, Outputs, RED, Sink, expected};
use crate::{Error, Result};

impl<'a, R: Rule, S: Sink> Engine<'a, R, S> {
    /// Computes a value in the place of an operand, if one need not stay or must not.
    pub(super) fn slide_into(&mut self, value: u32, uses: Range<u32>) -> Result<()> {
        let words = self.weight(value);
        let limit = uses.end;
        let mut slid = self.heaviest(uses.clone(), |engine, operand, next| {
            let (dirty, output, model) = engine.fate(operand);
            let saved = output && model.outputs == Outputs::Blue && model.blue_persists;
            let free = !dirty || model.deletes && (!output || saved);
            next == NEVER && free
        });
        // What can be stored and stay: where pebbles are recoloured, nothing.
        let may = |engine: &Self, operand: u32, _| {
            engine.count.model.blue_persists || engine.state[operand as usize] & BLUE != 0
        };
        loop {
            let freed = slid.map_or(0, |(operand, _)| self.weight(operand));
            if self.words + words <= self.memory + freed {
                break;
            }
            let furthest = slid.is_none() && R::FORESEES && self.kept.is_empty();
            let victim = self.victim(limit);
            let other = if furthest { self.furthest(uses.clone(), may) } else { None };
            match (victim, other) {
                (Some(victim), Some((operand, next)))
                    if next > expected(self.state[victim as usize])
                        && self.words + words <= self.memory + self.weight(operand) =>
                {
                    slid = Some((operand, next));
                }
                (Some(victim), _) => self.evict(victim),
                (None, _) => {
                    let heaviest = self.heaviest(uses.clone(), may);
                    slid = heaviest.filter(|&(operand, _)| self.weight(operand) > freed);
                    if slid.is_none() {
                        let least = self.words + words - freed;
                        return Err(Error::TooSmall { name: "memory", least, found: self.memory });
                    }
                }
            }
        }
        let Some((operand, next)) = slid else {
            self.compute(value);
            self.doubt = Some((self.words, uses));
            return Ok(());
        };
        let (_, output, model) = self.fate(operand);
        if next != NEVER || output || !model.deletes {
            self.save(operand);
        }
        self.compute(value);
        self.delete(operand);
        self.hold();
        self.rule.leave(operand, None);
        self.state[operand as usize] &= !RED;
        Ok(())
    }

    fn operands(&self, uses: Range<u32>) -> impl Iterator<Item = (u32, u32)> + use<'a, R, S> {
        let schedule = self.schedule;
        uses.map(move |this| (schedule.value(this), schedule.next[this as usize]))
    }

    /// Of the operands that may, the one of most words, and its next use.
    fn heaviest(
        &self,
        uses: Range<u32>,
        may: impl Fn(&Self, u32, u32) -> bool,
    ) -> Option<(u32, u32)> {
        let operands = self.operands(uses).filter(|&(operand, next)| may(self, operand, next));
        operands.max_by_key(|&(operand, _)| self.weight(operand))
    }

    /// Of the operands that may, the one that is used next last, and that use.
    fn furthest(
        &self,
        uses: Range<u32>,
        may: impl Fn(&Self, u32, u32) -> bool,
    ) -> Option<(u32, u32)> {
        let operands = self.operands(uses).filter(|&(operand, next)| may(self, operand, next));
        operands.max_by_key(|&(_, next)| next)
    }

    /// Counts the words after the last computation, unless this move makes it slide.
    pub(super) fn settle(&mut self, next: Option<(Op, u32)>) {
        let Some((words, mut uses)) = self.doubt.take() else { return };
        let slides = next.is_some_and(|(op, value)| {
            op == Op::Delete && uses.any(|this| self.schedule.value(this) == value)
        });
        if !slides {
            self.count.peak = self.count.peak.max(words);
        }
    }
}
