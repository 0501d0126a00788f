//! Which certificates are taken. The rules are those of webpki; here is what they are held against, and what is said
//! of one that is refused.

use super::{CredentialError, Fingerprint, SUFFIX, cluster_name, node_name};
use ashlar_types::{ClusterId, NodeId};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use std::sync::Arc;

/// Whom a certificate names; says nothing about whether it is to be trusted.
pub(super) fn holder(certificate: &CertificateDer<'_>) -> Option<(ClusterId, NodeId)> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    parsed.valid_dns_names().find_map(|name| {
        let (node, rest) = name.strip_prefix('n')?.split_once('.')?;
        let (cluster, suffix) = rest.split_once('.')?;
        let (cluster, node) = (cluster.parse().ok()?, NodeId(node.parse().ok()?));
        // Written in one way only.
        (suffix == SUFFIX && name == node_name(cluster, node)).then_some((cluster, node))
    })
}

/// A certificate of an authority that is not ours.
#[derive(Debug, thiserror::Error)]
#[error("it presented a certificate {} that the authority of cluster {ours} did not issue", told(.theirs))]
struct Foreign {
    theirs: Option<(ClusterId, NodeId)>,
    ours: ClusterId,
}

fn told(theirs: &Option<(ClusterId, NodeId)>) -> String {
    match theirs {
        Some((cluster, node)) => format!("of node {node} of cluster {cluster}"),
        None => "of no node".to_owned(),
    }
}

/// Names the holder in the error where that explains it.
fn explain(error: Error, ours: ClusterId, certificate: &CertificateDer<'_>) -> Error {
    if error == Error::InvalidCertificate(CertificateError::UnknownIssuer)
        || error == Error::InvalidCertificate(CertificateError::BadSignature)
    {
        let foreign = Foreign { theirs: holder(certificate), ours };
        return Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(foreign))));
    }
    error
}

/// Takes servers of this cluster, or of the one whose authority has a known fingerprint.
#[derive(Debug)]
pub(super) struct Servers {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Trust {
    Cluster(ClusterId, Arc<WebPkiServerVerifier>),
    Pinned(Fingerprint),
}

impl Servers {
    pub(super) fn of(
        cluster: ClusterId,
        roots: Arc<RootCertStore>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, CredentialError> {
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build()?;
        Ok(Self {
            trust: Trust::Cluster(cluster, inner),
            algorithms: provider.signature_verification_algorithms,
        })
    }

    pub(super) fn pinned(pin: Fingerprint, provider: &CryptoProvider) -> Self {
        Self { trust: Trust::Pinned(pin), algorithms: provider.signature_verification_algorithms }
    }

    /// The server sends its authority along; it is trusted if it is the one that is expected.
    fn verify_pinned(
        &self,
        pin: Fingerprint,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = intermediates.iter().find(|certificate| Fingerprint::of(certificate) == pin);
        let unpinned = || {
            let told = OtherError(Arc::new(Unpinned { theirs: holder(end_entity) }));
            Error::InvalidCertificate(CertificateError::Other(told))
        };
        let authority = authority.ok_or_else(unpinned)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, self.algorithms.all)?;
        let (cluster, _) = holder(end_entity).ok_or_else(unpinned)?;
        let name = ServerName::try_from(cluster_name(cluster)).map_err(|_| unpinned())?;
        rustls::client::verify_server_name(&parsed, &name)?;
        Ok(ServerCertVerified::assertion())
    }
}

/// The token was made by another cluster, or someone else answers at the address.
#[derive(Debug, thiserror::Error)]
#[error("it presented a certificate {} whose authority is not the one that the join token names", told(.theirs))]
struct Unpinned {
    theirs: Option<(ClusterId, NodeId)>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Cluster(ours, inner) => inner
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| explain(error, *ours, end_entity)),
            Trust::Pinned(pin) => self.verify_pinned(*pin, end_entity, intermediates, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Takes clients of this cluster, and those without a certificate.
#[derive(Debug)]
pub(super) struct Clients {
    ours: ClusterId,
    inner: Arc<dyn ClientCertVerifier>,
}

impl Clients {
    pub(super) fn new(ours: ClusterId, inner: Arc<dyn ClientCertVerifier>) -> Self {
        Self { ours, inner }
    }
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Without hints a client of another cluster presents its certificate too, so that the log can name it.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| explain(error, self.ours, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
