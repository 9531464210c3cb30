//! One head of arbitrary shape and numbers, NaN and infinity included.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use subquad_core::attention::{Head, Visible};
use subquad_core::mat::{MatRef, Rows};

use super::numbers::{numbers, repeat};

/// Arrays of one head.
pub struct Arrays {
    /// L, S, E, Ev
    pub shape: [usize; 4],
    pub visible: Visible,
    pub query: Vec<f32>,
    pub key: Vec<f32>,
    pub value: Vec<f32>,
    pub bias: Option<Vec<f32>>,
    pub mask: Option<Vec<u8>>,
    pub lags: Option<Vec<f32>>,
}

impl Arrays {
    /// Shapes go up to `longest` queries and keys, and `widest` numbers in a row.
    pub fn new(u: &mut Unstructured<'_>, longest: usize, widest: usize) -> Result<Self> {
        let (l, s) = (u.int_in_range(0..=longest)?, u.int_in_range(0..=longest)?);
        let (e, ev) = (u.int_in_range(0..=widest)?, u.int_in_range(0..=widest)?);
        let visible = match u.arbitrary::<Option<u8>>()? {
            None => Visible::default(),
            Some(shift) => {
                let window = u.arbitrary::<Option<u8>>()?.map(|w| usize::from(w) + 1);
                Visible::causal(isize::from(shift as i8), window)
            }
        };
        let (query, key, value) = (numbers(u, l * e)?, numbers(u, s * e)?, numbers(u, s * ev)?);
        let bias = if u.arbitrary()? { Some(numbers(u, l * s)?) } else { None };
        let mask = if u.arbitrary()? { Some(repeat(u.bytes(7)?, l * s)) } else { None };
        let count = (l + s).saturating_sub(1);
        let lags = if u.arbitrary()? { Some(numbers(u, count)?) } else { None };
        Ok(Self { shape: [l, s, e, ev], visible, query, key, value, bias, mask, lags })
    }

    pub fn head(&self) -> Head<'_> {
        let [l, s, e, ev] = self.shape;
        Head {
            query: Rows::F32(MatRef::from_slice(&self.query, l, e)),
            key: Rows::F32(MatRef::from_slice(&self.key, s, e)),
            value: Rows::F32(MatRef::from_slice(&self.value, s, ev)),
            mask: self.mask.as_ref().map(|mask| MatRef::from_slice(mask, l, s)),
            bias: self.bias.as_ref().map(|bias| Rows::F32(MatRef::from_slice(bias, l, s))),
            lags: self.lags.as_ref().map(|lags| Rows::F32(MatRef::from_slice(lags, lags.len(), 1))),
            weights: None,
        }
    }
}
