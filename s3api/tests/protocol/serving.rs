//! The accept loop over connections in memory, spoken to in bytes.

use crate::{
    client::{Ask, Client, Signer},
    clock::settle,
};
use ashlar_runtime::{Connection, Listener};
use ashlar_s3api::{ConnectionLimits, S3Config};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{Mutex, mpsc, oneshot},
};

#[derive(Debug)]
struct Pipes(Mutex<mpsc::Receiver<DuplexStream>>);

#[async_trait]
impl Listener for Pipes {
    async fn accept(&self) -> io::Result<(Box<dyn Connection>, SocketAddr)> {
        match self.0.lock().await.recv().await {
            Some(stream) => Ok((Box::new(stream), SocketAddr::from(([127, 0, 0, 1], 1)))),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from(([127, 0, 0, 1], 9000)))
    }
}

struct Server {
    client: Client,
    connect: mpsc::Sender<DuplexStream>,
    stop: oneshot::Sender<()>,
    running: ashlar_runtime::TaskHandle,
}

async fn serve(limits: ConnectionLimits) -> Server {
    let client = Client::with(S3Config { connections: limits, ..S3Config::default() });
    client.put("/bucket").ok().await;
    let (connect, accepted) = mpsc::channel(16);
    let (stop, stopped) = oneshot::channel();
    let service = Arc::clone(&client.service);
    let running = ashlar_runtime::Tasks::real().spawn("server", async move {
        let listener = Box::new(Pipes(Mutex::new(accepted)));
        let shutdown = async {
            let _ = stopped.await;
        };
        service.serve(listener, shutdown).await;
    });
    Server { client, connect, stop, running }
}

impl Server {
    async fn connect(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(64 << 10);
        self.connect.send(far).await.unwrap();
        near
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.join().await;
    }
}

