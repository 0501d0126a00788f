//! Each key by itself: is there an order of its calls that explains every answer?
//!
//! Keys that are only put and read go through [`register`], however long their history; if it is short the search judges them
//! too and has to agree. All others go through [`search`] with the model of a key. Listings count as reads of every key that
//! they cover. Buckets are judged by name.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "calls and answers that are not named have nothing to do with what is asked"
)]

use super::{
    bucket,
    history::{
        Body, Call, Condition, History, Operation, Outcome, Place, Reply, UploadName, VersionName, Violation,
    },
    key::{
        self, AbortAnswer, BodyId, Complete, CompleteAnswer, CreateAnswer, DeleteAnswer, GetAnswer,
        GetVersionAnswer, Key, KeyCall, PartAnswer, UploadId, VersionId, WriteAnswer,
    },
    listing::{self, Seen},
    register::{self, Access, RegisterCall},
    search::{CALLS_MAX, Span, Verdict, search},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    pub violations: Vec<Violation>,
    /// Keys and bucket names with at least one call.
    pub histories: usize,
    /// Keys judged by zones, and by the search; some by both.
    pub by_zones: usize,
    pub by_search: usize,
    /// Too long, or too much at once: nothing is said about these. A run that has many of them proves little.
    pub undecided: Vec<Place>,
}

/// Steps of one search: some seconds at most.
const BUDGET: usize = 2_000_000;
/// Both engines judge keys with no more calls than this.
const CROSS_CHECKED: usize = 40;

pub fn judge(history: &History) -> Judged {
    let mut judged = Judged::default();
    for (place, calls) in by_place(history) {
        judged.histories += 1;
        let versioned = history.versioned.contains(&place.bucket);
        judge_key(&place, &calls, versioned, &mut judged);
    }
    bucket::judge(history, &mut judged);
    judged
}

/// A call of a client on the key, or what a listing says about it.
#[derive(Clone)]
pub(super) struct OnKey<'h> {
    call: &'h Call,
    seen: Option<Seen>,
}

fn by_place(history: &History) -> BTreeMap<Place, Vec<OnKey<'_>>> {
    let keys = listing::keys(history);
    let mut places: BTreeMap<Place, Vec<OnKey<'_>>> = BTreeMap::new();
    for call in &history.calls {
        if call.outcome == Outcome::NotDone || (call.reply().is_none() && call.operation.only_reads()) {
            continue;
        }
        if let Some(place) = call.operation.place() {
            places.entry(place.clone()).or_default().push(OnKey { call, seen: None });
        }
        for (place, seen) in listing::seen(call, &keys) {
            places.entry(place).or_default().push(OnKey { call, seen: Some(seen) });
        }
    }
    for calls in places.values_mut() {
        drop_the_obvious(calls);
        thin(calls);
    }
    places
}

/// Listings from before anybody wrote: that nothing is there needs no search.
fn drop_the_obvious(calls: &mut Vec<OnKey<'_>>) {
    let first_write = calls
        .iter()
        .filter(|on| on.seen.is_none() && !on.call.operation.only_reads())
        .map(|on| on.call.invoked)
        .min();
    calls.retain(|on| {
        let is_nothing = match &on.seen {
            Some(Seen::Latest(body)) => body.is_none(),
            Some(Seen::Versions(listed)) => listed.is_empty(),
            Some(Seen::Uploads(listed)) => listed.is_empty(),
            None => false,
        };
        let before_all = match (on.call.returned, first_write) {
            (Some(returned), Some(first)) => returned < first,
            (_, None) => true,
            (None, _) => false,
        };
        !(is_nothing && before_all)
    });
}

/// Leaves out listings, evenly, until the search can take the rest: fewer reads are fewer demands, never more.
fn thin(calls: &mut Vec<OnKey<'_>>) {
    let listings = calls.iter().filter(|on| on.seen.is_some()).count();
    let Some(room) = CALLS_MAX.checked_sub(calls.len() - listings).map(|room| room.min(LISTINGS_MAX)) else {
        return;
    };
    if listings <= room {
        return;
    }
    let mut number = 0;
    calls.retain(|on| {
        if on.seen.is_none() {
            return true;
        }
        number += 1;
        // Keeps the ones at which number * room / listings steps on.
        number * room / listings != (number - 1) * room / listings
    });
}

