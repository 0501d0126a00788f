//! A store in a few lines, with flaws to choose from, and clients that call it at random.
//!
//! Each call meets the store at one moment between its invocation and its return, whatever else is under way.

use super::super::history::{
    Body, Client, Condition, History, ListCall, Listed, ListedVersion, ObjectPage, Operation, Outcome, Place,
    Reply, UploadName, UploadPage, Value, VersionName, VersionPage,
};
use super::super::recorder::{Pending, Recorder};
use std::{collections::BTreeMap, time::Duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    StaleRead,
    StaleListing,
    LostWrite,
    LateWrite,
    ConditionIgnored,
    RefusedButDone,
    MarkerForgotten,
    DeleteForgotten,
    AppliedTwice,
    PartMissing,
    CompletedTwice,
    AbortForgotten,
    KeySkipped,
    KeyRepeated,
    KeyInvented,
    PageTooLong,
    VersionsTurned,
    BytesChanged,
    BucketBack,
}

const PLAIN: &str = "plain";
const VERSIONED: &str = "versioned";
/// Put and read only.
const REGISTERS: &str = "registers";

#[derive(Clone, Default)]
struct Store {
    keys: BTreeMap<Place, Vec<(VersionName, Option<Body>)>>,
    uploads: BTreeMap<UploadName, Upload>,
    buckets: BTreeMap<String, u64>,
    names: u64,
}

#[derive(Clone)]
struct Upload {
    place: Place,
    condition: Condition,
    parts: BTreeMap<u16, Value>,
    done: Option<Done>,
    aborted: bool,
    /// A client knows its name.
    told: bool,
}

/// The parts and the version of an upload that was completed.
type Done = (Vec<(u16, Value)>, Option<VersionName>);

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// A call that was invoked, and the answer once it met the store.
struct InFlight {
    operation: Operation,
    pending: Pending,
    answer: Option<Outcome>,
}

pub(super) fn random_history(seed: u64, flaw: Flaw) -> History {
    let mut dice = Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let recorder = Recorder::new();
    recorder.versioned(VERSIONED);
    let mut run = Run { store: Store::default(), before: Store::default(), late: Vec::new(), flaw };
    let mut flying: BTreeMap<u32, InFlight> = BTreeMap::new();
    let mut values = 0;
    for step in 0..150 {
        let client = u32::try_from(dice.below(4)).unwrap();
        let now = Duration::from_millis(step);
        match flying.get_mut(&client) {
            None => {
                let operation = choose(&mut dice, &run.store, &mut values);
                let pending = recorder.invoke(Client(client), operation.clone(), now);
                flying.insert(client, InFlight { operation, pending, answer: None });
            }
            Some(call) if call.answer.is_none() => {
                // A few are never answered, and of these some never happen.
                let answer = match dice.below(16) {
                    0 => Outcome::Unknown,
                    1 => {
                        if let Reply::Upload(name) = run.call(&call.operation, &mut dice) {
                            run.store.uploads.get_mut(&name).unwrap().told = false;
                        }
                        Outcome::Unknown
                    }
                    2 if call.operation.only_reads() => Outcome::NotDone,
                    _ => Outcome::Done(run.call(&call.operation, &mut dice)),
                };
                call.answer = Some(answer);
            }
            Some(_) => {
                let InFlight { pending, answer, .. } = flying.remove(&client).unwrap();
                pending.finish(answer.unwrap(), now);
            }
        }
        run.late(&mut dice);
    }
    recorder.history()
}

