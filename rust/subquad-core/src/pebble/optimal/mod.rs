//! The cheapest plays: exact search for red-blue pebbling, with bounds on both sides at any time.

mod astar;
mod beam;
mod expand;
mod mask;
mod oneshot;
mod replay;
mod store;
mod symmetry;

/// Where a search stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It may go on.
    Running,
    /// The best play is an optimum.
    Optimal,
    /// It would need more memory.
    MemoryLimit,
    /// There is no play.
    Infeasible,
    /// The graph is too large for a search.
    TooLarge,
}

/// What a search knows.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub lower: u64,
    pub upper: Option<u64>,
    pub expanded: u64,
    pub states: u64,
    pub bytes: u64,
    pub status: Status,
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
