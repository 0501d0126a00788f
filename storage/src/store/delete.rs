//! Deleting: unlink, then flush each directory once.

use super::drive::{Drive, flush_directory};
use crate::{
    error::{FileOperation, StoreError},
    shard_file::first_byte,
};
use ashlar_types::ShardId;
use std::io;

/// Goes directory by directory, so that many shards share a flush.
pub(super) fn delete(drive: &Drive, mut shards: Vec<ShardId>) -> Result<(), StoreError> {
    drive.check()?;
    shards.sort_unstable();
    for together in shards.chunk_by(|a, b| first_byte(*a) == first_byte(*b)) {
        let Some(first) = together.first() else { continue };
        let byte = first_byte(*first);
        let _names = drive.lock_directory(byte);
        let mut removed = None;
        for shard in together {
            match drive.disk().unlink(&drive.path(*shard)) {
                Ok(()) => removed = Some(*shard),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(drive.fail(FileOperation::Unlink, *shard, error)),
            }
            drive.change_index(|index| index.remove(*shard));
        }
        if let Some(shard) = removed {
            flush_directory(drive, &drive.layout.fan_out(byte), shard)?;
        }
    }
    drive.measure();
    // Another thread may have seen the drive fail since; then this flush proves nothing.
    drive.check()
}
