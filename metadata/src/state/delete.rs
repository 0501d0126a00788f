//! Deletes: of the latest version (which may make a delete marker) and of one version by its id.

use super::{
    apply::{Applied, Apply, Halt},
    put::{Place, etag},
    query,
};
use crate::{
    command::{Done, Refusal},
    event::EventKind,
    planted::{Plant, planted},
    tables::record::VersionRecord,
};
use ashlar_types::{
    BucketId, VersionId, Versioning, WriteCondition,
    condition::ConditionOutcome,
    service::{DeleteKey, Deleted},
};

impl Apply<'_> {
    /// In order, each by itself: the refusal of one leaves the others.
    pub(super) fn delete_versions(
        &mut self,
        bucket: BucketId,
        keys: &[DeleteKey],
        owner: &str,
        salt: u128,
    ) -> Applied {
        let record = self.open_bucket(bucket)?;
        let mut results = Vec::with_capacity(keys.len());
        for delete in keys {
            let mut place = self.place(bucket, &record, &delete.key)?;
            let result = match delete.version {
                None => self.delete_latest(&mut place, &delete.condition, owner, salt),
                Some(version) => self.delete_version(&mut place, version, &delete.condition),
            };
            match result {
                Ok(deleted) => {
                    if !planted(Plant::CountersOutsideApply) {
                        self.put_counters(bucket, &place.counts);
                    }
                    results.push(Ok(deleted));
                }
                Err(Halt::Refused(refusal)) => results.push(Err(refusal)),
                Err(failed) => return Err(failed),
            }
        }
        Ok(Done::Deleted(results))
    }

    fn delete_latest(
        &mut self,
        place: &mut Place<'_>,
        condition: &WriteCondition,
        owner: &str,
        salt: u128,
    ) -> Applied<Deleted> {
        let current = self.current(place.bucket, place.key)?;
        let mut deleted = Deleted { key: place.key.clone(), version_id: None, delete_marker: None };
        if !condition_holds(condition, current.as_ref())? {
            return Ok(deleted);
        }
        match place.versioning {
            Versioning::Unversioned => {
                if let Some(current) = current {
                    self.drop_current(place, &current)?;
                    self.record_event(place, EventKind::Deleted { version_id: None })?;
                }
            }
            Versioning::Enabled | Versioning::Suspended => {
                deleted.delete_marker = Some(self.put_marker(place, current, salt, owner)?);
            }
        }
        Ok(deleted)
    }

    fn delete_version(
        &mut self,
        place: &mut Place<'_>,
        version: VersionId,
        condition: &WriteCondition,
    ) -> Applied<Deleted> {
        let current = self.current(place.bucket, place.key)?;
        let is_current = current.as_ref().is_some_and(|current| current.version_id == version);
        let has_current = current.is_some();
        let found = if is_current {
            current
        } else {
            query::noncurrent(&self.tables, place.bucket, place.key, version)?
        };
        let mut deleted = Deleted { key: place.key.clone(), version_id: Some(version), delete_marker: None };
        if !condition_holds(condition, found.as_ref())? {
            return Ok(deleted);
        }
        let Some(found) = found else { return Ok(deleted) };
        if found.is_delete_marker() {
            deleted.delete_marker = Some(version);
        }
        if is_current {
            self.drop_current(place, &found)?;
        } else {
            self.drop_noncurrent(place, &found)?;
        }
        if is_current || !has_current {
            self.promote(place)?;
        }
        let shown = (place.versioning != Versioning::Unversioned).then_some(version);
        self.record_event(place, EventKind::Deleted { version_id: shown })?;
        Ok(deleted)
    }
}

/// Whether there is something to delete under the condition. What does not exist (`If-Match` finds no object) is
/// deleted already: success, and nothing is done.
fn condition_holds(condition: &WriteCondition, found: Option<&VersionRecord>) -> Applied<bool> {
    match condition.evaluate(found.and_then(etag)) {
        ConditionOutcome::Holds => Ok(true),
        ConditionOutcome::Absent => Ok(false),
        ConditionOutcome::Fails => Err(Refusal::PreconditionFailed.into()),
    }
}
