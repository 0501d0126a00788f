//! Sockets of the S3 front end: accept loop, connections, graceful shutdown.
//!
//! Owns the bounds of what an unauthenticated client can hold: open connections, the time and size of a request's
//! head, the time that a response may stand still. HTTP/1.1 only, as S3 clients speak it.

mod hyper_clock;
mod stream;

use crate::{metrics::OpenConnection, service::S3Service};
use ashlar_runtime::{ClockExt, Connection, Listener, TaskSet};
use futures_util::FutureExt;
use hyper::{body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_clock::HyperClock;
use hyper_util::rt::TokioIo;
use std::{
    future::Future,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use stream::ClientStream;
use tokio::sync::{Semaphore, watch};
use tracing::{debug, error, info, warn};

/// Read and write buffer of one connection: large enough that a body moves in few system calls.
const BUFFER_LEN_MAX: usize = 256 << 10;
/// User metadata of 2 KiB may come as hundreds of short headers.
const HEADERS_MAX: usize = 512;
/// A request's line and headers; S3 itself allows 8 KiB, and signed URLs with long keys have been seen beyond that.
const HEAD_LEN_MAX: usize = 64 << 10;
/// How long to wait when the system has no file descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

impl S3Service {
    /// Accepts and serves connections until `shutdown` is ready. Then it accepts no more, lets requests in flight
    /// finish for a bounded time and aborts the rest. Not cancel-safe in spirit: dropping it aborts all requests.
    pub async fn serve(
        self: Arc<Self>,
        listener: Box<dyn Listener>,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        let limits = &self.config.connections;
        let places = Arc::new(Semaphore::new(limits.open_max));
        let connections = TaskSet::new();
        let (stop, stopping) = watch::channel(false);
        let mut shutdown = pin!(shutdown);
        info!(address = ?listener.local_addr().ok(), "S3 is served");
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = shutdown.as_mut() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let service = Arc::clone(&self);
                    let stopping = stopping.clone();
                    connections.push(self.env.tasks.spawn("s3-connection", async move {
                        let work = AssertUnwindSafe(service.connection(stream, peer, stopping));
                        if work.catch_unwind().await.is_err() {
                            error!(%peer, "a request panicked; its connection is closed");
                        }
                        drop(place);
                    }));
                }
                Err(error) => {
                    warn!(%error, "accepting a connection failed");
                    self.env.clock.sleep(ACCEPT_RETRY).await;
                }
            }
        }
        drop(listener);
        stop.send_replace(true);
        // Each connection bounds its own end.
        connections.join_all().await;
    }

    async fn connection(
        self: Arc<Self>,
        stream: Box<dyn Connection>,
        peer: SocketAddr,
        mut stopping: watch::Receiver<bool>,
    ) {
        let _counted = OpenConnection::new(Arc::clone(&self.config.node));
        let limits = &self.config.connections;
        let clock = &self.env.clock;
        let unread = Arc::new(AtomicBool::new(false));
        let stream = ClientStream::new(stream, Arc::clone(clock), limits.write_idle_max, Arc::clone(&unread));
        let requests = service_fn(|request: hyper::Request<Incoming>| {
            let (service, unread) = (Arc::clone(&self), Arc::clone(&unread));
            async move {
                let response = service.handle(request).await;
                // The service closes a connection for this reason only.
                unread.fetch_or(response.headers().contains_key(header::CONNECTION), Ordering::Relaxed);
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(HyperClock::new(Arc::clone(clock)))
            .header_read_timeout(limits.head_time_max)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_LEN_MAX)
            .max_buf_size(BUFFER_LEN_MAX)
            .half_close(false)
            .serve_connection(TokioIo::new(stream), requests);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = async { drop(stopping.wait_for(|stop| *stop).await) } => {
                connection.as_mut().graceful_shutdown();
                match clock.timeout(limits.shutdown_time_max, connection).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        warn!(%peer, "a request was still running at the end of the shutdown and was aborted");
                        return;
                    }
                }
            }
        };
        if let Err(error) = ended {
            debug!(%peer, %error, "a connection ended with an error");
        }
    }
}
