//! Multipart uploads of the model.

use super::{Memory, Upload, objects::NewVersion, receive};
use ashlar_hashing::{ObjectHasher, composite_checksum, multipart_etag};
use ashlar_s3api::backend::Uploads;
use ashlar_types::{
    BucketName, ByteRange, Checksum, ChecksumKind, ETag, ObjectChecksum, ObjectError, ObjectKey, PartInfo,
    UploadId, UploadInfo, UploadPage, UploadQuery,
    limits::PART_MIN_LEN,
    service::{CompleteUpload, CreateUpload, ListParts, PartPage, UploadPart, UploadPartCopy, Written},
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

impl Memory {
    fn store_part(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
        part_number: u16,
        bytes: Bytes,
        checksum: Option<Checksum>,
    ) -> Result<PartInfo, ObjectError> {
        let mut state = self.state();
        let (_, last_modified) = state.next();
        let upload = state.bucket(bucket)?.uploads.get_mut(&upload);
        let upload = upload.filter(|upload| upload.info.key == *key).ok_or(ObjectError::NoSuchUpload)?;
        let algorithm = upload.info.checksum.map(|(algorithm, _)| algorithm);
        let mut hasher = ObjectHasher::new(algorithm);
        hasher.update(&bytes);
        let digests = hasher.finish();
        let part = PartInfo {
            part_number,
            size: bytes.len() as u64,
            etag: ETag::from_md5(digests.md5),
            last_modified,
            checksum: checksum.or(digests.declared),
        };
        upload.parts.insert(part_number, (part.clone(), bytes));
        Ok(part)
    }

    /// The parts that a Complete names, in its order.
    fn named_parts(
        &self,
        complete: &CompleteUpload,
    ) -> Result<(Upload, Vec<(PartInfo, Bytes)>), ObjectError> {
        let mut state = self.state();
        let uploads = &mut state.bucket(&complete.bucket)?.uploads;
        let upload = uploads.get(&complete.upload).filter(|upload| upload.info.key == complete.key);
        let upload = upload.ok_or(ObjectError::NoSuchUpload)?;
        let mut named = Vec::new();
        for (index, wanted) in complete.parts.iter().enumerate() {
            let part_number = wanted.part_number;
            let found = upload.parts.get(&part_number);
            let found = found.filter(|(part, _)| {
                part.etag == wanted.etag && (wanted.checksum.is_none() || wanted.checksum == part.checksum)
            });
            let found = found.ok_or(ObjectError::InvalidPart { part_number })?;
            if index + 1 < complete.parts.len() && found.0.size < PART_MIN_LEN {
                return Err(ObjectError::EntityTooSmall { part_number });
            }
            named.push(found.clone());
        }
        let upload = uploads.remove(&complete.upload).ok_or(ObjectError::NoSuchUpload)?;
        Ok((upload, named))
    }
}

#[async_trait]
impl Uploads for Memory {
    async fn create_upload(&self, create: CreateUpload) -> Result<UploadInfo, ObjectError> {
        let mut state = self.state();
        let (sequence, initiated) = state.next();
        let info = UploadInfo {
            key: create.key,
            upload: UploadId { sequence, salt: 9 },
            initiated,
            metadata: create.metadata,
            checksum: create.checksum,
        };
        let bucket = state.bucket(&create.bucket)?;
        super::objects::check(&create.condition, bucket, &info.key)?;
        let upload = Upload { info: info.clone(), condition: create.condition, parts: Default::default() };
        bucket.uploads.insert(info.upload, upload);
        Ok(info)
    }

    async fn upload_part(&self, part: UploadPart) -> Result<PartInfo, ObjectError> {
        let (bytes, _, checksum) = receive(part.payload).await?;
        self.store_part(&part.bucket, &part.key, part.upload, part.part_number, bytes, checksum)
    }

    async fn upload_part_copy(&self, part: UploadPartCopy) -> Result<PartInfo, ObjectError> {
        let (bytes, info, _) = self.source(&part.source)?;
        let range = match part.range {
            None => ByteRange::whole(info.size),
            Some(range) => range.resolve(info.size).map_err(|_| ObjectError::InvalidRange)?,
        };
        let bytes = bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
        self.store_part(&part.bucket, &part.key, part.upload, part.part_number, bytes, None)
    }

    async fn complete_upload(&self, complete: CompleteUpload) -> Result<Written, ObjectError> {
        if let Some(done) = self.state().bucket(&complete.bucket)?.completed.get(&complete.upload) {
            return Ok(done.clone());
        }
        let (upload, named) = self.named_parts(&complete)?;
        let bytes = named.iter().fold(BytesMut::new(), |mut all, (_, bytes)| {
            all.extend_from_slice(bytes);
            all
        });
        let parts: Vec<PartInfo> = named.into_iter().map(|(part, _)| part).collect();
        let algorithm = upload.info.checksum.map(|(algorithm, _)| algorithm);
        let mut hasher = ObjectHasher::new(algorithm);
        hasher.update(&bytes);
        let digests = hasher.finish();
        let checksum = upload.info.checksum.and_then(|(_, kind)| {
            let (checksum, count) = match kind {
                ChecksumKind::FullObject => (digests.declared.clone()?, None),
                ChecksumKind::Composite => {
                    let of_parts: Option<Vec<_>> = parts.iter().map(|part| part.checksum.clone()).collect();
                    (composite_checksum(&of_parts?)?, Some(u32::try_from(parts.len()).unwrap()))
                }
            };
            Some(ObjectChecksum { checksum, kind, parts: count })
        });
        if let (Some(declared), Some(actual)) = (&complete.checksum, &checksum)
            && *declared != actual.checksum
        {
            return Err(ObjectError::BadChecksum(declared.algorithm()));
        }
        let new = NewVersion {
            etag: multipart_etag(parts.iter().map(|part| part.etag.md5().unwrap())),
            checksum,
            crc64: digests.crc64,
            bytes: bytes.freeze(),
            parts,
        };
        let conditions = [&upload.condition, &complete.condition];
        let written = self.commit(&complete.bucket, &complete.key, upload.info.metadata, &conditions, new)?;
        self.state().bucket(&complete.bucket)?.completed.insert(complete.upload, written.clone());
        Ok(written)
    }

    async fn abort_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: UploadId,
    ) -> Result<(), ObjectError> {
        let mut state = self.state();
        let uploads = &mut state.bucket(bucket)?.uploads;
        match uploads.get(&upload).filter(|upload| upload.info.key == *key) {
            Some(_) => {
                uploads.remove(&upload);
                Ok(())
            }
            None => Err(ObjectError::NoSuchUpload),
        }
    }

    async fn list_parts(&self, list: ListParts) -> Result<PartPage, ObjectError> {
        let mut state = self.state();
        let upload = state.bucket(&list.bucket)?.uploads.get(&list.upload);
        let upload = upload.filter(|upload| upload.info.key == list.key).ok_or(ObjectError::NoSuchUpload)?;
        let mut parts: Vec<PartInfo> = upload
            .parts
            .values()
            .map(|(part, _)| part.clone())
            .filter(|part| part.part_number > list.part_number_after)
            .collect();
        let truncated = parts.len() > list.max_parts as usize;
        parts.truncate(list.max_parts as usize);
        Ok(PartPage { upload: upload.info.clone(), parts, truncated })
    }

    async fn list_uploads(&self, bucket: &BucketName, query: UploadQuery) -> Result<UploadPage, ObjectError> {
        Ok(self.state().bucket(bucket)?.list_uploads(&query))
    }
}
