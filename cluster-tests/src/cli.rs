//! The operator's commands, as an operator would type them.

use crate::binary;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    ffi::OsStr,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::process::Command;

/// Bootstrapping elects leaders and waits for every node; everything else is quicker.
const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// Runs `ashlar` to its end.
pub async fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
    let mut command = Command::new(binary::ashlar()?);
    command.args(args).env("RUST_BACKTRACE", "1").stdin(Stdio::null()).kill_on_drop(true);
    let shown = format!("{:?}", command.as_std());
    tokio::time::timeout(COMMAND_WITHIN, command.output())
        .await
        .with_context(|| format!("{shown} did not end within {COMMAND_WITHIN:?}"))?
        .with_context(|| format!("cannot run {shown}"))
}

/// Runs a command on a node's admin socket and parses what it prints.
pub async fn admin(socket: &Path, args: &[&str]) -> Result<Value> {
    let mut all: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    all.extend([OsStr::new("--admin"), socket.as_os_str(), OsStr::new("--json")]);
    let output = run(all).await?;
    ensure!(
        output.status.success(),
        "ashlar {} failed ({}): {}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "ashlar {} --json printed no JSON: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stdout)
        )
    })
}

/// A text field of a reply.
pub fn text(reply: &Value, field: &str) -> Result<String> {
    Ok(reply[field].as_str().with_context(|| format!("no text `{field}` in {reply}"))?.to_owned())
}

/// A number field of a reply.
pub fn number(reply: &Value, field: &str) -> Result<u64> {
    reply[field].as_u64().with_context(|| format!("no number `{field}` in {reply}"))
}
