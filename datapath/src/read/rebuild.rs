//! Lacking units of one stripe from those there are, verified. Pure; for a worker.
//!
//! Every unit that goes in has passed its own CRC. What comes out must pass the CRC that a parity unit carries for it.
//! Units that do not fit together (a write of another blob, a bug) are told by leaving out one, then two of them.

use crate::shard_io::Unit;
use ashlar_erasure::{Codec, Geometry, SlotSet};
use ashlar_hashing::crc64nvme;
use ashlar_types::UnitSum;
use bytes::Bytes;

/// Lengths of a stripe's units.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    k: u8,
    unit_len: usize,
    /// Stored length by slot.
    lens: Vec<u32>,
    /// Data slots that a short stripe does not reach: known without asking.
    pub(crate) empty: SlotSet,
}

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tries {
    /// All units are taken for right.
    Direct,
    /// One or two of the units may be wrong.
    LeavingOut,
}

impl Shape {
    pub(crate) fn of(geometry: &Geometry, chunk_len: u64, stripe: u32) -> Self {
        let slots = geometry.k() + geometry.m();
        let lens: Vec<u32> = (0..slots).map(|slot| geometry.unit_data_len(chunk_len, stripe, slot)).collect();
        let empty = (0..geometry.k()).filter(|slot| lens[usize::from(*slot)] == 0).collect();
        let unit_len = geometry.stripe(chunk_len, stripe).unit_len as usize;
        Self { k: geometry.k(), unit_len, lens, empty }
    }
}

/// The units of `lacking`, which are data slots; `None` if no choice of units gives bytes that verify.
pub(crate) fn rebuild(
    codec: &Codec,
    shape: &Shape,
    units: &[Option<Unit>],
    lacking: SlotSet,
    tries: Tries,
) -> Option<Vec<(u8, Unit)>> {
    let found: SlotSet =
        units.iter().zip(0..).filter(|(unit, _)| unit.is_some()).map(|(_, slot)| slot).collect();
    if let Some(rebuilt) = rebuild_from(codec, shape, units, found, lacking) {
        return Some(rebuilt);
    }
    if tries == Tries::Direct {
        return None;
    }
    let pairs =
        found.iter().flat_map(|a| found.iter().filter(move |b| a < *b).map(move |b| SlotSet::of(&[a, b])));
    let singles = found.iter().map(|slot| SlotSet::of(&[slot]));
    singles
        .chain(pairs)
        .find_map(|left_out| rebuild_from(codec, shape, units, found.without(left_out), lacking))
}

fn rebuild_from(
    codec: &Codec,
    shape: &Shape,
    units: &[Option<Unit>],
    from: SlotSet,
    lacking: SlotSet,
) -> Option<Vec<(u8, Unit)>> {
    let unit = |slot: u8| units.get(usize::from(slot)).and_then(Option::as_ref);
    // A data slot is lacking, so k slots include a parity slot, and it knows the CRCs of the data.
    let witness = from.iter().find(|slot| *slot >= shape.k).and_then(unit)?;
    let known = &witness.sum.data;
    if known.len() != usize::from(shape.k) {
        return None;
    }
    let plan = codec.plan(union(from, shape.empty), lacking).ok()?;
    let sources: Vec<Bytes> = plan.sources().map(|slot| padded(unit(slot), shape.unit_len)).collect();
    let sources: Vec<&[u8]> = sources.iter().map(|source| &source[..]).collect();
    let mut rebuilt = vec![vec![0; shape.unit_len]; lacking.len()];
    let mut targets: Vec<&mut [u8]> = rebuilt.iter_mut().map(Vec::as_mut_slice).collect();
    codec.reconstruct(&plan, &sources, &mut targets).ok()?;
    plan.targets()
        .zip(rebuilt)
        .map(|(slot, mut bytes)| {
            let len = *shape.lens.get(usize::from(slot))?;
            bytes.truncate(usize::try_from(len).ok()?);
            let crc64 = crc64nvme(&bytes);
            let right = known.get(usize::from(slot)) == Some(&crc64);
            let sum = UnitSum { len, crc64, data: Vec::new() };
            right.then(|| (slot, Unit { bytes: bytes.into(), sum }))
        })
        .collect()
}

pub(crate) fn union(a: SlotSet, b: SlotSet) -> SlotSet {
    a.iter().chain(b.iter()).collect()
}

/// A unit as it was coded. Without a unit: that of an empty slot.
fn padded(unit: Option<&Unit>, unit_len: usize) -> Bytes {
    match unit {
        Some(unit) if unit.bytes.len() == unit_len => unit.bytes.clone(),
        unit => {
            let mut bytes = unit.map(|unit| unit.bytes.to_vec()).unwrap_or_default();
            bytes.resize(unit_len, 0);
            bytes.into()
        }
    }
}
