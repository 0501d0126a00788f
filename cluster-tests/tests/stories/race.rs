//! Conditional writers that race on counters and on unique keys while a story does its worst. The checkers of `history`
//! judge what they saw: no acknowledged write is lost, none happens twice, nothing comes back.

use anyhow::{Context, Result, bail, ensure};
use ashlar_cluster_tests::{
    client::{self, Answer, Condition, get_held, put_if},
    cluster::{Cluster, GROUPS},
    history::{
        Events, Outcome, Span, Token,
        chain::{Chain, Counts, Increment, Observed},
        creates::{self, Create},
    },
    random::Random,
    until::{Probe, pause, until},
    workers,
};
use aws_sdk_s3::Client;
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const WRITERS: usize = 8;
/// Writers that try to create one key.
const RIVALS: u64 = 3;
/// A bucket lies in one group; so many are tried until every group has one.
const BUCKETS_MAX: usize = 16;
/// Acknowledged writes that count as progress.
const PROGRESS: usize = 15;
const PROGRESS_WITHIN: Duration = Duration::from_secs(60);
const COUNTER: &str = "counter";
const INITIAL: Token = Token(0);
/// The writers' own numbers begin here.
const FIRST: u64 = 1;
/// Bodies of counters: one kind is inline, the other in shards.
const BODY_LENS: [usize; 2] = [500, 40_000];

/// Writers under way.
pub(crate) struct Race {
    shared: Arc<Shared>,
    writers: JoinSet<Result<Seen>>,
}

/// What all writers share.
struct Shared {
    clients: BTreeMap<u32, Client>,
    buckets: Vec<String>,
    events: Events,
    tokens: AtomicU64,
    creations: AtomicU64,
    acked: AtomicUsize,
    stop: AtomicBool,
}

/// What one writer saw.
#[derive(Default)]
struct Seen {
    chains: BTreeMap<String, Chain>,
    creates: Vec<Create>,
}

