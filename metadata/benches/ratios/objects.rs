//! Buckets full of objects: entries as a gateway proposes them, applied as a replica applies them.

use anyhow::{Context, Result, ensure};
use ashlar_metadata::{
    command::{Command, Entry, PartitionCommand, PutVersion},
    kv::{FjallMemory, Kv},
    state::StateMachine,
};
use ashlar_runtime::sync::Arc;
use ashlar_types::{
    Blob, BlobId, BucketId, BucketName, Chunk, Content, DriveId, ETag, ExtentSource, GroupId, Interval,
    Manifest, ManifestEntry, ObjectKey, ObjectMetadata, PgId, ProfileId, RequestId, SessionId, Timestamp,
    VersionUid, WriteCondition, WriteEpoch, service::BucketInfo,
};
use bytes::Bytes;
use std::path::Path;

pub(crate) const GROUP: GroupId = GroupId(1);
pub(crate) const BUCKET: BucketId = BucketId(1);
/// Entries in one batch of the engine: what a replica that lags takes at once.
pub(crate) const BATCH: u64 = 256;
const OBJECT_BYTES: u64 = 1 << 20;

/// A replica's tables on disk, with one bucket.
pub(crate) struct Group {
    pub(crate) state: Arc<StateMachine>,
    pub(crate) group: GroupId,
}

impl Group {
    pub(crate) fn make(dir: &Path, group: GroupId, memory: &FjallMemory) -> Result<Self> {
        let kv: Arc<dyn Kv> = Arc::new(memory.open(dir)?);
        let this = Self { state: Arc::new(StateMachine::open(group, kv)?), group };
        this.apply(vec![entry(0, bucket(group, Timestamp(1))?)])?;
        Ok(this)
    }

    /// Tables that have the bucket.
    pub(crate) fn of(state: Arc<StateMachine>, group: GroupId) -> Self {
        Self { state, group }
    }

    /// Applies entries as one batch; all must succeed.
    pub(crate) fn apply(&self, entries: Vec<Entry>) -> Result<()> {
        // Tables of a running replica stay where its log says they are.
        let position = self.state.position()?.unwrap_or_else(|| Bytes::from_static(b"bench"));
        let outcomes = self.state.apply(&entries, &position)?;
        ensure!(outcomes.iter().all(Result::is_ok), "a command was refused");
        Ok(())
    }

    /// Puts objects `0..count`, in an order that is not that of their keys.
    pub(crate) fn load(&self, count: u64) -> Result<()> {
        let mut next = 0;
        while next < count {
            let end = count.min(next + BATCH);
            let entries = (next..end).map(|number| put(self.group, spread(number, count), number));
            self.apply(entries.collect::<Result<_>>()?)?;
            next = end;
        }
        self.state.persist()?;
        Ok(())
    }
}

/// A reservation that is older than a day by the group's clock is not honoured.
pub(crate) fn bucket(group: GroupId, created: Timestamp) -> Result<Command> {
    let bucket = BucketInfo {
        id: BUCKET,
        name: BucketName::parse("bench").context("a bucket name")?,
        owner: "bench".into(),
        created,
        location: String::new(),
        group,
    };
    Ok(Command::Partition(PartitionCommand::CreateBucket { bucket }))
}

/// A permutation of `0..count`.
pub(crate) fn spread(number: u64, count: u64) -> u64 {
    // A prime that divides no round count.
    number * 1_000_003 % count
}

pub(crate) fn key(number: u64) -> String {
    format!("photos/{:04}/{number:09}.jpeg", number / 1000)
}

/// Puts an object of one 4+2 chunk; `sequence` tells requests apart.
pub(crate) fn put(group: GroupId, number: u64, sequence: u64) -> Result<Entry> {
    let chunk = Chunk {
        pg: PgId(u32::try_from(number % 512)?),
        interval: Interval(1),
        slots: (1..=6).map(|drive| Some(DriveId(drive))).collect(),
    };
    let blob = Blob {
        id: BlobId(scrambled(sequence)),
        len: OBJECT_BYTES,
        crc64: sequence,
        profile: ProfileId(0),
        group,
        write_epoch: WriteEpoch(0),
        chunks: vec![chunk],
    };
    let source = ExtentSource::Blob { blob, offset: 0 };
    let manifest = Manifest {
        entries: vec![ManifestEntry { part_number: 0, len: OBJECT_BYTES, crc64: sequence, source }],
    };
    let put = PutVersion {
        bucket: BUCKET,
        key: ObjectKey::parse(&key(number)).context("a key")?,
        uid: VersionUid(scrambled(sequence + (1 << 40))),
        salt: u128::from(sequence) << 64,
        condition: WriteCondition::default(),
        metadata: ObjectMetadata {
            user: vec![("taken-by".into(), "a camera".into())],
            owner: "bench".into(),
            ..ObjectMetadata::default()
        },
        size: OBJECT_BYTES,
        etag: ETag::from_md5(scrambled(sequence + (1 << 41)).to_be_bytes()),
        crc64: sequence,
        checksum: None,
        content: Content { manifest, inline: Bytes::new() },
    };
    Ok(entry(sequence + 1, Command::Partition(PartitionCommand::PutVersion(Box::new(put)))))
}

fn entry(sequence: u64, command: Command) -> Entry {
    let request = RequestId { write_epoch: WriteEpoch(0), session: SessionId(1), sequence };
    Entry { request: Some(request), stamp: Timestamp(sequence), command }
}

/// Ids of the system are random; these are repeatable (splitmix64, twice).
fn scrambled(number: u64) -> u128 {
    let mix = |number: u64| {
        let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    u128::from(mix(number)) << 64 | u128::from(mix(number ^ u64::MAX))
}
