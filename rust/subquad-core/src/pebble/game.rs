//! The referee: plays moves one by one, and refuses the first that is not legal.

use std::fmt;

use super::{Dag, Model, Move, Op, Outputs, Sources};
use crate::{Error, Par, Result};

/// What a play costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    /// Words loaded.
    pub loads: u64,
    /// Words stored.
    pub stores: u64,
    /// The most words that were in fast memory after a move (of a pebble that slides, after it has).
    pub peak: u64,
    /// Values computed, each time counted.
    pub computations: u64,
    /// Values computed, but for the first time of each.
    pub recomputations: u64,
    /// The game that was played.
    pub model: Model,
}

impl Count {
    /// Words moved, and what the model charges for computing.
    pub fn cost(&self) -> f64 {
        (self.loads + self.stores) as f64 + self.model.compute_cost * self.computations as f64
    }
}

/// A rule that a move breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// There is no such vertex.
    UnknownVertex,
    /// Only what is in slow memory can be loaded.
    LoadNeedsBlue,
    /// Only what is in fast memory can be stored.
    StoreNeedsRed,
    /// Only what is in fast memory can be deleted from it.
    DeleteNeedsRed,
    /// It is in fast memory already.
    AlreadyRed,
    /// All operands must be in fast memory.
    ComputeNeedsOperands,
    /// Sources are loaded, not computed.
    SourceComputed,
    /// The model computes a value once.
    ComputedAgain,
    /// The model deletes only what is in slow memory too.
    DeleteForbidden,
    /// Fast memory is full.
    MemoryFull,
    /// All moves are made, and an output is not where it should be.
    OutputMissing,
}

impl Rule {
    /// As users read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownVertex => "unknown-vertex",
            Self::LoadNeedsBlue => "load-needs-blue",
            Self::StoreNeedsRed => "store-needs-red",
            Self::DeleteNeedsRed => "delete-needs-red",
            Self::AlreadyRed => "already-red",
            Self::ComputeNeedsOperands => "compute-needs-operands",
            Self::SourceComputed => "source-computed",
            Self::ComputedAgain => "computed-again",
            Self::DeleteForbidden => "delete-forbidden",
            Self::MemoryFull => "memory-full",
            Self::OutputMissing => "output-missing",
        }
    }
}

/// A move that is not legal.
#[derive(Clone, Debug, PartialEq)]
pub struct Illegal {
    /// Its number, from 0; that of all moves if the play ended too early.
    pub step: usize,
    /// What it does, and to which vertex; no operation if the play ended too early.
    pub op: Option<Op>,
    /// See `op`.
    pub vertex: u32,
    /// What it breaks.
    pub rule: Rule,
    /// Operands or outputs that are missing.
    pub missing: Vec<u32>,
    /// Words in fast memory with this move, and how many fit.
    pub words: u64,
    /// See `words`.
    pub memory: u64,
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.vertex;
        match self.op {
            Some(op) => write!(f, "step {}, {} {v}: ", self.step, op.name())?,
            None => write!(f, "after step {}: ", self.step)?,
        }
        match self.rule {
            Rule::UnknownVertex => write!(f, "there is no vertex {v}"),
            Rule::LoadNeedsBlue => write!(f, "vertex {v} is not in slow memory"),
            Rule::StoreNeedsRed | Rule::DeleteNeedsRed => {
                write!(f, "vertex {v} is not in fast memory")
            }
            Rule::AlreadyRed => write!(f, "vertex {v} is in fast memory already"),
            Rule::ComputeNeedsOperands => {
                write!(f, "operands {:?} are not in fast memory", self.missing)
            }
            Rule::SourceComputed => write!(f, "vertex {v} is a source, to be loaded"),
            Rule::ComputedAgain => {
                write!(f, "vertex {v} has been computed, and the model has recompute=False")
            }
            Rule::DeleteForbidden => {
                write!(f, "vertex {v} is not in slow memory, and the model has deletes=False")
            }
            Rule::MemoryFull => {
                write!(f, "fast memory would hold {} words of {}", self.words, self.memory)
            }
            Rule::OutputMissing => write!(f, "outputs {:?} are missing at the end", self.missing),
        }
    }
}

