//! Faults that a test plans: which call of which kind on which path goes wrong, and how.
//!
//! Silent faults of writes show at once, as if the cache had been dropped right after.

use crate::sync::Mutex;
use std::{path::Path, sync::PoisonError, time::Duration};

/// Kinds of calls that can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// With whatever mode, direct or not.
    Open,
    /// Also one from the cache, if it answers.
    Read,
    Write,
    Truncate,
    Punch,
    SyncFile,
    SyncDir,
    /// Its path is either of the two.
    Rename,
    Unlink,
    CreateDir,
    ListDir,
    Lock,
}

pub(super) const OPERATIONS: usize = Operation::Lock as usize + 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultOn {
    pub operation: Operation,
    /// Empty: any path. A file goes by the path it was opened with.
    pub path_contains: String,
    /// How many such calls are let through before: 0 is the next one.
    pub nth: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A failed write leaves the first half of its sectors; a failed sync leaves all as it was; any other call does
    /// nothing.
    Eio,
    /// As `Eio`, with the error of a full disk.
    Enospc,
    /// A sync fails; what it should have made durable never will be, and the next one succeeds.
    SyncLosesPages,
    /// A write reports success and never happens.
    LostWrite,
    /// A write lands this many bytes further, in the same file.
    Misdirected { by: i64 },
    /// One bit is wrong in what a write stores or a read returns: this one, modulo the length.
    BitFlip { bit: u64 },
    /// A read returns what was there before the last change of the range.
    StaleRead,
    /// A call takes this long.
    Slow(Duration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub on: FaultOn,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recurrence {
    Once,
    Always,
}

#[derive(Debug)]
struct Planned {
    fault: Fault,
    seen: u64,
    recurrence: Recurrence,
}

#[derive(Debug, Default)]
struct Plan {
    planned: Vec<Planned>,
    fired: Vec<Fault>,
}

/// The plan of one disk.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Plan>);

impl FaultKind {
    fn fits(&self, operation: Operation) -> bool {
        use Operation::{Read, SyncDir, SyncFile, Write};
        match self {
            Self::Eio | Self::Enospc | Self::Slow(_) => true,
            Self::SyncLosesPages => matches!(operation, SyncFile | SyncDir),
            Self::LostWrite | Self::Misdirected { .. } => operation == Write,
            Self::BitFlip { .. } => matches!(operation, Read | Write),
            Self::StaleRead => operation == Read,
        }
    }
}

impl Faults {
    /// Happens once. Of two that are due at one call the one planned first happens, the other at the next call.
    ///
    /// # Panics
    /// If this kind of fault cannot happen to this kind of call.
    pub fn inject(&self, fault: Fault) {
        self.plan(fault, Recurrence::Once);
    }

    /// Happens at every call from the nth on, until [`Self::clear`].
    ///
    /// # Panics
    /// If this kind of fault cannot happen to this kind of call.
    pub fn inject_lasting(&self, fault: Fault) {
        self.plan(fault, Recurrence::Always);
    }

    fn plan(&self, fault: Fault, recurrence: Recurrence) {
        assert!(fault.kind.fits(fault.on.operation), "{fault:?} cannot happen");
        self.lock().planned.push(Planned { fault, seen: 0, recurrence });
    }

    /// Forgets what has not happened yet.
    pub fn clear(&self) {
        self.lock().planned.clear();
    }

    /// What has happened, in its order.
    pub fn fired(&self) -> Vec<Fault> {
        self.lock().fired.clone()
    }

    fn lock(&self) -> crate::sync::MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and tells what goes wrong with it.
    pub(super) fn due(&self, operation: Operation, paths: &[&Path]) -> Option<FaultKind> {
        let mut plan = self.lock();
        let mut due = None;
        for (index, planned) in plan.planned.iter_mut().enumerate() {
            let on = &planned.fault.on;
            let concerned = on.operation == operation
                && paths.iter().any(|path| path.to_string_lossy().contains(&on.path_contains));
            if concerned {
                if planned.seen >= on.nth && due.is_none() {
                    due = Some(index);
                }
                planned.seen += 1;
            }
        }
        let index = due?;
        let fault = match plan.planned[index].recurrence {
            Recurrence::Always => plan.planned[index].fault.clone(),
            Recurrence::Once => plan.planned.remove(index).fault,
        };
        plan.fired.push(fault.clone());
        Some(fault.kind)
    }
}
