//! A basis and what was coded in it, in a file.

use super::Rotated;
use crate::Result;
use crate::halfspace::basis::{Basis, LARGEST};
use crate::halfspace::planes::{Planes, Shape};
use crate::halfspace::residual::Residuals;
use crate::halfspace::store::{Reader, Writer, damaged};

impl Rotated {
    pub fn write<'a>(&'a self, to: &mut Writer<'a>) {
        let Basis { mean, forward, backward, steps, shape, saves, .. } = &self.basis;
        to.put_copy("turn", &[shape.nibbles as u64, shape.crumbs as u64]);
        to.put_copy("turnsize", &[*saves, self.size, self.delta, self.largest]);
        to.put("mean", mean);
        to.put("forward", forward);
        to.put("backward", backward);
        to.put("steps", steps);
        self.planes.write("r", to);
        self.rest.write("r", to);
    }

    /// The codes of `len` keys.
    pub fn read(from: &Reader<'_>, dim: usize, len: usize) -> Result<Self> {
        let lines: [u64; 2] = from.array("turn")?;
        let [saves, size, delta, largest] = from.array("turnsize")?;
        if lines.iter().any(|&x| x > LARGEST as u64) || dim > LARGEST {
            return Err(damaged(format!("a basis with {lines:?} lines")));
        }
        let shape =
            Shape { wide: 0, nibbles: lines[0] as usize, crumbs: lines[1] as usize, scaled: false };
        let count = 8 * shape.nibbles + 16 * shape.crumbs;
        let basis = Basis {
            dim,
            mean: from.take("mean", Some(dim))?.to_vec(),
            forward: from.take("forward", Some(dim * dim))?.to_vec(),
            backward: from.take("backward", Some(dim * dim + 16))?.to_vec(),
            steps: from.take("steps", Some(count))?.to_vec(),
            shape,
            saves,
        };
        let all = basis.mean.iter().chain(&basis.backward).chain(&basis.steps);
        let mut finite = all.map(|&x| f64::from(x)).chain(basis.forward.iter().copied());
        // Keys beyond the range of float32 have no finite bounds; then the basis is not used.
        let bounds = [size, delta, largest].iter().all(|x| !x.is_nan());
        if !bounds || !finite.all(f64::is_finite) || !basis.steps.iter().all(|&x| x > 0.0) {
            return Err(damaged("a basis that is none"));
        }
        let planes = Planes::read("r", from, shape, len)?;
        let rest = Residuals::read("r", from, dim, len)?;
        Ok(Self { basis, planes, rest, size, delta, largest })
    }
}
