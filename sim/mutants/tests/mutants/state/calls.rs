//! One client, which calls at random and writes down what it was answered.

use super::group::{GROUP, Group};
use crate::mutants::check::{
    counters::{Counted, VersionRow, recount},
    history::{
        Body, Client as ClientName, Condition, History, ListCall, Listed, ListedVersion, ObjectPage,
        Operation, Outcome as Seen, Place, Reply, UploadName, UploadPage, Value, VersionName, VersionPage,
    },
    recorder::Recorder,
};
use ashlar_metadata::{
    command::{
        Command, CompleteUpload, CreateUpload, Done, Outcome, PartitionCommand, PutPart, PutVersion, Refusal,
    },
    query::{Answer, ContentWanted, Query, VersionAnswer},
};
use ashlar_types::{
    Blob, BlobId, BucketId, Chunk, CompletedPart, Content, DriveId, ETag, EtagCondition, ExtentSource,
    Interval, ListEntry, ListQuery, Manifest, ManifestEntry, ObjectKey, ObjectMetadata, PgId, ProfileId,
    UploadId, UploadQuery, VersionQuery, VersionUid, WriteCondition, WriteEpoch, limits::PART_MIN_LEN,
    service::DeleteKey,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub(super) const PLAIN: BucketId = BucketId(1);
pub(super) const VERSIONED: BucketId = BucketId(2);
pub(super) const BUCKETS: [BucketId; 2] = [PLAIN, VERSIONED];
/// So many that the calls on one key stay few.
const KEYS: u64 = 12;

pub(super) fn name(bucket: BucketId) -> &'static str {
    if bucket == VERSIONED { "versioned" } else { "plain" }
}

/// SplitMix64.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        let len = u64::try_from(of.len()).unwrap();
        (len > 0).then(|| of[usize::try_from(self.below(len)).unwrap()].clone())
    }
}

struct Upload {
    bucket: BucketId,
    key: String,
    id: UploadId,
    parts: BTreeMap<u16, u64>,
    open: bool,
}

pub(super) struct Client {
    pub(super) group: Group,
    pub(super) dice: Dice,
    recorder: Recorder,
    values: u64,
    uploads: Vec<Upload>,
    /// What tags stand for.
    bodies: BTreeMap<String, Body>,
    steps: u64,
    mutations: Vec<usize>,
}

impl Client {
    pub(super) fn new(seed: u64) -> Self {
        let recorder = Recorder::new();
        recorder.versioned(name(VERSIONED));
        let group = Group::with_buckets();
        Self {
            group,
            dice: Dice::new(seed),
            recorder,
            values: 0,
            uploads: Vec::new(),
            bodies: BTreeMap::new(),
            steps: 0,
            mutations: Vec::new(),
        }
    }

    pub(super) fn history(&self) -> History {
        self.recorder.history()
    }