/// Head and body of a request, as bytes.
async fn bytes(ask: Ask<'_>, extra: &str) -> (Vec<u8>, Bytes) {
    let (_, request) = ask.request();
    let (parts, body) = request.into_parts();
    let mut head = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
    for (name, value) in &parts.headers {
        head.extend_from_slice(format!("{name}: ").as_bytes());
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(format!("{extra}\r\n").as_bytes());
    (head, body.collect().await.unwrap().to_bytes())
}

/// The next response: status, head in lower case, body. Panics if the connection ends inside it.
async fn response(stream: &mut DuplexStream) -> (u16, String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let len = head
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
    let mut body = vec![0; if status == 100 { 0 } else { len }];
    stream.read_exact(&mut body).await.unwrap();
    (status, head, body)
}

/// Whether nothing comes although everybody had a chance to speak.
async fn is_silent(stream: &mut DuplexStream) -> bool {
    settle().await;
    tokio::select! {
        biased;
        _ = stream.read_u8() => false,
        () = std::future::ready(()) => true,
    }
}

async fn ended(stream: &mut DuplexStream) -> bool {
    stream.read_u8().await.is_err()
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = serve(ConnectionLimits::default()).await;
    let mut stream = server.connect().await;
    let (head, body) = bytes(server.client.put("/bucket/key").body("hello"), "").await;
    stream.write_all(&[&head[..], &body].concat()).await.unwrap();
    assert_eq!(response(&mut stream).await.0, 200);
    // A refusal with a small body that was not read leaves the connection usable.
    let (head, body) = bytes(server.client.put("/absent/key").body(vec![b'x'; 100 << 10]), "").await;
    stream.write_all(&[&head[..], &body].concat()).await.unwrap();
    let (status, head, _) = response(&mut stream).await;
    assert_eq!(status, 404);
    assert!(!head.contains("connection: close"));
    let (head, _) = bytes(server.client.get("/bucket/key"), "").await;
    stream.write_all(&head).await.unwrap();
    let (status, _, body) = response(&mut stream).await;
    assert_eq!((status, body), (200, b"hello".to_vec()));
    server.stop().await;
}

#[tokio::test]
async fn a_head_tells_the_length_without_a_body() {
    let server = serve(ConnectionLimits::default()).await;
    server.client.put_object("/bucket/key", "hello").await;
    let mut stream = server.connect().await;
    for (target, status) in [("/bucket/key", "200"), ("/bucket/absent", "404"), ("/bucket", "200")] {
        let (head, _) = bytes(server.client.head(target), "").await;
        stream.write_all(&head).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert_eq!(head.contains("content-length: 5"), target == "/bucket/key", "{head}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_body_is_asked_for_only_after_the_sender_is_known() {
    let server = serve(ConnectionLimits::default()).await;
    let expect = "expect: 100-continue\r\n";
    for (ask, status) in [
        (server.client.put("/bucket/key").body("hello").signed_by(Signer::Nobody), 403),
        (server.client.put("/bucket/key").body("hello").signed_by(Signer::Other), 403),
        (server.client.put("/absent/key").body("hello"), 404),
        (server.client.put("/bucket/key").header("content-md5", "").body("hello"), 400),
    ] {
        let mut stream = server.connect().await;
        let (head, _) = bytes(ask, expect).await;
        stream.write_all(&head).await.unwrap();
        let (got, head, _) = response(&mut stream).await;
        assert_eq!(got, status);
        assert!(head.contains("connection: close"), "{head}");
        assert!(ended(&mut stream).await);
    }
    let mut stream = server.connect().await;
    let (head, body) = bytes(server.client.put("/bucket/key").body("hello"), expect).await;
    stream.write_all(&head).await.unwrap();
    assert_eq!(response(&mut stream).await.0, 100);
    stream.write_all(&body).await.unwrap();
    assert_eq!(response(&mut stream).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = serve(ConnectionLimits::default()).await;
    let mut stream = server.connect().await;
    let (head, body) = bytes(server.client.put("/absent/key").body(vec![b'x'; 4 << 20]), "").await;
    // The whole body goes out before the answer is looked at, as simple clients do.
    stream.write_all(&[&head[..], &body].concat()).await.unwrap();
    let (status, head, _) = response(&mut stream).await;
    assert_eq!(status, 404);
    assert!(head.contains("connection: close"));
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn a_read_that_fails_halfway_aborts_the_connection() {
    let server = serve(ConnectionLimits::default()).await;
    server.client.put_object("/bucket/key", "0123456789").await;
    server.client.backend.break_reads();
    let mut stream = server.connect().await;
    let (head, _) = bytes(server.client.get("/bucket/key"), "").await;
    stream.write_all(&head).await.unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    let text = String::from_utf8(all).unwrap().to_ascii_lowercase();
    // Whatever went out before the failure, it is not a whole response.
    assert!(text.is_empty() || text.contains("content-length: 10"), "{text}");
    assert!(!text.contains("56789") && !text.ends_with("0\r\n\r\n"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn a_truncated_upload_stores_nothing() {
    let server = serve(ConnectionLimits::default()).await;
    let mut stream = server.connect().await;
    let (head, body) = bytes(server.client.put("/bucket/key").body("hello"), "").await;
    stream.write_all(&head).await.unwrap();
    stream.write_all(&body[..3]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 200"));
    assert_eq!(server.client.backend.count(), 0);
    server.stop().await;
}

#[tokio::test]
async fn clients_beyond_the_limit_wait_for_a_place() {
    let server = serve(ConnectionLimits { open_max: 1, ..ConnectionLimits::default() }).await;
    let mut first = server.connect().await;
    let (head, _) = bytes(server.client.get("/bucket"), "").await;
    first.write_all(&head).await.unwrap();
    assert_eq!(response(&mut first).await.0, 200);
    let mut second = server.connect().await;
    second.write_all(&head).await.unwrap();
    assert!(is_silent(&mut second).await, "there is one place");
    drop(first);
    assert_eq!(response(&mut second).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn idle_and_stalled_connections_are_closed() {
    let server = serve(ConnectionLimits::default()).await;
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: ").await.unwrap();
    let mut stalled = server.connect().await;
    let (head, body) = bytes(server.client.put("/bucket/key").body("hello"), "").await;
    stalled.write_all(&head).await.unwrap();
    stalled.write_all(&body[..3]).await.unwrap();
    server.client.clock.advance(Duration::from_secs(29)).await;
    for stream in [&mut silent, &mut slow, &mut stalled] {
        assert!(is_silent(stream).await);
    }
    server.client.clock.advance(Duration::from_secs(2)).await;
    let (status, _, body) = response(&mut stalled).await;
    assert_eq!(status, 400);
    assert!(String::from_utf8(body).unwrap().contains("RequestTimeout"));
    server.client.clock.advance(Duration::from_secs(3)).await;
    for stream in [&mut silent, &mut slow] {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert!(!all.starts_with(b"HTTP/1.1 200"));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_is_given_up() {
    let server = serve(ConnectionLimits::default()).await;
    server.client.put("/bucket/key").body(vec![b'x'; 4 << 20]).ok().await;
    let mut stream = server.connect().await;
    let (head, _) = bytes(server.client.get("/bucket/key"), "").await;
    stream.write_all(&head).await.unwrap();
    server.client.clock.advance(Duration::from_secs(61)).await;
    server.client.clock.advance(Duration::from_secs(61)).await;
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    assert!(all.len() < 1 << 20, "{}", all.len());
    server.stop().await;
}

#[tokio::test]
async fn shutdown_waits_for_requests_in_flight_and_no_longer() {
    let server = serve(ConnectionLimits::default()).await;
    let mut busy = server.connect().await;
    let (head, body) = bytes(server.client.put("/bucket/key").body("hello"), "").await;
    busy.write_all(&head).await.unwrap();
    busy.write_all(&body[..3]).await.unwrap();
    let mut stuck = server.connect().await;
    let (other, _) = bytes(server.client.put("/bucket/other").body("hello"), "").await;
    stuck.write_all(&other).await.unwrap();
    assert!(is_silent(&mut busy).await && is_silent(&mut stuck).await);
    let Server { client, stop, running, .. } = server;
    stop.send(()).unwrap();
    assert!(is_silent(&mut busy).await);
    busy.write_all(&body[3..]).await.unwrap();
    assert_eq!(response(&mut busy).await.0, 200);
    client.clock.advance(Duration::from_secs(9)).await;
    assert!(!running.is_finished());
    client.clock.advance(Duration::from_secs(2)).await;
    running.join().await;
    assert!(ended(&mut stuck).await);
    assert_eq!(client.backend.count(), 1);
}
