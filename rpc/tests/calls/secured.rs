//! Who is taken for whom on secured connections, and what both sides say of a refusal.

use crate::{
    authority::Authority,
    log::Log,
    loopback::{LIMIT, OURS, Server, start, start_at},
};
use ashlar_proto::node::{
    JoinReply, JoinRequest, PingReply, PingRequest,
    join_service_client::JoinServiceClient,
    join_service_server::{JoinService, JoinServiceServer},
    node_service_client::NodeServiceClient,
    node_service_server::{NodeService, NodeServiceServer},
};
use ashlar_rpc::{
    CallHandler, Caller, Class, CredentialError, Credentials, Fingerprint, MapEpochs, Method, Peers, Routes,
    RpcIdentity, bind_for, never_sent, request,
};
use ashlar_runtime::{ClockExt, Env};
use ashlar_types::{ClusterId, MapEpoch, NodeId};
use async_trait::async_trait;
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};

const THEIRS: ClusterId = ClusterId(0xa4);
const WHO: Method = Method(1);

/// Tells the caller who it is; a ping is for members, joining is open.
struct Who;

#[tonic::async_trait]
impl NodeService for Who {
    async fn ping(&self, request: Request<PingRequest>) -> Result<Response<PingReply>, Status> {
        let node = request.extensions().get::<Caller>().map_or(0, |caller| caller.0.0);
        Ok(Response::new(PingReply { node, ..PingReply::default() }))
    }
}

#[tonic::async_trait]
impl JoinService for Who {
    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        Ok(Response::new(JoinReply { node: 9, ..JoinReply::default() }))
    }
}

#[async_trait]
impl CallHandler for Who {
    async fn call(
        &self,
        caller: Option<Caller>,
        _: Method,
        payload: Bytes,
        _: Duration,
    ) -> Result<Bytes, Status> {
        let node = caller.unwrap().0.to_string();
        Ok(Bytes::from([node.as_bytes(), &payload[..]].concat()))
    }
}

fn routes() -> Routes {
    Routes::new()
        .add(NodeServiceServer::new(Who))
        .add_open(JoinServiceServer::new(Who))
        .calls(1..=1, Arc::new(Who))
}

async fn ping(peers: &Peers, address: &str) -> Result<u32, Status> {
    let mut client = NodeServiceClient::new(peers.service(address, Class::Small));
    let ping = client.ping(request(PingRequest {}, LIMIT));
    ashlar_rpc::call_timeout(&*peers.env().clock, LIMIT, ping).await.map(|reply| reply.node)
}

async fn join(peers: &Peers, address: &str) -> Result<u32, Status> {
    let mut client = JoinServiceClient::new(peers.service(address, Class::Small));
    let join = client.join(request(JoinRequest::default(), LIMIT));
    ashlar_rpc::call_timeout(&*peers.env().clock, LIMIT, join).await.map(|reply| reply.node)
}

async fn who(peers: &Peers, address: &str) -> Result<Bytes, Status> {
    peers.call(address, WHO, Bytes::new(), LIMIT).await
}

/// A server and a caller of one cluster.
async fn pair(env: &Env) -> (Authority, Server, Peers) {
    let authority = Authority::of(OURS);
    let server = start(env, routes(), authority.node(env, 1)).await;
    let peers = Peers::new(env.clone(), authority.node(env, 2));
    (authority, server, peers)
}

#[tokio::test]
async fn nodes_of_one_cluster_know_each_other_by_their_certificates() {
    let env = Env::real();
    let (_, server, peers) = pair(&env).await;
    assert_eq!(ping(&peers, &server.address).await.unwrap(), 2);
    assert_eq!(who(&peers, &server.address).await.unwrap(), "2");
    assert_eq!(join(&peers, &server.address).await.unwrap(), 9);
    let long = Bytes::from(vec![7; 20_000_000]);
    let back = peers.call(&server.address, WHO, long.clone(), LIMIT).await.unwrap();
    assert_eq!(back.len(), long.len() + 1);
}

