//! What generators write to: vertices in order, of which edges, names or pieces are kept.

use std::fmt::Write;
use std::ops::Range;

use super::super::Dag;
use super::Form;
use crate::Result;

/// What is kept of the vertices.
enum Kept {
    Edges { edges: Vec<[u32; 2]>, outputs: Vec<u32> },
    Names { names: Vec<String>, wanted: Option<u32> },
    Pieces { starts: Vec<u32> },
}

/// A matrix by its name and the first of its vertices.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    first: u32,
    columns: usize,
}

impl Matrix {
    pub(super) fn columns(self) -> usize {
        self.columns
    }

    pub(super) fn at(self, row: usize, column: usize) -> u32 {
        self.first + (row * self.columns + column) as u32
    }
}

/// Numbers vertices from 0. The callers have checked that there are at most 2^30.
pub(super) struct Builder {
    next: u32,
    kept: Kept,
}

impl Builder {
    pub(super) fn of_edges() -> Self {
        Self { next: 0, kept: Kept::Edges { edges: Vec::new(), outputs: Vec::new() } }
    }

    /// Keeps the name of the vertex that is wanted, or all.
    pub(super) fn of_names(wanted: Option<u32>) -> Self {
        Self { next: 0, kept: Kept::Names { names: Vec::new(), wanted } }
    }

    /// Keeps where the pieces begin.
    pub(super) fn of_pieces() -> Self {
        Self { next: 0, kept: Kept::Pieces { starts: Vec::new() } }
    }

    /// The vertices from here to the next call can only be computed one after the other.
    pub(super) fn piece(&mut self) {
        if let Kept::Pieces { starts } = &mut self.kept {
            starts.push(self.next);
        }
    }

    /// A vertex, called `label[at]`.
    pub(super) fn vertex(&mut self, label: &str, at: &[usize], operands: &[u32]) -> u32 {
        self.part(label, at, None, operands)
    }

    /// A vertex, called `label[at]`, or if it is a part of that, the sum of some terms, `label[at;first:last]`.
    fn part(
        &mut self,
        label: &str,
        at: &[usize],
        terms: Option<&Range<usize>>,
        operands: &[u32],
    ) -> u32 {
        let v = self.next;
        match &mut self.kept {
            Kept::Edges { edges, .. } => edges.extend(operands.iter().map(|&u| [u, v])),
            Kept::Names { names, wanted } if wanted.is_none_or(|wanted| wanted == v) => {
                names.push(name(label, at, terms));
            }
            Kept::Names { .. } | Kept::Pieces { .. } => {}
        }
        self.next += 1;
        v
    }

    /// Sources, as a matrix.
    pub(super) fn input(&mut self, label: &str, rows: usize, columns: usize) -> Matrix {
        let first = self.next;
        for i in 0..rows * columns {
            self.vertex(label, &[i / columns, i % columns], &[]);
        }
        Matrix { first, columns }
    }

    /// The vertex is wanted.
    pub(super) fn output(&mut self, v: u32) {
        if let Kept::Edges { outputs, .. } = &mut self.kept {
            outputs.push(v);
        }
    }

    pub(super) fn dag(self) -> Result<Dag> {
        match self.kept {
            Kept::Edges { edges, outputs } => {
                Dag::new(self.next as usize, &edges, Some(&outputs), None)
            }
            Kept::Names { .. } | Kept::Pieces { .. } => {
                unreachable!("only a builder of edges is asked")
            }
        }
    }

    pub(super) fn names(self) -> Vec<String> {
        match self.kept {
            Kept::Names { names, .. } => names,
            Kept::Edges { .. } | Kept::Pieces { .. } => vec![],
        }
    }

    pub(super) fn pieces(self) -> Vec<Range<u32>> {
        match self.kept {
            Kept::Pieces { starts } => {
                let ends = starts.iter().skip(1).copied().chain([self.next]);
                starts.iter().zip(ends).map(|(&start, end)| start..end).collect()
            }
            Kept::Edges { .. } | Kept::Names { .. } => vec![],
        }
    }
}

fn name(label: &str, at: &[usize], terms: Option<&Range<usize>>) -> String {
    let mut name = format!("{label}[");
    for (axis, i) in at.iter().enumerate() {
        let comma = if axis > 0 { "," } else { "" };
        let _ = write!(name, "{comma}{i}");
    }
    if let Some(Range { start, end }) = terms {
        let _ = write!(name, ";{start}:{end}");
    }
    name.push(']');
    name
}

/// A sum whose terms come one after the other.
pub(super) struct Sum<'a, const AXES: usize> {
    label: &'a str,
    at: [usize; AXES],
    form: Form,
    /// How many terms there will be.
    terms: usize,
    /// Sums of neighbouring terms that are not added up yet: from where to where, and their vertices.
    parts: Vec<(Range<usize>, u32)>,
}

impl<'a, const AXES: usize> Sum<'a, AXES> {
    pub(super) fn new(label: &'a str, at: [usize; AXES], form: Form, terms: usize) -> Self {
        Self { label, at, form, terms, parts: vec![] }
    }

    /// The next term is a product.
    pub(super) fn multiply(&mut self, b: &mut Builder, factors: [u32; 2]) {
        let t = self.count();
        match self.parts.pop() {
            Some((terms, sum)) if self.form == Form::Fma => {
                let [x, y] = factors;
                self.push(b, terms.start..t + 1, &[sum, x, y]);
            }
            before => {
                self.parts.extend(before);
                self.push(b, t..t + 1, &factors);
                self.reduce(b);
            }
        }
    }

    /// The next term is a value.
    pub(super) fn add(&mut self, b: &mut Builder, term: u32) {
        let t = self.count();
        self.parts.push((t..t + 1, term));
        self.reduce(b);
    }

    /// The sum, of all terms.
    pub(super) fn value(&self) -> u32 {
        self.parts.last().expect("a sum has at least one term").1
    }

    fn count(&self) -> usize {
        self.parts.last().map_or(0, |(terms, _)| terms.end)
    }

    fn push(&mut self, b: &mut Builder, terms: Range<usize>, operands: &[u32]) {
        let part = Some(&terms).filter(|terms| terms.len() < self.terms);
        let v = b.part(self.label, &self.at, part, operands);
        self.parts.push((terms, v));
    }

    /// Adds up what can be added: all, or in a tree what is of the same size, and all after the last term.
    fn reduce(&mut self, b: &mut Builder) {
        while let [.., (x, left), (y, right)] = &self.parts[..] {
            if self.form == Form::Tree && x.len() > y.len() && y.end < self.terms {
                break;
            }
            let (terms, operands) = (x.start..y.end, [*left, *right]);
            self.parts.truncate(self.parts.len() - 2);
            self.push(b, terms, &operands);
        }
    }
}
