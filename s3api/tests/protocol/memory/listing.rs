//! Listings of the model: straight from the documents of the queries.

use super::{Bucket, Upload};
use ashlar_types::{
    ListEntry, ListPage, ListQuery, UploadId, UploadPage, UploadQuery, VersionId, VersionPage, VersionQuery,
};

/// The group that a key belongs to.
fn group<'a>(key: &'a str, prefix: &str, delimiter: &str) -> Option<&'a str> {
    let rest = &key[prefix.len()..];
    let at = (!delimiter.is_empty()).then(|| rest.find(delimiter)).flatten()?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}

fn push_prefix(entries: &mut Vec<ListEntry>, prefix: &str) {
    let entry = ListEntry::CommonPrefix(prefix.to_owned());
    if entries.last() != Some(&entry) {
        entries.push(entry);
    }
}

impl Bucket {
    pub(super) fn list(&self, query: &ListQuery) -> ListPage {
        let mut entries = Vec::new();
        for key in self.keys.keys().filter(|key| key.starts_with(&query.prefix) && **key > query.after) {
            let Some(stored) = self.latest(key) else { continue };
            match group(key, &query.prefix, &query.delimiter) {
                Some(prefix) if prefix == query.after => {}
                Some(prefix) => push_prefix(&mut entries, prefix),
                None => entries.push(ListEntry::Object(Box::new(stored.info.clone()))),
            }
        }
        let max = query.max_entries as usize;
        let next = (entries.len() > max).then(|| match &entries[max - 1] {
            ListEntry::Object(info) => info.key.to_string(),
            ListEntry::CommonPrefix(prefix) => prefix.clone(),
        });
        entries.truncate(max);
        ListPage { entries, next }
    }

    pub(super) fn list_versions(&self, query: &VersionQuery) -> VersionPage {
        let mut entries = Vec::new();
        for (key, versions) in self.keys.iter().filter(|(key, _)| key.starts_with(&query.prefix)) {
            let rest = if *key == query.key_after {
                let Some(after) = query.version_after else { continue };
                let at = versions.iter().position(|stored| stored.info.version_id == after);
                &versions[at.map_or(versions.len(), |at| at + 1)..]
            } else if *key < query.key_after {
                continue;
            } else {
                versions
            };
            match group(key, &query.prefix, &query.delimiter) {
                Some(prefix) if prefix == query.key_after => {}
                Some(prefix) => push_prefix(&mut entries, prefix),
                None => {
                    entries
                        .extend(rest.iter().map(|stored| ListEntry::Object(Box::new(stored.info.clone()))));
                }
            }
        }
        let max = query.max_entries as usize;
        let next = (entries.len() > max).then(|| match &entries[max - 1] {
            ListEntry::Object(info) => (info.key.to_string(), Some(info.version_id)),
            ListEntry::CommonPrefix(prefix) => (prefix.clone(), None::<VersionId>),
        });
        entries.truncate(max);
        VersionPage { entries, next }
    }

    pub(super) fn list_uploads(&self, query: &UploadQuery) -> UploadPage {
        let after = |upload: &Upload, id: &UploadId| {
            let key = upload.info.key.as_str();
            key > query.key_after.as_str()
                || (key == query.key_after && query.upload_after.is_some_and(|after| *id > after))
        };
        let mut found: Vec<_> = self
            .uploads
            .iter()
            .filter(|(id, upload)| upload.info.key.as_str().starts_with(&query.prefix) && after(upload, id))
            .map(|(id, upload)| (upload.info.key.to_string(), *id))
            .collect();
        found.sort();
        let mut page = UploadPage::default();
        let mut last = None;
        for (key, id) in found {
            let prefix = group(&key, &query.prefix, &query.delimiter);
            let known =
                prefix.is_some_and(|p| p == query.key_after || page.common_prefixes.iter().any(|k| k == p));
            if known {
                continue;
            }
            if page.uploads.len() + page.common_prefixes.len() == query.max_entries as usize {
                page.next = last;
                return page;
            }
            match prefix {
                Some(prefix) => {
                    page.common_prefixes.push(prefix.to_owned());
                    last = Some((prefix.to_owned(), None));
                }
                None => {
                    page.uploads.push(self.uploads[&id].info.clone());
                    last = Some((key, Some(id)));
                }
            }
        }
        page
    }
}
