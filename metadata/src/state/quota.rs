//! Quotas: what a bucket may hold, checked where a write is applied.
//!
//! Bytes are those of all versions and of parts not yet completed; objects are versions that hold bytes, current or
//! not. A write is refused only if it adds to what is limited: a bucket that is over its quota, because that was lowered,
//! takes overwrites that do not grow, and deletes always.

use super::{apply::Applied, put::Place};
use crate::{command::Refusal, query::Counters};
use ashlar_types::service::Quota;

/// What a write adds to the counters of its bucket, and what it takes away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Growth {
    pub(super) bytes_added: u64,
    pub(super) bytes_freed: u64,
    pub(super) objects_added: u64,
    pub(super) objects_freed: u64,
}

impl Place<'_> {
    /// To be asked before anything is changed.
    pub(super) fn check_quota(&self, growth: Growth) -> Applied<()> {
        let Counters { objects, noncurrent, bytes, upload_bytes, delete_markers: _, uploads: _ } =
            self.counts.counters;
        let Quota { bytes: bytes_max, objects: objects_max } = self.quota;
        let exceeds = |max: Option<u64>, held: u64, added: u64, freed: u64| {
            max.is_some_and(|max| added > freed && held.saturating_add(added - freed) > max)
        };
        if exceeds(bytes_max, bytes + upload_bytes, growth.bytes_added, growth.bytes_freed)
            || exceeds(objects_max, objects + noncurrent, growth.objects_added, growth.objects_freed)
        {
            return Err(Refusal::QuotaExceeded.into());
        }
        Ok(())
    }
}
