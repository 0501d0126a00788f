//! One process of the binary under test. Its standard error goes to a file, and it does not outlive its handle.

use crate::{
    binary,
    until::{Probe, until},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::process::{Child, Command};

/// SIGKILL takes effect at once; what takes time is a kernel flushing under load.
const KILL_WITHIN: Duration = Duration::from_secs(20);
const LOG_TAIL_LINES: usize = 25;

#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
    log: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Term,
    Interrupt,
    Kill,
    /// Suspends the process where it stands.
    Stop,
    Continue,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Interrupt => "INT",
            Self::Kill => "KILL",
            Self::Stop => "STOP",
            Self::Continue => "CONT",
        }
    }
}

impl Process {
    /// Runs `ashlar` with these arguments; both of its outputs are appended to `log`.
    pub fn spawn(args: impl IntoIterator<Item = impl AsRef<OsStr>>, log: &Path) -> Result<Self> {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(binary::ashlar()?)
            .args(args)
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start ashlar")?;
        let pid = child.id().context("a process that was just started has an id")?;
        Ok(Self { child, pid, log: log.to_owned() })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Fails if the process has ended though nobody asked it to.
    pub fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "process {} ended by itself ({status}); end of {}:\n{}",
                self.pid,
                self.log.display(),
                tail(&self.log)
            );
        }
        Ok(())
    }

    pub fn signal(&self, which: Signal) -> Result<()> {
        signal_all(which, &[self.pid])
    }

    pub async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        until(&format!("process {} to end", self.pid), within, async || {
            Ok(match self.child.try_wait()? {
                Some(status) => Probe::Done(status),
                None => Probe::NotYet(format!("running; see {}", self.log.display())),
            })
        })
        .await
    }

    /// SIGKILL: nothing runs in the process any more when this returns. The page cache stays, so what a restart
    /// finds proves replay, not flushing.
    pub async fn kill(mut self) -> Result<()> {
        self.signal(Signal::Kill)?;
        self.wait(KILL_WITHIN).await.map(|_| ())
    }

    /// Asks it to stop, with SIGTERM as a service manager does or SIGINT as a terminal does; an exit code of 0 is
    /// expected.
    pub async fn stop(mut self, by: Signal, within: Duration) -> Result<()> {
        self.check_alive()?;
        self.signal(by)?;
        let status = self.wait(within).await?;
        ensure!(
            status.success(),
            "process {} did not stop in order ({status}); end of {}:\n{}",
            self.pid,
            self.log.display(),
            tail(&self.log)
        );
        Ok(())
    }
}

/// Sends one signal to several processes in one go, as close to the same moment as a host allows. Their ids
/// cannot have been reused: a child keeps its id until its parent has waited for it.
pub fn signal_all(which: Signal, pids: &[u32]) -> Result<()> {
    // The shell's own `kill` is there even where the program is not.
    let status = std::process::Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$@\"", which.name()])
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status()
        .context("cannot run sh")?;
    ensure!(status.success(), "cannot send SIG{} to {pids:?}", which.name());
    Ok(())
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
