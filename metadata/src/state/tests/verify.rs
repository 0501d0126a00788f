//! The invariants of the tables, checked from nothing but the rows.

use super::fixture::{Dump, dump};
use crate::{
    encoding::{Extensions, Row, decode_row as decode},
    kv::{KvRead, Table},
    query::Counters,
    state::digest::Digests,
    tables::{
        self,
        record::{
            CounterRecord, GarbageRecord, ManifestRecord, PartRecord, RepairRecord, ReverseRecord, Stored,
            VersionBody, VersionRecord,
        },
    },
};
use ashlar_types::{
    Blob, BlobId, BucketId, ChunkId, ExtentSource, Manifest, ObjectKey, Sequence, ShardOwner, SlotIndex,
};
use std::collections::{BTreeMap, BTreeSet};

/// Rows that follow from others, rebuilt from those.
#[derive(Default)]
struct Derived {
    rows: BTreeMap<Table, BTreeSet<Vec<u8>>>,
    counters: BTreeMap<BucketId, Counters>,
    blobs: BTreeMap<BlobId, usize>,
    reverse: BTreeMap<Vec<u8>, ReverseRecord>,
    /// Every slot of every chunk with its drive.
    slots: BTreeMap<Vec<u8>, (RepairRecord, bool)>,
}

pub(super) fn verify(kv: &dyn KvRead) {
    let dump = dump(kv);
    digests(kv, &dump);
    let mut derived = Derived::default();
    versions(&dump, &mut derived);
    uploads(&dump, &mut derived);
    for (_, blobs) in rows::<GarbageRecord>(&dump, Table::Gc) {
        for blob in blobs {
            *derived.blobs.entry(blob.id).or_default() += 1;
        }
    }
    let twice: Vec<_> = derived.blobs.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "named more than once: {twice:?}");
    for table in [Table::Null, Table::Inline, Table::Manifest, Table::Owners] {
        let stored: BTreeSet<_> =
            dump.keys().filter(|(t, _)| *t == table).map(|(_, key)| key.clone()).collect();
        assert_eq!(stored, derived.rows.remove(&table).unwrap_or_default(), "rows of {table:?}");
    }
    let reverse: BTreeMap<_, _> = rows(&dump, Table::Reverse).collect();
    assert_eq!(reverse, derived.reverse, "reverse index");
    repairs(&dump, &derived);
    for (row, record) in rows::<CounterRecord>(&dump, Table::Counters) {
        let bucket = bucket_of(&row);
        assert_eq!(record.counters, derived.counters.remove(&bucket).unwrap_or_default(), "counters");
    }
    assert_eq!(derived.counters, BTreeMap::new(), "buckets without counters");
    for (table, row) in dump.keys().filter(|(table, _)| *table == Table::Completed) {
        let due = dump.keys().filter(|(t, key)| {
            *t == Table::Due
                && tables::parse_due_completed(key).is_some_and(|(_, completed)| completed == row)
        });
        assert_eq!(due.count(), 1, "{table:?} row without its end");
    }
}

fn digests(kv: &dyn KvRead, dump: &Dump) {
    let kept: Digests = decode(&dump[&(Table::Meta, tables::DIGESTS.to_vec())]).unwrap();
    assert_eq!(kept, Digests::of_all(kv).unwrap());
}

fn rows<T: Row>(dump: &Dump, table: Table) -> impl Iterator<Item = (Vec<u8>, T)> {
    dump.iter()
        .filter(move |((t, _), _)| *t == table)
        .map(move |((_, key), value)| (key.clone(), decode(value).unwrap()))
}

fn bucket_of(row: &[u8]) -> BucketId {
    BucketId(u64::from_be_bytes(*row.first_chunk().unwrap()))
}

fn versions(dump: &Dump, derived: &mut Derived) {
    let mut keys: BTreeMap<(BucketId, ObjectKey), Vec<(VersionRecord, bool)>> = BTreeMap::new();
    for (row, record) in rows::<VersionRecord>(dump, Table::Current) {
        let key = (bucket_of(&row), tables::parse_object(&row).unwrap());
        assert!(!record.is_delete_marker(), "a delete marker in Current: {key:?}");
        keys.entry(key).or_default().push((record, true));
    }
    for (row, record) in rows::<VersionRecord>(dump, Table::Versions) {
        let (key, sequence) = tables::parse_escaped(&row).unwrap();
        assert_eq!(sequence, (!record.sequence.0).to_be_bytes());
        keys.entry((bucket_of(&row), key)).or_default().push((record, false));
    }
    for ((bucket, key), mut versions) in keys {
        versions.sort_by_key(|(record, _)| record.sequence);
        let last = versions.len() - 1;
        let mut nulls = 0;
        for (index, (record, current)) in versions.into_iter().enumerate() {
            let latest = index == last;
            assert_eq!(record.noncurrent_since.is_none(), latest, "{key}: {record:?}");
            assert_eq!(current, latest && !record.is_delete_marker(), "{key}: {record:?}");
            if record.is_null() {
                nulls += 1;
                if !current {
                    derived.rows.entry(Table::Null).or_default().insert(tables::object(bucket, &key));
                    let stored = dump.get(&(Table::Null, tables::object(bucket, &key))).expect("null row");
                    assert_eq!(decode::<Sequence>(stored), Ok(record.sequence));
                }
            }
            let counters = derived.counters.entry(bucket).or_default();
            match (&record.body, current) {
                (VersionBody::DeleteMarker { .. }, _) => counters.delete_markers += 1,
                (VersionBody::Object(_), true) => counters.objects += 1,
                (VersionBody::Object(_), false) => counters.noncurrent += 1,
            }
            counters.bytes += record.size();
            content(dump, derived, bucket, &key, &record);
        }
        assert!(nulls <= 1, "{key} has {nulls} null versions");
    }
}

