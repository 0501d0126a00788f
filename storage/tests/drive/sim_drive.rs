//! A drive on a simulated disk: opened, damaged, held still.

use super::fixture::{DEADLINE, IDENTITY, env};
use ashlar_runtime::{
    Clock, Disk, Env, OpenMode, SimDisk,
    disk::sim::{Fault, FaultKind, FaultOn, Operation},
};
use ashlar_storage::{
    DriveOptions, DriveStore, FormatOptions, Housekeeping, OfflineDrive, OpenError, ShardLocation,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

const DIR: &str = "/drive";

/// Where the drive is and how it is opened. Clones share the disk.
#[derive(Clone, Debug)]
pub(crate) struct SimDrive {
    pub(crate) disk: SimDisk,
    pub(crate) options: DriveOptions,
    pub(crate) clock: Option<Arc<dyn Clock>>,
}

impl SimDrive {
    pub(crate) fn formatted(disk: SimDisk, segment_bytes: u64) -> Self {
        DriveStore::format(&shared(&disk), Path::new(DIR), IDENTITY, FormatOptions { segment_bytes })
            .unwrap();
        Self::on(disk)
    }

    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self::formatted(SimDisk::new(), segment_bytes)
    }

    /// Nothing happens on it unasked.
    pub(crate) fn on(disk: SimDisk) -> Self {
        let options = DriveOptions {
            capacity: Some(1 << 30),
            readers: 2,
            housekeeping: Housekeeping::OnRequest,
            ..DriveOptions::default()
        };
        Self { disk, options, clock: None }
    }

    /// The drive as the processes that come after a kill find it, apart from this one.
    pub(crate) fn killed(&self) -> Self {
        Self { disk: SimDisk::with_image(self.disk.image()), ..self.clone() }
    }

    pub(crate) fn with_capacity(mut self, capacity: u64) -> Self {
        self.options.capacity = Some(capacity);
        self
    }

    pub(crate) fn dir(&self) -> &Path {
        Path::new(DIR)
    }

    pub(crate) fn shared_disk(&self) -> Arc<dyn Disk> {
        shared(&self.disk)
    }

    pub(crate) async fn try_open(&self) -> Result<DriveStore, OpenError> {
        let mut env: Env = env(&self.shared_disk());
        if let Some(clock) = &self.clock {
            env.clock = Arc::clone(clock);
        }
        DriveStore::open(&env, self.dir(), IDENTITY, self.options.clone()).await
    }

    pub(crate) async fn open(&self) -> DriveStore {
        self.try_open().await.unwrap()
    }

    /// Opens after a store was dropped, whose threads end soon.
    pub(crate) async fn open_after_drop(&self) -> DriveStore {
        loop {
            match self.try_open().await {
                Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
                opened => return opened.unwrap(),
            }
        }
    }

    pub(crate) fn offline(&self) -> OfflineDrive {
        OfflineDrive::open(&self.shared_disk(), self.dir()).unwrap()
    }

    // Files, by their names in the drive's directory.

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Names of the files in `log`, `extents` or `index`, in order.
    pub(crate) fn names(&self, inner: &str) -> Vec<String> {
        let names = self.disk.list_dir(&self.path(inner)).unwrap();
        names.into_iter().map(|name| format!("{inner}/{name}")).collect()
    }

    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        self.disk.image().read(&self.path(name)).unwrap()
    }

    /// Writes bytes into a file without the drive's knowledge.
    pub(crate) fn overwrite(&self, path: &Path, bytes: &[u8], offset: u64) {
        self.disk.open(path, OpenMode::Create).unwrap().write_all_at(bytes, offset).unwrap();
    }

    /// Changes one byte.
    pub(crate) fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let file = self.disk.open(path, OpenMode::ReadWrite).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ mask], offset).unwrap();
    }

    /// Changes a byte of the payload at the place.
    pub(crate) fn damage(&self, place: &ShardLocation, at: u64) {
        assert!(at < place.len);
        self.flip(&place.path, place.offset + at, 0x40);
    }

    pub(crate) fn truncate(&self, name: &str, len: u64) {
        self.disk.open(&self.path(name), OpenMode::ReadWrite).unwrap().truncate(len).unwrap();
    }

    pub(crate) fn unlink(&self, name: &str) {
        self.disk.unlink(&self.path(name)).unwrap();
    }

    /// Bytes that all files of the disk occupy.
    pub(crate) fn allocated(&self) -> u64 {
        let usage = self.disk.usage(self.dir()).unwrap();
        usage.total_bytes - usage.available_bytes
    }

    // Faults.

    /// From the nth such call on, all of them fail.
    pub(crate) fn fail_from(&self, operation: Operation, path_contains: &str, nth: u64, kind: FaultKind) {
        let on = FaultOn { operation, path_contains: path_contains.to_owned(), nth };
        self.disk.faults().inject_lasting(Fault { on, kind });
    }

    /// The nth such call fails.
    pub(crate) fn fail_once(&self, operation: Operation, path_contains: &str, nth: u64, kind: FaultKind) {
        let on = FaultOn { operation, path_contains: path_contains.to_owned(), nth };
        self.disk.inject(Fault { on, kind });
    }

    /// Holds calls still from now on.
    pub(crate) fn hold(&self, operation: Operation, path_contains: &str) -> Gate {
        let gate = Gate::default();
        let held = gate.clone();
        let _ = self.disk.clone().with_delay(move |_| held.pass());
        self.fail_from(operation, path_contains, 0, FaultKind::Slow(Duration::ZERO));
        gate
    }
}

fn shared(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// Where calls wait until it is opened. Clones are one gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<Passing>, Condvar)>);

#[derive(Debug, Default)]
struct Passing {
    open: bool,
    reached: usize,
}

impl Gate {
    fn pass(&self) {
        let (passing, changed) = &*self.0;
        let mut passing = passing.lock().unwrap();
        passing.reached += 1;
        while !passing.open {
            let (next, timeout) = changed.wait_timeout(passing, DEADLINE).unwrap();
            passing = next;
            // A test that fails must not leave its threads here.
            passing.open |= timeout.timed_out();
        }
    }

    /// Calls that came here so far.
    pub(crate) fn reached(&self) -> usize {
        self.0.0.lock().unwrap().reached
    }

    pub(crate) fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }
}
