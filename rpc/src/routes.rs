//! Which service answers a call, and who may call it.

use crate::{
    CallHandler, MAX_MESSAGE_BYTES, RpcIdentity,
    call::{CallTable, server::CallServer},
    deadline::{TIMEOUT_HEADER, parse},
    identity::{CLUSTER_HEADER, Caller, NODE_HEADER},
    tuning::FRAME_HEAD_BYTES,
};
use ashlar_proto::call::call_service_server::{CallServiceServer, SERVICE_NAME as CALLS};
use ashlar_runtime::{ClockExt, Env};
use ashlar_types::{ClusterId, NodeId};
use http::{HeaderMap, Request, Response};
use std::{
    collections::BTreeMap, convert::Infallible, fmt, future::Future, ops::RangeInclusive, pin::Pin, sync::Arc,
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
}

#[derive(Clone)]
struct Route {
    access: Access,
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
        Arc::make_mut(&mut self.services).insert(S::NAME, Route { access, call });
        self
    }

    pub(crate) async fn answer(&self, host: &Host, mut request: Request<Body>) -> Response<Body> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let route = self.services.get(service);
        let access = match route {
            Some(route) => route.access,
            None if service == CALLS => Access::Members,
            None => return Status::unimplemented("no such service").into_http(),
        };
        if access == Access::Members
            && let Err(refusal) = check_cluster(&host.identity, request.headers())
        {
            tracing::warn!(path = request.uri().path(), reason = refusal.message(), "refused a call");
            return refusal.into_http();
        }
        if let Some(caller) = header::<NodeId>(request.headers(), NODE_HEADER) {
            request.extensions_mut().insert(Caller(caller));
        }
        let limit = request.headers().get(TIMEOUT_HEADER).and_then(|value| parse(value.to_str().ok()?));
        let reply = match route {
            Some(route) => (route.call)(request),
            None => self.serve_calls(host, request),
        };
        match limit {
            None => reply.await,
            Some(limit) => host
                .env
                .clock
                .timeout(limit, reply)
                .await
                .unwrap_or_else(|elapsed| Status::deadline_exceeded(elapsed.to_string()).into_http()),
        }
    }

    fn serve_calls(&self, host: &Host, request: Request<Body>) -> Reply {
        let server =
            CallServer { env: host.env.clone(), table: self.calls.clone(), closing: host.closing.clone() };
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

fn check_cluster(identity: &RpcIdentity, headers: &HeaderMap) -> Result<(), Status> {
    let theirs = header::<ClusterId>(headers, CLUSTER_HEADER);
    match (identity.cluster(), theirs) {
        (Some(ours), Some(theirs)) if ours == theirs => Ok(()),
        (None, _) => Err(Status::failed_precondition("this node is in no cluster yet")),
        (Some(_), None) => Err(Status::failed_precondition("the caller is in no cluster")),
        (Some(ours), Some(theirs)) => Err(Status::failed_precondition(format!(
            "the caller is of cluster {theirs}, this node of cluster {ours}"
        ))),
    }
}

fn header<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
