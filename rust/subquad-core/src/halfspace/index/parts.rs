//! Keys and the engines over them, which are chosen, built and changed together.

use std::ops::Range;
use std::sync::Arc;

use crate::halfspace::Method;
use crate::halfspace::basis::Basis;
use crate::halfspace::coarse::is_tame;
use crate::halfspace::keys::{Dead, Keys};
use crate::halfspace::planes::Planes;
use crate::halfspace::predicate::{self, Plane};
use crate::halfspace::quantized::Quantized;
use crate::halfspace::rotated::Rotated;
use crate::halfspace::tree::Forest;
use crate::mat::Rows;
use crate::simd::ints::Unit;
use crate::simd::{Isa, default_float_mode};
use crate::{Par, Result};

/// What answers are found in. Everything counts keys by slots.
#[derive(Clone)]
pub(in super::super) struct Parts {
    pub keys: Keys,
    pub dead: Dead,
    pub quantized: Option<Quantized>,
    /// Not without `quantized`.
    pub rotated: Option<Rotated>,
    pub forest: Option<Forest>,
    /// Queries to learn from, row by row.
    pub typical: Option<Arc<[f32]>>,
    /// Number of keys that the engines were chosen for.
    pub chosen_for: usize,
    pub isa: Isa,
    pub unit: Unit,
}

/// Keys up to which codes are not worth building.
const SMALL: usize = 256;

/// Numbers in keys from which codes of 8 bits leave the second cache, and fewer bits read faster.
const FAR: usize = 2 << 20;

/// Largest dimension in which boxes are tried unasked, and keys from which they pay.
const LOW: usize = 8;
const BUSHY: usize = 2048;

/// How much a learnt basis must save.
const WORTH: f64 = 1.15;

impl Parts {
    /// Keys, and no engine.
    pub fn new(keys: Keys) -> Self {
        let isa = Isa::detect();
        let (dead, unit) = (Dead::none(), Unit::of(isa));
        Self {
            keys,
            dead,
            quantized: None,
            rotated: None,
            forest: None,
            typical: None,
            chosen_for: 0,
            isa,
            unit,
        }
    }

    /// Builds the engines that suit the method and the keys. `basis` is used if there is one and none
    /// can be learnt from typical queries.
    pub fn build(&mut self, method: Method, basis: Option<&Basis>, par: Par<'_>) -> Result<()> {
        let (n, dim) = (self.keys.len(), self.keys.dim());
        let (codes, tree) = match method {
            Method::Scan => (false, false),
            Method::Tree => (false, true),
            Method::Quantized | Method::Rotated => (true, false),
            Method::Auto => (n >= SMALL, n >= BUSHY && dim <= LOW),
        };
        default_float_mode(|| {
            let mut forest = tree.then(|| Forest::new(dim));
            forest.iter_mut().try_for_each(|forest| forest.extend(&self.keys, n, par))?;
            if !codes {
                (self.forest, self.chosen_for) = (forest, n);
                return Ok(());
            }
            let far = n * dim >= FAR || method == Method::Quantized;
            let turns = method == Method::Rotated || (method == Method::Auto && n * dim >= FAR / 4);
            let basis = match basis.filter(|_| self.typical.is_none()) {
                Some(basis) => Some(basis.clone()),
                None if turns => par
                    .map(1, |_, _| Basis::learn(&self.keys, self.typical.as_deref()))?
                    .pop()
                    .flatten()
                    .filter(|basis| method == Method::Rotated || basis.saves > WORTH),
                None => None,
            };
            let mut quantized = Quantized::new(dim, far && basis.is_none());
            quantized.extend(self.isa, &self.keys, par)?;
            let turned = basis.map(|basis| {
                let mut rotated = Rotated::new(basis);
                rotated.extend(self.isa, &self.keys, par).map(|()| rotated)
            });
            // Nothing changes before everything is there.
            (self.rotated, self.quantized) = (turned.transpose()?, Some(quantized));
            (self.forest, self.chosen_for) = (forest, n);
            for slot in 0..n {
                if self.dead.contains(slot) {
                    self.bury_codes(slot);
                }
            }
            Ok(())
        })
    }

