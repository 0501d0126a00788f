//! Bytes of one row of each table. A change here is a new format version, and a page in `docs/formats/metadata.md`.

use super::record::{
    BucketRecord, CompletedRecord, CounterRecord, FenceRecord, GroupRecord, ManifestRecord, ObjectRecord,
    OutboxState, PartRecord, PurgedRecord, RepairRecord, ReverseRecord, Stored, Superseded, TokenRecord,
    TokenUse, UploadRecord, VersionBody, VersionRecord,
};
use crate::{
    command::{Done, GarbageId, Outcome, Refusal, WrittenVersion},
    encoding::{Extensions, Row, decode_row, encode_row},
    event::{Creation, Event, EventKind, EventRecording, OutboxLimits},
    query::{BucketPhase, BucketRow, Counters},
};
use ashlar_types::{
    Blob, BlobId, BucketId, BucketName, Checksum, ChecksumAlgorithm, ChecksumKind, Chunk, ChunkId, Content,
    DriveId, DriveUuid, ETag, EtagCondition, ExtentSource, GroupId, Interval, Manifest, ManifestEntry,
    NodeId, ObjectChecksum, ObjectHeaders, ObjectKey, ObjectMetadata, PartInfo, PgId, ProfileId, RequestId,
    Sequence, SessionId, ShardOwner, SlotIndex, Timestamp, UploadId, VersionId, VersionUid, Versioning,
    WriteCondition, WriteEpoch,
    service::{AccessKey, BucketInfo, Quota, User},
};
use std::fmt::Debug;

const BUCKET: BucketId = BucketId(0x0102);
const UPLOAD: UploadId = UploadId { sequence: Sequence(5), salt: 6 };
const CHUNK: ChunkId = ChunkId { blob: BlobId(0xb10b), index: 3 };

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key() -> ObjectKey {
    ObjectKey::parse("k\0y").unwrap()
}

#[track_caller]
fn key_is(row: &[u8], expected: &str) {
    assert_eq!(hex(row), expected.replace([' ', '\n'], ""));
}

#[track_caller]
fn value_is<T: Row + PartialEq + Debug>(value: &T, expected: &str) {
    let bytes = encode_row(value);
    assert_eq!(hex(&bytes), expected.replace([' ', '\n'], ""));
    assert_eq!(decode_row::<T>(&bytes).as_ref(), Ok(value));
}

#[test]
fn keys() {
    let part = ShardOwner::Part { upload: UPLOAD, part_number: 7 };
    let version = ShardOwner::Version(VersionUid(0xd1));
    let bucket = "0000000000000102";
    let escaped = "6b00ff790000";
    let upload = "0000000000000005 00000000000000000000000000000006";
    key_is(&super::object(BUCKET, &key()), &format!("{bucket} 6b0079"));
    key_is(&super::version(BUCKET, &key(), Sequence(1)), &format!("{bucket} {escaped} fffffffffffffffe"));
    key_is(&super::upload(BUCKET, &key(), UPLOAD), &format!("{bucket} {escaped} {upload}"));
    key_is(&super::part(BUCKET, &key(), UPLOAD, 7), &format!("{bucket} {escaped} {upload} 0007"));
    key_is(
        &super::owner(BUCKET, &key(), version),
        &format!("{bucket} {escaped} 00 000000000000000000000000000000d1"),
    );
    key_is(&super::owner(BUCKET, &key(), part), &format!("{bucket} {escaped} 01 {upload}"));
    let chunk = "0000000000000000000000000000b10b 00000003";
    key_is(
        &super::reverse(PgId(9), version, CHUNK),
        &format!("00000009 00 000000000000000000000000000000d1 {chunk}"),
    );
    key_is(&super::reverse(PgId(9), part, CHUNK), &format!("00000009 01 {upload} 0007 {chunk}"));
    key_is(&super::repair(CHUNK, SlotIndex(2)), &format!("{chunk} 02"));
    key_is(
        &super::garbage(GarbageId { since: Timestamp(8), number: 9 }),
        "0000000000000008 0000000000000009",
    );
    key_is(&super::pg(PgId(9)), "00000009");
    let request = RequestId { write_epoch: WriteEpoch(1), session: SessionId(2), sequence: 3 };
    key_is(&super::request(request), "0000000000000001 00000000000000000000000000000002 0000000000000003");
    key_is(&super::due_completed(WriteEpoch(4), b"row"), "01 0000000000000004 726f77");
    key_is(&super::due_purged(Timestamp(4), BUCKET), &format!("02 0000000000000004 {bucket}"));
    key_is(&super::outbox(4), "0000000000000004");
    key_is(&super::directory_name(&BucketName::parse("abc").unwrap()), "00 616263");
    key_is(&super::directory_id(BUCKET), &format!("01 {bucket}"));
}

