//! Files and directories at one moment.
//!
//! Nodes have numbers, so that a file keeps its identity when its name changes, as it does for whoever has it open.
//! Copies share contents and directories until one of them changes.

use super::{
    content::Content,
    history::{Change, NodeKind},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

/// A file or directory, whatever its name. Never used twice on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub(super) u64);

pub(super) const ROOT: NodeId = NodeId(0);

pub(super) type Names = BTreeMap<Arc<str>, NodeId>;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Arc<Content>),
    Dir(Arc<Names>),
}

/// A whole disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DiskImage {
    nodes: BTreeMap<NodeId, Node>,
}

impl Default for DiskImage {
    /// Nothing but the root directory.
    fn default() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Dir(Arc::default()))]) }
    }
}

/// Two images are equal if the same paths lead to the same bytes.
impl PartialEq for DiskImage {
    fn eq(&self, other: &Self) -> bool {
        self.tree() == other.tree()
    }
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// Names from the root on. A relative path begins at the root as well.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or_else(|| errno(libc::EINVAL))?),
            Component::ParentDir | Component::Prefix(_) => return Err(errno(libc::EINVAL)),
        }
    }
    Ok(names)
}

impl DiskImage {
    /// Bytes of a file.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let content = self.file(self.find(path).ok()?)?;
        Some(all(content))
    }

    /// The number under which events speak of what is at a path.
    pub fn node(&self, path: &Path) -> Option<NodeId> {
        self.find(path).ok()
    }

    /// Paths of all files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.tree().into_iter().filter(|(_, bytes)| bytes.is_some()).map(|(path, _)| path).collect()
    }

    /// Every path with the bytes of its file, `None` for a directory.
    fn tree(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut tree = BTreeMap::new();
        let mut waiting = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = waiting.pop() {
            match &self.nodes[&id] {
                Node::File(content) => drop(tree.insert(path, Some(all(content)))),
                Node::Dir(names) => {
                    waiting.extend(names.iter().map(|(name, id)| (path.join(&**name), *id)));
                    tree.insert(path, None);
                }
            }
        }
        tree
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        self.walk(names(path)?)
    }

    /// The directory in which a path's last name is or would be, and that name.
    pub(super) fn parent<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a str)> {
        let mut names = names(path)?;
        let name = names.pop().ok_or_else(|| errno(libc::EINVAL))?;
        let dir = self.walk(names)?;
        self.names(dir)?;
        Ok((dir, name))
    }

    fn walk(&self, names: Vec<&str>) -> io::Result<NodeId> {
        let mut id = ROOT;
        for name in names {
            id = *self.names(id)?.get(name).ok_or_else(|| errno(libc::ENOENT))?;
        }
        Ok(id)
    }

    /// Names in a directory.
    pub(super) fn names(&self, id: NodeId) -> io::Result<&Names> {
        match self.nodes.get(&id) {
            Some(Node::Dir(names)) => Ok(names),
            Some(Node::File(_)) => Err(errno(libc::ENOTDIR)),
            None => Err(errno(libc::ENOENT)),
        }
    }

    pub(super) fn kind(&self, id: NodeId) -> NodeKind {
        match self.nodes.get(&id) {
            Some(Node::Dir(_)) => NodeKind::Dir,
            Some(Node::File(_)) | None => NodeKind::File,
        }
    }

    pub(super) fn file(&self, id: NodeId) -> Option<&Content> {
        match self.nodes.get(&id) {
            Some(Node::File(content)) => Some(content),
            Some(Node::Dir(_)) | None => None,
        }
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, node))
    }

    pub(super) fn next_id(&self) -> u64 {
        self.nodes.keys().next_back().map_or(0, |last| last.0) + 1
    }

    pub(super) fn remove(&mut self, id: NodeId) {
        self.nodes.remove(&id);
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { file, .. } | Change::Truncate { file, .. } | Change::Punch { file, .. } => {
                self.content_mut(*file).apply(change);
            }
            Change::Link { dir, name, node, kind } => {
                self.nodes.entry(*node).or_insert_with(|| Node::new(*kind));
                self.names_mut(*dir).insert(Arc::clone(name), *node);
            }
            Change::Unlink { dir, name } => drop(self.names_mut(*dir).remove(name)),
        }
    }

    pub(super) fn write(&mut self, file: NodeId, offset: u64, bytes: &Bytes) {
        self.content_mut(file).write(offset, bytes);
    }

    /// A file whose data is durable before its name is begins here.
    fn content_mut(&mut self, id: NodeId) -> &mut Content {
        match self.nodes.entry(id).or_insert_with(|| Node::new(NodeKind::File)) {
            Node::File(content) => Arc::make_mut(content),
            Node::Dir(_) => panic!("a directory has no bytes to change"),
        }
    }

    fn names_mut(&mut self, id: NodeId) -> &mut Names {
        match self.nodes.entry(id).or_insert_with(|| Node::new(NodeKind::Dir)) {
            Node::Dir(names) => Arc::make_mut(names),
            Node::File(_) => panic!("a file has no names in it"),
        }
    }

    /// Only what a path leads to. A directory that a power cut left with two names keeps one of them: no file
    /// system shows a directory in two places, or inside itself.
    pub(super) fn reachable(&self) -> Self {
        let mut nodes = BTreeMap::new();
        let mut dirs = BTreeSet::from([ROOT]);
        let mut waiting = vec![ROOT];
        while let Some(id) = waiting.pop() {
            let Some(mut node) = self.nodes.get(&id).cloned() else { continue };
            if let Node::Dir(names) = &mut node {
                let again: Vec<Arc<str>> = names
                    .iter()
                    .filter(|(_, id)| self.kind(**id) == NodeKind::Dir && !dirs.insert(**id))
                    .map(|(name, _)| Arc::clone(name))
                    .collect();
                for name in again {
                    Arc::make_mut(names).remove(&name);
                }
                waiting.extend(names.values());
            }
            nodes.insert(id, node);
        }
        Self { nodes }
    }
}

impl Node {
    fn new(kind: NodeKind) -> Self {
        match kind {
            NodeKind::File => Self::File(Arc::default()),
            NodeKind::Dir => Self::Dir(Arc::default()),
        }
    }
}

fn all(content: &Content) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(content.len()).expect("a simulated file fits the address space")];
    content.read(&mut bytes, 0);
    bytes
}
