//! The drives of this node: opened stores by their number in the cluster map.

use crate::health::{DriveHealth, Health};
use ashlar_datapath::ShardError;
use ashlar_proto::node::DriveCondition;
use ashlar_storage::{DriveState, DriveStore, StoreError};
use ashlar_types::DriveId;
use std::{collections::BTreeMap, sync::Arc};

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

    /// Waits for the drives' workers.
    pub async fn close(&self) {
        for store in self.0.values() {
            store.clone().close().await;
        }
    }
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
