//! ```text
//! ashlar-sim run --seed N [--minutes M] [--quiet] [--log]   one seed; the last line is its report
//! ashlar-sim soak --seeds A..B [--minutes M] [--jobs J] [--ledger FILE]
//! ```

use ashlar_sim::{Settings, run, soak::Soak, world::trace::Echo};
use std::{path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

/// Simulated, before a run settles.
const MINUTES: u64 = 3;

struct Args(Vec<String>);

impl Args {
    fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|arg| arg == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn value<T: FromStr>(&self, name: &str) -> Option<T> {
        self.text(name)?.parse().ok()
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|arg| arg == name)
    }
}

fn main() -> ExitCode {
    let args = Args(std::env::args().skip(1).collect());
    let done = match args.0.first().map(String::as_str) {
        Some("run") => run_one(&args),
        Some("soak") => soak(&args),
        Some(_) | None => None,
    };
    done.unwrap_or_else(usage)
}

#[allow(clippy::print_stderr, reason = "the usage goes there")]
fn usage() -> ExitCode {
    eprintln!(
        "ashlar-sim run --seed N [--minutes M] [--quiet] [--log]\n\
         ashlar-sim soak --seeds A..B [--minutes M] [--jobs J] [--ledger FILE]"
    );
    ExitCode::from(2)
}

#[allow(clippy::print_stdout, reason = "the report is what it is for")]
fn run_one(args: &Args) -> Option<ExitCode> {
    let seed = args.value("--seed")?;
    if args.has("--log") {
        tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_writer(std::io::stderr).init();
    }
    let minutes: u64 = args.value("--minutes").unwrap_or(MINUTES);
    let settings = Settings::of(seed, Duration::from_secs(60 * minutes));
    let echo = if args.has("--quiet") { Echo::Quiet } else { Echo::StandardError };
    let report = run(seed, settings, echo);
    println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
    Some(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[allow(clippy::print_stdout, reason = "the sums are what it is for")]
fn soak(args: &Args) -> Option<ExitCode> {
    let (from, to) = args.text("--seeds")?.split_once("..")?;
    let soak = Soak {
        program: std::env::current_exe().ok()?,
        seeds: from.parse().ok()?..=to.parse().ok()?,
        minutes: args.value("--minutes").unwrap_or(MINUTES),
        jobs: args.value("--jobs").unwrap_or(2),
        ledger: args.text("--ledger").map(PathBuf::from),
    };
    let (sums, lines) = soak.run().ok()?;
    for line in lines.iter().filter(|line| sums.bad.contains(&line.seed)) {
        println!("seed {}: {:?}; repeat it with: {}", line.seed, line.verdict, soak.repeat(line.seed));
    }
    println!("{}", serde_json::to_string_pretty(&sums).expect("sums are plain data"));
    Some(if sums.bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
