//! One entry: recognises retries, dispatches, collects garbage, forgets what is old.

use super::{
    Cached, StateError, decode,
    digest::{Digests, Marked},
    for_each,
    overlay::Overlay,
    record,
};
use crate::{
    command::{Command, Done, Entry, FEATURE_LEVEL, Outcome, PartitionCommand, Refusal, SystemCommand},
    encoding::{Row, encode_row},
    kv::{Batch, KeyRange, KvError, Table},
    planted::{Plant, planted},
    tables::{
        self,
        record::{BucketRecord, CounterRecord, GroupRecord},
    },
};
use ashlar_placement::ClusterMap;
use ashlar_runtime::sync::Arc;
use ashlar_types::{Blob, BucketId, GroupId, RequestId, Timestamp, WriteEpoch};
use std::ops::ControlFlow;

/// Rows forgotten with each entry: more than an entry makes, so that they never pile up.
const PRUNED_PER_ENTRY: usize = 4;
/// And when the floor moves.
const PRUNED_PER_EPOCH: usize = 1000;

/// Of the bug that keeps only so many.
const OUTCOMES_KEPT: usize = 32;

/// Applies entries to an overlay.
pub(super) struct Apply<'a> {
    pub(super) id: GroupId,
    pub(super) tables: Overlay<'a>,
    pub(super) group: GroupRecord,
    /// The cluster map, if it was changed.
    pub(super) map: Option<ClusterMap>,
    /// Of the tables below the overlay.
    digests: Digests,
    /// The last one.
    mark: Option<Marked>,
    /// What the present entry made garbage.
    pub(super) garbage: Vec<Blob>,
}

