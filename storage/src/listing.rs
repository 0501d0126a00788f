//! Listing shards, with what each says of itself.

use crate::{drive::Drive, error::StoreError, format::RecordHeader, store::ShardLocation, width};
use ashlar_types::{ShardId, ShardStat};

/// Ids looked up at once.
const BATCH: usize = 256;

/// Skips what does not verify. A page on which every shard failed to be read is an error and not an empty page: a
/// drive that answers no read must not look like one without shards.
pub(crate) fn list(
    drive: &Drive,
    after: Option<ShardId>,
    limit: usize,
) -> Result<Vec<ShardStat>, StoreError> {
    let mut page = Vec::new();
    let mut unreadable = None;
    let mut cursor = after;
    while page.len() < limit {
        let ids = ids(drive, cursor, BATCH.min(limit - page.len()));
        let Some(last) = ids.last() else { break };
        cursor = Some(*last);
        for shard in ids {
            match drive.read_stat(shard) {
                Ok(stat) => page.push(stat),
                Err(error @ StoreError::Overloaded) => return Err(error),
                Err(error @ StoreError::Failed(_)) => unreadable = Some(error),
                // Deleted meanwhile, or damaged and reported.
                Err(
                    StoreError::NotFound
                    | StoreError::Corrupt { .. }
                    | StoreError::NoSuchUnit { .. }
                    | StoreError::Full
                    | StoreError::CrcMismatch
                    | StoreError::TooLarge
                    | StoreError::Closed,
                ) => {}
            }
        }
    }
    match unreadable {
        Some(error) if page.is_empty() => Err(error),
        Some(_) | None => Ok(page),
    }
}

/// At most `limit` ids after `after`, in order.
pub(crate) fn ids(drive: &Drive, after: Option<ShardId>, limit: usize) -> Vec<ShardId> {
    drive.read_tables(|tables| tables.after(after).take(limit).map(|(shard, _)| *shard).collect())
}

pub(crate) fn damaged(drive: &Drive) -> Vec<ShardId> {
    drive.read_tables(|tables| {
        let damaged = tables.after(None).filter(|(_, entry)| entry.damaged);
        damaged.map(|(shard, _)| *shard).collect()
    })
}

pub(crate) fn locate(drive: &Drive, shard: ShardId) -> Option<ShardLocation> {
    drive.read_tables(|tables| {
        let entry = tables.get(shard)?;
        let (segment, offset, len) = match entry.extents.first() {
            Some(extent) => (extent.segment, extent.offset, extent.len),
            None => {
                let header = width::file(RecordHeader::LEN) + u64::from(entry.body_len);
                (entry.segment, entry.offset + header, entry.payload_len)
            }
        };
        let (file, _) = tables.file(segment)?;
        Some(ShardLocation { path: file.path.clone(), offset, len })
    })
}
