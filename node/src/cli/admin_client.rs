//! The admin service as the command line reaches it.

use anyhow::{Context, anyhow};
use ashlar_proto::admin::admin_service_client::AdminServiceClient;
use ashlar_runtime::{Connection, Net, RealNet};
use hyper_util::rt::TokioIo;
use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{self, Poll},
};
use tonic::{
    Status,
    codegen::{Service, http::Uri},
    transport::{Channel, Endpoint},
};

/// Connects now, so that a node that is not there is told at once.
pub(super) async fn connect(socket: &Path) -> anyhow::Result<AdminServiceClient<Channel>> {
    let channel = Endpoint::from_static("http://admin.invalid")
        .connect_with_connector(Socket(socket.to_owned()))
        .await
        .with_context(|| {
            format!("no node answers on {}; start one, or name its socket with --admin", socket.display())
        })?;
    Ok(AdminServiceClient::new(channel))
}

/// The text that the node gave.
pub(super) fn told(status: Status) -> anyhow::Error {
    anyhow!("{}", status.message())
}

#[derive(Clone)]
struct Socket(PathBuf);

impl Service<Uri> for Socket {
    type Response = TokioIo<Box<dyn Connection>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { RealNet.connect_unix(&path).await.map(TokioIo::new) })
    }
}
