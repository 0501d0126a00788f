//! `ashlar drive inspect`: what a drive holds and whether it is sound, from its directory alone.

use super::{print_json, status::size};
use crate::inspect::{Inspection, Tally};
use ashlar_runtime::{Clock, Env};
use ashlar_storage::{OfflineDrive, VerifyProgress};
use clap::{Args, Subcommand};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

const DAMAGED: u8 = 1;
const NOT_OPENED: u8 = 2;
/// Lines of one list; a broken drive must not hide its summary behind thousands of them.
const LISTED_MAX: usize = 50;
/// Between two lines of progress: on a terminal, where each replaces the one before it, and elsewhere.
const PROGRESS_ON_TERMINAL: Duration = Duration::from_millis(250);
const PROGRESS_IN_FILE: Duration = Duration::from_secs(5);

#[derive(Subcommand)]
pub(super) enum Drive {
    /// Superblock, log, segments and space of a drive; changes nothing. Exit code 0: sound, 1: damage was found, 2: it
    /// could not be opened.
    Inspect(Inspect),
}

#[derive(Args)]
pub(super) struct Inspect {
    /// The drive's directory, as in `drives` of the node's configuration. The node must be stopped.
    dir: PathBuf,
    /// Read every live unit and compare it with its checksum.
    #[arg(long)]
    verify: bool,
    /// Print one line for each segment.
    #[arg(long)]
    segments: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Drive {
    /// Blocks.
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Inspect(command) = self;
        command.run()
    }
}

impl Inspect {
    fn run(self) -> anyhow::Result<ExitCode> {
        let env = Env::real();
        let drive = match OfflineDrive::open(&env.disk, &self.dir) {
            Ok(drive) => drive,
            Err(error) => {
                eprintln!("ashlar: {:#}", anyhow::Error::new(error));
                return Ok(ExitCode::from(NOT_OPENED));
            }
        };
        let mut inspection = Inspection::of(&drive, &self.dir);
        if self.verify {
            let mut progress = Progress::new(&env, inspection.live_bytes);
            inspection.verify(&drive, &*env.clock, &mut |done| progress.show(done));
            progress.end();
        }
        if self.json {
            print_json(&inspection)?;
        } else {
            self.print(&inspection);
        }
        Ok(if inspection.sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
    }

    fn print(&self, drive: &Inspection) {
        println!("drive {} of cluster {}", drive.drive, drive.cluster);
        println!(
            "format {}, segments of {}; superblock generation {}, {}",
            drive.format_version,
            size(drive.segment_bytes),
            drive.generation,
            match drive.checkpoint {
                0 => "no checkpoint yet".to_owned(),
                number => format!("checkpoint {number}"),
            }
        );
        let recovery = &drive.recovery;
        println!(
            "opened in {} ms from {}; {} records, {} of log read",
            recovery.took_us.div_ceil(1000),
            match recovery.checkpoint {
                None => "the beginning of the log".to_owned(),
                Some(number) => format!("checkpoint {number}"),
            },
            recovery.replayed_records,
            size(recovery.replayed_bytes)
        );
        println!("{} shards; {} live, {} dead", drive.shards, size(drive.live_bytes), size(drive.dead_bytes));
        println!("\nSEGMENTS          COUNT  WRITTEN     LIVE        DEAD        ON DEVICE   LIVE %");
        for (kind, using, tally) in drive.tallies() {
            println!("{:<17} {:<6} {}", format!("{kind} {using}"), tally.count, columns(tally));
        }
        if self.segments {
            println!(
                "\nSEGMENT           KIND     USE     WRITTEN     LIVE        DEAD        ON DEVICE   LIVE %"
            );
            for segment in &drive.segments {
                let tally = Tally {
                    count: 1,
                    written_bytes: segment.written_bytes,
                    live_bytes: segment.live_bytes,
                    dead_bytes: segment.dead_bytes,
                    allocated_bytes: segment.allocated_bytes,
                };
                println!("{:<17} {:<8} {:<7} {}", segment.id, segment.kind, segment.using, columns(tally));
            }
        }
        print_lists(drive);
        println!();
        for remark in &drive.remarks {
            println!("remark: {remark}");
        }
        for damage in &drive.damage {
            println!("DAMAGE: {damage}");
        }
        match (drive.sound, &drive.verified) {
            (false, _) => {}
            (true, None) => {
                println!("sound, as far as its log and index tell; --verify reads the shards as well")
            }
            (true, Some(verified)) => println!(
                "sound: {} shards, {} units, {} verified in {} ms",
                verified.shards,
                verified.units,
                size(verified.bytes),
                verified.took_us.div_ceil(1000)
            ),
        }
    }
}

/// Sizes, and the share of what was used that is live.
fn columns(tally: Tally) -> String {
    let share = match tally.live_bytes.saturating_add(tally.dead_bytes) {
        0 => "-".to_owned(),
        used => (u128::from(tally.live_bytes) * 100 / u128::from(used)).to_string(),
    };
    format!(
        "{:<11} {:<11} {:<11} {:<11} {share}",
        size(tally.written_bytes),
        size(tally.live_bytes),
        size(tally.dead_bytes),
        size(tally.allocated_bytes)
    )
}

/// What is damaged, by name.
fn print_lists(drive: &Inspection) {
    let regions = drive.recovery.damaged.iter();
    list("LOG THAT DOES NOT VERIFY", regions.map(|it| format!("{} @{} +{}", it.segment, it.offset, it.len)));
    list("LOST SHARD", drive.damaged_shards.iter().cloned());
    let Some(verified) = &drive.verified else { return };
    let corrupt = verified.corrupt.iter().map(|it| {
        let object = match (it.bucket, &it.key) {
            (Some(bucket), Some(key)) => format!("bucket {bucket}  {key}"),
            _ => "(its description does not verify)".to_owned(),
        };
        format!("{}  unit {}  {object}", it.shard, it.unit)
    });
    list("CORRUPT SHARD, FIRST BAD UNIT, OBJECT", corrupt);
    list("SHARD THAT THE DEVICE DOES NOT READ", verified.unreadable.iter().cloned());
}

fn list(title: &str, mut lines: impl ExactSizeIterator<Item = String>) {
    if lines.len() == 0 {
        return;
    }
    println!("\n{title}");
    for line in lines.by_ref().take(LISTED_MAX) {
        println!("{line}");
    }
    if lines.len() > 0 {
        println!("and {} more; --json lists all", lines.len());
    }
}

/// How far verifying is, on standard error.
struct Progress {
    clock: Arc<dyn Clock>,
    began: Duration,
    shown: Duration,
    interval: Duration,
    on_terminal: bool,
    bytes_total: u64,
    wrote: bool,
}

impl Progress {
    fn new(env: &Env, bytes_total: u64) -> Self {
        let now = env.clock.monotonic();
        let on_terminal = std::io::stderr().is_terminal();
        Self {
            clock: Arc::clone(&env.clock),
            began: now,
            shown: now,
            interval: if on_terminal { PROGRESS_ON_TERMINAL } else { PROGRESS_IN_FILE },
            on_terminal,
            bytes_total,
            wrote: false,
        }
    }

