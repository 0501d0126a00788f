//! How the metadata plane compares: with itself at another size or under another load, and with simpler ways to do the
//! same, in one run on one machine.
//!
//! `cargo bench -p ashlar-metadata --bench ratios [-- [--quick] [NAME..]]`. One line a row, `ratio NAME VALUE goal >=X met`
//! (or `missed`); `#` begins what is said besides. A NAME chooses the lines that begin with it. `ASHLAR_BENCH_DIR` is where
//! files are made, else the target directory; never a file system in memory.
//!
//! Each line is measured by a process of its own, so that what one leaves in memory, in caches or in background threads is
//! not measured by the next. A new line is a file with a [`Line`] and an entry in [`LINES`].

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the rows are what this program is for")]

mod commits;
mod line;
mod list_page;
mod log_appends;
mod nodes;
mod objects;
mod place;
mod reads;
mod rss;
mod sample;
mod snapshot;

use self::line::{Line, note};
use anyhow::{Context, Result, ensure};
use ashlar_runtime::Env;
use std::{
    path::Path,
    process::{Command, ExitCode},
};

/// As the server does, so that memory costs what it costs there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// In the order they are printed.
const LINES: &[Line] = &[
    list_page::LINE,
    rss::LINE,
    snapshot::LINE,
    commits::LINE,
    reads::LINE,
    log_appends::SIXTEEN,
    log_appends::SIXTY_FOUR,
];

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    Full,
    /// Enough to see that it works; too little to trust.
    Quick,
}

impl Effort {
    /// One of two sizes, times or counts.
    pub(crate) fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// What a line is measured with.
pub(crate) struct Bench {
    pub(crate) env: Env,
    pub(crate) effort: Effort,
    place: place::Place,
}

impl Bench {
    /// A directory of this line alone, empty at first, on a real file system; gone afterwards.
    pub(crate) fn dir(&self) -> &Path {
        self.place.path()
    }

    /// For lines with tasks: runs them on all cores, as the server does.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
    }
}

/// Names the line that this process is to measure.
const CHILD: &str = "--line=";
const QUICK: &str = "--quick";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let effort = if asked(QUICK) { Effort::Quick } else { Effort::Full };
    let measured = match arguments.iter().find_map(|argument| argument.strip_prefix(CHILD)) {
        Some(name) => measure(name, effort),
        None if asked("--bench") || effort == Effort::Quick => {
            let names: Vec<&str> =
                arguments.iter().map(String::as_str).filter(|name| !name.starts_with('-')).collect();
            measure_all(&names, effort)
        }
        None => {
            println!("# nothing is measured by a test run: cargo bench -p ashlar-metadata --bench ratios");
            Ok(())
        }
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All lines even if one fails.
fn measure_all(names: &[&str], effort: Effort) -> Result<()> {
    place::Place::find()?.describe();
    note(format_args!("effort: {effort:?}"));
    let chosen = |line: &&Line| names.is_empty() || names.iter().any(|name| line.name.starts_with(name));
    let program = std::env::current_exe().context("the path of this program")?;
    let mut failed = Vec::new();
    for line in LINES.iter().filter(chosen) {
        let mut child = Command::new(&program);
        child.arg(format!("{CHILD}{}", line.name));
        if effort == Effort::Quick {
            child.arg(QUICK);
        }
        if !child.status().context("measure in a process of its own")?.success() {
            failed.push(line.name);
        }
    }
    ensure!(failed.is_empty(), "not measured: {failed:?}");
    Ok(())
}

fn measure(name: &str, effort: Effort) -> Result<()> {
    let line = LINES.iter().find(|line| line.name == name).context("no such line")?;
    let bench = Bench { env: Env::real(), effort, place: place::Place::find()? };
    (line.measure)(&bench).with_context(|| name.to_owned())
}
