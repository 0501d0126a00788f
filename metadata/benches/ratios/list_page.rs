//! A page of 1000 keys of a large bucket against one of a small bucket: listing costs what it returns.

use crate::{
    Bench,
    line::{Goal, Line, median, note, row},
    objects::{BUCKET, GROUP, Group, key},
    sample::Latencies,
};
use anyhow::{Result, bail, ensure};
use ashlar_metadata::{
    kv::{FjallMemory, FjallOptions},
    query::{Answer, Query},
};
use ashlar_runtime::RngExt;
use ashlar_types::ListQuery;

pub(crate) const LINE: Line = Line { name: "list_page_p99_1m_vs_10k", measure };

const SMALL: u64 = 10_000;
const LARGE: u64 = 1_000_000;
const PAGE: u32 = 1000;
/// Pages of each side in a round.
const PAGES: usize = 300;

fn measure(bench: &Bench) -> Result<()> {
    let large = bench.effort.pick(LARGE, LARGE / 10);
    let memory = FjallMemory::new(FjallOptions::default());
    let small = Group::make(&bench.dir().join("small"), GROUP, &memory)?;
    small.load(SMALL)?;
    let big = Group::make(&bench.dir().join("large"), GROUP, &memory)?;
    big.load(large)?;
    let rounds = bench.effort.pick(9, 3);
    let mut ratios = Vec::new();
    let mut p99 = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (of_small, of_large) = (pages(bench, &small, SMALL)?, pages(bench, &big, large)?);
        // The first warms both.
        if round > 0 {
            ratios.push(of_large.percentile_ms(99) / of_small.percentile_ms(99));
            p99.0.push(of_small.percentile_ms(99));
            p99.1.push(of_large.percentile_ms(99));
        }
    }
    note(format_args!(
        "{}: pages of {PAGE} keys, p99 {:.2} ms of {SMALL} keys and {:.2} ms of {large}, {PAGES} pages a side in each of {rounds} rounds",
        LINE.name,
        median(p99.0),
        median(p99.1),
    ));
    row(LINE.name, median(ratios), Goal::AtMost(1.5));
    Ok(())
}

/// Full pages that begin anywhere.
fn pages(bench: &Bench, group: &Group, keys: u64) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    for _ in 0..PAGES {
        let after = key(bench.env.rng.below(keys - u64::from(PAGE)));
        let query = ListQuery { after, max_entries: PAGE, ..ListQuery::default() };
        let query = Query::List { bucket: BUCKET, query };
        let begun = bench.env.clock.monotonic();
        let answer = group.state.query(&query)?;
        latencies.push(bench.env.clock.monotonic() - begun);
        let Answer::List(page) = answer else { bail!("{answer:?}") };
        ensure!(page.entries.len() == usize::try_from(PAGE)?, "a short page");
    }
    Ok(latencies)
}
