//! numpy arrays as stacks of matrices.

use half::{bf16, f16};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use subquad_core::mat::{MatCell, MatRef, Rows};

/// An array of shape `(*lead, rows, cols)`, or `(*lead, rows)` for columns of numbers.
///
/// Holds the array alive; the matrices borrow from it.
pub struct Stack<'py> {
    name: &'static str,
    array: Bound<'py, PyUntypedArray>,
    kind: (u8, usize),
}

/// Where the matrices of a stack are: element offsets of all of them, in row-major order.
struct Layout {
    offsets: Vec<isize>,
    shape: (usize, usize),
    strides: (isize, isize),
}

fn refuse<T>(name: &str, what: &str) -> PyResult<T> {
    Err(PyValueError::new_err(format!("`{name}` {what}")))
}

impl<'py> Stack<'py> {
    pub fn new(name: &'static str, array: Bound<'py, PyUntypedArray>) -> PyResult<Self> {
        let dtype = array.dtype();
        let kind = (dtype.kind(), dtype.itemsize());
        if !dtype.is_native_byteorder().unwrap_or(true) || !array.is_aligned_to_items(kind.1) {
            return refuse(name, "must be aligned and in native byte order");
        }
        Ok(Self { name, array, kind })
    }

    fn layout(&self, matrix_axes: usize) -> PyResult<Layout> {
        let (shape, strides) = (self.array.shape(), self.array.strides());
        let item = self.kind.1 as isize;
        let Some(lead) = shape.len().checked_sub(matrix_axes) else {
            return refuse(self.name, "has too few axes");
        };
        let stride = |axis: usize| strides.get(axis).map_or(1, |stride| stride / item);
        let mut offsets = vec![0_isize];
        for axis in 0..lead {
            let steps = 0..shape[axis] as isize;
            offsets = offsets
                .iter()
                .flat_map(|start| steps.clone().map(move |i| start + i * stride(axis)))
                .collect();
        }
        let cols = shape.get(lead + 1).copied().unwrap_or(1);
        Ok(Layout {
            offsets,
            shape: (shape[lead], cols),
            strides: (stride(lead), stride(lead + 1)),
        })
    }

    pub fn shape(&self) -> &[usize] {
        self.array.shape()
    }

    /// Heads on the last leading axis.
    pub fn heads(&self) -> usize {
        let shape = self.array.shape();
        shape.len().checked_sub(3).map_or(1, |axis| shape[axis])
    }

    fn views<E: Copy>(&self, matrix_axes: usize) -> PyResult<Vec<MatRef<'_, E>>> {
        let Layout { offsets, shape, strides } = self.layout(matrix_axes)?;
        let base: *const E = self.data().cast();
        // SAFETY: numpy keeps every element that shape and strides name inside the array, which
        // lives as long as the views; the alignment was checked.
        let view = |o| unsafe { MatRef::from_raw_parts(base.wrapping_offset(o), shape, strides) };
        Ok(offsets.into_iter().map(view).collect())
    }

    /// The matrices, of whatever float type they have; uint16 stands for bfloat16.
    pub fn rows(&self) -> PyResult<Vec<Rows<'_>>> {
        self.matrices(2)
    }

    /// Columns of numbers, one per matrix of the other arrays.
    pub fn columns(&self) -> PyResult<Vec<Rows<'_>>> {
        self.matrices(1)
    }

    fn matrices(&self, axes: usize) -> PyResult<Vec<Rows<'_>>> {
        Ok(match self.kind {
            (b'f', 4) => self.views::<f32>(axes)?.into_iter().map(Rows::F32).collect(),
            (b'f', 8) => self.views::<f64>(axes)?.into_iter().map(Rows::F64).collect(),
            (b'f', 2) => self.views::<f16>(axes)?.into_iter().map(Rows::F16).collect(),
            (b'u', 2) => self.views::<bf16>(axes)?.into_iter().map(Rows::Bf16).collect(),
            _ => return self.wrong_type("float16, float32, float64 or bfloat16 bits"),
        })
    }

    /// The matrices of a boolean array.
    pub fn mask(&self) -> PyResult<Vec<MatRef<'_, u8>>> {
        match self.kind {
            (b'b', 1) => self.views(2),
            _ => self.wrong_type("boolean"),
        }
    }

    /// Matrices (two axes) or columns (one axis) that the core will write.
    pub fn cells<T: 'static>(&self, matrix_axes: usize) -> PyResult<Vec<MatCell<'_, T>>> {
        if !self.is_compute::<T>() {
            return self.wrong_type("of the compute type");
        }
        if !self.is_writeable()? {
            return refuse(self.name, "must be writeable");
        }
        let Layout { offsets, shape, strides } = self.layout(matrix_axes)?;
        let base: *mut T = self.data().cast();
        // SAFETY: as in `views`; the Python layer hands over outputs that overlap nothing else.
        let cell = |o| unsafe { MatCell::from_raw_parts(base.wrapping_offset(o), shape, strides) };
        Ok(offsets.into_iter().map(cell).collect())
    }

    /// Is the element type `T`, which is `f32` or `f64`?
    pub fn is_compute<T: 'static>(&self) -> bool {
        self.kind == (b'f', size_of::<T>())
    }

    fn data(&self) -> *mut u8 {
        // SAFETY: reads a field of a live array object.
        unsafe { (*self.array.as_array_ptr()).fields.data.cast() }
    }

    fn is_writeable(&self) -> PyResult<bool> {
        self.array.getattr("flags")?.getattr("writeable")?.extract()
    }

    fn wrong_type<T>(&self, requires: &str) -> PyResult<T> {
        let (name, dtype) = (self.name, self.array.dtype());
        Err(PyTypeError::new_err(format!("`{name}` must be {requires}, got dtype {dtype}")))
    }
}

/// Alignment of the data and of every stride to whole items.
trait AlignedToItems {
    fn is_aligned_to_items(&self, item: usize) -> bool;
}

impl AlignedToItems for Bound<'_, PyUntypedArray> {
    fn is_aligned_to_items(&self, item: usize) -> bool {
        // SAFETY: reads a field of a live array object.
        let data = unsafe { (*self.as_array_ptr()).fields.data } as usize;
        item > 0
            && data.is_multiple_of(item)
            && self.strides().iter().all(|stride| stride % item as isize == 0)
    }
}