    /// Adds keys, or nothing if that fails.
    pub fn extend(
        &mut self,
        name: &'static str,
        rows: &Rows<'_>,
        method: Method,
        par: Par<'_>,
    ) -> Result<()> {
        let old = self.keys.len();
        self.keys.extend(name, rows)?;
        // Engines for few keys do not suit many; choosing anew whenever keys have doubled costs each
        // of them a constant.
        let outgrown = method == Method::Auto && self.keys.len() >= SMALL.max(2 * self.chosen_for);
        let coded = default_float_mode(|| {
            if outgrown {
                let basis = self.rotated.as_ref().map(|rotated| rotated.basis.clone());
                return self.build(method, basis.as_ref(), par);
            }
            if let Some(quantized) = &mut self.quantized {
                quantized.extend(self.isa, &self.keys, par)?;
            }
            if let Some(rotated) = &mut self.rotated {
                rotated.extend(self.isa, &self.keys, par)?;
            }
            if let Some(forest) = &mut self.forest {
                forest.extend(&self.keys, self.keys.len(), par)?;
            }
            Ok(())
        });
        if coded.is_err() {
            self.keys.truncate(old);
            if let Some(quantized) = &mut self.quantized {
                quantized.truncate(old);
            }
            if let Some(rotated) = &mut self.rotated {
                rotated.truncate(old);
            }
        }
        coded
    }

    /// Takes keys out of every answer.
    pub fn bury(&mut self, slots: &[usize]) -> Result<()> {
        self.dead.reserve(self.keys.len())?;
        if let Some(quantized) = &mut self.quantized {
            quantized.reserve()?;
        }
        if let Some(rotated) = &mut self.rotated {
            rotated.planes.reserve()?;
        }
        // From here on nothing can fail.
        for &slot in slots {
            self.dead.insert(slot);
            self.bury_codes(slot);
        }
        Ok(())
    }

    fn bury_codes(&mut self, slot: usize) {
        if let Some(quantized) = &mut self.quantized {
            quantized.bury(slot);
        }
        if let Some(rotated) = &mut self.rotated {
            rotated.planes.bury(slot);
        }
    }

    /// The same without what is gone, and with the engines that suit what is left.
    pub fn compacted(&self, method: Method, par: Par<'_>) -> Result<Self> {
        let n = self.keys.len();
        let mut parts = Self::new(self.keys.gather(self.alive(0..n))?);
        parts.typical.clone_from(&self.typical);
        parts.build(method, self.rotated.as_ref().map(|rotated| &rotated.basis), par)?;
        Ok(parts)
    }

    pub fn engines(&self) -> Vec<&'static str> {
        let mut engines = vec!["scan"];
        if let Some(quantized) = &self.quantized {
            engines.push("int8");
            engines.extend(quantized.int4.as_ref().map(|_| "int4"));
        }
        engines.extend(self.rotated.as_ref().map(|_| "rotated"));
        engines.extend(self.forest.as_ref().map(|_| "tree"));
        engines
    }

    /// Is any of it in the pages of a file?
    pub fn is_mapped(&self) -> bool {
        let mapped = |planes: &Planes| planes.is_mapped();
        self.keys.is_mapped()
            || self.quantized.as_ref().is_some_and(|quantized| mapped(&quantized.int8))
            || self.rotated.as_ref().is_some_and(|rotated| mapped(&rotated.planes))
    }

    /// Bytes of the engines.
    pub fn bytes(&self) -> u64 {
        self.quantized.as_ref().map_or(0, Quantized::bytes)
            + self.rotated.as_ref().map_or(0, Rotated::bytes)
            + self.forest.as_ref().map_or(0, Forest::bytes)
    }

    /// The slots of a range whose keys are there.
    pub fn alive(&self, slots: Range<usize>) -> impl Iterator<Item = u32> {
        slots.filter(|&slot| !self.dead.contains(slot)).map(|slot| slot as u32)
    }

    /// The codes, if there are any and float32 holds the query and the keys.
    pub fn coded(&self, plane: &Plane) -> Option<&Quantized> {
        let tame = |quantized: &&Quantized| is_tame(plane.norm) && is_tame(quantized.longest);
        self.quantized.as_ref().filter(tame)
    }

    /// Not below the norm of any key.
    pub fn longest(&self) -> f64 {
        self.quantized.as_ref().map_or(f64::INFINITY, |quantized| quantized.longest)
    }

    /// Everything or nothing, where the threshold alone says so.
    pub fn plainly(&self, plane: &Plane) -> Option<bool> {
        // Infinity times zero is NaN, with which nothing compares.
        let reach = plane.norm * self.longest() * (1.0 + 1e-9);
        if plane.threshold == f64::NEG_INFINITY || plane.threshold < -reach {
            return Some(true);
        }
        (plane.threshold == f64::INFINITY || plane.threshold > reach).then_some(false)
    }

    /// Scores in float32 of at most `count` keys, spread evenly.
    pub fn sample(&self, query: &[f32], count: usize) -> Vec<f32> {
        let step = self.keys.len().div_ceil(count).max(1);
        let slots = (0..self.keys.len()).step_by(step).filter(|&slot| !self.dead.contains(slot));
        slots.map(|slot| predicate::nearly(query, &self.keys, slot).0 as f32).collect()
    }
}
