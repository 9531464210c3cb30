//! The variant of the game.

/// Where sources begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sources {
    /// In slow memory: using one costs a load.
    #[default]
    Blue,
    /// Nowhere: a source is computed like any other value, from nothing.
    Computable,
}

/// Where outputs must end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outputs {
    /// In slow memory.
    #[default]
    Blue,
    /// In either memory.
    Any,
}

/// The rules of a game that authors choose differently. Numbers of different models are not comparable.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // rules that are kept or not, each on its own
pub struct Model {
    /// May a value be computed more than once? Hong and Kung allow it; without, the game is "one-shot".
    pub recompute: bool,
    /// May the pebble of an operand move to the value computed from it? Then a value and its last operand
    /// share a place in memory.
    pub sliding: bool,
    /// Does a value stay in slow memory when it is loaded, and in fast memory when it is stored? If not, a
    /// pebble is recoloured: a value is in one memory at a time, and a loaded one costs again to drop.
    pub blue_persists: bool,
    /// May a value leave fast memory without being in slow memory?
    pub deletes: bool,
    /// What computing a value costs, in words moved; finite and not negative.
    pub compute_cost: f64,
    /// Where sources begin.
    pub sources: Sources,
    /// Where outputs must end.
    pub outputs: Outputs,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            recompute: false,
            sliding: false,
            blue_persists: true,
            deletes: true,
            compute_cost: 0.0,
            sources: Sources::Blue,
            outputs: Outputs::Blue,
        }
    }
}
