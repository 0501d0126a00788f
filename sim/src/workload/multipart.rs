//! Multipart uploads: begun, given parts, completed or aborted, by several clients at once and again.

use super::{
    caller::{Caller, Failed, Pace, refused},
    words,
};
use crate::check::history::{Body, Operation, Outcome, Place, Reply, UploadName, Value};
use ashlar_metadata::command::{
    Command, CompleteUpload, CreateUpload, Done, PartitionCommand, PutPart, Refusal,
};
use ashlar_types::{CompletedPart, GroupId, ObjectMetadata, VersionUid};
use std::sync::{PoisonError, atomic::Ordering};

impl Caller {
    /// One step of an upload of its own or of another client's.
    pub(super) async fn multipart(&mut self) {
        let open = self.shared.plan().uploads.len();
        if open < 2 || (open < 6 && self.seed.chance(25)) {
            return self.create_upload().await;
        }
        let index = self.seed.index(open);
        let (bucket, place, upload, parts) = self.shared.plan().uploads[index].clone();
        match self.seed.below(10) {
            0 => self.abort(bucket, &place, &upload).await,
            1..5 if !parts.is_empty() => self.complete(bucket, &place, &upload, parts).await,
            _ => self.put_part(bucket, &place, &upload).await,
        }
    }

    async fn create_upload(&mut self) {
        let (index, bucket) = self.bucket();
        let slot = self.seed.below(self.shared.slots);
        let calls_per_key = self.shared.calls_per_key;
        let place = self.shared.plan().place(index, slot, calls_per_key);
        let condition = self.some_condition(&place);
        let command = PartitionCommand::CreateUpload(Box::new(CreateUpload {
            bucket: bucket.info.id,
            key: words::key(&place.key),
            uid: VersionUid(self.seed.u128()),
            salt: self.seed.u128(),
            metadata: ObjectMetadata::default(),
            checksum: None,
            condition: words::condition(&condition),
        }));
        let pending = self.invoke(Operation::CreateUpload { place: place.clone(), condition });
        let outcome = match self.propose(bucket.info.group, Command::Partition(command), Pace::Usual).await {
            Ok(Ok(Done::Upload(info))) => {
                let upload = words::upload_name(info.upload);
                self.remember_upload(index, &place, &upload);
                Outcome::Done(Reply::Upload(upload))
            }
            other => self.outcome("a create of an upload", other),
        };
        self.finish(pending, outcome);
    }

    async fn put_part(&mut self, bucket: usize, place: &Place, upload: &UploadName) {
        let info = self.shared.plan().buckets[bucket].info.clone();
        let Some(id) = words::upload_id(upload) else { return };
        let part = u16::try_from(self.seed.between(1, 3)).expect("a small number");
        let value = self.shared.plan().value();
        let Ok(request) = self.metadata.begin(info.group).await else { return };
        // Only the last part may be small.
        let (size, content) = if part == 3 {
            words::inline(value, part)
        } else {
            words::blob(value, part, info.group, request.write_epoch)
        };
        let command = PartitionCommand::PutPart(Box::new(PutPart {
            bucket: info.id,
            key: words::key(&place.key),
            upload: id,
            part_number: part,
            size,
            md5: words::md5_of(value),
            crc64: value.0,
            checksum: None,
            content,
        }));
        let operation = Operation::PutPart { place: place.clone(), upload: upload.clone(), part, value };
        let pending = self.invoke(operation);
        let outcome = match self.propose(info.group, Command::Partition(command), Pace::Usual).await {
            Ok(Ok(Done::Part(_))) => {
                self.learn_part(upload, part, value);
                Outcome::Done(Reply::PartWritten)
            }
            other => self.outcome("a put of a part", other),
        };
        self.forget_if_gone(upload, &outcome);
        self.finish(pending, outcome);
    }

    fn learn_part(&self, upload: &UploadName, part: u16, value: Value) {
        let mut plan = self.shared.plan();
        if let Some((.., parts)) = plan.uploads.iter_mut().find(|(_, _, known, _)| known == upload) {
            parts.retain(|(number, _)| *number != part);
            parts.push((part, value));
            parts.sort_unstable();
        }
    }

