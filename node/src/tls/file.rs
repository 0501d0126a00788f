//! `tls.json` in the data directory: the node's key and certificate and the authority's, readable by their owner only.
//!
//! Written before the identity when a node forms or joins a cluster, and again, in one piece, at each renewal. Bytes are
//! DER, in base64.

use super::{Authority, Issued, NodeKey, TlsError};
use crate::identity::write_durably;
use ashlar_runtime::{Disk, OpenMode};
use ashlar_types::{ClusterId, Timestamp};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::{io, path::Path};

const FILE: &str = "tls.json";
const FORMAT_VERSION: u32 = 1;
const LEN_MAX: u64 = 1 << 20;

/// What one node needs to be known, and to make others known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificates {
    pub authority: Authority,
    pub key: NodeKey,
    pub issued: Issued,
}

#[derive(Serialize, Deserialize)]
struct File {
    format_version: u32,
    authority_certificate: String,
    authority_key: String,
    node_certificate: String,
    node_key: String,
    /// Milliseconds since 1970, of the clock of the node that issued it.
    issued_ms: u64,
    expires_ms: u64,
}

impl Certificates {
    pub fn load(disk: &dyn Disk, data_dir: &Path, cluster: ClusterId) -> Result<Self, TlsError> {
        let path = data_dir.join(FILE);
        let failed = |source| TlsError::Io { path: path.clone(), source };
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(TlsError::Missing { path });
            }
            Err(error) => return Err(failed(error)),
        };
        let len = file.len().map_err(failed)?.min(LEN_MAX);
        let mut bytes = vec![0; usize::try_from(len).expect("bounded by 1 MiB")];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let damaged = |problem: String| TlsError::Damaged { path: path.clone(), problem };
        // What was wrong is told by place, for the text may hold a key.
        let file: File = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(format!("line {}, column {}", error.line(), error.column())))?;
        if file.format_version > FORMAT_VERSION {
            return Err(TlsError::Newer { path, found: file.format_version });
        }
        let bytes_of = |text: &str, what: &str| {
            STANDARD.decode(text).map_err(|_| damaged(format!("the {what} is not base64")))
        };
        let key_of = |text: &str, what: &str| {
            let seed = bytes_of(text, what)?;
            let seed = seed.try_into().map_err(|_| damaged(format!("the {what} has not 32 bytes")))?;
            NodeKey::from_seed(seed)
        };
        let authority = Authority::restore(
            cluster,
            key_of(&file.authority_key, "authority's key")?,
            bytes_of(&file.authority_certificate, "authority's certificate")?,
        );
        Ok(Self {
            authority,
            key: key_of(&file.node_key, "node's key")?,
            issued: Issued {
                certificate: bytes_of(&file.node_certificate, "node's certificate")?,
                at: Timestamp(file.issued_ms),
                expires: Timestamp(file.expires_ms),
            },
        })
    }

    /// Durable on return.
    pub fn store(&self, disk: &dyn Disk, data_dir: &Path) -> Result<(), TlsError> {
        let path = data_dir.join(FILE);
        let temporary = data_dir.join(format!("{FILE}.new"));
        let file = File {
            format_version: FORMAT_VERSION,
            authority_certificate: STANDARD.encode(self.authority.certificate()),
            authority_key: STANDARD.encode(self.authority.key().seed()),
            node_certificate: STANDARD.encode(&self.issued.certificate),
            node_key: STANDARD.encode(self.key.seed()),
            issued_ms: self.issued.at.0,
            expires_ms: self.issued.expires.0,
        };
        let bytes = serde_json::to_vec_pretty(&file).expect("plain data serialises");
        write_durably(disk, &temporary, &path, &bytes)
            .map_err(|source| TlsError::Io { path: path.clone(), source })
    }
}
