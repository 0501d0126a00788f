//! One node: its directories, its addresses, its configuration, and its process while it runs.

use crate::{
    cli,
    ports::Port,
    process::{Process, Signal},
    proxy::{Links, Proxy},
    status::{Explain, Status},
    until::{Probe, until},
};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// Enough for sixteen concurrent uploads, little enough for six nodes on one small machine.
const MEMORY_LIMIT: &str = "512 MiB";
/// Given to each drive directory, so that nodes do not measure one device a dozen times.
const DRIVE_CAPACITY: &str = "16 GiB";
/// Replaying a log in a build without optimisation, with five other nodes at it.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Node {
    dir: PathBuf,
    s3: Port,
    rpc: Port,
    metrics: Port,
    drives: Vec<PathBuf>,
    process: Option<Process>,
    /// What the other nodes reach it through.
    behind: Option<Behind>,
}

#[derive(Debug)]
struct Behind {
    proxy: Proxy,
    links: Links,
    number: u32,
}

/// What a started process says about itself, once its listeners are up.
#[derive(Clone, Debug, Deserialize)]
pub struct ReadyFile {
    pub pid: u32,
    pub nodes: Vec<ReadyNode>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ReadyNode {
    /// 0 while it is unformed.
    pub id: u32,
    /// URL of its S3 endpoint.
    pub s3: String,
    pub rpc: String,
    pub admin: PathBuf,
    pub drives: Vec<PathBuf>,
}

impl ReadyFile {
    /// Waits until `process` has written it.
    pub async fn wait(path: &Path, process: &mut Process, within: Duration) -> Result<Self> {
        until(&format!("{}", path.display()), within, async || {
            process.check_alive()?;
            let bytes = match std::fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) => return Ok(Probe::NotYet(error.to_string())),
            };
            // It appears by a rename: what can be read is whole.
            let ready: Self = serde_json::from_slice(&bytes)
                .with_context(|| format!("{}: {}", path.display(), String::from_utf8_lossy(&bytes)))?;
            Ok(if ready.pid == process.pid() {
                Probe::Done(ready)
            } else {
                Probe::NotYet(format!("written by process {}", ready.pid))
            })
        })
        .await
    }
}

impl Node {
    /// Makes directories and the configuration below `dir`; starts nothing.
    pub fn prepare(dir: PathBuf, drives: usize) -> Result<Self> {
        let drives: Vec<PathBuf> = (1..=drives).map(|n| dir.join(format!("d{n}"))).collect();
        for path in drives.iter().chain([&dir.join("data")]) {
            std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        let node = Self {
            dir,
            s3: Port::free()?,
            rpc: Port::free()?,
            metrics: Port::free()?,
            drives,
            process: None,
            behind: None,
        };
        node.write_config(&node.config_text(&node.drives))?;
        Ok(node)
    }

    /// Puts a proxy before a node that was never started and will have this number in its cluster.
    pub async fn behind_proxy(mut self, number: u32, links: &Links) -> Result<Self> {
        let proxy = Proxy::before(number, self.rpc.address(), links).await?;
        self.behind = Some(Behind { proxy, links: links.clone(), number });
        self.write_config(&self.config_text(&self.drives))?;
        Ok(self)
    }

    /// The configuration file's text with these drive directories.
    pub fn config_text(&self, drives: &[PathBuf]) -> String {
        let mut text = format!(
            "data_dir = {:?}\ns3_listen = \"{}\"\nrpc_listen = \"{}\"\nmetrics_listen = \"{}\"\n\
             memory_limit = \"{MEMORY_LIMIT}\"\ns3 = {{ region = \"us-east-1\" }}\ndrives = [\n",
            self.data_dir(),
            self.s3.address(),
            self.rpc.address(),
            self.metrics.address()
        );
        if let Some(behind) = &self.behind {
            text.insert_str(0, &format!("rpc_advertise = \"{}\"\n", behind.proxy.address()));
        }
        for drive in drives {
            writeln!(text, "    {{ path = {drive:?}, capacity = \"{DRIVE_CAPACITY}\" }},")
                .expect("a string takes any text");
        }
        text.push_str("]\n");
        text
    }

    pub fn write_config(&self, text: &str) -> Result<()> {
        std::fs::write(self.config(), text)
            .with_context(|| format!("cannot write {}", self.config().display()))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("node.toml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn drives(&self) -> &[PathBuf] {
        &self.drives
    }

    pub fn admin(&self) -> PathBuf {
        self.data_dir().join("admin.sock")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("stderr.log")
    }

    pub fn s3_address(&self) -> std::net::SocketAddr {
        self.s3.address()
    }

    pub fn s3_url(&self) -> String {
        format!("http://{}", self.s3.address())
    }

    pub fn rpc_address(&self) -> String {
        let address = self.behind.as_ref().map_or(self.rpc.address(), |behind| behind.proxy.address());
        address.to_string()
    }

    pub fn signal(&self, which: Signal) -> Result<()> {
        let dir = self.dir.display();
        self.process.as_ref().with_context(|| format!("the node in {dir} does not run"))?.signal(which)
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    fn ready_file(&self) -> PathBuf {
        self.dir.join("ready.json")
    }

    /// The command line of this node.
    pub fn args(&self) -> Vec<std::ffi::OsString> {
        let (config, ready) = (self.config(), self.ready_file());
        ["server".into(), "--config".into(), config.into(), "--ready-file".into(), ready.into()].into()
    }

    /// Starts the process; `wait_ready` says when it listens.
    pub fn spawn(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("the node in {} runs already", self.dir.display());
        }
        let process = Process::spawn(self.args(), &self.log())?;
        if let Some(behind) = &self.behind {
            behind.links.is_node(process.pid(), behind.number);
        }
        self.process = Some(process);
        Ok(())
    }

    pub async fn wait_ready(&mut self) -> Result<ReadyNode> {
        let path = self.ready_file();
        let ready = ReadyFile::wait(&path, self.running()?, READY_WITHIN).await?;
        ready.nodes.first().cloned().with_context(|| format!("{} names no node", path.display()))
    }

    pub fn check_alive(&mut self) -> Result<()> {
        self.running()?.check_alive()
    }

    fn running(&mut self) -> Result<&mut Process> {
        let dir = self.dir.display();
        self.process.as_mut().with_context(|| format!("the node in {dir} does not run"))
    }

    /// Gives the process away, to be ended.
    pub fn take_process(&mut self) -> Result<Process> {
        let dir = self.dir.display();
        self.process.take().with_context(|| format!("the node in {dir} does not run"))
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        self.take_process()?.kill().await
    }

    /// SIGTERM; it must end in order.
    pub async fn stop(&mut self) -> Result<()> {
        self.take_process()?.stop(Signal::Term, STOP_WITHIN).await
    }

    pub async fn status(&self) -> Result<Status> {
        let reply = cli::admin(&self.admin(), &["status"]).await?;
        serde_json::from_value(reply.clone()).with_context(|| format!("not a status: {reply}"))
    }

    pub async fn explain(&self, bucket: &str, key: &str) -> Result<Explain> {
        let reply = cli::admin(&self.admin(), &["explain", bucket, key]).await?;
        serde_json::from_value(reply.clone()).with_context(|| format!("not an explanation: {reply}"))
    }
}
