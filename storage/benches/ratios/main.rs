//! Ratios of the drive store: against a file per shard, against files written through by O_DSYNC, against a read on a
//! blocking pool and against the bare device, on the same file system, in alternating rounds of one run.
//!
//! `cargo bench -p ashlar-storage --bench ratios [-- --quick]`. One line a row, `ratio NAME VALUE goal >=X met`
//! (or `missed`), the median over the rounds; `#` begins what is said besides. `ASHLAR_BENCH_DIR` is where
//! files are made, else the target directory; never a file system in memory.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the rows are what this program is for")]

mod counting_disk;
mod device;
mod drives;
mod files;
mod place;
mod row;
mod rows;
mod sample;

use anyhow::Result;
use std::{process::ExitCode, time::Duration};

/// As the server does, so that buffers cost what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// Of one side of one round; less if the bytes are reached before.
    pub(crate) round: Duration,
    pub(crate) round_bytes: u64,
    pub(crate) segment_bytes: u64,
    /// Of the loop device for another file system.
    pub(crate) image_bytes: u64,
}

const FULL: Effort = Effort {
    rounds: 5,
    round: Duration::from_secs(1),
    round_bytes: 1 << 30,
    segment_bytes: 256 << 20,
    image_bytes: 32 << 30,
};
/// Enough to see that it works; too little to trust.
const QUICK: Effort = Effort {
    rounds: 3,
    round: Duration::from_millis(150),
    round_bytes: 128 << 20,
    segment_bytes: 64 << 20,
    image_bytes: 8 << 30,
};

fn main() -> ExitCode {
    let asked = |flag: &str| std::env::args().any(|argument| argument == flag);
    let effort = match (asked("--quick"), asked("--bench")) {
        (true, _) => QUICK,
        (false, true) => FULL,
        (false, false) => {
            println!("# nothing is measured by a test run: cargo bench -p ashlar-storage --bench ratios");
            return ExitCode::SUCCESS;
        }
    };
    match measured(effort) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measured(effort: Effort) -> Result<()> {
    let place = place::Place::find(&effort)?;
    place.describe(&effort);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(rows::all(effort, &place))
}
