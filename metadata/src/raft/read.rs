//! Linearizable reads at any replica: an index that the group's leader vouches for, then the local tables once they
//! cover it.
//!
//! Owns the queue of readers that wait for an index and the rounds that fetch one: from this replica's own Raft where
//! it leads (a majority confirms that it still does), from the leader's node elsewhere. One round is under way at a
//! time and answers everybody who came before it began, so a round costs the same for one reader as for a thousand.
//! Invariant: an index never answers a reader that came after its round had begun.

use super::{
    machine::Machine,
    network::AddressBook,
    replica::{Refused, Replica, Shared, forward},
    types::{RaftTypes, Runtime, replica},
};
use crate::{
    calls::{self, Address, Answered, Reply},
    encoding::{decode, encode},
    planted::{Plant, planted},
    query::{Answer, Query},
};
use ashlar_rpc::Peers;
use ashlar_runtime::{ClockExt, Env, RngExt, TaskHandle};
use ashlar_types::{GroupId, ReplicaId};
use openraft::{
    Raft,
    async_runtime::{instant::Instant as _, watch::WatchReceiver as _},
    errors::{LinearizableReadError, RaftError},
    raft::{AppendEntriesRequest, AppendEntriesResponse, linearizable_read::LinearizerOption},
};
use std::{
    future::Future,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// Readers that wait for an index; further ones are refused as busy.
const READERS: usize = 16_384;
/// Beyond the leader's own wait for a majority, which ends sooner.
const ASK_LIMIT: Duration = Duration::from_millis(1_500);
/// A follower that does not cover the index by then sends its reader to the leader.
const BEHIND_LIMIT: Duration = Duration::from_millis(500);

type Reader = oneshot::Sender<Result<u64, Refused>>;

/// Where indexes come from.
pub(super) trait Rounds: Send + 'static {
    /// An index such that tables that cover it hold everything committed before the call.
    fn round(&mut self) -> impl Future<Output = Result<u64, Refused>> + Send;
}

/// The readers of one replica.
#[derive(Debug)]
pub(crate) struct Reads {
    waiting: mpsc::Sender<Reader>,
    driver: TaskHandle,
}

impl Reads {
    pub(super) fn start(env: &Env, rounds: impl Rounds) -> Self {
        let (waiting, readers) = mpsc::channel(READERS);
        Self { waiting, driver: env.tasks.spawn("metadata-reads", drive(readers, rounds)) }
    }

    /// Cancel-safe.
    pub(crate) async fn index(&self) -> Result<u64, Refused> {
        let (reader, answered) = oneshot::channel();
        match self.waiting.try_send(reader) {
            Ok(()) => answered.await.unwrap_or(Err(STOPPED)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Refused::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(STOPPED),
        }
    }

    /// Readers that wait are refused, as are all later ones.
    pub(super) fn stop(&self) {
        self.driver.abort();
    }
}

const STOPPED: Refused = Refused::Unknown("the replica has stopped");

async fn drive(mut readers: mpsc::Receiver<Reader>, mut rounds: impl Rounds) {
    let mut batch = Vec::new();
    while readers.recv_many(&mut batch, READERS).await > 0 {
        batch.retain(|reader| !reader.is_closed());
        if batch.is_empty() {
            continue;
        }
        let index = rounds.round().await;
        for reader in batch.drain(..) {
            // A reader may have gone.
            let _ = reader.send(index);
        }
    }
}

/// One replica's place in its group.
pub(super) struct Seat {
    pub(super) group: GroupId,
    pub(super) id: ReplicaId,
    pub(super) raft: Raft<RaftTypes, Machine>,
    pub(super) env: Env,
    pub(super) peers: Peers,
    pub(super) book: AddressBook,
    /// A majority's answer younger than this will do; zero: none that came before the read.
    pub(super) ack_age: Duration,
}

impl Rounds for Seat {
    async fn round(&mut self) -> Result<u64, Refused> {
        let leader = self.raft.server_metrics().borrow_watched().current_leader;
        match leader {
            None => Err(Refused::NotLeader(None)),
            Some(leader) if leader == self.id.raft_id() => self.confirm().await,
            Some(leader) => self.ask(leader).await,
        }
    }
}

impl Seat {
    /// Has a majority confirm that this replica leads.
    async fn confirm(&self) -> Result<u64, Refused> {
        if planted(Plant::LocalLeaderRead) {
            let applied = self.raft.data_metrics().borrow_watched().last_applied;
            return Ok(applied.map_or(0, |applied| applied.index()));
        }
        let confirming = self.raft.get_read_linearizer(LinearizerOption::new(Some(self.ack_age), true));
        match Runtime::scope(self.env.rng.u64(), Box::pin(confirming)).await {
            Ok(confirmed) => Ok(confirmed.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => Err(forward(&to)),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Refused::NotLeader(None))
            }
            Err(RaftError::Fatal(_)) => Err(Refused::Unknown("the replica failed")),
        }
    }

