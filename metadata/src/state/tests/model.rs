//! Random commands against S3 as one would tell it: a list of versions a key.

use super::fixture::{BUCKET, Group, blob, completion, if_absent, if_match, inline, key, of_blob};
use super::steps::{Body, Condition, KEYS, Step, step};
use crate::{
    command::{CompleteUpload, Done, Entry, PartitionCommand, Refusal},
    query::{Answer, Counters, Query, VersionAnswer},
};
use ashlar_types::{
    BlobId, Content, ETag, ListEntry, ListQuery, UploadId, UploadQuery, VersionId, VersionQuery, Versioning,
    WriteCondition, limits::PART_MIN_LEN, service::Quota,
};
use proptest::{collection::vec, prelude::*};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq)]
struct Version {
    id: VersionId,
    /// `None` is a delete marker.
    object: Option<Object>,
}

#[derive(Clone, Debug, PartialEq)]
struct Object {
    etag: ETag,
    size: u64,
    blobs: Vec<BlobId>,
}

#[derive(Clone, Debug)]
struct Upload {
    key: &'static str,
    condition: Condition,
    /// What `IfMatchLatest` meant at the creation.
    tag: Option<ETag>,
    parts: BTreeMap<u16, Object>,
}

/// S3 by its manual, and the group that is to agree with it.
pub(super) struct Model {
    pub(super) group: Group,
    versioning: Versioning,
    /// The newest version last.
    keys: BTreeMap<&'static str, Vec<Version>>,
    uploads: BTreeMap<UploadId, Upload>,
    /// Uploads that were ended, to be asked for again.
    ended: Vec<(UploadId, &'static str)>,
    garbage: BTreeSet<BlobId>,
    quota: Quota,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            group: Group::new(Versioning::Unversioned),
            versioning: Versioning::Unversioned,
            keys: KEYS.into_iter().map(|key| (key, vec![])).collect(),
            uploads: BTreeMap::new(),
            ended: vec![],
            garbage: BTreeSet::new(),
            quota: Quota::default(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Put { key, body, condition } => self.put(KEYS[*key], *body, *condition),
            Step::Delete { key, condition } => self.delete(KEYS[*key], *condition),
            Step::DeleteVersion { key, which, condition } => {
                self.delete_version(KEYS[*key], *which, *condition);
            }
            Step::Versioning(versioning) => {
                self.group.set_versioning(*versioning);
                self.versioning = match (self.versioning, versioning) {
                    (Versioning::Unversioned, wanted) => *wanted,
                    (_, Versioning::Enabled) => Versioning::Enabled,
                    (_, Versioning::Unversioned | Versioning::Suspended) => Versioning::Suspended,
                };
            }
            Step::CreateUpload { key, condition } => self.create_upload(KEYS[*key], *condition),
            Step::PutPart { upload, number, body } => self.put_part(*upload, *number, *body),
            Step::Complete { upload, parts, wrong_tag, condition } => {
                self.complete(*upload, parts, *wrong_tag, *condition);
            }
            Step::Abort { upload } => self.abort(*upload),
            Step::FillSlot { which } => self.fill(*which),
            Step::ReportSlot { which } => self.report(*which),
            Step::CollectGarbage => self.collect(),
            Step::Quota { bytes, objects } => {
                self.quota = Quota { bytes: *bytes, objects: *objects };
                let command = PartitionCommand::SetQuota { bucket: BUCKET, quota: self.quota };
                self.group.run(command).unwrap();
            }
            Step::Retry => self.retry(),
        }
        self.compare();
    }

    fn latest(&self, key: &str) -> Option<&Object> {
        self.keys[key].last().and_then(|version| version.object.as_ref())
    }

    fn latest_tag(&self, key: &str) -> Option<ETag> {
        self.latest(key).map(|object| object.etag.clone())
    }

    fn condition(&self, condition: Condition, tag: Option<&ETag>) -> WriteCondition {
        match condition {
            Condition::None => WriteCondition::default(),
            // Without an object it names a tag that nothing has.
            Condition::IfMatchLatest => if_match(tag.unwrap_or(&ETag::parse("none"))),
            Condition::IfMatchOther => if_match(&ETag::parse("other")),
            Condition::IfAbsent => if_absent(),
        }
    }

