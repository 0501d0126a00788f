//! CompleteMultipartUpload: parts become a version.
//!
//! No byte is read: tags, checksums and CRCs of the object follow from those of its parts. The rows of `Reverse`
//! and `Repair` stay as they are, because shards belong to the upload's parts; `Owners` says which version those
//! have become. Parts that are not listed are garbage.

use super::{
    apply::{Applied, Apply, Halt},
    checksum,
    put::Place,
    quota::Growth,
};
use crate::{
    command::{CompleteUpload, Done, Refusal},
    event::Creation,
    kv::Table,
    planted::{Plant, planted},
    tables::{
        self,
        record::{CompletedRecord, ManifestRecord, ObjectRecord, PartRecord, Stored, UploadRecord},
    },
};
use ashlar_hashing::{combine_crc64nvme, multipart_etag};
use ashlar_types::{
    ChecksumAlgorithm, ChecksumKind, CompletedPart, ETag, ExtentSource, Manifest, ObjectChecksum, PartInfo,
    ShardOwner,
    limits::{OBJECT_MAX_LEN, PART_MIN_LEN, PART_NUMBER_MAX, PUT_MAX_LEN},
};
use bytes::{Bytes, BytesMut};

/// Parts that were accepted cannot make too large an object.
const _: () = assert!(PUT_MAX_LEN * PART_NUMBER_MAX as u64 <= OBJECT_MAX_LEN);

/// What the listed parts make together.
#[derive(Default)]
struct Assembled {
    manifest: Manifest,
    inline: BytesMut,
    infos: Vec<PartInfo>,
    size: u64,
    crc64: u64,
}

impl Apply<'_> {
    pub(super) fn complete_upload(&mut self, complete: &CompleteUpload) -> Applied {
        let CompleteUpload { bucket, key, upload, .. } = complete;
        let record = self.bucket(*bucket)?;
        let mut place = self.place(*bucket, &record, key)?;
        let parts_digest = parts_digest(&complete.parts);
        let row = tables::upload(*bucket, key, *upload);
        let Some(begun) = self.record::<UploadRecord>(Table::Uploads, &row)? else {
            return match self.record::<CompletedRecord>(Table::Completed, &row)? {
                Some(completed) if completed.parts_digest == parts_digest => {
                    Ok(Done::Written(Box::new(completed.written)))
                }
                Some(_) | None => Err(Refusal::NoSuchUpload.into()),
            };
        };
        if record.sealed {
            return Err(Refusal::BucketSealed.into());
        }
        let parts = self.parts(&place, *upload)?;
        let listed = listed(&complete.parts, &parts)?;
        let checksum = object_checksum(complete, &begun, &listed)?;
        let current = self.current(*bucket, key)?;
        self.check_condition(&place, current.as_ref(), &begun.condition)?;
        self.check_condition(&place, current.as_ref(), &complete.condition)?;
        // Its bytes are counted already, as bytes of the upload.
        let replaced = self.replaced(&place, current.as_ref())?;
        let objects_freed = replaced.map_or(0, |replaced| u64::from(!replaced.is_delete_marker()));
        place.check_quota(Growth { objects_added: 1, objects_freed, ..Growth::default() })?;

        // Nothing is refused from here on.
        let count = u32::try_from(listed.len()).expect("there are at most 10,000 parts");
        let etag = tag(&listed);
        let Assembled { manifest, inline, infos, size, crc64 } = assemble(&listed);
        let object = ObjectRecord {
            uid: begun.uid,
            size,
            etag,
            crc64,
            metadata: begun.metadata,
            checksum,
            upload: Some((*upload, count)),
            stored: Stored::Manifest,
        };
        if !planted(Plant::CompleteNotAtomic) {
            self.end_upload(&mut place, complete, parts);
        }
        let sequence = place.next_sequence();
        let content = ManifestRecord { manifest, parts: infos, ..ManifestRecord::default() };
        self.put_content(&place, sequence, &object, content, &inline.freeze());
        let written =
            self.put_object(&mut place, current, sequence, complete.salt, object, Creation::CompleteUpload)?;
        self.put_counters(*bucket, &place.counts);
        let completed = CompletedRecord { parts_digest, written };
        self.put(Table::Completed, row.clone(), &completed);
        self.tables.put(Table::Due, tables::due_completed(self.group.write_epoch, &row), Bytes::new());
        Ok(Done::Written(Box::new(completed.written)))
    }

    /// The rows of the upload go; parts that are not listed are garbage.
    fn end_upload(
        &mut self,
        place: &mut Place<'_>,
        complete: &CompleteUpload,
        parts: Vec<(u16, PartRecord)>,
    ) {
        for (number, part) in parts {
            place.counts.counters.upload_bytes -= part.size;
            self.remove(Table::Parts, tables::part(place.bucket, place.key, complete.upload, number));
            if complete.parts.binary_search_by_key(&number, |listed| listed.part_number).is_err() {
                self.discard_part(ShardOwner::Part { upload: complete.upload, part_number: number }, part);
            }
        }
        place.counts.counters.uploads -= 1;
        self.remove(Table::Uploads, tables::upload(place.bucket, place.key, complete.upload));
    }
}

