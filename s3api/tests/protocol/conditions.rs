//! Conditional reads and writes.

use crate::client::Client;

const OLD: &str = "Sat, 29 Oct 1994 19:43:31 GMT";
const NEW: &str = "Sat, 29 Oct 2044 19:43:31 GMT";

#[tokio::test]
async fn reads_answer_200_304_or_412() {
    let client = Client::with_bucket().await;
    let put = client.put("/bucket/key").header("cache-control", "max-age=1").body("bar").ok().await;
    let etag = put.header("etag").to_owned();
    for (name, value, status) in [
        ("if-match", etag.as_str(), 200),
        ("if-match", "*", 200),
        ("if-match", "\"other\"", 412),
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"other\"", 200),
        ("if-modified-since", OLD, 200),
        ("if-modified-since", NEW, 304),
        ("if-unmodified-since", OLD, 412),
        ("if-unmodified-since", NEW, 200),
        ("if-modified-since", "nonsense", 200),
    ] {
        for head in [false, true] {
            let ask = if head { client.head("/bucket/key") } else { client.get("/bucket/key") };
            let reply = ask.header(name, value).send().await;
            assert_eq!(reply.status, status, "{name}: {value}");
            if status == 304 {
                assert_eq!((reply.header("etag"), reply.body.len()), (etag.as_str(), 0));
                assert!(reply.headers.contains_key("last-modified"));
                assert_eq!(reply.header("cache-control"), "max-age=1");
                assert!(!reply.headers.contains_key("content-length"));
                assert!(!reply.headers.contains_key("content-type"));
            }
        }
    }
    let refused = client.get("/bucket/key").header("if-match", "\"other\"").refused().await;
    assert_eq!(refused, (412, "PreconditionFailed".into()));
    assert_eq!(client.get("/bucket/absent").header("if-match", "*").refused().await.1, "NoSuchKey");
}

#[tokio::test]
async fn writes_happen_only_under_their_condition() {
    let client = Client::with_bucket().await;
    let put = |body: &'static str| client.put("/bucket/key").body(body);
    assert_eq!(put("a").header("if-match", "\"x\"").refused().await, (404, "NoSuchKey".into()));
    let etag = put("a").header("if-none-match", "*").ok().await.header("etag").to_owned();
    let failed = (412, "PreconditionFailed".to_owned());
    assert_eq!(put("b").header("if-none-match", "*").refused().await, failed);
    assert_eq!(put("b").header("if-none-match", &etag).refused().await, failed);
    assert_eq!(put("b").header("if-match", "\"x\"").refused().await, failed);
    assert_eq!(client.get("/bucket/key").ok().await.text(), "a");
    put("b").header("if-match", &etag).ok().await;
    assert_eq!(client.get("/bucket/key").ok().await.text(), "b");
    let stale = client.delete("/bucket/key").header("if-match", &etag);
    assert_eq!(stale.refused().await, failed);
    let unguarded = put("c").header("if-unmodified-since", OLD);
    assert_eq!(unguarded.refused().await, (501, "NotImplemented".into()));
    assert_eq!(client.get("/bucket/key").ok().await.text(), "b");
}
