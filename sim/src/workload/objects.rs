//! Puts, gets, deletes and listings.

use super::{
    caller::{Caller, Pace, refused},
    words,
};
use crate::check::history::{
    Body, Condition, ListCall, Listed, ListedVersion, ObjectPage, Operation, Outcome, Place, Reply,
    UploadPage, VersionPage,
};
use ashlar_metadata::{
    command::{Command, Done, PartitionCommand, PutVersion},
    query::{Answer, ContentWanted, Query, VersionAnswer},
};
use ashlar_types::{
    Content, ListEntry, ListQuery, ObjectMetadata, UploadQuery, VersionInfo, VersionQuery, VersionUid,
    Versioning, service::DeleteKey,
};

impl Caller {
    fn place(&mut self, bucket: usize) -> Place {
        let slot = self.seed.below(self.shared.slots);
        let calls_per_key = self.shared.calls_per_key;
        self.shared.plan().place(bucket, slot, calls_per_key)
    }

    pub(super) fn some_condition(&mut self, place: &Place) -> Condition {
        match self.seed.below(10) {
            0..6 => Condition::Nothing,
            6..8 => Condition::Absent,
            _ => match self.shared.plan().seen.get(place) {
                Some(body) => Condition::Is(body.clone()),
                None => Condition::Absent,
            },
        }
    }

    pub(super) fn saw(&self, place: &Place, body: &Body) {
        self.shared.plan().seen.insert(place.clone(), body.clone());
    }

    pub(super) async fn put(&mut self, pace: Pace) {
        let (index, bucket) = self.bucket();
        let place = self.place(index);
        let condition = self.some_condition(&place);
        let value = self.shared.plan().value();
        let (size, content) = if self.seed.chance(70) {
            words::inline(value, 0)
        } else {
            let Ok(request) = self.metadata.begin(bucket.info.group).await else { return };
            words::blob(value, 0, bucket.info.group, request.write_epoch)
        };
        let command = PartitionCommand::PutVersion(Box::new(PutVersion {
            bucket: bucket.info.id,
            key: words::key(&place.key),
            uid: VersionUid(self.seed.u128()),
            salt: self.seed.u128(),
            condition: words::condition(&condition),
            metadata: ObjectMetadata::default(),
            size,
            etag: words::tag(value),
            crc64: value.0,
            checksum: None,
            content,
        }));
        let pending = self.invoke(Operation::Put { place: place.clone(), value, condition });
        let outcome = match self.propose(bucket.info.group, Command::Partition(command), pace).await {
            Err(failed) => failed.into(),
            Ok(Ok(Done::Written(written))) => {
                let version = written.version_id.map(words::version_name);
                if let Some(version) = &version {
                    self.remember_version(&place, version);
                }
                self.saw(&place, &Body::One(value));
                Outcome::Done(Reply::Written { version })
            }
            Ok(Ok(other)) => {
                self.odd(format!("a put was answered {other:?}"));
                Outcome::Unknown
            }
            Ok(Err(refusal)) => match refused(&refusal) {
                Some(reply) => Outcome::Done(reply),
                None => self.unexpected("a put", &refusal),
            },
        };
        self.finish(pending, outcome);
    }

    pub(super) async fn get(&mut self) {
        let (index, bucket) = self.bucket();
        let place = self.place(index);
        let version = if self.seed.chance(15) {
            let known = self.shared.plan().versions.get(&place).cloned().unwrap_or_default();
            self.seed.pick(&known).cloned()
        } else {
            None
        };
        let query = Query::Version {
            bucket: bucket.info.id,
            key: words::key(&place.key),
            version: version.as_ref().and_then(words::version_id),
            content: ContentWanted::Yes,
        };
        let pending = self.invoke(Operation::Get { place: place.clone(), version });
        let outcome = match self.ask(bucket.info.group, query).await {
            None => Outcome::Unknown,
            Some(Answer::Version(answer)) => self.version_answer(&place, *answer),
            Some(other) => {
                self.odd(format!("a get was answered {other:?}"));
                Outcome::Unknown
            }
        };
        self.finish(pending, outcome);
    }

