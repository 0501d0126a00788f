//! Pages of the listings against lists that are grouped and cut by hand.

use super::fixture::{BUCKET, Group, key};
use crate::query::{Answer, Query};
use ashlar_types::{
    ListEntry, ListPage, ListQuery, UploadId, UploadPage, UploadQuery, VersionId, VersionPage, VersionQuery,
    Versioning, limits::PAGE_MAX,
};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
enum Change {
    Put,
    Delete,
    DeleteOldest,
    Upload,
}

/// What was done, as a list of versions (the oldest first) and uploads a key.
#[derive(Default)]
struct Keys {
    versions: BTreeMap<String, Vec<(VersionId, bool)>>,
    uploads: BTreeMap<String, Vec<UploadId>>,
}

/// Few characters of one, two and four bytes, so that keys share prefixes and contain delimiters.
fn text() -> impl Strategy<Value = String> {
    let piece =
        prop::sample::select(vec!["a", "b", "/", "/", "ab", "\u{e9}", "\u{0}", "\u{10ffff}", "\u{7f}"]);
    vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

fn delimiter() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "/", "/", "\u{e9}", "ab", "//", "\u{10ffff}", "\u{0}"])
        .prop_map(str::to_owned)
}

fn changes() -> impl Strategy<Value = Vec<(String, Change)>> {
    let change = prop::sample::select(vec![
        Change::Put,
        Change::Put,
        Change::Put,
        Change::Delete,
        Change::DeleteOldest,
        Change::Upload,
    ]);
    vec((text().prop_filter("a key is not empty", |text| !text.is_empty()), change), 0..40)
}

fn group_of(changes: Vec<(String, Change)>) -> (Group, Keys) {
    let mut group = Group::new(Versioning::Enabled);
    let mut keys = Keys::default();
    let count = changes.len();
    for (index, (name, change)) in changes.into_iter().enumerate() {
        if index == count / 2 {
            group.set_versioning(Versioning::Suspended);
        }
        let versions = keys.versions.entry(name.clone()).or_default();
        match change {
            Change::Put | Change::Delete => {
                let (id, marker) = match change {
                    Change::Put => (group.put(&name).version_id, false),
                    Change::Delete | Change::DeleteOldest | Change::Upload => {
                        (group.delete(&name, None).unwrap().delete_marker, true)
                    }
                };
                let id = id.unwrap();
                versions.retain(|(known, _)| *known != id);
                versions.push((id, marker));
            }
            Change::DeleteOldest => {
                if !versions.is_empty() {
                    let (id, _) = versions.remove(0);
                    group.delete(&name, Some(id)).unwrap();
                }
            }
            Change::Upload => {
                let upload = group.create_upload(&name);
                keys.uploads.entry(name).or_default().push(upload);
            }
        }
    }
    keys.versions.retain(|_, versions| !versions.is_empty());
    (group, keys)
}

/// The text that a key is shown as, and whether that is a common prefix.
fn shown_as(key: &str, prefix: &str, delimiter: &str) -> Option<(String, bool)> {
    let rest = key.strip_prefix(prefix)?;
    let at = if delimiter.is_empty() { None } else { rest.find(delimiter) };
    Some(match at {
        Some(at) => (format!("{prefix}{}{delimiter}", &rest[..at]), true),
        None => (key.to_owned(), false),
    })
}

/// Walks all pages; each but the last is full.
fn walk<Q, P, E>(
    mut query: Q,
    page_len: usize,
    mut ask: impl FnMut(&Q) -> P,
    mut entries_of: impl FnMut(P) -> (Vec<E>, Option<Q>),
) -> Vec<E> {
    let mut all = vec![];
    loop {
        let (entries, next) = entries_of(ask(&query));
        assert!(entries.len() == page_len || (next.is_none() && entries.len() < page_len));
        all.extend(entries);
        match next {
            Some(next) => query = next,
            None => return all,
        }
    }
}

fn list(group: &Group, query: &ListQuery) -> ListPage {
    match group.query(Query::List { bucket: BUCKET, query: query.clone() }) {
        Answer::List(page) => page,
        other => panic!("{other:?}"),
    }
}

fn list_versions(group: &Group, query: &VersionQuery) -> VersionPage {
    match group.query(Query::Versions { bucket: BUCKET, query: query.clone() }) {
        Answer::Versions(page) => page,
        other => panic!("{other:?}"),
    }
}

