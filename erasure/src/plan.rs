//! Decode plans: from which survivors, and with which coefficients, wanted slots are rebuilt.

use crate::{
    interpolation::{Rows, coefficients},
    slots::SlotSet,
};

/// How to rebuild some slots of a stripe. About 1 KiB on the stack, made in well under a microsecond, so plans
/// are made where they are needed and never cached.
#[derive(Clone, Copy, Debug)]
pub struct DecodePlan {
    pub(crate) k: u8,
    pub(crate) m: u8,
    sources: SlotSet,
    targets: SlotSet,
    pub(crate) rows: Rows,
}

impl DecodePlan {
    /// Takes the k lowest slots of `present`: data slots first, for which the drives' bytes are the object's
    /// bytes. The caller has checked that there are k.
    pub(crate) fn new(k: u8, m: u8, present: SlotSet, want: SlotSet) -> Self {
        let sources: SlotSet = present.iter().take(usize::from(k)).collect();
        Self { k, m, sources, targets: want, rows: coefficients(sources, want) }
    }

    /// The k slots to read, in the order in which [`Codec::reconstruct`](crate::Codec::reconstruct) takes them.
    pub fn sources(&self) -> impl Iterator<Item = u8> + use<> {
        self.sources.iter()
    }

    /// The slots to rebuild, in the order in which [`Codec::reconstruct`](crate::Codec::reconstruct) fills them.
    pub fn targets(&self) -> impl Iterator<Item = u8> + use<> {
        self.targets.iter()
    }

    pub fn source_set(&self) -> SlotSet {
        self.sources
    }

    pub fn target_set(&self) -> SlotSet {
        self.targets
    }
}
