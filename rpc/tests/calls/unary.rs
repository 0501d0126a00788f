//! Calls through a generated service.

use crate::loopback::{LIMIT, OURS, start};
use ashlar_proto::node::{
    JoinReply, JoinRequest,
    join_service_client::JoinServiceClient,
    join_service_server::{JoinService, JoinServiceServer},
};
use ashlar_rpc::{Caller, Class, Peers, Routes, RpcIdentity, bind, call_timeout, never_sent, request, serve};
use ashlar_runtime::Env;
use ashlar_types::{ClusterId, NodeId};
use bytes::Bytes;
use std::time::Duration;
use tonic::{Code, Request, Response, Status};

/// Answers with the bytes it was given; one token asks for the caller instead, another for no answer.
struct Echo;

const WHO: &str = "who";
const NEVER: &str = "never";

#[tonic::async_trait]
impl JoinService for Echo {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        let node = request.extensions().get::<Caller>().map_or(0, |caller| caller.0.0);
        let JoinRequest { token, public_key, .. } = request.into_inner();
        match token.as_str() {
            NEVER => std::future::pending().await,
            WHO => Ok(Response::new(JoinReply { node, ..JoinReply::default() })),
            _ => Ok(Response::new(JoinReply { map: public_key, ..JoinReply::default() })),
        }
    }
}

fn members() -> Routes {
    Routes::new().add(JoinServiceServer::new(Echo))
}

fn message(token: &str, public_key: Bytes) -> JoinRequest {
    JoinRequest { token: token.to_owned(), public_key, ..JoinRequest::default() }
}

async fn echo(peers: &Peers, address: &str, class: Class, payload: Bytes) -> Result<Bytes, Status> {
    let mut client = JoinServiceClient::new(peers.service(address, class))
        .max_decoding_message_size(ashlar_rpc::MAX_MESSAGE_BYTES);
    let call = client.join(request(message("", payload), LIMIT));
    call_timeout(&*peers.env().clock, LIMIT, call).await.map(|reply| reply.map)
}

#[tokio::test]
async fn a_call_is_answered_on_every_class_of_connection() {
    let env = Env::real();
    let server = start(&env, members(), RpcIdentity::of(OURS, NodeId(1))).await;
    let peers = Peers::new(env, RpcIdentity::of(OURS, NodeId(2)));
    let payload = Bytes::from(vec![7; 3_000_000]);
    for class in [Class::Small, Class::Bulk(0), Class::Bulk(1), Class::Bulk(2)] {
        assert_eq!(echo(&peers, &server.address, class, payload.clone()).await.unwrap(), payload);
    }
    let mut client = JoinServiceClient::new(peers.bulk(&server.address));
    let reply = client.join(message(WHO, Bytes::new())).await.unwrap();
    assert_eq!(reply.into_inner().node, 2, "the server learns which node calls");
}

#[tokio::test]
async fn a_caller_of_another_cluster_is_refused() {
    let env = Env::real();
    let server = start(&env, members(), RpcIdentity::of(OURS, NodeId(1))).await;
    for stranger in [RpcIdentity::of(ClusterId(0xa4), NodeId(2)), RpcIdentity::unformed()] {
        let peers = Peers::new(env.clone(), stranger);
        let refusal = echo(&peers, &server.address, Class::Small, Bytes::new()).await.unwrap_err();
        assert_eq!(refusal.code(), Code::FailedPrecondition);
    }
    let unformed = start(&env, members(), RpcIdentity::unformed()).await;
    let peers = Peers::new(env.clone(), RpcIdentity::of(OURS, NodeId(2)));
    let refusal = echo(&peers, &unformed.address, Class::Small, Bytes::new()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn an_open_service_answers_strangers() {
    let env = Env::real();
    let routes = Routes::new().add_open(JoinServiceServer::new(Echo));
    let server = start(&env, routes, RpcIdentity::unformed()).await;
    let peers = Peers::new(env, RpcIdentity::unformed());
    let payload = Bytes::from_static(b"let me in");
    assert_eq!(echo(&peers, &server.address, Class::Small, payload.clone()).await.unwrap(), payload);
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let env = Env::real();
    let server = start(&env, members(), RpcIdentity::of(OURS, NodeId(1))).await;
    let peers = Peers::new(env.clone(), RpcIdentity::of(OURS, NodeId(2)));
    let mut client = JoinServiceClient::new(peers.service(&server.address, Class::Small));
    let limit = Duration::from_millis(50);
    let unanswered = || message(NEVER, Bytes::new());
    let local = call_timeout(&*env.clock, limit, client.join(unanswered())).await.unwrap_err();
    assert_eq!(local.code(), Code::DeadlineExceeded);
    // The deadline that travels with the request ends the call on the server, whatever the client does.
    let mut asked = Request::new(unanswered());
    asked.metadata_mut().insert("grpc-timeout", "50m".parse().unwrap());
    let remote = call_timeout(&*env.clock, LIMIT, client.join(asked)).await.unwrap_err();
    assert!(matches!(remote.code(), Code::DeadlineExceeded | Code::Cancelled), "{remote}");
}

#[tokio::test]
async fn a_channel_connects_again_after_its_server_came_back() {
    let env = Env::real();
    let identity = RpcIdentity::of(OURS, NodeId(1));
    let first = start(&env, members(), identity.clone()).await;
    let peers = Peers::new(env.clone(), RpcIdentity::of(OURS, NodeId(2)));
    let payload = Bytes::from_static(b"hello");
    echo(&peers, &first.address, Class::Small, payload.clone()).await.unwrap();
    first.stop.send(()).unwrap();
    first.task.join().await;
    let gone = echo(&peers, &first.address, Class::Small, payload.clone()).await.unwrap_err();
    assert_eq!(gone.code(), Code::Unavailable);
    let nobody = echo(&peers, &first.address, Class::Small, payload.clone()).await.unwrap_err();
    assert!(never_sent(&nobody), "{nobody:?}");

    let listener = bind(&env, &first.address).await.unwrap();
    let serving = {
        let env = env.clone();
        env.clone().tasks.spawn("server", async move {
            serve(&env, listener, members(), identity, std::future::pending()).await;
        })
    };
    assert_eq!(echo(&peers, &first.address, Class::Small, payload.clone()).await.unwrap(), payload);
    drop(serving);
}

#[tokio::test]
async fn node_to_node_calls_stay_on_the_loopback_without_tls() {
    let env = Env::real();
    let refused = bind(&env, "0.0.0.0:0").await.unwrap_err();
    assert!(refused.to_string().contains("not encrypted"), "{refused}");
    assert!(bind(&env, "[::1]:0").await.is_ok());
    assert!(bind(&env, "localhost:0").await.is_ok());
}
