//! From the coordinates of a key to codes.

use super::Norms;
use crate::halfspace::basis::Basis;
use crate::halfspace::coder::{self, Bits, Summary, pack2, pack4, up16};
use crate::halfspace::planes::Shape;
use crate::halfspace::residual::{self, Residuals};
use crate::simd::Isa;

/// Workspace for one key.
pub(super) struct Coder<'a> {
    isa: Isa,
    basis: &'a Basis,
    codes: Vec<u8>,
    pub words: Vec<u32>,
    left: Vec<f32>,
    bits: Vec<f32>,
    rest_codes: Vec<u8>,
    pub norms: Norms,
}

impl<'a> Coder<'a> {
    pub fn new(isa: Isa, basis: &'a Basis) -> Self {
        let padded = Residuals::padded(basis.dim);
        Self {
            isa,
            basis,
            codes: vec![0; basis.steps.len()],
            words: vec![0; basis.shape.lines()],
            left: vec![0.0; padded],
            bits: vec![0.0; padded],
            rest_codes: vec![0; padded],
            norms: Norms::default(),
        }
    }

    /// Codes coordinates: leaves the words of the first stage, fills the row of the second, and gives
    /// the norm of what the first leaves out.
    pub fn code(&mut self, y: &[f64], row: &mut [u8]) -> u16 {
        let Shape { nibbles, .. } = self.basis.shape;
        let mut squares = [0.0_f64; 2];
        for (j, code) in self.codes.iter_mut().enumerate() {
            let four = j < 8 * nibbles;
            let half = if four { 8.0 } else { 2.0 };
            let step = f64::from(self.basis.steps[j]);
            let x = y.get(j).copied().unwrap_or(0.0);
            // NaN, which only a foreign file can bring, becomes 0.
            let whole = (x / step).floor().max(-half).min(half - 1.0);
            *code = (whole + half) as u8;
            let centred = whole + 0.5;
            squares[usize::from(!four)] += centred * centred;
            if let Some(left) = self.left.get_mut(j).filter(|_| j < y.len()) {
                *left = (x - step * centred) as f32;
            }
        }
        for j in self.codes.len()..y.len() {
            self.left[j] = y[j] as f32;
        }
        let exact = |j: usize| {
            let z = self.codes.get(j).map_or(0.0, |&code| {
                let half = if j < 8 * nibbles { 7.5 } else { 1.5 };
                f64::from(self.basis.steps[j]) * (f64::from(code) - half)
            });
            (y[j] - z) * (y[j] - z)
        };
        let left = (0..y.len()).map(exact).sum::<f64>().sqrt() * (1.0 + 1e-11);
        let first = up16(left);
        let (four, two) = self.codes.split_at(8 * nibbles);
        pack4(four, &mut self.words[..nibbles]);
        pack2(two, &mut self.words[nibbles..]);
        let Self { left, bits, rest_codes, .. } = self;
        let mut rest = [Summary::default()];
        coder::code(self.isa, Bits::Four, y.len(), left, bits, rest_codes, &mut rest);
        let [mut rest] = rest;
        rest.rest = coder::rest_of_rounded(rest.rest, first);
        residual::put(row, &self.rest_codes, rest);
        self.norms = self.norms.max(Norms {
            nibbles: squares[0].sqrt() * (1.0 + 1e-12),
            crumbs: squares[1].sqrt() * (1.0 + 1e-12),
            rest: rest.norm,
            ..Norms::default()
        });
        first
    }
}
