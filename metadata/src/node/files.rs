//! Which replicas a metadata directory holds.

use crate::encoding::{decode, encode};
use ashlar_runtime::{Disk, OpenMode};
use ashlar_types::{GroupId, ReplicaId};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "group-";
const ID_FILE: &str = "replica.id";

pub(super) fn dir(root: &Path, group: GroupId) -> PathBuf {
    root.join(format!("{PREFIX}{group}"))
}

/// The replicas there are. Directories without an id are remains of a crash: nothing had begun in them.
pub(super) fn replicas(disk: &dyn Disk, root: &Path) -> io::Result<BTreeMap<GroupId, ReplicaId>> {
    let mut found = BTreeMap::new();
    for name in disk.list_dir(root)? {
        let Some(group) = name.strip_prefix(PREFIX).and_then(|number| number.parse().ok()) else { continue };
        if let Some(id) = read_id(disk, &root.join(&name))? {
            found.insert(group, id);
        }
    }
    Ok(found)
}

/// Makes the directory of a replica and states durably which incarnation it is. An older one is set aside whole: it
/// never runs again, and a person may want to look at it.
pub(super) fn create(disk: &dyn Disk, root: &Path, group: GroupId, id: ReplicaId) -> io::Result<()> {
    let dir = dir(root, group);
    disk.create_dir_all(&dir)?;
    match read_id(disk, &dir)? {
        Some(found) if found == id => return Ok(()),
        Some(older) => {
            let aside = root.join(format!("old-{PREFIX}{group}-{}", older.incarnation));
            disk.rename(&dir, &aside)?;
            disk.create_dir_all(&dir)?;
        }
        None => {}
    }
    let new = dir.join(format!("{ID_FILE}.new"));
    let file = disk.open(&new, OpenMode::Create)?;
    file.truncate(0)?;
    file.write_all_at(&encode(&id), 0)?;
    file.sync_data()?;
    disk.rename(&new, &dir.join(ID_FILE))?;
    disk.sync_dir(&dir)?;
    disk.sync_dir(root)
}

fn read_id(disk: &dyn Disk, dir: &Path) -> io::Result<Option<ReplicaId>> {
    let file = match disk.open(&dir.join(ID_FILE), OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    // An id takes a dozen bytes.
    let mut bytes = vec![0; usize::try_from(file.len()?.min(64)).expect("64 fits every usize")];
    file.read_exact_at(&mut bytes, 0)?;
    decode(&bytes).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_runtime::RealDisk;
    use ashlar_types::{Incarnation, NodeId};

    #[test]
    fn replicas_are_found_again_and_older_incarnations_are_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let id = |incarnation| ReplicaId { node: NodeId(3), incarnation: Incarnation(incarnation) };
        std::fs::create_dir(root.path().join("group-9")).unwrap();
        create(&RealDisk, root.path(), GroupId(0), id(1)).unwrap();
        create(&RealDisk, root.path(), GroupId(2), id(1)).unwrap();
        std::fs::write(root.path().join("group-2/log"), b"kept").unwrap();
        create(&RealDisk, root.path(), GroupId(2), id(1)).unwrap();
        assert!(root.path().join("group-2/log").exists());
        create(&RealDisk, root.path(), GroupId(2), id(2)).unwrap();
        let found = replicas(&RealDisk, root.path()).unwrap();
        assert_eq!(found, BTreeMap::from([(GroupId(0), id(1)), (GroupId(2), id(2))]));
        assert!(root.path().join("old-group-2-1/log").exists());
        assert!(!root.path().join("group-2/log").exists());
    }
}
