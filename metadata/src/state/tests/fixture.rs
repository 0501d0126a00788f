//! A group in memory, and commands for it.

use crate::{
    command::{
        Command, CompleteUpload, CreateUpload, Done, Entry, Outcome, PartitionCommand, PutPart, PutVersion,
        Refusal, WrittenVersion,
    },
    kv::{Direction, KeyRange, KvRead, MemKv, Table},
    query::{Answer, ContentWanted, Counters, Query, VersionAnswer},
    state::{StateMachine, tests::verify::verify},
};
use ashlar_runtime::sync::Arc;
use ashlar_types::{
    Blob, BlobId, BucketId, BucketName, Chunk, CompletedPart, Content, DriveId, ETag, ExtentSource, GroupId,
    Interval, Manifest, ManifestEntry, ObjectKey, ObjectMetadata, PgId, ProfileId, RequestId, SessionId,
    Timestamp, UploadId, VersionId, VersionUid, Versioning, WriteCondition, WriteEpoch,
    service::{BucketInfo, DeleteKey, Deleted},
};
use bytes::Bytes;
use std::{collections::BTreeMap, ops::ControlFlow};

pub(super) const GROUP: GroupId = GroupId(1);
pub(super) const BUCKET: BucketId = BucketId(7);

pub(super) type Dump = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

