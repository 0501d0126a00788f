//! The three listings: one page each, from one view of the tables.
//!
//! Work is bounded by the page: a row that is visited becomes an entry, and a group of keys under a common prefix
//! costs one jump, however many rows it has. So no page is cut before it is full.
//!
//! What an entry is compared with (`after`) is its text: a key, or a common prefix. A marker that lies within a
//! group is past that group's text, so the group is not shown again.

use super::{StateError, decode, query, record};
use crate::{
    kv::{Cursor, KeyRange, KvRead, Table, after_prefix},
    query::Counters,
    tables::{
        self,
        record::{CounterRecord, UploadRecord, VersionRecord},
    },
};
use ashlar_types::{
    BucketId, ListEntry, ListPage, ListQuery, ObjectKey, Sequence, UploadId, UploadPage, UploadQuery,
    VersionId, VersionPage, VersionQuery, limits::PAGE_MAX,
};

fn page_len(max_entries: u32) -> usize {
    usize::try_from(max_entries.min(PAGE_MAX)).expect("a page is small")
}

/// What is there at all. A bucket that was emptied is not searched: the engine would walk over all that was deleted.
fn held(kv: &dyn KvRead, bucket: BucketId) -> Result<Counters, StateError> {
    let record: Option<CounterRecord> = record(kv, Table::Counters, &tables::bucket(bucket))?;
    Ok(record.unwrap_or_default().counters)
}

/// Prefix, delimiter and marker of a listing.
struct Scope<'q> {
    prefix: &'q str,
    delimiter: &'q str,
    after: &'q str,
}

impl Scope<'_> {
    /// The common prefix that a key (which begins with the prefix) belongs to.
    fn group<'k>(&self, key: &'k str) -> Option<&'k str> {
        if self.delimiter.is_empty() {
            return None;
        }
        let rest = key.get(self.prefix.len()..)?;
        let at = rest.find(self.delimiter)?;
        key.get(..self.prefix.len() + at + self.delimiter.len())
    }

    /// The group that holds the marker, which is not to be shown any more.
    fn group_shown(&self) -> Option<&str> {
        self.after.starts_with(self.prefix).then(|| self.group(self.after)).flatten()
    }
}

pub(super) fn objects(kv: &dyn KvRead, bucket: BucketId, query: &ListQuery) -> Result<ListPage, StateError> {
    let ListQuery { prefix, delimiter, after, max_entries } = query;
    if held(kv, bucket)?.objects == 0 {
        return Ok(ListPage::default());
    }
    let scope = Scope { prefix, delimiter, after };
    let row = |text: &str| tables::object_text(bucket, text);
    let mut rows = Cursor::new(kv, Table::Current, KeyRange::prefix(&row(prefix)));
    if !after.is_empty() {
        let mut past = row(after);
        past.push(0);
        rows.seek(&past);
    }
    if let Some(group) = scope.group_shown() {
        rows.skip_prefix(&row(group));
    }
    let len = page_len(*max_entries);
    let mut page = ListPage::default();
    while let Some((key, value)) = rows.take()? {
        if page.entries.len() == len {
            page.next = page.entries.last().map(text_of);
            break;
        }
        let key = tables::parse_object(&key).ok_or(StateError::Key { table: Table::Current })?;
        match scope.group(key.as_str()) {
            Some(group) => {
                rows.skip_prefix(&row(group));
                page.entries.push(ListEntry::CommonPrefix(group.to_owned()));
            }
            None => {
                let version: VersionRecord = decode(Table::Current, &value)?;
                page.entries.push(ListEntry::Object(Box::new(version.into_info(key, true))));
            }
        }
    }
    Ok(page)
}

fn text_of(entry: &ListEntry) -> String {
    match entry {
        ListEntry::Object(info) => info.key.as_str().to_owned(),
        ListEntry::CommonPrefix(prefix) => prefix.clone(),
    }
}

/// The rows of `Current` and `Versions` of a bucket, side by side.
struct AllVersions<'a> {
    bucket: BucketId,
    current: Cursor<'a>,
    others: Cursor<'a>,
}

impl<'a> AllVersions<'a> {
    fn new(kv: &'a dyn KvRead, bucket: BucketId, prefix: &str) -> Self {
        let current = KeyRange::prefix(&tables::object_text(bucket, prefix));
        let others = KeyRange::prefix(&tables::escaped_text(bucket, prefix));
        Self {
            bucket,
            current: Cursor::new(kv, Table::Current, current),
            others: Cursor::new(kv, Table::Versions, others),
        }
    }

    fn skip_group(&mut self, group: &str) {
        self.current.skip_prefix(&tables::object_text(self.bucket, group));
        self.others.skip_prefix(&tables::escaped_text(self.bucket, group));
    }

    /// Past all versions of the key that is `text`.
    fn skip_key(&mut self, text: &str) {
        let mut past = tables::object_text(self.bucket, text);
        past.push(0);
        self.current.seek(&past);
        if let Some(past) = after_prefix(&tables::escaped_end(self.bucket, text)) {
            self.others.seek(&past);
        }
    }

    /// Past the versions of `key` that are not older than `sequence`.
    fn skip_to_older(&mut self, key: &str, sequence: Sequence) {
        // The current row is the newest: it is past the marker, or is it.
        let mut past = tables::object_text(self.bucket, key);
        past.push(0);
        self.current.seek(&past);
        let mut row = tables::escaped_end(self.bucket, key);
        row.extend_from_slice(&(!sequence.0).to_be_bytes());
        row.push(0);
        self.others.seek(&row);
    }