fn choose(dice: &mut Dice, store: &Store, values: &mut u64) -> Operation {
    let bucket = [PLAIN, VERSIONED, VERSIONED, REGISTERS][usize::try_from(dice.below(4)).unwrap()];
    let place = Place::new(bucket, ["a/1", "a/2", "b"][usize::try_from(dice.below(3)).unwrap()]);
    *values += 1;
    let value = Value(*values);
    let current = store.keys.get(&place).and_then(|versions| versions.last()).cloned();
    let condition = match (dice.below(6), &current) {
        (0, _) => Condition::Absent,
        (1, Some((_, Some(body)))) => Condition::Is(body.clone()),
        _ => Condition::Nothing,
    };
    if bucket == REGISTERS {
        return match dice.below(4) {
            0 => Operation::Put { place, value, condition: Condition::Nothing },
            1 => list(dice, bucket),
            _ => Operation::Get { place, version: None },
        };
    }
    let some_version = store
        .keys
        .get(&place)
        .filter(|_| bucket == VERSIONED)
        .and_then(|versions| versions.get(usize::try_from(dice.below(versions.len().max(1) as u64)).unwrap()))
        .map(|(name, _)| name.clone());
    let open: Vec<_> =
        store.uploads.iter().filter(|(_, upload)| upload.told && upload.place.bucket == bucket).collect();
    let upload = open.get(usize::try_from(dice.below(open.len().max(1) as u64)).unwrap());
    match (dice.below(20), upload) {
        (0..=3, _) => Operation::Put { place, value, condition },
        (4..=6, _) => Operation::Get { place, version: None },
        (7, _) => Operation::Get { place, version: some_version },
        (8, _) => Operation::Delete { place, version: None, condition },
        (9, _) => Operation::Delete { place, version: some_version, condition: Condition::Nothing },
        (10, _) => Operation::CreateUpload { place, condition },
        (11..=12, Some((name, upload))) => Operation::PutPart {
            place: upload.place.clone(),
            upload: (*name).clone(),
            part: u16::try_from(1 + dice.below(2)).unwrap(),
            value,
        },
        (13..=14, Some((name, upload))) => Operation::Complete {
            place: upload.place.clone(),
            upload: (*name).clone(),
            parts: match &upload.done {
                Some((parts, _)) => parts.clone(),
                None => upload.parts.iter().map(|(number, value)| (*number, *value)).collect(),
            },
            condition: Condition::Nothing,
        },
        (15, Some((name, upload))) => {
            Operation::Abort { place: upload.place.clone(), upload: (*name).clone() }
        }
        (16, _) => list(dice, bucket),
        (17, _) => Operation::ListVersions {
            bucket: VERSIONED.to_owned(),
            prefix: String::new(),
            key_after: String::new(),
            version_after: None,
            max_entries: 100,
        },
        (18, _) => Operation::ListUploads {
            bucket: bucket.to_owned(),
            prefix: String::new(),
            key_after: String::new(),
            upload_after: None,
            max_entries: 100,
        },
        _ => {
            let name = "name".to_owned();
            match dice.below(3) {
                0 => Operation::CreateBucket { name },
                1 => Operation::DeleteBucket { name },
                _ => Operation::HeadBucket { name },
            }
        }
    }
}

fn list(dice: &mut Dice, bucket: &str) -> Operation {
    Operation::List(ListCall {
        bucket: bucket.to_owned(),
        prefix: if dice.one_in(3) { "a/" } else { "" }.to_owned(),
        delimiter: if dice.one_in(3) { "/" } else { "" }.to_owned(),
        after: if dice.one_in(3) { "a/1" } else { "" }.to_owned(),
        max_entries: u32::try_from(1 + dice.below(3)).unwrap(),
    })
}

struct Run {
    store: Store,
    /// Some time ago.
    before: Store,
    late: Vec<Operation>,
    flaw: Flaw,
}

impl Run {
    fn call(&mut self, operation: &Operation, dice: &mut Dice) -> Reply {
        let flaw = if dice.one_in(3) { self.flaw } else { Flaw::None };
        if dice.one_in(4) {
            self.before = self.store.clone();
        }
        match (flaw, operation) {
            (Flaw::StaleRead, Operation::Get { .. }) | (Flaw::StaleListing, Operation::List(_)) => {
                self.before.clone().call(operation, Flaw::None)
            }
            (Flaw::LostWrite, Operation::Put { .. }) => self.store.clone().call(operation, Flaw::None),
            (Flaw::LateWrite, Operation::Put { condition: Condition::Nothing, .. }) => {
                let reply = self.store.clone().call(operation, Flaw::None);
                self.late.push(operation.clone());
                reply
            }
            _ => self.store.call(operation, flaw),
        }
    }

    fn late(&mut self, dice: &mut Dice) {
        if dice.one_in(6)
            && let Some(operation) = self.late.pop()
        {
            self.store.call(&operation, Flaw::None);
        }
    }
}

impl Store {
    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn live(&self, place: &Place) -> Option<&Body> {
        self.keys.get(place)?.last()?.1.as_ref()
    }

    fn refusal(&self, place: &Place, condition: &Condition) -> Option<Reply> {
        match (condition, self.live(place)) {
            (Condition::Nothing, _) | (Condition::Absent, None) => None,
            (Condition::Is(_), None) => Some(Reply::NoSuchKey { marker: None }),
            (Condition::Is(wanted), Some(body)) if wanted == body => None,
            (Condition::Absent | Condition::Is(_), Some(_)) => Some(Reply::PreconditionFailed),
        }
    }