    /// What a write under a condition comes to; `tag` is what `IfMatchLatest` was given.
    fn refusal(&self, key: &str, condition: Condition, tag: Option<&ETag>) -> Option<Refusal> {
        let latest = self.latest_tag(key);
        let absent = || {
            let delete_marker =
                self.keys[key].last().filter(|version| version.object.is_none()).map(|version| version.id);
            Some(Refusal::NoSuchKey { delete_marker })
        };
        match (condition, latest) {
            (Condition::None, _) | (Condition::IfAbsent, None) => None,
            (Condition::IfMatchLatest | Condition::IfMatchOther, None) => absent(),
            (Condition::IfMatchLatest, Some(latest)) if tag == Some(&latest) => None,
            (Condition::IfMatchLatest | Condition::IfMatchOther | Condition::IfAbsent, Some(_)) => {
                Some(Refusal::PreconditionFailed)
            }
        }
    }

    /// Whether a write may be done: `more` is what the bucket would hold then, in bytes and in objects.
    fn quota_refusal(&self, more: (u64, u64)) -> Option<Refusal> {
        let now = self.expected_counters();
        let now = (now.bytes + now.upload_bytes, now.objects + now.noncurrent);
        let over = |max: Option<u64>, now, more| max.is_some_and(|max| more > max && more > now);
        let over = over(self.quota.bytes, now.0, more.0) || over(self.quota.objects, now.1, more.1);
        over.then_some(Refusal::QuotaExceeded)
    }

    /// Bytes and objects that the bucket would hold with one more object at a key.
    fn with_object(&self, key: &str, size: u64) -> (u64, u64) {
        let mut counters = self.expected_counters();
        if self.versioning != Versioning::Enabled {
            let null = self.keys[key].iter().find(|version| version.id == VersionId::Null);
            if let Some(object) = null.and_then(|version| version.object.as_ref()) {
                counters.bytes -= object.size;
                counters.objects -= 1;
            }
        }
        let objects = counters.objects + counters.noncurrent + 1;
        (counters.bytes + counters.upload_bytes + size, objects)
    }

    fn content(&mut self, body: Body) -> (Content, Vec<BlobId>) {
        let id = self.group.fresh();
        let blob = match body {
            Body::Empty => return (Content::default(), vec![]),
            Body::Inline => return (inline(b"inline"), vec![]),
            Body::Blob => blob(id, 20_000, &[&[true, true, true]]),
            Body::ShortBlob => blob(id, 30_000, &[&[true, false, true], &[true, true, false]]),
            Body::LargePart => blob(id, PART_MIN_LEN, &[&[true, true, true]]),
        };
        (of_blob(&blob), vec![blob.id])
    }

    fn put(&mut self, key: &'static str, body: Body, condition: Condition) {
        let (content, blobs) = self.content(body);
        let tag = self.latest_tag(key);
        let wanted = self.condition(condition, tag.as_ref());
        let size = content.manifest.len();
        let result = self.group.try_put(key, content, wanted);
        let refusal = self.refusal(key, condition, tag.as_ref());
        if let Some(refusal) = refusal.or_else(|| self.quota_refusal(self.with_object(key, size))) {
            assert_eq!(result, Err(refusal));
            self.garbage.extend(blobs);
            return;
        }
        let written = result.unwrap();
        assert_eq!(written.last_modified.0, self.group.now);
        self.push(key, written.version_id, Some(Object { etag: written.etag, size, blobs }));
    }

    /// A new latest version; `shown` is what the writer was told.
    fn push(&mut self, key: &'static str, shown: Option<VersionId>, object: Option<Object>) {
        let id = match self.versioning {
            Versioning::Enabled => {
                let id = shown.expect("a version id is shown");
                assert!(matches!(id, VersionId::Id { .. }));
                let known = self.keys.values().flatten().any(|version| version.id == id);
                assert!(!known, "a version id is given once");
                id
            }
            Versioning::Suspended => {
                assert_eq!(shown, Some(VersionId::Null));
                VersionId::Null
            }
            Versioning::Unversioned => {
                assert_eq!(shown, None);
                VersionId::Null
            }
        };
        if id == VersionId::Null {
            self.remove(key, VersionId::Null);
        }
        self.keys.get_mut(key).unwrap().push(Version { id, object });
    }

    fn remove(&mut self, key: &str, id: VersionId) -> Option<Version> {
        let versions = self.keys.get_mut(key).unwrap();
        let index = versions.iter().position(|version| version.id == id)?;
        let removed = versions.remove(index);
        self.garbage.extend(removed.object.iter().flat_map(|object| object.blobs.iter().copied()));
        Some(removed)
    }

