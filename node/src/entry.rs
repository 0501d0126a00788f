//! How a replica of group 0 comes to be on this node, kept until it is there.
//!
//! Written beside the identity, before it; a node that dies between the two steps of forming or joining finds it at
//! its next start and goes on. From then on it carries the newest map, for a node that loses its metadata: it finds the others by
//! it, and neither makes the cluster a second time nor begins groups anew that it voted in. It is ignored while group 0's
//! replica knows a map.

use crate::{
    identity::{Identity, IdentityError, write_durably},
    shard_wire,
};
use ashlar_placement::ClusterMap;
use ashlar_runtime::{Disk, Env, OpenMode};
use ashlar_types::MapEpoch;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::watch;

const FILE: &str = "entry";

/// Longest file that is read: a map of the largest cluster is a tenth of it.
const LEN_MAX: u64 = 256 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// This node makes the cluster.
    Form(Box<ClusterMap>),
    /// The cluster took this node in under this map; the leader will send the rest.
    Joined(Box<ClusterMap>),
    /// This node has had its replicas of this map.
    Member(Box<ClusterMap>),
}

/// Writes every new map beside the identity, until the map has no owner any more.
pub(crate) async fn follow(
    env: Env,
    data_dir: PathBuf,
    identity: Identity,
    mut map: watch::Receiver<Arc<ClusterMap>>,
) {
    loop {
        let known = Arc::clone(&map.borrow_and_update());
        if known.epoch > MapEpoch(0) {
            let entry = Entry::Member(Box::new(ClusterMap::clone(&known)));
            if let Err(error) = entry.store(&identity, &*env.disk, &data_dir) {
                tracing::warn!(%error, "the cluster map could not be kept beside the identity");
            }
        }
        if map.changed().await.is_err() {
            return;
        }
    }
}

impl Entry {
    /// Durable on return, the identity last: a node has one only if it also has this.
    pub fn store(&self, identity: &Identity, disk: &dyn Disk, data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(FILE);
        let temporary = data_dir.join(format!("{FILE}.new"));
        write_durably(disk, &temporary, &path, &shard_wire::encode(self))
            .map_err(|source| IdentityError::Io { path, source })?;
        identity.store(disk, data_dir)
    }

    pub fn load(disk: &dyn Disk, data_dir: &Path) -> Result<Self, IdentityError> {
        let path = data_dir.join(FILE);
        let failed = |source| IdentityError::Io { path: path.clone(), source };
        let file = disk.open(&path, OpenMode::Read).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let damaged = |problem: &str| IdentityError::Damaged { path: path.clone(), problem: problem.into() };
        if len > LEN_MAX {
            return Err(damaged("it is longer than any map"));
        }
        let len = usize::try_from(len).map_err(|_| failed(io::ErrorKind::FileTooLarge.into()))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        shard_wire::decode(&bytes).map_err(|status| damaged(status.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_placement::{Labels, Node, NodeState};
    use ashlar_runtime::RealDisk;
    use ashlar_types::{ClusterId, NodeId};

    #[test]
    fn an_entry_comes_back_with_its_identity() {
        let dir = tempfile::tempdir().unwrap();
        let first = Node {
            rpc: "127.0.0.1:1".into(),
            s3: String::new(),
            labels: Labels::default(),
            state: NodeState::Member,
        };
        let entry = Entry::Form(Box::new(ClusterMap::forming(ClusterId(7), first)));
        let identity = Identity { cluster: ClusterId(7), node: NodeId(1), drives: vec![] };
        entry.store(&identity, &RealDisk, dir.path()).unwrap();
        assert_eq!(Entry::load(&RealDisk, dir.path()).unwrap(), entry);
        assert_eq!(Identity::load(&RealDisk, dir.path()).unwrap(), Some(identity));

        std::fs::write(dir.path().join(FILE), [9, 9]).unwrap();
        assert!(matches!(Entry::load(&RealDisk, dir.path()), Err(IdentityError::Damaged { .. })));
    }
}
