//! Compares the replicas of each group that is led here, and has those replaced that differ.
//!
//! From time to time the leader proposes a mark; each replica keeps the digests of its tables as they are at that entry, so
//! that they are the same wherever they are asked for. What a majority of the voters has is right. A replica that has
//! something else loses its tables, not its log and vote, and takes those of one that is right; one at a time. Without
//! a majority nobody knows what is right, and the group is frozen. In between every node adds up its own rows, a few at a
//! time: what changed at rest counts as different.

use super::{
    MetadataNode,
    peer::{Answer, MarkView, Question, ask},
    reinstall,
};
use crate::{
    command::Command,
    kv::Table,
    raft::replica::Replica,
    state::{Marked, RescanStep},
};
use ashlar_placement::ClusterMap;
use ashlar_runtime::{ClockExt, RngExt};
use ashlar_types::{GroupId, ReplicaId};
use futures_util::future::join_all;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

/// How often rows are compared.
#[derive(Clone, Copy, Debug)]
pub struct DigestSettings {
    /// Between two marks of a group. Default 10 min.
    pub interval: Duration,
    /// Between two times that a node adds up all rows of a replica. Default 24 h.
    pub rescan_interval: Duration,
    /// Rows that are added up at a time. Default 1 000: a few milliseconds.
    pub rescan_rows: usize,
    /// Pause after each step. Default 100 ms: a million rows take some minutes and next to no CPU.
    pub rescan_pause: Duration,
}

impl Default for DigestSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(600),
            rescan_interval: Duration::from_secs(24 * 3600),
            rescan_rows: 1_000,
            rescan_pause: Duration::from_millis(100),
        }
    }
}

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(500);
const PROPOSE_LIMIT: Duration = Duration::from_secs(5);
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// Members that have not applied the mark by then are compared at another one.
const MARK_LIMIT: Duration = Duration::from_secs(10);
const MARK_POLL: Duration = Duration::from_millis(50);
/// A replica that differs is looked after again soon.
const AGAIN: Duration = Duration::from_secs(5);

/// What a comparison says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nobody who answered differs from a majority.
    Agreed,
    /// Too few answered to tell what is right.
    Unclear,
    Differing {
        wrong: Vec<ReplicaId>,
        right: Vec<ReplicaId>,
    },
    /// Whatever those say that did not answer, no majority agrees.
    NoMajority,
}

type Digests = Vec<(Table, [u8; 32])>;

/// `None`: the replica knows that its rows are not what it applied.
fn judge(voters: &[ReplicaId], told: &BTreeMap<ReplicaId, Option<Digests>>) -> Verdict {
    let mut agreeing: BTreeMap<&Digests, Vec<ReplicaId>> = BTreeMap::new();
    for (replica, digests) in told {
        if let Some(digests) = digests {
            agreeing.entry(digests).or_default().push(*replica);
        }
    }
    let votes = |replicas: &[ReplicaId]| replicas.iter().filter(|replica| voters.contains(replica)).count();
    let right = agreeing.into_values().max_by_key(|replicas| votes(replicas)).unwrap_or_default();
    let silent = voters.iter().filter(|voter| !told.contains_key(voter)).count();
    if votes(&right) + silent <= voters.len() / 2 {
        return Verdict::NoMajority;
    }
    if votes(&right) <= voters.len() / 2 {
        return Verdict::Unclear;
    }
    let wrong: Vec<ReplicaId> = told.keys().copied().filter(|replica| !right.contains(replica)).collect();
    if wrong.is_empty() { Verdict::Agreed } else { Verdict::Differing { wrong, right } }
}