pub(super) fn dump(kv: &dyn KvRead) -> Dump {
    let mut rows = Dump::new();
    for table in Table::ALL {
        kv.scan(table, &KeyRange::all(), Direction::Forward, &mut |key, value| {
            rows.insert((table, key.to_vec()), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    rows
}

/// A state machine in memory that checks its invariants after each command.
pub(super) struct Group {
    pub(super) kv: MemKv,
    pub(super) state: StateMachine,
    /// Everything applied so far.
    pub(super) entries: Vec<Entry>,
    pub(super) now: u64,
    next: u64,
}

impl Group {
    pub(super) fn empty(group: GroupId) -> Self {
        let kv = MemKv::new();
        let state = StateMachine::open(group, Arc::new(kv.clone())).unwrap();
        Self { kv, state, entries: vec![], now: 1_000, next: 1 }
    }

    /// With one bucket.
    pub(super) fn new(versioning: Versioning) -> Self {
        let mut group = Self::empty(GROUP);
        group.run(PartitionCommand::CreateBucket { bucket: bucket_info(BUCKET) }).unwrap();
        if versioning != Versioning::Unversioned {
            group.set_versioning(versioning);
        }
        group
    }

    /// A number that was not given before.
    pub(super) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn request(&mut self) -> RequestId {
        let write_epoch = self.state.group_state().write_epoch;
        RequestId { write_epoch, session: SessionId(1), sequence: self.fresh() }
    }

    pub(super) fn run(&mut self, command: PartitionCommand) -> Outcome {
        self.run_any(Command::Partition(command))
    }

    /// A millisecond after the last, under a request id of its own.
    pub(super) fn run_any(&mut self, command: Command) -> Outcome {
        let request = Some(self.request());
        self.now += 1;
        self.apply(Entry { request, stamp: Timestamp(self.now), command })
    }

    pub(super) fn apply(&mut self, entry: Entry) -> Outcome {
        self.entries.push(entry.clone());
        let position = (self.entries.len() as u64).to_be_bytes();
        let mut outcomes = self.state.apply(&[entry], &position).unwrap();
        assert_eq!(self.state.position().unwrap().as_deref(), Some(&position[..]));
        verify(&self.kv);
        outcomes.remove(0)
    }

    pub(super) fn set_versioning(&mut self, versioning: Versioning) {
        self.run(PartitionCommand::SetVersioning { bucket: BUCKET, versioning }).unwrap();
    }

    pub(super) fn try_put(
        &mut self,
        key: &str,
        content: Content,
        condition: WriteCondition,
    ) -> Result<WrittenVersion, Refusal> {
        let put = self.put_command(key, content, condition);
        written(self.run(PartitionCommand::PutVersion(Box::new(put))))
    }

    pub(super) fn put_command(
        &mut self,
        key: &str,
        content: Content,
        condition: WriteCondition,
    ) -> PutVersion {
        PutVersion {
            bucket: BUCKET,
            key: self::key(key),
            uid: VersionUid(u128::from(self.fresh())),
            salt: u128::from(self.fresh()) << 64,
            condition,
            metadata: metadata(),
            size: content.manifest.len(),
            etag: etag(self.fresh()),
            crc64: 5,
            checksum: None,
            content,
        }
    }

    pub(super) fn put(&mut self, key: &str) -> WrittenVersion {
        self.try_put(key, inline(b"small"), WriteCondition::default()).unwrap()
    }

    pub(super) fn put_blob(&mut self, key: &str, blob: &Blob) -> WrittenVersion {
        self.try_put(key, of_blob(blob), WriteCondition::default()).unwrap()
    }

    pub(super) fn delete(&mut self, key: &str, version: Option<VersionId>) -> Result<Deleted, Refusal> {
        self.delete_if(key, version, WriteCondition::default())
    }

    pub(super) fn delete_if(
        &mut self,
        key: &str,
        version: Option<VersionId>,
        condition: WriteCondition,
    ) -> Result<Deleted, Refusal> {
        let keys = vec![DeleteKey { key: self::key(key), version, condition }];
        let salt = u128::from(self.fresh()) << 64;
        let command = PartitionCommand::DeleteVersions { bucket: BUCKET, keys, owner: "me".into(), salt };
        match self.run(command)? {
            Done::Deleted(mut results) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn create_upload(&mut self, key: &str) -> UploadId {
        self.try_create_upload(key, None, WriteCondition::default()).unwrap()
    }

    pub(super) fn try_create_upload(
        &mut self,
        key: &str,
        checksum: Option<(ashlar_types::ChecksumAlgorithm, ashlar_types::ChecksumKind)>,
        condition: WriteCondition,
    ) -> Result<UploadId, Refusal> {
        let create = CreateUpload {
            bucket: BUCKET,
            key: self::key(key),
            uid: VersionUid(u128::from(self.fresh())),
            salt: u128::from(self.fresh()) << 64,
            metadata: metadata(),
            checksum,
            condition,
        };
        match self.run(PartitionCommand::CreateUpload(Box::new(create)))? {
            Done::Upload(info) => Ok(info.upload),
            other => panic!("{other:?}"),
        }
    }

    /// Keys `00/0`, `00/1` and so on, in one batch.
    pub(super) fn put_many(&mut self, count: u32) {
        let entries: Vec<_> = (0..count)
            .map(|n| {
                let put = self.put_command(
                    &format!("{:02}/{}", n / 10, n % 10),
                    inline(b"x"),
                    WriteCondition::default(),
                );
                let command = Command::Partition(PartitionCommand::PutVersion(Box::new(put)));
                Entry { request: Some(self.request()), stamp: Timestamp(self.now), command }
            })
            .collect();
        let outcomes = self.state.apply(&entries, b"many").unwrap();
        assert!(outcomes.iter().all(Result::is_ok));
        self.entries.extend(entries);
        verify(&self.kv);
    }

    pub(super) fn put_part(
        &mut self,
        key: &str,
        upload: UploadId,
        part_number: u16,
        content: Content,
    ) -> Result<ETag, Refusal> {
        let part = self.part(key, upload, part_number, content);
        match self.run(PartitionCommand::PutPart(Box::new(part)))? {
            Done::Part(info) => Ok(info.etag),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn part(
        &mut self,
        key: &str,
        upload: UploadId,
        part_number: u16,
        content: Content,
    ) -> PutPart {
        let md5 = u128::from(self.fresh()).to_be_bytes();
        PutPart {
            bucket: BUCKET,
            key: self::key(key),
            upload,
            part_number,
            size: content.manifest.len(),
            md5,
            crc64: self.fresh(),
            checksum: None,
            content,
        }
    }

    pub(super) fn complete(&mut self, complete: CompleteUpload) -> Result<WrittenVersion, Refusal> {
        written(self.run(PartitionCommand::CompleteUpload(Box::new(complete))))
    }

    pub(super) fn abort(&mut self, key: &str, upload: UploadId) -> Outcome {
        self.run(PartitionCommand::AbortUpload { bucket: BUCKET, key: self::key(key), upload })
    }

    pub(super) fn query(&self, query: Query) -> Answer {
        self.state.query(&query).unwrap()
    }

    pub(super) fn get(&self, key: &str, version: Option<VersionId>) -> VersionAnswer {
        let query =
            Query::Version { bucket: BUCKET, key: self::key(key), version, content: ContentWanted::Yes };
        match self.query(query) {
            Answer::Version(answer) => *answer,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn counters(&self) -> Counters {
        match self.query(Query::Counters { bucket: BUCKET }) {
            Answer::Counters(counters) => counters,
            other => panic!("{other:?}"),
        }
    }

    /// Blobs of all garbage rows, one list a row.
    pub(super) fn garbage(&self) -> Vec<Vec<BlobId>> {
        match self.query(Query::Garbage { before: Timestamp(u64::MAX), limit: u32::MAX }) {
            Answer::Garbage(rows) => {
                rows.into_iter().map(|row| row.blobs.into_iter().map(|blob| blob.id).collect()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn repairs(&self) -> Vec<crate::query::RepairRow> {
        match self.query(Query::Repairs { after: None, limit: u32::MAX }) {
            Answer::Repairs(rows) => rows,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn written(outcome: Outcome) -> Result<WrittenVersion, Refusal> {
    match outcome? {
        Done::Written(written) => Ok(*written),
        other => panic!("{other:?}"),
    }
}

pub(super) fn bucket_info(id: BucketId) -> BucketInfo {
    BucketInfo {
        id,
        name: BucketName::parse(&format!("bucket-{id}")).unwrap(),
        owner: "me".into(),
        created: Timestamp(1),
        location: String::new(),
        group: GROUP,
    }
}

pub(super) fn key(key: &str) -> ObjectKey {
    ObjectKey::parse(key).unwrap()
}

pub(super) fn etag(n: u64) -> ETag {
    ETag::from_md5(u128::from(n).to_be_bytes())
}

pub(super) fn metadata() -> ObjectMetadata {
    ObjectMetadata {
        user: vec![("colour".into(), "grey".into())],
        owner: "me".into(),
        ..ObjectMetadata::default()
    }
}

pub(super) fn inline(bytes: &'static [u8]) -> Content {
    let entry = ManifestEntry {
        part_number: 0,
        len: bytes.len() as u64,
        crc64: 5,
        source: ExtentSource::Inline { offset: 0 },
    };
    Content { manifest: Manifest { entries: vec![entry] }, inline: Bytes::from_static(bytes) }
}

/// A blob of one chunk a slot pattern; `false` is a slot that was not acknowledged.
pub(super) fn blob(id: u64, len: u64, chunks: &[&[bool]]) -> Blob {
    let chunk = |(slots, pg): (&&[bool], u32)| Chunk {
        pg: PgId(pg),
        interval: Interval(3),
        slots: slots.iter().zip(1u32..).map(|(acked, drive)| acked.then_some(DriveId(drive))).collect(),
    };
    Blob {
        id: BlobId(u128::from(id)),
        len,
        crc64: id,
        profile: ProfileId(0),
        group: GROUP,
        write_epoch: WriteEpoch(0),
        chunks: chunks.iter().zip(1u32..).map(chunk).collect(),
    }
}

pub(super) fn of_blob(blob: &Blob) -> Content {
    let source = ExtentSource::Blob { blob: blob.clone(), offset: 0 };
    let entry = ManifestEntry { part_number: 0, len: blob.len, crc64: blob.crc64, source };
    Content { manifest: Manifest { entries: vec![entry] }, inline: Bytes::new() }
}

pub(super) fn completion(key: &str, upload: UploadId, parts: &[(u16, ETag)]) -> CompleteUpload {
    CompleteUpload {
        bucket: BUCKET,
        key: self::key(key),
        upload,
        salt: 1 << 100,
        parts: parts
            .iter()
            .map(|(part_number, etag)| CompletedPart {
                part_number: *part_number,
                etag: etag.clone(),
                checksum: None,
            })
            .collect(),
        condition: WriteCondition::default(),
        checksum: None,
        checksum_kind: None,
        size: None,
    }
}

pub(super) fn if_match(etag: &ETag) -> WriteCondition {
    WriteCondition {
        if_match: Some(ashlar_types::EtagCondition::OneOf(vec![etag.clone()])),
        if_none_match: None,
    }
}

pub(super) fn if_absent() -> WriteCondition {
    WriteCondition { if_match: None, if_none_match: Some(ashlar_types::EtagCondition::Any) }
}

/// Counts the rows that a scan shows.
pub(super) struct CountingKv<'a> {
    below: &'a dyn KvRead,
    rows: ashlar_runtime::sync::atomic::AtomicUsize,
}

impl<'a> CountingKv<'a> {
    pub(super) fn new(below: &'a dyn KvRead) -> Self {
        Self { below, rows: 0.into() }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.load(ashlar_runtime::sync::atomic::Ordering::Relaxed)
    }
}

impl KvRead for CountingKv<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, crate::kv::KvError> {
        self.below.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: &KeyRange,
        direction: Direction,
        visit: &mut crate::kv::Visit<'_>,
    ) -> Result<(), crate::kv::KvError> {
        self.below.scan(table, range, direction, &mut |key, value| {
            self.rows.fetch_add(1, ashlar_runtime::sync::atomic::Ordering::Relaxed);
            visit(key, value)
        })
    }
}
