//! Commits of a group while snapshots of it are built: its tables are read from beginning to end, again and again, and
//! flushed, as a follower that is far behind makes a leader do.
//!
//! One node, so that a commit is a flush of the log and an apply; a million objects; writers that together make half of the
//! commits that the node could.

use crate::{
    Bench,
    line::{Goal, Line, median, note, row},
    objects::{GROUP, Group, bucket, put},
    sample::Latencies,
};
use anyhow::{Context, Result, anyhow, ensure};
use ashlar_metadata::{
    MetadataApi, MetadataClient, MetadataConfig, MetadataNode, command::Command, node::Role,
    state::StateMachine,
};
use ashlar_placement::{ClusterMap, Group as Replicas, Labels, Node, NodeState};
use ashlar_rpc::{Peers, RpcIdentity};
use ashlar_types::{ClusterId, GroupId, Incarnation, MapEpoch, NodeId, ReplicaId};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) const LINE: Line = Line { name: "snapshot_p99_commit_slowdown", measure };

const OBJECTS: u64 = 1_000_000;
const CLIENTS: u64 = 32;
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

fn measure(bench: &Bench) -> Result<()> {
    bench.block_on(run(bench))
}

/// Clients, what they write, and how often.
struct Load {
    bench_env: ashlar_runtime::Env,
    client: Arc<MetadataClient>,
    next: AtomicU64,
    objects: u64,
}

async fn run(bench: &Bench) -> Result<()> {
    let objects = bench.effort.pick(OBJECTS, OBJECTS / 20);
    let env = bench.env.clone();
    let peers = Peers::new(env.clone(), RpcIdentity::unformed());
    let config = MetadataConfig::new(bench.dir().to_owned());
    let node = MetadataNode::start(config, env.clone(), peers).await?;
    form(bench, &node).await?;
    let state = node.tables(GROUP).context("the group is here")?;
    // Past the log, which would take minutes.
    Group::of(Arc::clone(&state), GROUP).load(objects)?;

    let client = MetadataClient::new(Arc::clone(&node));
    let load = Arc::new(Load { bench_env: env.clone(), client, next: AtomicU64::new(objects), objects });
    let phase = bench.effort.pick(Duration::from_secs(6), Duration::from_secs(1));
    load.run(phase / 2, Duration::ZERO).await?;
    let most = load.run(phase / 2, Duration::ZERO).await?.count() as f64 / (phase / 2).as_secs_f64();
    let pause = Duration::from_secs_f64(CLIENTS as f64 / (most / 2.0));
    let (mut slowdowns, mut alone_p99, mut beside_p99, mut rate) = (vec![], vec![], vec![], vec![]);
    let mut built = 0;
    for _ in 0..bench.effort.pick(7, 2) {
        let alone = load.run(phase, pause).await?;
        let building = Building::begin(bench, &state);
        let beside = load.run(phase, pause).await?;
        built += building.end().await?;
        slowdowns.push(beside.percentile_ms(99) / alone.percentile_ms(99));
        alone_p99.push(alone.percentile_ms(99));
        beside_p99.push(beside.percentile_ms(99));
        rate.push(beside.count() as f64 / phase.as_secs_f64());
    }
    note(format_args!(
        "{}: {objects} objects, {CLIENTS} clients, {most:.0} commits a second at most, {:.0} asked for; p99 {:.2} ms alone, {:.2} ms \
         beside {built} pieces of snapshots, {:.0} commits a second then",
        LINE.name,
        most / 2.0,
        median(alone_p99),
        median(beside_p99),
        median(rate),
    ));
    row(LINE.name, median(slowdowns), Goal::AtMost(2.0));
    node.shutdown().await;
    Ok(())
}