fn list_uploads(group: &Group, query: &UploadQuery) -> UploadPage {
    match group.query(Query::Uploads { bucket: BUCKET, query: query.clone() }) {
        Answer::Uploads(page) => page,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn pages_of_objects_are_cuts_of_the_whole_list(
        changes in changes(), prefix in text(), delimiter in delimiter(), after in text(), page_len in 1u32..6,
    ) {
        let (group, keys) = group_of(changes);
        let mut expected = vec![];
        for (key, versions) in &keys.versions {
            let live = versions.last().is_some_and(|(_, marker)| !marker);
            if let Some(text) = shown_as(key, &prefix, &delimiter)
                && live && text.0 > after && expected.last() != Some(&text)
            {
                expected.push(text);
            }
        }
        let first = ListQuery { prefix, delimiter, after, max_entries: page_len };
        let all = walk(first.clone(), page_len as usize, |query| list(&group, query), |page| {
            let next = page.next.map(|after| ListQuery { after, ..first.clone() });
            let entries = page.entries.into_iter().map(|entry| match entry {
                ListEntry::Object(info) => (info.key.as_str().to_owned(), false),
                ListEntry::CommonPrefix(prefix) => (prefix, true),
            });
            (entries.collect(), next)
        });
        prop_assert_eq!(all, expected);
    }

    #[test]
    fn pages_of_versions_are_cuts_of_the_whole_list(
        changes in changes(), prefix in text(), delimiter in delimiter(), key_after in text(), page_len in 1u32..6,
        version_index in prop::option::of(any::<usize>()),
    ) {
        let (group, keys) = group_of(changes);
        // A marker version only of a key that has some.
        let marked = match (version_index, keys.versions.len()) {
            (Some(index), len @ 1..) => {
                let (key, versions) = keys.versions.iter().nth(index % len).unwrap();
                Some((key.clone(), versions[index % versions.len()].0))
            }
            _ => None,
        };
        let (key_after, version_after) = match marked {
            Some((key, version)) => (key, Some(version)),
            None => (key_after, None),
        };
        let mut expected = vec![];
        for (key, versions) in &keys.versions {
            let Some((text, grouped)) = shown_as(key, &prefix, &delimiter) else { continue };
            if grouped {
                let entry = (text, None, false, false);
                if entry.0 > key_after && expected.last() != Some(&entry) {
                    expected.push(entry);
                }
                continue;
            }
            let mut passed = *key > key_after;
            for (index, (id, marker)) in versions.iter().enumerate().rev() {
                if passed {
                    expected.push((text.clone(), Some(*id), index + 1 == versions.len(), *marker));
                }
                passed |= *key == key_after && Some(*id) == version_after;
            }
        }
        let first = VersionQuery { prefix, delimiter, key_after, version_after, max_entries: page_len };
        let all = walk(first.clone(), page_len as usize, |query| list_versions(&group, query), |page| {
            let next = page.next.map(|(key_after, version_after)| {
                VersionQuery { key_after, version_after, ..first.clone() }
            });
            let entries = page.entries.into_iter().map(|entry| match entry {
                ListEntry::Object(info) => {
                    (info.key.as_str().to_owned(), Some(info.version_id), info.is_latest, info.delete_marker)
                }
                ListEntry::CommonPrefix(prefix) => (prefix, None, false, false),
            });
            (entries.collect(), next)
        });
        prop_assert_eq!(all, expected);
    }

    #[test]
    fn pages_of_uploads_are_cuts_of_the_whole_list(
        changes in changes(), prefix in text(), delimiter in delimiter(), key_after in text(), page_len in 1u32..6,
        upload_index in prop::option::of(any::<usize>()),
    ) {
        let (group, keys) = group_of(changes);
        let marked = match (upload_index, keys.uploads.len()) {
            (Some(index), len @ 1..) => {
                let (key, uploads) = keys.uploads.iter().nth(index % len).unwrap();
                Some((key.clone(), uploads[index % uploads.len()]))
            }
            _ => None,
        };
        let (key_after, upload_after) = match marked {
            Some((key, upload)) => (key, Some(upload)),
            None => (key_after, None),
        };
        let (mut expected_uploads, mut expected_groups) = (vec![], vec![]);
        for (key, uploads) in &keys.uploads {
            let Some((text, grouped)) = shown_as(key, &prefix, &delimiter) else { continue };
            if grouped {
                if text > key_after && expected_groups.last() != Some(&text) {
                    expected_groups.push(text);
                }
                continue;
            }
            for upload in uploads {
                let later = *key == key_after && upload_after.is_some_and(|after| *upload > after);
                if *key > key_after || later {
                    expected_uploads.push((key.clone(), *upload));
                }
            }
        }
        let first = UploadQuery { prefix, delimiter, key_after, upload_after, max_entries: page_len };
        let all = walk(first.clone(), page_len as usize, |query| list_uploads(&group, query), |page| {
            let next = page.next.map(|(key_after, upload_after)| {
                UploadQuery { key_after, upload_after, ..first.clone() }
            });
            let uploads = page.uploads.into_iter().map(|info| Ok((info.key.as_str().to_owned(), info.upload)));
            (uploads.chain(page.common_prefixes.into_iter().map(Err)).collect(), next)
        });
        let (uploads, groups): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        prop_assert_eq!(uploads.into_iter().map(Result::unwrap).collect::<Vec<_>>(), expected_uploads);
        prop_assert_eq!(groups.into_iter().map(Result::unwrap_err).collect::<Vec<_>>(), expected_groups);
    }
}

#[test]
fn a_page_of_no_entries_is_whole() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put("a");
    let page = list(&group, &ListQuery { max_entries: 0, ..ListQuery::default() });
    assert_eq!(page, ListPage::default());
}

