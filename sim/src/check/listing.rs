//! What pages of listings say, and what they say about each key.
//!
//! A page is one snapshot: for every key that lies between its marker and its end it is a read of that key, at one moment
//! of the call. So nothing that was acknowledged before may be missing, nothing may be invented or come back, and pages
//! that follow each other neither skip nor repeat a key that stays.

use super::history::{
    Body, Call, History, ListCall, Listed, ListedVersion, ObjectPage, Operation, Place, Reply, UploadName,
    UploadPage, VersionName, VersionPage, Violation,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// What a page says about one key that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The body of the live latest version.
    Latest(Option<Body>),
    /// All versions, newest first.
    Versions(Vec<(VersionName, Option<Body>)>),
    Uploads(BTreeSet<UploadName>),
}

/// Keys of a bucket that anybody ever called, in order.
pub(super) type Keys = BTreeMap<String, BTreeSet<String>>;

pub(super) fn keys(history: &History) -> Keys {
    let mut keys = Keys::new();
    for place in history.calls.iter().filter_map(|call| call.operation.place()) {
        keys.entry(place.bucket.clone()).or_default().insert(place.key.clone());
    }
    keys
}

/// What a call says about keys, if it is a listing.
pub(super) fn seen(call: &Call, keys: &Keys) -> Vec<(Place, Seen)> {
    let Some(reply) = call.reply() else { return Vec::new() };
    match (&call.operation, reply) {
        (Operation::List(list), Reply::Objects(page)) => objects(list, page, keys),
        (Operation::ListVersions { bucket, prefix, key_after, version_after, .. }, Reply::Versions(page)) => {
            let scope = Scope { bucket, prefix, key_after, within: version_after.is_some() };
            versions(&scope, page, keys)
        }
        (Operation::ListUploads { bucket, prefix, key_after, upload_after, .. }, Reply::Uploads(page)) => {
            let scope = Scope { bucket, prefix, key_after, within: upload_after.is_some() };
            uploads(&scope, page, keys)
        }
        _ => Vec::new(),
    }
}

fn objects(list: &ListCall, page: &ObjectPage, keys: &Keys) -> Vec<(Place, Seen)> {
    let bodies: BTreeMap<&str, &Body> = page
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Listed::Object { key, body } => Some((key.as_str(), body)),
            Listed::CommonPrefix(_) => None,
        })
        .collect();
    let groups: BTreeSet<&str> = page
        .entries
        .iter()
        .filter_map(|entry| match entry {
            Listed::CommonPrefix(group) => Some(group.as_str()),
            Listed::Object { .. } => None,
        })
        .collect();
    let mut seen = Vec::new();
    for key in under(keys, &list.bucket, &list.prefix) {
        let text = group(list, key).unwrap_or(key);
        // A marker within a group is past the group's text: the group is not shown again.
        if text <= list.after.as_str() || page.next.as_deref().is_some_and(|next| text > next) {
            continue;
        }
        // Of a group that is shown some key is there, and nobody knows which.
        if group(list, key).is_some_and(|group| groups.contains(group)) {
            continue;
        }
        let body = bodies.get(key).map(|body| (*body).clone());
        seen.push((Place::new(&list.bucket, key), Seen::Latest(body)));
    }
    seen
}

/// Keys of a bucket that begin with a prefix.
fn under<'k>(keys: &'k Keys, bucket: &str, prefix: &'k str) -> impl Iterator<Item = &'k str> {
    let all = keys.get(bucket).into_iter();
    let from = (Bound::Included(prefix.to_owned()), Bound::Unbounded);
    all.flat_map(move |all| all.range(from.clone()))
        .map(String::as_str)
        .take_while(move |key| key.starts_with(prefix))
}

/// The text under which a listing with a delimiter shows a key together with others.
fn group<'k>(list: &ListCall, key: &'k str) -> Option<&'k str> {
    if list.delimiter.is_empty() {
        return None;
    }
    let rest = key.strip_prefix(list.prefix.as_str())?;
    let end = list.prefix.len() + rest.find(&list.delimiter)? + list.delimiter.len();
    key.get(..end)
}

/// Where a listing of versions or uploads begins.
struct Scope<'a> {
    bucket: &'a str,
    prefix: &'a str,
    key_after: &'a str,
    /// In the middle of `key_after`.
    within: bool,
}

impl Scope<'_> {
    /// The keys that are on the page from their first entry to their last.
    fn whole<'k>(&'k self, keys: &'k Keys, next: Option<(&'k str, bool)>) -> impl Iterator<Item = &'k str> {
        under(keys, self.bucket, self.prefix).filter(move |key| *key > self.key_after).filter(move |key| {
            match next {
                None => true,
                // With a version the page ends within that key, or at its end.
                Some((last, within)) => *key < last || (*key == last && !within),
            }
        })
    }
}

fn versions(scope: &Scope<'_>, page: &VersionPage, keys: &Keys) -> Vec<(Place, Seen)> {
    let next = page.next.as_ref().map(|(key, version)| (key.as_str(), version.is_some()));
    scope
        .whole(keys, next)
        .map(|key| {
            let of_key = page.entries.iter().filter(|entry| entry.key == key);
            let listed = of_key.map(|entry| (entry.version.clone(), entry.body.clone())).collect();
            (Place::new(scope.bucket, key), Seen::Versions(listed))
        })
        .collect()
}

fn uploads(scope: &Scope<'_>, page: &UploadPage, keys: &Keys) -> Vec<(Place, Seen)> {
    let next = page.next.as_ref().map(|(key, upload)| (key.as_str(), upload.is_some()));
    scope
        .whole(keys, next)
        .map(|key| {
            let of_key = page.entries.iter().filter(|(listed, _)| listed == key);
            let listed = of_key.map(|(_, upload)| upload.clone()).collect();
            (Place::new(scope.bucket, key), Seen::Uploads(listed))
        })
        .collect()
}