/// Runs until the node stops or is gone.
pub(super) async fn run(node: Weak<MetadataNode>) {
    let Some((env, mut stopping)) =
        node.upgrade().map(|node| (node.shared.env.clone(), node.stopping.subscribe()))
    else {
        return;
    };
    // When each group led here is compared next.
    let mut due = BTreeMap::new();
    loop {
        tokio::select! {
            () = env.clock.sleep(TICK) => {}
            _ = stopping.changed() => return,
        }
        let Some(node) = node.upgrade() else { return };
        let mut stop = stopping.clone();
        tokio::select! {
            () = pass(&node, &mut due) => {}
            () = async move { drop(stop.wait_for(|stop| *stop).await) } => return,
        }
    }
}

async fn pass(node: &Arc<MetadataNode>, due: &mut BTreeMap<GroupId, Duration>) {
    let now = node.shared.env.clock.monotonic();
    let led: Vec<Arc<Replica>> =
        node.replicas().values().filter(|replica| replica.leads()).map(Arc::clone).collect();
    let groups: BTreeSet<GroupId> = led.iter().map(|replica| replica.group).collect();
    due.retain(|group, _| groups.contains(group));
    let interval = node.config.digests.interval;
    // A new leader waits a whole interval: several that follow each other quickly compare nothing.
    let compared = led.into_iter().map(|replica| {
        let at = *due.entry(replica.group).or_insert(now + interval);
        async move {
            if at > now {
                return None;
            }
            let again = compare(node, &replica).await;
            Some((replica.group, if again { AGAIN.min(interval) } else { interval }))
        }
    });
    let compared = join_all(compared).await;
    let now = node.shared.env.clock.monotonic();
    due.extend(compared.into_iter().flatten().map(|(group, wait)| (group, now + wait)));
}

/// `true`: to be done again soon.
async fn compare(node: &Arc<MetadataNode>, leader: &Arc<Replica>) -> bool {
    let map = Arc::clone(&node.map.borrow());
    let status = leader.status();
    let group = leader.group;
    if status.changing {
        return true;
    }
    let mark = node.shared.env.rng.u64();
    let proposing = leader.propose(None, Command::DigestMark { mark });
    if !matches!(node.shared.env.clock.timeout(PROPOSE_LIMIT, proposing).await, Ok(Ok(Ok(_)))) {
        return false;
    }
    let members: Vec<ReplicaId> = status.voters.iter().chain(&status.learners).copied().collect();
    let Heard { told, reinstalling } = hear(node, &map, group, mark, &members).await;
    match judge(&status.voters, &told) {
        Verdict::Agreed | Verdict::Unclear => false,
        Verdict::Differing { wrong, right } => {
            leader.metrics().digest_mismatches.increment(1);
            tracing::error!(
                %group,
                wrong = ?wrong.iter().map(|replica| replica.node.0).collect::<Vec<_>>(),
                tables = ?differing(&told, &wrong, &right),
                "replicas of a metadata group differ from the majority; their tables are replaced"
            );
            if !reinstalling {
                replace(node, &map, leader, &wrong, &right).await;
            }
            true
        }
        Verdict::NoMajority => {
            leader.metrics().digest_mismatches.increment(1);
            freeze(node, &map, group, &members).await;
            false
        }
    }
}

/// What the members say of a mark.
#[derive(Default)]
struct Heard {
    told: BTreeMap<ReplicaId, Option<Digests>>,
    /// Some member is being given new tables.
    reinstalling: bool,
}

