//! After everything: the counters of each bucket against what its listings show.

use super::{TestBucket, caller::Caller};
use crate::check::counters::{Counted, VersionRow, agree, recount};
use ashlar_metadata::query::{Answer, Query};
use ashlar_types::{ListEntry, UploadId, UploadQuery, VersionQuery};
use std::{sync::atomic::Ordering, time::Duration};

const PAGE: u32 = 1000;
const AGAIN: Duration = Duration::from_millis(500);

impl Caller {
    pub(super) async fn recount_all(&mut self) {
        let buckets = self.shared.plan().buckets.clone();
        for bucket in buckets {
            let (kept, counted) = loop {
                if let Some(counts) = self.counts(&bucket).await {
                    break counts;
                }
                self.env.clock.sleep(AGAIN).await;
            };
            if let Err(violation) = agree(bucket.info.name.as_str(), kept, counted) {
                self.odd(violation.to_string());
            }
        }
        self.shared.recounted.store(true, Ordering::SeqCst);
    }

    /// `None`: the group gave no answer, or there is more than one page.
    async fn counts(&self, bucket: &TestBucket) -> Option<(Counted, Counted)> {
        let group = bucket.info.group;
        let id = bucket.info.id;
        let Answer::Counters(kept) = self.ask(group, Query::Counters { bucket: id }).await? else {
            return None;
        };
        let kept = Counted {
            objects: kept.objects,
            noncurrent: kept.noncurrent,
            delete_markers: kept.delete_markers,
            bytes: kept.bytes,
            uploads: kept.uploads,
            upload_bytes: kept.upload_bytes,
        };
        let mut query = VersionQuery { max_entries: PAGE, ..VersionQuery::default() };
        let mut rows = Vec::new();
        loop {
            let versions = Query::Versions { bucket: id, query: query.clone() };
            let Answer::Versions(page) = self.ask(group, versions).await? else { return None };
            rows.extend(page.entries.iter().filter_map(|entry| match entry {
                ListEntry::Object(info) => Some(VersionRow {
                    latest: info.is_latest,
                    delete_marker: info.delete_marker,
                    size: info.size,
                }),
                ListEntry::CommonPrefix(_) => None,
            }));
            match page.next {
                Some((key, version)) => (query.key_after, query.version_after) = (key, version),
                None => break,
            }
        }
        let mut query = UploadQuery { max_entries: PAGE, ..UploadQuery::default() };
        let mut uploads = Vec::new();
        loop {
            let open = Query::Uploads { bucket: id, query: query.clone() };
            let Answer::Uploads(page) = self.ask(group, open).await? else { return None };
            for upload in &page.uploads {
                uploads.push(self.part_sizes(bucket, upload.key.clone(), upload.upload).await?);
            }
            match page.next {
                Some((key, upload)) => (query.key_after, query.upload_after) = (key, upload),
                None => break,
            }
        }
        Some((kept, recount(rows, uploads)))
    }

    async fn part_sizes(
        &self,
        bucket: &TestBucket,
        key: ashlar_types::ObjectKey,
        upload: UploadId,
    ) -> Option<Vec<u64>> {
        let query = Query::Parts { bucket: bucket.info.id, key, upload, after: 0, limit: PAGE };
        let Answer::Parts(parts) = self.ask(bucket.info.group, query).await? else { return None };
        Some(parts?.parts.iter().map(|part| part.size).collect())
    }
}