/// What every page has to be, whatever is stored.
pub fn pages(history: &History) -> Vec<Violation> {
    let keys = keys(history);
    let mut violations = Vec::new();
    for call in &history.calls {
        let wrong = match (&call.operation, call.reply()) {
            (Operation::List(list), Some(Reply::Objects(page))) => check_objects(list, page, &keys),
            (
                Operation::ListVersions { bucket, prefix, key_after, version_after, max_entries },
                Some(Reply::Versions(page)),
            ) => {
                let scope = Scope { bucket, prefix, key_after, within: version_after.is_some() };
                check_versions(&scope, page, *max_entries, &keys)
            }
            (
                Operation::ListUploads { bucket, prefix, key_after, upload_after, max_entries },
                Some(Reply::Uploads(page)),
            ) => {
                let scope = Scope { bucket, prefix, key_after, within: upload_after.is_some() };
                check_uploads(&scope, page, *max_entries, &keys)
            }
            _ => Ok(()),
        };
        if let Err(wrong) = wrong {
            violations.push(Violation::new("listing", format!("{wrong}\n  {call}")));
        }
    }
    violations
}

fn check_objects(list: &ListCall, page: &ObjectPage, keys: &Keys) -> Result<(), String> {
    let mut before: Option<&str> = None;
    for entry in &page.entries {
        let text = match entry {
            Listed::Object { key, .. } => {
                if !is_known(keys, &list.bucket, key) {
                    return Err(format!("key {key:?} is invented"));
                }
                if group(list, key).is_some() {
                    return Err(format!("key {key:?} belongs into a common prefix"));
                }
                key
            }
            Listed::CommonPrefix(shown) => {
                let is_group = |key: &str| group(list, key) == Some(shown);
                if !under(keys, &list.bucket, shown).any(is_group) {
                    return Err(format!("common prefix {shown:?} is no key's"));
                }
                shown
            }
        };
        check_place(text, &list.prefix, &list.after)?;
        if before.is_some_and(|before| before >= text.as_str()) {
            return Err(format!("{text:?} follows {before:?}"));
        }
        before = Some(text);
    }
    check_len(page.entries.len(), list.max_entries)?;
    check_next(page.next.as_deref(), before, &list.after)
}

fn check_versions(scope: &Scope<'_>, page: &VersionPage, max: u32, keys: &Keys) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let mut before: Option<&ListedVersion> = None;
    for entry in &page.entries {
        let ListedVersion { key, version, latest, .. } = entry;
        if !is_known(keys, scope.bucket, key) {
            return Err(format!("key {key:?} is invented"));
        }
        if !(scope.within && key == scope.key_after) {
            check_place(key, scope.prefix, scope.key_after)?;
        }
        if before.is_some_and(|before| before.key > *key) {
            return Err(format!("{key:?} follows {:?}", before.map(|before| &before.key)));
        }
        if !names.insert((key, version)) {
            return Err(format!("version {version:?} of {key:?} is there twice"));
        }
        let is_first = before.is_none_or(|before| before.key != *key);
        let continues = scope.within && key == scope.key_after;
        if *latest != (is_first && !continues) {
            return Err(format!("version {version:?} of {key:?} is the latest or not, against its place"));
        }
        before = Some(entry);
    }
    check_len(page.entries.len(), max)?;
    let last = before.map(|before| before.key.as_str());
    check_next(page.next.as_ref().map(|(key, _)| key.as_str()), last, scope.key_after)
}

fn check_uploads(scope: &Scope<'_>, page: &UploadPage, max: u32, keys: &Keys) -> Result<(), String> {
    let mut before: Option<&str> = None;
    let mut names = BTreeSet::new();
    for (key, upload) in &page.entries {
        if !is_known(keys, scope.bucket, key) {
            return Err(format!("key {key:?} is invented"));
        }
        if !(scope.within && key == scope.key_after) {
            check_place(key, scope.prefix, scope.key_after)?;
        }
        if before.is_some_and(|before| before > key.as_str()) {
            return Err(format!("{key:?} follows {before:?}"));
        }
        if !names.insert(upload) {
            return Err(format!("upload {upload:?} is there twice"));
        }
        before = Some(key);
    }
    check_len(page.entries.len(), max)?;
    check_next(page.next.as_ref().map(|(key, _)| key.as_str()), before, scope.key_after)
}

fn is_known(keys: &Keys, bucket: &str, key: &str) -> bool {
    keys.get(bucket).is_some_and(|keys| keys.contains(key))
}

fn check_place(text: &str, prefix: &str, after: &str) -> Result<(), String> {
    if !text.starts_with(prefix) {
        return Err(format!("{text:?} does not begin with the prefix {prefix:?}"));
    }
    if text <= after {
        return Err(format!("{text:?} is not after {after:?}"));
    }
    Ok(())
}

fn check_len(len: usize, max: u32) -> Result<(), String> {
    if u32::try_from(len).is_ok_and(|len| len <= max) {
        Ok(())
    } else {
        Err(format!("{len} entries, and no more than {max} were asked for"))
    }
}

/// A page that goes on must come further, and past what it showed.
fn check_next(next: Option<&str>, last: Option<&str>, after: &str) -> Result<(), String> {
    match next {
        Some(next) if next < last.unwrap_or(after) => Err(format!("the next page begins before {last:?}")),
        Some(_) | None => Ok(()),
    }
}
