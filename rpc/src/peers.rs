//! Channels to other nodes, made when first asked for and kept.
//!
//! A channel connects when it is first used and again after its connection broke; calls on it fail meanwhile with
//! `UNAVAILABLE`, they do not queue.

use crate::{
    MAX_MESSAGE_BYTES, Method, RpcIdentity,
    call::{
        NotBegun,
        link::{Ended, Link},
    },
    connector::Connector,
    epochs::{EPOCH_HEADER, MapEpochs},
    refusals::Refusals,
    routes::REFUSED_HEADER,
    tuning::{
        BULK_CONNECTIONS, CONNECTION_WINDOW_BYTES, FRAME_BYTES, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT,
        STREAM_WINDOW_BYTES,
    },
};
use ashlar_runtime::{Env, Tasks, sync};
use bytes::Bytes;
use hyper::rt::Executor;
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tonic::{
    Request, Status,
    body::Body,
    metadata::MetadataMap,
    service::Interceptor,
    transport::{Channel, Endpoint},
};
use tower_service::Service;

/// Which connection of a peer a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Raft, metadata, admin, small shards: never behind bulk bodies.
    Small,
    /// Streams of shards. The number is taken modulo the connections there are; [`Peers::bulk`] counts it up.
    Bulk(u8),
}

/// What generated clients are made from: a channel that says who calls, and that tells of refusals.
#[derive(Clone, Debug)]
pub struct PeerService {
    channel: Channel,
    stamp: Stamp,
    address: Arc<str>,
}

impl Service<http::Request<Body>> for PeerService {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        self.stamp.stamp(request.headers_mut());
        let call = self.channel.call(request);
        let (refusals, address) = (Arc::clone(&self.stamp.0.refusals), Arc::clone(&self.address));
        Box::pin(async move {
            let response = call.await?;
            if response.headers().contains_key(REFUSED_HEADER) {
                let status = Status::from_header_map(response.headers());
                let reason = status.as_ref().map_or("it does not say why", Status::message);
                refusals.told_by(&address, reason);
            }
            Ok(response)
        })
    }
}

/// Adds this node's identity to calls.
#[derive(Clone, Debug)]
pub struct Stamp(Arc<Shared>);

impl Stamp {
    fn stamp(&self, headers: &mut http::HeaderMap) {
        self.0.identity.stamp(headers);
        if let Some(epochs) = self.0.epochs.get() {
            headers.insert(EPOCH_HEADER, http::HeaderValue::from(epochs.current().0));
        }
    }
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let mut headers = std::mem::take(request.metadata_mut()).into_headers();
        self.stamp(&mut headers);
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        Ok(request)
    }
}

/// Cheap to clone; clones share the channels.
#[derive(Clone, Debug)]
pub struct Peers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    env: Env,
    identity: RpcIdentity,
    refusals: Arc<Refusals>,
    epochs: OnceLock<MapEpochs>,
    channels: sync::Mutex<BTreeMap<(String, Class), Channel>>,
    links: sync::Mutex<BTreeMap<String, Arc<Link>>>,
    next_bulk: AtomicU8,
}

impl Peers {
    pub fn new(env: Env, identity: RpcIdentity) -> Self {
        Self(Arc::new(Shared {
            refusals: Arc::new(Refusals::new(Arc::clone(&env.clock))),
            env,
            identity,
            epochs: OnceLock::new(),
            channels: sync::Mutex::default(),
            links: sync::Mutex::default(),
            next_bulk: AtomicU8::new(0),
        }))
    }

    pub fn env(&self) -> &Env {
        &self.0.env
    }

    pub fn identity(&self) -> &RpcIdentity {
        &self.0.identity
    }

    /// Which map this node knows: calls say so from now on, and the peer waits until it knows that one too. The first
    /// one set stays.
    pub fn map_epoch(&self, epochs: MapEpochs) {
        // A second one would tell the same.
        let _ = self.0.epochs.set(epochs);
    }

