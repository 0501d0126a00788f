//! Certificates of this node: made with the cluster or received when it joins, kept in the data directory, renewed.
//!
//! Every node holds the key of the cluster's authority, so it renews its own certificate without asking anyone, and
//! comes back after a downtime that was longer than its certificate lives. `docs/decisions/0010-node-to-node-tls.md`
//! says why. The rules of verification are `rpc`'s; here is what it is given.

mod authority;
mod file;

pub use authority::{Authority, Issued, NodeKey};
pub use file::Certificates;

use ashlar_rpc::{CredentialError, Credentials, RpcIdentity};
use ashlar_runtime::Env;
use ashlar_types::{ClusterId, NodeId, Timestamp};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long a node's certificate is valid: what a stolen key is good for after the node it was stolen from is mended.
pub const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How far clocks of nodes may differ for a new certificate to be taken at once.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);
/// The wall clock may jump, so it is looked at now and then.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot use {}; check that it exists on a writable file system", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is missing, but this node belongs to a cluster: restore it from a backup, or remove the node from the \
             cluster and let it join anew with empty directories", path.display())]
    Missing { path: PathBuf },
    #[error("{} is damaged: {problem}; restore it from a backup, or remove the node from the cluster and let it \
             join anew with empty directories", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("{} was written by a newer version (format {found}); start that version", path.display())]
    Newer { path: PathBuf, found: u32 },
    #[error("a certificate cannot be made")]
    Issue(#[from] rcgen::Error),
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

impl Certificates {
    /// Of the first node of a new cluster, and of the cluster itself.
    pub fn first(env: &Env, cluster: ClusterId, node: NodeId) -> Result<Self, TlsError> {
        let now = env.clock.wall();
        let authority = Authority::make(&*env.rng, cluster, now)?;
        let key = NodeKey::generate(&*env.rng)?;
        let issued = authority.issue(node, key.public(), now, LIFE)?;
        Ok(Self { authority, key, issued })
    }

    pub fn credentials(&self) -> Credentials {
        Credentials {
            authority: self.authority.certificate().to_vec(),
            certificate: self.issued.certificate.clone(),
            key: self.key.pkcs8(),
        }
    }

    /// After two thirds of the life, so that weeks are left in which a renewal may fail; and when the clock says that
    /// the certificate is not valid yet, for then it was made by a clock that was wrong.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let Issued { at, expires, .. } = &self.issued;
        let two_thirds = expires.0.saturating_sub(at.0) / 3 * 2;
        let backdated = u64::try_from(BACKDATED.as_millis()).unwrap_or(u64::MAX);
        now.0 >= at.0.saturating_add(two_thirds) || now.0.saturating_add(backdated) < at.0
    }

    /// A new key and a new certificate, durable on return.
    pub fn renewed(&self, env: &Env, node: NodeId, data_dir: &Path) -> Result<Self, TlsError> {
        let key = NodeKey::generate(&*env.rng)?;
        let issued = self.authority.issue(node, key.public(), env.clock.wall(), LIFE)?;
        let renewed = Self { authority: self.authority.clone(), key, issued };
        renewed.store(&*env.disk, data_dir)?;
        tracing::info!(expires = %renewed.issued.expires.0, "certificate renewed");
        Ok(renewed)
    }
}

/// Keeps the certificate that new connections use fresh.
pub struct Renewal {
    env: Env,
    data_dir: PathBuf,
    identity: RpcIdentity,
    node: NodeId,
    current: tokio::sync::watch::Sender<Arc<Certificates>>,
}

impl Renewal {
    /// Loads the certificates of a node that has an identity, and uses them: new ones, if they are due.
    pub fn begin(
        env: &Env,
        data_dir: &Path,
        identity: &RpcIdentity,
        cluster: ClusterId,
        node: NodeId,
    ) -> Result<Self, TlsError> {
        let loaded = Certificates::load(&*env.disk, data_dir, cluster)?;
        let renewal = Self {
            env: env.clone(),
            data_dir: data_dir.to_owned(),
            identity: identity.clone(),
            node,
            current: tokio::sync::watch::Sender::new(Arc::new(loaded)),
        };
        if !renewal.renew_if_due()? {
            identity.install(&renewal.current().credentials())?;
        }
        Ok(renewal)
    }

    pub fn current(&self) -> Arc<Certificates> {
        Arc::clone(&self.current.borrow())
    }

