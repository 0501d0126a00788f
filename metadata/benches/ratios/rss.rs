//! Memory of a node whose groups hold millions of objects: bounded by configuration, not by what they hold.

use crate::{
    Bench,
    line::{Goal, Line, note, row},
    objects::{BATCH, BUCKET, Group, key, put, spread},
};
use anyhow::{Context, Result};
use ashlar_metadata::{
    kv::{FjallMemory, FjallOptions},
    query::Query,
};
use ashlar_types::{GroupId, ListQuery};
use std::fs;

pub(crate) const LINE: Line = Line { name: "rss_mb_2m_records", measure };

const OBJECTS: u64 = 2_000_000;
/// As many as a cluster begins with.
const GROUPS: u32 = 8;

fn measure(bench: &Bench) -> Result<()> {
    let objects = bench.effort.pick(OBJECTS, OBJECTS / 10);
    let each = objects / u64::from(GROUPS);
    let memory = FjallMemory::new(FjallOptions::default());
    let groups: Vec<Group> = (1..=GROUPS)
        .map(|group| Group::make(&bench.dir().join(group.to_string()), GroupId(group), &memory))
        .collect::<Result<_>>()?;
    let before = status_mib("VmRSS")?;
    let begun = bench.env.clock.monotonic();
    let mut buffered = 0;
    for from in (0..each).step_by(usize::try_from(BATCH)?) {
        for group in &groups {
            let entries =
                (from..each.min(from + BATCH)).map(|number| put(group.group, spread(number, each), number));
            group.apply(entries.collect::<Result<_>>()?)?;
            buffered = buffered.max(memory.write_buffer_bytes());
        }
    }
    let took = (bench.env.clock.monotonic() - begun).as_secs_f64();
    for group in &groups {
        group.state.persist()?;
        // What a large listing leaves in memory counts too.
        for after in (0..each).step_by(1000) {
            let query = ListQuery { after: key(after), max_entries: 1000, ..ListQuery::default() };
            group.state.query(&Query::List { bucket: BUCKET, query })?;
        }
    }
    note(format_args!(
        "{}: {GROUPS} groups with {each} objects each of a 4+2 chunk, {:.0} applied a second; resident {before} MiB before, {} MiB \
         at the end; at most {} MiB of write buffers, {} MiB cached",
        LINE.name,
        objects as f64 / took,
        status_mib("VmRSS")?,
        buffered >> 20,
        memory.cached_bytes() >> 20,
    ));
    row(LINE.name, status_mib("VmHWM")? as f64, Goal::AtMost(600.0));
    Ok(())
}

/// A line of this process's memory, in MiB: `VmRSS` is now, `VmHWM` the most it ever was.
fn status_mib(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("memory of this process")?;
    Ok(kib.parse::<u64>()? >> 10)
}
