//! Durable appends of 4 KiB entries to 32 groups: through the log that they share against one file per group.
//!
//! The other side is the usual one: each group has a file and a thread, which takes all that waits, writes it at the end
//! of the file and flushes. Both encode the entries, both answer when the flush returned, both drop what is old now and then.

use crate::{
    Bench,
    line::{Goal, Line, median, note, row},
    objects::put,
};
use anyhow::{Context, Result};
use ashlar_metadata::{
    command::{Command, Entry, PartitionCommand},
    encoding::encode,
    log::{
        LogOptions, LogStore, NodeLog,
        raft::{LeaderTerm, LogId, RaftEntry, RaftTypes},
    },
};
use ashlar_runtime::{Disk, DiskFile, Env, OpenMode, Pool, RealDisk};
use ashlar_types::GroupId;
use openraft::{
    entry::RaftEntry as _,
    storage::{IOFlushed, RaftLogStorage},
    type_config::TypeConfigExt,
};
use std::{
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Mutex, mpsc, oneshot};

pub(crate) const SIXTEEN: Line = Line {
    name: "raft_log_16_writers",
    measure: |bench| measure(bench, "raft_log_16_writers", 16, Goal::AtLeast(2.5)),
};
pub(crate) const SIXTY_FOUR: Line = Line {
    name: "raft_log_64_writers",
    measure: |bench| measure(bench, "raft_log_64_writers", 64, Goal::AtLeast(3.0)),
};

const GROUPS: u32 = 32;
/// With the rest of the entry it makes 4 KiB.
const INLINE: usize = 3_600;
/// Entries that a group keeps at most, and how many it then drops.
const KEPT: u64 = 1_000;

fn measure(bench: &Bench, name: &str, writers: u64, goal: Goal) -> Result<()> {
    bench.block_on(async {
        let rounds = bench.effort.pick(7, 3);
        let time = bench.effort.pick(Duration::from_secs(2), Duration::from_millis(300));
        let shared = Shared::open(bench)?;
        let files = Files::open(bench)?;
        let (mut ratios, mut rates) = (Vec::new(), (Vec::new(), Vec::new()));
        for round in 0..=rounds {
            let one = rate(&bench.env, writers, time, |group, entry| shared.append(group, entry)).await?;
            let many = rate(&bench.env, writers, time, |group, entry| files.append(group, entry)).await?;
            // The first makes segments and warms both.
            if round > 0 {
                ratios.push(one / many);
                rates.0.push(one);
                rates.1.push(many);
            }
        }
        let stats = shared.log.stats();
        note(format_args!(
            "{name}: {:.0} entries/s through one log, {:.0} with a file per group, {GROUPS} groups, {rounds} rounds of \
             {time:?} a side; {:.1} records a batch, write {:?}, flush {:?}, direct I/O: {}",
            median(rates.0),
            median(rates.1),
            stats.records as f64 / stats.batches.max(1) as f64,
            stats.write,
            stats.flush,
            stats.direct,
        ));
        row(name, median(ratios), goal);
        shared.log.close().await;
        Ok(())
    })
}

/// Entries a second that so many writers append, each one when its last is durable.
async fn rate<F: Future<Output = Result<()>> + Send>(
    env: &Env,
    writers: u64,
    time: Duration,
    append: impl Fn(u32, Entry) -> F,
) -> Result<f64> {
    let (began, done) = (env.clock.monotonic(), AtomicU64::new(0));
    let write = |writer: u64| {
        let (append, done) = (&append, &done);
        async move {
            let mut number = writer;
            while env.clock.monotonic() - began < time {
                // Writers meet in groups as clients do.
                let group = u32::try_from(number * 7 % u64::from(GROUPS))?;
                append(group, entry(group, number)?).await?;
                done.fetch_add(1, Ordering::Relaxed);
                number += writers + 1;
            }
            Ok::<_, anyhow::Error>(())
        }
    };
    futures_util::future::try_join_all((0..writers).map(write)).await?;
    let took = env.clock.monotonic() - began;
    Ok(done.into_inner() as f64 / took.as_secs_f64())
}

