//! A model of the object service: buckets, versions and uploads in maps behind one lock.
//!
//! It follows the documents of the `backend` traits, so that the protocol above it can be held to S3's answers. It
//! checks what the object service has to check (digests, conditions, parts) and nothing that is the protocol's.

mod listing;
mod objects;
mod uploads;

use ashlar_hashing::{ObjectDigests, ObjectHasher};
use ashlar_s3api::backend::{Buckets, Identities};
use ashlar_types::{
    BodyFrame, BucketId, BucketName, Checksum, GroupId, ObjectError, PartInfo, Sequence, Timestamp, UploadId,
    UploadInfo, VersionId, VersionInfo, Versioning, WriteCondition,
    service::{AccessKey, BucketInfo, ExpectedChecksum, Payload, User},
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

pub(crate) const START: Timestamp = Timestamp(1_790_000_000_000);

#[derive(Default)]
pub(crate) struct Memory {
    state: Mutex<State>,
    reads_break: AtomicBool,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<BucketName, Bucket>,
    sequence: u64,
}

struct Bucket {
    info: BucketInfo,
    versioning: Versioning,
    /// Newest first; never empty.
    keys: BTreeMap<String, Vec<Stored>>,
    uploads: BTreeMap<UploadId, Upload>,
    completed: BTreeMap<UploadId, ashlar_types::service::Written>,
}

#[derive(Clone)]
struct Stored {
    info: VersionInfo,
    bytes: Bytes,
    parts: Vec<PartInfo>,
}

struct Upload {
    info: UploadInfo,
    condition: WriteCondition,
    parts: BTreeMap<u16, (PartInfo, Bytes)>,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How many versions, markers and parts there are in all.
    pub(crate) fn count(&self) -> usize {
        let state = self.state();
        let of = |bucket: &Bucket| {
            bucket.keys.values().map(Vec::len).sum::<usize>()
                + bucket.uploads.values().map(|upload| upload.parts.len()).sum::<usize>()
        };
        state.buckets.values().map(of).sum()
    }

    /// From now on reads fail after half of their bytes.
    pub(crate) fn break_reads(&self) {
        self.reads_break.store(true, Ordering::Relaxed);
    }

    pub(crate) fn bucket_count(&self) -> usize {
        self.state().buckets.len()
    }
}

impl State {
    fn bucket(&mut self, name: &BucketName) -> Result<&mut Bucket, ObjectError> {
        self.buckets.get_mut(name).ok_or(ObjectError::NoSuchBucket)
    }

    /// A second passes with each write, so that dates differ.
    fn next(&mut self) -> (Sequence, Timestamp) {
        self.sequence += 1;
        (Sequence(self.sequence), Timestamp(START.0 + self.sequence * 1000))
    }
}

impl Bucket {
    fn latest(&self, key: &str) -> Option<&Stored> {
        self.keys.get(key).and_then(|versions| versions.first()).filter(|stored| !stored.info.delete_marker)
    }

    fn new_version_id(&self, sequence: Sequence) -> VersionId {
        match self.versioning {
            Versioning::Enabled => VersionId::Id { sequence, salt: 7 },
            Versioning::Unversioned | Versioning::Suspended => VersionId::Null,
        }
    }

    /// Puts a version on top; a null version replaces the one there was.
    fn push(&mut self, stored: Stored) {
        let versions = self.keys.entry(stored.info.key.to_string()).or_default();
        if stored.info.version_id == VersionId::Null {
            versions.retain(|old| old.info.version_id != VersionId::Null);
        }
        versions.insert(0, stored);
        relabel(versions);
    }

    fn shown(&self, id: VersionId) -> Option<VersionId> {
        (self.versioning != Versioning::Unversioned).then_some(id)
    }
}

fn relabel(versions: &mut [Stored]) {
    for (index, stored) in versions.iter_mut().enumerate() {
        stored.info.is_latest = index == 0;
    }
}

/// Reads a payload to its end and checks what was declared about it.
async fn receive(payload: Payload) -> Result<(Bytes, ObjectDigests, Option<Checksum>), ObjectError> {
    let Payload { mut body, content_md5, checksum, .. } = payload;
    let mut hasher = ObjectHasher::new(checksum.as_ref().map(|declared| declared.algorithm));
    let mut bytes = BytesMut::new();
    let mut trailers = Vec::new();
    while let Some(frame) = body.next().await {
        match frame? {
            BodyFrame::Data(data) => {
                hasher.update(&data);
                bytes.extend_from_slice(&data);
            }
            BodyFrame::Trailers(pairs) => trailers = pairs,
        }
    }
    let digests = hasher.finish();
    if content_md5.is_some_and(|md5| md5 != digests.md5) {
        return Err(ObjectError::BadContentMd5);
    }
    let actual = digests.declared.clone();
    if let (Some(declared), Some(actual)) = (checksum, &actual) {
        let expected = match declared.expected {
            ExpectedChecksum::Compute => actual.clone(),
            ExpectedChecksum::Value(value) => value,
            ExpectedChecksum::Trailer => trailers
                .iter()
                .find(|(name, _)| name == declared.algorithm.header())
                .and_then(|(_, value)| Checksum::from_base64(declared.algorithm, value))
                .ok_or(ObjectError::InvalidChecksum("no trailer"))?,
        };
        if expected != *actual {
            return Err(ObjectError::BadChecksum(declared.algorithm));
        }
    }
    Ok((bytes.freeze(), digests, actual))
}

pub(crate) const USERS: [(&str, &str, &str); 2] =
    [("AKMAIN", "main-secret", "main"), ("AKOTHER", "other-secret", "other")];

#[async_trait]
impl Identities for Memory {
    async fn access_key(&self, id: &str) -> Result<Option<AccessKey>, ObjectError> {
        Ok(USERS.iter().find(|(key, ..)| *key == id).map(|(key, secret, user)| AccessKey {
            id: (*key).to_owned(),
            secret: (*secret).to_owned(),
            user: User {
                id: (*user).to_owned(),
                display_name: format!("Name of {user}"),
                email: String::new(),
            },
        }))
    }
}

#[async_trait]
impl Buckets for Memory {
    async fn list_buckets(&self, owner: &str) -> Result<Vec<BucketInfo>, ObjectError> {
        let state = self.state();
        let own = state.buckets.values().filter(|bucket| bucket.info.owner == owner);
        Ok(own.map(|bucket| bucket.info.clone()).collect())
    }

    async fn create_bucket(
        &self,
        name: &BucketName,
        owner: &str,
        location: &str,
    ) -> Result<BucketInfo, ObjectError> {
        let mut state = self.state();
        if let Some(bucket) = state.buckets.get(name) {
            return Err(if bucket.info.owner == owner {
                ObjectError::BucketAlreadyOwnedByYou
            } else {
                ObjectError::BucketAlreadyExists
            });
        }
        let (sequence, created) = state.next();
        let info = BucketInfo {
            id: BucketId(sequence.0),
            name: name.clone(),
            owner: owner.to_owned(),
            created,
            location: location.to_owned(),
            group: GroupId(1),
        };
        let bucket = Bucket {
            info: info.clone(),
            versioning: Versioning::Unversioned,
            keys: BTreeMap::new(),
            uploads: BTreeMap::new(),
            completed: BTreeMap::new(),
        };
        state.buckets.insert(name.clone(), bucket);
        Ok(info)
    }

    async fn bucket(&self, name: &BucketName) -> Result<BucketInfo, ObjectError> {
        Ok(self.state().bucket(name)?.info.clone())
    }

    async fn delete_bucket(&self, name: &BucketName) -> Result<(), ObjectError> {
        let mut state = self.state();
        if !state.bucket(name)?.keys.is_empty() {
            return Err(ObjectError::BucketNotEmpty);
        }
        state.buckets.remove(name);
        Ok(())
    }

    async fn versioning(&self, name: &BucketName) -> Result<Versioning, ObjectError> {
        Ok(self.state().bucket(name)?.versioning)
    }

    async fn set_versioning(&self, name: &BucketName, versioning: Versioning) -> Result<(), ObjectError> {
        self.state().bucket(name)?.versioning = versioning;
        Ok(())
    }
}
