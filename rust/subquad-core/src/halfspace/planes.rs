//! Codes of keys, in the order in which a scan reads them.
//!
//! A block holds 32 keys. Its lines of 128 bytes have four bytes of every key: four coordinates of 8
//! bits, eight of 4, or sixteen of 2. Behind the lines stand two numbers of every key in bfloat16, both
//! rounded up: the scale of its codes (if keys have scales of their own) and the norm of what the codes
//! leave out. So a scan reads one stream, and a register of whatever width serves as many keys as it
//! has lanes, without sums across lanes.
//!
//! bfloat16 because it has the range of float32: scales of float16 overflow and vanish.

use super::buffer::Buf;
use super::store::{Reader, Writer, damaged};
use crate::Result;
use crate::mat::MatCell;

/// Keys in a block.
pub(super) const BLOCK: usize = 32;

/// Bytes of a line.
const LINE: usize = 4 * BLOCK;

/// Minus infinity in bfloat16: as a residual norm, it keeps a key from ever being a candidate.
const GONE: u16 = 0xff80;

/// How many lines of each width a block has, and whether keys have scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Lines of 4 coordinates of 8 bits.
    pub wide: usize,
    /// Lines of 8 coordinates of 4 bits.
    pub nibbles: usize,
    /// Lines of 16 coordinates of 2 bits.
    pub crumbs: usize,
    /// Have keys scales of their own?
    pub scaled: bool,
}

impl Shape {
    /// Bytes from one block to the next.
    pub fn block(self) -> usize {
        LINE * self.lines() + 2 * BLOCK * self.numbers()
    }

    pub fn lines(self) -> usize {
        self.wide + self.nibbles + self.crumbs
    }

    fn numbers(self) -> usize {
        1 + usize::from(self.scaled)
    }
}

/// The codes of many keys.
#[derive(Clone)]
pub(super) struct Planes {
    shape: Shape,
    len: usize,
    blocks: Buf<u8>,
    /// Largest norm of the centred codes of a key, for each width.
    norms: [f64; 3],
}

/// What one key contributes.
pub(super) struct Coded<'a> {
    /// The four bytes of every line.
    pub words: &'a [u32],
    /// bfloat16, ignored if the shape has no scales.
    pub scale: u16,
    /// bfloat16.
    pub rest: u16,
}

/// The bytes of one block, to be filled.
pub(super) struct BlockMut<'a> {
    shape: Shape,
    bytes: &'a mut [u8],
}

impl BlockMut<'_> {
    /// Stores a key.
    pub fn put(&mut self, key: usize, coded: &Coded<'_>) {
        assert!(key < BLOCK && coded.words.len() == self.shape.lines());
        for (line, word) in self.bytes.chunks_exact_mut(LINE).zip(coded.words) {
            line[4 * key..4 * key + 4].copy_from_slice(&word.to_le_bytes());
        }
        if self.shape.scaled {
            self.number(0, key, coded.scale);
        }
        self.number(self.shape.numbers() - 1, key, coded.rest);
    }

    fn number(&mut self, which: usize, key: usize, value: u16) {
        let at = LINE * self.shape.lines() + 2 * (which * BLOCK + key);
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    /// Makes sure that these keys are never candidates.
    fn bury(&mut self, keys: std::ops::Range<usize>) {
        keys.for_each(|key| self.number(self.shape.numbers() - 1, key, GONE));
    }
}

impl Planes {
    pub fn new(shape: Shape) -> Self {
        Self { shape, len: 0, blocks: Buf::new(), norms: [0.0; 3] }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn bytes(&self) -> u64 {
        self.blocks.len() as u64
    }

    /// Largest norm of the centred codes of a key, for each width.
    pub fn norms(&self) -> [f64; 3] {
        self.norms
    }

    /// The first block; they follow each other.
    #[inline(always)]
    pub fn ptr(&self) -> *const u8 {
        self.blocks.ptr()
    }

    /// The blocks of the slots from `len()` up to `upto`, to be filled by tasks; new slots are buried.
    pub fn grow(&mut self, upto: usize) -> Result<Open<'_>> {
        let (old, shape) = (self.len.div_ceil(BLOCK), self.shape);
        let count = upto.div_ceil(BLOCK);
        self.blocks.try_resize(count * shape.block())?;
        let cells = MatCell::from_slice(self.blocks.to_mut(), count, shape.block());
        let open = Open { shape, cells };
        for i in old..count {
            // SAFETY: nobody else has a block yet.
            unsafe { open.block(i) }.bury(0..BLOCK);
        }
        self.len = upto;
        Ok(open)
    }

    /// Forgets the keys from slot `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.blocks.resize(len.div_ceil(BLOCK) * self.shape.block());
        (len..len.next_multiple_of(BLOCK)).for_each(|slot| self.bury(slot));
        self.len = len;
    }

    /// Takes note of the norms of codes that were filled in.
    pub fn note(&mut self, norms: [f64; 3]) {
        for (x, y) in self.norms.iter_mut().zip(norms) {
            *x = x.max(y);
        }
    }

    pub fn is_mapped(&self) -> bool {
        self.blocks.is_mapped()
    }

    /// Takes the blocks into memory of their own, so that [`bury`](Self::bury) cannot fail.
    pub fn reserve(&mut self) -> Result<()> {
        self.blocks.try_reserve(0)
    }

    /// Is a slot never a candidate?
    pub fn is_buried(&self, slot: usize) -> bool {
        let key = (self.shape.numbers() - 1) * BLOCK + slot % BLOCK;
        let at = slot / BLOCK * self.shape.block() + LINE * self.shape.lines() + 2 * key;
        self.blocks[at..at + 2] == GONE.to_le_bytes()
    }

    /// Keeps a slot from ever being a candidate.
    pub fn bury(&mut self, slot: usize) {
        let (shape, size) = (self.shape, self.shape.block());
        let bytes = &mut self.blocks.to_mut()[slot / BLOCK * size..][..size];
        BlockMut { shape, bytes }.bury(slot % BLOCK..slot % BLOCK + 1);
    }
}

/// Blocks that tasks fill, each its own.
pub(super) struct Open<'a> {
    shape: Shape,
    cells: MatCell<'a, u8>,
}

impl Open<'_> {
    /// Block `i`.
    ///
    /// # Safety
    ///
    /// Nobody else may have this block.
    pub unsafe fn block(&self, i: usize) -> BlockMut<'_> {
        // SAFETY: the caller's promise.
        BlockMut { shape: self.shape, bytes: unsafe { self.cells.row_mut(i) } }
    }
}

impl Planes {
    /// Under names that begin with `name`.
    pub fn write<'a>(&'a self, name: &str, to: &mut Writer<'a>) {
        to.put(&format!("{name}code"), &self.blocks);
        to.put_copy(&format!("{name}norm"), &self.norms);
    }

    /// The codes of `len` keys.
    pub fn read(name: &str, from: &Reader<'_>, shape: Shape, len: usize) -> Result<Self> {
        let size = len.div_ceil(BLOCK).checked_mul(shape.block());
        let blocks = from.take(&format!("{name}code"), size)?;
        let norms: [f64; 3] = from.array(&format!("{name}norm"))?;
        if size.is_none() || norms.iter().any(|x| !x.is_finite()) {
            return Err(damaged("codes without bounds"));
        }
        let planes = Self { shape, len, blocks, norms };
        if !(len..len.next_multiple_of(BLOCK)).all(|slot| planes.is_buried(slot)) {
            return Err(damaged("codes of keys that are not there"));
        }
        Ok(planes)
    }
}
