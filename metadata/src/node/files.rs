//! Files of a metadata directory: which replicas it holds, which it has held, and the last map.

use crate::encoding::{decode, encode};
use ashlar_placement::ClusterMap;
use ashlar_runtime::{Disk, OpenMode};
use ashlar_types::{GroupId, ReplicaId};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

const PREFIX: &str = "group-";
const ID_FILE: &str = "replica.id";
const RETIRED_PREFIX: &str = "retired-";
const MAP_FILE: &str = "map";

pub(super) fn dir(root: &Path, group: GroupId) -> PathBuf {
    root.join(format!("{PREFIX}{group}"))
}

/// The replicas there are. Directories without an id are remains of a crash: nothing had begun in them.
pub(super) fn replicas(disk: &dyn Disk, root: &Path) -> io::Result<BTreeMap<GroupId, ReplicaId>> {
    let mut found = BTreeMap::new();
    for name in disk.list_dir(root)? {
        let Some(group) = name.strip_prefix(PREFIX).and_then(|number| number.parse().ok()) else { continue };
        if let Some(id) = read_id(disk, &root.join(&name).join(ID_FILE))? {
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
    match read_id(disk, &dir.join(ID_FILE))? {
        Some(found) if found == id => return Ok(()),
        Some(older) => {
            set_aside(disk, root, group, older)?;
            disk.create_dir_all(&dir)?;
        }
        None => {}
    }
    write_whole(disk, &dir, ID_FILE, &encode(&id))?;
    disk.sync_dir(root)
}

/// Sets the files of a replica aside that is not a member of its group any more, and remembers that it was one. Nothing
/// to do if they are gone.
pub(super) fn retire(disk: &dyn Disk, root: &Path, group: GroupId, id: ReplicaId) -> io::Result<()> {
    if retired(disk, root, group)?.is_none_or(|known| known < id) {
        write_whole(disk, root, &format!("{RETIRED_PREFIX}{group}"), &encode(&id))?;
    }
    match disk.list_dir(&dir(root, group)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            set_aside(disk, root, group, id)?;
            disk.sync_dir(root)
        }
    }
}

/// The last replica of a group that was retired here: it and older ones are never made again.
pub(super) fn retired(disk: &dyn Disk, root: &Path, group: GroupId) -> io::Result<Option<ReplicaId>> {
    read_id(disk, &root.join(format!("{RETIRED_PREFIX}{group}")))
}

/// In the place of the one that was set aside before.
fn set_aside(disk: &dyn Disk, root: &Path, group: GroupId, id: ReplicaId) -> io::Result<()> {
    let aside = |id: ReplicaId| root.join(format!("old-{PREFIX}{group}-{}", id.incarnation));
    let before = format!("old-{PREFIX}{group}-");
    for name in disk.list_dir(root)?.iter().filter(|name| name.starts_with(&before)) {
        disk.remove_tree(&root.join(name))?;
    }
    disk.rename(&dir(root, group), &aside(id))
}

/// The newest map known, for a node that cannot ask its replica of group 0.
pub(super) fn save_map(disk: &dyn Disk, root: &Path, map: &ClusterMap) -> io::Result<()> {
    write_whole(disk, root, MAP_FILE, &encode(map))
}

/// `None` also if the file cannot be read: others are asked for the map then.
pub(super) fn load_map(disk: &dyn Disk, root: &Path) -> Option<ClusterMap> {
    decode(&read(disk, &root.join(MAP_FILE)).ok()??).ok()
}

/// Marks the tables of a replica as not to be used: until `unmark`, also after a crash.
pub(super) fn mark(disk: &dyn Disk, root: &Path, group: GroupId, mark: Mark) -> io::Result<()> {
    write_whole(disk, &dir(root, group), mark.file(), &[])
}

pub(super) fn unmark(disk: &dyn Disk, root: &Path, group: GroupId, mark: Mark) -> io::Result<()> {
    let dir = dir(root, group);
    match disk.unlink(&dir.join(mark.file())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        unlinked => unlinked.and_then(|()| disk.sync_dir(&dir)),
    }
}

pub(super) fn is_marked(disk: &dyn Disk, root: &Path, group: GroupId, mark: Mark) -> io::Result<bool> {
    Ok(read(disk, &dir(root, group).join(mark.file()))?.is_some())
}

/// What is wrong with the tables of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// They are to be replaced by those of another replica.
    Reinstall,
    /// No majority of the group agrees on them.
    Frozen,
}

