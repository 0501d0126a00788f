//! The shape of a run; all of it follows from the seed, but for its length.

use crate::world::Seed;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    pub hosts: usize,
    /// Partition groups, beside the system group.
    pub groups: u32,
    /// Of each group.
    pub voters: usize,
    /// The rules place voters; otherwise the operator does.
    pub managed: bool,
    pub clients_per_host: usize,
    /// Few enough for an exact search over one key's history.
    pub calls_per_key: u64,
    /// Raft entries between two snapshots: small, so that whoever is away for long needs one.
    pub snapshot_entries: u64,
    /// Of the log.
    pub segment_bytes: u64,
    /// Short, so that the floor passes requests within a run.
    pub write_epoch: Duration,
    /// How long clients call and faults happen.
    pub length: Duration,
}

impl Settings {
    pub fn of(seed: u64, length: Duration) -> Self {
        let mut seed = Seed::new(seed ^ 0x005e_7711_9500_0000);
        let hosts = if seed.chance(70) { 5 } else { 3 };
        Self {
            hosts,
            groups: 2,
            voters: if hosts == 5 && seed.chance(30) { 5 } else { 3 },
            managed: seed.chance(50),
            clients_per_host: 2,
            calls_per_key: 24,
            snapshot_entries: seed.between(60, 250),
            segment_bytes: [128, 256, 1024][seed.index(3)] << 10,
            write_epoch: Duration::from_millis(200),
            length,
        }
    }
}
