//! The command line: parses, calls the node over its admin socket, prints.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the one place that talks to people")]

mod admin_client;
mod bucket;
mod cluster;
mod dev;
mod drive;
mod group;
mod object;
mod server;
mod status;

use crate::metrics_server;
use ashlar_runtime::RealDisk;
use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// S3-compatible object store for clusters of machines that you own.
#[derive(Parser)]
#[command(name = "ashlar", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A cluster in one process on this machine: no configuration, no root.
    Dev(dev::Dev),
    /// One node of a cluster.
    Server(server::Server),
    /// Make a cluster, let nodes join, settle it.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Nodes, drives, groups, leaders, profiles, capacity.
    Status(status::Status),
    /// Where an object's shards are, and how many losses it survives.
    Explain(object::Explain),
    /// Metadata groups: who leads and votes, and how their replicas are.
    #[command(subcommand)]
    Group(group::Group),
    /// What buckets hold, and their quotas.
    #[command(subcommand)]
    Bucket(bucket::Bucket),
    /// Identities that may sign requests.
    #[command(subcommand)]
    User(object::User),
    /// A drive directory by itself, while no node has it open.
    #[command(subcommand)]
    Drive(drive::Drive),
}

/// How to reach the node, and how to print.
#[derive(Args, Clone, Debug)]
struct Admin {
    /// Admin socket of the node: DATA_DIR/admin.sock.
    #[arg(long, value_name = "PATH", default_value = "ashlar-data/node-1/data/admin.sock")]
    admin: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ashlar: cannot start threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ashlar: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(dev) => {
            log_to_stderr(tracing::Level::WARN);
            metrics_server::install();
            raise_open_file_limit();
            dev.run().await
        }
        Command::Server(server) => {
            log_to_stderr(tracing::Level::INFO);
            metrics_server::install();
            raise_open_file_limit();
            server.run().await
        }
        Command::Cluster(cluster) => cluster.run().await,
        Command::Status(status) => status.run().await,
        Command::Explain(explain) => explain.run().await,
        Command::Group(group) => group.run().await,
        Command::Bucket(bucket) => bucket.run().await,
        Command::User(user) => user.run().await,
        Command::Drive(drive) => {
            log_to_stderr(tracing::Level::WARN);
            raise_open_file_limit();
            return drive.run();
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// `ASHLAR_LOG` takes `error`, `warn`, `info`, `debug` or `trace`.
fn log_to_stderr(default: tracing::Level) {
    use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};
    let level = std::env::var("ASHLAR_LOG").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    // A second subscriber in one process is refused; the first one goes on.
    let _ = tracing_subscriber::registry().with(LevelFilter::from_level(level)).with(lines).try_init();
}

/// A drive keeps files open for its segments: as many as a process has by default serve small drives only.
fn raise_open_file_limit() {
    match RealDisk::raise_open_file_limit() {
        Ok(files) => tracing::debug!(files, "files may be open"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

/// Ends on SIGINT or SIGTERM.
async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// `"90s"`, `"15m"`, `"1h"`, `"250ms"`.
fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is not a duration such as 90s"))?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("`{text}` needs a unit: ms, s, m or h")),
    };
    number
        .checked_mul(millis)
        .map(std::time::Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is too long"))
}

fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_need_a_unit() {
        use std::time::Duration;
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "5", "h", "-1s", "5d", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
