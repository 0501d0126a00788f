//! Who this node is to others.
//!
//! A node that has not joined a cluster yet has no identity: it makes calls without one, which only services that
//! are open to it answer, and it answers open services only. The identity is settled once and never changes while
//! the process runs.

use ashlar_types::{ClusterId, NodeId};
use std::sync::{Arc, OnceLock};
use tonic::metadata::MetadataMap;

pub(crate) const CLUSTER_HEADER: &str = "ashlar-cluster";
pub(crate) const NODE_HEADER: &str = "ashlar-node";

/// Handle to this node's identity; clones share it.
#[derive(Clone, Debug, Default)]
pub struct RpcIdentity(Arc<OnceLock<Known>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    cluster: ClusterId,
    node: NodeId,
}

/// The node has another identity already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node is node {node} of cluster {cluster} already")]
pub struct IdentityTaken {
    pub cluster: ClusterId,
    pub node: NodeId,
}

/// Node that made a call, as it says itself; in the extensions of every request that carried one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub NodeId);

impl RpcIdentity {
    /// Of a node that is in no cluster.
    pub fn unformed() -> Self {
        Self::default()
    }

    pub fn of(cluster: ClusterId, node: NodeId) -> Self {
        Self(Arc::new(OnceLock::from(Known { cluster, node })))
    }

    /// Settles the identity; setting the same again is fine.
    pub fn set(&self, cluster: ClusterId, node: NodeId) -> Result<(), IdentityTaken> {
        let known = *self.0.get_or_init(|| Known { cluster, node });
        if known == (Known { cluster, node }) {
            Ok(())
        } else {
            Err(IdentityTaken { cluster: known.cluster, node: known.node })
        }
    }

    pub fn cluster(&self) -> Option<ClusterId> {
        self.0.get().map(|known| known.cluster)
    }

    pub fn node(&self) -> Option<NodeId> {
        self.0.get().map(|known| known.node)
    }

    pub(crate) fn stamp(&self, headers: &mut MetadataMap) {
        if let Some(known) = self.0.get() {
            let text = "hex and decimal digits are valid header text";
            headers.insert(CLUSTER_HEADER, known.cluster.to_string().parse().expect(text));
            headers.insert(NODE_HEADER, known.node.to_string().parse().expect(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_settled_once() {
        let identity = RpcIdentity::unformed();
        let shared = identity.clone();
        assert_eq!(identity.cluster(), None);
        identity.set(ClusterId(7), NodeId(1)).unwrap();
        assert_eq!((shared.cluster(), shared.node()), (Some(ClusterId(7)), Some(NodeId(1))));
        assert_eq!(shared.set(ClusterId(7), NodeId(1)), Ok(()));
        assert!(shared.set(ClusterId(8), NodeId(1)).is_err());
        assert!(shared.set(ClusterId(7), NodeId(2)).is_err());
    }
}
