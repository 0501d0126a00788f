//! Commits of small versions on three nodes against the plainest durable log: one record, one flush, on one node.

use crate::{
    Bench,
    line::{Goal, Line, median, note, row},
    nodes::{Nodes, propose, side_by_side},
    objects::{GROUP, put},
    sample::Latencies,
};
use anyhow::Result;
use ashlar_metadata::encoding::encode;
use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) const LINE: Line = Line { name: "commits_three_nodes_64_clients", measure };

const CLIENTS: usize = 64;

fn measure(bench: &Bench) -> Result<()> {
    let (rounds, window) = (bench.effort.pick(5, 1), bench.effort.pick(4, 1));
    let window = Duration::from_secs(window);
    bench.block_on(async {
        let nodes = Nodes::start(&bench.env, &bench.dir().join("nodes")).await?;
        let next = Arc::new(AtomicU64::new(0));
        // Warms caches and connections.
        commits(bench, &nodes, &next, window / 2).await?;
        let (mut ratios, mut plain, mut replicated, mut p99) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let one = flushes(bench, &bench.dir().join("plain"), window / 2)?;
            let (three, latencies) = commits(bench, &nodes, &next, window).await?;
            ratios.push(three / one);
            plain.push(one);
            replicated.push(three);
            p99.push(latencies.percentile_ms(99));
        }
        note(format_args!(
            "{}: {:.0} commits/s of {CLIENTS} clients (p99 {:.1} ms), {:.0} records/s written and flushed one by one, {rounds} rounds",
            LINE.name,
            median(replicated),
            median(p99),
            median(plain),
        ));
        row(LINE.name, median(ratios), Goal::AtLeast(5.0));
        nodes.stop().await;
        Ok(())
    })
}

/// Commits a second.
async fn commits(
    bench: &Bench,
    nodes: &Nodes,
    next: &Arc<AtomicU64>,
    window: Duration,
) -> Result<(f64, Latencies)> {
    let begun = bench.env.clock.monotonic();
    let clients = (0..CLIENTS).map(|number| {
        let (client, clock, next) = (nodes.client(number), Arc::clone(&bench.env.clock), Arc::clone(next));
        async move {
            let mut took = Vec::new();
            while clock.monotonic() - begun < window {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let command = put(GROUP, number, number)?.command;
                let proposed = clock.monotonic();
                propose(&client, command).await?;
                took.push(clock.monotonic() - proposed);
            }
            anyhow::Ok(took)
        }
    });
    let mut latencies = Latencies::default();
    for took in side_by_side(&bench.env, clients).await?.into_iter().flatten() {
        latencies.push(took);
    }
    let seconds = (bench.env.clock.monotonic() - begun).as_secs_f64();
    Ok((f64::from(u32::try_from(latencies.count())?) / seconds, latencies))
}

/// Records of the same bytes a second, each appended to one file and flushed before the next.
fn flushes(bench: &Bench, path: &Path, window: Duration) -> Result<f64> {
    let clock = &bench.env.clock;
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let begun = clock.monotonic();
    let mut count = 0_u32;
    while clock.monotonic() - begun < window {
        let record = encode(&put(GROUP, u64::from(count), u64::from(count))?);
        file.write_all(&record)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / (clock.monotonic() - begun).as_secs_f64())
}
