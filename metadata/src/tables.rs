//! Rows of the tables: how their keys are laid out and what their values hold. The byte tables are in
//! `docs/formats/metadata.md`; keys here, values in `record`.
//!
//! Numbers in keys are big-endian, so that rows sort by value. A bucket number leads every key of an object. Where
//! something follows an object key, the key is escaped (00 becomes 00 FF) and ended by 00 00: rows then sort by the
//! bytes of the key first, and no key's rows lie between another's.

pub mod record;

#[cfg(test)]
mod golden;

use ashlar_types::{
    BlobId, BucketId, BucketName, ChunkId, ObjectKey, PgId, RequestId, Sequence, ShardId, ShardOwner,
    SlotIndex, Timestamp, UploadId, VersionUid, WriteEpoch,
};

use crate::command::GarbageId;

/// Rows of [`Table::Meta`](crate::kv::Table::Meta).
pub const POSITION: &[u8] = b"position";
pub const GROUP: &[u8] = b"group";
/// Digests of all tables as they are.
pub const DIGESTS: &[u8] = b"digests";
/// Those of the last `DigestMark`.
pub const MARK: &[u8] = b"mark";
/// The only row of [`Table::Map`](crate::kv::Table::Map).
pub const MAP: &[u8] = b"map";

/// `Buckets`, `Counters`, `Purged`; before the keys of objects.
pub fn bucket(bucket: BucketId) -> Vec<u8> {
    bucket.0.to_be_bytes().to_vec()
}

/// `Fences`.
pub fn pg(pg: PgId) -> Vec<u8> {
    pg.0.to_be_bytes().to_vec()
}

