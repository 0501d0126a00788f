//! Small calls over the stream of a peer.

use crate::loopback::{LIMIT, OURS, start, start_at};
use ashlar_rpc::{CallHandler, Caller, MAX_MESSAGE_BYTES, Method, Peers, Routes, RpcIdentity, never_sent};
use ashlar_runtime::{ClockExt, Env};
use ashlar_types::{ClusterId, NodeId};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::sync::{Notify, mpsc};
use tonic::{Code, Status};

const ECHO: Method = Method(10);
const WHO: Method = Method(11);
const LIMIT_TOLD: Method = Method(12);
const REFUSE: Method = Method(13);
const TOO_LONG: Method = Method(14);
/// Answers after it was released.
const WAIT: Method = Method(15);
const UNKNOWN: Method = Method(99);

/// What a call that waits tells of itself, in the order in which it happens.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Begun,
    Dropped,
}

struct Handler {
    release: Notify,
    events: mpsc::UnboundedSender<Event>,
}

/// Tells that a call was given up half-way.
struct OnDrop<'a>(Option<&'a mpsc::UnboundedSender<Event>>);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        if let Some(events) = self.0 {
            events.send(Event::Dropped).unwrap();
        }
    }
}

#[async_trait]
impl CallHandler for Handler {
    async fn call(
        &self,
        caller: Option<Caller>,
        method: Method,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Bytes, Status> {
        match method {
            ECHO => Ok(payload),
            WHO => Ok(Bytes::from(caller.unwrap().0.to_string())),
            LIMIT_TOLD => Ok(Bytes::from(limit.as_millis().to_string())),
            REFUSE => Err(Status::aborted("as planned")),
            TOO_LONG => Ok(Bytes::from(vec![0; MAX_MESSAGE_BYTES + 1])),
            WAIT => {
                let mut dropped = OnDrop(Some(&self.events));
                self.events.send(Event::Begun).unwrap();
                self.release.notified().await;
                dropped.0 = None;
                Ok(payload)
            }
            _ => Err(Status::internal("no test sends this")),
        }
    }
}

fn handler() -> (Arc<Handler>, Routes, mpsc::UnboundedReceiver<Event>) {
    let (events, told) = mpsc::unbounded_channel();
    let handler = Arc::new(Handler { release: Notify::new(), events });
    let routes = Routes::new().calls(10..=19, Arc::clone(&handler) as Arc<dyn CallHandler>);
    (handler, routes, told)
}

fn peers(env: &Env) -> Peers {
    Peers::new(env.clone(), RpcIdentity::of(OURS, NodeId(2)))
}

fn server() -> RpcIdentity {
    RpcIdentity::of(OURS, NodeId(1))
}

fn hello() -> Bytes {
    Bytes::from_static(b"hello")
}

#[tokio::test]
async fn each_call_gets_its_own_answer() {
    let env = Env::real();
    let (_, routes, _told) = handler();
    let server = start(&env, routes, server()).await;
    let peers = peers(&env);
    let calls = (0..2000u32).map(|number| {
        let (peers, address) = (&peers, &server.address);
        let payload = Bytes::from(vec![7; usize::try_from(number % 5000).unwrap()]);
        async move {
            let payload = Bytes::from([&number.to_be_bytes()[..], &payload[..]].concat());
            assert_eq!(peers.call(address, ECHO, payload.clone(), LIMIT).await.unwrap(), payload);
        }
    });
    join_all(calls).await;
    assert_eq!(peers.call(&server.address, WHO, Bytes::new(), LIMIT).await.unwrap(), "2");
    let refusal = peers.call(&server.address, REFUSE, Bytes::new(), LIMIT).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.message()), (Code::Aborted, "as planned"));
    assert!(!never_sent(&refusal));
    let told = peers.call(&server.address, LIMIT_TOLD, Bytes::new(), LIMIT).await.unwrap();
    let told: u128 = std::str::from_utf8(&told).unwrap().parse().unwrap();
    assert!((1..=LIMIT.as_millis()).contains(&told), "{told}");
}

#[tokio::test]
async fn a_slow_call_holds_up_no_other() {
    let env = Env::real();
    let (handler, routes, mut told) = handler();
    let server = start(&env, routes, server()).await;
    let peers = peers(&env);
    let slow = peers.call(&server.address, WAIT, hello(), LIMIT);
    let quick = async {
        assert_eq!(told.recv().await, Some(Event::Begun));
        assert_eq!(peers.call(&server.address, ECHO, hello(), LIMIT).await.unwrap(), hello());
        handler.release.notify_one();
    };
    let (slow, ()) = tokio::join!(slow, quick);
    assert_eq!(slow.unwrap(), hello());
}

