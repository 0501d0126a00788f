//! `ashlar server`.

use crate::{budgets::Budgets, config::Config, node::Node, ready};
use anyhow::Context;
use ashlar_runtime::Env;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Server {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Written when the listeners are up.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

impl Server {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = Config::load(&self.config)?;
        let env = Env::real();
        let budgets = Budgets::of(config.memory_limit);
        let node = Node::start(config, env.clone(), budgets).await?;
        if let Some(path) = &self.ready_file {
            ready::write(&*env.disk, path, std::slice::from_ref(&node), None)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        tracing::info!(
            s3 = %node.addresses().s3,
            rpc = %node.addresses().rpc,
            admin = %node.addresses().admin.display(),
            "node is up"
        );
        if node.running().is_none() {
            tracing::warn!(
                "this node belongs to no cluster: run `ashlar cluster init` or `ashlar cluster join` with --admin {}",
                node.addresses().admin.display()
            );
        }
        super::stop_signal().await?;
        tracing::info!("stopping");
        node.shutdown().await;
        Ok(())
    }
}
