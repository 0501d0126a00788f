//! Bytes of one command of each kind, as entries of the log and proposals carry them. A change here breaks logs that are
//! there: new commands go to the end of their enum, and changed ones are new ones.

use super::*;
use crate::encoding::{DecodeError, decode, encode};
use ashlar_placement::{Node, NodeState};
use ashlar_types::{
    Blob, BlobId, Chunk, ClusterId, EtagCondition, ExtentSource, Manifest, ManifestEntry, PgId, ProfileId,
    Sequence, SessionId, service::User,
};

const BUCKET: BucketId = BucketId(300);
const UPLOAD: UploadId = UploadId { sequence: Sequence(5), salt: 6 };
const CHUNK: ChunkId = ChunkId { blob: BlobId(0xb10b), index: 3 };
const SLOT: MissingSlot =
    MissingSlot { chunk: CHUNK, slot: SlotIndex(2), pg: PgId(9), interval: Interval(4) };

fn key() -> ObjectKey {
    ObjectKey::parse("k").unwrap()
}

fn name() -> BucketName {
    BucketName::parse("abc").unwrap()
}

fn map() -> Box<ClusterMap> {
    let node = Node { rpc: "r".into(), s3: "s".into(), labels: Labels::default(), state: NodeState::Member };
    Box::new(ClusterMap::forming(ClusterId(1), node))
}

fn metadata() -> ObjectMetadata {
    ObjectMetadata { owner: "o".into(), ..ObjectMetadata::default() }
}