#[tokio::test]
async fn a_secured_node_listens_on_any_address() {
    let env = Env::real();
    let identity = RpcIdentity::secured(&env);
    assert!(bind_for(&env, "0.0.0.0:0", &identity).await.is_ok());
    assert!(bind_for(&env, "0.0.0.0:0", &RpcIdentity::unformed()).await.is_err());
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_and_both_sides_say_so() {
    let env = Env::real();
    let (log, _guard) = Log::begin();
    let (_, server, _) = pair(&env).await;
    let theirs = Authority::of(THEIRS);
    let stranger = Peers::new(env.clone(), theirs.node(&env, 2));
    for _ in 0..3 {
        let refusal = ping(&stranger, &server.address).await.unwrap_err();
        assert!(never_sent(&refusal), "{refusal:?}");
        let refusal = who(&stranger, &server.address).await.unwrap_err();
        assert!(never_sent(&refusal), "{refusal:?}");
    }
    let ours = OURS.to_string();
    let told = ["refused a peer", &server.address, &format!("node 1 of cluster {ours}")];
    assert_eq!(log.lines(&told), 1, "{}", log.text());
    // The server hears it from the caller, which looks at certificates first.
    assert_eq!(log.lines(&["refused a caller", &THEIRS.to_string()]), 1, "{}", log.text());
}

#[tokio::test]
async fn a_forged_certificate_is_refused_by_the_server_too() {
    let env = Env::real();
    let (log, _guard) = Log::begin();
    let (authority, server, _) = pair(&env).await;
    // Trusts the server, so that it is the server that has to look.
    let forged = mixed(&authority, &Authority::of(OURS));
    let identity = RpcIdentity::secured(&env);
    identity.set(OURS, NodeId(2)).unwrap();
    identity.install(&forged).unwrap();
    let forger = Peers::new(env.clone(), identity);
    assert!(ping(&forger, &server.address).await.is_err());
    assert!(join(&forger, &server.address).await.is_err());
    assert_eq!(log.lines(&["refused a caller", "did not issue"]), 1, "{}", log.text());
    assert!(log.lines(&["refused by a peer", &server.address, "certificate"]) >= 1, "{}", log.text());
}

/// Node 2 as `issued_by` has it, under the name of another authority.
fn mixed(trusted: &Authority, issued_by: &Authority) -> Credentials {
    Credentials { authority: trusted.issue(NodeId(2)).authority, ..issued_by.issue(NodeId(2)) }
}

#[tokio::test]
async fn without_a_certificate_only_open_services_answer() {
    let env = Env::real();
    let (log, _guard) = Log::begin();
    let (authority, server, _) = pair(&env).await;
    let identity = RpcIdentity::joining(&env, authority.fingerprint());
    let joiner = Peers::new(env.clone(), identity.clone());
    assert_eq!(join(&joiner, &server.address).await.unwrap(), 9);
    assert_eq!(ping(&joiner, &server.address).await.unwrap_err().code(), Code::FailedPrecondition);
    // Saying who one is proves nothing.
    identity.set(OURS, NodeId(2)).unwrap();
    let refusal = ping(&joiner, &server.address).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert!(never_sent(&who(&joiner, &server.address).await.unwrap_err()));
    assert_eq!(log.lines(&["refused a caller", "no certificate"]), 1, "{}", log.text());
    assert_eq!(log.lines(&["refused by a peer", &server.address, "no certificate"]), 1, "{}", log.text());
}

#[tokio::test]
async fn who_joins_takes_only_the_cluster_that_the_token_names() {
    let env = Env::real();
    let (log, _guard) = Log::begin();
    let (authority, server, _) = pair(&env).await;
    let other = Peers::new(env.clone(), RpcIdentity::joining(&env, Authority::of(OURS).fingerprint()));
    assert!(never_sent(&join(&other, &server.address).await.unwrap_err()));
    assert_eq!(log.lines(&["refused a peer", &server.address, "join token"]), 1, "{}", log.text());
    // The right authority sent along by someone else does not help.
    let credentials = mixed(&authority, &Authority::of(OURS));
    let impostor = RpcIdentity::secured(&env);
    impostor.set(OURS, NodeId(2)).unwrap();
    impostor.install(&credentials).unwrap();
    let impostor = start(&env, routes(), impostor).await;
    let joiner = Peers::new(env.clone(), RpcIdentity::joining(&env, authority.fingerprint()));
    assert!(never_sent(&join(&joiner, &impostor.address).await.unwrap_err()));
    assert_eq!(join(&joiner, &server.address).await.unwrap(), 9);
}

#[tokio::test]
async fn a_node_is_who_its_certificate_says_and_nobody_else() {
    let env = Env::real();
    let (log, _guard) = Log::begin();
    let (authority, server, _) = pair(&env).await;
    let identity = RpcIdentity::secured(&env);
    let early = identity.install(&authority.issue(NodeId(2)));
    assert!(matches!(early, Err(CredentialError::Unformed)), "{early:?}");
    identity.set(OURS, NodeId(2)).unwrap();
    let other = identity.install(&authority.issue(NodeId(3)));
    assert!(matches!(other, Err(CredentialError::OtherNode { .. })), "{other:?}");
    identity.install(&authority.issue(NodeId(2))).unwrap();

    // Headers of another node than that of the certificate, by hand.
    let peers = Peers::new(env.clone(), identity);
    let mut client = NodeServiceClient::with_interceptor(
        peers.channel(&server.address, Class::Small),
        |mut request: Request<()>| {
            let headers = request.metadata_mut();
            headers.insert("ashlar-protocol", "1-1".parse().unwrap());
            headers.insert("ashlar-cluster", OURS.to_string().parse().unwrap());
            headers.insert("ashlar-node", "3".parse().unwrap());
            Ok(request)
        },
    );
    let refusal = client.ping(request(PingRequest {}, LIMIT)).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert_eq!(log.lines(&["refused a caller", "node 2"]), 1, "{}", log.text());
}

#[tokio::test]
async fn an_expired_certificate_is_refused_and_a_renewed_one_is_used_at_once() {
    let env = Env::real();
    let (log, _guard) = Log::begin();
    let (authority, server, _) = pair(&env).await;
    let identity = RpcIdentity::secured(&env);
    identity.set(OURS, NodeId(2)).unwrap();
    let expired = authority.issue_as(NodeId(2), |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    identity.install(&expired).unwrap();
    let peers = Peers::new(env.clone(), identity.clone());
    assert!(ping(&peers, &server.address).await.is_err());
    assert_eq!(log.lines(&["refused a caller", "xpired"]), 1, "{}", log.text());
    assert!(log.lines(&["refused by a peer", "xpired"]) >= 1, "{}", log.text());
    identity.install(&authority.issue(NodeId(2))).unwrap();
    assert_eq!(ping(&peers, &server.address).await.unwrap(), 2);
}

#[tokio::test]
async fn a_renewal_disturbs_no_connection_that_is_open() {
    let env = Env::real();
    let authority = Authority::of(OURS);
    let (one, two) = (authority.node(&env, 1), authority.node(&env, 2));
    let server = start(&env, routes(), one.clone()).await;
    let peers = Peers::new(env.clone(), two.clone());
    assert_eq!(who(&peers, &server.address).await.unwrap(), "2");
    one.install(&authority.issue(NodeId(1))).unwrap();
    two.install(&authority.issue(NodeId(2))).unwrap();
    assert_eq!(who(&peers, &server.address).await.unwrap(), "2");
    peers.forget(&server.address);
    assert_eq!(who(&peers, &server.address).await.unwrap(), "2");
}

#[tokio::test]
async fn plain_callers_of_a_secured_node_and_secured_callers_of_a_plain_one_fail() {
    let env = Env::real();
    let (_, server, peers) = pair(&env).await;
    let plain = Peers::new(env.clone(), RpcIdentity::of(OURS, NodeId(2)));
    assert!(ping(&plain, &server.address).await.is_err());
    assert!(join(&plain, &server.address).await.is_err());
    let in_the_clear = start(&env, routes(), RpcIdentity::of(OURS, NodeId(1))).await;
    assert!(never_sent(&ping(&peers, &in_the_clear.address).await.unwrap_err()));
}

#[tokio::test]
async fn an_incompatible_version_is_refused_and_told() {
    let env = Env::real();
    let (log, _guard) = Log::begin();
    let (_, server, peers) = pair(&env).await;
    for versions in ["2-9", "0-0", "nonsense"] {
        let mut client = NodeServiceClient::with_interceptor(
            peers.channel(&server.address, Class::Small),
            |mut request: Request<()>| {
                let headers = request.metadata_mut();
                headers.insert("ashlar-protocol", versions.parse().unwrap());
                headers.insert("ashlar-cluster", OURS.to_string().parse().unwrap());
                headers.insert("ashlar-node", "2".parse().unwrap());
                Ok(request)
            },
        );
        let refusal = client.ping(request(PingRequest {}, LIMIT)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition, "{versions}");
    }
    assert_eq!(log.lines(&["refused a caller", "versions 2 to 9"]), 1, "{}", log.text());
    assert_eq!(log.lines(&["refused a caller", "protocol"]), 3, "{}", log.text());
}

#[tokio::test]
async fn a_server_waits_for_the_map_that_its_caller_knows() {
    let env = Env::real();
    let (map, watched) = watch::channel(MapEpoch(5));
    let epochs = MapEpochs::of(watched, |epoch| *epoch);
    let mapped =
        Routes::new().add(NodeServiceServer::new(Who)).calls(1..=1, Arc::new(Who)).map_epoch(&epochs);
    let routes = mapped.calls(2..=2, Arc::new(Who));
    let authority = Authority::of(OURS);
    let server = start_at(&env, "127.0.0.1:0", routes, authority.node(&env, 1)).await;
    let peers = Peers::new(env.clone(), authority.node(&env, 2));
    let (_theirs, known) = watch::channel(MapEpoch(7));
    peers.map_epoch(MapEpochs::of(known, |epoch| *epoch));

    let short = Duration::from_millis(50);
    let behind = peers.call(&server.address, WHO, Bytes::new(), short).await.unwrap_err();
    assert!(matches!(behind.code(), Code::Unavailable | Code::DeadlineExceeded), "{behind:?}");
    let free = peers.call(&server.address, Method(2), Bytes::new(), LIMIT).await.unwrap();
    assert_eq!(free, "2", "what was added later does not wait");

    let call = who(&peers, &server.address);
    let unary = ping(&peers, &server.address);
    let waited = async { tokio::join!(call, unary) };
    let mut waited = std::pin::pin!(waited);
    map.send(MapEpoch(6)).unwrap();
    assert!(env.clock.timeout(short, &mut waited).await.is_err(), "it answered with an older map");
    map.send(MapEpoch(7)).unwrap();
    let (call, unary) = waited.await;
    assert_eq!(call.unwrap(), "2");
    assert_eq!(unary.unwrap(), 2);
}

#[test]
fn a_fingerprint_is_of_the_whole_certificate() {
    assert_ne!(Fingerprint::of(b"a"), Fingerprint::of(b"b"));
    assert!(Fingerprint::of(b"a").to_string().starts_with("ca978112"));
}