    /// Asks the leader, until it is known that another one leads.
    async fn ask(&self, leader: u64) -> Result<u64, Refused> {
        let mut server = self.raft.server_metrics();
        let replaced = async move {
            loop {
                if server.changed().await.is_err() {
                    return None;
                }
                let now = server.borrow_watched().current_leader;
                if now != Some(leader) {
                    return now.map(|now| replica(now).node);
                }
            }
        };
        tokio::select! {
            index = self.ask_node(leader) => index,
            now = replaced => Err(Refused::NotLeader(now)),
        }
    }

    async fn ask_node(&self, leader: u64) -> Result<u64, Refused> {
        let unreachable = Refused::NotLeader(None);
        let address = self.book.address(replica(leader).node).ok_or(unreachable)?;
        let target = Address { group: self.group, raft_id: leader };
        let reply = self.peers.call(&address, calls::READ_INDEX, target.with(&()), ASK_LIMIT).await;
        let Ok(reply) = reply else { return Err(unreachable) };
        match decode::<Answered<u64>>(&reply).map(|answered| answered.reply) {
            Ok(Reply::Done(index)) => Ok(index),
            Ok(Reply::NotLeader(leader)) => Err(Refused::NotLeader(leader)),
            Ok(Reply::Busy) => Err(Refused::Busy),
            Ok(Reply::Unknown) | Err(_) => Err(unreachable),
        }
    }
}

impl Replica {
    /// Linearizable, from the tables of this replica.
    pub(crate) async fn query(&self, query: Query) -> Result<Answer, Refused> {
        let begun = self.shared.env.clock.monotonic();
        let answer = self.read(query).await;
        if answer.is_ok() {
            self.metrics().read(self.shared.env.clock.monotonic().saturating_sub(begun));
        }
        answer
    }

    async fn read(&self, query: Query) -> Result<Answer, Refused> {
        if self.is_frozen() {
            return Err(Refused::NotLeader(None));
        }
        let index = self.reads.index().await?;
        self.covers(index).await?;
        let answer = if query.scans() {
            let state = Arc::clone(&self.state);
            self.shared.query_pool.run(move || state.query(&query)).await
        } else {
            Ok(self.state.query(&query))
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::error!(group = %self.group, %error, "a query failed in the engine");
                Err(Refused::Unknown("the tables could not be read"))
            }
            Err(_) => Err(Refused::Unknown("the node shuts down")),
        }
    }

    /// An index for a reader on another node; given only by the leader, so that a question is not passed on.
    pub(crate) async fn read_index(&self) -> Result<u64, Refused> {
        match self.not_leader() {
            Some(refused) => Err(refused),
            None => self.reads.index().await,
        }
    }

    /// Leader's message: entries, or none but what is committed.
    pub(super) async fn append(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let message: AppendEntriesRequest<RaftTypes> = decode(payload).ok()?;
        let (at, committed) = (self.shared.env.clock.monotonic(), message.leader_commit);
        let answer = self.scoped(self.raft.append_entries(message)).await.ok()?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            let mut contact = self.contact.lock().unwrap_or_else(PoisonError::into_inner);
            contact.heard(at, committed.map(|id| id.index), self.applied());
        }
        Some(encode(&answer))
    }

    /// Whether the tables are as they were at most `limit` ago, or later.
    pub(crate) fn is_recent(&self, limit: Duration) -> bool {
        if self.leads() {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let alone = metrics.membership_config.voter_ids().count() == 1;
            return alone || metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() <= limit);
        }
        let now = self.shared.env.clock.monotonic();
        let covered = self.contact.lock().unwrap_or_else(PoisonError::into_inner).covered(self.applied());
        covered.is_some_and(|at| now.saturating_sub(at) <= limit)
    }

    fn applied(&self) -> Option<u64> {
        self.raft.watch_apply_progress().get().map(|id| id.index)
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet_until.is_some_and(|until| self.shared.env.clock.monotonic() < until)
    }

    /// Stands for election again once the time has come.
    pub(crate) fn end_quiet(&self) {
        if self.quiet_until.is_some() && !self.is_quiet() {
            self.raft.runtime_config().elect(true);
        }
    }

    /// Waits until the tables cover an index. A leader is never behind for long: it commits what it applies.
    async fn covers(&self, index: u64) -> Result<(), Refused> {
        let mut applied = self.raft.watch_apply_progress();
        let covered = |applied: &Option<_>| covers(applied.as_ref(), index);
        if covered(&applied.get()) {
            return Ok(());
        }
        let waiting = applied.wait_until(covered);
        let waited = match self.not_leader() {
            None => Ok(waiting.await),
            Some(_) => self.shared.env.clock.timeout(BEHIND_LIMIT, waiting).await,
        };
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(STOPPED),
            Err(_) => Err(self.not_leader().unwrap_or(Refused::NotLeader(None))),
        }
    }
}

