//! Multipart uploads. Parts are written like objects; what an upload is, and what Complete makes of it, is decided by
//! metadata.

use crate::{
    copy::open_source,
    store::{Core, ObjectStore, WRONG_ANSWER},
    write::{Body, Expected, Intake, Target, commit, write, written_version},
};
use ashlar_metadata::{
    command::{self, Done, PartitionCommand, PutPart},
    query::{Answer, Query},
};
use ashlar_runtime::RngExt;
use ashlar_types::{
    ChecksumAlgorithm, ObjectError, ObjectKey, PartInfo, ShardOwner, UploadId, UploadInfo, UploadPage,
    UploadQuery, VersionUid,
    service::{
        BucketInfo, CompleteUpload, CreateUpload, ListParts, PartPage, UploadPart, UploadPartCopy, Written,
    },
};
use std::sync::Arc;

/// What a part is, besides its bytes.
struct PartTarget {
    upload: UploadId,
    part_number: u16,
    target: Target,
}

/// Whether the checksum of a part is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

impl ObjectStore {
    pub async fn create_upload(
        &self,
        bucket: &BucketInfo,
        create: CreateUpload,
    ) -> Result<UploadInfo, ObjectError> {
        let core = &self.0;
        let request = core.begin(bucket.group).await?;
        let command = PartitionCommand::CreateUpload(Box::new(command::CreateUpload {
            bucket: bucket.id,
            key: create.key,
            uid: VersionUid(core.env.rng.u128()),
            salt: core.env.rng.u128(),
            metadata: create.metadata,
            checksum: create.checksum,
            condition: create.condition,
        }));
        let Done::Upload(upload) = core.propose(bucket.group, Some(request), command).await? else {
            return Err(WRONG_ANSWER);
        };
        Ok(*upload)
    }

    pub async fn upload_part(&self, bucket: &BucketInfo, part: UploadPart) -> Result<PartInfo, ObjectError> {
        let core = &self.0;
        let upload = find_upload(core, bucket, &part.key, part.upload).await?;
        let payload = part.payload;
        let declared = payload.checksum.as_ref().map(|declared| declared.algorithm);
        let (algorithm, keep) = part_checksum(&upload, declared)?;
        let expected = Expected::new(payload.content_md5, payload.checksum, algorithm);
        let intake = Intake::from_body(payload.body, payload.len)?;
        let target = part_target(core, bucket, part.key, part.upload, part.part_number).await?;
        put_part(core, target, intake, &expected, keep).await
    }

    pub async fn upload_part_copy(
        &self,
        source_bucket: &BucketInfo,
        bucket: &BucketInfo,
        part: UploadPartCopy,
    ) -> Result<PartInfo, ObjectError> {
        let core = &self.0;
        let upload = find_upload(core, bucket, &part.key, part.upload).await?;
        let (algorithm, keep) = part_checksum(&upload, None)?;
        let source = open_source(core, source_bucket, part.source, part.range).await?;
        let expected = Expected::new(None, None, algorithm);
        let target = part_target(core, bucket, part.key, part.upload, part.part_number).await?;
        put_part(core, target, source.intake, &expected, keep).await
    }

    pub async fn complete_upload(
        &self,
        bucket: &BucketInfo,
        complete: CompleteUpload,
    ) -> Result<Written, ObjectError> {
        let core = &self.0;
        let request = core.begin(bucket.group).await?;
        let command = PartitionCommand::CompleteUpload(Box::new(command::CompleteUpload {
            bucket: bucket.id,
            key: complete.key,
            upload: complete.upload,
            salt: core.env.rng.u128(),
            parts: complete.parts,
            condition: complete.condition,
            checksum: complete.checksum,
            checksum_kind: complete.checksum_kind,
            size: complete.size,
        }));
        let Done::Written(written) = core.propose(bucket.group, Some(request), command).await? else {
            return Err(WRONG_ANSWER);
        };
        Ok(written_version(*written))
    }

