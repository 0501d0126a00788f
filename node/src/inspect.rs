//! What `ashlar drive inspect` tells of a drive: read from the directory alone, without a node.
//!
//! Owns the words and the judgement: what is damage, what is a remark, and what to do about either.

use ashlar_runtime::Clock;
use ashlar_storage::{OfflineDrive, RecoveryReport, SegmentUse, VerifyProgress, VerifyReport};
use ashlar_types::ShardId;
use serde::Serialize;
use std::{path::Path, time::Duration};

/// Everything, as `--json` prints it. Ids are text, lengths are bytes, times are microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    pub dir: String,
    pub cluster: String,
    pub drive: String,
    pub format_version: u32,
    pub segment_bytes: u64,
    /// Of the superblock.
    pub generation: u64,
    /// That the superblock names; 0 before the first.
    pub checkpoint: u64,
    pub recovery: Recovery,
    pub shards: u64,
    pub live_bytes: u64,
    pub dead_bytes: u64,
    /// Shards that are known to be damaged, now or since an earlier opening, and were not put again.
    pub damaged_shards: Vec<String>,
    pub segments: Vec<Segment>,
    /// Without `--verify` nothing.
    pub verified: Option<Verified>,
    /// No damage was found.
    pub sound: bool,
    /// What is wrong, and what to do.
    pub damage: Vec<String>,
    /// What is worth knowing and harmless.
    pub remarks: Vec<String>,
}

/// What bringing the index up to date found.
#[derive(Clone, Debug, Serialize)]
pub struct Recovery {
    pub took_us: u64,
    /// The checkpoint it began with.
    pub checkpoint: Option<u64>,
    pub replayed_records: u64,
    pub replayed_bytes: u64,
    pub torn_tail: bool,
    pub damaged: Vec<Region>,
    pub lost: Vec<String>,
    pub rebuilt: bool,
}

/// Bytes of a log segment that do not verify.
#[derive(Clone, Debug, Serialize)]
pub struct Region {
    pub segment: String,
    pub offset: u64,
    pub len: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// As in its file's name.
    pub id: String,
    /// `log` or `extents`.
    pub kind: &'static str,
    /// `spare`, `open`, `sealed` or `junk`.
    #[serde(rename = "use")]
    pub using: &'static str,
    pub written_bytes: u64,
    pub live_bytes: u64,
    pub dead_bytes: u64,
    /// That the file takes on the device.
    pub allocated_bytes: u64,
}

/// What reading every live unit found.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    pub took_us: u64,
    pub shards: u64,
    pub units: u64,
    pub bytes: u64,
    pub corrupt: Vec<Corrupt>,
    /// Shards that the device would not read.
    pub unreadable: Vec<String>,
}

/// A unit that does not verify; with unit 0 and no key perhaps the shard's description.
#[derive(Clone, Debug, Serialize)]
pub struct Corrupt {
    pub shard: String,
    pub unit: u32,
    /// Whose bytes they are, if the shard can still say so.
    pub bucket: Option<u64>,
    pub key: Option<String>,
}

/// Segments of one kind and use, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: u64,
    pub written_bytes: u64,
    pub live_bytes: u64,
    pub dead_bytes: u64,
    pub allocated_bytes: u64,
}

impl Inspection {
    /// Looks at what opening the drive brought to light; reads no payload.
    pub fn of(drive: &OfflineDrive, dir: &Path) -> Self {
        let (superblock, usage) = (drive.superblock(), drive.usage());
        let segments = drive.segments().into_iter().map(|segment| Segment {
            id: segment_name(segment.id),
            kind: segment.kind,
            using: match segment.using {
                SegmentUse::Spare => "spare",
                SegmentUse::Open => "open",
                SegmentUse::Sealed => "sealed",
                SegmentUse::Junk => "junk",
            },
            written_bytes: segment.written,
            live_bytes: segment.live,
            dead_bytes: segment.dead,
            allocated_bytes: segment.allocated,
        });
        let mut inspection = Self {
            dir: dir.display().to_string(),
            cluster: superblock.identity.cluster.to_string(),
            drive: superblock.identity.drive.to_string(),
            format_version: superblock.format_version,
            segment_bytes: superblock.segment_bytes,
            generation: superblock.generation,
            checkpoint: superblock.checkpoint,
            recovery: Recovery::of(drive.recovery()),
            shards: usage.shards,
            live_bytes: usage.live,
            dead_bytes: usage.dead,
            damaged_shards: drive.damaged().iter().map(ShardId::to_string).collect(),
            segments: segments.collect(),
            verified: None,
            sound: true,
            damage: Vec::new(),
            remarks: Vec::new(),
        };
        inspection.judge();
        inspection
    }

    /// Reads every live unit as well. Blocks for as long as the device takes to read them.
    pub fn verify(
        &mut self,
        drive: &OfflineDrive,
        clock: &dyn Clock,
        progress: &mut dyn FnMut(VerifyProgress),
    ) {
        let began = clock.monotonic();
        let report = drive.verify(progress);
        let took = clock.monotonic().saturating_sub(began);
        self.verified = Some(Verified::of(drive, report, took));
        self.judge();
    }