const RED: u8 = 1;
const BLUE: u8 = 2;
const COMPUTED: u8 = 4;

/// Plays `moves` with `memory` words of fast memory. O(V + moves + operands of what is computed).
///
/// If pebbles slide, computing a value may overfill the memory for as long as it takes to delete one of its
/// operands, which must be the next move.
///
/// The first move that breaks a rule, or what the play costs.
///
/// # Errors
///
/// [`Error::Stopped`].
pub fn play(dag: &Dag, moves: &[Move], memory: u64, model: Model, par: Par) -> Result<Verdict> {
    const BETWEEN_QUESTIONS: usize = 1 << 12;
    let played = par.map(1, |_, pulse| {
        let mut table = Table::new(dag, memory, model);
        for step in 0..moves.len() {
            // What a stopped task returns is thrown away.
            if step % BETWEEN_QUESTIONS == 0 && pulse.stopped() {
                break;
            }
            table.play(moves, step)?;
        }
        table.end(moves.len())
    });
    played?.pop().ok_or(Error::Stopped)
}

/// What a referee says.
pub type Verdict = std::result::Result<Count, Box<Illegal>>;

/// The pebbles on the board.
struct Table<'a> {
    dag: &'a Dag,
    memory: u64,
    /// Bits [`RED`], [`BLUE`] and [`COMPUTED`] of every vertex.
    state: Vec<u8>,
    /// Words in fast memory.
    words: u64,
    count: Count,
}

impl<'a> Table<'a> {
    fn new(dag: &'a Dag, memory: u64, model: Model) -> Self {
        let blue = |v| if model.sources == Sources::Blue && dag.is_source(v) { BLUE } else { 0 };
        let state = (0..dag.num_vertices() as u32).map(blue).collect();
        let count =
            Count { loads: 0, stores: 0, peak: 0, computations: 0, recomputations: 0, model };
        Self { dag, memory, state, words: 0, count }
    }

    fn play(&mut self, moves: &[Move], step: usize) -> Result<(), Box<Illegal>> {
        let mv = moves[step];
        self.make(mv, moves.get(step + 1)).map_err(|(rule, missing)| {
            let (op, vertex) = (Some(mv.op()), mv.vertex());
            let (words, memory) = (self.words, self.memory);
            Box::new(Illegal { step, op, vertex, rule, missing, words, memory })
        })
    }

    fn make(&mut self, mv: Move, next: Option<&Move>) -> Result<(), (Rule, Vec<u32>)> {
        let (v, model) = (mv.vertex(), self.count.model);
        let Some(&state) = self.state.get(v as usize) else {
            return Err((Rule::UnknownVertex, vec![]));
        };
        let weight = self.dag.weight(v);
        let needs = |bit, rule| if state & bit == 0 { Err((rule, vec![])) } else { Ok(()) };
        match mv.op() {
            Op::Load => {
                needs(BLUE, Rule::LoadNeedsBlue)?;
                self.place(v, false)?;
                self.count.loads += weight;
                if !model.blue_persists {
                    self.state[v as usize] &= !BLUE;
                }
            }
            Op::Store => {
                needs(RED, Rule::StoreNeedsRed)?;
                self.count.stores += weight;
                self.state[v as usize] |= BLUE;
                if !model.blue_persists {
                    self.remove(v);
                }
            }
            Op::Compute => {
                self.may_compute(v, state)?;
                let slides = model.sliding
                    && next.is_some_and(|next| {
                        next.op() == Op::Delete
                            && self.dag.preds(v).binary_search(&next.vertex()).is_ok()
                    });
                self.place(v, slides)?;
                self.count.computations += 1;
                self.count.recomputations += u64::from(state & COMPUTED != 0);
                self.state[v as usize] |= COMPUTED;
            }
            Op::Delete => {
                needs(RED, Rule::DeleteNeedsRed)?;
                if !model.deletes {
                    needs(BLUE, Rule::DeleteForbidden)?;
                }
                self.remove(v);
                // Where a pebble has slid, it is only now that memory must hold what it holds.
                self.fits()?;
            }
        }
        Ok(())
    }

