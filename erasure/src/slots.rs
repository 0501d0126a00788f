//! Sets of slots of one stripe.

use std::fmt;

/// Data and parity slots of a stripe together; a [`SlotSet`] is as many bits wide.
pub const SLOTS_MAX: u8 = 32;

/// Slots of a stripe: `0..k` carry data, `k..k + m` parity.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SlotSet(u32);

impl SlotSet {
    pub const EMPTY: Self = Self(0);

    /// # Panics
    /// If a slot is not below [`SLOTS_MAX`].
    pub fn of(slots: &[u8]) -> Self {
        slots.iter().copied().collect()
    }

    /// Slots `0..count`.
    ///
    /// # Panics
    /// If `count` is above [`SLOTS_MAX`].
    pub fn first(count: u8) -> Self {
        (0..count).collect()
    }

    /// # Panics
    /// If `slot` is not below [`SLOTS_MAX`].
    pub fn insert(&mut self, slot: u8) {
        assert!(slot < SLOTS_MAX, "slot {slot} of a stripe that has at most {SLOTS_MAX}");
        self.0 |= 1 << slot;
    }

    pub fn remove(&mut self, slot: u8) {
        if slot < SLOTS_MAX {
            self.0 &= !(1 << slot);
        }
    }

    pub fn contains(self, slot: u8) -> bool {
        slot < SLOTS_MAX && self.0 >> slot & 1 == 1
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The slots of this set that are not in `other`.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The slots that are in both sets.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// In ascending order, so data slots come before parity slots.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = u8> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            #[allow(clippy::cast_possible_truncation, reason = "a set bit of 32 is below 32")]
            let slot = rest.trailing_zeros() as u8;
            rest &= rest - 1;
            Some(slot)
        })
    }
}

impl FromIterator<u8> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u8>>(slots: I) -> Self {
        let mut set = Self::EMPTY;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_each_slot_once_in_order() {
        let mut set = SlotSet::of(&[31, 0, 5, 5]);
        assert_eq!((set.len(), set.iter().collect::<Vec<_>>()), (3, vec![0, 5, 31]));
        assert!(set.contains(31) && !set.contains(1) && !set.contains(32) && !set.contains(255));
        set.remove(5);
        set.remove(200);
        assert_eq!(set, SlotSet::of(&[0, 31]));
        assert_eq!(SlotSet::first(32).without(SlotSet::first(31)), SlotSet::of(&[31]));
        assert_eq!(SlotSet::first(3).intersection(set), SlotSet::of(&[0]));
        assert!(SlotSet::EMPTY.is_empty() && SlotSet::first(0).is_empty());
    }

    #[test]
    #[should_panic(expected = "slot 32")]
    fn a_slot_past_the_last_is_refused() {
        SlotSet::of(&[32]);
    }
}
