//! Latencies, and what a process has used.

use anyhow::{Context, Result};
use std::time::Duration;

/// How long each of many operations took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds: `percent` of the operations took no longer. 0 of nothing.
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }
}

/// What this process has used of all processors, in user code and in the kernel.
pub(crate) fn cpu_time() -> Result<Duration> {
    /// Of the times in /proc, on every machine that Linux calls x86-64 or aarch64.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || -> Result<u32> { Ok(times.next().context("no times in /proc/self/stat")?.parse()?) };
    Ok(TICK * (ticks()? + ticks()?))
}