impl Race {
    /// Makes a counter in every group and lets the writers go, each request through a node of its own choice.
    pub(crate) async fn begin(cluster: &Cluster, random: &mut Random) -> Result<Self> {
        let buckets = counters_in_every_group(cluster).await?;
        let shared = Arc::new(Shared {
            clients: cluster.exact_clients(),
            buckets,
            events: Events::default(),
            tokens: AtomicU64::new(FIRST),
            creations: AtomicU64::new(0),
            acked: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let mut writers = JoinSet::new();
        for _ in 0..WRITERS {
            writers.spawn(Arc::clone(&shared).write(random.fork()));
        }
        Ok(Self { shared, writers })
    }

    /// Waits for some more acknowledged writes.
    pub(crate) async fn progress(&mut self) -> Result<()> {
        let goal = self.shared.acked.load(Ordering::SeqCst) + PROGRESS;
        until(&format!("{goal} acknowledged writes"), PROGRESS_WITHIN, async || {
            if let Some(ended) = self.writers.try_join_next() {
                ended??;
                bail!("a writer ended though nobody asked it to");
            }
            let acked = self.shared.acked.load(Ordering::SeqCst);
            Ok(if acked >= goal { Probe::Done(()) } else { Probe::NotYet(format!("{acked} are")) })
        })
        .await
    }

    /// Ends the writers and judges what they saw. Every node of the cluster runs and is settled.
    pub(crate) async fn judge(self, cluster: &Cluster) -> Result<()> {
        let Self { shared: race, writers } = self;
        race.stop.store(true, Ordering::SeqCst);
        let seen = workers::join_all(writers).await?;
        let mut total = Counts::default();
        for bucket in &race.buckets {
            let counts = check_chain(&race, cluster, bucket, &seen)
                .await
                .with_context(|| format!("counter of {bucket}"))?;
            total.acked += counts.acked;
            total.refused += counts.refused;
        }
        ensure!(total.refused > 0, "no writers met: nothing was tested");
        check_creations(cluster, &race.buckets, &seen).await
    }
}

/// Makes buckets until each group has one, each with its counter at the initial value.
async fn counters_in_every_group(cluster: &Cluster) -> Result<Vec<String>> {
    let client = cluster.client(1);
    let mut buckets = Vec::new();
    let mut groups = BTreeSet::new();
    while groups.len() < usize::try_from(GROUPS)? {
        ensure!(buckets.len() < BUCKETS_MAX, "{BUCKETS_MAX} buckets all went to the groups {groups:?}");
        let bucket = format!("race-{}", buckets.len());
        client::create_bucket(&client, &bucket).await?;
        let body = render(INITIAL, INITIAL, BODY_LENS[buckets.len() % BODY_LENS.len()]);
        let put = put_if(&client, &bucket, COUNTER, body, &Condition::IfNoneMatchAny).await?;
        ensure!(put == Answer::Acked(()), "the first value of {bucket}: {put:?}");
        groups.insert(cluster.explain(1, &bucket, COUNTER).await?.group);
        buckets.push(bucket);
    }
    Ok(buckets)
}

impl Shared {
    async fn write(self: Arc<Self>, mut random: Random) -> Result<Seen> {
        let mut seen = Seen::default();
        while !self.stop.load(Ordering::SeqCst) {
            let bucket = random.pick(&self.buckets);
            let ids: Vec<u32> = self.clients.keys().copied().collect();
            let (reader, writer) = (&self.clients[&random.pick(&ids)], &self.clients[&random.pick(&ids)]);
            if random.below(3) == 0 {
                self.create(writer, &mut seen.creates).await?;
            } else {
                let chain = seen.chains.entry(bucket.clone()).or_default();
                self.increment(reader, writer, &bucket, chain).await?;
            }
        }
        Ok(seen)
    }

    fn token(&self) -> Token {
        Token(self.tokens.fetch_add(1, Ordering::SeqCst))
    }

    /// Reads the counter and replaces what it read.
    async fn increment(
        &self,
        reader: &Client,
        writer: &Client,
        bucket: &str,
        chain: &mut Chain,
    ) -> Result<()> {
        let begin = self.events.next();
        let answer = get_held(reader, bucket, COUNTER).await?;
        let end = self.events.next();
        let held = match answer {
            Answer::Acked(held) => held,
            Answer::Unknown(_) => {
                pause().await;
                return Ok(());
            }
            other @ (Answer::Absent | Answer::Refused) => bail!("the counter of {bucket}: {other:?}"),
        };
        let predecessor = parse(&held.bytes)?;
        chain.reads.push(Observed { token: predecessor, span: Span { begin, end } });

        let token = self.token();
        let body = render(token, predecessor, held.bytes.len());
        let begin = self.events.next();
        let answer = put_if(writer, bucket, COUNTER, body, &Condition::IfMatch(held.etag)).await?;
        let span = Span { begin, end: self.events.next() };
        let outcome = self.outcome(answer).await.with_context(|| format!("the counter of {bucket}"))?;
        chain.attempts.push(Increment { token, predecessor, span, outcome });
        Ok(())
    }

    /// Tries to be the one that makes a key.
    async fn create(&self, writer: &Client, creates: &mut Vec<Create>) -> Result<()> {
        let number = self.creations.fetch_add(1, Ordering::SeqCst) / RIVALS;
        let bucket = &self.buckets[usize::try_from(number)? % self.buckets.len()];
        let key = format!("unique/{number:06}");
        let token = self.token();
        let body = render(token, INITIAL, BODY_LENS[usize::try_from(number / 2)? % BODY_LENS.len()]);
        let begin = self.events.next();
        let answer = put_if(writer, bucket, &key, body, &Condition::IfNoneMatchAny).await?;
        let span = Span { begin, end: self.events.next() };
        let outcome = self.outcome(answer).await.with_context(|| key.clone())?;
        creates.push(Create { key: format!("{bucket}/{key}"), token, span, outcome });
        Ok(())
    }

    async fn outcome(&self, answer: Answer<()>) -> Result<Outcome> {
        Ok(match answer {
            Answer::Acked(()) => {
                self.acked.fetch_add(1, Ordering::SeqCst);
                Outcome::Acked
            }
            Answer::Refused => Outcome::Refused,
            Answer::Unknown(_) => {
                pause().await;
                Outcome::Unknown
            }
            Answer::Absent => bail!("404 for a conditional write of what is never deleted"),
        })
    }
}

/// The token and what it replaces, repeated to the end, so that a body mixed from two writes shows.
fn render(token: Token, predecessor: Token, len: usize) -> Bytes {
    let line = format!("{token} {predecessor}\n");
    line.bytes().cycle().take(len.max(line.len())).collect()
}

/// The token of a body that is exactly what one writer sent.
fn parse(body: &[u8]) -> Result<Token> {
    let line = body.split(|byte| *byte == b'\n').next().context("a body has a line")?;
    let (token, predecessor) = std::str::from_utf8(line)?.split_once(' ').context("a line has two tokens")?;
    let token = Token(u64::from_str_radix(token, 16)?);
    let predecessor = Token(u64::from_str_radix(predecessor, 16)?);
    ensure!(
        render(token, predecessor, body.len()) == body,
        "a body mixed from several writes, {token} first"
    );
    Ok(token)
}

/// Reads the last value through every node, one after another, and judges the history with these reads in it: a
/// node that is behind gives a stale one.
async fn check_chain(race: &Shared, cluster: &Cluster, bucket: &str, seen: &[Seen]) -> Result<Counts> {
    let mut whole = Chain::default();
    for chain in seen.iter().filter_map(|seen| seen.chains.get(bucket)) {
        whole.attempts.extend(chain.attempts.iter().cloned());
        whole.reads.extend(chain.reads.iter().copied());
    }
    let mut last = INITIAL;
    for id in cluster.ids() {
        let begin = race.events.next();
        let held = get_held(&cluster.client(id), bucket, COUNTER).await?.acked();
        let held = held.with_context(|| format!("node {id}"))?;
        last = parse(&held.bytes).with_context(|| format!("node {id}"))?;
        whole.reads.push(Observed { token: last, span: Span { begin, end: race.events.next() } });
    }
    let counts = whole.check(INITIAL, last)?;
    ensure!(counts.acked > 0, "nobody incremented it: nothing was tested");
    Ok(counts)
}

async fn check_creations(cluster: &Cluster, buckets: &[String], seen: &[Seen]) -> Result<()> {
    let attempts: Vec<Create> = seen.iter().flat_map(|seen| seen.creates.iter().cloned()).collect();
    ensure!(attempts.iter().any(|attempt| attempt.outcome == Outcome::Refused), "no rivals met");
    let mut found = BTreeMap::new();
    let paths: BTreeSet<&str> = attempts.iter().map(|attempt| attempt.key.as_str()).collect();
    let ids = cluster.ids();
    let clients: Vec<Client> = ids.iter().map(|id| cluster.client(*id)).collect();
    for (path, client) in paths.into_iter().zip(clients.iter().cycle()) {
        let (bucket, key) = path.split_once('/').context("a path has a bucket")?;
        ensure!(buckets.iter().any(|known| known == bucket), "{bucket} is a bucket");
        let held = get_held(client, bucket, key).await?.found().with_context(|| path.to_owned())?;
        if let Some(held) = held {
            found.insert(path.to_owned(), parse(&held.bytes)?);
        }
    }
    creates::check(&attempts, &found)?;
    Ok(())
}
