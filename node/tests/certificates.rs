//! The certificates that nodes make for each other are those that their connections take.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ashlar_node::tls::{Certificates, LIFE, NodeKey};
use ashlar_proto::node::{
    PingReply, PingRequest,
    node_service_client::NodeServiceClient,
    node_service_server::{NodeService, NodeServiceServer},
};
use ashlar_rpc::{Caller, Class, Credentials, Peers, Routes, RpcIdentity, bind_for, request, serve};
use ashlar_runtime::{Clock, Env, RealClock, clock::Sleep};
use ashlar_types::{ClusterId, NodeId, Timestamp};
use std::{sync::Arc, time::Duration};
use tonic::{Request, Response, Status};

const CLUSTER: ClusterId = ClusterId(0xa5);
const LIMIT: Duration = Duration::from_secs(10);

struct Who;

#[tonic::async_trait]
impl NodeService for Who {
    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        let node = request.extensions().get::<Caller>().map_or(0, |caller| caller.0.0);
        Ok(Response::new(PingReply { node, ..PingReply::default() }))
    }
}

/// The machine's clocks, the wall clock ahead of it or behind.
#[derive(Debug)]
struct Skewed(RealClock, i64);

impl Clock for Skewed {
    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.0.wall().0.saturating_add_signed(self.1))
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.0.sleep(duration)
    }
}

fn env(skew_hours: i64) -> Env {
    let clock = Skewed(RealClock::new(), skew_hours * 3_600_000);
    Env { clock: Arc::new(clock), ..Env::real() }
}

fn identity(env: &Env, node: NodeId, credentials: &Credentials) -> RpcIdentity {
    let identity = RpcIdentity::secured(env);
    identity.set(CLUSTER, node).unwrap();
    identity.install(credentials).unwrap();
    identity
}

/// Whom node 1, whose clock is right, takes for the caller: a node that was let in under that clock.
async fn asked_by(skew_hours: i64) -> Result<u32, Status> {
    let (member, newcomer) = (env(0), env(skew_hours));
    let first = Certificates::first(&member, CLUSTER, NodeId(1)).unwrap();
    let listener = bind_for(&member, "127.0.0.1:0", &RpcIdentity::secured(&member)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = identity(&member, NodeId(1), &first.credentials());
    let served = member.clone();
    let _serving = member.tasks.spawn("server", async move {
        let routes = Routes::new().add(NodeServiceServer::new(Who));
        serve(&served, listener, routes, server, std::future::pending()).await;
    });

    let key = NodeKey::generate(&*newcomer.rng).unwrap();
    let issued = first.authority.issue(NodeId(2), key.public(), newcomer.clock.wall(), LIFE).unwrap();
    let credentials = Credentials {
        authority: first.authority.certificate().to_vec(),
        certificate: issued.certificate,
        key: key.pkcs8(),
    };
    let peers = Peers::new(newcomer.clone(), identity(&newcomer, NodeId(2), &credentials));
    let mut client = NodeServiceClient::new(peers.service(&address, Class::Small));
    client.ping(request(PingRequest {}, LIMIT)).await.map(|reply| reply.into_inner().node)
}

#[tokio::test]
async fn what_an_authority_issues_is_taken_by_the_other_nodes() {
    assert_eq!(asked_by(0).await.unwrap(), 2);
}

#[tokio::test]
async fn clocks_may_differ_by_most_of_a_day() {
    assert_eq!(asked_by(23).await.unwrap(), 2);
    assert_eq!(asked_by(-23).await.unwrap(), 2);
    assert!(asked_by(25).await.is_err());
    assert!(asked_by(-25).await.is_err());
}
