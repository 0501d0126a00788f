//! What has to happen at one moment for a bug to show: arranged, not left to chance.

use super::super::harness::{
    Counts, Failure, Run,
    client::{Client, on_request},
    content::{Class, Contents, Dice, Round, shard_id},
    model::Model,
    random::formatted,
    recovery::{self, recover},
    second_life::block_on,
    sweep::{Plan, Rates, Sweep},
};
use ashlar_runtime::{
    Disk, OpenMode, SimDisk,
    disk::sim::{DiskImage, Fault, FaultKind, FaultOn, Operation, Survivors},
};
use futures_util::future::join;
use std::{
    io,
    path::Path,
    sync::{Mutex, mpsc},
    time::Duration,
};

/// Long for a client that was answered, short for a test.
const SLOW_FLUSH: Duration = Duration::from_millis(2);
/// Far more than a pass of reclaiming takes to its first read.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shards of a log that is damaged, each in a batch of its own, of one block.
const BATCHES: u8 = 8;
const BLOCK: u64 = 4096;
/// Bits of a batch that flip, one at a time, all of them in the headers of the batch and of its record.
const BITS: [u64; 4] = [3, 100, 300, 500];

/// What is wrong, and the crash points before that were right.
pub(crate) type Objection = (Failure, u64);

fn run(name: &str) -> Run {
    let command = "cargo test -p ashlar-storage-mutants -- --nocapture".to_owned();
    Run { name: name.to_owned(), command }
}

/// Flushes take so long that a client that was answered before has said so before they end.
pub(crate) fn slow_flushes() -> Result<Counts, Objection> {
    let run = run("slow flushes");
    let contents = Contents::default();
    let played = formatted().and_then(|image| {
        let disk = SimDisk::with_image(image);
        let on = FaultOn { operation: Operation::SyncFile, path_contains: String::new(), nth: 0 };
        disk.faults().inject_lasting(Fault { on, kind: FaultKind::Slow(SLOW_FLUSH) });
        block_on(async {
            let client = Client::open(&disk, on_request(), 1, &contents, Model::default()).await?;
            client.put(0, Round::new(1, Class::Odd)).await?;
            client.put(1, Round::new(2, Class::Large)).await?;
            client.delete(&[0], Round(3)).await?;
            client.store.close().await;
            Ok(())
        })?;
        Ok(disk)
    });
    let disk = played.map_err(|what| (run.failure(what), 0))?;
    let mut sweep = Sweep {
        run: &run,
        contents: &contents,
        plan: Plan::Exhaustive,
        rates: Rates { again: 64, kill: 0 },
        points_max: u64::MAX,
        dice: Dice::new(1),
        counts: Counts::default(),
    };
    let swept = sweep.walk(&disk.history(), 0..usize::MAX, Model::default(), &mut |_, _| Ok(()));
    swept.map(|()| sweep.counts).map_err(|failure| (failure, sweep.counts.points))
}

