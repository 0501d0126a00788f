//! What every answer about a version has to agree with, whenever it was given: bodies are those that somebody wrote, whole,
//! under one name; a name never changes its bytes; versions keep their order, and it is that of time.
//!
//! Weaker than linearizability, for keys with histories that are too long to search, and clearer in what it says.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "calls and answers that are not named have nothing to do with what is asked"
)]

use super::history::{
    Body, Call, History, Listed, Operation, Outcome, Place, Reply, UploadName, VersionName, Violation,
};
use std::collections::{BTreeMap, BTreeSet};

pub fn judge(history: &History) -> Vec<Violation> {
    let mut violations = bodies(history);
    violations.extend(names(history));
    violations.extend(uploads(history));
    violations.extend(order(history));
    violations
}

/// A body seen: where, under which name if one was told, and by which call.
struct Sighting<'h> {
    place: Place,
    body: &'h Body,
    version: Option<&'h VersionName>,
    call: &'h Call,
}

fn sightings(history: &History) -> Vec<Sighting<'_>> {
    let mut seen = Vec::new();
    for call in &history.calls {
        match (&call.operation, call.reply()) {
            (Operation::Get { place, .. }, Some(Reply::Found { body, version })) => {
                seen.push(Sighting { place: place.clone(), body, version: version.as_ref(), call });
            }
            (Operation::List(list), Some(Reply::Objects(page))) => {
                for entry in &page.entries {
                    if let Listed::Object { key, body } = entry {
                        seen.push(Sighting {
                            place: Place::new(&list.bucket, key),
                            body,
                            version: None,
                            call,
                        });
                    }
                }
            }
            (Operation::ListVersions { bucket, .. }, Some(Reply::Versions(page))) => {
                for entry in &page.entries {
                    let Some(body) = &entry.body else { continue };
                    let version = Some(&entry.version);
                    seen.push(Sighting { place: Place::new(bucket, &entry.key), body, version, call });
                }
            }
            _ => {}
        }
    }
    seen
}

/// The body that a call writes, if it writes one that readers may see.
fn written(call: &Call) -> Option<(&Place, Body)> {
    if call.outcome == Outcome::NotDone {
        return None;
    }
    match &call.operation {
        Operation::Put { place, value, .. } => Some((place, Body::One(*value))),
        Operation::Complete { place, parts, .. } => {
            Some((place, Body::Parts(parts.iter().map(|(_, value)| *value).collect())))
        }
        _ => None,
    }
}

/// No body but those of puts and of whole Completes that had begun and were not refused.
fn bodies(history: &History) -> Vec<Violation> {
    let mut writes: BTreeMap<(Place, Body), Vec<&Call>> = BTreeMap::new();
    for call in &history.calls {
        if let Some((place, body)) = written(call) {
            writes.entry((place.clone(), body)).or_default().push(call);
        }
    }
    let mut violations = Vec::new();
    for seen in sightings(history) {
        let of_body = writes.get(&(seen.place.clone(), seen.body.clone()));
        let why = match of_body {
            None => "nobody wrote that there",
            Some(calls) if calls.iter().all(|call| seen.call.precedes(call)) => "it is written only later",
            Some(calls) if calls.iter().all(|call| is_refused(call)) => "the write was refused",
            Some(_) => continue,
        };
        let rule = if matches!(seen.body, Body::Parts(_)) { "multipart atomicity" } else { "body" };
        let what = format!("{:?} shows {:?}, but {why}\n  {}", seen.place, seen.body, seen.call);
        violations.push(Violation::new(rule, what));
    }
    violations
}

fn is_refused(call: &Call) -> bool {
    matches!(
        call.reply(),
        Some(Reply::PreconditionFailed | Reply::NoSuchKey { .. } | Reply::NoSuchUpload | Reply::InvalidPart)
    )
}

