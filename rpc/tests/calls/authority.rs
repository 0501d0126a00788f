//! A certificate authority of a cluster, as `ashlar cluster init` makes one.

use ashlar_rpc::{Credentials, Fingerprint, RpcIdentity, cluster_name, node_name};
use ashlar_runtime::Env;
use ashlar_types::{ClusterId, NodeId};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ED25519};

pub(crate) struct Authority {
    cluster: ClusterId,
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
}

impl Authority {
    pub(crate) fn of(cluster: ClusterId) -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { cluster, issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    pub(crate) fn issue(&self, node: NodeId) -> Credentials {
        self.issue_as(node, |_| {})
    }

    pub(crate) fn issue_as(&self, node: NodeId, change: impl FnOnce(&mut CertificateParams)) -> Credentials {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let names = vec![cluster_name(self.cluster), node_name(self.cluster, node)];
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Credentials { authority: self.certificate.clone(), certificate, key: key.serialize_der() }
    }

    /// Node `node` of the cluster, with a certificate.
    pub(crate) fn node(&self, env: &Env, node: u32) -> RpcIdentity {
        let identity = RpcIdentity::secured(env);
        identity.set(self.cluster, NodeId(node)).unwrap();
        identity.install(&self.issue(NodeId(node))).unwrap();
        identity
    }
}
