//! The drives of this node: opened stores by their number in the cluster map.

use crate::health::{DriveHealth, Health};
use ashlar_datapath::ShardError;
use ashlar_proto::node::DriveCondition;
use ashlar_storage::{DriveState, DriveStore, StoreError};
use ashlar_types::{DriveId, DriveUuid};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// Fixed when the node starts; cheap to clone.
#[derive(Clone)]
pub struct Drives(Arc<BTreeMap<DriveId, DriveStore>>);

impl Drives {
    pub fn new(stores: BTreeMap<DriveId, DriveStore>) -> Self {
        Self(Arc::new(stores))
    }

    /// `NotMine` for a drive of another node.
    pub fn get(&self, drive: DriveId) -> Result<&DriveStore, ShardError> {
        self.0.get(&drive).ok_or(ShardError::NotMine)
    }

    pub fn iter(&self) -> impl Iterator<Item = (DriveId, &DriveStore)> {
        self.0.iter().map(|(id, store)| (*id, store))
    }

    /// Whether the drive would take a new shard.
    pub fn health(store: &DriveStore) -> DriveHealth {
        let usage = store.usage();
        let condition = match store.state() {
            DriveState::Failed { .. } => DriveCondition::Failed,
            DriveState::Ok if usage.free == 0 => DriveCondition::Full,
            DriveState::Ok => DriveCondition::Ok,
        };
        DriveHealth {
            condition,
            capacity_bytes: usage.capacity,
            used_bytes: usage.used,
            shards: usage.shards,
        }
    }

    /// Tells the health view about this node's own drives, which nobody pings.
    pub fn report(&self, health: &Health) {
        for (id, store) in self.iter() {
            health.set_drive(id, Self::health(store));
        }
    }

    /// What an operator should know of this node's own drives beyond their condition.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (id, store) in self.iter() {
            if let DriveState::Failed { reason } = store.state() {
                warnings.push(format!("drive {id} takes no writes any more: {reason}"));
            }
            let report = store.recovery();
            if !report.lost.is_empty() || !report.damaged.is_empty() {
                warnings.push(format!(
                    "the log of drive {id} was damaged in {} place(s) when it was opened, {} shard(s) known to be lost; \
                     see `ashlar drive inspect`",
                    report.damaged.len(),
                    report.lost.len()
                ));
            }
            if report.rebuilt {
                warnings.push(format!(
                    "no checkpoint of drive {id} verified when it was opened: it was read from the whole log, and \
                     deleted shards may be back"
                ));
            }
        }
        warnings
    }

    /// Waits for the drives' workers.
    pub async fn close(&self) {
        for store in self.0.values() {
            store.clone().close().await;
        }
    }
}

/// Ties the drive's number and its directory to its uuid, and says what opening it found.
pub(crate) fn log_opened(id: DriveId, dir: &Path, uuid: DriveUuid, store: &DriveStore) {
    let (report, usage) = (store.recovery(), store.usage());
    tracing::info!(
        drive = id.0,
        %uuid,
        dir = %dir.display(),
        took = ?report.took,
        checkpoint = report.checkpoint,
        replayed_records = report.replayed_records,
        replayed_bytes = report.replayed_bytes,
        torn_tail = report.torn_tail,
        damaged_regions = report.damaged.len(),
        lost_shards = report.lost.len(),
        rebuilt = report.rebuilt,
        shards = usage.shards,
        live_bytes = usage.live,
        dead_bytes = usage.dead,
        "drive is in use"
    );
}

/// What a drive's answer means to the data path.
pub fn shard_error(error: StoreError) -> ShardError {
    match error {
        StoreError::NotFound => ShardError::NotFound,
        StoreError::Corrupt { unit } => ShardError::Corrupt { unit },
        StoreError::Full | StoreError::Overloaded => ShardError::Overloaded,
        StoreError::NoSuchUnit { .. } => ShardError::NotFound,
        StoreError::Failed(_) | StoreError::CrcMismatch | StoreError::TooLarge | StoreError::Closed => {
            ShardError::Failed
        }
    }
}
