//! `ashlar explain` and `ashlar user`.

use super::{
    Admin,
    admin_client::{connect, told},
    print_json,
    status::size,
};
use ashlar_proto::admin as wire;
use clap::{Args, Subcommand};

#[derive(Args)]
pub(super) struct Explain {
    bucket: String,
    key: String,
    /// Version id. Default: the latest.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    version_id: String,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Subcommand)]
pub(super) enum User {
    /// Make a user with an access key, or give an existing one another key.
    Create(CreateUser),
}

#[derive(Args)]
pub(super) struct CreateUser {
    /// Canonical id, shown as Owner.ID.
    #[arg(long)]
    id: String,
    /// Default: the id.
    #[arg(long, default_value = "", hide_default_value = true)]
    display_name: String,
    #[arg(long, default_value = "", hide_default_value = true)]
    email: String,
    /// Default: generated.
    #[arg(long, default_value = "", hide_default_value = true)]
    access_key: String,
    /// Default: generated.
    #[arg(long, default_value = "", hide_default_value = true)]
    secret_key: String,
    #[command(flatten)]
    admin: Admin,
}

impl Explain {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let request = wire::ExplainRequest { bucket: self.bucket, key: self.key, version: self.version_id };
        let reply = connect(&self.admin.admin).await?.explain(request).await.map_err(told)?.into_inner();
        if self.admin.json {
            return print_json(&reply);
        }
        println!("version {}  {}  etag {}", reply.version_id, size(reply.size), reply.etag);
        if reply.inline {
            println!("inline in metadata group {}", reply.group);
        }
        for chunk in &reply.chunks {
            println!(
                "chunk {}  {}  {}+{}  pg {} interval {}  margin {} (at ack {})",
                chunk.id,
                size(chunk.len),
                chunk.k,
                chunk.m,
                chunk.pg,
                chunk.interval,
                chunk.margin,
                chunk.margin_at_ack
            );
            for slot in &chunk.slots {
                println!(
                    "  slot {:<3} drive {:<4} node {:<4} {:<12} {} @{} +{}",
                    slot.slot, slot.drive, slot.node, slot.state, slot.file, slot.offset, slot.len
                );
            }
        }
        match reply.margin {
            margin if margin < 0 => println!("NOT READABLE: {} more shards are needed", -margin),
            0 => println!("readable; no further loss is survived"),
            margin => println!("survives the loss of {margin} more"),
        }
        Ok(())
    }
}

impl User {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Self::Create(command) = self;
        let request = wire::CreateUserRequest {
            id: command.id,
            display_name: command.display_name,
            email: command.email,
            access_key: command.access_key,
            secret_key: command.secret_key,
        };
        let mut client = connect(&command.admin.admin).await?;
        let reply = client.create_user(request).await.map_err(told)?.into_inner();
        if command.admin.json {
            return print_json(&reply);
        }
        println!("user        {}", reply.id);
        println!("access key  {}", reply.access_key);
        println!("secret key  {}    (shown once)", reply.secret_key);
        Ok(())
    }
}
