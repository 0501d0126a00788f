//! Buckets of a partition group: made, configured, sealed, purged.
//!
//! ```text
//! CreateBucket -> open -SealBucket (if empty)-> sealed -PurgeBucket until nothing is left-> gone
//!                   ^-------UnsealBucket---------'
//! ```
//! A bucket that is gone is remembered for a while, and one whose reservation is old is not made: so no create that was
//! on its way while the bucket was deleted brings it back, without a name.
//!
//! Open uploads do not keep a bucket from being sealed. A sealed bucket takes neither parts nor completions, and
//! the purge aborts what is open, a bounded number of rows at a time.

use super::{
    StateError,
    apply::{Applied, Apply},
};
use crate::{
    command::{Done, Refusal},
    encoding::Extensions,
    event::EventRecording,
    kv::{KeyRange, Table},
    tables::{
        self,
        record::{BucketRecord, PartRecord, PurgedRecord},
    },
};
use ashlar_types::{
    BucketId, ShardOwner, Timestamp, Versioning,
    service::{BucketInfo, Quota},
};
use bytes::Bytes;
use std::time::Duration;

/// How long after its reservation a bucket may be made. A create that was begun before its bucket was purged, and arrives
/// after `PURGED_KEPT`, is later than that.
const CREATE_WINDOW: Duration = Duration::from_hours(24);
/// How long it is remembered that a bucket was purged: longer than the window, by far more than the clocks of two groups
/// can differ.
const PURGED_KEPT: Duration = Duration::from_hours(48);

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a few days")
}

impl Apply<'_> {
    pub(super) fn create_bucket(&mut self, info: &BucketInfo) -> Applied {
        if info.group != self.id {
            return Err(Refusal::NotUnderstood.into());
        }
        let row = tables::bucket(info.id);
        if let Some(known) = self.record::<BucketRecord>(Table::Buckets, &row)? {
            return if known.sealed {
                Err(Refusal::BucketSealed.into())
            } else {
                Ok(Done::Bucket(known.info))
            };
        }
        let purged = self.record::<PurgedRecord>(Table::Purged, &row)?.is_some();
        if purged || self.now() > info.created.plus(CREATE_WINDOW) {
            return Err(Refusal::BucketGone.into());
        }
        let record = BucketRecord {
            info: info.clone(),
            versioning: Versioning::Unversioned,
            sealed: false,
            quota: Quota::default(),
            events: EventRecording::Off,
            kept: Extensions::default(),
        };
        self.put(Table::Buckets, row, &record);
        Ok(Done::Bucket(record.info))
    }

    pub(super) fn seal_bucket(&mut self, bucket: BucketId) -> Applied {
        let record = self.bucket(bucket)?;
        let counters = self.counters(bucket)?.counters;
        if counters.objects + counters.noncurrent + counters.delete_markers > 0 {
            return Err(Refusal::BucketNotEmpty.into());
        }
        self.put_sealed(record, true)
    }

    pub(super) fn unseal_bucket(&mut self, bucket: BucketId) -> Applied {
        let record = self.bucket(bucket)?;
        self.put_sealed(record, false)
    }

    fn put_sealed(&mut self, mut record: BucketRecord, sealed: bool) -> Applied {
        record.sealed = sealed;
        self.put(Table::Buckets, tables::bucket(record.info.id), &record);
        Ok(Done::Nothing)
    }

    /// Parts, then uploads, then results of completions, at last the bucket itself. The rows of `Due` for the
    /// results stay: they remove themselves, and name nothing then.
    pub(super) fn purge_bucket(&mut self, bucket: BucketId, limit: u32) -> Applied {
        let Some(record) = self.record::<BucketRecord>(Table::Buckets, &tables::bucket(bucket))? else {
            return Ok(Done::Purged { more: false });
        };
        if !record.sealed {
            return Err(Refusal::BucketNotEmpty.into());
        }
        let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
        let range = KeyRange::prefix(&tables::bucket(bucket));
        let mut counts = self.counters(bucket)?;
        let parts = self.keys(Table::Parts, &range, limit)?;
        for row in &parts {
            counts.counters.upload_bytes -= self.purge_part(row)?;
        }
        // A part is never left without its upload.
        let mut gone = parts.len();
        if gone == 0 {
            let uploads = self.keys(Table::Uploads, &range, limit)?;
            gone = uploads.len();
            counts.counters.uploads -= gone as u64;
            self.remove_all(Table::Uploads, uploads);
        }
        if gone == 0 {
            let completed = self.keys(Table::Completed, &range, limit)?;
            gone = completed.len();
            self.remove_all(Table::Completed, completed);
        }
        if gone > 0 {
            self.put_counters(bucket, &counts);
            return Ok(Done::Purged { more: true });
        }
        self.remove(Table::Counters, tables::bucket(bucket));
        self.remove(Table::Buckets, tables::bucket(bucket));
        let purged = self.now();
        self.put(Table::Purged, tables::bucket(bucket), &PurgedRecord { purged });
        self.tables.put(Table::Due, tables::due_purged(purged, bucket), Bytes::new());
        Ok(Done::Purged { more: false })
    }

    /// After a while nobody can make the bucket again anyway.
    pub(super) fn forget_purged(&mut self, limit: usize) -> Result<(), StateError> {
        let Some(until) = self.now().0.checked_sub(millis(PURGED_KEPT)) else { return Ok(()) };
        let first = tables::due_purged(Timestamp(0), BucketId(0));
        let range = KeyRange { from: first, to: Some(tables::due_purged(Timestamp(until), BucketId(0))) };
        for row in self.keys(Table::Due, &range, limit)? {
            let (_, bucket) = tables::parse_due_purged(&row).ok_or(StateError::Key { table: Table::Due })?;
            self.remove(Table::Purged, tables::bucket(bucket));
            self.remove(Table::Due, row);
        }
        Ok(())
    }

    fn remove_all(&mut self, table: Table, rows: Vec<Vec<u8>>) {
        for row in rows {
            self.remove(table, row);
        }
    }

    /// Answers its bytes.
    fn purge_part(&mut self, row: &[u8]) -> Applied<u64> {
        let part: PartRecord = self.promised(Table::Parts, row)?;
        let malformed = || StateError::Key { table: Table::Parts };
        let (_, after) = tables::parse_escaped(row).ok_or_else(malformed)?;
        let (upload, number) = after.split_last_chunk::<2>().ok_or_else(malformed)?;
        let upload = tables::parse_upload(upload).ok_or_else(malformed)?;
        let part_number = u16::from_be_bytes(*number);
        let size = part.size;
        self.discard_part(ShardOwner::Part { upload, part_number }, part);
        self.remove(Table::Parts, row.to_vec());
        Ok(size)
    }

    /// A bucket that was versioned once never goes back to `Unversioned`: it is suspended instead.
    pub(super) fn set_versioning(&mut self, bucket: BucketId, versioning: Versioning) -> Applied {
        let mut record = self.open_bucket(bucket)?;
        record.versioning = match (record.versioning, versioning) {
            (Versioning::Enabled | Versioning::Suspended, Versioning::Unversioned) => Versioning::Suspended,
            (_, versioning) => versioning,
        };
        self.put(Table::Buckets, tables::bucket(bucket), &record);
        Ok(Done::Nothing)
    }

    pub(super) fn set_quota(&mut self, bucket: BucketId, quota: Quota) -> Applied {
        let mut record = self.open_bucket(bucket)?;
        record.quota = quota;
        self.put(Table::Buckets, tables::bucket(bucket), &record);
        Ok(Done::Nothing)
    }
}
