//! `ashlar dev`: a whole cluster in one process.

use crate::{
    client::Access,
    node::{ReadyFile, ReadyNode},
    ports::Port,
    process::{Process, Signal},
    until::{Probe, until},
};
use anyhow::{Context, Result};
use aws_sdk_s3::Client;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

/// It forms a cluster before it says that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// What `dev` may derive from its S3 port for RPC and metrics stays within this distance.
const PORT_SPAN: u16 = 256;

const ACCESS_KEY: &str = "AKDEVSTORY2345672345";
const SECRET_KEY: &str = "onlyThisStoryKnowsTheSecretOfItsCluster0";

/// What stays the same when it is started again.
#[derive(Debug)]
pub struct Dev {
    data: PathBuf,
    /// Log and ready file, apart from the data, so that the data may lie on a file system that goes away.
    side: PathBuf,
    port: Port,
    flags: Vec<String>,
}

/// A started one.
#[derive(Debug)]
pub struct RunningDev {
    process: Process,
    ready: ReadyFile,
}

impl Dev {
    /// One node with its data in `data`; `flags` as in `--read-grace 1s`.
    pub fn prepare(data: PathBuf, side: &Path, flags: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(side).with_context(|| format!("cannot make {}", side.display()))?;
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Ok(Self { data, side: side.to_owned(), port: Port::block(PORT_SPAN)?, flags })
    }

    pub async fn start(&self) -> Result<RunningDev> {
        let ready_path = self.side.join("ready.json");
        let mut args: Vec<OsString> = vec!["dev".into(), "--dir".into(), self.data.clone().into()];
        for (flag, value) in [
            ("--nodes", "1".to_owned()),
            ("--listen", self.port.address().to_string()),
            ("--access-key", ACCESS_KEY.to_owned()),
            ("--secret-key", SECRET_KEY.to_owned()),
        ] {
            args.extend([flag.into(), value.into()]);
        }
        args.extend(["--ready-file".into(), ready_path.clone().into()]);
        args.extend(self.flags.iter().map(OsString::from));
        let mut process = Process::spawn(args, &self.side.join("stderr.log"))?;
        let ready = ReadyFile::wait(&ready_path, &mut process, READY_WITHIN).await?;
        Ok(RunningDev { process, ready })
    }
}

impl RunningDev {
    pub fn node(&self) -> Result<&ReadyNode> {
        self.ready.nodes.first().context("a cluster has a node")
    }

    pub fn client(&self) -> Result<Client> {
        Ok(Access::new(ACCESS_KEY, SECRET_KEY).patient(&self.node()?.s3))
    }

    pub fn exact_client(&self) -> Result<Client> {
        Ok(Access::new(ACCESS_KEY, SECRET_KEY).exact(&self.node()?.s3))
    }

    pub async fn stop(self, by: Signal) -> Result<()> {
        self.process.stop(by, STOP_WITHIN).await
    }

    pub async fn kill(self) -> Result<()> {
        self.process.kill().await
    }
}

/// Which files below these directories hold `needle`.
pub fn files_with(needle: &[u8], dirs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = dirs.to_vec();
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                match std::fs::read(entry.path()) {
                    Ok(bytes) if bytes.windows(needle.len()).any(|window| window == needle) => {
                        found.push(entry.path());
                    }
                    Ok(_) => {}
                    // The store removes files while they are being listed.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(found)
}

/// Waits until no file below `dirs` holds `needle`.
pub async fn until_gone(needle: &[u8], dirs: &[PathBuf], within: Duration) -> Result<()> {
    until("deleted bytes to leave the drives", within, async || {
        let found = files_with(needle, dirs)?;
        Ok(match found.first() {
            None => Probe::Done(()),
            Some(path) => Probe::NotYet(format!("they are in {}", path.display())),
        })
    })
    .await
}