/// A shard is deleted while compaction has read it and not moved it yet, and another one is replaced.
pub(crate) fn delete_beside_compaction() -> Result<Counts, Objection> {
    let run = run("a delete beside compaction");
    let contents = Contents::default();
    let played = formatted().and_then(|image| {
        let (reached, arrived) = mpsc::channel();
        let (open, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let disk = SimDisk::with_image(image).with_delay(move |_| {
            // If the test gave up, nobody waits for it.
            let _ = reached.send(());
            let _ = gate.lock().unwrap().recv();
        });
        block_on(async {
            let client = Client::open(&disk, on_request(), 1, &contents, Model::default()).await?;
            for number in 0..8 {
                client.put(number, Round::new(u64::from(number), Class::Limit)).await?;
            }
            client.delete(&[0, 1, 4], Round(100)).await?;
            let on = FaultOn { operation: Operation::Read, path_contains: "/log/".to_owned(), nth: 0 };
            disk.inject(Fault { on, kind: FaultKind::Slow(Duration::ZERO) });
            let change = async {
                arrived.recv_timeout(PATIENCE).map_err(|_| "compaction moves nothing".to_owned())?;
                client.delete(&[2], Round(101)).await?;
                client.put(3, Round::new(102, Class::Tiny)).await?;
                open.send(()).map_err(|_| "nobody waits at the gate".to_owned())
            };
            let (reclaimed, changed) = join(client.reclaim(), change).await;
            reclaimed.and(changed)?;
            client.check().await?;
            let (model, history) = (client.model(), disk.history());
            client.store.close().await;
            let cut = SimDisk::with_image(history.crash(history.events.len(), Survivors::None));
            for disk in [&cut, &disk] {
                model.check(&recover(disk, &contents)?.found)?;
            }
            Ok(())
        })
    });
    played.map_err(|what| (run.failure(what), 0))?;
    Ok(Counts { points: 2, histories: 1, ..Counts::default() })
}

/// A batch in the middle of the log is damaged: that is said, and what was acknowledged after it is there.
pub(crate) fn damage_in_the_middle() -> Result<Counts, Objection> {
    let run = run("damage in the middle of the log");
    let contents = Contents::default();
    let round = |number: u8| Round::new(u64::from(number), Class::Tiny);
    let played = formatted().and_then(|image| {
        let disk = SimDisk::with_image(image);
        block_on(async {
            let client = Client::open(&disk, on_request(), 1, &contents, Model::default()).await?;
            for number in 0..BATCHES {
                client.put(number, round(number)).await?;
            }
            // Before closing, which writes a checkpoint: then nobody would read the log again.
            let image = disk.image();
            client.store.close().await;
            Ok(image)
        })
    });
    let image = played.map_err(|what| (run.failure(what), 0))?;
    let mut counts = Counts { histories: 1, ..Counts::default() };
    for damaged in 0..BATCHES - 1 {
        for bit in BITS {
            let judged = flipped(&image, BLOCK * (1 + u64::from(damaged)), bit)
                .map_err(|error| error.to_string())
                .and_then(|disk| judge_damaged(&disk, damaged, &contents, round));
            judged.map_err(|what| {
                (run.failure(format!("bit {bit} of batch {damaged}: {what}")), counts.points)
            })?;
            counts.points += 1;
        }
    }
    Ok(counts)
}

fn flipped(image: &DiskImage, offset: u64, bit: u64) -> io::Result<SimDisk> {
    let disk = SimDisk::with_image(image.clone());
    let is_log = |path: &Path| path.components().any(|part| part.as_os_str() == "log");
    let path = image.files().into_iter().find(|path| is_log(path)).ok_or(io::ErrorKind::NotFound)?;
    let file = disk.open(&path, OpenMode::ReadWrite)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset + bit / 8)?;
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, offset + bit / 8)?;
    Ok(disk)
}

fn judge_damaged(
    disk: &SimDisk,
    damaged: u8,
    contents: &Contents,
    round: impl Fn(u8) -> Round,
) -> Result<(), String> {
    let drive = recovery::open(disk)?;
    let report = drive.recovery();
    if report.damaged.is_empty() && report.lost.is_empty() {
        return Err(format!("nothing says that it is damaged: {report:?}"));
    }
    for number in (0..BATCHES).filter(|number| *number != damaged) {
        let id = shard_id(number);
        let of_shard = |what: &dyn std::fmt::Debug| format!("shard {number}, which is elsewhere: {what:?}");
        let stat = drive.stat(id).map_err(|error| of_shard(&error))?.ok_or_else(|| of_shard(&"absent"))?;
        let read = drive.read(id, 0..stat.units).map_err(|error| of_shard(&error))?;
        let found = contents.identify(number, &stat, &read).map_err(|what| of_shard(&what))?;
        if found != round(number) {
            return Err(of_shard(&found));
        }
    }
    Ok(())
}
