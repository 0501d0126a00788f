//! Who this node is to others.
//!
//! A node that has not joined a cluster yet has no identity: it makes calls without one, which only services that
//! are open to it answer, and it answers open services only. The identity is settled once and never changes while
//! the process runs; the certificate that proves it is renewed.

use crate::{
    Credentials, Fingerprint,
    call::HELLO,
    tls::{CredentialError, Proven, Tls},
};
use ashlar_runtime::Env;
use ashlar_types::{ClusterId, NodeId};
use http::{HeaderMap, HeaderValue};
use std::sync::{Arc, OnceLock};

pub(crate) const CLUSTER_HEADER: &str = "ashlar-cluster";
pub(crate) const NODE_HEADER: &str = "ashlar-node";
/// Oldest and newest version of the protocol that the caller speaks, as in `1-3`.
pub(crate) const PROTOCOL_HEADER: &str = "ashlar-protocol";

/// Handle to this node's identity; clones share it.
#[derive(Clone, Debug)]
pub struct RpcIdentity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    known: OnceLock<Known>,
    /// `None`: connections are in the clear, and callers are what they say.
    tls: Option<Tls>,
}

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

/// Node that made a call; in the extensions of every request of a node. On a secured connection it has proven it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub NodeId);

impl RpcIdentity {
    /// Of a node that is in no cluster. In the clear: for simulations, tests and sockets that do not leave the machine;
    /// [`bind`](crate::bind) takes loopback addresses only for it.
    pub fn unformed() -> Self {
        Self(Arc::new(Inner { known: OnceLock::new(), tls: None }))
    }

    /// In the clear, as [`Self::unformed`].
    pub fn of(cluster: ClusterId, node: NodeId) -> Self {
        Self(Arc::new(Inner { known: OnceLock::from(Known { cluster, node }), tls: None }))
    }

    /// Of a node that is in no cluster yet. Nothing connects until [`Self::install`].
    pub fn secured(env: &Env) -> Self {
        let tls = Tls::new(Arc::clone(&env.clock));
        Self(Arc::new(Inner { known: OnceLock::new(), tls: Some(tls) }))
    }

    /// Of a node that asks to be taken in: it has no certificate, and takes none but those of one authority.
    pub fn joining(env: &Env, authority: Fingerprint) -> Self {
        let tls = Tls::pinned(Arc::clone(&env.clock), authority);
        Self(Arc::new(Inner { known: OnceLock::new(), tls: Some(tls) }))
    }

    /// Settles the identity; setting the same again is fine.
    pub fn set(&self, cluster: ClusterId, node: NodeId) -> Result<(), IdentityTaken> {
        let known = *self.0.known.get_or_init(|| Known { cluster, node });
        if known == (Known { cluster, node }) {
            Ok(())
        } else {
            Err(IdentityTaken { cluster: known.cluster, node: known.node })
        }
    }

    /// The certificate that new connections use from now on; it must name this node, whose identity is settled.
    pub fn install(&self, credentials: &Credentials) -> Result<(), CredentialError> {
        let tls = self.0.tls.as_ref().ok_or(CredentialError::Plain)?;
        let known = self.0.known.get().ok_or(CredentialError::Unformed)?;
        tls.install(known.cluster, known.node, credentials)
    }

    pub fn is_secured(&self) -> bool {
        self.0.tls.is_some()
    }

    pub fn cluster(&self) -> Option<ClusterId> {
        self.0.known.get().map(|known| known.cluster)
    }

    pub fn node(&self) -> Option<NodeId> {
        self.0.known.get().map(|known| known.node)
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.0.tls.as_ref()
    }

    pub(crate) fn stamp(&self, headers: &mut HeaderMap) {
        let text = "hex and decimal digits are valid header text";
        let value = |text_of: String| HeaderValue::from_str(&text_of).expect(text);
        headers.insert(PROTOCOL_HEADER, value(format!("{}-{}", HELLO.protocol_oldest, HELLO.protocol)));
        if let Some(known) = self.0.known.get() {
            headers.insert(CLUSTER_HEADER, value(known.cluster.to_string()));
            headers.insert(NODE_HEADER, value(known.node.to_string()));
        }
    }

    /// Whether a call is one of a node of this cluster. What the headers say must be what was proven.
    pub(crate) fn check(&self, proven: Proven, headers: &HeaderMap) -> Result<(), String> {
        let ours = self.cluster().ok_or("this node is in no cluster yet")?;
        let theirs: ClusterId = header(headers, CLUSTER_HEADER).ok_or("the caller is in no cluster")?;
        if theirs != ours {
            return Err(format!("the caller is of cluster {theirs}, this node of cluster {ours}"));
        }
        match proven {
            Proven::Plain => Ok(()),
            Proven::NoCertificate => Err("the caller has no certificate".to_owned()),
            Proven::Node(cluster, node) if cluster == ours && header(headers, NODE_HEADER) == Some(node) => {
                Ok(())
            }
            Proven::Node(cluster, node) => Err(format!(
                "the caller does not say that it is node {node} of cluster {cluster}, as its certificate does"
            )),
        }
    }
}

pub(crate) fn header<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.parse().ok()
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

    #[test]
    fn a_caller_is_who_its_certificate_says() {
        let (ours, other) = (RpcIdentity::of(ClusterId(7), NodeId(1)), ClusterId(8));
        let says = |cluster, node| {
            let mut headers = HeaderMap::new();
            RpcIdentity::of(cluster, NodeId(node)).stamp(&mut headers);
            headers
        };
        let node_2 = says(ClusterId(7), 2);
        assert!(ours.check(Proven::Plain, &node_2).is_ok());
        assert!(ours.check(Proven::Node(ClusterId(7), NodeId(2)), &node_2).is_ok());
        assert!(ours.check(Proven::Node(ClusterId(7), NodeId(3)), &node_2).is_err());
        assert!(ours.check(Proven::Node(other, NodeId(2)), &node_2).is_err());
        assert!(ours.check(Proven::NoCertificate, &node_2).is_err());
        assert!(ours.check(Proven::Plain, &says(other, 2)).is_err());
        assert!(ours.check(Proven::Node(other, NodeId(2)), &says(other, 2)).is_err());
        assert!(ours.check(Proven::Plain, &HeaderMap::new()).is_err());
        assert!(RpcIdentity::unformed().check(Proven::Plain, &node_2).is_err());
    }
}
