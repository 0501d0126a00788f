//! Removes the files of writers that were dropped, which may happen where nobody can wait.

use super::drive::{Abandoned, Drive};
use ashlar_runtime::{Tasks, WorkerHandle, sync::atomic::Ordering};
use std::sync::{Arc, mpsc};

/// Ends when the drive no longer hands it files. It does not hold the drive, whose end it waits for.
pub(super) fn start(tasks: &Tasks, drive: &Drive, abandoned: mpsc::Receiver<Abandoned>) -> WorkerHandle {
    let disk = drive.shared_disk();
    let space = Arc::clone(&drive.space);
    tasks.worker("shard-janitor", move || {
        for Abandoned { path, bytes } in abandoned {
            // What cannot be removed now is removed by the next open.
            if let Err(error) = disk.unlink(&path) {
                tracing::warn!(path = %path.display(), %error, "an unfinished write could not be removed");
            }
            space.unfinished.fetch_sub(bytes, Ordering::Relaxed);
        }
    })
}
