//! Group 0: which bucket has a name.
//!
//! ```text
//! ReserveBucket -> Reserved -ActivateBucket (its group knows it)-> Active -RemoveBucket (its group sealed it)-> gone
//!                      '-AbandonBucket (its group will not make it)-> gone
//! ```

use super::{
    StateError,
    apply::{Applied, Apply, Halt},
};
use crate::{
    command::{Done, Refusal},
    encoding::Extensions,
    kv::Table,
    query::{BucketPhase, BucketRow},
    tables,
};
use ashlar_types::{BucketId, BucketName, GroupId, service::BucketInfo};

impl Apply<'_> {
    /// Answers the bucket that has the name, if it is the same owner's.
    pub(super) fn reserve_bucket(
        &mut self,
        name: &BucketName,
        owner: &str,
        location: &str,
        group: GroupId,
    ) -> Applied {
        let row = tables::directory_name(name);
        if let Some(known) = self.record::<BucketRow>(Table::Directory, &row)? {
            let same = known.info.owner == owner;
            return if same { Ok(Done::Bucket(known.info)) } else { Err(Refusal::BucketTaken.into()) };
        }
        let info = BucketInfo {
            id: BucketId(self.group.next_bucket),
            name: name.clone(),
            owner: owner.to_owned(),
            created: self.now(),
            location: location.to_owned(),
            group,
        };
        self.group.next_bucket += 1;
        self.put(
            Table::Directory,
            row,
            &BucketRow { info: info.clone(), phase: BucketPhase::Reserved, kept: Extensions::default() },
        );
        self.put(Table::Directory, tables::directory_id(info.id), &info.name);
        Ok(Done::Bucket(info))
    }

    pub(super) fn activate_bucket(&mut self, bucket: BucketId) -> Applied {
        let name = self.bucket_name(bucket)?.ok_or(Halt::Refused(Refusal::NoSuchBucket))?;
        let row = tables::directory_name(&name);
        let mut known: BucketRow = self.promised(Table::Directory, &row)?;
        known.phase = BucketPhase::Active;
        self.put(Table::Directory, row, &known);
        Ok(Done::Bucket(known.info))
    }

    /// A name that is gone stays gone.
    pub(super) fn remove_bucket(&mut self, bucket: BucketId) -> Applied {
        if let Some(name) = self.bucket_name(bucket)? {
            self.remove(Table::Directory, tables::directory_name(&name));
            self.remove(Table::Directory, tables::directory_id(bucket));
        }
        Ok(Done::Nothing)
    }

    /// Only if it was never activated: its group has not made it, and refuses to from now on.
    pub(super) fn abandon_bucket(&mut self, bucket: BucketId) -> Applied {
        let Some(name) = self.bucket_name(bucket)? else { return Ok(Done::Nothing) };
        let row: BucketRow = self.promised(Table::Directory, &tables::directory_name(&name))?;
        match row.phase {
            BucketPhase::Active => Ok(Done::Nothing),
            BucketPhase::Reserved => self.remove_bucket(bucket),
        }
    }

    fn bucket_name(&self, bucket: BucketId) -> Result<Option<BucketName>, StateError> {
        self.record(Table::Directory, &tables::directory_id(bucket))
    }
}
