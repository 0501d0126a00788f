//! Work, cut, restore, check; again and again on one file system.

use super::{
    ledger::{Counts, Ledger, Seeded},
    unflushed_disk::UnflushedDisk,
    volume::{Cut, FileSystem, Volume},
    workload::{IDS, Workload, shard},
};
use ashlar_runtime::{ClockExt, Disk, Env, RealDisk, RngExt};
use ashlar_storage::{
    DriveIdentity, DriveOptions, DriveState, DriveStore, FormatOptions, OpenError, StoreError,
};
use ashlar_types::{ClusterId, DriveUuid, ShardId};
use std::{
    io::Write,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

const IDENTITY: DriveIdentity = DriveIdentity { cluster: ClusterId(1), drive: DriveUuid(2) };
/// Small, so that cuts meet segments that are made, sealed, compacted and used again.
const FORMAT: FormatOptions = FormatOptions { segment_bytes: 4 << 20 };
/// As often: a checkpoint begins every few hundred operations.
const CHECKPOINT_BYTES: u64 = 8 << 20;
const CUTS: u64 = 3;
/// Operations acknowledged in one cycle: the bounds.
const ACKED: (u64, u64) = (50, 450);
/// Far longer than a cycle takes.
const CYCLE_DEADLINE: Duration = Duration::from_secs(60);
/// Most cuts take the device's cache along, one in this many leaves it.
const KERNEL_CUTS: u64 = 3;
/// Before one in this many cycles the power fails while the drive is being opened.
const CUTS_AT_OPENING: u64 = 3;

/// One file system, over all cycles.
struct Story {
    volume: Volume,
    env: Env,
    random: Seeded,
    ledger: Arc<Ledger>,
}

#[derive(Debug, Default)]
struct Report {
    cuts: u64,
    counts: Counts,
    lost: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_on_ext4_survives_power_cuts() {
    nothing_is_lost("what_was_acknowledged_on_ext4_survives_power_cuts", FileSystem::Ext4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_on_xfs_survives_power_cuts() {
    nothing_is_lost("what_was_acknowledged_on_xfs_survives_power_cuts", FileSystem::Xfs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_flushes_power_cuts_lose_what_was_acknowledged_on_ext4() {
    something_is_lost("without_flushes_power_cuts_lose_what_was_acknowledged_on_ext4", FileSystem::Ext4)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_flushes_power_cuts_lose_what_was_acknowledged_on_xfs() {
    something_is_lost("without_flushes_power_cuts_lose_what_was_acknowledged_on_xfs", FileSystem::Xfs).await;
}

/// The control: the cuts are cuts, and the ledger notices.
async fn something_is_lost(name: &str, file_system: FileSystem) {
    let Some(mut story) = Story::begin(name, file_system, Arc::new(UnflushedDisk)) else { return };
    let mut report = Report::default();
    while report.lost.is_empty() {
        assert!(report.cuts < CUTS, "a drive that never flushed lost nothing: {report:?}");
        story.cycle(Cut::Device, &mut report).await;
    }
    report.print(name);
}

async fn nothing_is_lost(name: &str, file_system: FileSystem) {
    let Some(mut story) = Story::begin(name, file_system, Arc::new(RealDisk)) else { return };
    let cuts = std::env::var("ASHLAR_POWER_CUTS")
        .map_or(CUTS, |text| text.parse().expect("ASHLAR_POWER_CUTS is a number of cuts"));
    let mut report = Report::default();
    for cut in 1..=cuts {
        let kind = if cut % KERNEL_CUTS == 0 { Cut::Kernel } else { Cut::Device };
        story.cycle(kind, &mut report).await;
        if cut % CUTS_AT_OPENING == 1 {
            story.cut_at_opening(&mut report).await;
        }
        assert!(report.lost.is_empty(), "lost at cut {cut} ({kind:?}): {:#?}", report.lost);
    }
    report.print(name);
}

impl Story {
    /// `None` if this machine cannot cut the power; says so.
    fn begin(name: &str, file_system: FileSystem, disk: Arc<dyn Disk>) -> Option<Self> {
        let volume = match Volume::make(file_system) {
            Ok(volume) => volume,
            Err(reason) => {
                say(&format!("SKIP {name}: {} cannot be had: {reason}", file_system.name()));
                return None;
            }
        };
        // Not through `disk`: that the drive is one at all is no promise of the flushes under test.
        let real: Arc<dyn Disk> = Arc::new(RealDisk);
        DriveStore::format(&real, &drive_dir(&volume), IDENTITY, FORMAT).unwrap();
        let env = Env { disk, ..Env::real() };
        let random = Seeded::new(env.rng.u64());
        Some(Self { volume, env, random, ledger: Arc::new(Ledger::new(IDS)) })
    }

    async fn open(&self) -> Result<DriveStore, OpenError> {
        let options =
            || DriveOptions { readers: 2, checkpoint_bytes: CHECKPOINT_BYTES, ..DriveOptions::default() };
        let dir = drive_dir(&self.volume);
        let open = async {
            loop {
                match DriveStore::open(&self.env, &dir, IDENTITY, options()).await {
                    // A program that another test starts right now holds all descriptors of this process, the lock's
                    // among them, until it has begun.
                    Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
                    opened => return opened,
                }
            }
        };
        self.env.clock.timeout(CYCLE_DEADLINE, open).await.expect("the lock is free soon")
    }

    /// Works until the power is cut, and looks at what is left.
    async fn cycle(&mut self, cut: Cut, report: &mut Report) {
        let store = self.open().await.unwrap();
        let counts = self.ledger.counts();
        let (least, most) = ACKED;
        let workload = Arc::new(Workload {
            store: store.clone(),
            ledger: Arc::clone(&self.ledger),
            goal: counts.acked_puts + counts.acked_deletes + least + self.random.below(most - least),
            reached: Notify::new(),
            cutting: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let running = workload.start(&self.env.tasks, self.random.u64());
        let reached = self.env.clock.timeout(CYCLE_DEADLINE, workload.reached.notified()).await;
        reached.expect("the drive acknowledges operations");
        let failure = workload.failure.lock().unwrap().take();
        assert_eq!(failure, None, "before the cut");
        workload.cutting.store(true, Ordering::SeqCst);
        self.volume.cut(cut).unwrap();
        for task in running {
            task.join().await;
        }
        drop(workload);
        store.close().await;
        self.volume.restore().unwrap();
        report.cuts += 1;
        self.check(report).await;
    }

    /// Opens the drive and cuts the power meanwhile: recovery can be cut short and repeated.
    async fn cut_at_opening(&mut self, report: &mut Report) {
        let opening = async {
            if let Ok(store) = self.open().await {
                store.close().await;
            }
        };
        let cutting = async {
            for _ in 0..self.random.below(3) {
                tokio::task::yield_now().await;
            }
            tokio::task::block_in_place(|| self.volume.cut(Cut::Device)).unwrap();
        };
        tokio::join!(opening, cutting);
        self.volume.restore().unwrap();
        report.cuts += 1;
        self.check(report).await;
    }

    async fn check(&self, report: &mut Report) {
        let store = match self.open().await {
            Ok(store) => store,
            Err(error) => {
                report.lost.push(format!("the drive: {error:?}"));
                return;
            }
        };
        let damaged = store.damaged();
        if !damaged.is_empty() || store.state() != DriveState::Ok {
            report.lost.push(format!("damaged {damaged:?}, {:?}", store.state()));
        }
        let recovery = store.recovery();
        if !recovery.lost.is_empty()
            || !recovery.damaged.is_empty()
            || recovery.rebuilt
            || recovery.inconsistent
        {
            report.lost.push(format!("{recovery:?}"));
        }
        for id in 0..IDS {
            let checked = match read_whole(&store, shard(id)).await {
                Ok(found) => self.ledger.check(id, found.as_deref()),
                Err(error) => Err(format!("shard {id}: {error:?}")),
            };
            report.lost.extend(checked.err());
        }
        report.counts = self.ledger.counts();
        store.close().await;
    }
}

impl Report {
    fn print(&self, name: &str) {
        let Counts { acked_puts, acked_deletes, seen, in_doubt } = self.counts;
        let (cuts, lost) = (self.cuts, self.lost.len());
        say(&format!(
            "{name}: {cuts} cuts, {acked_puts} puts and {acked_deletes} deletes acknowledged, {seen} reads, \
             {in_doubt} in doubt, {lost} lost"
        ));
    }
}

/// Below the root, which has `lost+found` on ext4.
fn drive_dir(volume: &Volume) -> PathBuf {
    volume.path().join("drive")
}

async fn read_whole(store: &DriveStore, id: ShardId) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(stat) = store.stat(id).await? else { return Ok(None) };
    let units = store.read(id, 0..stat.units).await?;
    Ok(Some(units.iter().flat_map(|unit| unit.bytes.iter().copied()).collect()))
}

/// Past the capture of libtest. Nothing is lost if nobody listens.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
