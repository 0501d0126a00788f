//! Which service answers a call, and who may call it.

use crate::{
    CallHandler, MAX_MESSAGE_BYTES, MapEpochs, RpcIdentity,
    call::{CallTable, check_hello, server::CallServer},
    deadline::{TIMEOUT_HEADER, parse},
    epochs::EPOCH_HEADER,
    identity::{Caller, NODE_HEADER, PROTOCOL_HEADER, header},
    refusals::Refusals,
    tls::Proven,
    tuning::{EPOCH_WAIT_MAX, FRAME_HEAD_BYTES},
};
use ashlar_proto::call::{
    Hello,
    call_service_server::{CallServiceServer, SERVICE_NAME as CALLS},
};
use ashlar_runtime::{ClockExt, Env};
use ashlar_types::{MapEpoch, NodeId};
use http::{HeaderMap, HeaderValue, Request, Response};
use std::{
    collections::BTreeMap, convert::Infallible, fmt, future::Future, net::SocketAddr, ops::RangeInclusive,
    pin::Pin, sync::Arc,
};
use tokio::sync::watch;
use tonic::{Status, body::Body, server::NamedService};
use tower_service::Service;

type Reply = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Services by their name, and handlers of small calls by their methods. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    services: Arc<BTreeMap<&'static str, Route>>,
    calls: CallTable,
}

/// What a call finds on the node that it reaches.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) env: Env,
    pub(crate) identity: RpcIdentity,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) refusals: Arc<Refusals>,
}

/// Marks the answer to a call that was refused before any service saw it.
pub(crate) const REFUSED_HEADER: &str = "ashlar-refused";