/// More reads than this of one key say little that is new.
const LISTINGS_MAX: usize = 48;

fn judge_key(place: &Place, calls: &[OnKey<'_>], versioned: bool, judged: &mut Judged) {
    let mut names = Names { created: created(calls), ..Names::default() };
    let calls = &without_unknown_uploads(calls, &names.created);
    let translated: Vec<_> =
        calls.iter().map(|on| (span(on.call), translate(on, &mut names, versioned))).collect();
    let zones = plain(&translated).map(|calls| register::linearizable(&calls));
    if let Some(zones) = &zones {
        judged.by_zones += 1;
        if let Err(why) = zones {
            judged.violations.push(violation(place, &format!("{why:?}"), calls, &[]));
        }
        if calls.len() > CROSS_CHECKED {
            return;
        }
    }
    judged.by_search += 1;
    match search(&Key { versioned }, &translated, BUDGET) {
        Verdict::Linearizable => {
            if zones.is_some_and(|zones| zones.is_err()) {
                judged.violations.push(violation(place, "the search finds an order", calls, &[]));
            }
        }
        Verdict::NoOrder { unexplained } => {
            if zones.is_none_or(|zones| zones.is_ok()) {
                judged.violations.push(violation(place, "no order explains it", calls, &unexplained));
            }
        }
        Verdict::Undecided => judged.undecided.push(place.clone()),
    }
}

fn created(calls: &[OnKey<'_>]) -> BTreeSet<UploadName> {
    let replies = calls.iter().filter(|on| on.seen.is_none()).filter_map(|on| on.call.reply());
    let created = replies.filter_map(|reply| if let Reply::Upload(name) = reply { Some(name) } else { None });
    created.cloned().collect()
}

/// An upload whose creation was not answered has a name that clients can only have from a listing: which creation made
/// it is not known, so nothing is said about it.
fn without_unknown_uploads<'h>(calls: &[OnKey<'h>], created: &BTreeSet<UploadName>) -> Vec<OnKey<'h>> {
    let is_lost = |on: &OnKey<'_>| {
        matches!(on.call.operation, Operation::CreateUpload { .. }) && on.call.reply().is_none()
    };
    if !calls.iter().any(is_lost) {
        return calls.to_vec();
    }
    let is_known = |on: &&OnKey<'_>| match &on.call.operation {
        Operation::PutPart { upload, .. }
        | Operation::Complete { upload, .. }
        | Operation::Abort { upload, .. } => created.contains(upload),
        _ => !is_lost(on),
    };
    calls.iter().filter(is_known).cloned().collect()
}

