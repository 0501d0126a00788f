//! The crash proof of the drive store: whatever a power cut or a kill leaves, what was acknowledged is there, what
//! was not is whole or absent, and what was deleted stays deleted.
//!
//! Clients work on a simulated disk that records every change and, between them, what the clients know (`model`).
//! Then the history is cut at every event, with chosen survivors among the changes that were not durable, and the
//! drive is recovered from what is left and read in full (`sweep`, `recovery`). Nothing here shares code with the
//! product but its public types.
//!
//! [`exhaustive::exhaustive`] plays all short sequences of operations, [`random::random`] long runs of concurrent
//! clients from a seed. Both return what they found, so that a planted bug can be seen to be caught. The workload
//! of a seed repeats exactly; which operations share a batch may depend on the scheduler.

use std::{fmt, time::Duration};

pub(crate) mod client;
pub(crate) mod content;
pub(crate) mod describe;
pub(crate) mod exhaustive;
pub(crate) mod failing;
pub(crate) mod faulty_run;
pub(crate) mod formatting;
pub(crate) mod model;
pub(crate) mod random;
pub(crate) mod recovery;
pub(crate) mod second_life;
pub(crate) mod silent;
pub(crate) mod sweep;
pub(crate) mod workload;

/// Far more than any run takes; a drive that hangs fails the test instead of stopping it.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(120);

const COMMAND: &str = "cargo test -p ashlar-storage --test crash --";

/// How much of a mode is run.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Recoveries after which a run ends early, without an error.
    pub(crate) points_max: u64,
    /// Operations of one random run.
    pub(crate) operations: std::ops::RangeInclusive<u64>,
    /// Random survivors at each crash point, beside none and all.
    pub(crate) survivors: u64,
    /// Each so many recoveries the drive is used again and crashes again.
    pub(crate) second_life_every: u64,
    /// Longest sequence of the exhaustive mode.
    pub(crate) sequence_len: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            points_max: u64::MAX,
            operations: 20..=200,
            survivors: 2,
            second_life_every: 16,
            sequence_len: 3,
        }
    }
}

/// What was proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Recoveries from different states of the disk.
    pub(crate) points: u64,
    /// Of these, after a crash of a drive that had crashed before.
    pub(crate) second_points: u64,
    /// Drives used again after a crash.
    pub(crate) second_lives: u64,
    /// Kills followed by a power cut.
    pub(crate) kills: u64,
    /// Histories played.
    pub(crate) histories: u64,
    /// Points at which the log ended in a torn tail, so that it can be seen that such were met.
    pub(crate) torn_tails: u64,
    /// Points that were recovered from a checkpoint.
    pub(crate) from_checkpoint: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.points += other.points;
        self.second_points += other.second_points;
        self.second_lives += other.second_lives;
        self.kills += other.kills;
        self.histories += other.histories;
        self.torn_tails += other.torn_tails;
        self.from_checkpoint += other.from_checkpoint;
    }
}

/// What is being run, for the report of a failure.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The seed, or the sequence of operations.
    pub(crate) name: String,
    /// Repeats the run.
    pub(crate) command: String,
}

impl Run {
    /// One that is repeated alone, chosen by an environment variable.
    pub(crate) fn chosen(test: &str, variable: &str, value: String) -> Self {
        let command = format!("{variable}='{value}' {COMMAND} {test} --nocapture");
        Self { name: value, command }
    }

    /// One of many in a test that has no randomness.
    pub(crate) fn part(test: &str, name: String) -> Self {
        Self { name, command: format!("{COMMAND} {test} --nocapture") }
    }

    /// A failure outside any crash.
    pub(crate) fn failure(&self, what: String) -> Failure {
        let (run, command) = (self.name.clone(), self.command.clone());
        Failure { what, run, crash_point: 0, survivors: "-".into(), events: Box::default(), command }
    }
}

/// A promise that was broken, and how to see it again.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) run: String,
    /// Events of the history before the crash.
    pub(crate) crash_point: usize,
    pub(crate) survivors: Box<str>,
    /// The events before the crash, the last of them last.
    pub(crate) events: Box<[String]>,
    pub(crate) command: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(
            f,
            "  run {}, crash after {} events, survivors {}",
            self.run, self.crash_point, self.survivors
        )?;
        for event in &*self.events {
            writeln!(f, "  | {event}")?;
        }
        write!(f, "  repeat: {}", self.command)
    }
}

impl std::error::Error for Failure {}