impl Mark {
    fn file(self) -> &'static str {
        match self {
            Self::Reinstall => "reinstall",
            Self::Frozen => "frozen",
        }
    }
}

/// A small file, durably and as a whole.
fn write_whole(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let file = disk.open(&new, OpenMode::Create)?;
    file.truncate(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&new, &dir.join(name))?;
    disk.sync_dir(dir)
}

fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

fn read_id(disk: &dyn Disk, path: &Path) -> io::Result<Option<ReplicaId>> {
    let bytes = read(disk, path)?;
    let id = bytes.map(|bytes| decode(&bytes)).transpose();
    id.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
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
        std::fs::write(root.path().join("group-2/kv"), b"kept").unwrap();
        create(&RealDisk, root.path(), GroupId(2), id(1)).unwrap();
        assert!(root.path().join("group-2/kv").exists());
        create(&RealDisk, root.path(), GroupId(2), id(2)).unwrap();
        let found = replicas(&RealDisk, root.path()).unwrap();
        assert_eq!(found, BTreeMap::from([(GroupId(0), id(1)), (GroupId(2), id(2))]));
        assert!(root.path().join("old-group-2-1/kv").exists());
        assert!(!root.path().join("group-2/kv").exists());
    }

    #[test]
    fn a_retired_replica_is_remembered_and_only_the_last_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let id = |incarnation| ReplicaId { node: NodeId(3), incarnation: Incarnation(incarnation) };
        for incarnation in [4, 9] {
            create(&RealDisk, root.path(), GroupId(2), id(incarnation)).unwrap();
            retire(&RealDisk, root.path(), GroupId(2), id(incarnation)).unwrap();
            retire(&RealDisk, root.path(), GroupId(2), id(incarnation)).unwrap();
            assert_eq!(retired(&RealDisk, root.path(), GroupId(2)).unwrap(), Some(id(incarnation)));
            assert!(replicas(&RealDisk, root.path()).unwrap().is_empty());
        }
        assert!(root.path().join("old-group-2-9/replica.id").exists());
        assert!(!root.path().join("old-group-2-4").exists());
        assert_eq!(retired(&RealDisk, root.path(), GroupId(22)).unwrap(), None);
    }

    #[test]
    fn marks_stay_until_they_are_taken_away() {
        let root = tempfile::tempdir().unwrap();
        let (disk, root, group) = (&RealDisk, root.path(), GroupId(1));
        create(disk, root, group, ReplicaId { node: NodeId(1), incarnation: Incarnation(1) }).unwrap();
        for wrong in [Mark::Reinstall, Mark::Frozen] {
            assert!(!is_marked(disk, root, group, wrong).unwrap());
            mark(disk, root, group, wrong).unwrap();
            assert!(is_marked(disk, root, group, wrong).unwrap());
            unmark(disk, root, group, wrong).unwrap();
            unmark(disk, root, group, wrong).unwrap();
            assert!(!is_marked(disk, root, group, wrong).unwrap());
        }
    }

    #[test]
    fn a_map_that_cannot_be_read_is_none() {
        let root = tempfile::tempdir().unwrap();
        assert!(load_map(&RealDisk, root.path()).is_none());
        std::fs::write(root.path().join("map"), b"torn").unwrap();
        assert!(load_map(&RealDisk, root.path()).is_none());
    }
}
