//! The rows, in the order they are printed.

use crate::{
    Effort,
    counting_disk::CountingDisk,
    device::{RawFile, WRITE_LEN},
    drives::{Drives, payload},
    files::{PooledReads, Spread, file_per_shard, files_on_drives},
    place::{LoopXfs, Place},
    row::{Goal, median, note, row},
    sample::{Meter, Quota, Sample, cpu_us_per_op, median_rate},
};
use anyhow::{Result, ensure};
use ashlar_runtime::Env;
use bytes::Bytes;
use std::{fs, path::Path, sync::Arc};

const KIB: usize = 1 << 10;
/// Shards of the reads: 8 MiB, which stay in memory and not in a processor's cache.
const READ_SHARDS: u64 = 2048;
/// Rounds of appends that flushes and bytes are counted over.
const COUNTED_ROUNDS: u32 = 3;
const FOUR: u8 = 4;

struct Bench<'a> {
    env: Env,
    effort: Effort,
    dir: &'a Path,
}

/// The two sides, round by round.
#[derive(Default)]
struct Rounds {
    files: Vec<Sample>,
    ours: Vec<Sample>,
}

pub(crate) async fn all(effort: Effort, place: &Place) -> Result<()> {
    let bench = Bench { env: Env::real(), effort, dir: place.path() };
    let drives = bench.one_drive(&bench.env).await?;
    bench.small_appends(&drives).await?;
    bench.large_appends(&drives, &place.file_system).await?;
    bench.warm_reads(&drives).await?;
    bench.remove(drives).await?;
    bench.counts().await?;
    bench.four_drives().await?;
    if place.file_system == "xfs" {
        println!("SKIP append-1m-16w-ext4: {} is on XFS", bench.dir.display());
        return Ok(());
    }
    match LoopXfs::make(place, effort.image_bytes) {
        Ok(volume) => {
            let bench = Bench { dir: volume.path(), ..bench };
            let drives = bench.one_drive(&bench.env).await?;
            bench.large_appends(&drives, "xfs").await?;
            bench.remove(drives).await
        }
        Err(reason) => {
            println!("SKIP append-1m-16w-xfs: {reason:#}");
            Ok(())
        }
    }
}

