//! A drive opened without its store, to be looked at: for the operator's `drive inspect` and for tests.
//!
//! Reads only. Holds the lock, so that no store works on the drive meanwhile.

use crate::{
    DriveIdentity,
    drive::Drive,
    error::{OpenError, StoreError},
    format::SegmentKind,
    layout, listing,
    recovery::{self, Opening, RecoveryReport},
    scrub::{self, CorruptUnit, ScrubPage},
    segment_file::Access,
    store::{DriveUsage, UnitRead},
    tables::Use,
};
use ashlar_runtime::{Disk, RealClock, RealRng};
use ashlar_types::{ShardId, ShardStat};
use std::{ops::Range, path::Path, sync::Arc};

#[derive(Debug)]
pub struct OfflineDrive {
    drive: Drive,
    superblock: SuperblockReport,
}

/// What the superblock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuperblockReport {
    pub identity: DriveIdentity,
    pub format_version: u32,
    pub generation: u64,
    pub segment_bytes: u64,
    /// Number of the newest checkpoint; 0 before the first.
    pub checkpoint: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentUse {
    Spare,
    Open,
    Sealed,
    /// What an interrupted preparation left.
    Junk,
}

/// One segment of the drive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    pub id: u64,
    /// `log` or `extents`.
    pub kind: &'static str,
    pub using: SegmentUse,
    pub written: u64,
    pub live: u64,
    pub dead: u64,
    /// Bytes that the file takes on the device.
    pub allocated: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    pub shards: u64,
    pub shards_total: u64,
    pub bytes: u64,
}

/// What verifying all live units found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub shards: u64,
    pub units: u64,
    pub bytes: u64,
    pub corrupt: Vec<CorruptUnit>,
    /// Shards that the device would not read.
    pub unreadable: Vec<ShardId>,
}

impl OfflineDrive {
    /// Reads checkpoint and log as a store would, and leaves everything as it is. Blocks.
    pub fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, OpenError> {
        let superblock = layout::read_superblock(disk.as_ref(), dir)?
            .ok_or_else(|| OpenError::NotFormatted { dir: dir.to_owned() })?;
        let opening = Opening {
            disk: Arc::clone(disk),
            clock: Arc::new(RealClock::new()),
            rng: Arc::new(RealRng),
            dir: dir.to_owned(),
            expect: None,
            capacity: None,
            flush: false,
        };
        let (drive, _) = recovery::open(opening)?;
        let superblock = SuperblockReport {
            identity: superblock.identity,
            format_version: crate::format::FORMAT_VERSION,
            generation: superblock.generation,
            segment_bytes: superblock.segment_bytes,
            checkpoint: superblock.checkpoint,
        };
        Ok(Self { drive, superblock })
    }

    pub fn identity(&self) -> DriveIdentity {
        self.superblock.identity
    }

    pub fn superblock(&self) -> SuperblockReport {
        self.superblock
    }

    pub fn recovery(&self) -> &RecoveryReport {
        &self.drive.report
    }

    /// With the size of the device as capacity: what the drive may use is in the configuration of its node.
    pub fn usage(&self) -> DriveUsage {
        self.drive.usage()
    }

    /// All shards, in order.
    pub fn ids(&self) -> Vec<ShardId> {
        listing::ids(&self.drive, None, usize::MAX)
    }

    /// Shards that were found damaged when the log was read, now or at an earlier opening.
    pub fn damaged(&self) -> Vec<ShardId> {
        listing::damaged(&self.drive)
    }

    /// What the shard says of itself.
    pub fn stat(&self, shard: ShardId) -> Result<Option<ShardStat>, StoreError> {
        match self.drive.read_stat(shard) {
            Ok(stat) => Ok(Some(stat)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads consecutive units, all of them verified.
    pub fn read(&self, shard: ShardId, units: Range<u32>) -> Result<Vec<UnitRead>, StoreError> {
        self.drive.read_units(shard, units, Access::Any)?.ok_or(StoreError::NotFound)
    }

    pub fn segments(&self) -> Vec<SegmentReport> {
        self.drive.read_tables(|tables| {
            let report = |segment: &crate::tables::Segment| SegmentReport {
                id: segment.file.id.0,
                kind: match segment.kind {
                    SegmentKind::Log => "log",
                    SegmentKind::Extents => "extents",
                },
                using: match segment.using {
                    Use::Spare => SegmentUse::Spare,
                    Use::Open => SegmentUse::Open,
                    Use::Sealed => SegmentUse::Sealed,
                    Use::Junk => SegmentUse::Junk,
                },
                written: segment.written,
                live: segment.live,
                dead: segment.dead(),
                allocated: segment.allocated,
            };
            tables.segments.values().map(report).collect()
        })
    }

    /// Reads and verifies every live unit.
    pub fn verify(&self, progress: &mut dyn FnMut(VerifyProgress)) -> VerifyReport {
        let ids = self.ids();
        let mut page = ScrubPage::default();
        for shard in &ids {
            scrub::check(&self.drive, *shard, &mut page);
            progress(VerifyProgress {
                shards: page.shards,
                shards_total: ids.len() as u64,
                bytes: page.bytes,
            });
        }
        VerifyReport {
            shards: page.shards,
            units: page.units,
            bytes: page.bytes,
            corrupt: page.corrupt,
            unreadable: page.unreadable,
        }
    }
}
