//! Opens connections for tonic's channels over the sockets of the environment.

use crate::{
    RpcIdentity,
    refusals::Refusals,
    tls::stream::reason,
    tuning::{CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT},
};
use ashlar_runtime::{ClockExt, Connection, Env};
use http::Uri;
use hyper_util::rt::TokioIo;
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// No connection: whatever was to be sent over it has not reached the peer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0} is no address of the form host:port")]
    BadAddress(String),
    #[error("name of {address} cannot be resolved")]
    Resolve {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("no connection to {address}")]
    Refused {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("no connection to {0} in time")]
    Timeout(String),
    /// The peer is not one of this cluster, or does not take this node for one.
    #[error("no secured connection to {address}: {reason}")]
    Unsecured {
        address: String,
        reason: String,
        #[source]
        source: io::Error,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Connector {
    pub(crate) env: Env,
    pub(crate) identity: RpcIdentity,
    pub(crate) refusals: Arc<Refusals>,
}

impl Connector {
    async fn connect(self, address: String) -> Result<TokioIo<Box<dyn Connection>>, ConnectError> {
        let target = resolve(&address).await?;
        let connection = match self.env.clock.timeout(CONNECT_TIMEOUT, self.env.net.connect(target)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(source)) => return Err(ConnectError::Refused { address, source }),
            Err(_) => return Err(ConnectError::Timeout(address)),
        };
        let Some(tls) = self.identity.tls() else { return Ok(TokioIo::new(connection)) };
        let securing = tls.connect(connection, &address, &self.refusals);
        match self.env.clock.timeout(HANDSHAKE_TIMEOUT, securing).await {
            Ok(Ok(connection)) => Ok(TokioIo::new(connection)),
            Ok(Err(source)) => {
                let reason = reason(&source);
                // Anything else is a broken connection, which passes.
                if source.kind() == io::ErrorKind::InvalidData {
                    self.refusals.refused_peer(&address, &reason);
                }
                Err(ConnectError::Unsecured { address, reason, source })
            }
            Err(_) => Err(ConnectError::Timeout(address)),
        }
    }
}

/// Literal addresses need no resolver, which keeps simulated networks free of it.
pub(crate) async fn resolve(address: &str) -> Result<SocketAddr, ConnectError> {
    if let Ok(literal) = address.parse() {
        return Ok(literal);
    }
    let failed = |source| ConnectError::Resolve { address: address.to_owned(), source };
    let mut found = tokio::net::lookup_host(address).await.map_err(failed)?;
    found.next().ok_or_else(|| ConnectError::BadAddress(address.to_owned()))
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Connection>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            match uri.authority() {
                Some(authority) => connector.connect(authority.as_str().to_owned()).await,
                None => Err(ConnectError::BadAddress(uri.to_string())),
            }
        })
    }
}
