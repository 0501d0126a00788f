//! `ashlar status`.

use super::{
    Admin,
    admin_client::{connect, told},
    print_json,
};
use ashlar_proto::admin as wire;
use clap::Args;

#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    admin: Admin,
}

impl Status {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut client = connect(&self.admin.admin).await?;
        let reply = client.status(wire::StatusRequest {}).await.map_err(told)?.into_inner();
        if self.admin.json {
            return print_json(&reply);
        }
        print(&reply);
        Ok(())
    }
}

fn print(status: &wire::StatusReply) {
    println!("cluster {} ({}), map epoch {}", status.cluster, status.phase, status.map_epoch);
    println!("\nNODE  STATE     RPC                    S3                            RACK/ZONE");
    for node in &status.nodes {
        let state = if node.up { node.state.as_str() } else { "DOWN" };
        let labels = format!("{}/{}", node.rack, node.zone);
        println!("{:<5} {:<9} {:<22} {:<29} {labels}", node.id, state, node.rpc, node.s3);
    }
    println!("\nDRIVE NODE  STATE        USED        CAPACITY    SHARDS    PG SLOTS");
    for drive in &status.drives {
        println!(
            "{:<5} {:<5} {:<12} {:<11} {:<11} {:<9} {}",
            drive.id,
            drive.node,
            drive.condition,
            size(drive.used_bytes),
            size(drive.capacity_bytes),
            drive.shards,
            drive.slots
        );
    }
    println!("\nGROUP LEADER VOTERS               LEARNERS             TERM   APPLIED");
    for group in &status.groups {
        let leader = if group.leader == 0 { "-".to_owned() } else { group.leader.to_string() };
        println!(
            "{:<5} {:<6} {:<20} {:<20} {:<6} {}",
            group.id,
            leader,
            list(&group.voters),
            list(&group.learners),
            group.term,
            group.last_applied
        );
    }
    for profile in &status.profiles {
        let standard = if profile.standard { ", STANDARD" } else { "" };
        println!("\nprofile {} over {}s{standard}", profile.name, profile.domain);
    }
    println!(
        "{} placement groups; {} of {} used",
        status.placement_groups,
        size(status.used_bytes),
        size(status.capacity_bytes)
    );
    for warning in &status.warnings {
        println!("warning: {warning}");
    }
}

fn list(nodes: &[u32]) -> String {
    if nodes.is_empty() {
        return "-".into();
    }
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Three significant digits with a binary unit.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, 0);
    while whole >= 1024 && unit + 1 < units.len() {
        (rest, whole, unit) = (whole % 1024, whole / 1024, unit + 1);
    }
    if unit == 0 || whole >= 100 {
        format!("{whole} {}", units[unit])
    } else {
        format!("{whole}.{} {}", rest * 10 / 1024, units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(300 << 20), "300 MiB");
        assert_eq!(size(u64::MAX), "16383 PiB");
    }
}
