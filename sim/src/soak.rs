//! Many seeds, each in a process of its own, and the ledger of what came of them.

use crate::Report;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write as _},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// How to run them.
#[derive(Clone, Debug)]
pub struct Soak {
    /// The program that runs one seed: this one.
    pub program: PathBuf,
    pub seeds: RangeInclusive<u64>,
    /// Simulated, of each seed, before it settles.
    pub minutes: u64,
    /// Processes at a time.
    pub jobs: usize,
    pub ledger: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    /// Nothing wrong was seen, and too little happened for that to mean much.
    Thin,
    Violated,
    /// The process gave no report.
    Broken,
    /// The same seed gave two traces.
    NotRepeated,
}

/// A line of the ledger.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub commit: String,
    pub verdict: Verdict,
    pub seed: u64,
    pub wall_seconds: f64,
    /// Run twice, and the traces were compared.
    pub repeated: bool,
    pub report: Option<Report>,
    /// The end of what the process said, if it gave no report.
    pub last_words: Option<String>,
}

/// What many seeds came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sums {
    pub seeds: u64,
    pub simulated_hours: f64,
    pub calls: u64,
    pub histories: u64,
    pub undecided: u64,
    pub snapshots_installed: u64,
    pub expired: u64,
    pub retried: u64,
    pub repeated: u64,
    pub faults: BTreeMap<String, u64>,
    pub coverage: BTreeMap<String, u64>,
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Those that neither passed nor were thin.
    pub bad: Vec<u64>,
}

/// One seed of so many is run twice.
const REPEATED_EACH: u64 = 100;

impl Soak {
    /// Runs all seeds; lines go to the ledger as they come.
    pub fn run(&self) -> io::Result<(Sums, Vec<Line>)> {
        let mut ledger = match &self.ledger {
            Some(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
            None => None,
        };
        let commit = commit();
        let next = Mutex::new(self.seeds.clone());
        let lines: Mutex<Vec<Line>> = Mutex::default();
        let (report, reported) = std::sync::mpsc::channel::<Line>();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                let (next, report, commit) = (&next, report.clone(), &commit);
                scope.spawn(move || {
                    loop {
                        let seed = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(seed) = seed else { return };
                        if report.send(self.line(seed, commit)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(report);
            for line in reported {
                if let Some(ledger) = &mut ledger {
                    writeln!(ledger, "{}", serde_json::to_string(&line).map_err(io::Error::other)?)?;
                }
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
            Ok::<(), io::Error>(())
        })?;
        let lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((sums(&lines), lines))
    }

    #[allow(clippy::disallowed_methods, reason = "how long a seed takes is told, and decides nothing")]
    fn line(&self, seed: u64, commit: &str) -> Line {
        let began = std::time::Instant::now();
        let (report, said) = self.seed(seed);
        let wall_seconds = began.elapsed().as_secs_f64();
        let repeated = seed.is_multiple_of(REPEATED_EACH);
        let verdict = match &report {
            None => Verdict::Broken,
            Some(report) if !report.violations.is_empty() => Verdict::Violated,
            Some(first) if repeated && self.seed(seed).0.is_none_or(|again| again.trace != first.trace) => {
                Verdict::NotRepeated
            }
            Some(report) if !report.gaps().is_empty() => Verdict::Thin,
            Some(_) => Verdict::Passed,
        };
        let last_words = report.is_none().then_some(said);
        Line { commit: commit.to_owned(), verdict, seed, wall_seconds, repeated, report, last_words }
    }

    /// One seed in a fresh process.
    fn seed(&self, seed: u64) -> (Option<Report>, String) {
        let output = Command::new(&self.program)
            .args(["run", "--quiet", "--seed", &seed.to_string(), "--minutes", &self.minutes.to_string()])
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                let report = said.lines().last().and_then(|line| serde_json::from_str(line).ok());
                let words = String::from_utf8_lossy(&output.stderr);
                let from = words.len().saturating_sub(LAST_WORDS);
                (report, words.get(from..).unwrap_or_default().to_owned())
            }
            Err(error) => (None, error.to_string()),
        }
    }

    /// The command that repeats a seed.
    pub fn repeat(&self, seed: u64) -> String {
        format!("cargo run -p ashlar-sim -- run --seed {seed} --minutes {}", self.minutes)
    }
}

const LAST_WORDS: usize = 2_000;

fn sums(lines: &[Line]) -> Sums {
    let mut sums = Sums::default();
    for line in lines {
        sums.seeds += 1;
        sums.repeated += u64::from(line.repeated);
        *sums.verdicts.entry(line.verdict).or_default() += 1;
        if !matches!(line.verdict, Verdict::Passed | Verdict::Thin) {
            sums.bad.push(line.seed);
        }
        let Some(report) = &line.report else { continue };
        sums.simulated_hours += report.simulated_seconds / 3600.0;
        sums.calls += report.calls as u64;
        sums.histories += report.histories as u64;
        sums.undecided += report.undecided as u64;
        sums.snapshots_installed += report.snapshots_installed;
        sums.expired += report.expired;
        sums.retried += report.retried;
        for (name, count) in &report.faults {
            *sums.faults.entry(name.clone()).or_default() += count;
        }
        for (name, count) in &report.coverage {
            *sums.coverage.entry(name.clone()).or_default() += count;
        }
    }
    sums.bad.sort_unstable();
    sums
}

/// Which sources these are, as far as git knows.
fn commit() -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(dir).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
