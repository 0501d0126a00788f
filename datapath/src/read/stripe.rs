//! One stripe: which slots are asked, when others are asked in their place, and when it is whole.
//!
//! A healthy stripe asks the data slots that hold wanted bytes and no other. A slot that is missing, damaged, away or
//! slower than the read's pace is stood in for: as many further slots are asked as reconstruction needs, the good ones
//! first, suspect ones when nothing else is left. Whatever is complete first wins: the wanted units, or any k.

use super::{
    chunk::ChunkReader,
    drives::Suspects,
    pace::Pace,
    rebuild::{Shape, Tries, rebuild, union},
};
use crate::shard_io::Unit;
use ashlar_erasure::SlotSet;
use ashlar_hashing::crc64nvme;
use ashlar_runtime::ClockExt;
use ashlar_types::{ByteRange, ObjectError};
use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{sync::Arc, time::Duration};

/// Consecutive object bytes within one unit, verified.
pub(crate) struct Piece {
    pub(crate) bytes: Bytes,
    /// CRC-64/NVME of `bytes`.
    pub(crate) crc64: u64,
}

/// Units of one stripe as they come in.
struct Gathered {
    units: Vec<Option<Unit>>,
    set: SlotSet,
}

/// What outlives a stripe: how fast and from whom this read gets its units.
pub(crate) struct Experience {
    pub(crate) pace: Pace,
    pub(crate) suspects: Suspects,
}

impl ChunkReader {
    /// The wanted bytes of a stripe, in order.
    pub(crate) async fn read_stripe(
        &mut self,
        stripe: u32,
        experience: &mut Experience,
    ) -> Result<Vec<Piece>, ObjectError> {
        let geometry = self.coding.geometry;
        let chunk_len = self.range.chunk_len;
        let cut = geometry.stripe(chunk_len, stripe);
        let whole = ByteRange { start: cut.data_start, end: cut.data_start + cut.data_len };
        let wanted = whole
            .intersect(self.range.range)
            .ok_or(ObjectError::Internal("a stripe was read of which nothing is wanted"))?;
        let needed = geometry.locate(chunk_len, wanted.start, wanted.end).map(|piece| piece.slot).collect();
        let gathered = self.gather(stripe, needed, experience).await?;
        geometry
            .locate(chunk_len, wanted.start, wanted.end)
            .map(|piece| {
                let unit = gathered.units[usize::from(piece.slot)]
                    .as_ref()
                    .ok_or(ObjectError::Internal("a stripe was gathered without a wanted unit"))?;
                if piece.len == unit.sum.len {
                    return Ok(Piece { bytes: unit.bytes.clone(), crc64: unit.sum.crc64 });
                }
                let (start, len) = (piece.unit_start as usize, piece.len as usize);
                let bytes = unit.bytes.slice(start..start + len);
                let crc64 = crc64nvme(&bytes);
                Ok(Piece { bytes, crc64 })
            })
            .collect()
    }

