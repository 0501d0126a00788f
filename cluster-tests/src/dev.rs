//! `ashlar dev`: a whole cluster in one process.

use crate::{
    cli,
    client::Access,
    node::{ReadyFile, ReadyNode},
    ports::Port,
    process::{Process, Signal},
    status::Status,
};
use anyhow::{Context, Result, ensure};
use aws_sdk_s3::Client;
use serde::Deserialize;
use std::{
    ffi::{OsStr, OsString},
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
    nodes: u16,
    flags: Vec<String>,
}

/// A started one.
#[derive(Debug)]
pub struct RunningDev {
    process: Process,
    ready: ReadyFile,
}

impl Dev {
    /// So many nodes with their data in `data`; `flags` as in `--read-grace 1s`.
    pub fn prepare(data: PathBuf, side: &Path, nodes: u16, flags: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(side).with_context(|| format!("cannot make {}", side.display()))?;
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Ok(Self { data, side: side.to_owned(), port: Port::block(PORT_SPAN)?, nodes, flags })
    }

    pub async fn start(&self) -> Result<RunningDev> {
        let ready_path = self.side.join("ready.json");
        let mut args: Vec<OsString> = vec!["dev".into(), "--dir".into(), self.data.clone().into()];
        for (flag, value) in [
            ("--nodes", self.nodes.to_string()),
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

    /// As the first node sees the cluster.
    pub async fn status(&self) -> Result<Status> {
        Ok(serde_json::from_value(cli::admin(&self.node()?.admin, &["status"]).await?)?)
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

/// What a stopped node's drive says of itself after all of it was read.
#[derive(Debug, Deserialize)]
pub struct Inspected {
    pub shards: u64,
    pub sound: bool,
}

/// Inspects the drives of a node that is stopped. Damage is an error.
pub async fn inspect(drives: &[PathBuf]) -> Result<Vec<Inspected>> {
    let mut inspected = Vec::new();
    for dir in drives {
        let args: [&OsStr; 5] =
            ["drive".as_ref(), "inspect".as_ref(), dir.as_ref(), "--verify".as_ref(), "--json".as_ref()];
        let output = cli::run(args).await?;
        let told = || {
            let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
            format!("{} ({}): {out}{err}", dir.display(), output.status)
        };
        ensure!(output.status.success(), "a drive is not sound: {}", told());
        let drive: Inspected = serde_json::from_slice(&output.stdout).with_context(told)?;
        ensure!(drive.sound, "the exit code says sound, the text does not: {}", told());
        inspected.push(drive);
    }
    Ok(inspected)
}