    fn version_answer(&self, place: &Place, answer: VersionAnswer) -> Outcome {
        match answer {
            VersionAnswer::NoSuchBucket => Outcome::Done(Reply::NoSuchBucket),
            VersionAnswer::NoSuchVersion => Outcome::Done(Reply::NoSuchVersion),
            VersionAnswer::NoSuchKey { delete_marker } => {
                Outcome::Done(Reply::NoSuchKey { marker: delete_marker.map(words::version_name) })
            }
            VersionAnswer::Found { info, .. } if info.delete_marker => Outcome::Done(Reply::IsMarker),
            VersionAnswer::Found { info, versioning, content, .. } => {
                let Some(body) = self.shared.plan().body(&info.etag) else { return Outcome::Unknown };
                self.whole(place, &info, &body, content.as_ref());
                self.saw(place, &body);
                let shown = versioning != Versioning::Unversioned;
                let version = shown.then(|| words::version_name(info.version_id));
                Outcome::Done(Reply::Found { body, version })
            }
        }
    }

    /// The content is that of the tag, and nothing else.
    fn whole(&self, place: &Place, info: &VersionInfo, body: &Body, content: Option<&Content>) {
        let values = match body {
            Body::One(value) => vec![*value],
            Body::Parts(parts) => parts.clone(),
        };
        let Some(content) = content else {
            self.odd(format!("{place:?}: no content came with a version"));
            return;
        };
        let entries = &content.manifest.entries;
        let sums: Vec<u64> = entries.iter().map(|entry| entry.crc64).collect();
        if sums != values.iter().map(|value| value.0).collect::<Vec<_>>() {
            self.odd(format!("{place:?}: the content of {:?} is {entries:?}", info.etag));
        }
    }

    pub(super) async fn delete(&mut self) {
        let (index, bucket) = self.bucket();
        let place = self.place(index);
        let version = if bucket.versioned && self.seed.chance(40) {
            let known = self.shared.plan().versions.get(&place).cloned().unwrap_or_default();
            self.seed.pick(&known).cloned()
        } else {
            None
        };
        let named = version.is_some();
        let command = PartitionCommand::DeleteVersions {
            bucket: bucket.info.id,
            keys: vec![DeleteKey {
                key: words::key(&place.key),
                version: version.as_ref().and_then(words::version_id),
                condition: words::condition(&Condition::Nothing),
            }],
            owner: "owner".to_owned(),
            salt: self.seed.u128(),
        };
        let operation = Operation::Delete { place: place.clone(), version, condition: Condition::Nothing };
        let pending = self.invoke(operation);
        let outcome = match self.propose(bucket.info.group, Command::Partition(command), Pace::Usual).await {
            Err(failed) => failed.into(),
            Ok(Ok(Done::Deleted(mut results))) => match results.pop() {
                Some(Ok(deleted)) => {
                    let marker = deleted.delete_marker.map(words::version_name);
                    if let Some(marker) = marker.as_ref().filter(|_| !named) {
                        self.remember_version(&place, marker);
                    }
                    Outcome::Done(Reply::Deleted { marker })
                }
                Some(Err(refusal)) => self.unexpected("a delete", &refusal),
                None => {
                    self.odd("a delete of one key has no result".to_owned());
                    Outcome::Unknown
                }
            },
            Ok(Ok(other)) => {
                self.odd(format!("a delete was answered {other:?}"));
                Outcome::Unknown
            }
            Ok(Err(refusal)) => match refused(&refusal) {
                Some(reply) => Outcome::Done(reply),
                None => self.unexpected("a delete", &refusal),
            },
        };
        self.finish(pending, outcome);
    }

    fn some_prefix(&mut self) -> String {
        ["", "", "a/", "b/", "a/2"][self.seed.index(5)].to_owned()
    }

    /// All pages, one call each.
    pub(super) async fn list(&mut self) {
        let (_, bucket) = self.bucket();
        let prefix = self.some_prefix();
        let delimiter = if self.seed.chance(30) { "/".to_owned() } else { String::new() };
        let max_entries = [1000, 7, 3][self.seed.index(3)];
        let mut after = String::new();
        loop {
            let call = ListCall {
                bucket: bucket.info.name.as_str().to_owned(),
                prefix: prefix.clone(),
                delimiter: delimiter.clone(),
                after: after.clone(),
                max_entries,
            };
            let query = Query::List {
                bucket: bucket.info.id,
                query: ListQuery {
                    prefix: prefix.clone(),
                    delimiter: delimiter.clone(),
                    after: after.clone(),
                    max_entries,
                },
            };
            let pending = self.invoke(Operation::List(call));
            let Some(Answer::List(page)) = self.ask(bucket.info.group, query).await else {
                self.finish(pending, Outcome::Unknown);
                return;
            };
            let next = page.next.clone();
            let entries: Option<Vec<Listed>> = page
                .entries
                .into_iter()
                .map(|entry| match entry {
                    ListEntry::CommonPrefix(prefix) => Some(Listed::CommonPrefix(prefix)),
                    ListEntry::Object(info) => {
                        let body = self.shared.plan().body(&info.etag)?;
                        Some(Listed::Object { key: info.key.as_str().to_owned(), body })
                    }
                })
                .collect();
            let outcome = entries.map_or(Outcome::Unknown, |entries| {
                Outcome::Done(Reply::Objects(ObjectPage { entries, next: next.clone() }))
            });
            self.finish(pending, outcome);
            match next {
                Some(next) if next > after => after = next,
                Some(next) => return self.odd(format!("a listing after {after:?} goes on after {next:?}")),
                None => return,
            }
        }
    }

