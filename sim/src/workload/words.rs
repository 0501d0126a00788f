//! Values of a history as bytes, tags and names of the product.

use crate::check::history::{Body, Condition, UploadName, Value, VersionName};
use ashlar_types::{
    Blob, BlobId, Chunk, Content, DriveId, ETag, EtagCondition, ExtentSource, GroupId, Interval, Manifest,
    ManifestEntry, ObjectKey, PgId, ProfileId, UploadId, VersionId, WriteCondition, WriteEpoch,
};
use bytes::Bytes;
use md5::{Digest, Md5};

/// Large enough for a part that is not the last.
pub(crate) const PART_BYTES: u64 = 5 << 20;

pub(crate) fn md5_of(value: Value) -> [u8; 16] {
    Md5::digest(value.0.to_be_bytes()).into()
}

pub(crate) fn tag(value: Value) -> ETag {
    ETag::from_md5(md5_of(value))
}

/// As S3 makes it: the digest of the digests, and their number.
pub(crate) fn assembled_tag(parts: &[Value]) -> ETag {
    let mut digest = Md5::new();
    for part in parts {
        digest.update(md5_of(*part));
    }
    ETag::from_parts_md5(digest.finalize().into(), parts.len())
}

pub(crate) fn tag_of(body: &Body) -> ETag {
    match body {
        Body::One(value) => tag(*value),
        Body::Parts(parts) => assembled_tag(parts),
    }
}

/// Bytes within the metadata group.
pub(crate) fn inline(value: Value, part_number: u16) -> (u64, Content) {
    let inline = Bytes::from(format!("value {} ", value.0).repeat(4));
    let len = inline.len() as u64;
    let entry =
        ManifestEntry { part_number, len, crc64: value.0, source: ExtentSource::Inline { offset: 0 } };
    (len, Content { manifest: Manifest { entries: vec![entry] }, inline })
}

/// Bytes on drives, as far as metadata knows.
pub(crate) fn blob(
    value: Value,
    part_number: u16,
    group: GroupId,
    write_epoch: WriteEpoch,
) -> (u64, Content) {
    let slots =
        (0..3).map(|slot| Some(DriveId(1 + u32::try_from(value.0 % 4).unwrap_or(0) + slot))).collect();
    let blob = Blob {
        id: BlobId(u128::from(value.0)),
        len: PART_BYTES,
        crc64: value.0,
        profile: ProfileId(1),
        group,
        write_epoch,
        chunks: vec![Chunk { pg: PgId(1), interval: Interval(1), slots }],
    };
    let source = ExtentSource::Blob { blob, offset: 0 };
    let entry = ManifestEntry { part_number, len: PART_BYTES, crc64: value.0, source };
    (PART_BYTES, Content { manifest: Manifest { entries: vec![entry] }, inline: Bytes::new() })
}

pub(crate) fn condition(condition: &Condition) -> WriteCondition {
    match condition {
        Condition::Nothing => WriteCondition::default(),
        Condition::Absent => WriteCondition { if_none_match: Some(EtagCondition::Any), if_match: None },
        Condition::Is(body) => {
            WriteCondition { if_match: Some(EtagCondition::OneOf(vec![tag_of(body)])), if_none_match: None }
        }
    }
}

pub(crate) fn key(key: &str) -> ObjectKey {
    ObjectKey::parse(key).expect("keys of the workload are short")
}

pub(crate) fn version_name(version: VersionId) -> VersionName {
    VersionName(version.to_string())
}

pub(crate) fn version_id(name: &VersionName) -> Option<VersionId> {
    name.0.parse().ok()
}

pub(crate) fn upload_name(upload: UploadId) -> UploadName {
    UploadName(upload.to_string())
}

pub(crate) fn upload_id(name: &UploadName) -> Option<UploadId> {
    name.0.parse().ok()
}
