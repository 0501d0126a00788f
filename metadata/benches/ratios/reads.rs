//! What a linearizable read costs: the CPU of the three nodes together, clients included.

use crate::{
    Bench,
    line::{Goal, Line, median, note, row},
    nodes::{LIMIT, Nodes, propose, side_by_side},
    objects::{BUCKET, GROUP, key, put},
    sample::{Latencies, cpu_time},
};
use anyhow::{Context, Result, bail, ensure};
use ashlar_metadata::{
    MetadataApi,
    query::{Answer, ContentWanted, Query, VersionAnswer},
};
use ashlar_runtime::RngExt;
use ashlar_types::ObjectKey;
use std::time::Duration;

pub(crate) const LINE: Line = Line { name: "read_cpu_micros_64_clients", measure };

const CLIENTS: usize = 64;
const OBJECTS: u64 = 10_000;

fn measure(bench: &Bench) -> Result<()> {
    let (rounds, window) = (bench.effort.pick(5, 1), Duration::from_secs(bench.effort.pick(5, 1)));
    bench.block_on(async {
        let nodes = Nodes::start(&bench.env, &bench.dir().join("nodes")).await?;
        load(bench, &nodes).await?;
        reads(bench, &nodes, window / 2).await?;
        let (mut micros, mut rates, mut p99) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (begun, used) = (bench.env.clock.monotonic(), cpu_time()?);
            let latencies = reads(bench, &nodes, window).await?;
            let (took, used) = (bench.env.clock.monotonic() - begun, cpu_time()? - used);
            let count = f64::from(u32::try_from(latencies.count())?);
            micros.push(used.as_secs_f64() * 1e6 / count);
            rates.push(count / took.as_secs_f64());
            p99.push(latencies.percentile_ms(99));
        }
        note(format_args!(
            "{}: {:.0} reads/s of {CLIENTS} clients on three nodes (p99 {:.1} ms), {rounds} rounds",
            LINE.name,
            median(rates),
            median(p99),
        ));
        row(LINE.name, median(micros), Goal::AtMost(60.0));
        nodes.stop().await;
        Ok(())
    })
}

async fn load(bench: &Bench, nodes: &Nodes) -> Result<()> {
    let share = OBJECTS / CLIENTS as u64 + 1;
    let writers = (0..CLIENTS).map(|writer| {
        let client = nodes.client(writer);
        let begin = writer as u64 * share;
        async move {
            for number in begin..OBJECTS.min(begin + share) {
                propose(&client, put(GROUP, number, number)?.command).await?;
            }
            anyhow::Ok(())
        }
    });
    side_by_side(&bench.env, writers).await.map(drop)
}

async fn reads(bench: &Bench, nodes: &Nodes, window: Duration) -> Result<Latencies> {
    let begun = bench.env.clock.monotonic();
    let clients = (0..CLIENTS).map(|number| {
        let (client, env) = (nodes.client(number), bench.env.clone());
        async move {
            let mut took = Vec::new();
            while env.clock.monotonic() - begun < window {
                let key = key(env.rng.below(OBJECTS));
                let key = ObjectKey::parse(&key).context("a key")?;
                let query =
                    Query::Version { bucket: BUCKET, key, version: None, content: ContentWanted::Yes };
                let asked = env.clock.monotonic();
                let answer = client.query(GROUP, query, LIMIT).await?;
                took.push(env.clock.monotonic() - asked);
                let Answer::Version(version) = answer else { bail!("another answer") };
                ensure!(matches!(*version, VersionAnswer::Found { .. }), "an object is missing");
            }
            anyhow::Ok(took)
        }
    });
    let mut latencies = Latencies::default();
    for took in side_by_side(&bench.env, clients).await?.into_iter().flatten() {
        latencies.push(took);
    }
    Ok(latencies)
}