    /// The name of the new version, if the bucket is versioned.
    fn write(&mut self, place: &Place, body: Option<Body>) -> Option<VersionName> {
        let name = VersionName(format!("v{}", self.name()));
        let versions = self.keys.entry(place.clone()).or_default();
        let versioned = place.bucket == VERSIONED;
        if !versioned {
            versions.clear();
        }
        if versioned || body.is_some() {
            versions.push((name.clone(), body));
        }
        versioned.then_some(name)
    }

    fn call(&mut self, operation: &Operation, flaw: Flaw) -> Reply {
        match operation {
            Operation::Put { place, value, condition } => {
                let refusal = self.refusal(place, condition).filter(|_| flaw != Flaw::ConditionIgnored);
                let body = Some(Body::One(*value));
                match refusal {
                    Some(refusal) if flaw == Flaw::RefusedButDone => {
                        self.write(place, body);
                        refusal
                    }
                    Some(refusal) => refusal,
                    None => {
                        if flaw == Flaw::AppliedTwice {
                            self.write(place, body.clone());
                        }
                        Reply::Written { version: self.write(place, body) }
                    }
                }
            }
            Operation::Get { place, version } => self.get(place, version.as_ref(), flaw),
            Operation::Delete { place, version, condition } => {
                self.delete(place, version.as_ref(), condition, flaw)
            }
            Operation::CreateUpload { place, condition } => {
                if let Some(refusal) = self.refusal(place, condition) {
                    return refusal;
                }
                let name = UploadName(format!("u{}", self.name()));
                let upload = Upload {
                    place: place.clone(),
                    condition: condition.clone(),
                    parts: BTreeMap::new(),
                    done: None,
                    aborted: false,
                    told: true,
                };
                self.uploads.insert(name.clone(), upload);
                Reply::Upload(name)
            }
            Operation::PutPart { upload, part, value, .. } => match self.uploads.get_mut(upload) {
                Some(upload) if upload.done.is_none() && !upload.aborted => {
                    upload.parts.insert(*part, *value);
                    Reply::PartWritten
                }
                _ => Reply::NoSuchUpload,
            },
            Operation::Complete { place, upload, parts, condition } => {
                self.complete(place, upload, parts, condition, flaw)
            }
            Operation::Abort { upload, .. } => match self.uploads.get_mut(upload) {
                Some(upload) if upload.done.is_none() && !upload.aborted => {
                    upload.aborted = flaw != Flaw::AbortForgotten;
                    Reply::Aborted
                }
                _ => Reply::NoSuchUpload,
            },
            Operation::List(list) => self.list(list, flaw),
            Operation::ListVersions { bucket, .. } => self.list_versions(bucket, flaw),
            Operation::ListUploads { bucket, .. } => {
                let open = self.uploads.iter().filter(|(_, upload)| {
                    upload.place.bucket == *bucket && upload.done.is_none() && !upload.aborted
                });
                let mut entries: Vec<_> =
                    open.map(|(name, upload)| (upload.place.key.clone(), name.clone())).collect();
                entries.sort();
                Reply::Uploads(UploadPage { entries, next: None })
            }
            Operation::CreateBucket { name } => {
                let next = self.name();
                Reply::Bucket { number: *self.buckets.entry(name.clone()).or_insert(next) }
            }
            Operation::DeleteBucket { name } => {
                let known = self.buckets.get(name).copied();
                if flaw != Flaw::BucketBack {
                    self.buckets.remove(name);
                }
                if known.is_some() { Reply::BucketDeleted } else { Reply::NoSuchBucket }
            }
            Operation::HeadBucket { name } => match self.buckets.get(name) {
                Some(number) => Reply::Bucket { number: *number },
                None => Reply::NoSuchBucket,
            },
        }
    }

    fn get(&self, place: &Place, version: Option<&VersionName>, flaw: Flaw) -> Reply {
        let versions = self.keys.get(place).map_or(&[][..], Vec::as_slice);
        let shown = place.bucket == VERSIONED;
        match version {
            Some(wanted) => match versions.iter().find(|(name, _)| name == wanted) {
                Some((name, Some(body))) => Reply::Found { body: body.clone(), version: Some(name.clone()) },
                Some((_, None)) => Reply::IsMarker,
                None => Reply::NoSuchVersion,
            },
            None => match versions.last() {
                Some((_, Some(_))) if flaw == Flaw::BytesChanged => {
                    Reply::Found { body: Body::One(Value(u64::MAX)), version: None }
                }
                Some((name, Some(body))) => {
                    Reply::Found { body: body.clone(), version: shown.then(|| name.clone()) }
                }
                Some((_, None)) if flaw == Flaw::MarkerForgotten => Reply::NoSuchKey { marker: None },
                Some((name, None)) => Reply::NoSuchKey { marker: Some(name.clone()) },
                None => Reply::NoSuchKey { marker: None },
            },
        }
    }