    async fn gather(
        &mut self,
        stripe: u32,
        needed: SlotSet,
        experience: &mut Experience,
    ) -> Result<Gathered, ObjectError> {
        let shape = Shape::of(&self.coding.geometry, self.range.chunk_len, stripe);
        let k = usize::from(self.coding.geometry.k());
        let mut gathered = Gathered::new(usize::from(self.coding.profile.slots()));
        let (mut asked, mut flying, mut overdue) = (SlotSet::EMPTY, SlotSet::EMPTY, SlotSet::EMPTY);
        let mut in_flight = FuturesUnordered::new();
        let mut tries = Tries::Direct;
        let started = self.core.now();
        let mut last_asked = started;
        loop {
            let lacking = needed.without(gathered.set);
            if lacking.is_empty() {
                break;
            }
            let present = union(gathered.set, shape.empty);
            let all_in = flying.without(overdue).is_empty();
            if present.len() >= k && (tries == Tries::Direct || all_in) {
                if self.reconstruct(&shape, &mut gathered, lacking, tries).await? {
                    break;
                }
                if tries == Tries::LeavingOut && flying.is_empty() {
                    return Err(self.unreadable(stripe));
                }
                tries = Tries::LeavingOut;
            }
            let wave = match tries {
                Tries::Direct => {
                    let promising = flying.without(overdue);
                    self.next_wave(lacking, present, promising, asked, k)
                }
                Tries::LeavingOut => union(self.good(), self.suspect()),
            };
            for slot in wave.without(asked).without(shape.empty).iter() {
                in_flight.push(self.fetch(slot, stripe, !needed.contains(slot)));
                asked.insert(slot);
                flying.insert(slot);
                last_asked = self.core.now();
            }
            if flying.is_empty() {
                match tries {
                    Tries::Direct => return Err(self.unreadable(stripe)),
                    // Everything there is has come in: what to leave out is tried above.
                    Tries::LeavingOut => continue,
                }
            }
            let limit = if flying.without(overdue).is_empty() {
                let deadline = self.core.settings.request_deadline;
                deadline.saturating_sub(self.core.now().saturating_sub(started))
            } else {
                experience.pace.limit().saturating_sub(self.core.now().saturating_sub(last_asked))
            };
            match self.core.env.clock.timeout(limit, in_flight.next()).await {
                Ok(Some(fetched)) => {
                    let (slot, latency) = (fetched.slot, fetched.latency);
                    flying.remove(slot);
                    overdue.remove(slot);
                    if let Some(unit) = self.absorb(fetched, &mut experience.suspects) {
                        experience.pace.record(latency);
                        gathered.insert(slot, unit);
                    }
                }
                Ok(None) => return Err(self.unreadable(stripe)),
                Err(_) if flying.without(overdue).is_empty() => return Err(self.unreadable(stripe)),
                Err(_) => {
                    self.core.metrics.hedged_stripes.increment(1);
                    for slot in flying.without(overdue).iter() {
                        self.overdue(slot, &mut experience.suspects);
                    }
                    overdue = flying;
                }
            }
        }
        if needed.without(self.good()).is_empty() {
            self.rest_helpers(needed);
        }
        Ok(gathered)
    }

    /// Slots to ask now: those that are wanted, and as many in the place of others as reconstruction lacks.
    fn next_wave(
        &self,
        lacking: SlotSet,
        present: SlotSet,
        promising: SlotSet,
        asked: SlotSet,
        k: usize,
    ) -> SlotSet {
        let good = self.good().without(asked);
        let mut wave = lacking.intersection(good);
        let hopeful = union(promising, wave);
        if lacking.without(hopeful).is_empty() {
            return wave;
        }
        let short = k.saturating_sub(union(present, hopeful).len());
        let good_others = good.without(wave);
        let suspects = self.suspect().without(asked);
        let wanted_suspects = suspects.intersection(lacking);
        let rest = suspects.without(lacking);
        let others = good_others.iter().chain(wanted_suspects.iter()).chain(rest.iter());
        for slot in others.filter(|slot| !present.contains(*slot)).take(short) {
            wave.insert(slot);
        }
        wave
    }

    /// Adds the lacking units; `false` if what there is does not fit together.
    async fn reconstruct(
        &mut self,
        shape: &Shape,
        gathered: &mut Gathered,
        lacking: SlotSet,
        tries: Tries,
    ) -> Result<bool, ObjectError> {
        let (codec, shape, units) = (Arc::clone(&self.coding.codec), shape.clone(), gathered.units.clone());
        let rebuilt = self.core.coding.run(move || rebuild(&codec, &shape, &units, lacking, tries)).await;
        let Some(rebuilt) = rebuilt.map_err(|_| ObjectError::Internal("a coding job failed"))? else {
            tracing::error!(chunk = %self.chunk, ?tries, "units that verify do not fit together");
            return Ok(false);
        };
        self.core.metrics.degraded_stripes.increment(1);
        for (slot, unit) in rebuilt {
            self.core.metrics.reconstructed_bytes.increment(u64::from(unit.sum.len));
            gathered.insert(slot, unit);
        }
        Ok(true)
    }

    fn unreadable(&self, stripe: u32) -> ObjectError {
        self.core.metrics.unreadable_stripes.increment(1);
        tracing::error!(chunk = %self.chunk, stripe, "too few slots of a stripe are readable");
        ObjectError::Unreadable
    }
}

impl Gathered {
    fn new(slots: usize) -> Self {
        Self { units: vec![None; slots], set: SlotSet::EMPTY }
    }

    fn insert(&mut self, slot: u8, unit: Unit) {
        self.units[usize::from(slot)] = Some(unit);
        self.set.insert(slot);
    }
}

impl Experience {
    pub(crate) fn new(hedge_min: Duration, hedge_factor: u32) -> Self {
        Self { pace: Pace::new(hedge_min, hedge_factor), suspects: Suspects::default() }
    }
}
