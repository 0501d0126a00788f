//! What a request leaves in the log, and what it must not.

use crate::{
    client::{Client, Signer, signer},
    clock::settle,
    memory::{START, USERS},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use std::{cell::RefCell, convert::Infallible, io, sync::Once, time::Duration};
use tracing::Level;

thread_local! {
    /// What was logged on this thread since it asked for that. A test runs on one thread.
    static CAPTURED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Writes to the buffer of the thread that logs.
struct OfThread;

impl io::Write for OfThread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        CAPTURED.with_borrow_mut(|captured| {
            if let Some(captured) = captured {
                captured.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Captures what this thread logs from now on. One subscriber serves the whole process: those of single threads race
/// with other threads for the cache that says whether a line is wanted at all.
fn capture() {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(|| OfThread)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    CAPTURED.set(Some(Vec::new()));
}

fn captured() -> String {
    String::from_utf8(CAPTURED.take().unwrap()).unwrap()
}

#[tokio::test]
async fn the_log_names_the_request_and_none_of_its_secrets() {
    capture();
    let client = Client::with_bucket().await;
    let put = client
        .put("/bucket/canary-key")
        .header("x-amz-meta-a", "canary-value")
        .body("canary-body")
        .ok()
        .await;
    let got = client.get("/bucket/canary-key?response-content-type=canary-query").ok().await;
    let (_, mut forged) = client.get("/bucket/canary-key").request();
    let authorization = forged.headers()["authorization"].to_str().unwrap().to_owned();
    let signature = authorization.rsplit('=').next().unwrap().to_owned();
    *forged.uri_mut() = "/bucket/other".parse().unwrap();
    assert_eq!(client.send(forged).await.status, 403);

    let mut presigned = Request::new(Full::new(Bytes::new()));
    *presigned.uri_mut() = "/bucket/canary-key".parse().unwrap();
    presigned.headers_mut().insert("host", HeaderValue::from_static("s3.test"));
    signer(Signer::Main).unwrap().presign(&mut presigned, START, Duration::from_secs(60)).unwrap();
    let in_query = presigned.uri().query().unwrap().rsplit('=').next().unwrap().to_owned();
    assert_eq!(client.send(presigned).await.status, 200);

    let text = captured();
    for (reply, operation) in [(&put, "PutObject"), (&got, "GetObject")] {
        let id = reply.header("x-amz-request-id");
        let line = text.lines().find(|line| line.contains(id) && line.contains("ashlar::access"));
        let line = line.unwrap_or_else(|| panic!("{id} is not in {text}"));
        assert!(
            line.contains(operation) && line.contains("status=200") && line.contains("end=Whole"),
            "{line}"
        );
    }
    assert!(text.contains("received_bytes=11") && text.contains("sent_bytes=11"), "{text}");
    assert!(text.contains("status=403"), "{text}");
    for secret in ["canary", USERS[0].1, &signature, &in_query, "AWS4-HMAC"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[tokio::test]
async fn a_request_whose_client_went_away_is_logged_too() {
    capture();
    let client = Client::with_bucket().await;
    let (_, signed) = client.put("/bucket/key").body("hello").request();
    assert_eq!(signed.method(), Method::PUT);
    let never = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
    let request = signed.map(|_| StreamBody::new(never));
    {
        let handling = client.service.handle(request);
        tokio::select! {
            biased;
            _ = handling => panic!("the body never ends"),
            () = settle() => {}
        }
    }
    let text = captured();
    assert!(text.contains("PutObject\" status=499"), "{text}");
    assert_eq!(client.backend.count(), 0);
}
