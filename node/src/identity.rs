//! Who this node is: the small file in the data directory that says which cluster it joined under which numbers.
//!
//! Written once, when the node forms or joins a cluster; a node without it is unformed.

use ashlar_runtime::{Disk, OpenMode};
use ashlar_types::{ClusterId, DriveId, DriveUuid, NodeId};
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
};

const FILE: &str = "node.json";
const FORMAT_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub drives: Vec<IdentityDrive>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityDrive {
    pub uuid: DriveUuid,
    pub id: DriveId,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot use {}; check that it exists on a writable file system", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {problem}; restore it from a backup, or remove the node from the cluster and let it \
             join anew with empty directories", path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("{} was written by a newer version (format {found}); start that version", path.display())]
    Newer { path: PathBuf, found: u32 },
}

#[derive(Serialize, Deserialize)]
struct File {
    format_version: u32,
    cluster: String,
    node: u32,
    drives: Vec<FileDrive>,
}

#[derive(Serialize, Deserialize)]
struct FileDrive {
    uuid: String,
    id: u32,
}

impl Identity {
    /// `None` for a node that has not joined a cluster.
    pub fn load(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data_dir.join(FILE);
        let failed = |source| IdentityError::Io { path: path.clone(), source };
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let len = usize::try_from(file.len().map_err(failed)?.min(1 << 20)).expect("bounded by 1 MiB");
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let damaged = |problem: String| IdentityError::Damaged { path: path.clone(), problem };
        let file: File = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if file.format_version > FORMAT_VERSION {
            return Err(IdentityError::Newer { path, found: file.format_version });
        }
        let drives = file.drives.iter().map(|drive| {
            let uuid = drive.uuid.parse().map_err(|_| damaged(format!("drive uuid `{}`", drive.uuid)))?;
            Ok(IdentityDrive { uuid, id: DriveId(drive.id) })
        });
        Ok(Some(Self {
            cluster: file.cluster.parse().map_err(|_| damaged(format!("cluster id `{}`", file.cluster)))?,
            node: NodeId(file.node),
            drives: drives.collect::<Result<_, IdentityError>>()?,
        }))
    }

    /// Durable on return: written aside, flushed, renamed.
    pub fn store(&self, disk: &dyn Disk, data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(FILE);
        let temporary = data_dir.join(format!("{FILE}.new"));
        let file = File {
            format_version: FORMAT_VERSION,
            cluster: self.cluster.to_string(),
            node: self.node.0,
            drives: self
                .drives
                .iter()
                .map(|drive| FileDrive { uuid: drive.uuid.to_string(), id: drive.id.0 })
                .collect(),
        };
        let bytes = serde_json::to_vec_pretty(&file).expect("plain data serialises");
        write_durably(disk, &temporary, &path, &bytes)
            .map_err(|source| IdentityError::Io { path: path.clone(), source })
    }
}

/// Replaces `path` with `bytes` so that a crash leaves either the old file or the new one.
pub fn write_durably(disk: &dyn Disk, temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(temporary, OpenMode::Create)?;
    file.truncate(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(temporary, path)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_runtime::RealDisk;

    #[test]
    fn an_identity_comes_back_and_damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Identity::load(&RealDisk, dir.path()).unwrap().is_none());
        let identity = Identity {
            cluster: ClusterId(7),
            node: NodeId(3),
            drives: vec![IdentityDrive { uuid: DriveUuid(9), id: DriveId(5) }],
        };
        identity.store(&RealDisk, dir.path()).unwrap();
        assert_eq!(Identity::load(&RealDisk, dir.path()).unwrap(), Some(identity));

        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"format_version\": 1", "\"format_version\": 2")).unwrap();
        assert!(matches!(Identity::load(&RealDisk, dir.path()), Err(IdentityError::Newer { found: 2, .. })));
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(Identity::load(&RealDisk, dir.path()), Err(IdentityError::Damaged { .. })));
    }
}
