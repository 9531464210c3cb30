//! Which id the key of a slot has.

use super::buffer::Buf;
use super::store::{Reader, Writer, damaged};
use crate::Result;

/// Ids ascend with the slots. They count insertions, so until the first compaction they are the slots.
#[derive(Clone)]
pub(super) struct Ids {
    /// The id of every slot, once it is another number.
    of_slot: Option<Buf<i64>>,
    /// Number of slots.
    len: usize,
    /// The next id.
    next: i64,
}

impl Ids {
    pub fn new() -> Self {
        Self { of_slot: None, len: 0, next: 0 }
    }

    /// The id that the next key gets.
    pub fn next(&self) -> i64 {
        self.next
    }

    pub fn bytes(&self) -> u64 {
        self.of_slot.as_ref().map_or(0, |ids| 8 * ids.len() as u64)
    }

    /// Ids for so many more slots.
    pub fn extend(&mut self, more: usize) -> Result<std::ops::Range<i64>> {
        // Slots are at most 2^31, and what is read from a file is checked.
        let new = self.next..self.next + more as i64;
        if let Some(ids) = &mut self.of_slot {
            ids.try_reserve(more)?;
            new.clone().for_each(|id| ids.extend_from_slice(&[id]));
        }
        self.len += more;
        self.next = new.end;
        Ok(new)
    }

    /// Makes room for so many more, so that [`extend`](Self::extend) cannot fail.
    pub fn reserve(&mut self, more: usize) -> Result<()> {
        self.of_slot.as_mut().map_or(Ok(()), |ids| ids.try_reserve(more))
    }

    /// The ids of some slots, in their order.
    pub fn of(&self, slots: &[u32]) -> Vec<i64> {
        match &self.of_slot {
            None => slots.iter().map(|&slot| i64::from(slot)).collect(),
            Some(ids) => slots.iter().map(|&slot| ids[slot as usize]).collect(),
        }
    }

    /// The slot of an id, if it has one.
    pub fn slot(&self, id: i64) -> Option<usize> {
        match &self.of_slot {
            None => usize::try_from(id).ok().filter(|&slot| slot < self.len),
            Some(ids) => ids.binary_search(&id).ok(),
        }
    }

    /// The ids of the slots that are kept, in their order.
    pub fn gather(&self, slots: impl Iterator<Item = u32>) -> Result<Self> {
        let mut kept = Buf::new();
        for slot in slots {
            let id = self.of_slot.as_ref().map_or(slot.into(), |ids| ids[slot as usize]);
            kept.try_extend_from_slice(&[id])?;
        }
        Ok(Self { len: kept.len(), of_slot: Some(kept), next: self.next })
    }

    pub fn write<'a>(&'a self, to: &mut Writer<'a>) {
        to.put_copy("next id", &[self.next]);
        if let Some(ids) = &self.of_slot {
            to.put("ids", ids);
        }
    }

    /// The ids of `len` slots.
    pub fn read(from: &Reader<'_>, len: usize) -> Result<Self> {
        let [next] = from.array::<i64, 1>("next id")?;
        let of_slot: Option<Buf<i64>> =
            if from.has("ids") { Some(from.take("ids", Some(len))?) } else { None };
        let sound = match &of_slot {
            None => next == len as i64,
            Some(ids) => {
                ids.iter().all(|id| (0..next).contains(id)) && ids.is_sorted_by(|a, b| a < b)
            }
        };
        if !sound || next > 1 << 62 {
            return Err(damaged("ids that do not ascend"));
        }
        Ok(Self { of_slot, len, next })
    }
}