    fn may_compute(&self, v: u32, state: u8) -> Result<(), (Rule, Vec<u32>)> {
        let model = self.count.model;
        if model.sources == Sources::Blue && self.dag.is_source(v) {
            return Err((Rule::SourceComputed, vec![]));
        }
        if !model.recompute && state & COMPUTED != 0 {
            return Err((Rule::ComputedAgain, vec![]));
        }
        let operands = self.dag.preds(v);
        if operands.iter().all(|&u| self.state[u as usize] & RED != 0) {
            return Ok(());
        }
        let missing = operands.iter().filter(|&&u| self.state[u as usize] & RED == 0);
        Err((Rule::ComputeNeedsOperands, missing.copied().collect()))
    }

    /// Puts a value into fast memory; a pebble that slides makes room with the next move.
    fn place(&mut self, v: u32, slides: bool) -> Result<(), (Rule, Vec<u32>)> {
        if self.state[v as usize] & RED != 0 {
            return Err((Rule::AlreadyRed, vec![]));
        }
        self.words += self.dag.weight(v);
        if !slides {
            self.fits()?;
        }
        self.state[v as usize] |= RED;
        Ok(())
    }

    fn remove(&mut self, v: u32) {
        self.words -= self.dag.weight(v);
        self.state[v as usize] &= !RED;
    }

    fn fits(&mut self) -> Result<(), (Rule, Vec<u32>)> {
        self.count.peak = self.count.peak.max(self.words);
        if self.words > self.memory { Err((Rule::MemoryFull, vec![])) } else { Ok(()) }
    }

