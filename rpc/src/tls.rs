//! Mutual TLS between nodes: whose certificate is taken, and what it says of its holder.
//!
//! Every cluster has a certificate authority of its own, and every node a certificate of it that names cluster and
//! node. A node takes connections of holders of such a certificate, and of callers without one, which reach open
//! services only. A node that joins has no certificate yet and knows the authority by its fingerprint.
//!
//! Owns no files and makes no certificates: whoever has them calls [`RpcIdentity::install`](crate::RpcIdentity::install),
//! again after each renewal. New connections use what was installed last; those that are open stay.
//! TLS 1.3 only, and no resumption: connections live long, and each one proves anew who calls.

pub(crate) mod stream;
mod verify;

use ashlar_runtime::{Clock, sync::RwLock};
use ashlar_types::{ClusterId, NodeId};
use rustls::{
    CipherSuite, ClientConfig, ServerConfig,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
    server::WebPkiClientVerifier,
    time_provider::TimeProvider,
};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    sync::{Arc, PoisonError},
    time::Duration,
};

/// Ends all names in certificates; `.internal` is reserved for such use.
const SUFFIX: &str = "ashlar.internal";
/// What a node that joins asks for: it does not know the cluster's name.
const JOIN_NAME: &str = "join.ashlar.internal";
/// HTTP/2, and nothing else, is spoken inside.
const ALPN: &[u8] = b"h2";

/// A name that the certificates of all nodes of a cluster have: what a caller asks for.
pub fn cluster_name(cluster: ClusterId) -> String {
    format!("nodes.{cluster}.{SUFFIX}")
}

/// The name that one node's certificate has besides.
pub fn node_name(cluster: ClusterId, node: NodeId) -> String {
    format!("n{node}.{cluster}.{SUFFIX}")
}

/// SHA-256 of an authority's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    pub fn of(authority: &[u8]) -> Self {
        Self(Sha256::digest(authority).into())
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// What a node proves itself with. All DER.
#[derive(Clone)]
pub struct Credentials {
    /// Certificate of the cluster's authority.
    pub authority: Vec<u8>,
    /// Certificate of this node.
    pub certificate: Vec<u8>,
    /// Its private key, PKCS #8.
    pub key: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authority", &Fingerprint::of(&self.authority))
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("the node has no identity yet")]
    Unformed,
    #[error("connections of this node are not secured")]
    Plain,
    #[error("the certificate names {found:?}, not node {node} of cluster {cluster}")]
    OtherNode { found: Option<(ClusterId, NodeId)>, cluster: ClusterId, node: NodeId },
    #[error("certificate or key cannot be used")]
    Unusable(#[from] rustls::Error),
    #[error("the authority's certificate cannot be used")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

/// What a caller has proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proven {
    /// Nothing can be proven on a plain connection: callers are what they say.
    Plain,
    NoCertificate,
    Node(ClusterId, NodeId),
}

/// The certificates in use; shared by all connections of a node.
#[derive(Debug)]
pub(crate) struct Tls {
    clock: Arc<dyn Clock>,
    provider: Arc<CryptoProvider>,
    configs: RwLock<Configs>,
}

#[derive(Clone, Debug, Default)]
struct Configs {
    client: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    server: Option<Arc<ServerConfig>>,
}

impl Tls {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, provider: Arc::new(provider()), configs: RwLock::default() }
    }

    /// Trusts the authority with this fingerprint, and has no certificate.
    pub(crate) fn pinned(clock: Arc<dyn Clock>, pin: Fingerprint) -> Self {
        let tls = Self::new(clock);
        let verifier = verify::Servers::pinned(pin, &tls.provider);
        let config = tls.client_builder(verifier).with_no_client_auth();
        let name = ServerName::try_from(JOIN_NAME).expect("the name is well-formed");
        let configs = Configs { client: Some((Arc::new(finish(config)), name)), server: None };
        *tls.configs.write().unwrap_or_else(PoisonError::into_inner) = configs;
        tls
    }

    pub(crate) fn install(
        &self,
        cluster: ClusterId,
        node: NodeId,
        credentials: &Credentials,
    ) -> Result<(), CredentialError> {
        let authority = CertificateDer::from(credentials.authority.clone());
        let certificate = CertificateDer::from(credentials.certificate.clone());
        let found = verify::holder(&certificate);
        if found != Some((cluster, node)) {
            return Err(CredentialError::OtherNode { found, cluster, node });
        }
        // The authority goes along for those that know it by its fingerprint only.
        let chain = vec![certificate, authority.clone()];
        let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(credentials.key.clone()));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority)?;
        let roots = Arc::new(roots);

        let servers = verify::Servers::of(cluster, Arc::clone(&roots), &self.provider)?;
        let client = self.client_builder(servers).with_client_auth_cert(chain.clone(), key())?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .allow_unauthenticated()
            .build()?;
        let mut server = ServerConfig::builder_with_details(Arc::clone(&self.provider), self.time())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verify::Clients::new(cluster, clients)))
            .with_single_cert(chain, key())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;

        let name = ServerName::try_from(cluster_name(cluster)).expect("ids are well-formed in names");
        let configs =
            Configs { client: Some((Arc::new(finish(client)), name)), server: Some(Arc::new(server)) };
        *self.configs.write().unwrap_or_else(PoisonError::into_inner) = configs;
        Ok(())
    }

    fn client_builder(
        &self,
        verifier: verify::Servers,
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        ClientConfig::builder_with_details(Arc::clone(&self.provider), self.time())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
    }

    fn time(&self) -> Arc<dyn TimeProvider> {
        Arc::new(Wall(Arc::clone(&self.clock)))
    }

    fn configs(&self) -> Configs {
        self.configs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// AES-128 first: nodes have the instructions for it, and it is a tenth faster than AES-256.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// Certificates are held against this node's wall clock.
#[derive(Debug)]
struct Wall(Arc<dyn Clock>);

impl TimeProvider for Wall {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.wall().0)))
    }
}