/// Asks until all have answered or the time is over.
async fn hear(
    node: &Arc<MetadataNode>,
    map: &ClusterMap,
    group: GroupId,
    mark: u64,
    members: &[ReplicaId],
) -> Heard {
    let clock = &node.shared.env.clock;
    let deadline = clock.monotonic() + MARK_LIMIT;
    let mut heard = Heard::default();
    loop {
        heard.reinstalling = false;
        let missing = members.iter().filter(|member| !heard.told.contains_key(member)).copied();
        let question = Question::Mark { group };
        let asked = missing.map(|member| {
            let question = &question;
            async move { (member, ask(node, map, member.node, question, ASK_LIMIT).await) }
        });
        for (member, answer) in join_all(asked).await {
            match answer {
                Some(Answer::Mark(MarkView { replica, .. })) if replica != member => {}
                Some(Answer::Mark(MarkView { suspect: true, .. })) => drop(heard.told.insert(member, None)),
                Some(Answer::Mark(MarkView { marked: Some(Marked { mark: at, digests }), .. }))
                    if at == mark =>
                {
                    heard.told.insert(member, Some(digests));
                }
                Some(Answer::Reinstalling) => heard.reinstalling = true,
                Some(
                    Answer::Mark(_)
                    | Answer::View(_)
                    | Answer::Map(_)
                    | Answer::Member(_)
                    | Answer::Done(_)
                    | Answer::NotHere,
                )
                | None => {}
            }
        }
        if heard.told.len() == members.len() || clock.monotonic() >= deadline {
            return heard;
        }
        clock.sleep(MARK_POLL).await;
    }
}

/// For the log: tables in which the wrong ones are not like the right ones.
fn differing(
    told: &BTreeMap<ReplicaId, Option<Digests>>,
    wrong: &[ReplicaId],
    right: &[ReplicaId],
) -> BTreeSet<Table> {
    let digests = |replica: &ReplicaId| told.get(replica).cloned().flatten();
    let good = right.first().and_then(digests).unwrap_or_default();
    let bad = wrong.iter().filter_map(digests);
    bad.flat_map(|bad| {
        let only = |a: &Digests, b: &Digests| {
            a.iter().filter(|row| !b.contains(row)).map(|row| row.0).collect::<Vec<_>>()
        };
        [only(&bad, &good), only(&good, &bad)].concat()
    })
    .collect()
}

/// The first of those that are wrong; the others follow when it is right.
async fn replace(
    node: &Arc<MetadataNode>,
    map: &ClusterMap,
    leader: &Replica,
    wrong: &[ReplicaId],
    right: &[ReplicaId],
) {
    let group = leader.group;
    let other = wrong.iter().find(|replica| **replica != leader.id);
    let (Some(from), Some(replica)) = (right.first(), other.or(wrong.first())) else { return };
    if *replica == leader.id {
        // Who leads from wrong tables lets somebody else lead first; if that fails, an election follows.
        let voters = right.iter().filter(|replica| leader.status().voters.contains(replica));
        for voter in voters {
            if leader.hand_over(*voter).await {
                break;
            }
        }
        reinstall::begin(node, group, *replica, Some(from.node)).await;
        return;
    }
    let question = Question::Reinstall { group, replica: *replica, from: from.node };
    let begun = ask(node, map, replica.node, &question, ASK_LIMIT).await;
    if !matches!(begun, Some(Answer::Done(true))) {
        tracing::warn!(%group, node = %replica.node, "a replica that differs did not begin to replace its tables");
    }
}

async fn freeze(node: &Arc<MetadataNode>, map: &ClusterMap, group: GroupId, members: &[ReplicaId]) {
    tracing::error!(%group, "no majority of a metadata group agrees on its tables; it is frozen");
    let asked = members.iter().map(|member| async move {
        ask(node, map, member.node, &Question::Freeze { group, replica: *member }, ASK_LIMIT).await
    });
    join_all(asked).await;
}

/// Adds up the rows of the replicas here, one after the other, over and over; runs until the node stops or is gone.
pub(super) async fn rescan(node: Weak<MetadataNode>) {
    let Some((env, mut stopping, settings)) =
        node.upgrade().map(|node| (node.shared.env.clone(), node.stopping.subscribe(), node.config.digests))
    else {
        return;
    };
    loop {
        tokio::select! {
            () = env.clock.sleep(settings.rescan_interval) => {}
            _ = stopping.changed() => return,
        }
        let Some(replicas) = node.upgrade().map(|node| node.replicas().values().cloned().collect::<Vec<_>>())
        else {
            return;
        };
        for replica in replicas {
            let mut stop = stopping.clone();
            tokio::select! {
                () = rescan_one(&node, &replica, settings) => {}
                () = async move { drop(stop.wait_for(|stop| *stop).await) } => return,
            }
        }
    }
}