    fn end(self, step: usize) -> Verdict {
        let wanted = match self.count.model.outputs {
            Outputs::Blue => BLUE,
            Outputs::Any => RED | BLUE,
        };
        let missing: Vec<u32> =
            self.dag.outputs().filter(|&v| self.state[v as usize] & wanted == 0).collect();
        if missing.is_empty() {
            return Ok(self.count);
        }
        let (rule, vertex) = (Rule::OutputMissing, missing[0]);
        let (words, memory) = (self.words, self.memory);
        Err(Box::new(Illegal { step, op: None, vertex, rule, missing, words, memory }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A diamond: 1 and 2 from 0, 3 from both.
    fn diamond() -> Dag {
        Dag::new(4, &[[0, 1], [0, 2], [1, 3], [2, 3]], None, None).unwrap()
    }

    fn verdict(moves: &[(Op, u32)], memory: u64, model: Model) -> Verdict {
        let moves: Vec<Move> = moves.iter().map(|&(op, v)| Move::new(op, v)).collect();
        play(&diamond(), &moves, memory, model, Par::seq()).unwrap()
    }

    /// The step and rule of the first illegal move.
    fn broken(moves: &[(Op, u32)], memory: u64, model: Model) -> (usize, Rule) {
        let illegal = verdict(moves, memory, model).unwrap_err();
        (illegal.step, illegal.rule)
    }

    use Op::{Compute, Delete, Load, Store};

    const PLAY: [(Op, u32); 6] =
        [(Load, 0), (Compute, 1), (Compute, 2), (Delete, 0), (Compute, 3), (Store, 3)];

    #[test]
    fn a_legal_play_is_counted() {
        let model = Model::default();
        let count = verdict(&PLAY, 3, model).unwrap();
        let expected =
            Count { loads: 1, stores: 1, peak: 3, computations: 3, recomputations: 0, model };
        assert_eq!(count, expected);
        assert_eq!(broken(&PLAY, 2, model), (2, Rule::MemoryFull));
    }

    #[test]
    fn every_rule_is_kept() {
        let any = Model::default();
        assert_eq!(broken(&[(Load, 1)], 3, any), (0, Rule::LoadNeedsBlue));
        assert_eq!(broken(&[(Store, 0)], 3, any), (0, Rule::StoreNeedsRed));
        assert_eq!(broken(&[(Delete, 0)], 3, any), (0, Rule::DeleteNeedsRed));
        assert_eq!(broken(&[(Load, 0), (Load, 0)], 3, any), (1, Rule::AlreadyRed));
        assert_eq!(broken(&[(Compute, 0)], 3, any), (0, Rule::SourceComputed));
        assert_eq!(broken(&[(Compute, 1)], 3, any), (0, Rule::ComputeNeedsOperands));
        assert_eq!(broken(&[(Load, 9)], 3, any), (0, Rule::UnknownVertex));
        assert_eq!(broken(&PLAY[..5], 3, any), (5, Rule::OutputMissing));
        let again = [(Load, 0), (Compute, 1), (Delete, 1), (Compute, 1)];
        assert_eq!(broken(&again, 3, any), (3, Rule::ComputedAgain));
        let recompute = Model { recompute: true, ..any };
        assert_eq!(broken(&again, 3, recompute), (4, Rule::OutputMissing));
        let no_deletes = Model { deletes: false, ..any };
        assert_eq!(broken(&again, 3, no_deletes), (2, Rule::DeleteForbidden));
        assert_eq!(broken(&[(Load, 0), (Delete, 0)], 3, no_deletes), (2, Rule::OutputMissing));
    }

    #[test]
    fn a_pebble_that_slides_needs_no_room() {
        let sliding = Model { sliding: true, ..Model::default() };
        let moves = [
            (Load, 0),
            (Compute, 1),
            (Compute, 2),
            (Delete, 0),
            (Compute, 3),
            (Delete, 1),
            (Store, 3),
        ];
        assert_eq!(verdict(&moves, 2, sliding).unwrap().peak, 2);
        assert_eq!(broken(&moves, 2, Model::default()), (2, Rule::MemoryFull));
        // Full, and what is deleted next is no operand.
        let moves = [(Load, 0), (Compute, 1), (Compute, 2), (Delete, 1)];
        assert_eq!(broken(&moves, 2, sliding), (2, Rule::MemoryFull));
    }

    #[test]
    fn a_pebble_that_is_recoloured_is_in_one_place() {
        let recolour = Model { blue_persists: false, ..Model::default() };
        let moves = [(Load, 0), (Delete, 0), (Load, 0)];
        assert_eq!(broken(&moves, 3, recolour), (2, Rule::LoadNeedsBlue));
        let moves = [(Load, 0), (Compute, 1), (Store, 1), (Store, 0), (Store, 1)];
        assert_eq!(broken(&moves, 3, recolour), (4, Rule::StoreNeedsRed));
    }

    #[test]
    fn sources_may_be_computable_and_outputs_anywhere() {
        let model = Model {
            sources: Sources::Computable,
            outputs: Outputs::Any,
            compute_cost: 0.5,
            ..Model::default()
        };
        let moves = [(Compute, 0), (Compute, 1), (Compute, 2), (Delete, 0), (Compute, 3)];
        let count = verdict(&moves, 3, model).unwrap();
        assert_eq!((count.loads, count.stores, count.cost()), (0, 0, 2.0));
        assert_eq!(broken(&[(Load, 0)], 3, model), (0, Rule::LoadNeedsBlue));
    }

    #[test]
    fn words_are_counted_by_weight() {
        let dag = Dag::new(2, &[[0, 1]], None, Some(vec![5, 2])).unwrap();
        let moves =
            [Move::new(Load, 0), Move::new(Compute, 1), Move::new(Delete, 0), Move::new(Store, 1)];
        let referee = |memory| play(&dag, &moves, memory, Model::default(), Par::seq()).unwrap();
        let count = referee(7).unwrap();
        assert_eq!((count.loads, count.stores, count.peak), (5, 2, 7));
        assert_eq!(
            referee(6).unwrap_err().to_string(),
            "step 1, compute 1: fast memory would hold 7 words of 6"
        );
    }
}