    fn delete(&mut self, key: &'static str, condition: Condition) {
        let tag = self.latest_tag(key);
        let wanted = self.condition(condition, tag.as_ref());
        let result = self.group.delete_if(key, None, wanted);
        match self.refusal(key, condition, tag.as_ref()) {
            Some(Refusal::NoSuchKey { .. }) => {
                assert_eq!(result.unwrap().delete_marker, None);
                return;
            }
            Some(refusal) => {
                assert_eq!(result, Err(refusal));
                return;
            }
            None => {}
        }
        let deleted = result.unwrap();
        assert_eq!((deleted.key, deleted.version_id), (super::fixture::key(key), None));
        match self.versioning {
            Versioning::Unversioned => {
                assert_eq!(deleted.delete_marker, None);
                self.remove(key, VersionId::Null);
            }
            Versioning::Enabled | Versioning::Suspended => self.push(key, deleted.delete_marker, None),
        }
    }

    fn delete_version(&mut self, key: &'static str, which: usize, condition: Condition) {
        // Sometimes a version that is not there.
        let mut ids: Vec<VersionId> = self.keys[key].iter().map(|version| version.id).collect();
        ids.extend([VersionId::Null, VersionId::Id { sequence: ashlar_types::Sequence(1), salt: 9 }]);
        let id = ids[which % ids.len()];
        let found = self.keys[key].iter().find(|version| version.id == id).cloned();
        let tag =
            found.as_ref().and_then(|version| version.object.as_ref()).map(|object| object.etag.clone());
        let wanted = self.condition(condition, tag.as_ref());
        let result = self.group.delete_if(key, Some(id), wanted);
        let applies = match (condition, &tag) {
            (Condition::None, _) | (Condition::IfMatchLatest, Some(_)) | (Condition::IfAbsent, None) => true,
            (Condition::IfMatchLatest | Condition::IfMatchOther, None) => false,
            (Condition::IfMatchOther | Condition::IfAbsent, Some(_)) => {
                assert_eq!(result, Err(Refusal::PreconditionFailed));
                return;
            }
        };
        let deleted = result.unwrap();
        assert_eq!(deleted.version_id, Some(id));
        let removed = if applies { self.remove(key, id) } else { None };
        let marker = removed.filter(|version| version.object.is_none()).map(|version| version.id);
        assert_eq!(deleted.delete_marker, marker);
    }

    fn create_upload(&mut self, key: &'static str, condition: Condition) {
        let tag = self.latest_tag(key);
        let wanted = self.condition(condition, tag.as_ref());
        let result = self.group.try_create_upload(key, None, wanted);
        if let Some(refusal) = self.refusal(key, condition, tag.as_ref()) {
            assert_eq!(result, Err(refusal));
            return;
        }
        let upload = result.unwrap();
        let later = self.uploads.keys().all(|known| *known < upload);
        assert!(later, "upload ids order by initiation");
        self.uploads.insert(upload, Upload { key, condition, tag, parts: BTreeMap::new() });
    }

    /// One of the uploads that are open, or were.
    fn pick_upload(&self, which: usize) -> Option<(UploadId, &'static str)> {
        let open = self.uploads.iter().map(|(id, upload)| (*id, upload.key));
        let all: Vec<_> = open.chain(self.ended.iter().copied()).collect();
        (!all.is_empty()).then(|| all[which % all.len()])
    }

    fn put_part(&mut self, which: usize, number: u16, body: Body) {
        let Some((upload, key)) = self.pick_upload(which) else { return };
        let (content, blobs) = self.content(body);
        let size = content.manifest.len();
        let result = self.group.put_part(key, upload, number, content);
        let Some(open) = self.uploads.get(&upload) else {
            assert_eq!(result, Err(Refusal::NoSuchUpload));
            self.garbage.extend(blobs);
            return;
        };
        let replaced = open.parts.get(&number).map_or(0, |part| part.size);
        let now = self.expected_counters();
        let bytes = now.bytes + now.upload_bytes - replaced + size;
        if let Some(refusal) = self.quota_refusal((bytes, now.objects + now.noncurrent)) {
            assert_eq!(result, Err(refusal));
            self.garbage.extend(blobs);
            return;
        }
        let part = Object { etag: result.unwrap(), size, blobs };
        let open = self.uploads.get_mut(&upload).expect("it was found above");
        if let Some(replaced) = open.parts.insert(number, part) {
            self.garbage.extend(replaced.blobs);
        }
    }