    /// Whether it was due.
    pub fn renew_if_due(&self) -> Result<bool, TlsError> {
        let current = self.current();
        if !current.is_due(self.env.clock.wall()) {
            return Ok(false);
        }
        let renewed = current.renewed(&self.env, self.node, &self.data_dir)?;
        self.identity.install(&renewed.credentials())?;
        self.current.send_replace(Arc::new(renewed));
        Ok(true)
    }

    /// Until the task is aborted.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.env.clock.sleep(LOOK_AGAIN).await;
            if let Err(error) = self.renew_if_due() {
                tracing::error!(error = %crate::admin::with_causes(&error), "the certificate cannot be renewed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_runtime::{Clock, clock::Sleep};
    use std::{
        os::unix::fs::PermissionsExt,
        sync::atomic::{AtomicU64, Ordering},
    };

    const CLUSTER: ClusterId = ClusterId(7);
    const NODE: NodeId = NodeId(3);
    const DAY: u64 = 24 * 3600 * 1000;
    const START: u64 = 1_700_000_000_000;

    /// A wall clock that is set by hand.
    #[derive(Debug)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }

        fn wall(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }

        fn sleep(&self, _: Duration) -> Sleep {
            Box::pin(std::future::pending())
        }
    }

    fn env() -> (Env, Arc<Hand>) {
        let clock = Arc::new(Hand(AtomicU64::new(START)));
        (Env { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..Env::real() }, clock)
    }

    fn begin(env: &Env, dir: &Path) -> Renewal {
        let identity = RpcIdentity::secured(env);
        identity.set(CLUSTER, NODE).unwrap();
        Renewal::begin(env, dir, &identity, CLUSTER, NODE).unwrap()
    }

    #[test]
    fn certificates_come_back_for_their_owner_only_and_damage_is_refused() {
        let (env, _) = env();
        let dir = tempfile::tempdir().unwrap();
        let load = || Certificates::load(&*env.disk, dir.path(), CLUSTER);
        assert!(matches!(load(), Err(TlsError::Missing { .. })));
        let first = Certificates::first(&env, CLUSTER, NODE).unwrap();
        first.store(&*env.disk, dir.path()).unwrap();
        assert_eq!(load().unwrap(), first);
        let path = dir.path().join("tls.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"format_version\": 1", "\"format_version\": 2")).unwrap();
        assert!(matches!(load(), Err(TlsError::Newer { found: 2, .. })));
        for damaged in
            [text.replace("\"node_key\": \"", "\"node_key\": \"!"), text[..text.len() / 2].to_owned()]
        {
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(load(), Err(TlsError::Damaged { .. })));
        }
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_and_the_authority_stays() {
        let (env, clock) = env();
        let dir = tempfile::tempdir().unwrap();
        let first = Certificates::first(&env, CLUSTER, NODE).unwrap();
        first.store(&*env.disk, dir.path()).unwrap();
        let renewal = begin(&env, dir.path());
        assert_eq!(*renewal.current(), first);

        clock.0.store(START + 59 * DAY, Ordering::Relaxed);
        assert!(!renewal.renew_if_due().unwrap());
        clock.0.store(START + 61 * DAY, Ordering::Relaxed);
        assert!(renewal.renew_if_due().unwrap());
        let second = renewal.current();
        assert_eq!(second.authority, first.authority);
        assert_ne!(second.key, first.key);
        assert_eq!(second.issued.expires, Timestamp(START + 151 * DAY));
        assert!(!renewal.renew_if_due().unwrap());
        assert_eq!(*begin(&env, dir.path()).current(), *second, "what was renewed is what is loaded");
    }

    #[test]
    fn a_node_that_was_off_for_longer_than_its_certificate_lives_comes_back() {
        let (env, clock) = env();
        let dir = tempfile::tempdir().unwrap();
        Certificates::first(&env, CLUSTER, NODE).unwrap().store(&*env.disk, dir.path()).unwrap();
        clock.0.store(START + 400 * DAY, Ordering::Relaxed);
        let renewal = begin(&env, dir.path());
        assert_eq!(renewal.current().issued.at, Timestamp(START + 400 * DAY));
        // And one that a wrong clock made long in the future is made again.
        clock.0.store(START + 2 * DAY, Ordering::Relaxed);
        assert!(renewal.renew_if_due().unwrap());
        assert_eq!(renewal.current().issued.at, Timestamp(START + 2 * DAY));
    }

    #[test]
    fn keys_are_not_shown() {
        let (env, _) = env();
        let first = Certificates::first(&env, CLUSTER, NODE).unwrap();
        let shown = format!("{first:?} {:?}", first.credentials());
        let seed = format!("{:?}", first.key.seed());
        assert!(!shown.contains(&seed[1..20]), "{shown}");
    }
}