/// `Outbox`: in the order in which events happened.
pub fn outbox(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// `Current`, `Null`: nothing follows the key.
pub fn object(bucket: BucketId, key: &ObjectKey) -> Vec<u8> {
    object_text(bucket, key.as_str())
}

/// Where keys that begin with `text`, or come after it, begin in `Current` and `Null`.
pub fn object_text(bucket: BucketId, text: &str) -> Vec<u8> {
    let mut row = self::bucket(bucket);
    row.extend_from_slice(text.as_bytes());
    row
}

/// Before all rows of a key in the tables where something follows it.
pub fn escaped(bucket: BucketId, key: &ObjectKey) -> Vec<u8> {
    escaped_end(bucket, key.as_str())
}

/// What the rows of a key that is `text` begin with.
pub fn escaped_end(bucket: BucketId, text: &str) -> Vec<u8> {
    let mut row = escaped_text(bucket, text);
    row.extend_from_slice(&[0, 0]);
    row
}

/// What the rows of keys that begin with `text` begin with.
pub fn escaped_text(bucket: BucketId, text: &str) -> Vec<u8> {
    let mut row = self::bucket(bucket);
    for byte in text.bytes() {
        row.push(byte);
        if byte == 0 {
            row.push(u8::MAX);
        }
    }
    row
}

/// `Versions`, `Inline`, `Manifest`: the newest version of a key first.
pub fn version(bucket: BucketId, key: &ObjectKey, sequence: Sequence) -> Vec<u8> {
    let mut row = escaped(bucket, key);
    row.extend_from_slice(&(!sequence.0).to_be_bytes());
    row
}

/// `Uploads`, `Completed`; before the parts: the uploads of a key as they were begun.
pub fn upload(bucket: BucketId, key: &ObjectKey, upload: UploadId) -> Vec<u8> {
    let mut row = escaped(bucket, key);
    push_upload(&mut row, upload);
    row
}

/// `Parts`.
pub fn part(bucket: BucketId, key: &ObjectKey, upload: UploadId, part_number: u16) -> Vec<u8> {
    let mut row = self::upload(bucket, key, upload);
    row.extend_from_slice(&part_number.to_be_bytes());
    row
}

/// `Owners`: the parts of an upload have one row together.
pub fn owner(bucket: BucketId, key: &ObjectKey, owner: ShardOwner) -> Vec<u8> {
    let mut row = escaped(bucket, key);
    match owner {
        ShardOwner::Version(uid) => {
            row.push(OWNER_VERSION);
            row.extend_from_slice(&uid.0.to_be_bytes());
        }
        ShardOwner::Part { upload, part_number: _ } => {
            row.push(OWNER_UPLOAD);
            push_upload(&mut row, upload);
        }
    }
    row
}

/// `Reverse`.
pub fn reverse(pg: PgId, owner: ShardOwner, chunk: ChunkId) -> Vec<u8> {
    let mut row = pg.0.to_be_bytes().to_vec();
    match owner {
        ShardOwner::Version(uid) => {
            row.push(OWNER_VERSION);
            row.extend_from_slice(&uid.0.to_be_bytes());
        }
        ShardOwner::Part { upload, part_number } => {
            row.push(OWNER_UPLOAD);
            push_upload(&mut row, upload);
            row.extend_from_slice(&part_number.to_be_bytes());
        }
    }
    row.extend_from_slice(&chunk.blob.0.to_be_bytes());
    row.extend_from_slice(&chunk.index.to_be_bytes());
    row
}

/// `Repair`.
pub fn repair(chunk: ChunkId, slot: SlotIndex) -> Vec<u8> {
    ShardId { chunk, slot }.encode().to_vec()
}

/// `Gc`: the oldest first.
pub fn garbage(id: GarbageId) -> Vec<u8> {
    let mut row = id.since.0.to_be_bytes().to_vec();
    row.extend_from_slice(&id.number.to_be_bytes());
    row
}

/// `Requests`: the oldest epoch first.
pub fn request(request: RequestId) -> Vec<u8> {
    let mut row = request.write_epoch.0.to_be_bytes().to_vec();
    row.extend_from_slice(&request.session.0.to_be_bytes());
    row.extend_from_slice(&request.sequence.to_be_bytes());
    row
}

/// `Due`: when a row of `Completed` may go.
pub fn due_completed(epoch: WriteEpoch, completed: &[u8]) -> Vec<u8> {
    let mut row = vec![DUE_COMPLETED];
    row.extend_from_slice(&epoch.0.to_be_bytes());
    row.extend_from_slice(completed);
    row
}

/// `Due`: when a row of `Purged` may go, and which.
pub fn due_purged(purged: Timestamp, bucket: BucketId) -> Vec<u8> {
    let mut row = vec![DUE_PURGED];
    row.extend_from_slice(&purged.0.to_be_bytes());
    row.extend_from_slice(&bucket.0.to_be_bytes());
    row
}

/// `Directory`: rows by name, and names by number.
pub fn directory_name(name: &BucketName) -> Vec<u8> {
    let mut row = DIRECTORY_NAMES.to_vec();
    row.extend_from_slice(name.as_str().as_bytes());
    row
}

pub fn directory_id(bucket: BucketId) -> Vec<u8> {
    let mut row = DIRECTORY_IDS.to_vec();
    row.extend_from_slice(&bucket.0.to_be_bytes());
    row
}

pub const OWNER_VERSION: u8 = 0;
pub const OWNER_UPLOAD: u8 = 1;
pub const DUE_COMPLETED: u8 = 1;
pub const DUE_PURGED: u8 = 2;
pub const DIRECTORY_NAMES: &[u8] = &[0];
pub const DIRECTORY_IDS: &[u8] = &[1];

pub fn push_upload(row: &mut Vec<u8>, upload: UploadId) {
    row.extend_from_slice(&upload.sequence.0.to_be_bytes());
    row.extend_from_slice(&upload.salt.to_be_bytes());
}

/// The object key of a row of `Current` or `Null`; `None` if the row is malformed.
pub fn parse_object(row: &[u8]) -> Option<ObjectKey> {
    ObjectKey::parse(std::str::from_utf8(row.get(BUCKET_LEN..)?).ok()?).ok()
}

/// The object key of a row where something follows it, and what follows.
pub fn parse_escaped(row: &[u8]) -> Option<(ObjectKey, &[u8])> {
    let mut rest = row.get(BUCKET_LEN..)?;
    let mut key = Vec::with_capacity(rest.len());
    loop {
        match rest {
            [0, 0, after @ ..] => {
                let key = ObjectKey::parse(std::str::from_utf8(&key).ok()?).ok()?;
                return Some((key, after));
            }
            [0, u8::MAX, after @ ..] => {
                key.push(0);
                rest = after;
            }
            [0, ..] | [] => return None,
            [byte, after @ ..] => {
                key.push(*byte);
                rest = after;
            }
        }
    }
}

/// What follows the object key of a row of `Uploads` or `Completed`.
pub fn parse_upload(after: &[u8]) -> Option<UploadId> {
    let (sequence, salt) = after.split_first_chunk::<8>()?;
    Some(UploadId {
        sequence: Sequence(u64::from_be_bytes(*sequence)),
        salt: u128::from_be_bytes(salt.try_into().ok()?),
    })
}

/// The part number that ends a row of `Parts`.
pub fn parse_part_number(row: &[u8]) -> Option<u16> {
    row.last_chunk::<2>().map(|number| u16::from_be_bytes(*number))
}

pub fn parse_repair(row: &[u8]) -> Option<(ChunkId, SlotIndex)> {
    ShardId::decode(row).map(|shard| (shard.chunk, shard.slot))
}

pub fn parse_garbage(row: &[u8]) -> Option<GarbageId> {
    let (since, number) = row.split_first_chunk::<8>()?;
    Some(GarbageId {
        since: Timestamp(u64::from_be_bytes(*since)),
        number: u64::from_be_bytes(number.try_into().ok()?),
    })
}

/// The write epoch that a row of `Requests` begins with.
pub fn parse_request_epoch(row: &[u8]) -> Option<WriteEpoch> {
    row.first_chunk::<8>().map(|epoch| WriteEpoch(u64::from_be_bytes(*epoch)))
}

/// Epoch and key of the `Completed` row of a row of `Due`.
pub fn parse_due_completed(row: &[u8]) -> Option<(WriteEpoch, &[u8])> {
    let (kind, rest) = row.split_first()?;
    let (epoch, completed) = rest.split_first_chunk::<8>()?;
    (*kind == DUE_COMPLETED).then_some((WriteEpoch(u64::from_be_bytes(*epoch)), completed))
}

pub fn parse_due_purged(row: &[u8]) -> Option<(Timestamp, BucketId)> {
    let (kind, rest) = row.split_first()?;
    let (purged, bucket) = rest.split_first_chunk::<8>()?;
    let bucket = BucketId(u64::from_be_bytes(bucket.try_into().ok()?));
    (*kind == DUE_PURGED).then_some((Timestamp(u64::from_be_bytes(*purged)), bucket))
}

pub fn parse_outbox(row: &[u8]) -> Option<u64> {
    row.try_into().ok().map(u64::from_be_bytes)
}

/// The bucket that a row of an object begins with.
pub fn parse_bucket(row: &[u8]) -> Option<BucketId> {
    row.first_chunk::<BUCKET_LEN>().map(|bucket| BucketId(u64::from_be_bytes(*bucket)))
}

pub fn parse_reverse(row: &[u8]) -> Option<(PgId, ShardOwner, ChunkId)> {
    let (pg, rest) = row.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first()?;
    let (owner, rest) = match *kind {
        OWNER_VERSION => {
            let (uid, rest) = rest.split_first_chunk::<16>()?;
            (ShardOwner::Version(VersionUid(u128::from_be_bytes(*uid))), rest)
        }
        OWNER_UPLOAD => {
            let (upload, rest) = rest.split_first_chunk::<24>()?;
            let (number, rest) = rest.split_first_chunk::<2>()?;
            let part_number = u16::from_be_bytes(*number);
            (ShardOwner::Part { upload: parse_upload(upload)?, part_number }, rest)
        }
        _ => return None,
    };
    let (blob, index) = rest.split_first_chunk::<16>()?;
    let index = u32::from_be_bytes(index.try_into().ok()?);
    let chunk = ChunkId { blob: BlobId(u128::from_be_bytes(*blob)), index };
    Some((PgId(u32::from_be_bytes(*pg)), owner, chunk))
}

const BUCKET_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn text() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec!["a", "b", "\0", "\u{1}", "/", "\u{e9}", "\u{10ffff}"]);
        vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    fn key() -> impl Strategy<Value = ObjectKey> {
        text().prop_filter_map("a key is not empty", |text| ObjectKey::parse(&text).ok())
    }

    proptest! {
        #[test]
        fn rows_sort_by_bucket_then_key_then_newest_first(
            a in (0u64..3, key(), any::<u64>()),
            b in (0u64..3, key(), any::<u64>()),
        ) {
            let row = |(bucket, key, sequence): &(u64, ObjectKey, u64)| {
                version(BucketId(*bucket), key, Sequence(*sequence))
            };
            let rank = |(bucket, key, sequence): &(u64, ObjectKey, u64)| (*bucket, key.clone(), !*sequence);
            prop_assert_eq!(row(&a).cmp(&row(&b)), rank(&a).cmp(&rank(&b)));
        }

        #[test]
        fn keys_come_back_from_their_rows(bucket: u64, key in key(), sequence: u64, salt: u128, number: u16) {
            let bucket = BucketId(bucket);
            let id = UploadId { sequence: Sequence(sequence), salt };
            prop_assert_eq!(parse_object(&object(bucket, &key)), Some(key.clone()));
            let row = upload(bucket, &key, id);
            let (parsed, after) = parse_escaped(&row).unwrap();
            prop_assert_eq!((parsed, parse_upload(after)), (key.clone(), Some(id)));
            prop_assert_eq!(parse_part_number(&part(bucket, &key, id, number)), Some(number));
            prop_assert_eq!(parse_bucket(&row), Some(bucket));
            let chunk = ChunkId { blob: BlobId(salt), index: 9 };
            for owner in [ShardOwner::Version(VersionUid(salt)), ShardOwner::Part { upload: id, part_number: number }] {
                prop_assert_eq!(parse_reverse(&reverse(PgId(7), owner, chunk)), Some((PgId(7), owner, chunk)));
            }
            let at = Timestamp(sequence);
            prop_assert_eq!(parse_due_purged(&due_purged(at, bucket)), Some((at, bucket)));
            prop_assert_eq!(parse_outbox(&outbox(sequence)), Some(sequence));
        }

        #[test]
        fn a_row_is_under_a_prefix_exactly_if_its_key_is(prefix in text(), key in key()) {
            let row = version(BucketId(1), &key, Sequence(7));
            let under = key.as_str().starts_with(&prefix);
            prop_assert_eq!(row.starts_with(&escaped_text(BucketId(1), &prefix)), under);
            let exactly = key.as_str() == prefix;
            prop_assert_eq!(row.starts_with(&escaped_end(BucketId(1), &prefix)), exactly);
        }

        #[test]
        fn malformed_rows_are_refused_and_never_panic(row in vec(any::<u8>(), 0..40)) {
            let _ = (parse_object(&row), parse_upload(&row), parse_part_number(&row), parse_repair(&row));
            let _ = (parse_garbage(&row), parse_request_epoch(&row), parse_due_completed(&row));
            let _ = (parse_due_purged(&row), parse_outbox(&row), parse_bucket(&row));
            if let Some((pg, owner, chunk)) = parse_reverse(&row) {
                prop_assert_eq!(&reverse(pg, owner, chunk), &row);
            }
            if let Some((key, after)) = parse_escaped(&row) {
                let bucket = BucketId(u64::from_be_bytes(*row.first_chunk().unwrap()));
                let mut again = escaped(bucket, &key);
                again.extend_from_slice(after);
                prop_assert_eq!(again, row);
            }
        }
    }
}
