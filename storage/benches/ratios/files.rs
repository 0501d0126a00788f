//! What the drive store is held against: files, made as well and as fast as they can be.

use crate::sample::{Quota, Sample, crew};
use anyhow::{Context, Result};
use ashlar_hashing::crc64nvme;
use ashlar_runtime::Env;
use bytes::Bytes;
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};

/// A file per shard, durable with its name: create, write, fdatasync, rename, fsync of the one directory. A thread per
/// writer. The files are gone afterwards.
pub(crate) fn file_per_shard(
    env: &Env,
    place: &Path,
    writers: usize,
    payload: &Bytes,
    quota: Arc<Quota>,
) -> Result<Sample> {
    let dir = place.join("files");
    fs::create_dir(&dir)?;
    let (path, payload) = (dir.clone(), payload.clone());
    let names = Arc::new(File::open(&dir)?);
    let sample = crew(env, writers, move |writer| {
        let mut number = 0;
        quota.spend(|| {
            number += 1;
            let finished = path.join(format!("{writer}-{number}"));
            let unfinished = finished.with_extension("tmp");
            let mut file = OpenOptions::new().write(true).create_new(true).open(&unfinished)?;
            file.write_all(&payload)?;
            file.sync_data()?;
            fs::rename(&unfinished, &finished)?;
            names.sync_all()?;
            Ok(())
        })
    })?;
    remove(&dir)?;
    Ok(sample)
}

/// How one client goes about its drives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// One after another, in its own thread: less switching where there are many clients.
    InTurn,
    /// All at once, with a thread per drive: less waiting where there are few.
    AtOnce,
}

/// A file per drive for each operation: create, write through O_DSYNC, rename. The directories are not flushed.
pub(crate) fn files_on_drives(
    env: &Env,
    place: &Path,
    drives: usize,
    clients: usize,
    payload: &Bytes,
    spread: Spread,
    quota: Arc<Quota>,
) -> Result<Sample> {
    let dir = place.join("files");
    let dirs: Arc<[PathBuf]> = (0..drives).map(|drive| dir.join(drive.to_string())).collect();
    for dir in dirs.iter() {
        fs::create_dir_all(dir)?;
    }
    let (payload, threads) = (payload.clone(), env.clone());
    let sample = crew(env, clients, move |client| {
        let helpers = match spread {
            Spread::InTurn => Vec::new(),
            Spread::AtOnce => {
                (1..drives).map(|drive| Helper::start(&threads, &dirs[drive], &payload)).collect()
            }
        };
        let mut number = 0;
        quota.spend(|| {
            number += 1;
            let name = format!("{client}-{number}");
            for helper in &helpers {
                helper.names.send(name.clone())?;
            }
            for dir in &dirs[..drives - helpers.len()] {
                write_through(dir, &name, &payload)?;
            }
            helpers.iter().try_for_each(|helper| helper.outcomes.recv()?)
        })
    })?;
    remove(&dir)?;
    Ok(sample)
}

/// A thread that writes one client's files on one drive. Ends when dropped.
struct Helper {
    names: mpsc::Sender<String>,
    outcomes: mpsc::Receiver<Result<()>>,
}

impl Helper {
    fn start(env: &Env, dir: &Path, payload: &Bytes) -> Self {
        let (names, asked) = mpsc::channel::<String>();
        let (answer, outcomes) = mpsc::channel();
        let (dir, payload) = (dir.to_owned(), payload.clone());
        let _runs_on = env.tasks.worker("helper", move || {
            for name in asked {
                if answer.send(write_through(&dir, &name, &payload)).is_err() {
                    return;
                }
            }
        });
        Self { names, outcomes }
    }
}

fn write_through(dir: &Path, name: &str, payload: &[u8]) -> Result<()> {
    let finished = dir.join(name);
    let unfinished = finished.with_extension("tmp");
    let mut file =
        OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_DSYNC).open(&unfinished)?;
    file.write_all(payload)?;
    fs::rename(&unfinished, &finished)?;
    Ok(())
}

/// Removes a directory and waits until that is done, so that it does not disturb what comes next.
fn remove(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir)?;
    File::open(dir.parent().context("a directory has a parent")?)?.sync_all()?;
    Ok(())
}

/// Units in one file that is in memory, read as tokio's files are: each read is a job of the blocking pool.
#[derive(Debug)]
pub(crate) struct PooledReads {
    file: Arc<File>,
    sums: Vec<u64>,
    len: usize,
}

impl PooledReads {
    pub(crate) fn make(place: &Path, units: &[Bytes]) -> Result<Self> {
        let path = place.join("units");
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        for unit in units {
            file.write_all(unit)?;
        }
        file.sync_all()?;
        fs::remove_file(&path)?;
        let sums = units.iter().map(|unit| crc64nvme(unit)).collect();
        Ok(Self { file: Arc::new(file), sums, len: units.first().map_or(0, Bytes::len) })
    }

    /// Reads and verifies one unit.
    pub(crate) async fn read(&self, number: usize) -> Result<Vec<u8>> {
        let (file, len, sum) = (Arc::clone(&self.file), self.len, self.sums[number]);
        let read = move || {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, (number * len) as u64)?;
            anyhow::ensure!(crc64nvme(&bytes) == sum, "unit {number} does not verify");
            Ok(bytes)
        };
        #[allow(clippy::disallowed_methods, reason = "this is what is measured")]
        tokio::task::spawn_blocking(read).await?
    }
}
