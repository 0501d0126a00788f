//! Disks that are full, and log records that rot.

use super::{Faults, Kind, Undo};
use crate::world::Cluster;
use ashlar_metadata::node::Role;
use ashlar_runtime::{
    Disk, OpenMode,
    disk::sim::{Fault, FaultKind, FaultOn, Operation},
};
use ashlar_types::GroupId;
use std::path::{Path, PathBuf};

/// A replica that lags further has not what the others need if one of them forgets.
const LAG_MAX: u64 = 100;
const LOOK_MS: u64 = 50;

impl Faults {
    /// Writes fail for a while.
    pub(super) fn disk_full(&mut self, cluster: &mut Cluster) {
        let Some(host) = self.someone(cluster) else { return };
        self.count(Kind::DiskFull);
        self.cover("disk_full");
        cluster.trace().event(format_args!("disk full: host {host}"));
        let on =
            FaultOn { operation: Operation::Write, path_contains: String::new(), nth: self.seed.below(6) };
        cluster.hosts[host].disk().faults().inject_lasting(Fault { on, kind: FaultKind::Enospc });
        let until = self.for_secs(cluster, 1, 8);
        self.lasts(until, Undo::Full(host));
    }

    /// A byte of a log record flips while the host is down. Only one replica of a group may forget at a time, so all
    /// others have to be well.
    /// `false`: not yet.
    pub(super) fn damage(&mut self, cluster: &mut Cluster) -> bool {
        if !self.active.is_empty() || !cluster.millis().is_multiple_of(LOOK_MS) || !all_well(cluster) {
            return false;
        }
        let host = self.seed.index(cluster.hosts.len());
        let recent = cluster.hosts[host].recent_writes();
        self.cut_off(cluster, Kind::DamagedLog, host);
        let until = cluster.millis() + self.seed.between(100, 3_000);
        self.lasts(until, Undo::Down(host));
        let disk = cluster.hosts[host].disk();
        let logs: Vec<PathBuf> = disk.image().files().into_iter().filter(|path| is_log(path)).collect();
        for _ in 0..200 {
            let Some(path) = self.seed.pick(&logs).cloned() else { return true };
            let Ok(file) = disk.open(&path, OpenMode::ReadWrite) else { return true };
            let Ok(len) = file.len() else { return true };
            let offset = self.seed.below(len);
            let mut byte = [0];
            let readable = len > 0 && file.read_exact_at(&mut byte, offset).is_ok();
            // The last batch may be torn by the crash itself: damage there is not told from that.
            let torn = recent.iter().any(|(written, from, len)| {
                *written == path && (*from..*from + *len as u64).contains(&offset)
            });
            if !readable || byte == [0] || torn {
                continue;
            }
            byte[0] ^= 1 << self.seed.below(8);
            if file.write_all_at(&byte, offset).and_then(|()| file.sync_data()).is_ok() {
                self.count(Kind::DamagedLog);
                self.cover("damaged_log");
                cluster.trace().event(format_args!("damaged: {} at {offset}", path.display()));
            }
            return true;
        }
        true
    }
}

fn is_log(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("log"))
        && !path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("old-"))
}

/// Everyone is up and has what the others have.
fn all_well(cluster: &Cluster) -> bool {
    (0..=cluster.shared.settings.groups).all(|group| {
        let Some((_, leader)) = cluster.leader(GroupId(group)) else { return false };
        let members = leader.voters.iter().chain(&leader.learners);
        members.into_iter().all(|member| {
            let host = cluster.hosts.iter().find(|host| host.number() == Some(member.node));
            let statuses = host.map(|host| host.status()).unwrap_or_default();
            statuses.iter().any(|status| {
                status.group == GroupId(group)
                    && status.replica == *member
                    && status.role != Role::Stopped
                    && status.last_applied.unwrap_or(0) + LAG_MAX > leader.last_log.unwrap_or(0)
            })
        })
    })
}