/// Why a command ends without being done.
pub(super) enum Halt {
    Refused(Refusal),
    Failed(StateError),
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<KvError> for Halt {
    fn from(error: KvError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<StateError> for Halt {
    fn from(error: StateError) -> Self {
        Self::Failed(error)
    }
}

pub(super) type Applied<T = Done> = Result<T, Halt>;

impl<'a> Apply<'a> {
    pub(super) fn new(id: GroupId, tables: Overlay<'a>, cached: &Cached) -> Self {
        let Cached { group, map: _, digests, mark } = cached.clone();
        Self { id, tables, group, map: None, digests, mark, garbage: Vec::new() }
    }

    /// The changes, as one batch, with the position they lead to; and what is cached of them.
    pub(super) fn finish(mut self, position: &[u8], cached: &mut Cached) -> Result<Batch, StateError> {
        self.put_held();
        self.tables.put(Table::Meta, tables::POSITION.to_vec(), position.to_vec());
        let (mut batch, digests) = self.tables.into_batch(&self.digests)?;
        batch.put(Table::Meta, tables::DIGESTS, encode_row(&digests));
        let map = self.map.map(Arc::new).or_else(|| cached.map.take());
        *cached = Cached { group: self.group, map, digests, mark: self.mark };
        Ok(batch)
    }

    /// Rows that are held outside the overlay while entries are applied.
    fn put_held(&mut self) {
        self.tables.put_record(Table::Meta, tables::GROUP.to_vec(), &self.group);
        if let Some(map) = &self.map {
            self.tables.put_record(Table::Map, tables::MAP.to_vec(), map);
        }
    }

    fn mark_digests(&mut self, mark: u64) -> Applied {
        if self.mark.as_ref().is_none_or(|last| last.mark < mark) {
            self.put_held();
            let marked = self.tables.digests(&self.digests)?.marked(mark);
            self.tables.put_record(Table::Meta, tables::MARK.to_vec(), &marked);
            self.mark = Some(marked);
        }
        Ok(Done::Nothing)
    }

    pub(super) fn entry(&mut self, entry: &Entry) -> Result<Outcome, StateError> {
        self.group.clock = self.group.clock.max(entry.stamp);
        if let Some(request) = entry.request {
            if request.write_epoch < self.group.floor() && !planted(Plant::ExpiredCommandApplied) {
                return Ok(Err(Refusal::Expired));
            }
            if let Some(outcome) = record(&self.tables, Table::Requests, &tables::request(request))? {
                return Ok(outcome);
            }
        }
        let outcome = match self.command(&entry.command) {
            Ok(done) => Ok(done),
            // Shards of blobs that are too old are the sweep's: it may have deleted some already.
            Err(Halt::Refused(Refusal::Expired)) => Err(Refusal::Expired),
            Err(Halt::Refused(refusal)) => {
                self.garbage.extend(blobs_of(&entry.command).cloned());
                Err(refusal)
            }
            Err(Halt::Failed(error)) => return Err(error),
        };
        self.flush_garbage();
        if let Some(request) = entry.request {
            self.remember(request, &outcome);
        }
        let limit = match entry.command {
            Command::AdvanceWriteEpoch { .. } => PRUNED_PER_EPOCH,
            Command::System(_)
            | Command::Partition(_)
            | Command::Nothing
            | Command::DigestMark { .. }
            | Command::SetFeatureLevel { .. } => PRUNED_PER_ENTRY,
        };
        self.prune(limit)?;
        if let Command::AdvanceWriteEpoch { .. } = entry.command {
            self.forget_purged(limit)?;
            self.cap_outbox(limit)?;
        }
        Ok(outcome)
    }

    fn command(&mut self, command: &Command) -> Applied {
        if command.feature_level() > self.group.feature_level {
            return Err(Refusal::NotUnderstood.into());
        }
        match command {
            Command::System(command) if self.id == GroupId::SYSTEM => self.system(command),
            Command::Partition(command) if self.id != GroupId::SYSTEM => self.partition(command),
            Command::System(_) | Command::Partition(_) => Err(Refusal::NotUnderstood.into()),
            Command::AdvanceWriteEpoch { from } => {
                if self.group.write_epoch == *from {
                    self.group.write_epoch = WriteEpoch(from.0 + 1);
                }
                Ok(Done::WriteEpoch(self.group.write_epoch))
            }
            Command::Nothing => Ok(Done::Nothing),
            Command::DigestMark { mark } => self.mark_digests(*mark),
            Command::SetFeatureLevel { level } if *level > FEATURE_LEVEL => {
                Err(StateError::FeatureLevel { level: *level }.into())
            }
            Command::SetFeatureLevel { level } => {
                self.group.feature_level = self.group.feature_level.max(*level);
                Ok(Done::Nothing)
            }
        }
    }

    fn system(&mut self, command: &SystemCommand) -> Applied {
        match command {
            SystemCommand::Form { map } => self.form(map),
            SystemCommand::UpdateMap { expected, map } => self.update_map(*expected, map),
            SystemCommand::JoinNode(join) => self.join_node(join),
            SystemCommand::PutJoinToken { token_hash, expires } => self.put_join_token(token_hash, *expires),
            SystemCommand::ReserveBucket { name, owner, location, group } => {
                self.reserve_bucket(name, owner, location, *group)
            }
            SystemCommand::ActivateBucket { bucket } => self.activate_bucket(*bucket),
            SystemCommand::RemoveBucket { bucket } => self.remove_bucket(*bucket),
            SystemCommand::PutAccessKey { key } => Ok(self.put_access_key(key)),
            SystemCommand::DeleteAccessKey { id } => Ok(self.delete_access_key(id)),
            SystemCommand::AbandonBucket { bucket } => self.abandon_bucket(*bucket),
        }
    }

    fn partition(&mut self, command: &PartitionCommand) -> Applied {
        match command {
            PartitionCommand::CreateBucket { bucket } => self.create_bucket(bucket),
            PartitionCommand::SealBucket { bucket } => self.seal_bucket(*bucket),
            PartitionCommand::UnsealBucket { bucket } => self.unseal_bucket(*bucket),
            PartitionCommand::PurgeBucket { bucket, limit } => self.purge_bucket(*bucket, *limit),
            PartitionCommand::SetVersioning { bucket, versioning } => {
                self.set_versioning(*bucket, *versioning)
            }
            PartitionCommand::PutVersion(put) => self.put_version(put),
            PartitionCommand::DeleteVersions { bucket, keys, owner, salt } => {
                self.delete_versions(*bucket, keys, owner, *salt)
            }
            PartitionCommand::CreateUpload(create) => self.create_upload(create),
            PartitionCommand::PutPart(part) => self.put_part(part),
            PartitionCommand::CompleteUpload(complete) => self.complete_upload(complete),
            PartitionCommand::AbortUpload { bucket, key, upload } => self.abort_upload(*bucket, key, *upload),
            PartitionCommand::FillSlot(fill) => self.fill_slot(fill),
            PartitionCommand::ReportSlots { bucket, key, owner, slots } => {
                self.report_slots(*bucket, key, *owner, slots)
            }
            PartitionCommand::QueueGarbage { blobs } => {
                self.garbage.extend_from_slice(blobs);
                Ok(Done::Nothing)
            }
            PartitionCommand::GarbageDone { rows } => Ok(self.garbage_done(rows)),
            PartitionCommand::SetQuota { bucket, quota } => self.set_quota(*bucket, *quota),
            PartitionCommand::FencePg(fence) => self.fence_pg(fence),
            PartitionCommand::SetEvents { bucket, recording } => self.set_events(*bucket, *recording),
            PartitionCommand::SetOutboxLimits(limits) => self.set_outbox_limits(*limits),
            PartitionCommand::TrimOutbox { through } => self.trim_outbox(*through),
        }
    }

    fn remember(&mut self, request: RequestId, outcome: &Outcome) {
        self.tables.put_record(Table::Requests, tables::request(request), outcome);
    }

    /// Forgets outcomes of epochs below the floor, a few at a time. A cursor says how far that is done, so that
    /// the usual entry reads nothing here.
    fn prune(&mut self, limit: usize) -> Result<(), StateError> {
        if planted(Plant::OutcomesEvictedByCount) {
            let rows = self.keys(Table::Requests, &KeyRange::all(), OUTCOMES_KEPT + 1)?;
            if let [oldest, rest @ ..] = rows.as_slice()
                && rest.len() == OUTCOMES_KEPT
            {
                self.tables.remove(Table::Requests, oldest.clone());
            }
        }
        let floor = self.group.floor();
        if self.group.requests_pruned < floor {
            let from = self.group.requests_pruned.0.to_be_bytes().to_vec();
            let range = KeyRange { from, to: Some(floor.0.to_be_bytes().to_vec()) };
            let rows = self.keys(Table::Requests, &range, limit)?;
            self.group.requests_pruned = match rows.last() {
                Some(last) if rows.len() == limit => {
                    tables::parse_request_epoch(last).ok_or(StateError::Key { table: Table::Requests })?
                }
                _ => floor,
            };
            for row in rows {
                self.tables.remove(Table::Requests, row);
            }
        }
        if self.group.completed_pruned < floor {
            let from = tables::due_completed(self.group.completed_pruned, &[]);
            let range = KeyRange { from, to: Some(tables::due_completed(floor, &[])) };
            let rows = self.keys(Table::Due, &range, limit)?;
            let whole = rows.len() < limit;
            for row in rows {
                let (epoch, completed) =
                    tables::parse_due_completed(&row).ok_or(StateError::Key { table: Table::Due })?;
                self.group.completed_pruned = epoch;
                self.tables.remove(Table::Completed, completed.to_vec());
                self.tables.remove(Table::Due, row);
            }
            if whole {
                self.group.completed_pruned = floor;
            }
        }
        Ok(())
    }

    /// The first keys of a range.
    pub(super) fn keys(
        &self,
        table: Table,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StateError> {
        let mut keys = Vec::new();
        if limit > 0 {
            for_each(&self.tables, table, range, |key, _| {
                keys.push(key.to_vec());
                Ok(if keys.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
        }
        Ok(keys)
    }

    /// All rows of a range that is known to be bounded.
    pub(super) fn rows<T: Row>(
        &self,
        table: Table,
        range: &KeyRange,
    ) -> Result<Vec<(Vec<u8>, T)>, StateError> {
        let mut rows = Vec::new();
        for_each(&self.tables, table, range, |key, value| {
            rows.push((key.to_vec(), decode(table, value)?));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.group.clock
    }

    pub(super) fn record<T: Row>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StateError> {
        record(&self.tables, table, key)
    }

    /// A row that must be there because another one says so.
    pub(super) fn promised<T: Row>(&self, table: Table, key: &[u8]) -> Result<T, StateError> {
        self.record(table, key)?.ok_or(StateError::MissingRow { table })
    }

    pub(super) fn put<T: Row>(&mut self, table: Table, key: Vec<u8>, record: &T) {
        self.tables.put_record(table, key, record);
    }

    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.tables.remove(table, key);
    }

    /// A bucket of this group in any state.
    pub(super) fn bucket(&self, bucket: BucketId) -> Applied<BucketRecord> {
        self.record(Table::Buckets, &tables::bucket(bucket))?.ok_or(Halt::Refused(Refusal::NoSuchBucket))
    }

    /// One that takes writes.
    pub(super) fn open_bucket(&self, bucket: BucketId) -> Applied<BucketRecord> {
        let record = self.bucket(bucket)?;
        if record.sealed { Err(Refusal::BucketSealed.into()) } else { Ok(record) }
    }

    pub(super) fn counters(&self, bucket: BucketId) -> Result<CounterRecord, StateError> {
        Ok(self.record(Table::Counters, &tables::bucket(bucket))?.unwrap_or_default())
    }

    pub(super) fn put_counters(&mut self, bucket: BucketId, record: &CounterRecord) {
        self.put(Table::Counters, tables::bucket(bucket), record);
    }
}

/// What becomes garbage if the command is refused.
fn blobs_of(command: &Command) -> impl Iterator<Item = &Blob> {
    let content = match command {
        Command::Partition(PartitionCommand::PutVersion(put)) => Some(&put.content),
        Command::Partition(PartitionCommand::PutPart(part)) => Some(&part.content),
        Command::Partition(_)
        | Command::System(_)
        | Command::AdvanceWriteEpoch { .. }
        | Command::Nothing
        | Command::DigestMark { .. }
        | Command::SetFeatureLevel { .. } => None,
    };
    content.into_iter().flat_map(|content| content.manifest.blobs())
}
