//! Moves of the game, four bytes each.

use std::fmt;

/// What a move does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Slow memory to fast memory.
    Load,
    /// Fast memory to slow memory.
    Store,
    /// Into fast memory, from operands that are all there.
    Compute,
    /// Out of fast memory.
    Delete,
}

impl Op {
    const ALL: [Self; 4] = [Self::Load, Self::Store, Self::Compute, Self::Delete];

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Store => "store",
            Self::Compute => "compute",
            Self::Delete => "delete",
        }
    }
}

/// One move: an [`Op`] in the two highest bits of a word, a vertex in the others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Move(u32);

impl Move {
    /// Bits of a vertex.
    pub const BITS: u32 = 30;

    /// # Panics
    ///
    /// If the vertex has more than [`BITS`](Self::BITS) bits: no [`Dag`](super::Dag) has one.
    pub fn new(op: Op, vertex: u32) -> Self {
        assert!(vertex >> Self::BITS == 0);
        Self((op as u32) << Self::BITS | vertex)
    }

    /// The move of a word that [`word`](Self::word) returned; every word is one.
    pub fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// The move as a word.
    pub fn word(self) -> u32 {
        self.0
    }

    /// As [`from_word`](Self::from_word), for many.
    pub fn from_words(words: &[u32]) -> &[Self] {
        // SAFETY: a move is laid out as its word (`repr(transparent)`), and every word is a move.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }

    /// As [`word`](Self::word), for many.
    pub fn words(moves: &[Self]) -> &[u32] {
        // SAFETY: a move is laid out as its word (`repr(transparent)`).
        unsafe { std::slice::from_raw_parts(moves.as_ptr().cast(), moves.len()) }
    }

    /// What it does.
    pub fn op(self) -> Op {
        Op::ALL[(self.0 >> Self::BITS) as usize]
    }

    /// To which value.
    pub fn vertex(self) -> u32 {
        self.0 & ((1 << Self::BITS) - 1)
    }
}

impl fmt::Debug for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.op().name(), self.vertex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_moves_and_back() {
        let last = (1 << Move::BITS) - 1;
        let moves: Vec<Move> = Op::ALL.iter().map(|&op| Move::new(op, last)).collect();
        let words: Vec<u32> = moves.iter().map(|mv| mv.word()).collect();
        assert_eq!((Move::words(&moves), Move::from_words(&words)), (&words[..], &moves[..]));
        assert_eq!(moves[1].op(), Op::Store);
        assert_eq!(moves[3].vertex(), last);
        assert_eq!(Move::from_words(&[]), []);
    }
}
