//! What one key of a bucket does: versions, delete markers, uploads, as S3 says.
//!
//! Names of versions and uploads and bodies are numbers here (`linearizability` gives them), so that states are cheap to
//! keep. The name of a version whose write was not answered becomes known when somebody sees it.

use super::search::Model;
use std::collections::{BTreeMap, BTreeSet};

/// A body, the name of a version, the name of an upload: each in a row of its own.
pub(super) type BodyId = u32;
pub(super) type VersionId = u32;
pub(super) type UploadId = u32;

/// A key of a bucket that has versioning enabled, or never had.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) versioned: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// The latest is the last.
    versions: Vec<Version>,
    uploads: BTreeMap<UploadId, Upload>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Version {
    /// `None`: nobody has seen it yet.
    name: Option<VersionId>,
    /// `None`: a delete marker.
    body: Option<BodyId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Upload {
    Open { condition: Condition, parts: BTreeMap<u16, u64> },
    Completed { parts: Vec<(u16, u64)>, name: Option<VersionId> },
    Aborted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Condition {
    Nothing,
    Absent,
    Is(BodyId),
}

/// How a condition came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Yes,
    No,
    /// It needs an object, and there is none.
    NoObject,
}

/// A call, and what was answered: `None` where the answer never came.
#[derive(Clone, Debug)]
pub(super) enum KeyCall {
    Put {
        body: BodyId,
        condition: Condition,
        answer: Option<WriteAnswer>,
    },
    Get {
        answer: GetAnswer,
    },
    GetVersion {
        name: VersionId,
        answer: GetVersionAnswer,
    },
    Delete {
        condition: Condition,
        answer: Option<DeleteAnswer>,
    },
    DeleteVersion {
        name: VersionId,
        answer: Option<DeleteAnswer>,
    },
    /// One that was not answered changes nothing that this key shows, but for listings of uploads.
    CreateUpload {
        condition: Condition,
        answer: CreateAnswer,
    },
    PutPart {
        upload: UploadId,
        part: u16,
        value: u64,
        answer: Option<PartAnswer>,
    },
    Complete(Box<Complete>),
    Abort {
        upload: UploadId,
        answer: Option<AbortAnswer>,
    },
    /// A listing shows this body for the key, or that there is none.
    Latest {
        body: Option<BodyId>,
    },
    /// A listing shows these versions of the key, newest first, and no others.
    Versions {
        listed: Vec<(VersionId, Option<BodyId>)>,
    },
    /// A listing shows these uploads; others than the known ones may be there whose creation was not answered.
    Uploads {
        listed: BTreeSet<UploadId>,
    },
    /// No answer that there is explains it.
    Impossible,
}

#[derive(Clone, Debug)]
pub(super) struct Complete {
    pub(super) upload: UploadId,
    pub(super) parts: Vec<(u16, u64)>,
    pub(super) body: BodyId,
    pub(super) condition: Condition,
    pub(super) answer: Option<CompleteAnswer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteAnswer {
    Written { name: Option<VersionId> },
    PreconditionFailed,
    NoSuchKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GetAnswer {
    Found {
        body: BodyId,
        name: Option<VersionId>,
    },
    /// `Some`: this delete marker is the latest.
    NoSuchKey {
        marker: Option<VersionId>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GetVersionAnswer {
    Found { body: BodyId },
    IsMarker,
    NoSuchVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeleteAnswer {
    Deleted { marker: Option<VersionId> },
    PreconditionFailed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CreateAnswer {
    Upload(UploadId),
    PreconditionFailed,
    NoSuchKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartAnswer {
    Written,
    NoSuchUpload,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompleteAnswer {
    Write(WriteAnswer),
    NoSuchUpload,
    InvalidPart,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AbortAnswer {
    Aborted,
    NoSuchUpload,
}

impl Model for Key {
    type State = State;
    type Call = KeyCall;

    fn initial(&self) -> State {
        State::default()
    }

    fn step(&self, state: &State, call: &KeyCall) -> Vec<State> {
        match call {
            KeyCall::Put { body, condition, answer } => {
                self.write(state, &[*condition], answer, |next, name| self.put(next, name, Some(*body)))
            }
            KeyCall::Get { answer } => self.get(state, *answer),
            KeyCall::GetVersion { name, answer } => get_version(state, *name, *answer),
            KeyCall::Delete { condition, answer } => self.delete(state, *condition, *answer),
            KeyCall::DeleteVersion { name, answer } => delete_version(state, *name, *answer),
            KeyCall::CreateUpload { condition, answer } => create(state, *condition, *answer),
            KeyCall::PutPart { upload, part, value, answer } => {
                put_part(state, *upload, (*part, *value), *answer)
            }
            KeyCall::Complete(complete) => self.complete(state, complete),
            KeyCall::Abort { upload, answer } => abort(state, *upload, *answer),
            KeyCall::Latest { body } => unchanged_if(state, state.live().and_then(|v| v.body) == *body),
            KeyCall::Versions { listed } => list_versions(state, listed),
            KeyCall::Uploads { listed } => {
                let open: BTreeSet<_> = state
                    .uploads
                    .iter()
                    .filter(|(_, upload)| matches!(upload, Upload::Open { .. }))
                    .map(|(id, _)| *id)
                    .collect();
                unchanged_if(state, open == *listed)
            }
            KeyCall::Impossible => vec![],
        }
    }
}

impl State {
    /// The latest version, if it is an object.
    fn live(&self) -> Option<&Version> {
        self.versions.last().filter(|version| version.body.is_some())
    }

    fn check(&self, condition: Condition) -> Held {
        match (condition, self.live().and_then(|version| version.body)) {
            (Condition::Nothing, _) | (Condition::Absent, None) => Held::Yes,
            (Condition::Absent, Some(_)) => Held::No,
            (Condition::Is(_), None) => Held::NoObject,
            (Condition::Is(wanted), Some(body)) if wanted == body => Held::Yes,
            (Condition::Is(_), Some(_)) => Held::No,
        }
    }

    /// Says what a version is called, if that can be.
    fn named(&self, place: usize, name: Option<VersionId>) -> Option<Self> {
        let known = self.versions.get(place)?.name;
        match (known, name) {
            (_, None) => Some(self.clone()),
            (Some(known), Some(name)) => (known == name).then(|| self.clone()),
            (None, Some(name)) => {
                if self.versions.iter().any(|other| other.name == Some(name)) {
                    return None;
                }
                let mut next = self.clone();
                next.versions.get_mut(place)?.name = Some(name);
                Some(next)
            }
        }
    }

    /// Where a version of that name can be, seen with that content.
    fn places(&self, name: VersionId, fits: impl Fn(&Version) -> bool) -> Vec<usize> {
        let surely = self.versions.iter().position(|version| version.name == Some(name));
        if let Some(place) = surely {
            return if fits(&self.versions[place]) { vec![place] } else { vec![] };
        }
        let places = self.versions.iter().enumerate();
        places
            .filter(|(_, version)| version.name.is_none() && fits(version))
            .map(|(place, _)| place)
            .collect()
    }
}

impl Key {
    fn put(self, state: &mut State, name: Option<VersionId>, body: Option<BodyId>) {
        if !self.versioned {
            state.versions.clear();
        }
        state.versions.push(Version { name, body });
    }

    /// A write under conditions that all have to hold.
    fn write(
        self,
        state: &State,
        conditions: &[Condition],
        answer: &Option<WriteAnswer>,
        effect: impl Fn(&mut State, Option<VersionId>),
    ) -> Vec<State> {
        let held: Vec<Held> = conditions.iter().map(|condition| state.check(*condition)).collect();
        let all = held.iter().all(|held| *held == Held::Yes);
        match answer {
            None | Some(WriteAnswer::Written { .. }) if all => {
                let name = answer.and_then(|answer| match answer {
                    WriteAnswer::Written { name } => name,
                    WriteAnswer::PreconditionFailed | WriteAnswer::NoSuchKey => None,
                });
                let mut next = state.clone();
                effect(&mut next, name.filter(|_| self.versioned));
                vec![next]
            }
            None | Some(WriteAnswer::Written { .. }) => vec![],
            Some(WriteAnswer::PreconditionFailed) => unchanged_if(state, held.contains(&Held::No)),
            Some(WriteAnswer::NoSuchKey) => unchanged_if(state, held.contains(&Held::NoObject)),
        }
    }

    fn get(self, state: &State, answer: GetAnswer) -> Vec<State> {
        let last = state.versions.len().checked_sub(1);
        match (answer, state.versions.last()) {
            (GetAnswer::Found { body, name }, Some(latest)) if latest.body == Some(body) => {
                let name = name.filter(|_| self.versioned);
                last.and_then(|last| state.named(last, name)).into_iter().collect()
            }
            (GetAnswer::NoSuchKey { marker: None }, None) => vec![state.clone()],
            (GetAnswer::NoSuchKey { marker: Some(name) }, Some(latest)) if latest.body.is_none() => {
                last.and_then(|last| state.named(last, Some(name))).into_iter().collect()
            }
            (GetAnswer::Found { .. } | GetAnswer::NoSuchKey { .. }, _) => vec![],
        }
    }

    fn delete(self, state: &State, condition: Condition, answer: Option<DeleteAnswer>) -> Vec<State> {
        match (state.check(condition), answer) {
            (Held::Yes, None) => vec![self.deleted(state, None)],
            (Held::Yes, Some(DeleteAnswer::Deleted { marker })) if marker.is_some() == self.versioned => {
                vec![self.deleted(state, marker)]
            }
            // What is not there is deleted already.
            (Held::NoObject, Some(DeleteAnswer::Deleted { marker: None }))
            | (Held::No, Some(DeleteAnswer::PreconditionFailed)) => vec![state.clone()],
            (
                Held::Yes | Held::No | Held::NoObject,
                None | Some(DeleteAnswer::Deleted { .. } | DeleteAnswer::PreconditionFailed),
            ) => vec![],
        }
    }

    fn deleted(self, state: &State, marker: Option<VersionId>) -> State {
        let mut next = state.clone();
        if self.versioned {
            self.put(&mut next, marker, None);
        } else {
            next.versions.clear();
        }
        next
    }

    fn complete(self, state: &State, complete: &Complete) -> Vec<State> {
        let Complete { upload: id, parts, body, condition, answer } = complete;
        match state.uploads.get(id) {
            Some(Upload::Open { condition: begun, parts: there }) => {
                let there = |(number, value): &(u16, u64)| there.get(number) == Some(value);
                let whole = !parts.is_empty() && parts.iter().all(there);
                let write = match answer {
                    Some(CompleteAnswer::NoSuchUpload) => return vec![],
                    Some(CompleteAnswer::InvalidPart) => return unchanged_if(state, !whole),
                    Some(CompleteAnswer::Write(write)) => Some(*write),
                    None => None,
                };
                if !whole {
                    return vec![];
                }
                self.write(state, &[*begun, *condition], &write, |next, name| {
                    self.put(next, name, Some(*body));
                    next.uploads.insert(*id, Upload::Completed { parts: parts.clone(), name });
                })
            }
            Some(Upload::Completed { parts: done, name }) => match answer {
                // A repetition is answered like the first, and does nothing.
                Some(CompleteAnswer::Write(WriteAnswer::Written { name: told })) if done == parts => {
                    repeated(state, *id, done, *name, told.filter(|_| self.versioned))
                }
                Some(CompleteAnswer::NoSuchUpload) => unchanged_if(state, done != parts),
                None | Some(CompleteAnswer::Write(_) | CompleteAnswer::InvalidPart) => vec![],
            },
            Some(Upload::Aborted) | None => {
                unchanged_if(state, *answer == Some(CompleteAnswer::NoSuchUpload))
            }
        }
    }
}

/// A Complete that was done already tells the name of the version it made.
fn repeated(
    state: &State,
    id: UploadId,
    parts: &[(u16, u64)],
    known: Option<VersionId>,
    told: Option<VersionId>,
) -> Vec<State> {
    match (known, told) {
        (_, None) => vec![state.clone()],
        (Some(known), Some(told)) => unchanged_if(state, known == told),
        (None, Some(_)) => {
            let mut next = state.clone();
            next.uploads.insert(id, Upload::Completed { parts: parts.to_vec(), name: told });
            vec![next]
        }
    }
}

fn unchanged_if(state: &State, holds: bool) -> Vec<State> {
    if holds { vec![state.clone()] } else { vec![] }
}

fn get_version(state: &State, name: VersionId, answer: GetVersionAnswer) -> Vec<State> {
    let body = match answer {
        GetVersionAnswer::Found { body } => Some(body),
        GetVersionAnswer::IsMarker => None,
        GetVersionAnswer::NoSuchVersion => {
            return unchanged_if(state, state.versions.iter().all(|version| version.name != Some(name)));
        }
    };
    let places = state.places(name, |version| version.body == body);
    places.into_iter().filter_map(|place| state.named(place, Some(name))).collect()
}

fn delete_version(state: &State, name: VersionId, answer: Option<DeleteAnswer>) -> Vec<State> {
    let surely = state.versions.iter().any(|version| version.name == Some(name));
    let mut after = Vec::new();
    // What does not exist is deleted already.
    if !surely && answer == Some(DeleteAnswer::Deleted { marker: None }) {
        after.push(state.clone());
    }
    let places = state.places(name, |version| match answer {
        None => true,
        Some(DeleteAnswer::Deleted { marker }) => marker == version.body.is_none().then_some(name),
        Some(DeleteAnswer::PreconditionFailed) => false,
    });
    for place in places {
        let mut next = state.clone();
        next.versions.remove(place);
        after.push(next);
    }
    after
}

fn create(state: &State, condition: Condition, answer: CreateAnswer) -> Vec<State> {
    match (answer, state.check(condition)) {
        (CreateAnswer::Upload(id), Held::Yes) if !state.uploads.contains_key(&id) => {
            let mut next = state.clone();
            next.uploads.insert(id, Upload::Open { condition, parts: BTreeMap::new() });
            vec![next]
        }
        (CreateAnswer::PreconditionFailed, Held::No) | (CreateAnswer::NoSuchKey, Held::NoObject) => {
            vec![state.clone()]
        }
        (
            CreateAnswer::Upload(_) | CreateAnswer::PreconditionFailed | CreateAnswer::NoSuchKey,
            Held::Yes | Held::No | Held::NoObject,
        ) => vec![],
    }
}

fn put_part(state: &State, id: UploadId, part: (u16, u64), answer: Option<PartAnswer>) -> Vec<State> {
    let is_open = matches!(state.uploads.get(&id), Some(Upload::Open { .. }));
    match answer {
        Some(PartAnswer::NoSuchUpload) => unchanged_if(state, !is_open),
        Some(PartAnswer::Written) | None => {
            let mut next = state.clone();
            let Some(Upload::Open { parts, .. }) = next.uploads.get_mut(&id) else { return vec![] };
            parts.insert(part.0, part.1);
            vec![next]
        }
    }
}

fn abort(state: &State, id: UploadId, answer: Option<AbortAnswer>) -> Vec<State> {
    let is_open = matches!(state.uploads.get(&id), Some(Upload::Open { .. }));
    match answer {
        Some(AbortAnswer::NoSuchUpload) => unchanged_if(state, !is_open),
        Some(AbortAnswer::Aborted) | None if is_open => {
            let mut next = state.clone();
            next.uploads.insert(id, Upload::Aborted);
            vec![next]
        }
        Some(AbortAnswer::Aborted) | None => vec![],
    }
}

/// All versions at once: names and contents agree, and so does their order.
fn list_versions(state: &State, listed: &[(VersionId, Option<BodyId>)]) -> Vec<State> {
    if listed.len() != state.versions.len() {
        return vec![];
    }
    let mut named = state.clone();
    for (place, (name, body)) in listed.iter().rev().enumerate() {
        if named.versions[place].body != *body {
            return vec![];
        }
        match named.named(place, Some(*name)) {
            Some(next) => named = next,
            None => return vec![],
        }
    }
    vec![named]
}