    fn complete(&mut self, which: usize, numbers: &[u16], wrong_tag: bool, condition: Condition) {
        let Some((upload, key)) = self.pick_upload(which) else { return };
        let parts = self.uploads.get(&upload).map(|open| open.parts.clone()).unwrap_or_default();
        let mut listed: Vec<(u16, ETag)> = numbers
            .iter()
            .map(|number| (*number, parts.get(number).map_or(ETag::parse("none"), |part| part.etag.clone())))
            .collect();
        if let (true, Some(last)) = (wrong_tag, listed.last_mut()) {
            last.1 = ETag::parse("wrong");
        }
        let tag = self.latest_tag(key);
        let wanted = self.condition(condition, tag.as_ref());
        let complete = CompleteUpload { condition: wanted, ..completion(key, upload, &listed) };
        let result = self.group.complete(complete.clone());
        let Some(open) = self.uploads.get(&upload).cloned() else {
            assert_eq!(result, Err(Refusal::NoSuchUpload));
            return;
        };
        let bad_part =
            listed.iter().find(|(number, etag)| parts.get(number).is_none_or(|part| part.etag != *etag));
        let objects: Vec<_> = numbers.iter().filter_map(|number| parts.get(number).cloned()).collect();
        let refusal = if numbers.is_empty() {
            Some(Refusal::InvalidPart { part_number: 0 })
        } else if numbers.windows(2).any(|pair| pair[0] >= pair[1]) {
            Some(Refusal::InvalidPartOrder)
        } else if let Some((part_number, _)) = bad_part {
            Some(Refusal::InvalidPart { part_number: *part_number })
        } else if let Some(small) =
            objects[..objects.len() - 1].iter().position(|part| part.size < PART_MIN_LEN)
        {
            Some(Refusal::EntityTooSmall { part_number: numbers[small] })
        } else {
            self.refusal(key, open.condition, open.tag.as_ref())
                .or_else(|| self.refusal(key, condition, tag.as_ref()))
                // Its bytes are in the bucket already.
                .or_else(|| self.quota_refusal((0, self.with_object(key, 0).1)))
        };
        if let Some(refusal) = refusal {
            assert_eq!(result, Err(refusal));
            return;
        }
        let written = result.unwrap();
        assert!(written.etag.as_str().ends_with(&format!("-{}", numbers.len())));
        self.uploads.remove(&upload);
        self.ended.push((upload, key));
        for (number, part) in open.parts {
            if !numbers.contains(&number) {
                self.garbage.extend(part.blobs);
            }
        }
        let object = Object {
            etag: written.etag.clone(),
            size: objects.iter().map(|part| part.size).sum(),
            blobs: objects.into_iter().flat_map(|part| part.blobs).collect(),
        };
        self.push(key, written.version_id, Some(object));
        // Asked again, whatever the condition would say now.
        assert_eq!(self.group.complete(complete), Ok(written));
    }

    fn abort(&mut self, which: usize) {
        let Some((upload, key)) = self.pick_upload(which) else { return };
        let result = self.group.abort(key, upload);
        let Some(open) = self.uploads.remove(&upload) else {
            assert_eq!(result, Err(Refusal::NoSuchUpload));
            return;
        };
        assert_eq!(result, Ok(Done::Nothing));
        self.ended.push((upload, key));
        self.garbage.extend(open.parts.into_values().flat_map(|part| part.blobs));
    }

    /// Repairs one of the slots that are to be repaired.
    fn fill(&mut self, which: usize) {
        let rows = self.group.repairs();
        let Some(row) = rows.get(which % rows.len().max(1)) else { return };
        let fill = crate::command::FillSlot {
            bucket: row.bucket,
            key: row.key.clone(),
            owner: row.owner,
            chunk: row.slot.chunk,
            slot: row.slot.slot,
            interval: row.slot.interval,
            drive: ashlar_types::DriveId(50),
        };
        assert_eq!(self.group.run(PartitionCommand::FillSlot(fill.clone())), Ok(Done::Nothing));
        assert_eq!(self.group.repairs().len(), rows.len() - 1);
        // Another repairer comes late: its shard is not wanted.
        let late = crate::command::FillSlot { drive: ashlar_types::DriveId(51), ..fill };
        assert_eq!(self.group.run(PartitionCommand::FillSlot(late)), Err(Refusal::NoSuchVersion));
    }