fn metadata() -> ObjectMetadata {
    ObjectMetadata {
        headers: ObjectHeaders { content_type: Some("t".into()), ..ObjectHeaders::default() },
        user: vec![("n".into(), "v".into())],
        tags: vec![],
        storage_class: None,
        owner: "o".into(),
    }
}

fn blob() -> Blob {
    Blob {
        id: CHUNK.blob,
        len: 200,
        crc64: 1,
        profile: ProfileId(2),
        group: GroupId(3),
        write_epoch: WriteEpoch(4),
        chunks: vec![Chunk { pg: PgId(9), interval: Interval(5), slots: vec![Some(DriveId(6)), None] }],
    }
}

fn manifest() -> Manifest {
    let entry = |len, source| ManifestEntry { part_number: 7, len, crc64: 1, source };
    Manifest {
        entries: vec![
            entry(200, ExtentSource::Blob { blob: blob(), offset: 0 }),
            entry(4, ExtentSource::Inline { offset: 0 }),
        ],
    }
}

fn checksum() -> Checksum {
    Checksum::new(ChecksumAlgorithm::Crc32, &[1, 2, 3, 4]).unwrap()
}

fn info() -> BucketInfo {
    BucketInfo {
        id: BUCKET,
        name: BucketName::parse("abc").unwrap(),
        owner: "o".into(),
        created: Timestamp(1),
        location: String::new(),
        group: GroupId(3),
    }
}

#[test]
fn versions() {
    let record = |body| VersionRecord {
        sequence: Sequence(1),
        version_id: VersionId::Id { sequence: Sequence(1), salt: 2 },
        last_modified: Timestamp(300),
        noncurrent_since: Some(Timestamp(4)),
        body,
        kept: Extensions::default(),
    };
    let object = ObjectRecord {
        uid: VersionUid(0xd1),
        size: 204,
        etag: ETag::parse("e"),
        crc64: 5,
        metadata: metadata(),
        checksum: Some(ObjectChecksum {
            checksum: checksum(),
            kind: ChecksumKind::Composite,
            parts: Some(2),
        }),
        upload: Some((UPLOAD, 2)),
        stored: Stored::Manifest,
    };
    value_is(
        &record(VersionBody::Object(Box::new(object))),
        "0101010102ac0201 0400d101cc010165 0501017400000000 000001016e017600 00016f0100040102 0304010102010506 0202",
    );
    value_is(&record(VersionBody::DeleteMarker { owner: "o".into() }), "0101010102ac0201 0401016f");
    value_is(&Sequence(300), "01ac02");
    let part = PartInfo {
        part_number: 7,
        size: 204,
        etag: ETag::parse("e"),
        last_modified: Timestamp(300),
        checksum: Some(checksum()),
    };
    value_is(
        &ManifestRecord { manifest: manifest(), parts: vec![part], kept: Extensions::default() },
        "010207c80101018b e202c80101020304 0109050201060000 07040100000107cc 010165ac02010004 01020304",
    );
}

#[test]
fn uploads() {
    let condition = WriteCondition {
        if_match: Some(EtagCondition::OneOf(vec![ETag::parse("e")])),
        if_none_match: Some(EtagCondition::Any),
    };
    let upload = UploadRecord {
        uid: VersionUid(0xd1),
        initiated: Timestamp(300),
        metadata: metadata(),
        checksum: Some((ChecksumAlgorithm::Sha256, ChecksumKind::Composite)),
        condition,
    };
    value_is(&upload, "01d101ac02010174 0000000000000101 6e01760000016f01 0401010101016501 00");
    let part = PartRecord {
        size: 204,
        md5: [0xab; 16],
        crc64: 5,
        checksum: Some(checksum()),
        last_modified: Timestamp(300),
        content: Content { manifest: manifest(), inline: bytes::Bytes::from_static(b"tail") },
        kept: Extensions::default(),
    };
    value_is(
        &part,
        "01cc01ababababab abababababababab ababab0501000401 020304ac020207c8 0101018be202c801 0102030401090502 0106000007040100 00047461696c",
    );
    let written = WrittenVersion {
        etag: ETag::parse("e"),
        version_id: Some(VersionId::Null),
        last_modified: Timestamp(300),
        size: 204,
        checksum: None,
    };
    value_is(
        &CompletedRecord { parts_digest: [0xcd; 32], written },
        "01cdcdcdcdcdcdcd cdcdcdcdcdcdcdcd cdcdcdcdcdcdcdcd cdcdcdcdcdcdcdcd cd01650100ac02cc 0100",
    );
}