    /// The channel to a node at `host:port`. Calls on it carry no identity: see [`Self::service`].
    pub fn channel(&self, address: &str, class: Class) -> Channel {
        let class = match class {
            Class::Small => Class::Small,
            Class::Bulk(number) => Class::Bulk(number % BULK_CONNECTIONS),
        };
        let mut channels = self.0.channels.lock().unwrap_or_else(sync_poison);
        channels.entry((address.to_owned(), class)).or_insert_with(|| self.open(address)).clone()
    }

    /// For generated clients: `MetadataServiceClient::new(peers.service(address, Class::Small))`.
    pub fn service(&self, address: &str, class: Class) -> PeerService {
        PeerService { channel: self.channel(address, class), stamp: self.stamp(), address: address.into() }
    }

    /// A small call, over the stream of the peer at `host:port`. [`never_sent`](crate::never_sent) says of a failed
    /// one whether it surely was not carried out. Cancel-safe: dropped, the call is withdrawn, though it may have been
    /// carried out.
    pub async fn call(
        &self,
        address: &str,
        method: Method,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Bytes, Status> {
        if payload.len() > MAX_MESSAGE_BYTES {
            let long = Status::out_of_range(format!("a call of {} bytes is too long", payload.len()));
            return Err(NotBegun::NotSent.mark(long));
        }
        let mut payload = payload;
        loop {
            let link = self.link(address);
            let epoch = self.0.epochs.get().map_or(0, |epochs| epochs.current().0);
            match link.call(method, payload, epoch, limit).await {
                Ok(result) => return result,
                // It ended between the two lines; the next one is a new one.
                Err(Ended(back)) => payload = back,
            }
        }
    }

    fn link(&self, address: &str) -> Arc<Link> {
        let mut links = self.0.links.lock().unwrap_or_else(sync_poison);
        if let Some(link) = links.get(address)
            && !link.has_ended()
        {
            return Arc::clone(link);
        }
        let service = self.service(address, Class::Small);
        let link = Arc::new(Link::open(&self.0.env, service, address, Arc::clone(&self.0.refusals)));
        links.insert(address.to_owned(), Arc::clone(&link));
        link
    }

    /// The next bulk connection in turn.
    pub fn bulk(&self, address: &str) -> PeerService {
        self.service(address, Class::Bulk(self.0.next_bulk.fetch_add(1, Ordering::Relaxed)))
    }

    /// For clients made from a channel: `XClient::with_interceptor(peers.channel(..), peers.stamp())`.
    pub fn stamp(&self) -> Stamp {
        Stamp(Arc::clone(&self.0))
    }

    /// Forgets the connections to an address that nobody uses any more.
    pub fn forget(&self, address: &str) {
        self.0.channels.lock().unwrap_or_else(sync_poison).retain(|(known, _), _| known != address);
        self.0.links.lock().unwrap_or_else(sync_poison).remove(address);
    }

    fn open(&self, address: &str) -> Channel {
        // An address that makes no URI makes a channel to nowhere: calls on it fail as those to any dead peer do.
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .unwrap_or_else(|_| Endpoint::from_static("http://invalid.invalid:1"));
        endpoint
            .max_frame_size(FRAME_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .executor(TaskExecutor(self.0.env.tasks.clone()))
            .connect_with_connector_lazy(Connector {
                env: self.0.env.clone(),
                identity: self.0.identity.clone(),
                refusals: Arc::clone(&self.0.refusals),
            })
    }
}

fn sync_poison<T>(poisoned: std::sync::PoisonError<T>) -> T {
    poisoned.into_inner()
}

/// Lets hyper start its connection tasks through the environment. They end with their connection.
#[derive(Clone, Debug)]
pub(crate) struct TaskExecutor(pub(crate) Tasks);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for TaskExecutor {
    fn execute(&self, task: F) {
        self.0.spawn("rpc-connection", task).detach();
    }
}