    /// A reader finds a bad shard of some version.
    fn report(&mut self, which: usize) {
        let with_blobs: Vec<_> =
            self.keys
                .iter()
                .flat_map(|(key, versions)| versions.iter().map(move |version| (*key, version.id)))
                .filter_map(|(key, id)| match self.group.get(key, Some(id)) {
                    VersionAnswer::Found { info, content: Some(content), .. } => {
                        let entry =
                            content.manifest.entries.iter().find(|entry| {
                                matches!(entry.source, ashlar_types::ExtentSource::Blob { .. })
                            })?;
                        let blob = content.manifest.blobs().next()?.clone();
                        Some((key, info, entry.part_number, blob))
                    }
                    _ => None,
                })
                .collect();
        let Some((key, info, part_number, blob)) = with_blobs.get(which % with_blobs.len().max(1)) else {
            return;
        };
        let upload = self.ended.iter().map(|(upload, _)| *upload).find(|upload| {
            info.parts_count.is_some() && {
                let owner = ashlar_types::ShardOwner::Part { upload: *upload, part_number: *part_number };
                self.owns(key, owner)
            }
        });
        // More than one upload of a key may have been completed: the report then goes nowhere, or to another.
        let owner = match (info.parts_count, upload) {
            (None, _) => ashlar_types::ShardOwner::Version(info.uid),
            (Some(_), Some(upload)) => ashlar_types::ShardOwner::Part { upload, part_number: *part_number },
            (Some(_), None) => return,
        };
        let slot = ashlar_types::MissingSlot {
            chunk: ashlar_types::ChunkId { blob: blob.id, index: 0 },
            slot: ashlar_types::SlotIndex(u8::try_from(which % 4).unwrap()),
            pg: blob.chunks[0].pg,
            interval: ashlar_types::Interval(4),
        };
        let command = PartitionCommand::ReportSlots {
            bucket: BUCKET,
            key: super::fixture::key(key),
            owner,
            slots: vec![slot],
        };
        assert_eq!(self.group.run(command), Ok(Done::Nothing));
    }

    fn owns(&self, key: &str, owner: ashlar_types::ShardOwner) -> bool {
        use crate::kv::KvRead;
        let row = crate::tables::owner(BUCKET, &super::fixture::key(key), owner);
        self.group.kv.get(crate::kv::Table::Owners, &row).unwrap().is_some()
    }

    fn collect(&mut self) {
        let Answer::Garbage(rows) =
            self.group.query(Query::Garbage { before: ashlar_types::Timestamp(self.group.now), limit: 3 })
        else {
            panic!("no garbage answer")
        };
        for blob in rows.iter().flat_map(|row| &row.blobs) {
            assert!(self.garbage.remove(&blob.id));
        }
        let rows = rows.into_iter().map(|row| row.id).collect();
        self.group.run(PartitionCommand::GarbageDone { rows }).unwrap();
    }

    /// The same request again changes nothing and answers the same.
    fn retry(&mut self) {
        let Some(entry) = self.group.entries.last().cloned() else { return };
        let before = super::fixture::dump(&self.group.kv);
        let replay = Entry { stamp: ashlar_types::Timestamp(0), ..entry.clone() };
        let outcome = self.group.apply(replay);
        self.group.entries.pop();
        let mut after = super::fixture::dump(&self.group.kv);
        let position = (crate::kv::Table::Meta, crate::tables::POSITION.to_vec());
        after.insert(position.clone(), before[&position].clone());
        assert_eq!(after, before);
        let row = (crate::kv::Table::Requests, crate::tables::request(entry.request.unwrap()));
        assert_eq!(crate::encoding::decode_row(&before[&row]), Ok(outcome));
    }

    fn compare(&self) {
        self.compare_versions();
        self.compare_uploads();
        self.compare_counters();
        let garbage: BTreeSet<BlobId> = self.group.garbage().into_iter().flatten().collect();
        assert_eq!(garbage, self.garbage);
    }