#[test]
fn shards() {
    value_is(&ReverseRecord { bucket: BUCKET, key: key() }, "018202036b0079");
    let owner = ShardOwner::Part { upload: UPLOAD, part_number: 7 };
    let repair = RepairRecord {
        pg: PgId(9),
        interval: Interval(5),
        bucket: BUCKET,
        key: key(),
        owner,
        bad_drive: Some(DriveId(6)),
        kept: Extensions::default(),
    };
    value_is(&repair, "0109058202036b00 79010506070106");
    let superseded = vec![Superseded { slot: SlotIndex(2), drive: DriveId(6), since: Interval(300) }];
    value_is(
        &FenceRecord { interval: Interval(300), quorum: 5, superseded, kept: Extensions::default() },
        "01ac02050102 06ac02",
    );
    value_is(&vec![blob()], "01018be202c80101 0203040109050201 0600");
}

#[test]
fn groups_and_buckets() {
    let group = GroupRecord {
        clock: Timestamp(300),
        write_epoch: WriteEpoch(1),
        next_garbage: 2,
        next_bucket: 3,
        requests_pruned: WriteEpoch(4),
        completed_pruned: WriteEpoch(5),
        feature_level: 6,
        outbox: OutboxState {
            last: 7,
            trimmed: 8,
            bytes: 9,
            lost: 10,
            limits: OutboxLimits { bytes: 300, age_ms: 11 },
        },
        // Fields of a newer release stay behind the others.
        kept: Extensions::of(&[(1, b"x")]),
    };
    value_is(&group, "01ac020102030405 060708090aac020b 010178");
    let counters =
        Counters { objects: 1, noncurrent: 2, delete_markers: 3, bytes: 4, uploads: 5, upload_bytes: 6 };
    value_is(
        &CounterRecord { next_sequence: Sequence(300), counters, kept: Extensions::default() },
        "01ac020102030405 06",
    );
    value_is(
        &BucketRecord {
            info: info(),
            versioning: Versioning::Enabled,
            sealed: true,
            quota: Quota { bytes: Some(300), objects: None },
            events: EventRecording::On,
            kept: Extensions::default(),
        },
        "0182020361626301 6f0100030101 01ac02 00 01",
    );
    value_is(&PurgedRecord { purged: Timestamp(300) }, "01ac02");
    let kind = EventKind::Created {
        by: Creation::CompleteUpload,
        version_id: Some(VersionId::Null),
        size: 300,
        etag: ETag::parse("e"),
    };
    let event = Event { bucket: BUCKET, key: key(), time: Timestamp(300), kind };
    value_is(&event, "018202036b0079ac 0200010100ac020165");
    value_is(&Outcome::Ok(Done::WriteEpoch(WriteEpoch(2))), "01000902");
    value_is(&Outcome::Err(Refusal::NoSuchKey { delete_marker: None }), "01010800");
}

#[test]
fn system() {
    value_is(
        &BucketRow { info: info(), phase: BucketPhase::Active, kept: Extensions::default() },
        "0182020361626301 6f01000301",
    );
    value_is(&info().name, "0103616263");
    let user = User { id: "u".into(), display_name: "d".into(), email: "m".into() };
    value_is(&AccessKey { id: "i".into(), secret: "s".into(), user }, "0101690173017501 64016d");
    let used = Some(TokenUse { node: NodeId(2), drives: vec![DriveUuid(0xd1)] });
    value_is(&TokenRecord { expires: Timestamp(300), used, kept: Extensions::default() }, "01ac02010201d101");
}