impl Bench<'_> {
    async fn one_drive(&self, env: &Env) -> Result<Drives> {
        let drives = Drives::make(env, self.dir, 1, self.effort.segment_bytes).await?;
        // Twice what a round writes, so that no round has to make segments.
        drives.prepare(2 * self.effort.round_bytes).await?;
        Ok(drives)
    }

    async fn remove(&self, drives: Drives) -> Result<()> {
        drives.close().await;
        for entry in fs::read_dir(self.dir)? {
            let path = entry?.path();
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            }
        }
        Ok(())
    }

    fn quota(&self, payload: &Bytes) -> Arc<Quota> {
        Quota::new(&self.env, self.effort.round, self.effort.round_bytes / payload.len() as u64)
    }

    /// One round of ours, emptied afterwards.
    async fn append(&self, drives: &Drives, clients: usize, payload: &Bytes) -> Result<Sample> {
        let sample = drives.append(clients, payload, self.quota(payload)).await?;
        drives.empty().await?;
        Ok(sample)
    }

    fn files(&self, writers: usize, payload: &Bytes) -> Result<Sample> {
        file_per_shard(&self.env, self.dir, writers, payload, self.quota(payload))
    }

    async fn appends(&self, drives: &Drives, writers: usize, payload: &Bytes) -> Result<Rounds> {
        let mut rounds = Rounds::default();
        for round in 0..=self.effort.rounds {
            let files = self.files(writers, payload)?;
            let ours = self.append(drives, writers, payload).await?;
            if round > 0 {
                rounds.push(files, ours);
            }
        }
        Ok(rounds)
    }

    async fn small_appends(&self, drives: &Drives) -> Result<()> {
        for (len, writers, goal) in [(4 * KIB, 16, 5.0), (4 * KIB, 64, 8.0), (64 * KIB, 16, 5.0)] {
            let payload = payload(&self.env, len);
            let rounds = self.appends(drives, writers, &payload).await?;
            let name = format!("append-{}k-{writers}w", len / KIB);
            rounds.describe(&name, len);
            row(&name, rounds.ratio(), Goal::AtLeast(goal));
            if len == 4 * KIB {
                let cpu = cpu_us_per_op(&rounds.ours) / cpu_us_per_op(&rounds.files);
                row(&format!("{name}-cpu-per-op"), cpu, Goal::AtMost(0.15));
            }
            if writers == 64 {
                let p50 = median(rounds.ours.iter().map(Sample::p50_ms));
                row(&format!("{name}-p50-ms"), p50, Goal::AtMost(1.0));
            }
        }
        Ok(())
    }

    /// 1 MiB, against files and against the bare device.
    async fn large_appends(&self, drives: &Drives, file_system: &str) -> Result<()> {
        let (writers, payload) = (16, payload(&self.env, WRITE_LEN));
        let raw = RawFile::make(&self.env, self.dir, self.effort.round_bytes)?;
        let mut rounds = Rounds::default();
        let mut of_raw = Vec::new();
        let mut raw_rates = Vec::new();
        for round in 0..=self.effort.rounds {
            let files = self.files(writers, &payload)?;
            let ours = self.append(drives, writers, &payload).await?;
            let mut best = 0.0_f64;
            for depth in [4, 8] {
                best = best.max(raw.write(&self.env, depth, self.quota(&payload))?.rate());
            }
            if round > 0 {
                of_raw.push(ours.rate() / best);
                raw_rates.push(best);
                rounds.push(files, ours);
            }
        }
        fs::remove_file(self.dir.join("raw"))?;
        let name = format!("append-1m-16w-{file_system}");
        rounds.describe(&name, WRITE_LEN);
        note(format_args!("{name}: bare device, direct writes of 1 MiB: {:.0} MiB/s", median(raw_rates)));
        row(&name, rounds.ratio(), Goal::AtLeast(if file_system == "xfs" { 2.0 } else { 1.2 }));
        row(&format!("{name}-of-bare-device"), median(of_raw), Goal::AtLeast(0.85));
        Ok(())
    }

    async fn warm_reads(&self, drives: &Drives) -> Result<()> {
        let unit = payload(&self.env, 4 * KIB);
        drives.append(16, &unit, Quota::new(&self.env, self.effort.round * 60, READ_SHARDS)).await?;
        let units = vec![unit.clone(); usize::try_from(READ_SHARDS)?];
        let pooled = PooledReads::make(self.dir, &units)?;
        let mut rounds = Rounds::default();
        for round in 0..=self.effort.rounds {
            let (pooled, drives, expected) = (&pooled, drives, &unit);
            let files = self.reads(async |number: u64| {
                let read = pooled.read(usize::try_from(number)?).await?;
                ensure!(read.len() == expected.len(), "short read");
                Ok(())
            });
            let files = files.await?;
            let ours = self.reads(async |number| {
                ensure!(drives.read(number).await?.len() == expected.len(), "short read");
                Ok(())
            });
            let ours = ours.await?;
            if round > 0 {
                rounds.push(files, ours);
            }
        }
        drives.empty().await?;
        rounds.describe("warm-read-4k", 4 * KIB);
        row("warm-read-4k", rounds.ratio(), Goal::AtLeast(8.0));
        Ok(())
    }

    /// One reader that goes through all shards again and again.
    async fn reads(&self, read: impl AsyncFn(u64) -> Result<()>) -> Result<Sample> {
        let quota = Quota::new(&self.env, self.effort.round, u64::MAX);
        let meter = Meter::start(&self.env)?;
        let (mut number, mut latencies) = (0, Vec::new());
        while let Some(begun) = quota.take() {
            // A prime, so that neighbours are not read one after another.
            number = (number + 1009) % READ_SHARDS;
            read(number).await?;
            latencies.push(quota.since(begun));
        }
        meter.stop(latencies)
    }

    async fn counts(&self) -> Result<()> {
        let disk = CountingDisk::default();
        let env = Env { disk: Arc::new(disk.clone()), ..self.env.clone() };
        let (drives, payload) = (self.one_drive(&env).await?, payload(&env, 4 * KIB));
        let operations = self.effort.round_bytes / payload.len() as u64;
        let quota = Quota::new(&env, self.effort.round * COUNTED_ROUNDS, operations);
        let before = disk.counts();
        let sample = drives.append(64, &payload, quota).await?;
        let after = disk.counts();
        let written = (after.bytes - before.bytes) as f64;
        let flushes = (after.flushes - before.flushes) as f64;
        let ops = sample.ops();
        note(format_args!(
            "counted over {ops} operations from an empty index on: all flushes of files and directories; all bytes written, \
             headers, padding and checkpoints included, but not {} MiB of zeros for new segments",
            (after.zero_bytes - before.zero_bytes) >> 20
        ));
        row("append-4k-64w-flushes-per-op", flushes / ops, Goal::AtMost(0.03));
        row("append-4k-64w-write-amplification", written / (ops * payload.len() as f64), Goal::AtMost(1.1));
        self.remove(drives).await
    }

    /// A 4 KiB object as 2+2: a shard of 2 KiB on each of four drives, which share one device.
    async fn four_drives(&self) -> Result<()> {
        let drives = Drives::make(&self.env, self.dir, FOUR, self.effort.segment_bytes / 4).await?;
        drives.prepare(self.effort.round_bytes / 8).await?;
        let payload = payload(&self.env, 2 * KIB);
        for (clients, goal) in [(1, 3.0), (16, 8.0), (64, 20.0)] {
            let files = |spread| {
                let quota = self.quota(&payload);
                files_on_drives(&self.env, self.dir, FOUR.into(), clients, &payload, spread, quota)
            };
            let (in_turn, at_once) = (files(Spread::InTurn)?, files(Spread::AtOnce)?);
            let faster = if in_turn.rate() > at_once.rate() { Spread::InTurn } else { Spread::AtOnce };
            let mut rounds = Rounds::default();
            self.append(&drives, clients, &payload).await?;
            for _ in 0..self.effort.rounds {
                let files = files(faster)?;
                rounds.push(files, self.append(&drives, clients, &payload).await?);
            }
            let name = format!("storage-2+2-4k-{clients}c");
            note(format_args!("{name}: the files of one operation are written {faster:?}"));
            rounds.describe(&name, 4 * KIB);
            row(&name, rounds.ratio(), Goal::AtLeast(goal));
        }
        self.remove(drives).await
    }
}

impl Rounds {
    fn push(&mut self, files: Sample, ours: Sample) {
        self.files.push(files);
        self.ours.push(ours);
    }

    fn ratio(&self) -> f64 {
        median(self.files.iter().zip(&self.ours).map(|(files, ours)| ours.rate() / files.rate()))
    }

    fn describe(&self, name: &str, len: usize) {
        for (side, samples) in [("files", &self.files), ("drive store", &self.ours)] {
            let rate = median_rate(samples);
            let rates: Vec<_> = samples.iter().map(|sample| sample.rate().round()).collect();
            note(format_args!(
                "{name}: {side}: {rate:.0}/s ({:.1} MiB/s), p50 {:.3} ms, {:.1} us CPU per operation, rounds {rates:?}",
                rate * len as f64 / f64::from(1 << 20),
                median(samples.iter().map(Sample::p50_ms)),
                cpu_us_per_op(samples),
            ));
        }
    }
}
