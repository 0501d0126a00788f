//! Opening: whose drive it is, what a crash left, which shards there are.

use super::{
    DriveOptions,
    drive::{Abandoned, Drive},
};
use crate::{
    error::{FileOperation, OpenError, Severity, severity},
    index::Entry,
    shard_file::{OpenShard, ReadFault, first_byte, parse_file_name},
    superblock::{self, DriveIdentity, Layout, at, names},
};
use ashlar_runtime::{Disk, Env, OpenMode, Pool};
use std::{
    io,
    path::Path,
    sync::{Arc, mpsc},
};

pub(super) async fn open(
    env: &Env,
    reads: &Pool,
    dir: &Path,
    expect: DriveIdentity,
    options: DriveOptions,
) -> Result<(Arc<Drive>, mpsc::Receiver<Abandoned>), OpenError> {
    let (claiming, dir) = (env.clone(), dir.to_owned());
    let claimed = reads.run(move || claim(&claiming, &dir, expect, &options)).await;
    let (drive, abandoned) = claimed.map_err(|_| OpenError::Stopped)??;
    let drive = Arc::new(drive);
    let scans = (0..=u8::MAX).map(|byte| {
        let drive = Arc::clone(&drive);
        reads.run(move || scan(&drive, byte))
    });
    for scanned in futures_util::future::join_all(scans).await {
        scanned.map_err(|_| OpenError::Stopped)??;
    }
    drive.measure();
    Ok((drive, abandoned))
}

/// Verifies the identity, takes the lock and removes unfinished writes.
fn claim(
    env: &Env,
    dir: &Path,
    expect: DriveIdentity,
    options: &DriveOptions,
) -> Result<(Drive, mpsc::Receiver<Abandoned>), OpenError> {
    let dir_owned = || dir.to_owned();
    let found =
        superblock::read(&env.disk, dir)?.ok_or_else(|| OpenError::NotFormatted { dir: dir_owned() })?;
    if found.cluster != expect.cluster {
        let (found, expected) = (found.cluster, expect.cluster);
        return Err(OpenError::OtherCluster { dir: dir_owned(), found, expected });
    }
    if found.drive != expect.drive {
        let (found, expected) = (found.drive, expect.drive);
        return Err(OpenError::OtherDrive { dir: dir_owned(), found, expected });
    }
    let layout = Layout::new(dir);
    let lock = superblock::lock(env.disk.as_ref(), &layout)?;
    let temporary = layout.temporary();
    for name in names(env.disk.as_ref(), &temporary)?.unwrap_or_default() {
        let path = temporary.join(name);
        env.disk.unlink(&path).map_err(at(FileOperation::Unlink, &path))?;
    }
    Drive::new(env, layout, expect, options, lock).map_err(at(FileOperation::MeasureSpace, dir))
}

/// Reads the shards of one fan-out directory into the index.
fn scan(drive: &Drive, byte: u8) -> Result<(), OpenError> {
    let dir = drive.layout.fan_out(byte);
    let listed = drive.disk().list_dir(&dir).map_err(at(FileOperation::List, &dir))?;
    if listed.is_empty() {
        return Ok(());
    }
    // A process that was killed between rename and flush leaves a name that a power cut could still take away.
    // Whatever is reported from now on is durable.
    drive.disk().sync_dir(&dir).map_err(at(FileOperation::FlushDirectory, &dir))?;
    for name in listed {
        let path = dir.join(&name);
        let shard = match parse_file_name(&name) {
            Some(shard) if first_byte(shard) == byte => shard,
            Some(_) | None => {
                tracing::warn!(path = %path.display(), "not a shard; left alone");
                continue;
            }
        };
        let entry = match OpenShard::open(drive.disk(), &path, shard) {
            Ok(file) => {
                let payload_len = file.header.payload_len;
                let file_len = file.header.file_len().unwrap_or(payload_len);
                Entry { file_len, payload_len: Some(payload_len) }
            }
            Err(ReadFault::Io(error)) if severity(&error) == Severity::NoResources => {
                return Err(at(FileOperation::Open, &path)(error));
            }
            // Not a reason to refuse the other shards. It stays in the index, so that it can be deleted.
            Err(fault) => {
                tracing::warn!(path = %path.display(), %fault, "a shard does not verify");
                drive.metrics.corrupt_units.increment(1);
                Entry { file_len: len_of(drive.disk(), &path).unwrap_or(0), payload_len: None }
            }
        };
        drive.change_index(|index| index.insert(shard, entry));
    }
    Ok(())
}

fn len_of(disk: &dyn Disk, path: &Path) -> io::Result<u64> {
    disk.open(path, OpenMode::Read)?.len()
}
