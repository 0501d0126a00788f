//! The authority of a cluster, the keys of nodes, and the certificates that bind both. Ed25519 throughout: a key is 32
//! random bytes, so keys come from the environment's generator like all that is random.

use super::{BACKDATED, TlsError};
use ashlar_rpc::{Fingerprint, cluster_name, node_name};
use ashlar_runtime::Rng;
use ashlar_types::{ClusterId, NodeId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SignatureAlgorithm,
};
use std::{fmt, time::Duration};
use time::OffsetDateTime;

/// Longer than any machine lives: replacing the authority of a running cluster is a matter of its own.
const AUTHORITY_LIFE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
/// What precedes the 32 bytes of a private key in PKCS #8 (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A private key; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeKey {
    seed: [u8; 32],
    public: [u8; 32],
}

impl NodeKey {
    pub fn generate(rng: &dyn Rng) -> Result<Self, TlsError> {
        let mut seed = [0; 32];
        rng.fill(&mut seed);
        Self::from_seed(seed)
    }

    pub fn from_seed(seed: [u8; 32]) -> Result<Self, TlsError> {
        let pair = pair(&seed)?;
        let public = pair.der_bytes().try_into().expect("a public key of Ed25519 has 32 bytes");
        Ok(Self { seed, public })
    }

    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub fn pkcs8(&self) -> Vec<u8> {
        pkcs8(&self.seed)
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").finish_non_exhaustive()
    }
}

fn pkcs8(seed: &[u8; 32]) -> Vec<u8> {
    [&PKCS8_HEAD[..], &seed[..]].concat()
}

fn pair(seed: &[u8; 32]) -> Result<KeyPair, rcgen::Error> {
    KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8(seed).into(), &PKCS_ED25519)
}

/// A certificate and its times, which nobody has to read out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// DER.
    pub certificate: Vec<u8>,
    pub at: Timestamp,
    pub expires: Timestamp,
}

/// Makes certificates of one cluster's nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    cluster: ClusterId,
    key: NodeKey,
    certificate: Vec<u8>,
}

impl Authority {
    pub fn make(rng: &dyn Rng, cluster: ClusterId, now: Timestamp) -> Result<Self, TlsError> {
        let key = NodeKey::generate(rng)?;
        let mut params = params(cluster);
        params.not_before = time(now, -backdated());
        params.not_after =
            time(now, time::Duration::try_from(AUTHORITY_LIFE).expect("30 years are in range"));
        let certificate = params.self_signed(&pair(&key.seed)?)?.der().to_vec();
        Ok(Self { cluster, key, certificate })
    }

    /// As it was stored or received.
    pub fn restore(cluster: ClusterId, key: NodeKey, certificate: Vec<u8>) -> Self {
        Self { cluster, key, certificate }
    }

    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// A certificate for the holder of a key.
    pub fn issue(
        &self,
        node: NodeId,
        public_key: &[u8; 32],
        now: Timestamp,
        life: Duration,
    ) -> Result<Issued, TlsError> {
        let names = vec![cluster_name(self.cluster), node_name(self.cluster, node)];
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Ashlar node {node}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = time(now, -backdated());
        let lives = time::Duration::try_from(life).map_err(|_| rcgen::Error::Time)?;
        params.not_after = time(now, lives);
        let issuer = Issuer::new(self::params(self.cluster), pair(&self.key.seed)?);
        let certificate = params.signed_by(&PublicKey(*public_key), &issuer)?.der().to_vec();
        let expires = Timestamp(now.0.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX)));
        Ok(Issued { certificate, at: now, expires })
    }
}

/// What the certificates of an authority's nodes repeat of its own.
fn params(cluster: ClusterId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Ashlar cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn backdated() -> time::Duration {
    time::Duration::try_from(BACKDATED).expect("a day is in range")
}

/// Certificates know seconds.
fn time(now: Timestamp, shift: time::Duration) -> OffsetDateTime {
    let seconds = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    now.saturating_add(shift)
}

/// The key of a node that asks: it is proven to have the private one by whoever lets it speak.
struct PublicKey([u8; 32]);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}