#[test]
fn a_page_has_at_most_a_thousand_entries_and_a_full_last_page_has_no_next() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put_many(1001);
    let first = list(&group, &ListQuery { max_entries: u32::MAX, ..ListQuery::default() });
    assert_eq!(first.entries.len(), PAGE_MAX as usize);
    let rest =
        list(&group, &ListQuery { max_entries: 1, after: first.next.unwrap(), ..ListQuery::default() });
    assert_eq!((rest.entries.len(), rest.next), (1, None));
}

#[test]
fn a_marker_whose_null_version_is_gone_shows_the_key_again() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put("a");
    group.put("b");
    group.set_versioning(Versioning::Enabled);
    group.put("b");
    group.put("c");
    let first = VersionQuery {
        key_after: "b".into(),
        version_after: Some(VersionId::Null),
        max_entries: 10,
        ..VersionQuery::default()
    };
    let keys = |page: VersionPage| -> Vec<_> {
        page.entries
            .into_iter()
            .map(|entry| match entry {
                ListEntry::Object(info) => info.key,
                ListEntry::CommonPrefix(prefix) => panic!("{prefix}"),
            })
            .collect()
    };
    assert_eq!(keys(list_versions(&group, &first)), [key("c")]);
    group.delete("b", Some(VersionId::Null)).unwrap();
    assert_eq!(keys(list_versions(&group, &first)), [key("b"), key("c")]);
}

#[test]
fn a_listing_of_groups_reads_a_row_or_two_of_each() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put_many(900);
    let counting = super::fixture::CountingKv::new(&group.kv);
    let query = ListQuery { delimiter: "/".into(), max_entries: 1000, ..ListQuery::default() };
    let page = crate::state::listing::objects(&counting, BUCKET, &query).unwrap();
    assert_eq!(page.entries.len(), 90);
    assert!(counting.rows() < 200, "{} rows read", counting.rows());
}

#[test]
fn listings_of_an_unknown_bucket_say_so() {
    let group = Group::empty(super::fixture::GROUP);
    let query = ListQuery::default();
    assert_eq!(group.query(Query::List { bucket: BUCKET, query }), Answer::NoSuchBucket);
    let query = VersionQuery::default();
    assert_eq!(group.query(Query::Versions { bucket: BUCKET, query }), Answer::NoSuchBucket);
    let query = UploadQuery::default();
    assert_eq!(group.query(Query::Uploads { bucket: BUCKET, query }), Answer::NoSuchBucket);
}

/// A store whose scans fail the test: what was deleted lies in the way of each.
struct NoScan<'a>(&'a dyn crate::kv::KvRead);

impl crate::kv::KvRead for NoScan<'_> {
    fn get(&self, table: crate::kv::Table, key: &[u8]) -> Result<Option<bytes::Bytes>, crate::kv::KvError> {
        self.0.get(table, key)
    }

    fn scan(
        &self,
        table: crate::kv::Table,
        _: &crate::kv::KeyRange,
        _: crate::kv::Direction,
        _: &mut crate::kv::Visit<'_>,
    ) -> Result<(), crate::kv::KvError> {
        panic!("a scan of {table:?}")
    }
}

#[test]
fn a_bucket_that_was_emptied_is_not_searched() {
    let mut group = Group::new(Versioning::Unversioned);
    group.put("a");
    let upload = group.create_upload("a");
    let (list, versions, uploads) = (
        ListQuery { max_entries: 9, ..ListQuery::default() },
        VersionQuery { max_entries: 9, ..VersionQuery::default() },
        UploadQuery { max_entries: 9, ..UploadQuery::default() },
    );
    assert_eq!(list_versions(&group, &versions).entries.len(), 1);
    group.delete("a", None).unwrap();
    group.abort("a", upload).unwrap();
    let kv = NoScan(&group.kv);
    assert_eq!(crate::state::listing::objects(&kv, BUCKET, &list).unwrap(), ListPage::default());
    assert_eq!(crate::state::listing::versions(&kv, BUCKET, &versions).unwrap(), VersionPage::default());
    assert_eq!(crate::state::listing::uploads(&kv, BUCKET, &uploads).unwrap(), UploadPage::default());
    // One live object, one marker, one upload: each is shown.
    group.set_versioning(Versioning::Enabled);
    group.delete("b", None).unwrap();
    assert_eq!(list_versions(&group, &versions).entries.len(), 1);
    group.put("c");
    let query = list.clone();
    assert_eq!(self::list(&group, &query).entries.len(), 1);
    group.create_upload("d");
    assert_eq!(list_uploads(&group, &uploads).uploads.len(), 1);
}
