//! Why a node does not start; each text says what to do. Nothing has been changed when one is returned.

use ashlar_types::{ClusterId, DriveUuid};
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot use {} as a data directory; it must be a directory that this user can write", path.display())]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error("{} is in use by another ashlar process; stop that one first", path.display())]
    DataDirLocked { path: PathBuf },
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    #[error("cannot listen on {address} for {role}; free the port or change `{key}`")]
    Listen { role: &'static str, key: &'static str, address: String, source: std::io::Error },
    #[error("cannot listen for other nodes; change `rpc_listen`")]
    Rpc { source: ashlar_rpc::BindError },
    #[error("cannot use drive {}", path.display())]
    Drive { path: PathBuf, source: ashlar_storage::OpenError },
    #[error("drive {} has no Ashlar superblock, but this node belongs to a cluster: mount the right drive there, or \
             remove it from `drives`", path.display())]
    DriveMissing { path: PathBuf },
    #[error("drive {} belongs to cluster {found}, this node to {ours}: mount the right drive there, or empty the \
             directory if its data is not needed", path.display())]
    ForeignDrive { path: PathBuf, found: ClusterId, ours: ClusterId },
    #[error("drive {} ({uuid}) is formatted, but this node does not know it: restore the data directory it was used \
             with, or empty the drive's directory if its data is not needed", path.display())]
    UnknownDrive { path: PathBuf, uuid: DriveUuid },
    #[error(transparent)]
    Capacity(#[from] crate::capacity::CapacityError),
    #[error("cannot start the metadata replicas")]
    Metadata(#[from] ashlar_metadata::node::StartError),
}
