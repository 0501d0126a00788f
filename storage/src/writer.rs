//! Writing one shard.
//!
//! Lifecycle: Open -append-> Open -commit-> durable; a dropped, cancelled or failed writer leaves nothing but dead space.
//! A small shard is gathered and travels in the log. A large one is written to extents while it arrives, a few pieces at a
//! time, and gets its record at the commit. Nothing is visible before.

use crate::{
    drive::{Drive, Purpose},
    error::StoreError,
    extents,
    format::{BLOCK, Body, Epoch, RecordHeader, RecordKind},
    queue::{Claim, NewShard, Work},
    store::{Inner, refused},
    sync::Arc,
    width,
};
use ashlar_hashing::crc64nvme;
use ashlar_types::{ShardMeta, UnitSum};
use bytes::Bytes;
use std::{collections::VecDeque, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Bytes of one unit at most; a stripe unit has 64 KiB.
pub const UNIT_MAX_LEN: usize = 4 << 20;
/// Units of one shard at most; a chunk of the narrowest profile has 1024.
pub const UNITS_MAX: usize = 65_536;
/// Pieces of one shard that are written at the same time, while the next is gathered: what a writer holds is not in any
/// budget but its sender's, and other writers fill the device.
const DEPTH: usize = 1;

/// A unit on its way to the drive.
#[derive(Clone, Debug)]
pub struct ShardUnit {
    pub bytes: Bytes,
    pub sum: UnitSum,
}

/// A shard being written. Dropping it without commit leaves nothing to be seen.
#[derive(Debug)]
#[must_use = "a shard exists only once it is committed"]
pub struct ShardWriter {
    store: Arc<Inner>,
    meta: ShardMeta,
    units: Vec<UnitSum>,
    /// Bytes not handed on yet, in order.
    gathered: VecDeque<Bytes>,
    gathered_len: u64,
    payload_len: u64,
    /// Pieces on their way, in order.
    writing: VecDeque<oneshot::Receiver<Result<Claim, StoreError>>>,
    claims: Vec<Claim>,
    /// Why it can only be given up.
    over: Option<StoreError>,
    begun: Duration,
    _permit: OwnedSemaphorePermit,
}

impl ShardWriter {
    pub(crate) fn new(store: Arc<Inner>, meta: ShardMeta, permit: OwnedSemaphorePermit) -> Self {
        let begun = store.drive.clock.monotonic();
        Self {
            store,
            meta,
            units: Vec::new(),
            gathered: VecDeque::new(),
            gathered_len: 0,
            payload_len: 0,
            writing: VecDeque::new(),
            claims: Vec::new(),
            over: None,
            begun,
            _permit: permit,
        }
    }

    /// Adds a unit after checking it against its checksum. Waits while the drive's queue is full. After an error,
    /// or when the future was dropped before its end, the shard can only be given up.
    pub async fn append(&mut self, unit: ShardUnit) -> Result<(), StoreError> {
        self.begin()?;
        let outcome = self.append_begun(unit).await;
        self.end(outcome)
    }

    async fn append_begun(&mut self, unit: ShardUnit) -> Result<(), StoreError> {
        self.gather(unit)?;
        let piece_max = self.store.drive.piece_max();
        while self.payload_len > self.store.drive.small_max() && self.gathered_len >= piece_max {
            self.write_piece(piece_max).await?;
        }
        Ok(())
    }

    /// Makes the shard durable and visible, in place of a former one of the same id. When the future is dropped,
    /// or on `Failed`, it may or may not exist later, but only whole.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        self.begin()?;
        let large = self.payload_len > self.store.drive.small_max();
        let piece_max = self.store.drive.piece_max();
        while large && self.gathered_len > 0 {
            self.write_piece(self.gathered_len.min(piece_max)).await?;
        }
        while !self.writing.is_empty() {
            self.await_piece().await?;
        }
        let new = self.describe(large)?;
        let memory = self.store.memory.reserve(new.header.stored_len()).await;
        let memory = memory.map_err(|_| StoreError::TooLarge)?;
        let outcome = self.store.queue.push(Work::Put(new), Some(memory))?;
        outcome.await.unwrap_or(Err(StoreError::Closed))?;
        let drive = &self.store.drive;
        let took = drive.clock.monotonic().saturating_sub(self.begun);
        drive.metrics.shard_write_seconds.record(took.as_secs_f64());
        Ok(())
    }

    /// A call that does not get to `end` leaves the writer closed.
    fn begin(&mut self) -> Result<(), StoreError> {
        match self.over.replace(StoreError::Closed) {
            None => Ok(()),
            Some(error) => {
                self.over = Some(error.clone());
                Err(error)
            }
        }
    }

    fn end(&mut self, outcome: Result<(), StoreError>) -> Result<(), StoreError> {
        self.over = outcome.clone().err();
        outcome
    }

    fn gather(&mut self, unit: ShardUnit) -> Result<(), StoreError> {
        let ShardUnit { bytes, sum } = unit;
        if bytes.len() > UNIT_MAX_LEN || self.units.len() >= UNITS_MAX {
            return Err(StoreError::TooLarge);
        }
        if u32::try_from(bytes.len()) != Ok(sum.len) || crc64nvme(&bytes) != sum.crc64 {
            return Err(StoreError::CrcMismatch);
        }
        self.gathered_len += width::file(bytes.len());
        self.payload_len += width::file(bytes.len());
        self.gathered.push_back(bytes);
        self.units.push(sum);
        Ok(())
    }

    /// Hands the first `len` gathered bytes to a thread; waits for the oldest piece if too many are on their way.
    async fn write_piece(&mut self, len: u64) -> Result<(), StoreError> {
        debug_assert!(
            len.is_multiple_of(BLOCK) || len == self.gathered_len,
            "only the last piece may be ragged"
        );
        while self.writing.len() >= DEPTH {
            self.await_piece().await?;
        }
        let memory = self.store.memory.reserve(len).await.map_err(|_| StoreError::TooLarge)?;
        let parts = self.take_gathered(len);
        let (drive, shard) = (Arc::clone(&self.store.drive), self.meta.id);
        let work = move || {
            let _memory = memory;
            extents::write_piece(&drive, shard, &parts, Purpose::NewShards)
        };
        self.writing.push_back(self.store.writes.run(work).map_err(refused)?);
        Ok(())
    }

    async fn await_piece(&mut self) -> Result<(), StoreError> {
        let Some(oldest) = self.writing.front_mut() else { return Ok(()) };
        let claim = oldest.await.unwrap_or(Err(StoreError::Closed))?;
        self.writing.pop_front();
        self.claims.push(claim);
        Ok(())
    }

    fn take_gathered(&mut self, len: u64) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let mut missing = width::memory(len);
        while missing > 0 {
            let Some(mut part) = self.gathered.pop_front() else { break };
            if part.len() > missing {
                self.gathered.push_front(part.split_off(missing));
            }
            missing -= part.len();
            parts.push(part);
        }
        self.gathered_len -= len;
        parts
    }

    fn describe(&mut self, large: bool) -> Result<NewShard, StoreError> {
        let claims = std::mem::take(&mut self.claims);
        let extents = extents::merge(claims.iter().map(|claim| claim.extent));
        let body = Body {
            meta: self.meta.clone(),
            units: std::mem::take(&mut self.units),
            extents: extents.to_vec(),
        };
        let kind = if large { RecordKind::Large } else { RecordKind::Small };
        let mut new = new_shard(&self.store.drive, kind, self.payload_len, &body)?;
        new.payload = if large { Vec::new() } else { self.gathered.drain(..).collect() };
        new.claims = claims;
        Ok(new)
    }
}

/// A record of a shard, its payload and claims still to be given.
pub(crate) fn new_shard(
    drive: &Drive,
    kind: RecordKind,
    payload_len: u64,
    body: &Body,
) -> Result<NewShard, StoreError> {
    let encoded = body.encode().ok_or(StoreError::TooLarge)?;
    if width::file(encoded.len()) > drive.body_max() {
        return Err(StoreError::TooLarge);
    }
    let too_large = |_| StoreError::TooLarge;
    let header = RecordHeader {
        kind,
        shard: body.meta.id,
        payload_len,
        body_len: u32::try_from(encoded.len()).map_err(too_large)?,
        units: u32::try_from(body.units.len()).map_err(too_large)?,
        epoch: Epoch(0),
    };
    let extents = body.extents.clone().into_boxed_slice();
    Ok(NewShard { header, body: encoded, payload: Vec::new(), extents, claims: Vec::new() })
}
