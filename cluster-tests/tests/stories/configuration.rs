//! What an operator may get wrong is refused by name, before anything is touched.

use anyhow::{Context, Result, ensure};
use ashlar_cluster_tests::{cli, cluster::Cluster, content::hex, node::Node, story::Story};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
};

pub(crate) async fn told(story: &Story) -> Result<()> {
    unknown_key(story).await.context("an unknown key")?;
    port_in_use(story).await.context("a port in use")?;
    file_for_directory(story).await.context("a file in place of a directory")?;
    Box::pin(foreign_drive(story)).await.context("a drive of another cluster")
}

async fn unknown_key(story: &Story) -> Result<()> {
    let node = Node::prepare(story.dir().join("unknown-key"), 1)?;
    let text = node.config_text(node.drives());
    node.write_config(&text.replace("memory_limit", "memroy_limit"))?;
    // The right name helps more than a page of the manual.
    refused(&node, &["memroy_limit", "memory_limit", "node.toml"]).await
}

async fn port_in_use(story: &Story) -> Result<()> {
    let node = Node::prepare(story.dir().join("port-in-use"), 1)?;
    let taken = TcpListener::bind(node.s3_address())?;
    refused(&node, &[&taken.local_addr()?.to_string(), "in use", "s3_listen"]).await
}

async fn file_for_directory(story: &Story) -> Result<()> {
    let node = Node::prepare(story.dir().join("file-for-data"), 1)?;
    std::fs::remove_dir(node.data_dir())?;
    std::fs::write(node.data_dir(), "precious")?;
    refused(&node, &[&shown(&node.data_dir()), "irectory"]).await?;

    let node = Node::prepare(story.dir().join("file-for-drive"), 2)?;
    std::fs::remove_dir(&node.drives()[1])?;
    std::fs::write(&node.drives()[1], "precious")?;
    refused(&node, &[&shown(&node.drives()[1]), "irectory"]).await
}

/// Two clusters of one node each; then one of them is given a drive of the other.
async fn foreign_drive(story: &Story) -> Result<()> {
    let mut homes = Vec::new();
    for name in ["home", "abroad"] {
        let mut node = Node::prepare(story.dir().join(name), 2)?;
        node.spawn()?;
        node.wait_ready().await?;
        let mut cluster = Cluster::form(vec![node], 1).await?;
        cluster.settle().await?;
        homes.push(cluster);
    }
    for cluster in &mut homes {
        cluster.node_mut(1).stop().await?;
    }
    let (home, abroad) = (homes[0].node(1), homes[1].node(1));
    let mixed: Vec<PathBuf> = vec![home.drives()[0].clone(), abroad.drives()[1].clone()];
    home.write_config(&home.config_text(&mixed))?;
    let before = snapshot(abroad.dir())?;
    refused(home, &[&shown(&mixed[1]), "cluster"]).await?;
    // A node without a cluster does not take it either: whatever it holds may be the last copy.
    let newcomer = Node::prepare(story.dir().join("newcomer"), 1)?;
    newcomer.write_config(&newcomer.config_text(&mixed[1..]))?;
    refused(&newcomer, &[&shown(&mixed[1]), "empty"]).await?;
    ensure!(snapshot(abroad.dir())? == before, "the foreign drive was changed");

    // The refusal was about the drive: with its own drives the node starts.
    home.write_config(&home.config_text(home.drives()))?;
    homes[0].restart(&[1]).await?;
    homes.swap_remove(0).stop().await
}

/// The node does not start, says why in these words, and leaves its directories as they were.
async fn refused(node: &Node, words: &[&str]) -> Result<()> {
    let before = snapshot(node.dir())?;
    let output = cli::run(node.args()).await?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code().is_some_and(|code| code != 0), "it ended with {}: {told}", output.status);
    for word in words {
        ensure!(told.contains(word), "{word:?} is not in what it says: {told}");
    }
    ensure!(!told.contains("panicked"), "it panicked: {told}");
    let after = snapshot(node.dir())?;
    let changed: Vec<&PathBuf> =
        before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
    ensure!(changed.is_empty(), "it changed {changed:?}");
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Every path below `dir` with what it holds.
fn snapshot(dir: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            let kind = path.symlink_metadata()?.file_type();
            let held = if kind.is_dir() {
                waiting.push(path.clone());
                "a directory".to_owned()
            } else if kind.is_file() {
                let bytes = std::fs::read(&path)?;
                hex(&Sha256::digest(bytes))
            } else {
                format!("{kind:?}")
            };
            found.insert(path, held);
        }
    }
    Ok(found)
}
