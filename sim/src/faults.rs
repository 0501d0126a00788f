//! What befalls the hosts: when, whom and for how long follows from the seed.
//!
//! Owns the plan of a run and what is broken at the moment. Up to a few faults overlap. What they leave behind is mended
//! as an operator would: processes that ended, or whose replicas failed, are started again.

use crate::{
    Settings,
    world::{Cluster, Seed, host::Order},
};
use ashlar_metadata::node::{Condition, GroupStatus, Role};
use ashlar_placement::NodeState;
use ashlar_types::{GroupId, Incarnation, NodeId, ReplicaId};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

mod damage;
mod kind;

pub use kind::Kind;

pub struct Faults {
    seed: Seed,
    groups: u32,
    active: Vec<Active>,
    next_at: u64,
    armed: Option<u64>,
    /// Until then nothing else begins: a log is to be damaged as soon as all are well.
    damaging: Option<u64>,
    counts: BTreeMap<&'static str, u64>,
    coverage: BTreeMap<&'static str, u64>,
    /// When `mend` looked last, in its intervals.
    looked: Option<u64>,
    /// Processes that ended, and since when.
    ended: BTreeMap<usize, u64>,
    /// Replicas that have failed, and since when.
    failed: BTreeMap<(usize, GroupId), u64>,
    frozen: BTreeSet<GroupId>,
    differed: BTreeSet<ReplicaId>,
    violations: Vec<String>,
}

/// Something that is broken until then.
struct Active {
    until: u64,
    undo: Undo,
}

enum Undo {
    Links(Vec<(usize, usize)>),
    Held(Vec<(usize, usize)>),
    /// A host without power.
    Down(usize),
    Full(usize),
    Skew(usize, i64),
}

/// Faults at the same time.
const AT_ONCE: usize = 3;
/// Longer than any fault but the longest outages.
const DAMAGING_MS: u64 = 40_000;
/// Between looks at what ended.
const MEND_MS: u64 = 100;
/// A process that ended is started again after this.
const RESTART_MS: u64 = 1_500;
/// A replica that has failed for so long has its host restarted.
const FAILED_MS: u64 = 4_000;

impl Faults {
    pub fn new(settings: &Settings, seed: Seed) -> Self {
        Self {
            seed,
            groups: settings.groups,
            active: Vec::new(),
            next_at: 0,
            armed: None,
            damaging: None,
            counts: BTreeMap::new(),
            coverage: BTreeMap::new(),
            looked: None,
            ended: BTreeMap::new(),
            failed: BTreeMap::new(),
            frozen: BTreeSet::new(),
            differed: BTreeSet::new(),
            violations: Vec::new(),
        }
    }

