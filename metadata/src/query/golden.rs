//! Bytes of one question of each kind, and of the answers that are new for each: nodes of different releases ask each other.

use super::*;
use crate::encoding::{DecodeError, decode, encode};
use ashlar_types::{BlobId, DriveId, VersionUid};

const BUCKET: BucketId = BucketId(300);
const UPLOAD: UploadId = UploadId { sequence: Sequence(5), salt: 6 };
const CHUNK: ChunkId = ChunkId { blob: BlobId(7), index: 3 };

fn key() -> ObjectKey {
    ObjectKey::parse("k").unwrap()
}

fn questions() -> Vec<(Query, &'static str)> {
    let list = ListQuery { prefix: "p".into(), delimiter: "/".into(), after: "a".into(), max_entries: 9 };
    let versions = VersionQuery {
        prefix: "p".into(),
        delimiter: "/".into(),
        key_after: "a".into(),
        version_after: Some(VersionId::Null),
        max_entries: 9,
    };
    let uploads = UploadQuery {
        prefix: "p".into(),
        delimiter: "/".into(),
        key_after: "a".into(),
        upload_after: Some(UPLOAD),
        max_entries: 9,
    };
    let owner = ShardOwner::Version(VersionUid(8));
    let slot = MissingSlot { chunk: CHUNK, slot: SlotIndex(2), pg: PgId(9), interval: Interval(4) };
    let after = Some(ReversePosition { owner, chunk: CHUNK });
    vec![
        (Query::Map, "0100"),
        (Query::Bucket { name: BucketName::parse("abc").unwrap() }, "010103616263"),
        (Query::Buckets { owner: "o".into() }, "0102016f"),
        (Query::BucketRows, "0103"),
        (Query::AccessKey { id: "i".into() }, "01040169"),
        (Query::Users, "0105"),
        (Query::BucketState { bucket: BUCKET }, "0106ac02"),
        (
            Query::Version { bucket: BUCKET, key: key(), version: None, content: ContentWanted::Yes },
            "0107ac02016b0001",
        ),
        (Query::List { bucket: BUCKET, query: list }, "0108ac020170012f016109"),
        (Query::Versions { bucket: BUCKET, query: versions }, "0109ac020170012f0161010009"),
        (Query::Uploads { bucket: BUCKET, query: uploads }, "010aac020170012f016101050609"),
        (Query::Upload { bucket: BUCKET, key: key(), upload: UPLOAD }, "010bac02016b0506"),
        (
            Query::Parts { bucket: BUCKET, key: key(), upload: UPLOAD, after: 7, limit: 9 },
            "010cac02016b05060709",
        ),
        (Query::Counters { bucket: BUCKET }, "010dac02"),
        (Query::Garbage { before: Timestamp(300), limit: 9 }, "010eac0209"),
        (Query::Repairs { after: Some(slot), limit: 9 }, "010f01070302090409"),
        (Query::GroupState, "0110"),
        (Query::BucketStats { bucket: BUCKET }, "0111ac02"),
        (Query::SealedBuckets, "0112"),
        (Query::Reverse { pg: PgId(9), after, limit: 9 }, "011309010008070309"),
        (Query::Chunk { bucket: BUCKET, key: key(), owner, chunk: CHUNK }, "0114ac02016b00080703"),
        (Query::Fence { pg: PgId(9) }, "011509"),
        (Query::Due { limit: 9 }, "011609"),
        (Query::Outbox { after: 300, limit: 9 }, "0117ac0209"),
    ]
}

fn answers() -> Vec<(Answer, &'static str)> {
    let quota = Quota { bytes: Some(300), objects: None };
    let counters =
        Counters { objects: 1, noncurrent: 2, delete_markers: 3, bytes: 4, uploads: 5, upload_bytes: 6 };
    let chunk = ChunkAnswer {
        profile: ProfileId(2),
        blob_len: 300,
        chunk: Chunk { pg: PgId(9), interval: Interval(4), slots: vec![Some(DriveId(6)), None] },
        repairs: vec![(SlotIndex(1), Interval(4))],
    };
    let state = GroupState {
        write_epoch: WriteEpoch(1),
        floor: WriteEpoch(2),
        clock: Timestamp(300),
        feature_level: 4,
    };
    let due = vec![
        DueRow::CompletedUpload { epoch: WriteEpoch(1), bucket: BUCKET, key: key(), upload: UPLOAD },
        DueRow::PurgedBucket { purged: Timestamp(300), bucket: BUCKET },
    ];
    vec![
        (Answer::Counters(counters), "010c010203040506"),
        (Answer::GroupState(state), "010f0102ac0204"),
        (Answer::NoSuchBucket, "0110"),
        (Answer::BucketStats(BucketStats { counters, quota }), "011101020304050601ac0200"),
        (Answer::Chunk(Some(Box::new(chunk))), "01140102ac02090402010600010104"),
        (Answer::Due(due), "0116020001ac02016b050601ac02ac02"),
        (
            Answer::Outbox(Box::new(OutboxPage { events: vec![], trimmed: 1, last: 300, lost: 3 })),
            "01170001ac0203",
        ),
    ]
}

fn compare<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(rows: Vec<(T, &str)>) {
    let mut differing = vec![];
    for (value, expected) in rows {
        let bytes = encode(&value);
        assert_eq!(decode::<T>(&bytes).as_ref(), Ok(&value));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if hex != expected.replace([' ', '\n'], "") {
            differing.push((value, hex));
        }
    }
    assert!(differing.is_empty(), "{differing:?}");
}

#[test]
fn every_question_has_its_bytes() {
    let tags: Vec<u8> = questions().iter().map(|(query, _)| encode(query)[1]).collect();
    assert_eq!(tags, (0..=23).collect::<Vec<u8>>(), "one of each, in order");
    let beyond = decode::<Query>(&[1, 24]);
    assert!(matches!(beyond, Err(DecodeError::Malformed(postcard::Error::SerdeDeCustom))), "{beyond:?}");
    compare(questions());
}

#[test]
fn answers_have_their_bytes() {
    compare(answers());
}