    fn show(&mut self, done: VerifyProgress) {
        let now = self.clock.monotonic();
        if now.saturating_sub(self.shown) < self.interval {
            return;
        }
        (self.shown, self.wrote) = (now, true);
        let line = progress_line(done, self.bytes_total, now.saturating_sub(self.began));
        // Nobody is told of an error on standard error.
        let mut stderr = std::io::stderr().lock();
        let _ = if self.on_terminal {
            write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
    }

    /// Leaves the terminal's line to what is printed next.
    fn end(&self) {
        if self.wrote && self.on_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn progress_line(done: VerifyProgress, bytes_total: u64, elapsed: Duration) -> String {
    let percent = (u128::from(done.bytes) * 100).checked_div(u128::from(bytes_total)).unwrap_or(100).min(100);
    let per_second = u128::from(done.bytes) * 1000 / elapsed.as_millis().max(1) / 1_000_000;
    format!(
        "verified {percent} %, {} of {} shards, {}, {per_second} MB/s",
        done.shards,
        done.shards_total,
        size(done.bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_by_bytes_and_ends_at_all_of_them() {
        let done = |bytes| VerifyProgress { shards: 3, shards_total: 4, bytes };
        let line = progress_line(done(50_000_000), 200_000_000, Duration::from_millis(500));
        assert_eq!(line, "verified 25 %, 3 of 4 shards, 47.6 MiB, 100 MB/s");
        assert!(progress_line(done(0), 0, Duration::ZERO).starts_with("verified 100 %"));
        assert!(progress_line(done(9), 8, Duration::from_secs(1)).starts_with("verified 100 %"));
    }
}