async fn rescan_one(node: &Weak<MetadataNode>, replica: &Replica, settings: DigestSettings) {
    let mut scan = None;
    loop {
        let Some((clock, pool)) =
            node.upgrade().map(|node| (Arc::clone(&node.shared.env.clock), node.shared.query_pool.clone()))
        else {
            return;
        };
        let state = replica.state_shared();
        let stepping = pool.run(move || {
            let mut going_on = match scan {
                Some(scan) => scan,
                None => state.rescan()?,
            };
            let step = going_on.step(settings.rescan_rows)?;
            Ok::<_, crate::state::StateError>((going_on, step))
        });
        match stepping.await {
            Ok(Ok((going_on, RescanStep::More))) => {
                scan = Some(going_on);
                clock.sleep(settings.rescan_pause).await;
            }
            Ok(Ok((_, RescanStep::Sound))) | Err(_) => return,
            Ok(Ok((_, RescanStep::Differs(tables)))) => {
                tracing::error!(group = %replica.group, ?tables, "rows of a metadata replica changed at rest");
                replica.metrics().digest_mismatches.increment(1);
                replica.suspect();
                return;
            }
            Ok(Err(error)) => {
                tracing::error!(group = %replica.group, %error, "rows of a metadata replica cannot be read");
                replica.metrics().digest_mismatches.increment(1);
                replica.suspect();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_types::{Incarnation, NodeId};

    fn replica(node: u32) -> ReplicaId {
        ReplicaId { node: NodeId(node), incarnation: Incarnation(1) }
    }

    fn told(digests: &[(u32, Option<u8>)]) -> BTreeMap<ReplicaId, Option<Digests>> {
        let digest = |byte: u8| vec![(Table::Current, [byte; 32])];
        digests.iter().map(|(node, byte)| (replica(*node), byte.map(digest))).collect()
    }

    #[test]
    fn what_a_majority_of_the_voters_has_is_right() {
        let voters = [1, 2, 3].map(replica);
        let table = [
            (vec![(1, Some(7)), (2, Some(7)), (3, Some(7))], Verdict::Agreed),
            (vec![(1, Some(7)), (2, Some(7))], Verdict::Agreed),
            (vec![(1, Some(7))], Verdict::Unclear),
            (vec![(1, Some(7)), (2, Some(8))], Verdict::Unclear),
            (vec![(1, Some(7)), (2, None)], Verdict::Unclear),
            (vec![(1, Some(7)), (2, Some(8)), (3, Some(9))], Verdict::NoMajority),
            (vec![(1, Some(7)), (2, None), (3, None)], Verdict::NoMajority),
            (vec![(1, None), (2, None)], Verdict::NoMajority),
        ];
        for (answers, verdict) in table {
            assert_eq!(judge(&voters, &told(&answers)), verdict, "{answers:?}");
        }
        let differing = |wrong: &[u32], right: &[u32]| Verdict::Differing {
            wrong: wrong.iter().map(|node| replica(*node)).collect(),
            right: right.iter().map(|node| replica(*node)).collect(),
        };
        let two = told(&[(1, Some(7)), (2, Some(8)), (3, Some(7))]);
        assert_eq!(judge(&voters, &two), differing(&[2], &[1, 3]));
        // Learners may be wrong, but do not decide what is right.
        let learners = told(&[(1, Some(7)), (2, Some(7)), (4, Some(8)), (5, Some(8)), (6, Some(8))]);
        assert_eq!(judge(&voters, &learners), differing(&[4, 5, 6], &[1, 2]));
        let known = told(&[(1, Some(7)), (2, Some(7)), (3, None)]);
        assert_eq!(judge(&voters, &known), differing(&[3], &[1, 2]));
        assert_eq!(judge(&voters[..1], &told(&[(1, Some(7)), (4, Some(8))])), differing(&[4], &[1]));
    }
}
