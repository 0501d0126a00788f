//! One seed from its beginning to its verdict.

use crate::{
    Settings,
    check::{
        self,
        history::History,
        replicas::{Rows, identical},
    },
    faults::Faults,
    world::{Cluster, Host, cluster::Panicked, host::Order, trace::Echo},
};
use ashlar_types::GroupId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// What came of a seed; one line of the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub seed: u64,
    pub simulated_seconds: f64,
    pub faults: BTreeMap<String, u64>,
    pub calls: usize,
    /// Keys and buckets whose histories were judged.
    pub histories: usize,
    /// Of these, too long to be judged.
    pub undecided: usize,
    pub snapshots_installed: u64,
    pub expired: u64,
    pub retried: u64,
    /// What has to happen in a run at times, and how often it did.
    pub coverage: BTreeMap<String, u64>,
    pub violations: Vec<String>,
    pub trace: String,
}

impl Report {
    /// What a run has to meet to prove something, and this one did not.
    pub fn gaps(&self) -> Vec<&'static str> {
        let met = |what: &str| match what {
            SNAPSHOT => self.snapshots_installed > 0,
            other => self.coverage.contains_key(other),
        };
        GATES.into_iter().filter(|gate| !met(gate)).collect()
    }
}

const SNAPSHOT: &str = "snapshot_installed";
/// A leader alone, a leader that lost some others, a snapshot, a crash in the middle of a Complete.
const GATES: [&str; 4] = ["leader_in_minority", "leader_in_majority", SNAPSHOT, "killed_in_complete"];

fn named(counts: BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// For the cluster to form, and for it to settle at the end.
const FORMING: Duration = Duration::from_secs(60);
const SETTLING: Duration = Duration::from_secs(180);

/// Runs a seed. Blocks; one run a process.
pub fn run(seed: u64, settings: Settings, echo: Echo) -> Report {
    let mut cluster = Cluster::new(settings.clone(), seed, echo);
    let mut faults = Faults::new(&settings, cluster.seed.fork());
    let mut violations = Vec::new();
    if let Err(panicked) = steps(&mut cluster, &mut faults, &settings, &mut violations) {
        violations.push(panicked.to_string());
    }
    let workload = &cluster.shared.workload;
    violations.extend(workload.oddities());
    violations.extend(faults.violations());
    let history = workload.recorder().history();
    let (histories, undecided) = judge(&history, &mut violations);
    let trace = cluster.trace();
    for violation in &violations {
        trace.event(format_args!("VIOLATION {violation}"));
    }
    Report {
        seed,
        simulated_seconds: cluster.millis() as f64 / 1000.0,
        faults: named(faults.counts()),
        calls: history.calls.len(),
        histories,
        undecided,
        snapshots_installed: cluster.hosts.iter().map(|host| host.snapshots_installed()).sum(),
        expired: workload.expired(),
        retried: workload.retried(),
        coverage: named(faults.coverage()),
        violations,
        trace: trace.hash(),
    }
}

fn steps(
    cluster: &mut Cluster,
    faults: &mut Faults,
    settings: &Settings,
    violations: &mut Vec<String>,
) -> Result<(), Panicked> {
    let workload = cluster.shared.workload.clone();
    let formed = cluster.until(FORMING, |cluster| {
        cluster.shared.setup.is_complete() && cluster.shared.workload.is_prepared()
    })?;
    if !formed {
        violations.push("the cluster does not form".to_owned());
        return Ok(());
    }
    cluster.trace().event(format_args!("the cluster is formed"));
    workload.set_open(true);
    let end = cluster.millis() + u64::try_from(settings.length.as_millis()).unwrap_or(u64::MAX);
    while cluster.millis() < end {
        cluster.step()?;
        faults.step(cluster);
    }
    faults.heal(cluster);
    // Clients go on for a while, so that what was broken is used again.
    cluster.run_for(Duration::from_secs(15))?;
    workload.set_open(false);
    cluster.trace().event(format_args!("clients have ended"));
    let settled = cluster.until(SETTLING, |cluster| {
        faults.mend(cluster);
        (0..=cluster.shared.settings.groups).all(|group| differences(cluster, GroupId(group)).is_empty())
    })?;
    if !settled {
        for group in 0..=settings.groups {
            let found = differences(cluster, GroupId(group));
            violations.extend(found.into_iter().map(|what| format!("group {group} does not settle: {what}")));
        }
        return Ok(());
    }
    cluster.trace().event(format_args!("replicas have settled"));
    for group in 0..=settings.groups {
        violations.extend(unequal(cluster, GroupId(group)));
    }
    cluster.operate(&Order::Recount);
    if !cluster.until(FORMING, |cluster| cluster.shared.workload.is_recounted())? {
        violations.push("the settled cluster does not answer".to_owned());
    }
    Ok(())
}

/// What keeps the replicas of a group from being compared.
fn differences(cluster: &Cluster, group: GroupId) -> Vec<String> {
    let mut found = Vec::new();
    let mut applied = None;
    let Some((_, leader)) = cluster.leader(group) else { return vec!["there is no leader".to_owned()] };
    for host in &cluster.hosts {
        let Some(number) = host.number() else { continue };
        let member = leader.voters.iter().chain(&leader.learners).find(|replica| replica.node == number);
        let Some(member) = member else { continue };
        let Some(status) = host.status().into_iter().find(|status| status.group == group) else {
            found.push(format!("{} has no replica", host.name));
            continue;
        };
        if status.replica != *member {
            found.push(format!("{} has {:?} instead of {member:?}", host.name, status.replica));
        }
        if status.last_applied != status.last_log
            || status.last_applied != *applied.get_or_insert(status.last_applied)
        {
            found.push(format!(
                "{} has applied {:?} of {:?}",
                host.name, status.last_applied, status.last_log
            ));
        }
    }
    found
}

/// All rows of all replicas are the same.
fn unequal(cluster: &Cluster, group: GroupId) -> Option<String> {
    let members = cluster.leader(group).map(|(_, leader)| leader)?;
    let of_group = |host: &&Arc<Host>| {
        let mut all = members.voters.iter().chain(&members.learners);
        all.any(|member| Some(member.node) == host.number())
    };
    let replicas: Vec<(String, Rows)> = (cluster.hosts.iter().filter(of_group))
        .filter_map(|host| Some((host.name.clone(), host.rows(group)?)))
        .collect();
    identical(group.0, &replicas).err().map(|violation| violation.to_string())
}

/// Returns how many histories were judged, and how many were too long for that.
fn judge(history: &History, violations: &mut Vec<String>) -> (usize, usize) {
    let judged = check::judge(history);
    violations.extend(judged.violations.iter().map(ToString::to_string));
    (judged.histories, judged.undecided.len())
}
