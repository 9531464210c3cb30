//! The one error type of the crate.

use std::fmt;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call was refused. Every variant carries what a user needs to fix the call.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// Two arguments disagree about a dimension they share.
    Shape {
        /// Name of the argument.
        name: &'static str,
        /// Name of the dimension in the docs, such as `S`.
        dim: &'static str,
        /// Length demanded by the arguments before it.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// An argument lies outside the range in which the function is defined.
    Domain {
        /// Name of the argument.
        name: &'static str,
        /// What is required of it.
        requires: &'static str,
        /// The value received.
        found: f64,
    },
    /// A count is smaller than what can do.
    TooSmall {
        /// Name of the argument.
        name: &'static str,
        /// The least that can do.
        least: u64,
        /// The value received.
        found: u64,
    },
    /// An environment variable has a value that nobody defined.
    Environment {
        /// Name of the variable.
        name: &'static str,
        /// What is required of it.
        requires: &'static str,
        /// The value received.
        found: String,
    },
    /// An array holds a number that is infinite or not a number.
    NonFinite {
        /// Name of the argument.
        name: &'static str,
        /// Where the first one is.
        row: usize,
        /// See `row`.
        column: usize,
    },
    /// An argument has an element type that the function does not take.
    Type {
        /// Name of the argument.
        name: &'static str,
        /// What is required of it.
        requires: &'static str,
        /// The type received.
        found: &'static str,
    },
    /// The weights of a row have no sum that is certainly positive.
    Weights {
        /// Number of the head, counted over all.
        head: usize,
        /// Number of the row.
        row: usize,
        /// What they add up to.
        sum: f64,
        /// What that may be off by.
        doubt: f64,
    },
    /// There is no key of this id: it never was, or it has been removed.
    UnknownId {
        /// The id.
        id: i64,
    },
    /// An id is named twice.
    RepeatedId {
        /// The id.
        id: i64,
    },
    /// A vertex that a graph does not have.
    Vertex {
        /// Name of the argument.
        name: &'static str,
        /// Where in it.
        index: usize,
        /// The vertex.
        vertex: u64,
        /// How many vertices there are.
        vertices: usize,
    },
    /// A graph that should have no cycle has one.
    Cycle {
        /// The cycle; an edge leads from each vertex to the next, and from the last to the first.
        vertices: Vec<u32>,
    },
    /// An order of computation comes to a vertex before one of its operands.
    Operand {
        /// Where in the order.
        index: usize,
        /// What is to be computed there.
        vertex: u32,
        /// What is not computed before.
        operand: u32,
    },
    /// An order of computation does not hold a vertex that is needed, or holds it again.
    NotOnce {
        /// The vertex.
        vertex: u32,
        /// How often it is there.
        times: usize,
    },
    /// A file is not what it should be: foreign, damaged, or of a newer version.
    Format {
        /// What is required of it.
        requires: &'static str,
        /// What was found.
        found: String,
    },
    /// The operating system refused to read or write a file.
    Io {
        /// The file.
        path: String,
        /// Number of the error, if the system gave one.
        code: Option<i32>,
        /// What it said.
        message: String,
    },
    /// More memory is needed than there is.
    Memory {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// The caller asked to stop, see [`Par::stop_if`](crate::Par::stop_if).
    Stopped,
}

impl Error {
    /// Refuses an argument whose dimension `dim` is not what it should be.
    pub(crate) fn unless_equal(
        name: &'static str,
        dim: &'static str,
        expected: usize,
        found: usize,
    ) -> Result<()> {
        if expected == found { Ok(()) } else { Err(Self::Shape { name, dim, expected, found }) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { name, dim, expected, found } => {
                write!(f, "`{name}` must have {dim} = {expected}, got {found}")
            }
            Self::Domain { name, requires, found } => {
                write!(f, "`{name}` must be {requires}, got {found}")
            }
            Self::TooSmall { name, least, found } => {
                write!(f, "`{name}` must be at least {least}, got {found}")
            }
            Self::Environment { name, requires, found } => {
                write!(f, "environment variable {name} must be {requires}, got {found:?}")
            }
            Self::NonFinite { name, row, column } => {
                write!(f, "`{name}` must be finite, but [{row}, {column}] is not")
            }
            Self::Type { name, requires, found } => {
                write!(f, "`{name}` must be {requires}, got {found}")
            }
            Self::Weights { head, row, sum, doubt } => write!(
                f,
                "the weights of row {row} of head {head} add up to {sum}, known to within {doubt}"
            ),
            Self::UnknownId { id } => write!(f, "there is no key with id {id}"),
            Self::RepeatedId { id } => write!(f, "id {id} is named twice"),
            Self::Vertex { name, index, vertex, vertices } => {
                write!(
                    f,
                    "`{name}` must hold vertices below {vertices}, got {vertex} at index {index}"
                )
            }
            Self::Cycle { vertices } => {
                let shown = &vertices[..vertices.len().min(8)];
                write!(f, "`edges` must have no cycle, got one through the vertices {shown:?}")?;
                match vertices.len() - shown.len() {
                    0 => Ok(()),
                    others => write!(f, " and {others} more"),
                }
            }
            Self::Operand { index, vertex, operand } => write!(
                f,
                "`order` must have operands first, got vertex {vertex} at index {index} before its operand {operand}"
            ),
            Self::NotOnce { vertex, times } => write!(
                f,
                "`order` must hold every vertex that is computed for an output once, got vertex {vertex} {times} times"
            ),
            Self::Format { requires, found } => {
                write!(f, "the file must be {requires}, got {found}")
            }
            Self::Io { path, message, .. } => write!(f, "{path}: {message}"),
            Self::Memory { bytes } => write!(f, "{bytes} bytes of memory are not to be had"),
            Self::Stopped => write!(f, "stopped at the caller's request"),
        }
    }
}

impl std::error::Error for Error {}
