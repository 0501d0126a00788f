//! Calls that look names up or change them, with the errors that Linux gives.

use super::{
    history::{Change, NodeKind},
    image::{NodeId, ROOT},
    state::{State, errno},
};
use crate::disk::OpenMode;
use std::{io, path::Path, sync::Arc};

/// Finds or makes a file.
pub(super) fn open(state: &mut State, path: &Path, mode: OpenMode) -> io::Result<NodeId> {
    match (state.now.find(path), mode) {
        (Ok(_), OpenMode::CreateNew) => Err(errno(libc::EEXIST)),
        (Ok(id), OpenMode::Read | OpenMode::ReadWrite | OpenMode::Create) => match state.now.kind(id) {
            NodeKind::File => Ok(id),
            NodeKind::Dir => Err(errno(libc::EISDIR)),
        },
        (Err(error), OpenMode::Read | OpenMode::ReadWrite) => Err(error),
        (Err(_), OpenMode::Create | OpenMode::CreateNew) => {
            let (dir, name) = state.now.parent(path)?;
            Ok(make(state, dir, name, NodeKind::File))
        }
    }
}

fn make(state: &mut State, dir: NodeId, name: &str, kind: NodeKind) -> NodeId {
    let node = state.new_id();
    state.change(Change::Link { dir, name: Arc::from(name), node, kind });
    node
}

pub(super) fn create_dir_all(state: &mut State, path: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        match state.now.find(ancestor) {
            Ok(id) => match state.now.kind(id) {
                NodeKind::Dir => break,
                NodeKind::File if missing.is_empty() => return Err(errno(libc::EEXIST)),
                NodeKind::File => return Err(errno(libc::ENOTDIR)),
            },
            Err(_) => missing.push(ancestor),
        }
    }
    for path in missing.into_iter().rev() {
        let (dir, name) = state.now.parent(path)?;
        make(state, dir, name, NodeKind::Dir);
    }
    Ok(())
}

/// Puts the file's new name in place of whatever had it, then takes the old name away.
pub(super) fn rename(state: &mut State, from: &Path, to: &Path) -> io::Result<()> {
    let node = state.now.find(from)?;
    let ((old_dir, old_name), (dir, name)) = (state.now.parent(from)?, state.now.parent(to)?);
    let kind = state.now.kind(node);
    if let Some(target) = state.now.names(dir)?.get(name).copied() {
        if target == node {
            return Ok(());
        }
        match (kind, state.now.kind(target)) {
            (NodeKind::File, NodeKind::File) => {}
            (NodeKind::File, NodeKind::Dir) => return Err(errno(libc::EISDIR)),
            (NodeKind::Dir, NodeKind::File) => return Err(errno(libc::ENOTDIR)),
            (NodeKind::Dir, NodeKind::Dir) if state.now.names(target)?.is_empty() => {}
            (NodeKind::Dir, NodeKind::Dir) => return Err(errno(libc::ENOTEMPTY)),
        }
    }
    if kind == NodeKind::Dir && is_inside(state, dir, node)? {
        return Err(errno(libc::EINVAL));
    }
    state.change(Change::Link { dir, name: Arc::from(name), node, kind });
    state.change(Change::Unlink { dir: old_dir, name: Arc::from(old_name) });
    Ok(())
}

fn is_inside(state: &State, dir: NodeId, tree: NodeId) -> io::Result<bool> {
    let mut waiting = vec![tree];
    while let Some(id) = waiting.pop() {
        if id == dir {
            return Ok(true);
        }
        let below = state.now.names(id)?.values().copied();
        waiting.extend(below.filter(|id| state.now.kind(*id) == NodeKind::Dir));
    }
    Ok(dir == tree || tree == ROOT)
}

pub(super) fn unlink(state: &mut State, path: &Path) -> io::Result<()> {
    let node = state.now.find(path)?;
    if state.now.kind(node) == NodeKind::Dir {
        return Err(errno(libc::EISDIR));
    }
    let (dir, name) = state.now.parent(path)?;
    state.change(Change::Unlink { dir, name: Arc::from(name) });
    Ok(())
}