    pub async fn abort_upload(
        &self,
        bucket: &BucketInfo,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<(), ObjectError> {
        let request = self.0.begin(bucket.group).await?;
        let command = PartitionCommand::AbortUpload { bucket: bucket.id, key: key.clone(), upload };
        self.0.propose(bucket.group, Some(request), command).await.map(|_| ())
    }

    pub async fn list_parts(&self, bucket: &BucketInfo, list: ListParts) -> Result<PartPage, ObjectError> {
        let query = Query::Parts {
            bucket: bucket.id,
            key: list.key,
            upload: list.upload,
            after: list.part_number_after,
            limit: list.max_parts,
        };
        let Answer::Parts(page) = self.0.query(bucket.group, query).await? else { return Err(WRONG_ANSWER) };
        let page = page.ok_or(ObjectError::NoSuchUpload)?;
        Ok(PartPage { upload: page.upload, parts: page.parts, truncated: page.truncated })
    }

    pub async fn list_uploads(
        &self,
        bucket: &BucketInfo,
        query: UploadQuery,
    ) -> Result<UploadPage, ObjectError> {
        let query = Query::Uploads { bucket: bucket.id, query };
        let Answer::Uploads(page) = self.0.query(bucket.group, query).await? else {
            return Err(WRONG_ANSWER);
        };
        Ok(page)
    }
}

async fn find_upload(
    core: &Core,
    bucket: &BucketInfo,
    key: &ObjectKey,
    upload: UploadId,
) -> Result<UploadInfo, ObjectError> {
    let query = Query::Upload { bucket: bucket.id, key: key.clone(), upload };
    let Answer::Upload(upload) = core.query(bucket.group, query).await? else { return Err(WRONG_ANSWER) };
    upload.map(|upload| *upload).ok_or(ObjectError::NoSuchUpload)
}

/// The algorithm of a part's checksum: the upload's. An upload without one keeps what its parts declare.
fn part_checksum(
    upload: &UploadInfo,
    declared: Option<ChecksumAlgorithm>,
) -> Result<(ChecksumAlgorithm, Keep), ObjectError> {
    match (upload.checksum, declared) {
        (Some((wanted, _)), Some(declared)) if wanted != declared => Err(ObjectError::InvalidChecksum(
            "The part declares another checksum algorithm than the upload was created with.",
        )),
        (Some((wanted, _)), _) => Ok((wanted, Keep::Yes)),
        (None, Some(declared)) => Ok((declared, Keep::Yes)),
        (None, None) => Ok((ChecksumAlgorithm::Crc64Nvme, Keep::No)),
    }
}

/// Begins the request of a part, before its body is read.
async fn part_target(
    core: &Core,
    bucket: &BucketInfo,
    key: ObjectKey,
    upload: UploadId,
    part_number: u16,
) -> Result<PartTarget, ObjectError> {
    let target = Target {
        bucket: bucket.id,
        group: bucket.group,
        key,
        owner: ShardOwner::Part { upload, part_number },
        request: core.begin(bucket.group).await?,
    };
    Ok(PartTarget { upload, part_number, target })
}

async fn put_part(
    core: &Arc<Core>,
    part: PartTarget,
    intake: Intake,
    expected: &Expected,
    keep: Keep,
) -> Result<PartInfo, ObjectError> {
    let PartTarget { upload, part_number, target } = part;
    let Body { content, digests, checksum, blob } =
        write(core, &target, part_number, intake, expected).await?;
    let inline = blob.is_none();
    let command = PartitionCommand::PutPart(Box::new(PutPart {
        bucket: target.bucket,
        key: target.key.clone(),
        upload,
        part_number,
        size: digests.len,
        md5: digests.md5,
        crc64: digests.crc64,
        checksum: (keep == Keep::Yes).then_some(checksum),
        content,
    }));
    let Done::Part(part) = commit(core, &target, command, blob).await? else { return Err(WRONG_ANSWER) };
    core.metrics.put_bytes.increment(part.size);
    if inline {
        core.metrics.inline_puts.increment(1);
    }
    Ok(part)
}