#[tokio::test]
async fn messages_up_to_the_limit_pass_and_longer_ones_fail_alone() {
    let env = Env::real();
    let (_, routes, _told) = handler();
    let server = start(&env, routes, server()).await;
    let peers = peers(&env);
    let longest = Bytes::from(vec![7; MAX_MESSAGE_BYTES]);
    assert_eq!(peers.call(&server.address, ECHO, longest.clone(), LIMIT).await.unwrap(), longest);
    let longer = Bytes::from(vec![7; MAX_MESSAGE_BYTES + 1]);
    let refusal = peers.call(&server.address, ECHO, longer, LIMIT).await.unwrap_err();
    assert_eq!(refusal.code(), Code::OutOfRange);
    assert!(never_sent(&refusal));
    let refusal = peers.call(&server.address, TOO_LONG, Bytes::new(), LIMIT).await.unwrap_err();
    assert_eq!(refusal.code(), Code::OutOfRange);
    assert!(!never_sent(&refusal));
}

#[tokio::test]
async fn what_was_surely_not_carried_out_is_told_apart() {
    let env = Env::real();
    let (_, routes, mut told) = handler();
    let server = start(&env, routes, server()).await;
    let peers = peers(&env);
    let unknown = peers.call(&server.address, UNKNOWN, hello(), LIMIT).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    assert!(never_sent(&unknown), "{unknown:?}");

    let strangers = Peers::new(env.clone(), RpcIdentity::of(ClusterId(0xa4), NodeId(2)));
    let stranger = strangers.call(&server.address, ECHO, hello(), LIMIT).await.unwrap_err();
    assert_eq!(stranger.code(), Code::FailedPrecondition);
    assert!(never_sent(&stranger), "{stranger:?}");

    let waits = peers.call(&server.address, WAIT, hello(), Duration::from_millis(50));
    let late = waits.await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert!(!never_sent(&late), "{late:?}");
    assert_eq!(told.recv().await, Some(Event::Begun));
    assert_eq!(told.recv().await, Some(Event::Dropped), "the server stops too");

    let waits = peers.call(&server.address, WAIT, hello(), LIMIT);
    let kill = async {
        assert_eq!(told.recv().await, Some(Event::Begun));
        // Dropping the server closes its connections at once.
        server.task.abort();
    };
    let (broken, ()) = tokio::join!(waits, kill);
    let broken = broken.unwrap_err();
    assert_eq!(broken.code(), Code::Unavailable, "{broken:?}");
    assert!(!never_sent(&broken), "{broken:?}");

    let nobody = peers.call(&server.address, ECHO, hello(), LIMIT).await.unwrap_err();
    assert!(never_sent(&nobody), "{nobody:?}");
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_ends_on_the_server() {
    let env = Env::real();
    let (_, routes, mut told) = handler();
    let server = start(&env, routes, server()).await;
    let peers = peers(&env);
    {
        let waits = peers.call(&server.address, WAIT, hello(), LIMIT);
        tokio::select! {
            _ = waits => panic!("nobody released it"),
            begun = told.recv() => assert_eq!(begun, Some(Event::Begun)),
        }
    }
    assert_eq!(env.clock.timeout(LIMIT, told.recv()).await.unwrap(), Some(Event::Dropped));
    assert_eq!(peers.call(&server.address, ECHO, hello(), LIMIT).await.unwrap(), hello());
}

#[tokio::test]
async fn a_server_that_shuts_down_answers_what_runs_and_takes_nothing_new() {
    let env = Env::real();
    let (handler, routes, mut told) = handler();
    let first = start(&env, routes.clone(), server()).await;
    let address = first.address.clone();
    let peers = peers(&env);
    let waits = peers.call(&address, WAIT, hello(), LIMIT);
    let stop = async {
        assert_eq!(told.recv().await, Some(Event::Begun));
        first.stop.send(()).unwrap();
        // From some moment on; until then calls are answered.
        let refusal = loop {
            match peers.call(&address, ECHO, hello(), LIMIT).await {
                Ok(reply) => assert_eq!(reply, hello()),
                Err(refusal) => break refusal,
            }
        };
        assert_eq!(refusal.code(), Code::Unavailable);
        assert!(never_sent(&refusal), "{refusal:?}");
        handler.release.notify_one();
    };
    let (answered, ()) = tokio::join!(waits, stop);
    assert_eq!(answered.unwrap(), hello());
    let began = env.clock.monotonic();
    first.task.join().await;
    assert!(env.clock.monotonic() - began < Duration::from_secs(1), "streams end by themselves");

    let second = start_at(&env, &address, routes, server()).await;
    assert_eq!(peers.call(&address, ECHO, hello(), LIMIT).await.unwrap(), hello());
    drop(peers);
    second.shut_down().await;
}
