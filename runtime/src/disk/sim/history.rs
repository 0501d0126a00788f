//! What happened on a simulated disk, and what a power cut at any moment of it leaves.
//!
//! The model is stricter than any file system: data and length are durable only after a sync of the file, names only
//! after a sync of their directory, and of what is not durable any subset survives. A rename is two changes, which
//! survive apart. Syncs are barriers for nothing but their own file or directory.

use super::{
    SimDisk,
    image::{DiskImage, NodeId},
    random::Random,
    torn,
};
use bytes::Bytes;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Dir,
}

#[derive(Clone, Debug)]
pub enum Change {
    Write {
        file: NodeId,
        offset: u64,
        bytes: Bytes,
    },
    Truncate {
        file: NodeId,
        len: u64,
    },
    Punch {
        file: NodeId,
        offset: u64,
        len: u64,
    },
    /// A name for a new node or, in a rename, another one for an old node.
    Link {
        dir: NodeId,
        name: Arc<str>,
        node: NodeId,
        kind: NodeKind,
    },
    Unlink {
        dir: NodeId,
        name: Arc<str>,
    },
}

#[derive(Clone, Debug)]
pub enum Event {
    Change(Change),
    SyncFile(NodeId),
    SyncDir(NodeId),
    /// A sync failed: what was not durable of this file or directory never will be, though it is still visible and a
    /// later sync succeeds.
    Lost(NodeId),
    /// What the test says about this moment.
    Note(u64),
}

/// Which of the changes that are not durable survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    None,
    All,
    /// Bit i: the i-th change that is not durable survives whole. Those from the 65th on do not.
    Subset(u64),
    /// A random subset. Each write may be cut at sectors of 512 bytes or 4 KiB; where it is cut there are zeros, the
    /// old bytes or garbage.
    Random {
        seed: u64,
    },
}

/// All that happened on a disk since an image of which everything was durable.
#[derive(Clone, Debug)]
pub struct History {
    pub base: DiskImage,
    pub events: Vec<Event>,
}

impl Change {
    /// The file or directory whose sync makes this durable.
    pub fn target(&self) -> NodeId {
        match self {
            Self::Write { file, .. } | Self::Truncate { file, .. } | Self::Punch { file, .. } => *file,
            Self::Link { dir, .. } | Self::Unlink { dir, .. } => *dir,
        }
    }
}

impl History {
    /// Power cut after `events[..end]`. To try many moments, walk [`Self::crashes`].
    pub fn crash(&self, end: usize, survivors: Survivors) -> DiskImage {
        self.crashes_from(end).crash(survivors)
    }

    /// How many changes of `events[..end]` are not durable.
    pub fn unsynced(&self, end: usize) -> usize {
        self.crashes_from(end).unsynced()
    }

    /// The process is killed after `events[..end]`: everything stays visible, not all of it durable, and the history
    /// goes on with its events kept.
    pub fn kill(&self, end: usize) -> SimDisk {
        let visible = self.crashes_from(end).visible;
        SimDisk::resume(self.base.clone(), visible.reachable(), self.events[..end].to_vec())
    }

    /// All moments at which the power can be cut, from before the first event on.
    pub fn crashes(&self) -> CrashCursor<'_> {
        CrashCursor::new(&self.base, &self.events)
    }

    fn crashes_from(&self, end: usize) -> CrashCursor<'_> {
        let mut cursor = self.crashes();
        cursor.advance_to(end);
        cursor
    }
}

/// One moment in a history. A step costs what its event changes, so that walking all moments costs no more than one
/// replay.
#[derive(Clone, Debug)]
pub struct CrashCursor<'h> {
    events: &'h [Event],
    position: usize,
    durable: DiskImage,
    visible: DiskImage,
    /// Not durable yet, in their order.
    pending: Vec<&'h Change>,
}

impl<'h> CrashCursor<'h> {
    pub(super) fn new(base: &DiskImage, events: &'h [Event]) -> Self {
        Self { events, position: 0, durable: base.clone(), visible: base.clone(), pending: Vec::new() }
    }

    /// Number of events that have happened.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Lets the next event happen and tells it; `None` at the end of the history.
    pub fn advance(&mut self) -> Option<&'h Event> {
        let event = self.events.get(self.position)?;
        self.position += 1;
        match event {
            Event::Change(change) => {
                self.visible.apply(change);
                self.pending.push(change);
            }
            Event::SyncFile(synced) | Event::SyncDir(synced) => {
                let durable = &mut self.durable;
                self.pending.retain(|change| {
                    let settled = change.target() == *synced;
                    if settled {
                        durable.apply(change);
                    }
                    !settled
                });
            }
            Event::Lost(lost) => self.pending.retain(|change| change.target() != *lost),
            Event::Note(_) => {}
        }
        Some(event)
    }

    /// Goes on until `end` events have happened.
    pub fn advance_to(&mut self, end: usize) {
        assert!(self.position <= end && end <= self.events.len(), "a moment ahead, within the history");
        while self.position < end {
            self.advance();
        }
    }

    /// How many changes are not durable.
    pub fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// Those changes, in the order that [`Survivors::Subset`] numbers them.
    pub fn pending(&self) -> &[&'h Change] {
        &self.pending
    }

    /// What a power cut now leaves.
    pub fn crash(&self, survivors: Survivors) -> DiskImage {
        let mut image = self.durable.clone();
        match survivors {
            Survivors::None => {}
            Survivors::All => self.pending.iter().for_each(|change| image.apply(change)),
            Survivors::Subset(bits) => {
                let chosen = self.pending.iter().take(64).enumerate().filter(|(i, _)| bits >> i & 1 == 1);
                chosen.for_each(|(_, change)| image.apply(change));
            }
            Survivors::Random { seed } => survive(&mut image, &self.pending, &mut Random::new(seed)),
        }
        image.reachable()
    }

    /// The process is killed now. In contrast to [`History::kill`], what is durable is the beginning of a new
    /// history, whose first events are the changes that are not; notes are gone.
    pub fn kill(&self) -> SimDisk {
        let (base, visible, events) = self.clone().into_present();
        SimDisk::resume(base, visible.reachable(), events)
    }

    /// What is durable, what is visible, and the changes that make the difference.
    pub(super) fn into_present(self) -> (DiskImage, DiskImage, Vec<Event>) {
        let events = self.pending.iter().map(|change| Event::Change((*change).clone())).collect();
        (self.durable, self.visible, events)
    }
}

fn survive(image: &mut DiskImage, pending: &[&Change], random: &mut Random) {
    // Not always a half: a single survivor and a single loss are the telling cases.
    let survive_eighths = [1, 4, 4, 7][random.index(4)];
    let tear_eighths = [0, 4, 8][random.index(3)];
    for change in pending {
        if random.index(8) >= survive_eighths {
            continue;
        }
        match change {
            Change::Write { file, offset, bytes } if random.index(8) < tear_eighths => {
                torn::write(*offset, bytes, random, |offset, bytes| image.write(*file, offset, bytes));
            }
            Change::Write { .. }
            | Change::Truncate { .. }
            | Change::Punch { .. }
            | Change::Link { .. }
            | Change::Unlink { .. } => image.apply(change),
        }
    }
}
