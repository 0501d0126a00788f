//! Multipart uploads until they are completed: begun, given parts, aborted.

use super::{
    apply::{Applied, Apply, Halt},
    put::Place,
    quota::Growth,
};
use crate::{
    command::{CreateUpload, Done, PutPart, Refusal},
    encoding::Extensions,
    kv::{KeyRange, Table},
    planted::{Plant, planted},
    tables::{
        self,
        record::{PartRecord, UploadRecord},
    },
};
use ashlar_types::{
    BucketId, ExtentSource, ObjectKey, ShardOwner, UploadId,
    limits::{PART_NUMBER_MAX, PUT_MAX_LEN},
};

impl Apply<'_> {
    pub(super) fn create_upload(&mut self, create: &CreateUpload) -> Applied {
        let bucket = self.open_bucket(create.bucket)?;
        if create.checksum.is_some_and(|(algorithm, kind)| !algorithm.allows(kind)) {
            return Err(Refusal::InvalidChecksum.into());
        }
        let mut place = self.place(create.bucket, &bucket, &create.key)?;
        let current = self.current(place.bucket, place.key)?;
        self.check_condition(&place, current.as_ref(), &create.condition)?;
        let upload = UploadId { sequence: place.next_sequence(), salt: create.salt };
        place.counts.counters.uploads += 1;
        let record = UploadRecord {
            uid: create.uid,
            initiated: self.now(),
            metadata: create.metadata.clone(),
            checksum: create.checksum,
            condition: create.condition.clone(),
        };
        self.put(Table::Uploads, tables::upload(place.bucket, place.key, upload), &record);
        self.put_counters(place.bucket, &place.counts);
        Ok(Done::Upload(Box::new(record.into_info(create.key.clone(), upload))))
    }

    pub(super) fn put_part(&mut self, part: &PutPart) -> Applied {
        let bucket = self.open_bucket(part.bucket)?;
        let mut place = self.place(part.bucket, &bucket, &part.key)?;
        let upload = self.upload(&place, part.upload)?;
        if !(1..=PART_NUMBER_MAX).contains(&part.part_number) {
            return Err(Refusal::InvalidPart { part_number: part.part_number }.into());
        }
        if part.size > PUT_MAX_LEN {
            return Err(Refusal::EntityTooLarge.into());
        }
        if part.content.manifest.len() != part.size {
            return Err(Refusal::SizeMismatch.into());
        }
        if let (Some((algorithm, _)), Some(checksum)) = (upload.checksum, &part.checksum)
            && checksum.algorithm() != algorithm
        {
            return Err(Refusal::InvalidChecksum.into());
        }
        let row = tables::part(place.bucket, place.key, part.upload, part.part_number);
        let owner = ShardOwner::Part { upload: part.upload, part_number: part.part_number };
        let replaced = self.record::<PartRecord>(Table::Parts, &row)?;
        place.check_quota(Growth {
            bytes_added: part.size,
            bytes_freed: replaced.as_ref().map_or(0, |replaced| replaced.size),
            ..Growth::default()
        })?;
        let fenced = self.fenced(&part.content)?;
        if let Some(replaced) = replaced {
            place.counts.counters.upload_bytes -= replaced.size;
            self.discard_part(owner, replaced);
        }
        place.counts.counters.upload_bytes += part.size;
        let record = PartRecord {
            size: part.size,
            md5: part.md5,
            crc64: part.crc64,
            checksum: part.checksum.clone(),
            last_modified: self.now(),
            content: fenced.content.clone().into_owned(),
            kept: Extensions::default(),
        };
        self.put(Table::Parts, row, &record);
        self.name_content(&place, owner, &fenced);
        if planted(Plant::GarbageIgnoresUpload) {
            self.garbage.extend(part.content.manifest.blobs().cloned());
        }
        self.put_counters(place.bucket, &place.counts);
        Ok(Done::Part(record.info(part.part_number)))
    }

    pub(super) fn abort_upload(&mut self, bucket: BucketId, key: &ObjectKey, upload: UploadId) -> Applied {
        let record = self.bucket(bucket)?;
        let mut place = self.place(bucket, &record, key)?;
        self.upload(&place, upload)?;
        for (number, part) in self.parts(&place, upload)? {
            place.counts.counters.upload_bytes -= part.size;
            self.remove(Table::Parts, tables::part(bucket, key, upload, number));
            self.discard_part(ShardOwner::Part { upload, part_number: number }, part);
        }
        place.counts.counters.uploads -= 1;
        self.remove(Table::Uploads, tables::upload(bucket, key, upload));
        self.put_counters(bucket, &place.counts);
        Ok(Done::Nothing)
    }

    pub(super) fn upload(&self, place: &Place<'_>, upload: UploadId) -> Applied<UploadRecord> {
        let row = tables::upload(place.bucket, place.key, upload);
        self.record(Table::Uploads, &row)?.ok_or(Halt::Refused(Refusal::NoSuchUpload))
    }

    /// All of them, by number.
    pub(super) fn parts(&self, place: &Place<'_>, upload: UploadId) -> Applied<Vec<(u16, PartRecord)>> {
        let range = KeyRange::prefix(&tables::upload(place.bucket, place.key, upload));
        let rows = self.rows::<PartRecord>(Table::Parts, &range)?;
        let parts = rows.into_iter().map(|(row, part)| {
            let number =
                tables::parse_part_number(&row).ok_or(super::StateError::Key { table: Table::Parts })?;
            Ok((number, part))
        });
        parts.collect::<Result<_, super::StateError>>().map_err(Halt::Failed)
    }

    pub(super) fn discard_part(&mut self, owner: ShardOwner, part: PartRecord) {
        for entry in part.content.manifest.entries {
            if let ExtentSource::Blob { blob, offset: _ } = entry.source {
                self.discard_blob(owner, blob);
            }
        }
    }
}
