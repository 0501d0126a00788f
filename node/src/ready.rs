//! The ready file: how scripts learn that listeners are up, and where.

use crate::{identity::write_durably, node::Node};
use ashlar_runtime::Disk;
use serde::Serialize;
use std::{io, path::Path};

#[derive(Serialize)]
struct Ready {
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_key: Option<String>,
    nodes: Vec<ReadyNode>,
}

#[derive(Serialize)]
struct ReadyNode {
    /// 0 for a node that belongs to no cluster yet.
    id: u32,
    s3: String,
    rpc: String,
    admin: String,
    metrics: String,
    drives: Vec<String>,
}

/// Written to a temporary name and renamed, so that whoever sees the file sees all of it.
pub fn write(
    disk: &dyn Disk,
    path: &Path,
    nodes: &[Node],
    credentials: Option<(&str, &str)>,
) -> io::Result<()> {
    let ready = Ready {
        pid: std::process::id(),
        access_key: credentials.map(|(access, _)| access.to_owned()),
        secret_key: credentials.map(|(_, secret)| secret.to_owned()),
        nodes: nodes.iter().map(describe).collect(),
    };
    let bytes = serde_json::to_vec(&ready)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let absolute = std::path::absolute(path)?;
    write_durably(disk, Path::new(&temporary), &absolute, &bytes)
}

fn describe(node: &Node) -> ReadyNode {
    let addresses = node.addresses();
    ReadyNode {
        id: node.running().map_or(0, |running| running.identity.node.0),
        s3: addresses.s3_url(),
        rpc: addresses.rpc.to_string(),
        admin: addresses.admin.display().to_string(),
        metrics: addresses.metrics.map(|address| format!("http://{address}/metrics")).unwrap_or_default(),
        drives: node.drive_paths().iter().map(|path| path.display().to_string()).collect(),
    }
}