/// A replica that was restarted has forgotten whom it promised not to replace: where leaders read by lease, it neither votes
/// nor stands for as long as a promise can last.
pub(super) fn quiet(shared: &Shared, raft: &Raft<RaftTypes, Machine>) -> Option<Duration> {
    shared.settings.lease()?;
    raft.runtime_config().elect(false);
    Some(shared.env.clock.monotonic() + 2 * shared.settings.election_max)
}

fn covers(applied: Option<&super::types::LogId>, index: u64) -> bool {
    applied.is_some_and(|applied| applied.index >= index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::sync::Semaphore;

    /// Counts rounds; each ends with its number when it is let go.
    struct Counted {
        begun: Arc<AtomicU64>,
        gate: Arc<Semaphore>,
    }

    impl Rounds for Counted {
        async fn round(&mut self) -> Result<u64, Refused> {
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            self.gate.acquire().await.unwrap().forget();
            if number.is_multiple_of(5) { Err(Refused::NotLeader(None)) } else { Ok(number) }
        }
    }

    fn counted() -> (Reads, Arc<AtomicU64>, Arc<Semaphore>) {
        let (begun, gate) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(0)));
        let rounds = Counted { begun: Arc::clone(&begun), gate: Arc::clone(&gate) };
        (Reads::start(&Env::real(), rounds), begun, gate)
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        while !holds() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn readers_that_come_during_a_round_share_the_next_one() {
        let (reads, begun, gate) = counted();
        let mut first = Box::pin(reads.index());
        assert!(futures_util::poll!(&mut first).is_pending());
        until(|| begun.load(Ordering::SeqCst) == 1).await;
        let mut late: Vec<_> = (0..100).map(|_| Box::pin(reads.index())).collect();
        for reader in &mut late {
            assert!(futures_util::poll!(reader).is_pending());
        }
        gate.add_permits(1);
        assert_eq!(first.await, Ok(1));
        gate.add_permits(1);
        assert!(join_all(late).await.into_iter().all(|index| index == Ok(2)));
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn readers_that_gave_up_cost_no_round() {
        let (reads, begun, gate) = counted();
        let mut first = Box::pin(reads.index());
        assert!(futures_util::poll!(&mut first).is_pending());
        until(|| begun.load(Ordering::SeqCst) == 1).await;
        let mut gone = Box::pin(reads.index());
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(gone);
        gate.add_permits(1);
        assert_eq!(first.await, Ok(1));
        gate.add_permits(1);
        assert_eq!(reads.index().await, Ok(2));
    }

    #[tokio::test]
    async fn a_refused_round_refuses_its_readers_and_a_stopped_replica_all() {
        let (reads, _, gate) = counted();
        gate.add_permits(5);
        for number in 1..=4 {
            assert_eq!(reads.index().await, Ok(number));
        }
        assert_eq!(reads.index().await, Err(Refused::NotLeader(None)));
        let mut waiting = Box::pin(reads.index());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        reads.stop();
        assert_eq!(waiting.await, Err(STOPPED));
        assert_eq!(reads.index().await, Err(STOPPED));
    }
}