/// In a versioned bucket a name means one body for ever, and a body has one name.
fn names(history: &History) -> Vec<Violation> {
    let mut bodies: BTreeMap<(Place, VersionName), Body> = BTreeMap::new();
    let mut names: BTreeMap<(Place, Body), VersionName> = BTreeMap::new();
    let mut violations = Vec::new();
    let mut learn = |place: &Place, name: &VersionName, body: &Body, call: &Call| {
        if !history.versioned.contains(&place.bucket) {
            return;
        }
        let known = bodies.entry((place.clone(), name.clone())).or_insert_with(|| body.clone());
        if known != body {
            let what = format!("{place:?} {name:?} was {known:?} and is {body:?}\n  {call}");
            violations.push(Violation::new("version name", what));
        }
        let known = names.entry((place.clone(), body.clone())).or_insert_with(|| name.clone());
        if known != name {
            let what = format!("{place:?}: {body:?} is {known:?} and {name:?}\n  {call}");
            violations.push(Violation::new("applied twice", what));
        }
    };
    for call in &history.calls {
        if let (Some((place, body)), Some(Reply::Written { version: Some(name) })) =
            (written(call), call.reply())
        {
            learn(place, name, &body, call);
        }
    }
    for seen in sightings(history) {
        if let Some(name) = seen.version {
            learn(&seen.place, name, seen.body, seen.call);
        }
    }
    violations
}

/// An upload makes at most one version, and none once it was aborted.
fn uploads(history: &History) -> Vec<Violation> {
    let mut made: BTreeMap<&UploadName, (&Call, Body)> = BTreeMap::new();
    let mut violations = Vec::new();
    for call in &history.calls {
        let (Operation::Complete { upload, .. }, Some(Reply::Written { version })) =
            (&call.operation, call.reply())
        else {
            continue;
        };
        let Some((_, body)) = written(call) else { continue };
        if let Some((first, same)) = made.get(upload) {
            let told = if let Some(Reply::Written { version }) = first.reply() { version } else { &None };
            if *same != body || told != version {
                let what = format!("{upload:?} became two versions\n  {first}\n  {call}");
                violations.push(Violation::new("multipart atomicity", what));
            }
        } else {
            made.insert(upload, (call, body));
        }
    }
    for call in &history.calls {
        let (Operation::Abort { upload, .. }, Some(Reply::Aborted)) = (&call.operation, call.reply()) else {
            continue;
        };
        if let Some((complete, _)) = made.get(upload) {
            let what = format!("{upload:?} was aborted and completed\n  {call}\n  {complete}");
            violations.push(Violation::new("multipart atomicity", what));
        }
    }
    violations
}

/// Two versions of a key that two listings show are in the same order in both; and what was written first, without a
/// doubt, is older.
fn order(history: &History) -> Vec<Violation> {
    let mut older: BTreeMap<Place, BTreeSet<(&VersionName, &VersionName)>> = BTreeMap::new();
    let mut spans: BTreeMap<(Place, &VersionName), &Call> = BTreeMap::new();
    for call in &history.calls {
        let name = match call.reply() {
            Some(Reply::Written { version: Some(name) } | Reply::Deleted { marker: Some(name) }) => name,
            _ => continue,
        };
        if let Operation::Put { place, .. } | Operation::Delete { place, version: None, .. } = &call.operation
        {
            spans.insert((place.clone(), name), call);
        }
    }
    let mut violations = Vec::new();
    for call in &history.calls {
        let (Operation::ListVersions { bucket, .. }, Some(Reply::Versions(page))) =
            (&call.operation, call.reply())
        else {
            continue;
        };
        for (number, new) in page.entries.iter().enumerate() {
            let of_key = page.entries[number + 1..].iter().take_while(|old| old.key == new.key);
            for old in of_key {
                let place = Place::new(bucket, &new.key);
                let late = spans.get(&(place.clone(), &old.version));
                let early = spans.get(&(place.clone(), &new.version));
                let pairs = older.entry(place.clone()).or_default();
                let turned = pairs.contains(&(&new.version, &old.version));
                pairs.insert((&old.version, &new.version));
                let against_time = early.zip(late).is_some_and(|(early, late)| early.precedes(late));
                if turned || against_time {
                    let what = format!(
                        "{place:?}: {:?} is shown as newer than {:?}\n  {call}",
                        new.version, old.version
                    );
                    violations.push(Violation::new("version order", what));
                }
            }
        }
    }
    violations
}