    pub(super) async fn list_versions(&mut self) {
        let (_, bucket) = self.bucket();
        let prefix = self.some_prefix();
        let max_entries = [1000, 5][self.seed.index(2)];
        let (mut key_after, mut version_after) = (String::new(), None);
        loop {
            let query = Query::Versions {
                bucket: bucket.info.id,
                query: VersionQuery {
                    prefix: prefix.clone(),
                    delimiter: String::new(),
                    key_after: key_after.clone(),
                    version_after,
                    max_entries,
                },
            };
            let pending = self.invoke(Operation::ListVersions {
                bucket: bucket.info.name.as_str().to_owned(),
                prefix: prefix.clone(),
                key_after: key_after.clone(),
                version_after: version_after.map(words::version_name),
                max_entries,
            });
            let Some(Answer::Versions(page)) = self.ask(bucket.info.group, query).await else {
                self.finish(pending, Outcome::Unknown);
                return;
            };
            let entries: Option<Vec<ListedVersion>> = page
                .entries
                .into_iter()
                .map(|entry| match entry {
                    ListEntry::CommonPrefix(_) => None,
                    ListEntry::Object(info) => {
                        let body = if info.delete_marker {
                            None
                        } else {
                            Some(self.shared.plan().body(&info.etag)?)
                        };
                        Some(ListedVersion {
                            key: info.key.as_str().to_owned(),
                            version: words::version_name(info.version_id),
                            latest: info.is_latest,
                            body,
                        })
                    }
                })
                .collect();
            let next = page.next.clone().map(|(key, version)| (key, version.map(words::version_name)));
            let outcome = entries.map_or(Outcome::Unknown, |entries| {
                Outcome::Done(Reply::Versions(VersionPage { entries, next }))
            });
            self.finish(pending, outcome);
            match page.next {
                Some((key, version)) if (&key, version) != (&key_after, version_after) => {
                    (key_after, version_after) = (key, version);
                }
                Some(_) => return self.odd("a listing of versions stands still".to_owned()),
                None => return,
            }
        }
    }

    pub(super) async fn list_uploads(&mut self) {
        let (_, bucket) = self.bucket();
        let max_entries = [1000, 4][self.seed.index(2)];
        let (mut key_after, mut upload_after) = (String::new(), None);
        loop {
            let query = Query::Uploads {
                bucket: bucket.info.id,
                query: UploadQuery {
                    prefix: String::new(),
                    delimiter: String::new(),
                    key_after: key_after.clone(),
                    upload_after,
                    max_entries,
                },
            };
            let pending = self.invoke(Operation::ListUploads {
                bucket: bucket.info.name.as_str().to_owned(),
                prefix: String::new(),
                key_after: key_after.clone(),
                upload_after: upload_after.map(words::upload_name),
                max_entries,
            });
            let Some(Answer::Uploads(page)) = self.ask(bucket.info.group, query).await else {
                self.finish(pending, Outcome::Unknown);
                return;
            };
            let entries = page
                .uploads
                .iter()
                .map(|upload| (upload.key.as_str().to_owned(), words::upload_name(upload.upload)))
                .collect();
            let next = page.next.clone().map(|(key, upload)| (key, upload.map(words::upload_name)));
            self.finish(pending, Outcome::Done(Reply::Uploads(UploadPage { entries, next })));
            match page.next {
                Some((key, upload)) if (&key, upload) != (&key_after, upload_after) => {
                    (key_after, upload_after) = (key, upload);
                }
                Some(_) => return self.odd("a listing of uploads stands still".to_owned()),
                None => return,
            }
        }
    }
}
