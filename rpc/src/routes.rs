//! Which service answers a call, and who may call it.

use crate::{
    RpcIdentity,
    deadline::{TIMEOUT_HEADER, parse},
    identity::{CLUSTER_HEADER, Caller, NODE_HEADER},
};
use ashlar_runtime::{Clock, ClockExt};
use ashlar_types::{ClusterId, NodeId};
use http::{HeaderMap, Request, Response};
use std::{collections::BTreeMap, convert::Infallible, fmt, future::Future, pin::Pin, sync::Arc};
use tonic::{Status, body::Body, server::NamedService};
use tower_service::Service;

type Reply = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Services by their name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<BTreeMap<&'static str, Route>>);

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

    /// The services of both.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        Arc::make_mut(&mut self.0).extend(other.0.iter().map(|(name, route)| (*name, route.clone())));
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
        Arc::make_mut(&mut self.0).insert(S::NAME, Route { access, call });
        self
    }

    pub(crate) async fn answer(
        &self,
        clock: Arc<dyn Clock>,
        identity: &RpcIdentity,
        mut request: Request<Body>,
    ) -> Response<Body> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let Some(route) = self.0.get(service) else {
            return Status::unimplemented("no such service").into_http();
        };
        if route.access == Access::Members
            && let Err(refusal) = check_cluster(identity, request.headers())
        {
            tracing::warn!(path = request.uri().path(), reason = refusal.message(), "refused a call");
            return refusal.into_http();
        }
        if let Some(caller) = header::<NodeId>(request.headers(), NODE_HEADER) {
            request.extensions_mut().insert(Caller(caller));
        }
        let limit = request.headers().get(TIMEOUT_HEADER).and_then(|value| parse(value.to_str().ok()?));
        let reply = (route.call)(request);
        match limit {
            None => reply.await,
            Some(limit) => clock
                .timeout(limit, reply)
                .await
                .unwrap_or_else(|elapsed| Status::deadline_exceeded(elapsed.to_string()).into_http()),
        }
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