    /// The next version in order of key, then newest first.
    fn take(&mut self) -> Result<Option<(ObjectKey, VersionRecord, bool)>, StateError> {
        let malformed = |table| move || StateError::Key { table };
        let current = match self.current.peek()? {
            Some((row, _)) => Some(tables::parse_object(row).ok_or_else(malformed(Table::Current))?),
            None => None,
        };
        let other = match self.others.peek()? {
            Some((row, _)) => Some(tables::parse_escaped(row).ok_or_else(malformed(Table::Versions))?.0),
            None => None,
        };
        // A row of `Current` is newer than all of the same key in `Versions`.
        let (cursor, table, key) = match (current, other) {
            (None, None) => return Ok(None),
            (Some(current), None) => (&mut self.current, Table::Current, current),
            (Some(current), Some(other)) if current <= other => (&mut self.current, Table::Current, current),
            (_, Some(other)) => (&mut self.others, Table::Versions, other),
        };
        let Some((_, value)) = cursor.take()? else { return Ok(None) };
        let version: VersionRecord = decode(table, &value)?;
        let is_latest = version.noncurrent_since.is_none();
        Ok(Some((key, version, is_latest)))
    }
}

pub(super) fn versions(
    kv: &dyn KvRead,
    bucket: BucketId,
    query: &VersionQuery,
) -> Result<VersionPage, StateError> {
    let VersionQuery { prefix, delimiter, key_after, version_after, max_entries } = query;
    let Counters { objects, noncurrent, delete_markers, .. } = held(kv, bucket)?;
    if objects + noncurrent + delete_markers == 0 {
        return Ok(VersionPage::default());
    }
    let scope = Scope { prefix, delimiter, after: key_after };
    let mut rows = AllVersions::new(kv, bucket, prefix);
    if let Some(group) = scope.group_shown() {
        rows.skip_group(group);
    } else if let Some(version) = version_after {
        match sequence_of(kv, bucket, key_after, *version)? {
            Some(sequence) => rows.skip_to_older(key_after, sequence),
            // The null version that the marker named is gone, and with it its place: to show versions of this key
            // again is better than to leave some out.
            None => {
                rows.current.seek(&tables::object_text(bucket, key_after));
                rows.others.seek(&tables::escaped_end(bucket, key_after));
            }
        }
    } else if !key_after.is_empty() {
        rows.skip_key(key_after);
    }
    let len = page_len(*max_entries);
    let mut page = VersionPage::default();
    while let Some((key, version, is_latest)) = rows.take()? {
        if page.entries.len() == len {
            page.next = page.entries.last().map(|last| match last {
                ListEntry::Object(info) => (info.key.as_str().to_owned(), Some(info.version_id)),
                ListEntry::CommonPrefix(prefix) => (prefix.clone(), None),
            });
            break;
        }
        match scope.group(key.as_str()) {
            Some(group) => {
                rows.skip_group(group);
                page.entries.push(ListEntry::CommonPrefix(group.to_owned()));
            }
            None => page.entries.push(ListEntry::Object(Box::new(version.into_info(key, is_latest)))),
        }
    }
    Ok(page)
}

/// Where a version is, or was, in the order of its key's versions.
fn sequence_of(
    kv: &dyn KvRead,
    bucket: BucketId,
    key: &str,
    version: VersionId,
) -> Result<Option<Sequence>, StateError> {
    if let VersionId::Id { sequence, .. } = version {
        return Ok(Some(sequence));
    }
    let Ok(key) = ObjectKey::parse(key) else { return Ok(None) };
    let current: Option<VersionRecord> = record(kv, Table::Current, &tables::object(bucket, &key))?;
    let null = match current.filter(VersionRecord::is_null) {
        Some(current) => Some(current),
        None => query::noncurrent(kv, bucket, &key, VersionId::Null)?,
    };
    Ok(null.map(|null| null.sequence))
}

pub(super) fn uploads(
    kv: &dyn KvRead,
    bucket: BucketId,
    query: &UploadQuery,
) -> Result<UploadPage, StateError> {
    let UploadQuery { prefix, delimiter, key_after, upload_after, max_entries } = query;
    if held(kv, bucket)?.uploads == 0 {
        return Ok(UploadPage::default());
    }
    let scope = Scope { prefix, delimiter, after: key_after };
    let table = Table::Uploads;
    let mut rows = Cursor::new(kv, table, KeyRange::prefix(&tables::escaped_text(bucket, prefix)));
    if let Some(group) = scope.group_shown() {
        rows.skip_prefix(&tables::escaped_text(bucket, group));
    } else if let Some(upload) = upload_after {
        let mut past = tables::escaped_end(bucket, key_after);
        tables::push_upload(&mut past, *upload);
        past.push(0);
        rows.seek(&past);
    } else if !key_after.is_empty()
        && let Some(past) = after_prefix(&tables::escaped_end(bucket, key_after))
    {
        rows.seek(&past);
    }
    let len = page_len(*max_entries);
    let mut page = UploadPage::default();
    let mut last: Option<(String, Option<UploadId>)> = None;
    while let Some((row, value)) = rows.take()? {
        if page.uploads.len() + page.common_prefixes.len() == len {
            page.next = last;
            break;
        }
        let (key, upload) = parse_upload(&row).ok_or(StateError::Key { table })?;
        match scope.group(key.as_str()) {
            Some(group) => {
                rows.skip_prefix(&tables::escaped_text(bucket, group));
                page.common_prefixes.push(group.to_owned());
                last = Some((group.to_owned(), None));
            }
            None => {
                last = Some((key.as_str().to_owned(), Some(upload)));
                let record: UploadRecord = decode(table, &value)?;
                page.uploads.push(record.into_info(key, upload));
            }
        }
    }
    Ok(page)
}

fn parse_upload(row: &[u8]) -> Option<(ObjectKey, UploadId)> {
    let (key, after) = tables::parse_escaped(row)?;
    Some((key, tables::parse_upload(after)?))
}
