//! `ashlar-sim run --seed N [--minutes M] [--quiet]` repeats one seed; its last line is the report.

use ashlar_sim::{Settings, run, world::trace::Echo};
use std::{process::ExitCode, time::Duration};

#[allow(clippy::print_stdout, reason = "the report is what it is for")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<u64>().ok()
    };
    let (Some("run"), Some(seed)) = (args.first().map(String::as_str), option("--seed")) else {
        return ExitCode::FAILURE;
    };
    if args.iter().any(|arg| arg == "--log") {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(std::io::stderr).init();
    }
    let minutes = option("--minutes").unwrap_or(3);
    let settings = Settings::of(seed, Duration::from_secs(60 * minutes));
    let echo = if args.iter().any(|arg| arg == "--quiet") { Echo::Quiet } else { Echo::StandardError };
    let report = run(seed, settings, echo);
    println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
