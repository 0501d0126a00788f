//! `ashlar group`: who leads and votes in the metadata groups, and how their replicas are.

use super::{
    Admin,
    admin_client::{connect, told},
    print_json,
    status::size,
};
use anyhow::bail;
use ashlar_proto::admin as wire;
use clap::{Args, Subcommand};
use std::{collections::BTreeMap, time::Duration};

#[derive(Subcommand)]
pub(super) enum Group {
    /// One line a group: leader, members, indexes, lag, latency.
    List(List),
    /// All replicas of a group.
    Show(Show),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args)]
pub(super) struct Show {
    /// Number of the group; 0 is the system group.
    group: u32,
    #[command(flatten)]
    admin: Admin,
}

impl Group {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Show(show) => show.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let reply = ask(&self.admin).await?;
        if self.admin.json {
            return print_json(&reply);
        }
        println!(
            "{:>5}  {:>6}  {:>6}  {:<14}  {:<10}  {:>10}  {:>8}  {:>12}  state",
            "group", "leader", "term", "voters", "learners", "commit", "lag", "propose p99"
        );
        let mut groups: BTreeMap<u32, Vec<&wire::Replica>> = BTreeMap::new();
        for replica in &reply.replicas {
            groups.entry(replica.group).or_default().push(replica);
        }
        for (group, replicas) in groups {
            println!("{}", line(group, &replicas));
        }
        silent(&reply);
        Ok(())
    }
}

/// The leader's word counts; without one, that of the replica with the newest term.
fn line(group: u32, replicas: &[&wire::Replica]) -> String {
    let newest = replicas.iter().max_by_key(|replica| (replica.role == "leader", replica.term));
    let Some(newest) = newest else { return String::new() };
    let leads = newest.role == "leader";
    let mut unsound: Vec<String> = replicas
        .iter()
        .filter(|replica| replica.condition != "sound")
        .map(|replica| format!("node {} {}", replica.node, replica.condition))
        .collect();
    if newest.changing {
        unsound.push("members change".to_owned());
    }
    if !leads {
        unsound.push("no leader".to_owned());
    }
    format!(
        "{group:>5}  {:>6}  {:>6}  {:<14}  {:<10}  {:>10}  {:>8}  {:>12}  {}",
        if leads { newest.node.to_string() } else { "-".to_owned() },
        newest.term,
        nodes(&newest.voters),
        nodes(&newest.learners),
        index(newest.commit_index),
        newest.lag_entries,
        time(newest.proposal_p99_us),
        if unsound.is_empty() { "ok".to_owned() } else { unsound.join(", ") },
    )
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let mut reply = ask(&self.admin).await?;
        reply.replicas.retain(|replica| replica.group == self.group);
        if self.admin.json {
            return print_json(&reply);
        }
        if reply.replicas.is_empty() {
            bail!("no node that answers has a replica of metadata group {}", self.group);
        }
        for replica in &reply.replicas {
            show(replica);
        }
        silent(&reply);
        Ok(())
    }
}

fn show(replica: &wire::Replica) {
    let leading = replica.leading_ms.map(|ms| format!(" for {:?}", Duration::from_secs(ms / 1000)));
    println!(
        "node {} (incarnation {}): {}{}, {}",
        replica.node,
        replica.incarnation,
        replica.role,
        leading.unwrap_or_default(),
        replica.condition
    );
    println!("  term        {}", replica.term);
    println!("  members     voters {}; learners {}", nodes(&replica.voters), nodes(&replica.learners));
    println!(
        "  entries     last {}, committed {}, applied {} ({} since start), lag {}",
        index(replica.last_log_index),
        index(replica.commit_index),
        index(replica.applied_index),
        replica.applied_entries,
        replica.lag_entries
    );
    println!(
        "  log         {}, purged up to {}",
        replica.log_bytes.map_or("-".to_owned(), size),
        index(replica.purged_index)
    );
    let age = replica.snapshot_age_ms.map(|ms| format!(", seen {:?} ago", Duration::from_secs(ms / 1000)));
    println!("  snapshot    {}{}", index(replica.snapshot_index), age.unwrap_or_default());
    println!("  proposals   p50 {}, p99 {}", time(replica.proposal_p50_us), time(replica.proposal_p99_us));
    println!("  reads       p50 {}, p99 {}", time(replica.read_p50_us), time(replica.read_p99_us));
}

async fn ask(admin: &Admin) -> anyhow::Result<wire::GroupsReply> {
    let mut client = connect(&admin.admin).await?;
    Ok(client.groups(wire::GroupsRequest {}).await.map_err(told)?.into_inner())
}

fn silent(reply: &wire::GroupsReply) {
    if !reply.silent_nodes.is_empty() {
        println!("nodes that do not answer: {}", nodes(&reply.silent_nodes));
    }
}

fn nodes(nodes: &[u32]) -> String {
    if nodes.is_empty() {
        return "-".to_owned();
    }
    let mut nodes = nodes.to_vec();
    nodes.sort_unstable();
    nodes.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

fn index(index: Option<u64>) -> String {
    index.map_or("-".to_owned(), |index| index.to_string())
}

fn time(us: Option<u64>) -> String {
    us.map_or("-".to_owned(), |us| format!("{:?}", Duration::from_micros(us)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_who_leads_and_what_is_wrong() {
        let replica = |node, role: &str, condition: &str, term| wire::Replica {
            group: 3,
            node,
            role: role.into(),
            condition: condition.into(),
            term,
            voters: vec![2, 1],
            commit_index: Some(77),
            ..Default::default()
        };
        let (leader, other) = (replica(1, "leader", "sound", 4), replica(2, "stopped", "damaged", 0));
        let told = line(3, &[&leader, &other]);
        assert!(told.contains("1 2") && told.contains("77") && told.ends_with("node 2 damaged"), "{told}");
        let told = line(3, &[&replica(2, "candidate", "sound", 5)]);
        assert!(told.ends_with("no leader"), "{told}");
    }
}
