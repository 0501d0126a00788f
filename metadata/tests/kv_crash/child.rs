//! The process that is killed: this program again, told by its environment to run nothing but `run`.

use super::history::{Life, Step, position};
use ashlar_metadata::kv::{FjallKv, FjallOptions, Kv, KvError};
use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
};

const DIR: &str = "ASHLAR_KV_CRASH_DIR";
const SEED: &str = "ASHLAR_KV_CRASH_SEED";
const HONEST: &str = "ASHLAR_KV_CRASH_HONEST";
/// A line that says up to which step everything is durable.
pub(crate) const DURABLE: &str = "durable ";
/// A line that says which step is tried next.
pub(crate) const TRYING: &str = "trying ";
pub(crate) const FAILED: &str = "failed ";
/// A line that says which process it is.
pub(crate) const PROCESS: &str = "process ";

/// Small, so that a second of writing reaches table files and merges them.
pub(crate) const OPTIONS: FjallOptions =
    FjallOptions { cache_bytes: 1 << 20, write_buffer_bytes: 4 << 20, memtable_bytes: 64 << 10 };
/// Nothing reaches table files, which the engine flushes on its own.
const UNFLUSHED: FjallOptions =
    FjallOptions { cache_bytes: 1 << 20, write_buffer_bytes: 1 << 30, memtable_bytes: 1 << 30 };

/// What the process says of its flushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Honesty {
    Flushes,
    /// The control: it says so, and does not flush.
    OnlySaysSo,
}

/// Program and arguments of the process, and what to add to its environment.
pub(crate) fn command(
    dir: &Path,
    life: Life,
    honesty: Honesty,
) -> (Vec<OsString>, Vec<(&'static str, OsString)>) {
    let program = std::env::current_exe().unwrap();
    let arguments = [program.into(), "--exact".into(), "child::run".into(), "--nocapture".into()];
    let honest = if honesty == Honesty::Flushes { "1" } else { "0" };
    let environment = [(DIR, dir.into()), (SEED, life.seed.to_string().into()), (HONEST, honest.into())];
    (arguments.to_vec(), environment.to_vec())
}

/// Does nothing unless this is the process.
#[test]
fn run() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let honesty = if std::env::var(HONEST).unwrap() == "1" { Honesty::Flushes } else { Honesty::OnlySaysSo };
    say(PROCESS, std::process::id());
    if let Err(error) = write(&dir, Life { seed }, honesty) {
        say(FAILED, format_args!("{error:?}"));
    }
}

/// Until it is killed, or the engine fails.
fn write(dir: &Path, life: Life, honesty: Honesty) -> Result<(), KvError> {
    let options = if honesty == Honesty::Flushes { OPTIONS } else { UNFLUSHED };
    let kv = FjallKv::open(dir, options)?;
    let mut number = position(&kv);
    loop {
        number += 1;
        say(TRYING, number);
        match life.step(number) {
            Step::Write(batch) => {
                kv.write(batch)?;
                if !life.flushes_after(number) {
                    continue;
                }
                if honesty == Honesty::Flushes {
                    kv.persist()?;
                }
            }
            Step::Replace(_) if honesty == Honesty::OnlySaysSo => continue,
            Step::Replace(batch) => {
                let mut next = kv.replace()?;
                next.write(batch)?;
                next.commit()?;
            }
        }
        say(DURABLE, number);
    }
}

/// To the parent, at once.
fn say(word: &str, rest: impl std::fmt::Display) {
    // Nobody reads any more if the parent has gone.
    let _ = writeln!(io::stdout(), "{word}{rest}");
}
