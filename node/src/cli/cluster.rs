//! `ashlar cluster`: init, join, bootstrap, token.

use super::{
    Admin,
    admin_client::{connect, told},
    parse_duration, print_json,
};
use ashlar_proto::admin as wire;
use clap::{Args, Subcommand};
use std::time::Duration;

#[derive(Subcommand)]
pub(super) enum Cluster {
    /// Make a cluster of the node behind the socket; prints the first root key and a join token.
    Init(Init),
    /// Let the node behind the socket join the cluster of a peer.
    Join(Join),
    /// Settle profile, placement groups, metadata groups and voters; from here on the cluster takes data.
    Bootstrap(Bootstrap),
    /// Another one-time join token.
    Token(Token),
}

#[derive(Args)]
pub(super) struct Init {
    #[command(flatten)]
    admin: Admin,
    /// Default: generated.
    #[arg(long, default_value = "", hide_default_value = true)]
    access_key: String,
    /// Default: generated.
    #[arg(long, default_value = "", hide_default_value = true)]
    secret_key: String,
}

#[derive(Args)]
pub(super) struct Join {
    #[command(flatten)]
    admin: Admin,
    /// RPC address of any member.
    #[arg(long, value_name = "HOST:PORT")]
    peer: String,
    /// From `cluster init` or `cluster token`; valid once.
    #[arg(long)]
    token: String,
}

#[derive(Args)]
pub(super) struct Bootstrap {
    #[command(flatten)]
    admin: Admin,
    /// k+m, for example 4+2. Default: the widest that survives the loss of a failure domain.
    #[arg(long, value_name = "K+M", default_value = "", hide_default_value = true)]
    profile: String,
    /// Metadata groups besides the system group. Default: 8.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    groups: u32,
    /// How long deleted bytes stay for reads that run. Default: 1h.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    read_grace: Option<Duration>,
}

#[derive(Args)]
pub(super) struct Token {
    #[command(flatten)]
    admin: Admin,
}

impl Cluster {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Init(command) => command.run().await,
            Self::Join(command) => command.run().await,
            Self::Bootstrap(command) => command.run().await,
            Self::Token(command) => command.run().await,
        }
    }
}

impl Init {
    async fn run(self) -> anyhow::Result<()> {
        let request = wire::InitRequest { access_key: self.access_key, secret_key: self.secret_key };
        let reply = connect(&self.admin.admin).await?.init(request).await.map_err(told)?.into_inner();
        if self.admin.json {
            return print_json(&reply);
        }
        println!("cluster     {}", reply.cluster);
        println!("access key  {}", reply.access_key);
        println!("secret key  {}    (shown once)", reply.secret_key);
        println!("join token  {}    (valid once; more with `ashlar cluster token`)", reply.join_token);
        println!(
            "\nNext: start the other nodes and run `ashlar cluster join --peer HOST:PORT --token T` on each,"
        );
        println!("then `ashlar cluster bootstrap` on any.");
        Ok(())
    }
}

impl Join {
    async fn run(self) -> anyhow::Result<()> {
        let request = wire::JoinRequest { peer: self.peer, token: self.token };
        let reply = connect(&self.admin.admin).await?.join(request).await.map_err(told)?.into_inner();
        if self.admin.json {
            return print_json(&reply);
        }
        println!("joined cluster {} as node {}", reply.cluster, reply.node);
        Ok(())
    }
}

impl Bootstrap {
    async fn run(self) -> anyhow::Result<()> {
        let read_grace_ms = self.read_grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        let request = wire::BootstrapRequest { profile: self.profile, groups: self.groups, read_grace_ms };
        let reply = connect(&self.admin.admin).await?.bootstrap(request).await.map_err(told)?.into_inner();
        if self.admin.json {
            return print_json(&reply);
        }
        println!("profile           {} over {}s", reply.profile, reply.domain);
        println!("placement groups  {}", reply.placement_groups);
        println!("metadata groups   {}, {} voters each", reply.groups, reply.voters);
        for warning in &reply.warnings {
            println!("warning: {warning}");
        }
        Ok(())
    }
}

impl Token {
    async fn run(self) -> anyhow::Result<()> {
        let reply =
            connect(&self.admin.admin).await?.token(wire::TokenRequest {}).await.map_err(told)?.into_inner();
        if self.admin.json {
            return print_json(&reply);
        }
        println!("{}", reply.join_token);
        Ok(())
    }
}
