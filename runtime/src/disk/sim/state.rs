//! What a simulated disk knows at one moment; all under one lock.
//!
//! Owns the visible image, the history that led to it, and who has what open. Invariants: `used` is what the files of
//! `now` occupy; a file of `now` has a name or is open; `now` is `base` with all changes of `events` applied, but for
//! what a resumed disk brought along.

use super::{
    content::{LONGEST, PAGE},
    history::{Change, Event},
    image::{DiskImage, Node, NodeId},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

/// What `read_cached_at` of buffered files finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimCache {
    /// Pages that were read or written through a buffered handle and not since through a direct one.
    Tracked,
    Everything,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DirectIo {
    Allowed,
    Refused,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) base: DiskImage,
    pub(super) now: DiskImage,
    pub(super) events: Vec<Event>,
    pub(super) locks: BTreeSet<NodeId>,
    pub(super) direct_io: DirectIo,
    pub(super) cache: SimCache,
    pub(super) capacity: u64,
    pub(super) used: u64,
    pub(super) device: u64,
    next_id: u64,
    users: BTreeMap<NodeId, Users>,
    cached: BTreeMap<NodeId, BTreeSet<usize>>,
}

/// What keeps a node.
#[derive(Clone, Copy, Debug, Default)]
struct Users {
    names: u32,
    handles: u32,
}

/// Far more than any test writes.
const CAPACITY: u64 = 1 << 40;

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// Refuses what ends beyond the longest file.
pub(super) fn check_end(offset: u64, len: u64) -> io::Result<()> {
    if offset.checked_add(len).is_none_or(|end| end > LONGEST) { Err(errno(libc::EFBIG)) } else { Ok(()) }
}

impl State {
    pub(super) fn new(base: DiskImage, now: DiskImage, events: Vec<Event>) -> Self {
        let mut users: BTreeMap<NodeId, Users> = BTreeMap::new();
        let mut used = 0;
        for (_, node) in now.nodes() {
            match node {
                Node::File(content) => used += content.allocated_bytes(),
                Node::Dir(names) => names.values().for_each(|id| users.entry(*id).or_default().names += 1),
            }
        }
        // A node that is gone may still be in the events: its number must not come back.
        let in_events = events.iter().filter_map(|event| match event {
            Event::Change(Change::Link { node, .. }) => Some(node.0 + 1),
            Event::Change(change) => Some(change.target().0 + 1),
            Event::SyncFile(id) | Event::SyncDir(id) | Event::Lost(id) => Some(id.0 + 1),
            Event::Note(_) => None,
        });
        let next_id = in_events.chain([now.next_id(), base.next_id()]).max().unwrap_or_default();
        Self {
            base,
            now,
            events,
            locks: BTreeSet::new(),
            direct_io: DirectIo::Allowed,
            cache: SimCache::Tracked,
            capacity: CAPACITY,
            used,
            device: 1,
            next_id,
            users,
            cached: BTreeMap::new(),
        }
    }

    pub(super) fn new_id(&mut self) -> NodeId {
        let id = NodeId(self.next_id);
        self.next_id += 1;
        id
    }

    /// Makes a change visible.
    pub(super) fn change(&mut self, change: Change) {
        let target = change.target();
        let before = self.allocated(target);
        let removed = match &change {
            Change::Link { dir, name, node, .. } => {
                self.users.entry(*node).or_default().names += 1;
                self.name(*dir, name)
            }
            Change::Unlink { dir, name } => self.name(*dir, name),
            Change::Write { .. } | Change::Truncate { .. } | Change::Punch { .. } => None,
        };
        self.now.apply(&change);
        self.events.push(Event::Change(change));
        self.used = self.used - before + self.allocated(target);
        if let Some(id) = removed {
            self.users.entry(id).or_default().names -= 1;
            self.forget_unused(id);
        }
    }

    fn name(&self, dir: NodeId, name: &str) -> Option<NodeId> {
        self.now.names(dir).ok()?.get(name).copied()
    }

    fn allocated(&self, id: NodeId) -> u64 {
        self.now.file(id).map_or(0, super::content::Content::allocated_bytes)
    }

    pub(super) fn opened(&mut self, id: NodeId) {
        self.users.entry(id).or_default().handles += 1;
    }

    pub(super) fn closed(&mut self, id: NodeId) {
        self.users.entry(id).or_default().handles -= 1;
        self.forget_unused(id);
    }

    fn forget_unused(&mut self, id: NodeId) {
        if self.users.get(&id).is_some_and(|users| users.names == 0 && users.handles == 0) {
            self.used -= self.allocated(id);
            self.now.remove(id);
            self.users.remove(&id);
            self.cached.remove(&id);
        }
    }

    /// Refuses a write for which there is no space.
    pub(super) fn check_space(&self, file: NodeId, offset: u64, len: usize) -> io::Result<()> {
        let needed = self.now.file(file).map_or(0, |content| content.needed_bytes(offset, len));
        if self.used + needed > self.capacity { Err(errno(libc::ENOSPC)) } else { Ok(()) }
    }

    pub(super) fn is_cached(&self, file: NodeId, offset: u64, len: usize) -> bool {
        match self.cache {
            SimCache::Everything => true,
            SimCache::Nothing => false,
            SimCache::Tracked => {
                let cached = self.cached.get(&file);
                pages(offset, len).all(|page| cached.is_some_and(|cached| cached.contains(&page)))
            }
        }
    }

    pub(super) fn cache(&mut self, file: NodeId, offset: u64, len: usize) {
        if self.cache == SimCache::Tracked {
            self.cached.entry(file).or_default().extend(pages(offset, len));
        }
    }

    /// The range is no longer in memory.
    pub(super) fn evict(&mut self, file: NodeId, offset: u64, len: usize) {
        if let Some(cached) = self.cached.get_mut(&file) {
            let gone = pages(offset, len);
            cached.retain(|page| !gone.contains(page));
        }
    }

    pub(super) fn evict_all(&mut self) {
        self.cached.clear();
    }
}

fn pages(offset: u64, len: usize) -> std::ops::Range<usize> {
    let page = |at: u64| usize::try_from(at / PAGE as u64).unwrap_or(usize::MAX);
    page(offset)..page(offset.saturating_add(len as u64).saturating_add(PAGE as u64 - 1))
}