fn content(dump: &Dump, derived: &mut Derived, bucket: BucketId, key: &ObjectKey, record: &VersionRecord) {
    let Some(object) = record.object() else { return };
    let row = tables::version(bucket, key, record.sequence);
    let inline_len = dump.get(&(Table::Inline, row.clone())).map(|bytes| bytes.len() as u64);
    match object.stored {
        Stored::Nothing => assert_eq!(object.size, 0),
        Stored::Inline => {
            assert_eq!(inline_len, Some(object.size));
            derived.rows.entry(Table::Inline).or_default().insert(row);
        }
        Stored::Manifest => {
            let record: ManifestRecord = decode(&dump[&(Table::Manifest, row.clone())]).unwrap();
            assert_eq!(record.manifest.len(), object.size);
            check_inline(&record.manifest, inline_len.unwrap_or(0));
            let owner = tables::owner(bucket, key, object.owner(0));
            assert!(dump.contains_key(&(Table::Owners, owner.clone())));
            derived.rows.entry(Table::Owners).or_default().insert(owner);
            derived.rows.entry(Table::Manifest).or_default().insert(row.clone());
            if inline_len.is_some() {
                derived.rows.entry(Table::Inline).or_default().insert(row);
            }
            for entry in &record.manifest.entries {
                if let ExtentSource::Blob { blob, .. } = &entry.source {
                    named(derived, bucket, key, object.owner(entry.part_number), blob);
                }
            }
        }
    }
}

/// Inline entries cover the inline bytes, each once, in order.
fn check_inline(manifest: &Manifest, len: u64) {
    let mut at = 0;
    for entry in &manifest.entries {
        if let ExtentSource::Inline { offset } = entry.source {
            assert_eq!(u64::from(offset), at);
            at += entry.len;
        }
    }
    assert_eq!(at, len);
}

fn uploads(dump: &Dump, derived: &mut Derived) {
    for (table, row) in dump.keys().filter(|(table, _)| *table == Table::Uploads) {
        assert!(tables::parse_escaped(row).is_some(), "{table:?}");
        derived.counters.entry(bucket_of(row)).or_default().uploads += 1;
    }
    for (row, part) in rows::<PartRecord>(dump, Table::Parts) {
        let bucket = bucket_of(&row);
        let (key, after) = tables::parse_escaped(&row).unwrap();
        let (upload, number) = after.split_last_chunk::<2>().unwrap();
        let upload = tables::parse_upload(upload).unwrap();
        assert!(dump.contains_key(&(Table::Uploads, tables::upload(bucket, &key, upload))));
        derived.counters.entry(bucket).or_default().upload_bytes += part.size;
        assert_eq!(part.content.manifest.len(), part.size);
        check_inline(&part.content.manifest, part.content.inline.len() as u64);
        let owner = ShardOwner::Part { upload, part_number: u16::from_be_bytes(*number) };
        for blob in part.content.manifest.blobs() {
            named(derived, bucket, &key, owner, blob);
        }
    }
}

fn named(derived: &mut Derived, bucket: BucketId, key: &ObjectKey, owner: ShardOwner, blob: &Blob) {
    *derived.blobs.entry(blob.id).or_default() += 1;
    for (chunk, index) in blob.chunks.iter().zip(0u32..) {
        let id = ChunkId { blob: blob.id, index };
        let record = ReverseRecord { bucket, key: key.clone() };
        derived.reverse.insert(tables::reverse(chunk.pg, owner, id), record);
        for (drive, slot) in chunk.slots.iter().zip(0u8..) {
            let repair = RepairRecord {
                pg: chunk.pg,
                interval: chunk.interval,
                bucket,
                key: key.clone(),
                owner,
                bad_drive: *drive,
                kept: Extensions::default(),
            };
            derived.slots.insert(tables::repair(id, SlotIndex(slot)), (repair, drive.is_none()));
        }
    }
}

/// Every empty slot has a row; a row names a slot that is there, with the drive that the manifest names.
fn repairs(dump: &Dump, derived: &Derived) {
    let stored: BTreeMap<_, RepairRecord> = rows(dump, Table::Repair).collect();
    for (row, (_, empty)) in &derived.slots {
        assert!(!empty || stored.contains_key(row), "an empty slot without a repair row");
    }
    for (row, mut record) in stored {
        let (slot, _) = derived.slots.get(&row).expect("a repair row of a chunk that is gone");
        assert!(record.interval >= slot.interval);
        record.interval = slot.interval;
        assert_eq!(record, *slot);
    }
}
