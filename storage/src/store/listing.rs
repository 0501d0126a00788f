//! Listing shards and reading their descriptions.

use super::drive::Drive;
use crate::{
    error::StoreError,
    shard_file::{OpenShard, ReadFault},
};
use ashlar_types::{ShardId, ShardStat};

/// Ids looked up at once.
const BATCH: usize = 256;

pub(super) fn stat(drive: &Drive, shard: ShardId) -> Result<ShardStat, ReadFault> {
    let file = OpenShard::open(drive.disk(), &drive.path(shard), shard)?;
    let meta = file.description()?.meta;
    Ok(ShardStat { meta, len: file.header.payload_len, units: file.header.units })
}

/// Skips what does not verify. A page on which every shard failed to be read is an error and not an empty page: a
/// drive that answers no read must not look like one without shards.
pub(super) fn list(
    drive: &Drive,
    after: Option<ShardId>,
    limit: usize,
) -> Result<Vec<ShardStat>, StoreError> {
    let mut page = Vec::new();
    let mut unreadable = None;
    let mut cursor = after;
    while page.len() < limit {
        let ids = drive.ids_after(cursor, BATCH.min(limit - page.len()));
        let Some(last) = ids.last() else { break };
        cursor = Some(*last);
        for shard in ids {
            match stat(drive, shard) {
                Ok(stat) => page.push(stat),
                Err(fault) => match drive.read_error(shard, 0, fault) {
                    error @ StoreError::Overloaded => return Err(error),
                    error @ StoreError::Failed(_) => unreadable = Some(error),
                    // Deleted meanwhile, or damaged and reported.
                    StoreError::NotFound
                    | StoreError::Corrupt { .. }
                    | StoreError::NoSuchUnit { .. }
                    | StoreError::Full
                    | StoreError::CrcMismatch
                    | StoreError::TooLarge
                    | StoreError::Closed => {}
                },
            }
        }
    }
    match unreadable {
        Some(error) if page.is_empty() => Err(error),
        Some(_) | None => Ok(page),
    }
}