    fn fresh(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    pub(super) fn call(&mut self) {
        let bucket = if self.dice.below(2) == 0 { PLAIN } else { VERSIONED };
        let key = format!("{}/{}", self.dice.below(3), self.dice.below(KEYS / 3));
        match self.dice.below(16) {
            0..=3 => self.put(bucket, &key),
            4..=5 => self.get(bucket, &key),
            6 => self.delete(bucket, &key, None),
            7 => {
                let versions = self.versions_of(bucket, &key);
                if let Some(version) = self.dice.pick(&versions) {
                    self.delete(bucket, &key, Some(version));
                }
            }
            8 => self.create_upload(bucket, &key),
            9..=10 => self.put_part(),
            11 => self.complete(),
            12 => self.abort(),
            13 => self.list(bucket),
            14 => self.list_versions(bucket),
            _ => self.list_uploads(bucket),
        }
    }

    fn record(&mut self, operation: Operation, call: impl FnOnce(&mut Self) -> Reply) {
        self.steps += 1;
        let now = Duration::from_millis(self.steps);
        let pending = self.recorder.invoke(ClientName(1), operation, now);
        let reply = call(self);
        pending.finish(Seen::Done(reply), now);
    }

    fn change(&mut self, command: PartitionCommand) -> Outcome {
        self.mutations.push(self.group.entries.len());
        self.group.run(Command::Partition(command))
    }

    /// A request that was answered comes again.
    pub(super) fn retry(&mut self) -> Result<(), String> {
        if self.dice.below(3) != 0 {
            return Ok(());
        }
        let recent = self.mutations.len().saturating_sub(100);
        let Some(index) = self.dice.pick(&self.mutations[recent..]) else { return Ok(()) };
        let (first, again) = self.group.repeat(index);
        if first == again || Group::is_expired(&again) {
            return Ok(());
        }
        Err(format!("a request that came again is answered {again:?}, and was {first:?}"))
    }

    /// One that was under way when the process was suspended.
    pub(super) fn late_request_is_refused(&mut self) -> Result<(), String> {
        let request = self.group.request();
        self.group.pass_the_floor();
        // Bytes that are no blob: the age of a blob is another reason to refuse.
        let value = 2 * self.fresh();
        let put = self.put_command(PLAIN, "late", value, WriteCondition::default());
        let outcome = self.group.apply(Some(request), Command::Partition(put));
        if Group::is_expired(&outcome) {
            Ok(())
        } else {
            Err(format!("a request from before the floor is answered {outcome:?}"))
        }
    }

    /// A condition as clients see it, and as the store does.
    fn condition(&mut self, bucket: BucketId, key: &str) -> (Condition, WriteCondition) {
        let tag = |tag: ETag| WriteCondition {
            if_match: Some(EtagCondition::OneOf(vec![tag])),
            if_none_match: None,
        };
        match self.dice.below(6) {
            0 => (
                Condition::Absent,
                WriteCondition { if_match: None, if_none_match: Some(EtagCondition::Any) },
            ),
            1 => match self.version(bucket, key) {
                VersionAnswer::Found { info, .. } if !info.delete_marker => {
                    (Condition::Is(self.body(&info.etag)), tag(info.etag.clone()))
                }
                _ => (Condition::Nothing, WriteCondition::default()),
            },
            2 => (Condition::Is(Body::One(Value(u64::MAX))), tag(ETag::parse("no such tag"))),
            _ => (Condition::Nothing, WriteCondition::default()),
        }
    }

    fn body(&self, etag: &ETag) -> Body {
        match self.bodies.get(etag.as_str()) {
            Some(body) => body.clone(),
            None => Body::One(Value(u64::MAX - 1)),
        }
    }

    fn put_command(
        &mut self,
        bucket: BucketId,
        key: &str,
        value: u64,
        condition: WriteCondition,
    ) -> PartitionCommand {
        let content = if value.is_multiple_of(2) { inline(value) } else { of_blob(value, 1 << 20) };
        let mut command = put_of(bucket, key, value, content);
        if let PartitionCommand::PutVersion(put) = &mut command {
            put.condition = condition;
            self.bodies.insert(put.etag.as_str().to_owned(), Body::One(Value(value)));
        }
        command
    }

    fn put(&mut self, bucket: BucketId, key: &str) {
        let (condition, asked) = self.condition(bucket, key);
        let value = self.fresh();
        let operation = Operation::Put { place: place(bucket, key), value: Value(value), condition };
        self.record(operation, |client| {
            let put = client.put_command(bucket, key, value, asked);
            written(&client.change(put))
        });
    }

    fn version(&self, bucket: BucketId, key: &str) -> VersionAnswer {
        let query =
            Query::Version { bucket, key: object_key(key), version: None, content: ContentWanted::Yes };
        match self.group.query(&query) {
            Answer::Version(answer) => *answer,
            other => panic!("{other:?}"),
        }
    }

    fn get(&mut self, bucket: BucketId, key: &str) {
        let operation = Operation::Get { place: place(bucket, key), version: None };
        self.record(operation, |client| match client.version(bucket, key) {
            VersionAnswer::Found { info, content, .. } => Reply::Found {
                body: client.agreed_body(&info.etag, content.as_ref()),
                version: (bucket == VERSIONED).then(|| VersionName(info.version_id.to_string())),
            },
            VersionAnswer::NoSuchKey { delete_marker } => {
                Reply::NoSuchKey { marker: delete_marker.map(|id| VersionName(id.to_string())) }
            }
            VersionAnswer::NoSuchVersion => Reply::NoSuchVersion,
            VersionAnswer::NoSuchBucket => Reply::NoSuchBucket,
        });
    }

    /// What the tag says, unless the manifest says otherwise.
    fn agreed_body(&self, etag: &ETag, content: Option<&Content>) -> Body {
        let body = self.body(etag);
        let entries = content.map_or(&[][..], |content| &content.manifest.entries);
        let values: Vec<_> = entries.iter().map(|entry| Value(entry.crc64)).collect();
        match &body {
            Body::One(value) if values == [*value] => body,
            Body::Parts(parts) if values == *parts => body,
            Body::One(_) | Body::Parts(_) => Body::Parts(values),
        }
    }

    fn versions_of(&self, bucket: BucketId, key: &str) -> Vec<ashlar_types::VersionId> {
        self.all_versions(bucket)
            .into_iter()
            .filter(|info| info.key.as_str() == key && bucket == VERSIONED)
            .map(|info| info.version_id)
            .collect()
    }

    fn all_versions(&self, bucket: BucketId) -> Vec<ashlar_types::VersionInfo> {
        let query = VersionQuery { max_entries: 1000, ..VersionQuery::default() };
        match self.group.query(&Query::Versions { bucket, query }) {
            Answer::Versions(page) => page
                .entries
                .into_iter()
                .map(|entry| match entry {
                    ListEntry::Object(info) => *info,
                    ListEntry::CommonPrefix(prefix) => panic!("{prefix}"),
                })
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, bucket: BucketId, key: &str, version: Option<ashlar_types::VersionId>) {
        let operation = Operation::Delete {
            place: place(bucket, key),
            version: version.map(|version| VersionName(version.to_string())),
            condition: Condition::Nothing,
        };
        self.record(operation, |client| {
            let delete = DeleteKey { key: object_key(key), version, condition: WriteCondition::default() };
            let salt = u128::from(client.fresh());
            let command =
                PartitionCommand::DeleteVersions { bucket, keys: vec![delete], owner: "me".to_owned(), salt };
            match client.change(command) {
                Ok(Done::Deleted(results)) => match results.into_iter().next().unwrap() {
                    Ok(deleted) => Reply::Deleted {
                        marker: deleted.delete_marker.map(|marker| VersionName(marker.to_string())),
                    },
                    Err(refusal) => refused(&refusal),
                },
                other => panic!("{other:?}"),
            }
        });
    }

    fn create_upload(&mut self, bucket: BucketId, key: &str) {
        let (condition, asked) = self.condition(bucket, key);
        self.record(Operation::CreateUpload { place: place(bucket, key), condition }, |client| {
            let number = u128::from(client.fresh());
            let create = CreateUpload {
                bucket,
                key: object_key(key),
                uid: VersionUid(number),
                salt: number,
                metadata: ObjectMetadata::default(),
                checksum: None,
                condition: asked,
            };
            match client.change(PartitionCommand::CreateUpload(Box::new(create))) {
                Ok(Done::Upload(info)) => {
                    let upload = Upload {
                        bucket,
                        key: key.to_owned(),
                        id: info.upload,
                        parts: BTreeMap::new(),
                        open: true,
                    };
                    client.uploads.push(upload);
                    Reply::Upload(UploadName(info.upload.to_string()))
                }
                Err(refusal) => refused(&refusal),
                other => panic!("{other:?}"),
            }
        });
    }

    /// One of the last few, open or not.
    fn some_upload(&mut self) -> Option<usize> {
        let first = self.uploads.len().saturating_sub(6);
        self.dice.pick(&(first..self.uploads.len()).collect::<Vec<_>>())
    }

    fn put_part(&mut self) {
        let Some(index) = self.some_upload() else { return };
        let part = u16::try_from(1 + self.dice.below(2)).unwrap();
        let value = self.fresh();
        let Upload { bucket, key, id, .. } = &self.uploads[index];
        let (bucket, key, id) = (*bucket, key.clone(), *id);
        let operation = Operation::PutPart {
            place: place(bucket, &key),
            upload: UploadName(id.to_string()),
            part,
            value: Value(value),
        };
        self.record(operation, |client| {
            let content = of_blob(value, PART_MIN_LEN);
            let command = PutPart {
                bucket,
                key: object_key(&key),
                upload: id,
                part_number: part,
                size: content.manifest.len(),
                md5: u128::from(value).to_be_bytes(),
                crc64: value,
                checksum: None,
                content,
            };
            match client.change(PartitionCommand::PutPart(Box::new(command))) {
                Ok(_) => {
                    client.uploads[index].parts.insert(part, value);
                    Reply::PartWritten
                }
                Err(refusal) => refused(&refusal),
            }
        });
    }

    fn complete(&mut self) {
        let Some(index) = self.some_upload() else { return };
        let Upload { bucket, key, id, parts, .. } = &self.uploads[index];
        let (bucket, key, id) = (*bucket, key.clone(), *id);
        let parts: Vec<(u16, u64)> = parts.iter().map(|(number, value)| (*number, *value)).collect();
        let operation = Operation::Complete {
            place: place(bucket, &key),
            upload: UploadName(id.to_string()),
            parts: parts.iter().map(|(number, value)| (*number, Value(*value))).collect(),
            condition: Condition::Nothing,
        };
        self.record(operation, |client| {
            let listed = parts.iter().map(|(part_number, value)| CompletedPart {
                part_number: *part_number,
                etag: ETag::from_md5(u128::from(*value).to_be_bytes()),
                checksum: None,
            });
            let complete = CompleteUpload {
                bucket,
                key: object_key(&key),
                upload: id,
                salt: u128::from(client.fresh()),
                parts: listed.collect(),
                condition: WriteCondition::default(),
                checksum: None,
                checksum_kind: None,
                size: None,
            };
            let outcome = client.change(PartitionCommand::CompleteUpload(Box::new(complete)));
            if let Ok(Done::Written(written)) = &outcome {
                let body = Body::Parts(parts.iter().map(|(_, value)| Value(*value)).collect());
                client.bodies.insert(written.etag.as_str().to_owned(), body);
                client.uploads[index].open = false;
            }
            written(&outcome)
        });
    }

    fn abort(&mut self) {
        let Some(index) = self.some_upload() else { return };
        let Upload { bucket, key, id, .. } = &self.uploads[index];
        let (bucket, key, id) = (*bucket, key.clone(), *id);
        let operation = Operation::Abort { place: place(bucket, &key), upload: UploadName(id.to_string()) };
        self.record(operation, |client| {
            let abort = PartitionCommand::AbortUpload { bucket, key: object_key(&key), upload: id };
            match client.change(abort) {
                Ok(_) => {
                    client.uploads[index].open = false;
                    Reply::Aborted
                }
                Err(refusal) => refused(&refusal),
            }
        });
    }

    fn list(&mut self, bucket: BucketId) {
        let call = ListCall {
            bucket: name(bucket).to_owned(),
            prefix: self.dice.pick(&["", "", "1", "1/"]).unwrap().to_owned(),
            delimiter: self.dice.pick(&["", "/"]).unwrap().to_owned(),
            after: self.dice.pick(&["", "", "1/1", "1/"]).unwrap().to_owned(),
            max_entries: u32::try_from(1 + self.dice.below(8)).unwrap(),
        };
        let ListCall { prefix, delimiter, after, max_entries, .. } = call.clone();
        self.record(Operation::List(call), |client| {
            let query = ListQuery { prefix, delimiter, after, max_entries };
            match client.group.query(&Query::List { bucket, query }) {
                Answer::List(page) => Reply::Objects(ObjectPage {
                    entries: page
                        .entries
                        .into_iter()
                        .map(|entry| match entry {
                            ListEntry::Object(info) => Listed::Object {
                                key: info.key.as_str().to_owned(),
                                body: client.body(&info.etag),
                            },
                            ListEntry::CommonPrefix(prefix) => Listed::CommonPrefix(prefix),
                        })
                        .collect(),
                    next: page.next,
                }),
                other => panic!("{other:?}"),
            }
        });
    }

    fn list_versions(&mut self, bucket: BucketId) {
        let operation = Operation::ListVersions {
            bucket: name(bucket).to_owned(),
            prefix: String::new(),
            key_after: String::new(),
            version_after: None,
            max_entries: 1000,
        };
        self.record(operation, |client| {
            let entries = client.all_versions(bucket).into_iter().map(|info| ListedVersion {
                key: info.key.as_str().to_owned(),
                version: VersionName(info.version_id.to_string()),
                latest: info.is_latest,
                body: (!info.delete_marker).then(|| client.body(&info.etag)),
            });
            Reply::Versions(VersionPage { entries: entries.collect(), next: None })
        });
    }

    fn open_uploads(&self, bucket: BucketId) -> Vec<(String, UploadId)> {
        let query = UploadQuery { max_entries: 1000, ..UploadQuery::default() };
        match self.group.query(&Query::Uploads { bucket, query }) {
            Answer::Uploads(page) => {
                page.uploads.into_iter().map(|info| (info.key.as_str().to_owned(), info.upload)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn list_uploads(&mut self, bucket: BucketId) {
        let operation = Operation::ListUploads {
            bucket: name(bucket).to_owned(),
            prefix: String::new(),
            key_after: String::new(),
            upload_after: None,
            max_entries: 1000,
        };
        self.record(operation, |client| {
            let open = client.open_uploads(bucket).into_iter();
            let entries = open.map(|(key, upload)| (key, UploadName(upload.to_string()))).collect();
            Reply::Uploads(UploadPage { entries, next: None })
        });
    }

    /// What the bucket says it holds, and what it holds.
    pub(super) fn counters(&self, bucket: BucketId) -> (Counted, Counted) {
        let Answer::Counters(kept) = self.group.query(&Query::Counters { bucket }) else {
            panic!("a bucket has counters")
        };
        let kept = Counted {
            objects: kept.objects,
            noncurrent: kept.noncurrent,
            delete_markers: kept.delete_markers,
            bytes: kept.bytes,
            uploads: kept.uploads,
            upload_bytes: kept.upload_bytes,
        };
        let versions = self.all_versions(bucket).into_iter().map(|info| VersionRow {
            latest: info.is_latest,
            delete_marker: info.delete_marker,
            size: info.size,
        });
        let uploads = self.open_uploads(bucket).into_iter().map(|(key, upload)| {
            let query = Query::Parts { bucket, key: object_key(&key), upload, after: 0, limit: 1000 };
            match self.group.query(&query) {
                Answer::Parts(Some(answer)) => answer.parts.iter().map(|part| part.size).collect(),
                other => panic!("{other:?}"),
            }
        });
        (kept, recount(versions, uploads))
    }

    /// Of versions that can be read, and of the parts of open uploads.
    pub(super) fn named_blobs(&self) -> BTreeSet<u128> {
        let mut named = BTreeSet::new();
        for upload in self.uploads.iter().filter(|upload| upload.open) {
            named.extend(upload.parts.values().map(|value| u128::from(*value)));
        }
        for bucket in BUCKETS {
            for info in self.all_versions(bucket).into_iter().filter(|info| !info.delete_marker) {
                match self.body(&info.etag) {
                    Body::One(Value(value)) => named.insert(u128::from(value)),
                    Body::Parts(values) => {
                        named.extend(values.iter().map(|value| u128::from(value.0)));
                        true
                    }
                };
            }
        }
        named
    }
}

fn place(bucket: BucketId, key: &str) -> Place {
    Place::new(name(bucket), key)
}

fn object_key(key: &str) -> ObjectKey {
    ObjectKey::parse(key).unwrap()
}

fn written(outcome: &Outcome) -> Reply {
    match outcome {
        Ok(Done::Written(written)) => {
            Reply::Written { version: written.version_id.map(|id| VersionName(id.to_string())) }
        }
        Err(refusal) => refused(refusal),
        other => panic!("{other:?}"),
    }
}

fn refused(refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::PreconditionFailed => Reply::PreconditionFailed,
        Refusal::NoSuchKey { delete_marker } => {
            Reply::NoSuchKey { marker: delete_marker.map(|id| VersionName(id.to_string())) }
        }
        Refusal::NoSuchUpload => Reply::NoSuchUpload,
        Refusal::InvalidPart { .. } => Reply::InvalidPart,
        other => panic!("{other:?}"),
    }
}

fn inline(value: u64) -> Content {
    let bytes = Bytes::from(value.to_be_bytes().to_vec());
    let source = ExtentSource::Inline { offset: 0 };
    let entry = ManifestEntry { part_number: 0, len: bytes.len() as u64, crc64: value, source };
    Content { manifest: Manifest { entries: vec![entry] }, inline: bytes }
}

fn of_blob(value: u64, len: u64) -> Content {
    blob_content(value, len, Interval(1), (1..=3).map(|drive| Some(DriveId(drive))).collect())
}

/// One blob of one chunk.
pub(super) fn blob_content(value: u64, len: u64, interval: Interval, slots: Vec<Option<DriveId>>) -> Content {
    let blob = Blob {
        id: BlobId(u128::from(value)),
        len,
        crc64: value,
        profile: ProfileId(0),
        group: GROUP,
        write_epoch: WriteEpoch(0),
        chunks: vec![Chunk { pg: PgId(1), interval, slots }],
    };
    let entry =
        ManifestEntry { part_number: 0, len, crc64: value, source: ExtentSource::Blob { blob, offset: 0 } };
    Content { manifest: Manifest { entries: vec![entry] }, inline: Bytes::new() }
}

/// Without a condition.
pub(super) fn put_of(bucket: BucketId, key: &str, value: u64, content: Content) -> PartitionCommand {
    PartitionCommand::PutVersion(Box::new(PutVersion {
        bucket,
        key: object_key(key),
        uid: VersionUid(u128::from(value)),
        salt: u128::from(value),
        condition: WriteCondition::default(),
        metadata: ObjectMetadata::default(),
        size: content.manifest.len(),
        etag: ETag::from_md5(u128::from(value).to_be_bytes()),
        crc64: value,
        checksum: None,
        content,
    }))
}