#[derive(Clone)]
struct Route {
    access: Access,
    /// Calls wait until this node knows the map that their caller knows.
    epochs: Option<MapEpochs>,
    call: Arc<dyn Fn(Request<Body>) -> Reply + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Callers of the same cluster.
    Members,
    /// Anyone who can connect; the service checks what it needs.
    Open,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Routes {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a generated service for nodes of this cluster.
    #[must_use]
    #[allow(
        clippy::should_implement_trait,
        reason = "named beside `add_open`; nobody writes routes + service"
    )]
    pub fn add<S>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.insert(service, Access::Members)
    }

    /// Adds a generated service that answers callers without an identity too: joining is one.
    #[must_use]
    pub fn add_open<S>(self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        self.insert(service, Access::Open)
    }

    /// Has small calls of these methods answered by `handler`; they are for nodes of this cluster. Of ranges that
    /// overlap, the first counts.
    #[must_use]
    pub fn calls(mut self, methods: RangeInclusive<u16>, handler: Arc<dyn CallHandler>) -> Self {
        self.calls.add(methods, handler);
        self
    }

    /// What was added so far answers a caller that knows a newer map only once this node knows it too, or not at all
    /// within the deadline. Not for what brings the map.
    #[must_use]
    pub fn map_epoch(mut self, epochs: &MapEpochs) -> Self {
        for route in Arc::make_mut(&mut self.services).values_mut() {
            route.epochs = Some(epochs.clone());
        }
        self.calls.set_epochs(epochs);
        self
    }

    /// The services and small calls of both.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        let services = other.services.iter().map(|(name, route)| (*name, route.clone()));
        Arc::make_mut(&mut self.services).extend(services);
        self.calls.extend(&other.calls);
        self
    }

    fn insert<S>(mut self, service: S, access: Access) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let call = Arc::new(move |request: Request<Body>| -> Reply {
            // Generated services are always ready: `poll_ready` is part of the trait only.
            let mut service = service.clone();
            Box::pin(async move {
                match service.call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            })
        });
        Arc::make_mut(&mut self.services).insert(S::NAME, Route { access, epochs: None, call });
        self
    }

    pub(crate) async fn answer(
        &self,
        host: &Host,
        peer: SocketAddr,
        proven: Proven,
        mut request: Request<Body>,
    ) -> Response<Body> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let route = self.services.get(service);
        let access = match route {
            Some(route) => route.access,
            None if service == CALLS => Access::Members,
            None => return Status::unimplemented("no such service").into_http(),
        };
        if let Err(reason) = admit(&host.identity, access, proven, request.headers()) {
            host.refusals.told_to(&told_apart(peer, request.headers()), &reason);
            let mut refusal = Status::failed_precondition(reason).into_http();
            refusal.headers_mut().insert(REFUSED_HEADER, HeaderValue::from_static("1"));
            return refusal;
        }
        if let Some(caller) = header::<NodeId>(request.headers(), NODE_HEADER) {
            request.extensions_mut().insert(Caller(caller));
        }
        let limit = request.headers().get(TIMEOUT_HEADER).and_then(|value| parse(value.to_str().ok()?));
        let clock = Arc::clone(&host.env.clock);
        let epoch = header(request.headers(), EPOCH_HEADER).map_or(MapEpoch(0), MapEpoch);
        let reply = async {
            match route {
                Some(Route { epochs: Some(epochs), .. }) if epochs.current() < epoch => {
                    if clock.timeout(EPOCH_WAIT_MAX, epochs.reached(epoch)).await.is_err() {
                        return behind(epochs, epoch).into_http();
                    }
                }
                Some(_) | None => {}
            }
            match route {
                Some(route) => (route.call)(request).await,
                None => self.serve_calls(host, peer, request).await,
            }
        };
        match limit {
            None => reply.await,
            Some(limit) => clock
                .timeout(limit, reply)
                .await
                .unwrap_or_else(|elapsed| Status::deadline_exceeded(elapsed.to_string()).into_http()),
        }
    }

    fn serve_calls(&self, host: &Host, peer: SocketAddr, request: Request<Body>) -> Reply {
        let server = CallServer {
            env: host.env.clone(),
            table: self.calls.clone(),
            closing: host.closing.clone(),
            refusals: Arc::clone(&host.refusals),
            peer: told_apart(peer, request.headers()),
        };
        let mut service = CallServiceServer::new(server)
            .max_decoding_message_size(MAX_MESSAGE_BYTES + FRAME_HEAD_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES + FRAME_HEAD_BYTES);
        Box::pin(async move {
            match service.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        })
    }
}

/// The answer to a caller whose map did not arrive here in time.
pub(crate) fn behind(epochs: &MapEpochs, epoch: MapEpoch) -> Status {
    let ours = epochs.current();
    Status::unavailable(format!(
        "this node knows the cluster map of epoch {ours}, not that of epoch {epoch} yet"
    ))
}

/// Whom a line in the log is about: ports change with every try.
fn told_apart(peer: SocketAddr, headers: &HeaderMap) -> String {
    match header::<NodeId>(headers, NODE_HEADER) {
        Some(node) => format!("{} (says that it is node {node})", peer.ip()),
        None => peer.ip().to_string(),
    }
}

fn admit(identity: &RpcIdentity, access: Access, proven: Proven, headers: &HeaderMap) -> Result<(), String> {
    match (headers.get(PROTOCOL_HEADER), access) {
        (Some(value), Access::Members | Access::Open) => {
            let versions = value.to_str().ok().and_then(|text| text.split_once('-'));
            let hello = versions.and_then(|(oldest, newest)| {
                Some(Hello { protocol: newest.parse().ok()?, protocol_oldest: oldest.parse().ok()? })
            });
            let hello = hello.ok_or("the caller names its protocol in a way this node does not read")?;
            check_hello(hello).map_err(|status| status.message().to_owned())?;
        }
        (None, Access::Members) => return Err("the caller does not say which protocol it speaks".to_owned()),
        (None, Access::Open) => {}
    }
    match access {
        Access::Members => identity.check(proven, headers),
        Access::Open => Ok(()),
    }
}