/// A cluster of this node, with one group beside group 0.
async fn form(bench: &Bench, node: &Arc<MetadataNode>) -> Result<()> {
    let first = Node {
        rpc: "127.0.0.1:1".to_owned(),
        s3: String::new(),
        labels: Labels::default(),
        state: NodeState::Member,
    };
    let map = ClusterMap::forming(ClusterId(1), first);
    node.form(map.clone()).await?;
    let mut next = map.clone();
    let voters = vec![ReplicaId { node: NodeId(1), incarnation: Incarnation(1) }];
    next.groups.insert(GROUP, Replicas { voters, learners: vec![] });
    next.epoch = MapEpoch(map.epoch.0 + 1);
    let update =
        ashlar_metadata::command::SystemCommand::UpdateMap { expected: map.epoch, map: Box::new(next) };
    let client = MetadataClient::new(Arc::clone(node));
    let updated = client.propose(GroupId::SYSTEM, None, Command::System(update), LIMIT).await?;
    ensure!(updated.is_ok(), "{updated:?}");
    let deadline = bench.env.clock.monotonic() + LIMIT;
    let leads = || node.status().iter().any(|group| group.group == GROUP && group.role == Role::Leader);
    while !leads() {
        ensure!(bench.env.clock.monotonic() < deadline, "the group has no leader");
        bench.env.clock.sleep(POLL).await;
    }
    let bucket = client.propose(GROUP, None, bucket(GROUP, bench.env.clock.wall())?, LIMIT).await?;
    ensure!(bucket.is_ok(), "{bucket:?}");
    Ok(())
}

impl Load {
    /// How long each commit took that began within `phase`. Each client begins one every `pause`, or when the last
    /// has ended.
    async fn run(self: &Arc<Self>, phase: Duration, pause: Duration) -> Result<Latencies> {
        let ends = self.bench_env.clock.monotonic() + phase;
        let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let (this, report) = (Arc::clone(self), report.clone());
            clients.push(self.bench_env.tasks.spawn("client", async move {
                // Spread over the pause.
                let wait = pause.mul_f64(client as f64 / CLIENTS as f64);
                // The receiver is there until all have ended.
                let _ = report.send(this.client(ends, wait, pause).await);
            }));
        }
        drop(report);
        let mut all = Latencies::default();
        while let Some(latencies) = reports.recv().await {
            all.extend(latencies?);
        }
        for client in clients {
            client.join().await;
        }
        Ok(all)
    }

    async fn client(&self, ends: Duration, wait: Duration, pause: Duration) -> Result<Latencies> {
        let clock = &self.bench_env.clock;
        let mut latencies = Latencies::default();
        let mut due = clock.monotonic() + wait;
        loop {
            let now = clock.monotonic();
            if now.max(due) >= ends {
                return Ok(latencies);
            }
            if due > now {
                clock.sleep(due - now).await;
            }
            let sequence = self.next.fetch_add(1, Ordering::Relaxed);
            let command = put(GROUP, sequence % self.objects, sequence)?.command;
            let request = self.client.begin(GROUP).await?;
            let begun = clock.monotonic();
            let outcome = self.client.propose(GROUP, Some(request), command, LIMIT).await?;
            latencies.push(clock.monotonic() - begun);
            outcome.map_err(|refusal| anyhow!("{refusal:?}"))?;
            due = (due + pause).max(clock.monotonic() - pause);
        }
    }
}

/// Snapshots, one after another, on a thread.
struct Building {
    stop: Arc<AtomicBool>,
    pieces: tokio::sync::oneshot::Receiver<Result<u64>>,
}

impl Building {
    fn begin(bench: &Bench, state: &Arc<StateMachine>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (done, pieces) = tokio::sync::oneshot::channel();
        let (state, stopped) = (Arc::clone(state), Arc::clone(&stop));
        let _runs_on = bench.env.tasks.worker("snapshots", move || {
            // The receiver waits for it.
            let _ = done.send(build(&state, &stopped));
        });
        Self { stop, pieces }
    }

    async fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.pieces.await?
    }
}

fn build(state: &StateMachine, stop: &AtomicBool) -> Result<u64> {
    let mut pieces = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut snapshot = state.snapshot()?;
        state.persist()?;
        while snapshot.next_piece()?.is_some() && !stop.load(Ordering::Relaxed) {
            pieces += 1;
        }
    }
    Ok(pieces)
}