    fn compare_versions(&self) {
        let query = ListQuery { max_entries: 1000, ..ListQuery::default() };
        let Answer::List(listed) = self.group.query(Query::List { bucket: BUCKET, query }) else {
            panic!("no list answer")
        };
        let live: Vec<_> = self.keys.keys().filter(|key| self.latest(key).is_some()).copied().collect();
        let seen: Vec<_> = listed.entries.iter().map(|entry| shown(entry).0).collect();
        assert_eq!(seen, live);

        let query = VersionQuery { max_entries: 1000, ..VersionQuery::default() };
        let Answer::Versions(listed) = self.group.query(Query::Versions { bucket: BUCKET, query }) else {
            panic!("no versions answer")
        };
        let mut expected = vec![];
        for (key, versions) in &self.keys {
            for (index, version) in versions.iter().enumerate().rev() {
                let is_latest = index + 1 == versions.len();
                expected.push((*key, version.id, is_latest, version.object.is_none()));
                let answer = self.group.get(key, Some(version.id));
                self.compare_version(&answer, version, is_latest);
                if is_latest && version.object.is_some() {
                    assert_eq!(self.group.get(key, None), answer);
                }
            }
            if self.latest(key).is_none() {
                let delete_marker = versions.last().map(|marker| marker.id);
                assert_eq!(self.group.get(key, None), VersionAnswer::NoSuchKey { delete_marker });
            }
        }
        assert_eq!(listed.entries.iter().map(shown).collect::<Vec<_>>(), expected);
    }

    fn compare_version(&self, answer: &VersionAnswer, version: &Version, is_latest: bool) {
        let VersionAnswer::Found { info, content, versioning, .. } = answer else {
            panic!("{version:?} is not found: {answer:?}")
        };
        assert_eq!(*versioning, self.versioning);
        assert_eq!((info.version_id, info.is_latest), (version.id, is_latest));
        assert_eq!(info.delete_marker, version.object.is_none());
        let Some(object) = &version.object else { return };
        let content = content.as_ref().unwrap();
        assert_eq!((&info.etag, info.size), (&object.etag, object.size));
        assert_eq!(content.manifest.len(), object.size);
        let blobs: Vec<_> = content.manifest.blobs().map(|blob| blob.id).collect();
        assert_eq!(blobs, object.blobs);
    }

    fn compare_uploads(&self) {
        let query = UploadQuery { max_entries: 1000, ..UploadQuery::default() };
        let Answer::Uploads(listed) = self.group.query(Query::Uploads { bucket: BUCKET, query }) else {
            panic!("no uploads answer")
        };
        let mut expected: Vec<_> = self.uploads.iter().map(|(id, upload)| (upload.key, *id)).collect();
        expected.sort_unstable();
        let seen: Vec<_> = listed.uploads.iter().map(|info| (info.key.as_str(), info.upload)).collect();
        assert_eq!(seen, expected);
        for (id, upload) in &self.uploads {
            let query =
                Query::Parts { bucket: BUCKET, key: key(upload.key), upload: *id, after: 0, limit: 100 };
            let Answer::Parts(Some(answer)) = self.group.query(query) else { panic!("no parts answer") };
            let seen: Vec<_> =
                answer.parts.iter().map(|part| (part.part_number, part.size, part.etag.clone())).collect();
            let expected: Vec<_> =
                upload.parts.iter().map(|(number, part)| (*number, part.size, part.etag.clone())).collect();
            assert_eq!(seen, expected);
        }
    }

    fn compare_counters(&self) {
        assert_eq!(self.group.counters(), self.expected_counters());
    }

    fn expected_counters(&self) -> Counters {
        let mut expected = Counters { uploads: self.uploads.len() as u64, ..Counters::default() };
        for versions in self.keys.values() {
            for (index, version) in versions.iter().enumerate() {
                match &version.object {
                    None => expected.delete_markers += 1,
                    Some(_) if index + 1 == versions.len() => expected.objects += 1,
                    Some(_) => expected.noncurrent += 1,
                }
                expected.bytes += version.object.as_ref().map_or(0, |object| object.size);
            }
        }
        let parts = self.uploads.values().flat_map(|upload| upload.parts.values());
        expected.upload_bytes = parts.map(|part| part.size).sum();
        expected
    }
}

fn shown(entry: &ListEntry) -> (&str, VersionId, bool, bool) {
    match entry {
        ListEntry::Object(info) => (info.key.as_str(), info.version_id, info.is_latest, info.delete_marker),
        ListEntry::CommonPrefix(prefix) => panic!("{prefix} without a delimiter"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn random_commands_do_what_the_manual_of_s3_says(steps in vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
    }
}
