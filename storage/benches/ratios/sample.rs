//! What one side did in one round, and how much it may do.

use crate::row::median;
use anyhow::{Context, Result};
use ashlar_runtime::{Clock, Env};
use std::{
    fs,
    sync::{
        Arc, Barrier, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

/// Unit of CPU time in /proc: `USER_HZ`, the same on every Linux machine.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// How long each operation took.
    latencies: Vec<Duration>,
    took: Duration,
    /// Seconds of CPU of the whole process, its ended threads included.
    cpu: f64,
}

impl Sample {
    pub(crate) fn ops(&self) -> f64 {
        self.latencies.len() as f64
    }

    pub(crate) fn rate(&self) -> f64 {
        self.ops() / self.took.as_secs_f64()
    }

    pub(crate) fn p50_ms(&self) -> f64 {
        median(self.latencies.iter().map(|took| took.as_secs_f64() * 1e3))
    }
}

/// CPU per operation over several rounds together: one is short for a clock of ticks.
pub(crate) fn cpu_us_per_op(samples: &[Sample]) -> f64 {
    let cpu: f64 = samples.iter().map(|sample| sample.cpu).sum();
    let ops: f64 = samples.iter().map(Sample::ops).sum();
    cpu / ops * 1e6
}

pub(crate) fn median_rate(samples: &[Sample]) -> f64 {
    median(samples.iter().map(Sample::rate))
}

/// Time and operations that the clients of one round share. Time begins with the first operation.
#[derive(Debug)]
pub(crate) struct Quota {
    clock: Arc<dyn Clock>,
    duration: Duration,
    ends: OnceLock<Duration>,
    left: AtomicU64,
}

impl Quota {
    pub(crate) fn new(env: &Env, duration: Duration, operations: u64) -> Arc<Self> {
        let (clock, left) = (Arc::clone(&env.clock), AtomicU64::new(operations));
        Arc::new(Self { clock, duration, ends: OnceLock::new(), left })
    }

    /// When the next operation begins; `None` if there is none.
    pub(crate) fn take(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        let ends = *self.ends.get_or_init(|| now + self.duration);
        let take = |left: u64| left.checked_sub(1);
        (now < ends && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok())
            .then_some(now)
    }

    pub(crate) fn since(&self, begun: Duration) -> Duration {
        self.clock.monotonic() - begun
    }

    /// Runs `operation` until the quota is used up.
    pub(crate) fn spend(&self, mut operation: impl FnMut() -> Result<()>) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while let Some(begun) = self.take() {
            operation()?;
            latencies.push(self.since(begun));
        }
        Ok(latencies)
    }
}

/// Measures from its making on.
#[derive(Debug)]
pub(crate) struct Meter {
    clock: Arc<dyn Clock>,
    begun: Duration,
    cpu: f64,
}

impl Meter {
    pub(crate) fn start(env: &Env) -> Result<Self> {
        let clock = Arc::clone(&env.clock);
        Ok(Self { cpu: cpu_seconds()?, begun: clock.monotonic(), clock })
    }

    pub(crate) fn stop(self, latencies: Vec<Duration>) -> Result<Sample> {
        Ok(Sample { latencies, took: self.clock.monotonic() - self.begun, cpu: cpu_seconds()? - self.cpu })
    }
}

/// Threads that begin together, each with its number; their latencies as one sample.
pub(crate) fn crew(
    env: &Env,
    threads: usize,
    work: impl Fn(usize) -> Result<Vec<Duration>> + Send + Sync + 'static,
) -> Result<Sample> {
    let (work, start) = (Arc::new(work), Arc::new(Barrier::new(threads + 1)));
    let (report, reports) = mpsc::channel();
    for thread in 0..threads {
        let (work, start, report) = (Arc::clone(&work), Arc::clone(&start), report.clone());
        let _runs_on = env.tasks.worker("crew", move || {
            start.wait();
            // The receiver is there until all have reported.
            let _ = report.send(work(thread));
        });
    }
    drop(report);
    let meter = Meter::start(env)?;
    start.wait();
    let mut latencies = Vec::new();
    for report in reports {
        latencies.extend(report?);
    }
    meter.stop(latencies)
}

/// User and system time of this process. The name, which may hold anything, ends with the last parenthesis.
fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat").context("the CPU time of this process")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11).take(2);
    let ticks = fields.map(str::parse::<u64>).sum::<Result<u64, _>>().context("utime and stime")?;
    Ok(ticks as f64 / TICKS_PER_SECOND)
}