fn violation(place: &Place, why: &str, calls: &[OnKey<'_>], unexplained: &[usize]) -> Violation {
    let mut what = format!("{place:?}: {why}");
    for (number, on) in calls.iter().enumerate() {
        let mark = if unexplained.contains(&number) { "?" } else { " " };
        let written = match &on.seen {
            None => write!(what, "\n {mark}{}", on.call),
            Some(seen) => write!(
                what,
                "\n {mark}[{}..{}] a listing shows {seen:?}",
                on.call.invoked.0,
                on.call.returned.map_or(0, |returned| returned.0)
            ),
        };
        written.expect("a string takes all text");
    }
    Violation::new("linearizable", what)
}

pub(super) fn span(call: &Call) -> Span {
    // What is not known to have happened may still happen.
    let returned = call.returned.filter(|_| call.reply().is_some());
    Span { invoked: call.invoked, returned }
}

/// The calls of a register, if it is no more than that.
fn plain(calls: &[(Span, KeyCall)]) -> Option<Vec<RegisterCall>> {
    let access = |call: &KeyCall| match call {
        KeyCall::Put {
            body,
            condition: key::Condition::Nothing,
            answer: None | Some(WriteAnswer::Written { .. }),
        } => Some(Access::Write(u64::from(*body))),
        KeyCall::Get { answer: GetAnswer::Found { body, .. } } => Some(Access::Read(Some(u64::from(*body)))),
        KeyCall::Get { answer: GetAnswer::NoSuchKey { marker: None } } => Some(Access::Read(None)),
        KeyCall::Latest { body } => Some(Access::Read(body.map(u64::from))),
        KeyCall::Put { .. }
        | KeyCall::Get { answer: GetAnswer::NoSuchKey { marker: Some(_) } }
        | KeyCall::GetVersion { .. }
        | KeyCall::Delete { .. }
        | KeyCall::DeleteVersion { .. }
        | KeyCall::CreateUpload { .. }
        | KeyCall::PutPart { .. }
        | KeyCall::Complete(_)
        | KeyCall::Abort { .. }
        | KeyCall::Versions { .. }
        | KeyCall::Uploads { .. }
        | KeyCall::Impossible => None,
    };
    calls
        .iter()
        .map(|(span, call)| {
            Some(RegisterCall { access: access(call)?, invoked: span.invoked, returned: span.returned })
        })
        .collect()
}

/// Numbers for what a key's calls name.
#[derive(Default)]
struct Names {
    bodies: BTreeMap<Body, BodyId>,
    versions: BTreeMap<VersionName, VersionId>,
    uploads: BTreeMap<UploadName, UploadId>,
    /// The uploads whose creation was answered.
    created: BTreeSet<UploadName>,
}

fn number<T: Ord + Clone>(of: &mut BTreeMap<T, u32>, name: &T) -> u32 {
    let next = u32::try_from(of.len()).expect("a key has few names");
    *of.entry(name.clone()).or_insert(next)
}

impl Names {
    fn body(&mut self, body: &Body) -> BodyId {
        number(&mut self.bodies, body)
    }

    fn version(&mut self, name: &VersionName) -> VersionId {
        number(&mut self.versions, name)
    }

    fn optional(&mut self, name: Option<&VersionName>) -> Option<VersionId> {
        name.map(|name| self.version(name))
    }

    fn upload(&mut self, name: &UploadName) -> UploadId {
        number(&mut self.uploads, name)
    }

    fn condition(&mut self, condition: &Condition) -> key::Condition {
        match condition {
            Condition::Nothing => key::Condition::Nothing,
            Condition::Absent => key::Condition::Absent,
            Condition::Is(body) => key::Condition::Is(self.body(body)),
        }
    }
}

fn translate(on: &OnKey<'_>, names: &mut Names, versioned: bool) -> KeyCall {
    match &on.seen {
        Some(Seen::Latest(body)) => KeyCall::Latest { body: body.as_ref().map(|body| names.body(body)) },
        Some(Seen::Versions(listed)) => KeyCall::Versions {
            listed: listed
                .iter()
                .map(|(name, body)| (names.version(name), body.as_ref().map(|body| names.body(body))))
                .collect(),
        },
        // An upload whose creation nobody was told of may be in the list.
        Some(Seen::Uploads(listed)) => KeyCall::Uploads {
            listed: listed
                .iter()
                .filter(|name| names.created.contains(name))
                .map(|name| number(&mut names.uploads, name))
                .collect(),
        },
        None => translate_call(on.call, names, versioned).unwrap_or(KeyCall::Impossible),
    }
}

/// `None` if the answer is none that the operation has.
fn translate_call(call: &Call, names: &mut Names, versioned: bool) -> Option<KeyCall> {
    let reply = call.reply();
    Some(match &call.operation {
        Operation::Put { value, condition, .. } => KeyCall::Put {
            body: names.body(&Body::One(*value)),
            condition: names.condition(condition),
            answer: match reply {
                None => None,
                Some(reply) => Some(write_answer(reply, names, versioned)?),
            },
        },
        Operation::Get { version: None, .. } => KeyCall::Get {
            answer: match reply? {
                Reply::Found { body, version } => {
                    GetAnswer::Found { body: names.body(body), name: names.optional(version.as_ref()) }
                }
                Reply::NoSuchKey { marker } => {
                    GetAnswer::NoSuchKey { marker: names.optional(marker.as_ref()) }
                }
                _ => return None,
            },
        },
        Operation::Get { version: Some(name), .. } => KeyCall::GetVersion {
            name: names.version(name),
            answer: match reply? {
                Reply::Found { body, version } if version.as_ref().is_none_or(|told| told == name) => {
                    GetVersionAnswer::Found { body: names.body(body) }
                }
                Reply::IsMarker => GetVersionAnswer::IsMarker,
                Reply::NoSuchVersion | Reply::NoSuchKey { .. } => GetVersionAnswer::NoSuchVersion,
                _ => return None,
            },
        },
        Operation::Delete { version, condition, .. } => {
            let condition = names.condition(condition);
            let answer = match reply {
                None => None,
                Some(Reply::Deleted { marker }) => {
                    Some(DeleteAnswer::Deleted { marker: names.optional(marker.as_ref()) })
                }
                Some(Reply::PreconditionFailed) => Some(DeleteAnswer::PreconditionFailed),
                Some(_) => return None,
            };
            match version {
                None => KeyCall::Delete { condition, answer },
                Some(name) => KeyCall::DeleteVersion { name: names.version(name), answer },
            }
        }
        Operation::CreateUpload { condition, .. } => KeyCall::CreateUpload {
            condition: names.condition(condition),
            answer: match reply {
                Some(Reply::Upload(name)) => CreateAnswer::Upload(names.upload(name)),
                Some(Reply::PreconditionFailed) => CreateAnswer::PreconditionFailed,
                Some(Reply::NoSuchKey { .. }) => CreateAnswer::NoSuchKey,
                Some(_) | None => return None,
            },
        },
        Operation::PutPart { upload, part, value, .. } => KeyCall::PutPart {
            upload: names.upload(upload),
            part: *part,
            value: value.0,
            answer: match reply {
                None => None,
                Some(Reply::PartWritten) => Some(PartAnswer::Written),
                Some(Reply::NoSuchUpload) => Some(PartAnswer::NoSuchUpload),
                Some(_) => return None,
            },
        },
        Operation::Complete { upload, parts, condition, .. } => KeyCall::Complete(Box::new(Complete {
            upload: names.upload(upload),
            parts: parts.iter().map(|(number, value)| (*number, value.0)).collect(),
            body: names.body(&Body::Parts(parts.iter().map(|(_, value)| *value).collect())),
            condition: names.condition(condition),
            answer: match reply {
                None => None,
                Some(Reply::NoSuchUpload) => Some(CompleteAnswer::NoSuchUpload),
                Some(Reply::InvalidPart) => Some(CompleteAnswer::InvalidPart),
                Some(reply) => Some(CompleteAnswer::Write(write_answer(reply, names, versioned)?)),
            },
        })),
        Operation::Abort { upload, .. } => KeyCall::Abort {
            upload: names.upload(upload),
            answer: match reply {
                None => None,
                Some(Reply::Aborted) => Some(AbortAnswer::Aborted),
                Some(Reply::NoSuchUpload) => Some(AbortAnswer::NoSuchUpload),
                Some(_) => return None,
            },
        },
        Operation::List(_)
        | Operation::ListVersions { .. }
        | Operation::ListUploads { .. }
        | Operation::CreateBucket { .. }
        | Operation::DeleteBucket { .. }
        | Operation::HeadBucket { .. } => return None,
    })
}

/// A write to a versioned bucket tells the name of the version.
fn write_answer(reply: &Reply, names: &mut Names, versioned: bool) -> Option<WriteAnswer> {
    match reply {
        Reply::Written { version } => {
            let name = names.optional(version.as_ref());
            (!versioned || name.is_some()).then_some(WriteAnswer::Written { name })
        }
        Reply::PreconditionFailed => Some(WriteAnswer::PreconditionFailed),
        Reply::NoSuchKey { .. } => Some(WriteAnswer::NoSuchKey),
        _ => None,
    }
}