    /// Segments by kind and use, in the order of a segment's life.
    pub fn tallies(&self) -> Vec<(&'static str, &'static str, Tally)> {
        let mut tallies: Vec<(&'static str, &'static str, Tally)> = Vec::new();
        for kind in ["log", "extents"] {
            for using in ["spare", "open", "sealed", "junk"] {
                let mut tally = Tally::default();
                for segment in self.segments.iter().filter(|it| it.kind == kind && it.using == using) {
                    tally.count += 1;
                    tally.written_bytes += segment.written_bytes;
                    tally.live_bytes += segment.live_bytes;
                    tally.dead_bytes += segment.dead_bytes;
                    tally.allocated_bytes += segment.allocated_bytes;
                }
                if tally.count > 0 {
                    tallies.push((kind, using, tally));
                }
            }
        }
        tallies
    }

    fn judge(&mut self) {
        self.damage = self.find_damage();
        self.remarks = self.find_remarks();
        self.sound = self.damage.is_empty();
    }

    fn find_damage(&self) -> Vec<String> {
        let mut damage = Vec::new();
        let recovery = &self.recovery;
        if recovery.rebuilt {
            damage.push(
                "no checkpoint of the index verifies; it was made again from the whole log, and shards that were \
                 deleted long ago may be listed again: check the device; nothing that is live is lost by it"
                    .into(),
            );
        } else if recovery.checkpoint.unwrap_or(0) < self.checkpoint {
            damage.push(format!(
                "checkpoint {} of the index does not verify; an older one and the log gave the same index: check the \
                 device; the next checkpoint replaces it",
                self.checkpoint
            ));
        }
        if !recovery.damaged.is_empty() {
            let bytes: u64 = recovery.damaged.iter().map(|region| region.len).sum();
            damage.push(format!(
                "{bytes} bytes of the log in {} do not verify, though the log goes on behind them: check the device; \
                 shards and deletes written there are lost on this drive",
                count(recovery.damaged.len(), "place")
            ));
        }
        if !self.damaged_shards.is_empty() {
            damage.push(format!(
                "{} acknowledged once and lost on this drive: reads get them from the other drives of their placement \
                 groups; replace the drive if its device reports errors",
                count(self.damaged_shards.len(), "shard")
            ));
        }
        let Some(verified) = &self.verified else { return damage };
        if !verified.corrupt.is_empty() {
            damage.push(format!(
                "{} with bytes that do not verify: reads get them from other drives; see with `ashlar explain` how \
                 many losses the objects still survive, and replace the drive if its device reports errors",
                count(verified.corrupt.len(), "shard")
            ));
        }
        if !verified.unreadable.is_empty() {
            damage.push(format!(
                "{} that the device does not read: replace the drive; reads get them from other drives until then",
                count(verified.unreadable.len(), "shard")
            ));
        }
        damage
    }

    fn find_remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.recovery.torn_tail {
            remarks.push(
                "the log ends in a batch that was cut off while it was written and never acknowledged; the next \
                 one takes its place"
                    .into(),
            );
        }
        let junk = self.segments.iter().filter(|segment| segment.using == "junk").count();
        if junk > 0 {
            remarks.push(format!(
                "{} left by an interrupted preparation; a node that has the drive open removes what is left",
                count(junk, "file")
            ));
        }
        remarks
    }
}

impl Recovery {
    fn of(report: &RecoveryReport) -> Self {
        let region = |region: &ashlar_storage::DamagedRegion| Region {
            segment: segment_name(region.segment),
            offset: region.offset,
            len: region.len,
        };
        Self {
            took_us: micros(report.took),
            checkpoint: report.checkpoint,
            replayed_records: report.replayed_records,
            replayed_bytes: report.replayed_bytes,
            torn_tail: report.torn_tail,
            damaged: report.damaged.iter().map(region).collect(),
            lost: report.lost.iter().map(ShardId::to_string).collect(),
            rebuilt: report.rebuilt,
        }
    }
}

impl Verified {
    fn of(drive: &OfflineDrive, report: VerifyReport, took: Duration) -> Self {
        let corrupt = |corrupt: &ashlar_storage::CorruptUnit| {
            // A description that does not verify says nothing; the shard's id is what is left.
            let meta = drive.stat(corrupt.shard).ok().flatten().map(|stat| stat.meta);
            Corrupt {
                shard: corrupt.shard.to_string(),
                unit: corrupt.unit,
                bucket: meta.as_ref().map(|meta| meta.bucket.0),
                key: meta.map(|meta| meta.key.to_string()),
            }
        };
        Self {
            took_us: micros(took),
            shards: report.shards,
            units: report.units,
            bytes: report.bytes,
            corrupt: report.corrupt.iter().map(corrupt).collect(),
            unreadable: report.unreadable.iter().map(ShardId::to_string).collect(),
        }
    }
}

fn segment_name(id: u64) -> String {
    format!("{id:016x}")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// "1 shard", "2 shards".
fn count(n: usize, of: &str) -> String {
    format!("{n} {of}{}", if n == 1 { "" } else { "s" })
}