    fn delete(
        &mut self,
        place: &Place,
        version: Option<&VersionName>,
        condition: &Condition,
        flaw: Flaw,
    ) -> Reply {
        if let Some(name) = version {
            let Some(versions) = self.keys.get_mut(place) else { return Reply::Deleted { marker: None } };
            let Some(at) = versions.iter().position(|(other, _)| other == name) else {
                return Reply::Deleted { marker: None };
            };
            let (_, body) = versions[at].clone();
            if flaw != Flaw::DeleteForgotten {
                versions.remove(at);
            }
            return Reply::Deleted { marker: body.is_none().then(|| name.clone()) };
        }
        match self.refusal(place, condition) {
            Some(Reply::NoSuchKey { .. }) => Reply::Deleted { marker: None },
            Some(refusal) => refusal,
            None if flaw == Flaw::DeleteForgotten => self.clone().delete(place, None, condition, Flaw::None),
            None => Reply::Deleted { marker: self.write(place, None) },
        }
    }

    fn complete(
        &mut self,
        place: &Place,
        name: &UploadName,
        parts: &[(u16, Value)],
        condition: &Condition,
        flaw: Flaw,
    ) -> Reply {
        let Some(upload) = self.uploads.get(name) else { return Reply::NoSuchUpload };
        if upload.aborted {
            return Reply::NoSuchUpload;
        }
        if let Some((done, version)) = &upload.done
            && flaw != Flaw::CompletedTwice
        {
            return match done.as_slice() == parts {
                true => Reply::Written { version: version.clone() },
                false => Reply::NoSuchUpload,
            };
        }
        if parts.is_empty() || parts.iter().any(|(number, value)| upload.parts.get(number) != Some(value)) {
            return Reply::InvalidPart;
        }
        let refusal =
            self.refusal(place, &upload.condition.clone()).or_else(|| self.refusal(place, condition));
        if let Some(refusal) = refusal {
            return refusal;
        }
        let mut values: Vec<_> = parts.iter().map(|(_, value)| *value).collect();
        if flaw == Flaw::PartMissing {
            values.pop();
        }
        let version = self.write(place, Some(Body::Parts(values)));
        if let Some(upload) = self.uploads.get_mut(name) {
            upload.done = Some((parts.to_vec(), version.clone()));
        }
        Reply::Written { version }
    }

    fn list(&self, list: &ListCall, flaw: Flaw) -> Reply {
        let mut page = ObjectPage::default();
        let mut last: Option<String> = None;
        for (place, versions) in &self.keys {
            let Some((_, Some(body))) = versions.last() else { continue };
            if place.bucket != list.bucket || !place.key.starts_with(&list.prefix) {
                continue;
            }
            let rest = &place.key[list.prefix.len()..];
            let group = rest.find('/').filter(|_| !list.delimiter.is_empty()).map(|at| &rest[..=at]);
            let text = format!("{}{}", list.prefix, group.unwrap_or(rest));
            if text <= list.after || last.as_ref() == Some(&text) {
                continue;
            }
            let full = u32::try_from(page.entries.len()).unwrap() >= list.max_entries;
            if full && flaw != Flaw::PageTooLong {
                page.next = last;
                break;
            }
            if flaw == Flaw::KeySkipped && page.entries.is_empty() && last.is_none() {
                last = Some(text);
                continue;
            }
            page.entries.push(match group {
                Some(_) => Listed::CommonPrefix(text.clone()),
                None => Listed::Object { key: text.clone(), body: body.clone() },
            });
            last = Some(text);
        }
        if flaw == Flaw::KeyRepeated {
            page.entries.extend(page.entries.last().cloned());
        }
        if flaw == Flaw::KeyInvented {
            page.entries.push(Listed::Object { key: "z".to_owned(), body: Body::One(Value(1)) });
        }
        Reply::Objects(page)
    }

    fn list_versions(&self, bucket: &str, flaw: Flaw) -> Reply {
        let mut page = VersionPage::default();
        for (place, versions) in self.keys.iter().filter(|(place, _)| place.bucket == bucket) {
            let mut newest_first: Vec<_> = versions.iter().rev().collect();
            if flaw == Flaw::VersionsTurned {
                newest_first.reverse();
            }
            for (number, (version, body)) in newest_first.into_iter().enumerate() {
                page.entries.push(ListedVersion {
                    key: place.key.clone(),
                    version: version.clone(),
                    latest: number == 0,
                    body: body.clone(),
                });
            }
        }
        Reply::Versions(page)
    }
}