    /// How often each kind happened.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.clone()
    }

    /// What has to have happened now and then for a run to prove something.
    pub fn coverage(&self) -> BTreeMap<&'static str, u64> {
        self.coverage.clone()
    }

    /// Called after every step of the cluster.
    pub fn step(&mut self, cluster: &mut Cluster) {
        let now = cluster.millis();
        let over: Vec<Active> = self.active.extract_if(.., |active| active.until <= now).collect();
        for active in over {
            self.undo(cluster, active.undo);
        }
        if self.armed.is_some() {
            self.kill_in_complete(cluster, now);
        }
        if let Some(until) = self.damaging {
            if now >= until || self.damage(cluster) {
                self.damaging = None;
            }
        } else if now >= self.next_at && self.active.len() < AT_ONCE {
            self.next_at = now + self.seed.between(1_000, 9_000);
            let kind = Kind::choose(&mut self.seed);
            self.begin(cluster, kind);
        }
        self.mend(cluster);
    }

    /// Ends all faults.
    pub fn heal(&mut self, cluster: &mut Cluster) {
        (self.armed, self.damaging) = (None, None);
        for active in std::mem::take(&mut self.active) {
            self.undo(cluster, active.undo);
        }
        for a in 0..cluster.hosts.len() {
            cluster.hosts[a].skew.set(0);
            for b in 0..a {
                cluster.release(a, b);
                cluster.repair(a, b);
            }
        }
        cluster.trace().event(format_args!("all is healed"));
    }

    fn for_secs(&mut self, cluster: &Cluster, from: u64, to: u64) -> u64 {
        cluster.millis() + self.seed.between(from * 1_000, to * 1_000)
    }

    fn lasts(&mut self, until: u64, undo: Undo) {
        self.active.push(Active { until, undo });
    }

    fn count(&mut self, kind: Kind) {
        *self.counts.entry(kind.name()).or_default() += 1;
    }

    pub(crate) fn cover(&mut self, what: &'static str) {
        *self.coverage.entry(what).or_default() += 1;
    }

    /// Hosts by index whose process runs.
    fn up(&self, cluster: &Cluster) -> Vec<usize> {
        cluster.hosts.iter().filter(|host| host.node().is_some()).map(|host| host.index).collect()
    }

    fn some_group(&mut self) -> GroupId {
        GroupId(u32::try_from(self.seed.below(u64::from(self.groups) + 1)).expect("few groups"))
    }

    /// A host that runs, in half of the cases one that leads.
    fn someone(&mut self, cluster: &Cluster) -> Option<usize> {
        let group = self.some_group();
        if self.seed.chance(50)
            && let Some((leader, _)) = cluster.leader(group)
        {
            return Some(leader);
        }
        let up = self.up(cluster);
        self.seed.pick(&up).copied()
    }

    fn begin(&mut self, cluster: &mut Cluster, kind: Kind) {
        match kind {
            Kind::LeaderInMinority => self.split_leader(cluster, kind, true),
            Kind::LeaderInMajority => self.split_leader(cluster, kind, false),
            Kind::Split => self.split(cluster),
            Kind::LeaderMute => self.one_way(cluster, kind, true),
            Kind::LeaderDeaf => self.one_way(cluster, kind, false),
            Kind::Cut => self.cut(cluster),
            Kind::Stall => self.stall(cluster, kind, 8),
            Kind::Suspend => self.suspend(cluster),
            Kind::PowerCut => self.power_cut(cluster, kind, 20),
            Kind::LongOutage => self.power_cut(cluster, kind, 60),
            Kind::PowerCutAll => self.power_cut_all(cluster),
            Kind::Kill => self.kill(cluster),
            Kind::KillInComplete => self.armed = Some(cluster.millis() + 20_000),
            Kind::Restart => self.restart(cluster),
            Kind::ClockJump => self.clock_jump(cluster),
            Kind::DiskFull => self.disk_full(cluster),
            Kind::DamagedLog => self.damaging = Some(cluster.millis() + DAMAGING_MS),
            Kind::ChangeVoters => self.change_voters(cluster),
        }
    }

    /// The leader on one side with a minority, or with a majority, of its voters.
    fn split_leader(&mut self, cluster: &mut Cluster, kind: Kind, minority: bool) {
        let group = self.some_group();
        let Some((leader, status)) = cluster.leader(group) else { return };
        let hosts = cluster.hosts.len();
        let voters: Vec<usize> = (0..hosts)
            .filter(|index| {
                let number = cluster.hosts[*index].number();
                *index != leader && status.voters.iter().any(|voter| Some(voter.node) == number)
            })
            .collect();
        let others = voters.len() + 1;
        // How many other voters stay with the leader.
        let with_leader = if minority { (others - 1) / 2 } else { others / 2 };
        let with_leader = if minority { self.seed.index(with_leader + 1) } else { with_leader };
        let near: Vec<usize> = voters.iter().copied().take(with_leader).chain([leader]).collect();
        let far: Vec<usize> = (0..hosts)
            .filter(|index| !near.contains(index) && (voters.contains(index) || self.seed.chance(50)))
            .collect();
        if far.is_empty() {
            return;
        }
        self.count(kind);
        self.cover(if minority { "leader_in_minority" } else { "leader_in_majority" });
        let near: Vec<usize> = (0..hosts).filter(|index| !far.contains(index)).collect();
        self.part(cluster, kind, &near, &far);
    }

    fn split(&mut self, cluster: &mut Cluster) {
        let (near, far): (Vec<usize>, Vec<usize>) =
            (0..cluster.hosts.len()).partition(|_| self.seed.chance(50));
        if !near.is_empty() && !far.is_empty() {
            self.count(Kind::Split);
            self.part(cluster, Kind::Split, &near, &far);
        }
    }

    fn part(&mut self, cluster: &mut Cluster, kind: Kind, near: &[usize], far: &[usize]) {
        cluster.trace().event(format_args!("{}: hosts {near:?} | {far:?}", kind.name()));
        let mut links = Vec::new();
        for a in near {
            for b in far {
                cluster.partition(*a, *b);
                links.push((*a, *b));
            }
        }
        let until = self.for_secs(cluster, 2, 25);
        self.lasts(until, Undo::Links(links));
    }

    fn one_way(&mut self, cluster: &mut Cluster, kind: Kind, mute: bool) {
        let group = self.some_group();
        let Some((leader, _)) = cluster.leader(group) else { return };
        self.count(kind);
        self.cover("one_way");
        cluster.trace().event(format_args!("{}: host {leader}, which leads group {group}", kind.name()));
        let others: Vec<usize> = (0..cluster.hosts.len()).filter(|other| *other != leader).collect();
        for other in &others {
            if mute {
                cluster.partition_oneway(leader, *other);
            } else {
                cluster.partition_oneway(*other, leader);
            }
        }
        let until = self.for_secs(cluster, 2, 20);
        self.lasts(until, Undo::Links(others.into_iter().map(|other| (leader, other)).collect()));
    }

    fn cut(&mut self, cluster: &mut Cluster) {
        let hosts = cluster.hosts.len();
        let a = self.seed.index(hosts);
        let b = (a + 1 + self.seed.index(hosts - 1)) % hosts;
        self.count(Kind::Cut);
        self.part(cluster, Kind::Cut, &[a], &[b]);
    }

    /// Messages to and from a host wait.
    fn stall(&mut self, cluster: &mut Cluster, kind: Kind, most: u64) {
        let Some(host) = self.someone(cluster) else { return };
        self.count(kind);
        let until = cluster.millis() + self.seed.between(200, most * 1_000);
        cluster.trace().event(format_args!("{}: host {host} until {until} ms", kind.name()));
        self.hold(cluster, host, until);
    }

    fn hold(&mut self, cluster: &mut Cluster, host: usize, until: u64) {
        let others = (0..cluster.hosts.len()).filter(|other| *other != host);
        let links: Vec<(usize, usize)> = others.map(|other| (host, other)).collect();
        for (a, b) in &links {
            cluster.hold(*a, *b);
        }
        self.lasts(until, Undo::Held(links));
    }

    /// The others hear nothing of it for a while, and then all its timers fire at once.
    fn suspend(&mut self, cluster: &mut Cluster) {
        let Some(host) = self.someone(cluster) else { return };
        self.count(Kind::Suspend);
        let millis = self.seed.between(1_500, 20_000);
        cluster.trace().event(format_args!("suspend: host {host} for {millis} ms"));
        cluster.hosts[host].order(Order::Skip(Duration::from_millis(millis)));
        let until = cluster.millis() + millis;
        self.hold(cluster, host, until);
    }

    /// A crash that cuts a Complete counts.
    fn crashes(&mut self, cluster: &Cluster, host: usize) {
        let leads: Vec<GroupId> = (cluster.hosts[host].status().iter())
            .filter(|status| status.role == Role::Leader)
            .map(|status| status.group)
            .collect();
        let workload = &cluster.shared.workload;
        if workload.completes_by(host, &leads) {
            self.cover("killed_in_complete");
        }
        workload.forget_completes(host);
        if !leads.is_empty() {
            self.cover("leader_crashed");
        }
    }

    fn power_cut(&mut self, cluster: &mut Cluster, kind: Kind, most: u64) {
        let Some(host) = self.someone(cluster) else { return };
        self.count(kind);
        self.cut_off(cluster, kind, host);
        let least = if kind == Kind::LongOutage { 30_000 } else { 100 };
        let until = cluster.millis() + self.seed.between(least, most * 1_000);
        self.lasts(until, Undo::Down(host));
    }

    fn cut_off(&mut self, cluster: &mut Cluster, kind: Kind, host: usize) {
        let silently = self.seed.chance(50);
        cluster.trace().event(format_args!("{}: host {host}, silently: {silently}", kind.name()));
        self.crashes(cluster, host);
        cluster.cut_power(host, silently);
    }

    fn power_cut_all(&mut self, cluster: &mut Cluster) {
        let up = self.up(cluster);
        self.count(Kind::PowerCutAll);
        self.cover("all_down");
        for host in up {
            self.cut_off(cluster, Kind::PowerCutAll, host);
            let until = cluster.millis() + self.seed.between(100, 8_000);
            self.lasts(until, Undo::Down(host));
        }
    }

    fn kill(&mut self, cluster: &mut Cluster) {
        let Some(host) = self.someone(cluster) else { return };
        self.kill_host(cluster, Kind::Kill, host);
    }

    fn kill_host(&mut self, cluster: &mut Cluster, kind: Kind, host: usize) {
        self.count(kind);
        cluster.trace().event(format_args!("{}: host {host}", kind.name()));
        self.crashes(cluster, host);
        cluster.kill(host);
        let until = cluster.millis() + self.seed.between(100, 10_000);
        self.lasts(until, Undo::Down(host));
    }

    fn kill_in_complete(&mut self, cluster: &mut Cluster, now: u64) {
        let workload = &cluster.shared.workload;
        let victim = self.up(cluster).into_iter().find(|host| {
            let status = cluster.hosts[*host].status();
            let leads: Vec<GroupId> = status
                .iter()
                .filter(|status| status.role == Role::Leader)
                .map(|status| status.group)
                .collect();
            workload.completes_by(*host, &leads)
        });
        match victim {
            Some(host) if self.seed.chance(30) => {
                self.armed = None;
                self.kill_host(cluster, Kind::KillInComplete, host);
            }
            _ if self.armed.is_some_and(|until| now >= until) => self.armed = None,
            _ => {}
        }
    }

    fn restart(&mut self, cluster: &mut Cluster) {
        let Some(host) = self.someone(cluster) else { return };
        self.count(Kind::Restart);
        cluster.trace().event(format_args!("restart: host {host}"));
        cluster.hosts[host].stop();
    }

    fn clock_jump(&mut self, cluster: &mut Cluster) {
        let host = self.seed.index(cluster.hosts.len());
        let most = [2_000, 60_000, 86_400_000 * 3][self.seed.index(3)];
        let jump = i64::try_from(self.seed.below(2 * most)).expect("days fit")
            - i64::try_from(most).expect("days fit");
        self.count(Kind::ClockJump);
        cluster.trace().event(format_args!("clock jump: host {host} by {jump} ms"));
        let before = cluster.hosts[host].skew.millis();
        cluster.hosts[host].skew.set(jump);
        let until = self.for_secs(cluster, 3, 60);
        self.lasts(until, Undo::Skew(host, before));
    }

    fn change_voters(&mut self, cluster: &mut Cluster) {
        if cluster.shared.settings.managed {
            self.drain(cluster);
        } else {
            self.move_voter(cluster);
        }
    }

    /// The operator empties a node, or takes it back; the rules do the rest.
    fn drain(&mut self, cluster: &mut Cluster) {
        let node = NodeId(u32::try_from(self.seed.index(cluster.hosts.len()) + 1).expect("few hosts"));
        self.count(Kind::ChangeVoters);
        cluster.trace().event(format_args!("drain node {node}, or take it back"));
        cluster.operate(&Order::ChangeMap(Arc::new(move |map| {
            let drains = map.nodes.values().filter(|node| node.state == NodeState::Draining).count();
            let Some(node) = map.nodes.get_mut(&node) else { return false };
            node.state = match node.state {
                NodeState::Member if drains == 0 => NodeState::Draining,
                NodeState::Member | NodeState::Draining | NodeState::Out => NodeState::Member,
            };
            true
        })));
    }

    /// The operator gives a voter's place to another node, in one of the partition groups: one at a time, as the rules do.
    fn move_voter(&mut self, cluster: &mut Cluster) {
        let group = GroupId(u32::try_from(self.seed.between(1, u64::from(self.groups))).expect("few groups"));
        let Some((_, leader)) = cluster.leader(group) else { return };
        if leader.changing {
            return;
        }
        let members: BTreeSet<ReplicaId> = leader.voters.iter().copied().collect();
        let (leaves, joins) = (self.seed.number(), self.seed.number());
        self.count(Kind::ChangeVoters);
        cluster.trace().event(format_args!("change voters: group {group}"));
        cluster.operate(&Order::ChangeMap(Arc::new(move |map| {
            let Some(known) = map.groups.get(&group).cloned() else { return false };
            // A group that has not followed the last change is left alone.
            if known.voters.iter().copied().collect::<BTreeSet<_>>() != members {
                return false;
            }
            let taken = |node| known.voters.iter().chain(&known.learners).any(|voter| voter.node == node);
            let free: Vec<_> = map.nodes.keys().copied().filter(|node| !taken(*node)).collect();
            let pick = |random: u64, len: usize| {
                usize::try_from(random % len.max(1) as u64).expect("less than a usize")
            };
            let Some(node) = free.get(pick(joins, free.len())).copied() else { return false };
            let Some(state) = map.groups.get_mut(&group) else { return false };
            let place = pick(leaves, state.voters.len());
            let Some(voter) = state.voters.get_mut(place) else { return false };
            // Beyond every incarnation that the node ever had of this group.
            *voter = ReplicaId { node, incarnation: Incarnation(next_incarnation(map.epoch.0)) };
            true
        })));
    }

    fn undo(&mut self, cluster: &mut Cluster, undo: Undo) {
        match undo {
            Undo::Links(links) => {
                cluster.trace().event(format_args!("repaired: {} links", links.len()));
                links.into_iter().for_each(|(a, b)| cluster.repair(a, b));
            }
            Undo::Held(links) => {
                cluster.trace().event(format_args!("released: {} links", links.len()));
                links.into_iter().for_each(|(a, b)| cluster.release(a, b));
            }
            Undo::Down(host) => {
                if !cluster.runs(host) {
                    cluster.trace().event(format_args!("boots: host {host}"));
                    cluster.boot(host);
                }
            }
            Undo::Full(host) => {
                cluster.trace().event(format_args!("space again: host {host}"));
                cluster.hosts[host].disk().faults().clear();
            }
            Undo::Skew(host, millis) => {
                cluster.trace().event(format_args!("clock set right: host {host}"));
                cluster.hosts[host].skew.set(millis);
            }
        }
    }

    /// Starts what ended by itself and replaces what will not work again.
    pub fn mend(&mut self, cluster: &mut Cluster) {
        let now = cluster.millis();
        // Whoever looks seldom need not hit a round number.
        if self.looked == Some(now / MEND_MS) {
            return;
        }
        self.looked = Some(now / MEND_MS);
        for index in 0..cluster.hosts.len() {
            if let Some(why) = cluster.hosts[index].take_ended() {
                cluster.trace().event(format_args!("process of host {index} has ended: {why}"));
            }
            let planned =
                self.active.iter().any(|active| matches!(active.undo, Undo::Down(host) if host == index));
            if cluster.runs(index) || planned {
                self.ended.remove(&index);
            } else if now >= *self.ended.entry(index).or_insert(now) + RESTART_MS {
                self.ended.remove(&index);
                cluster.trace().event(format_args!("started again: host {index}"));
                cluster.hosts[index].gone();
                cluster.boot(index);
            }
        }
        self.restart_failed(cluster, now);
        self.look(cluster);
    }

    /// No two replicas of a group may differ, and if they did they would say so.
    fn look(&mut self, cluster: &Cluster) {
        for host in &cluster.hosts {
            for status in host.status() {
                if status.condition == Condition::Frozen && self.frozen.insert(status.group) {
                    self.violations.push(format!("group {} is frozen: its replicas differ", status.group));
                }
                if status.condition == Condition::Reinstalling && self.differed.insert(status.replica) {
                    let what = format!("{:?} of group {} has other digests", status.replica, status.group);
                    cluster.trace().event(format_args!("{what}"));
                    self.violations.push(what);
                }
            }
        }
    }

    /// Of replicas, seen while the run went on.
    pub fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }

    /// Restarts hosts with replicas that failed; those that are damaged get successors without an operator.
    fn restart_failed(&mut self, cluster: &mut Cluster, now: u64) {
        let failed: Vec<(usize, GroupStatus)> = (cluster.hosts.iter())
            .flat_map(|host| host.status().into_iter().map(move |status| (host.index, status)))
            .filter(|(_, status)| status.condition == Condition::Failed)
            .collect();
        self.failed.retain(|(host, group), _| {
            failed.iter().any(|(index, status)| (index, status.group) == (host, *group))
        });
        for (index, status) in failed {
            let key = (index, status.group);
            let since = *self.failed.entry(key).or_insert(now);
            if now >= since + FAILED_MS {
                self.failed.remove(&key);
                cluster.trace().event(format_args!(
                    "host {index} is restarted: its replica of group {} has failed",
                    status.group
                ));
                self.cover("failed_replica");
                self.crashes(cluster, index);
                cluster.kill(index);
                cluster.boot(index);
            }
        }
    }
}

/// Greater than any that was given before: the epoch of the map grows with each.
fn next_incarnation(epoch: u64) -> u32 {
    u32::try_from(epoch + 1).expect("few maps")
}