fn entry(group: u32, number: u64) -> Result<Entry> {
    let mut entry = put(GroupId(group), number, number)?;
    if let Command::Partition(PartitionCommand::PutVersion(put)) = &mut entry.command {
        put.content.inline = vec![7; INLINE].into();
    }
    Ok(entry)
}

/// The log of a node.
struct Shared {
    log: NodeLog,
    groups: Vec<Mutex<(LogStore, u64)>>,
}

impl Shared {
    fn open(bench: &Bench) -> Result<Self> {
        let log = NodeLog::open(&bench.env, &bench.dir().join("log"), LogOptions::default())?;
        let pool = Pool::new(&bench.env.tasks, "log-bench", 2, 64);
        let groups = (0..GROUPS).map(|group| {
            let store = log.replica(GroupId(group), 1, pool.clone(), Arc::new(|| Ok(())))?;
            Ok(Mutex::new((store, 0)))
        });
        let groups = groups.collect::<Result<_>>()?;
        Ok(Self { log, groups })
    }

    async fn append(&self, group: u32, entry: Entry) -> Result<()> {
        let (flushed, answer) = RaftTypes::oneshot();
        {
            let mut group = self.groups.get(group as usize).context("a group")?.lock().await;
            let (store, next) = &mut *group;
            let id = |index| LogId::new(LeaderTerm { term: 1, node_id: 1 }, index);
            store.append([RaftEntry::new_normal(id(*next), entry)], IOFlushed::signal(flushed)).await?;
            *next += 1;
            if next.is_multiple_of(KEPT) {
                store.purge(id(*next - KEPT / 2)).await?;
            }
        }
        answer.await??;
        Ok(())
    }
}

type Waiting = (Vec<u8>, oneshot::Sender<std::io::Result<()>>);

/// A file per group.
struct Files(Vec<mpsc::UnboundedSender<Waiting>>);

impl Files {
    fn open(bench: &Bench) -> Result<Self> {
        let open = |group: u32| {
            let (sender, waiting) = mpsc::unbounded_channel();
            let file = create(&bench.dir().join(format!("group-{group}")))?;
            let _runs_on = bench.env.tasks.worker("group-file", move || write_file(&*file, waiting));
            Ok(sender)
        };
        (0..GROUPS).map(open).collect::<Result<_>>().map(Self)
    }

    async fn append(&self, group: u32, entry: Entry) -> Result<()> {
        let id = LogId::new(LeaderTerm { term: 1, node_id: 1 }, 1);
        let payload = encode(&RaftEntry::new_normal(id, entry));
        let (done, answer) = oneshot::channel();
        self.0.get(group as usize).context("a group")?.send((payload, done))?;
        answer.await??;
        Ok(())
    }
}

fn create(path: &Path) -> Result<Box<dyn DiskFile>> {
    Ok(RealDisk.open(path, OpenMode::Create)?)
}

/// One write and one flush for all that waits.
fn write_file(file: &dyn DiskFile, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
    let (mut end, mut kept) = (0, 0);
    while let Some(first) = waiting.blocking_recv() {
        let mut batch = vec![first];
        while let Ok(next) = waiting.try_recv() {
            batch.push(next);
        }
        let mut bytes = Vec::new();
        for (payload, _) in &batch {
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, payload);
            bytes.extend_from_slice(&crc.to_le_bytes());
            bytes.extend_from_slice(payload);
        }
        if kept >= 4 * KEPT {
            // What a rewrite into a new file would give back, without the copying.
            (end, kept) = (0, 0);
        }
        let room = if end == 0 { file.truncate(0) } else { Ok(()) };
        let written = room.and_then(|()| file.write_all_at(&bytes, end)).and_then(|()| file.sync_data());
        end += bytes.len() as u64;
        kept += batch.len() as u64;
        for (_, done) in batch {
            // The writer waits, or the round has ended.
            let _ = done.send(written.as_ref().copied().map_err(|error| error.kind().into()));
        }
    }
}