    fn forget_if_gone(&self, upload: &UploadName, outcome: &Outcome) {
        if *outcome == Outcome::Done(Reply::NoSuchUpload) {
            self.forget_upload(upload);
        }
    }

    fn forget_upload(&self, upload: &UploadName) {
        self.shared.plan().uploads.retain(|(_, _, known, _)| known != upload);
    }

    async fn complete(
        &mut self,
        bucket: usize,
        place: &Place,
        upload: &UploadName,
        mut parts: Vec<(u16, Value)>,
    ) {
        let info = self.shared.plan().buckets[bucket].info.clone();
        let Some(id) = words::upload_id(upload) else { return };
        if parts.len() > 1 && self.seed.chance(20) {
            let left_out = self.seed.index(parts.len());
            parts.remove(left_out);
        }
        let condition = self.some_condition(place);
        let values: Vec<Value> = parts.iter().map(|(_, value)| *value).collect();
        self.shared.plan().assembled(&values);
        let command = PartitionCommand::CompleteUpload(Box::new(CompleteUpload {
            bucket: info.id,
            key: words::key(&place.key),
            upload: id,
            salt: self.seed.u128(),
            parts: parts
                .iter()
                .map(|(part_number, value)| CompletedPart {
                    part_number: *part_number,
                    etag: words::tag(*value),
                    checksum: None,
                })
                .collect(),
            condition: words::condition(&condition),
            checksum: None,
            checksum_kind: None,
            size: None,
        }));
        let operation =
            Operation::Complete { place: place.clone(), upload: upload.clone(), parts, condition };
        let pending = self.invoke(operation);
        let ticket = self.begin_complete(info.group);
        let answered = self.propose(info.group, Command::Partition(command), Pace::Usual).await;
        self.end_complete(ticket);
        let outcome = match answered {
            Ok(Ok(Done::Written(written))) => {
                let version = written.version_id.map(words::version_name);
                if let Some(version) = &version {
                    self.remember_version(place, version);
                }
                if written.etag != words::assembled_tag(&values) {
                    self.odd(format!("a complete of {values:?} has the tag {:?}", written.etag));
                }
                self.saw(place, &Body::Parts(values));
                // It is completed again now and then: that has to give the same.
                if self.seed.chance(70) {
                    self.forget_upload(upload);
                }
                Outcome::Done(Reply::Written { version })
            }
            other => self.outcome("a complete", other),
        };
        self.forget_if_gone(upload, &outcome);
        self.finish(pending, outcome);
    }

    fn begin_complete(&self, group: GroupId) -> u64 {
        let ticket = self.shared.counts.calls.fetch_add(1, Ordering::SeqCst);
        let mut completing = self.shared.counts.completing.lock().unwrap_or_else(PoisonError::into_inner);
        completing.insert(ticket, (self.host, group));
        ticket
    }

    fn end_complete(&self, ticket: u64) {
        let mut completing = self.shared.counts.completing.lock().unwrap_or_else(PoisonError::into_inner);
        completing.remove(&ticket);
    }

    async fn abort(&mut self, bucket: usize, place: &Place, upload: &UploadName) {
        let info = self.shared.plan().buckets[bucket].info.clone();
        let Some(id) = words::upload_id(upload) else { return };
        let command =
            PartitionCommand::AbortUpload { bucket: info.id, key: words::key(&place.key), upload: id };
        let pending = self.invoke(Operation::Abort { place: place.clone(), upload: upload.clone() });
        let outcome = match self.propose(info.group, Command::Partition(command), Pace::Usual).await {
            Ok(Ok(Done::Nothing)) => {
                self.forget_upload(upload);
                Outcome::Done(Reply::Aborted)
            }
            other => self.outcome("an abort", other),
        };
        self.forget_if_gone(upload, &outcome);
        self.finish(pending, outcome);
    }

    pub(super) fn outcome(&self, call: &str, answered: Result<Result<Done, Refusal>, Failed>) -> Outcome {
        match answered {
            Err(failed) => failed.into(),
            Ok(Ok(other)) => {
                self.odd(format!("{call} was answered {other:?}"));
                Outcome::Unknown
            }
            Ok(Err(refusal)) => match refused(&refusal) {
                Some(reply) => Outcome::Done(reply),
                None => self.unexpected(call, &refusal),
            },
        }
    }
}