fn condition() -> WriteCondition {
    WriteCondition { if_match: None, if_none_match: Some(EtagCondition::Any) }
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

fn content() -> Content {
    let source = ExtentSource::Blob { blob: blob(), offset: 0 };
    let entry = ManifestEntry { part_number: 0, len: 200, crc64: 1, source };
    Content { manifest: Manifest { entries: vec![entry] }, inline: bytes::Bytes::new() }
}

fn checksum() -> Checksum {
    Checksum::new(ChecksumAlgorithm::Crc32, &[1, 2, 3, 4]).unwrap()
}

fn any_group() -> Vec<(Command, &'static str)> {
    vec![
        (Command::AdvanceWriteEpoch { from: WriteEpoch(300) }, "0102ac02"),
        (Command::Nothing, "0103"),
        (Command::DigestMark { mark: 300 }, "0104ac02"),
        (Command::SetFeatureLevel { level: 2 }, "010502"),
    ]
}

fn system() -> Vec<(SystemCommand, &'static str)> {
    let join = JoinNode {
        token_hash: [7; 32],
        rpc: "r".into(),
        s3: "s".into(),
        labels: Labels { rack: "k".into(), zone: "z".into() },
        drives: vec![JoinDrive { uuid: DriveUuid(8), capacity_bytes: 9 }],
    };
    let user = User { id: "u".into(), display_name: "d".into(), email: "e".into() };
    vec![
        (SystemCommand::Form { map: map() }, "01000001010001010172017300000000 0000000100010101000180dddb01"),
        (
            SystemCommand::UpdateMap { expected: MapEpoch(2), map: map() },
            "01000102010100010101720173000000 000000000100010101000180dddb01",
        ),
        (
            SystemCommand::JoinNode(join),
            "0100020707070707 0707070707070707 0707070707070707 0707070707070707 0707070172017301 \
             6b017a010809",
        ),
        (
            SystemCommand::PutJoinToken { token_hash: [7; 32], expires: Timestamp(300) },
            "01000307070707070707070707070707 07070707070707070707070707070707 070707ac02",
        ),
        (
            SystemCommand::ReserveBucket {
                name: name(),
                owner: "o".into(),
                location: "l".into(),
                group: GroupId(3),
            },
            "01000403616263016f016c03",
        ),
        (SystemCommand::ActivateBucket { bucket: BUCKET }, "010005ac02"),
        (SystemCommand::RemoveBucket { bucket: BUCKET }, "010006ac02"),
        (
            SystemCommand::PutAccessKey { key: AccessKey { id: "i".into(), secret: "s".into(), user } },
            "01000701690173017501640165",
        ),
        (SystemCommand::DeleteAccessKey { id: "i".into() }, "0100080169"),
        (SystemCommand::AbandonBucket { bucket: BUCKET }, "010009ac02"),
    ]
}

fn buckets() -> Vec<(PartitionCommand, &'static str)> {
    let info = BucketInfo {
        id: BUCKET,
        name: name(),
        owner: "o".into(),
        created: Timestamp(1),
        location: String::new(),
        group: GroupId(3),
    };
    vec![
        (PartitionCommand::CreateBucket { bucket: info }, "010100ac0203616263016f010003"),
        (PartitionCommand::SealBucket { bucket: BUCKET }, "010101ac02"),
        (PartitionCommand::UnsealBucket { bucket: BUCKET }, "010102ac02"),
        (PartitionCommand::PurgeBucket { bucket: BUCKET, limit: 10 }, "010103ac020a"),
        (PartitionCommand::SetVersioning { bucket: BUCKET, versioning: Versioning::Enabled }, "010104ac0201"),
    ]
}

fn objects() -> Vec<(PartitionCommand, &'static str)> {
    let put = PutVersion {
        bucket: BUCKET,
        key: key(),
        uid: VersionUid(1),
        salt: 2,
        condition: condition(),
        metadata: metadata(),
        size: 200,
        etag: ETag::parse("e"),
        crc64: 1,
        checksum: Some(ObjectChecksum { checksum: checksum(), kind: ChecksumKind::FullObject, parts: None }),
        content: content(),
    };
    let delete = DeleteKey { key: key(), version: Some(VersionId::Null), condition: condition() };
    let create = CreateUpload {
        bucket: BUCKET,
        key: key(),
        uid: VersionUid(1),
        salt: 2,
        metadata: metadata(),
        checksum: Some((ChecksumAlgorithm::Sha256, ChecksumKind::Composite)),
        condition: condition(),
    };
    let part = PutPart {
        bucket: BUCKET,
        key: key(),
        upload: UPLOAD,
        part_number: 7,
        size: 200,
        md5: [9; 16],
        crc64: 1,
        checksum: Some(checksum()),
        content: content(),
    };
    let listed = CompletedPart { part_number: 7, etag: ETag::parse("e"), checksum: None };
    let complete = CompleteUpload {
        bucket: BUCKET,
        key: key(),
        upload: UPLOAD,
        salt: 2,
        parts: vec![listed],
        condition: condition(),
        checksum: Some(checksum()),
        checksum_kind: Some(ChecksumKind::Composite),
        size: Some(200),
    };
    vec![
        (
            PartitionCommand::PutVersion(Box::new(put)),
            "010105ac02016b01 0200010000000000 000000000000016f c801016501010004 0102030400000100 \
             c80101018be202c8 0101020304010905 020106000000",
        ),
        (
            PartitionCommand::DeleteVersions {
                bucket: BUCKET,
                keys: vec![delete],
                owner: "o".into(),
                salt: 2,
            },
            "010106ac0201016b0100000100016f02",
        ),
        (
            PartitionCommand::CreateUpload(Box::new(create)),
            "010107ac02016b010200000000000000 000000016f010401000100",
        ),
        (
            PartitionCommand::PutPart(Box::new(part)),
            "010108ac02016b05 0607c80109090909 0909090909090909 0909090901010004 010203040100c801 \
             01018be202c80101 0203040109050201 06000000",
        ),
        (
            PartitionCommand::CompleteUpload(Box::new(complete)),
            "010109ac02016b050602010701650000 010001000401020304010101c801",
        ),
        (PartitionCommand::AbortUpload { bucket: BUCKET, key: key(), upload: UPLOAD }, "01010aac02016b0506"),
    ]
}

fn shards_and_settings() -> Vec<(PartitionCommand, &'static str)> {
    let owner = ShardOwner::Part { upload: UPLOAD, part_number: 7 };
    let fill = FillSlot {
        bucket: BUCKET,
        key: key(),
        owner,
        chunk: CHUNK,
        slot: SlotIndex(2),
        interval: Interval(4),
        drive: DriveId(6),
    };
    let superseded = vec![SupersededSlot { slot: SlotIndex(2), drive: DriveId(6) }];
    let fence = FencePg { pg: PgId(9), interval: Interval(4), quorum: 5, superseded };
    vec![
        (PartitionCommand::FillSlot(fill), "01010bac02016b010506078be2020302 0406"),
        (
            PartitionCommand::ReportSlots { bucket: BUCKET, key: key(), owner, slots: vec![SLOT] },
            "01010cac02016b01050607018be20203 020904",
        ),
        (PartitionCommand::QueueGarbage { blobs: vec![blob()] }, "01010d018be202c80101020304010905 02010600"),
        (
            PartitionCommand::GarbageDone { rows: vec![GarbageId { since: Timestamp(300), number: 2 }] },
            "01010e01ac0202",
        ),
        (
            PartitionCommand::SetQuota { bucket: BUCKET, quota: Quota { bytes: Some(300), objects: None } },
            "01010fac0201ac0200",
        ),
        (PartitionCommand::FencePg(fence), "010110090405010206"),
        (PartitionCommand::SetEvents { bucket: BUCKET, recording: EventRecording::On }, "010111ac0201"),
        (PartitionCommand::SetOutboxLimits(OutboxLimits { bytes: 300, age_ms: 2 }), "010112ac0202"),
        (PartitionCommand::TrimOutbox { through: 300 }, "010113ac02"),
    ]
}

#[test]
fn every_command_has_its_bytes() {
    let partition = [buckets(), objects(), shards_and_settings()].concat();
    let commands = any_group()
        .into_iter()
        .chain(system().into_iter().map(|(command, bytes)| (Command::System(command), bytes)))
        .chain(partition.into_iter().map(|(command, bytes)| (Command::Partition(command), bytes)));
    let (mut differing, mut tags) = (vec![], std::collections::BTreeSet::new());
    for (command, expected) in commands {
        let bytes = encode(&command);
        assert_eq!(decode::<Command>(&bytes).as_ref(), Ok(&command));
        // Format version, kind of group, command.
        let is_nested = bytes[1] < 2;
        tags.insert((bytes[1], is_nested.then(|| bytes[2])));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if hex != expected.replace([' ', '\n'], "") {
            differing.push((command.name(), hex));
        }
    }
    assert!(differing.is_empty(), "{differing:#?}");
    // One of each: the tags have no gaps, and nothing comes after the last.
    for (kind, last) in [(0, 9), (1, 19)] {
        let found: Vec<_> = tags.iter().filter(|(k, _)| *k == kind).filter_map(|(_, tag)| *tag).collect();
        assert_eq!(found, (0..=last).collect::<Vec<u8>>());
        let beyond = decode::<Command>(&[1, kind, last + 1]);
        assert!(matches!(beyond, Err(DecodeError::Malformed(postcard::Error::SerdeDeCustom))), "{beyond:?}");
    }
    assert_eq!(tags.iter().filter(|(kind, _)| *kind >= 2).count(), 4);
}

#[test]
fn an_entry_carries_request_and_stamp_before_its_command() {
    let request = RequestId { write_epoch: WriteEpoch(1), session: SessionId(2), sequence: 300 };
    let entry = Entry { request: Some(request), stamp: Timestamp(4), command: Command::Nothing };
    assert_eq!(encode(&entry), [1, 1, 1, 2, 0xac, 2, 4, 3]);
    // A command that this release does not know does not decode: a replica stops there.
    assert!(decode::<Entry>(&[1, 0, 4, 6]).is_err());
    assert!(decode::<Entry>(&[1, 0, 4, 3, 1, 0]).is_err(), "nothing comes after a command");
}