/// The parts that the client lists, in its order, as they were uploaded.
fn listed<'p>(
    wanted: &[CompletedPart],
    parts: &'p [(u16, PartRecord)],
) -> Applied<Vec<(u16, &'p PartRecord)>> {
    if wanted.is_empty() {
        return Err(Refusal::InvalidPart { part_number: 0 }.into());
    }
    if !wanted.is_sorted_by(|a, b| a.part_number < b.part_number) {
        return Err(Refusal::InvalidPartOrder.into());
    }
    let mut listed = Vec::with_capacity(wanted.len());
    for part in wanted {
        let part_number = part.part_number;
        let invalid = Halt::Refused(Refusal::InvalidPart { part_number });
        let Ok(index) = parts.binary_search_by_key(&part_number, |(number, _)| *number) else {
            return Err(invalid);
        };
        let uploaded = &parts[index].1;
        let checksum_differs = part.checksum.is_some() && part.checksum != uploaded.checksum;
        if part.etag != ETag::from_md5(uploaded.md5) || checksum_differs {
            return Err(invalid);
        }
        listed.push((part_number, uploaded));
    }
    let (_, before_last) = listed.split_last().expect("it was found not to be empty");
    if let Some((part_number, _)) = before_last.iter().find(|(_, part)| part.size < PART_MIN_LEN) {
        return Err(Refusal::EntityTooSmall { part_number: *part_number }.into());
    }
    Ok(listed)
}

/// The checksum of the object, of the kind that the upload was created for; what the client says about the whole
/// must agree.
fn object_checksum(
    complete: &CompleteUpload,
    begun: &UploadRecord,
    listed: &[(u16, &PartRecord)],
) -> Applied<Option<ObjectChecksum>> {
    let size: u64 = listed.iter().map(|(_, part)| part.size).sum();
    if complete.size.is_some_and(|expected| expected != size) {
        return Err(Refusal::SizeMismatch.into());
    }
    let declared = complete.checksum.as_ref();
    let (algorithm, kind) = match (begun.checksum, declared) {
        (Some(chosen), _) => chosen,
        // An upload without a choice keeps what every object has.
        (None, Some(declared)) if declared.algorithm() == ChecksumAlgorithm::Crc64Nvme => {
            (ChecksumAlgorithm::Crc64Nvme, ChecksumKind::FullObject)
        }
        (None, Some(_)) => return Err(Refusal::InvalidChecksum.into()),
        (None, None) => return Ok(None),
    };
    if complete.checksum_kind.is_some_and(|wanted| wanted != kind)
        || declared.is_some_and(|declared| declared.algorithm() != algorithm)
    {
        return Err(Refusal::InvalidChecksum.into());
    }
    let checksum = match kind {
        ChecksumKind::FullObject => checksum::combined(algorithm, listed.iter().map(|(_, part)| *part)),
        ChecksumKind::Composite => checksum::composite(algorithm, listed.iter().map(|(_, part)| *part)),
    }
    .ok_or(Refusal::InvalidChecksum)?;
    if declared.is_some_and(|declared| *declared != checksum) {
        return Err(Refusal::BadChecksum(algorithm).into());
    }
    let parts = match kind {
        ChecksumKind::FullObject => None,
        ChecksumKind::Composite => u32::try_from(listed.len()).ok(),
    };
    Ok(Some(ObjectChecksum { checksum, kind, parts }))
}

/// MD5 over the binary MD5s of the parts.
fn tag(listed: &[(u16, &PartRecord)]) -> ETag {
    multipart_etag(listed.iter().map(|(_, part)| part.md5))
}

fn assemble(listed: &[(u16, &PartRecord)]) -> Assembled {
    let mut whole = Assembled::default();
    for (number, part) in listed {
        let base = u32::try_from(whole.inline.len()).expect("inline parts are far below 4 GiB together");
        for entry in &part.content.manifest.entries {
            let mut entry = entry.clone();
            entry.part_number = *number;
            if let ExtentSource::Inline { offset } = &mut entry.source {
                *offset += base;
            }
            whole.manifest.entries.push(entry);
        }
        whole.inline.extend_from_slice(&part.content.inline);
        whole.infos.push(part.info(*number));
        whole.crc64 = combine_crc64nvme(whole.crc64, part.crc64, part.size);
        whole.size += part.size;
    }
    whole
}

fn parts_digest(parts: &[CompletedPart]) -> [u8; 32] {
    let mut digest = blake3::Hasher::new();
    for part in parts {
        digest.update(&part.part_number.to_be_bytes());
        digest.update(part.etag.as_str().as_bytes());
        digest.update(&[0]);
    }
    digest.finalize().into()
}
