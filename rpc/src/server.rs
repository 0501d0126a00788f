//! Accepts connections of other nodes and serves calls on them.

use crate::{
    Routes, RpcIdentity,
    connector::{ConnectError, resolve},
    peers::TaskExecutor,
    refusals::Refusals,
    routes::Host,
    tls::Proven,
    tuning::{
        CONCURRENT_STREAMS, CONNECTION_WINDOW_BYTES, DRAIN_LIMIT, FRAME_BYTES, HANDSHAKE_TIMEOUT,
        KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, STREAM_WINDOW_BYTES,
    },
};
use ashlar_runtime::{ClockExt, Connection, Env, Listener, TaskSet};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::sync::watch;
use tonic::body::Body;

/// The listener for calls of other nodes could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Without TLS anyone on the network could read and change everything.
    #[error("{0} is not a loopback address: what is not encrypted stays on this machine")]
    NotLoopback(SocketAddr),
    #[error(transparent)]
    Address(#[from] ConnectError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

/// Pause after a failed accept: out of file descriptors is the usual reason, and passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on `host:port`, loopback only, for connections in the clear.
pub async fn bind(env: &Env, address: &str) -> Result<Box<dyn Listener>, BindError> {
    let address = resolve(address).await?;
    if !address.ip().is_loopback() {
        return Err(BindError::NotLoopback(address));
    }
    listen(env, address).await
}

/// Listens on `host:port` as this identity does: on any address, if its connections are secured.
pub async fn bind_for(
    env: &Env,
    address: &str,
    identity: &RpcIdentity,
) -> Result<Box<dyn Listener>, BindError> {
    if identity.is_secured() { listen(env, resolve(address).await?).await } else { bind(env, address).await }
}

async fn listen(env: &Env, address: SocketAddr) -> Result<Box<dyn Listener>, BindError> {
    env.net.listen(address).await.map_err(|source| BindError::Listen { address, source })
}

/// Serves until `shutdown` is ready, then lets calls in flight end for a short time. Dropping the future closes all
/// connections at once.
pub async fn serve(
    env: &Env,
    listener: Box<dyn Listener>,
    routes: Routes,
    identity: RpcIdentity,
    shutdown: impl Future<Output = ()> + Send,
) {
    let connections = TaskSet::new();
    let (closing, closed) = watch::channel(false);
    let refusals = Arc::new(Refusals::new(Arc::clone(&env.clock)));
    let host = Host { env: env.clone(), identity, closing: closed, refusals };
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((connection, peer)) => {
                let serving = serve_connection(host.clone(), connection, peer, routes.clone());
                connections.push(env.tasks.spawn("rpc-server", serving));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection of a node failed");
                env.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // Nobody listens if there is no connection.
    let _ = closing.send(true);
    if env.clock.timeout(DRAIN_LIMIT, connections.join_all()).await.is_err() {
        connections.abort_all();
    }
}

async fn serve_connection(host: Host, connection: Box<dyn Connection>, peer: SocketAddr, routes: Routes) {
    let Some((connection, proven)) = secure(&host, connection, peer).await else { return };
    let tasks = host.env.tasks.clone();
    let mut closed = host.closing.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (host, routes) = (host.clone(), routes.clone());
        async move { Ok::<_, Infallible>(routes.answer(&host, peer, proven, request.map(Body::new)).await) }
    });
    let serving = http2::Builder::new(TaskExecutor(tasks))
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .serve_connection(TokioIo::new(connection), service);
    let mut serving = pin!(serving);
    let closing = async move {
        // The guard that the wait returns must not live on.
        let _ = closed.wait_for(|closing| *closing).await.map(|_| ());
    };
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = closing => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        // The peer went away or broke the protocol; its calls have failed there.
        tracing::debug!(%error, "a connection of a node ended");
    }
}

/// The connection, and what its other end has proven.
async fn secure(
    host: &Host,
    connection: Box<dyn Connection>,
    peer: SocketAddr,
) -> Option<(Box<dyn Connection>, Proven)> {
    let Some(tls) = host.identity.tls() else { return Some((connection, Proven::Plain)) };
    match host.env.clock.timeout(HANDSHAKE_TIMEOUT, tls.accept(connection)).await {
        Ok(Ok(secured)) => Some(secured),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            host.refusals.told_to(&peer.ip().to_string(), &error.to_string());
            None
        }
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "a connection ended before it was secured");
            None
        }
        Err(_) => {
            tracing::debug!(%peer, "a connection was not secured in time");
            None
        }
    }
}
