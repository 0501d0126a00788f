//! Every row of the operation table, asked by those who may not.

use crate::client::{Client, Signer};
use ashlar_s3api::{
    operation::{Row, Selector, TABLE},
    target::Level,
};
use http::Method;

/// A request that selects a row: target and headers.
fn selecting(row: &Row) -> (String, Vec<(&'static str, &'static str)>) {
    let mut query = Vec::new();
    let mut headers = Vec::new();
    for selector in row.selectors {
        match *selector {
            Selector::Parameter("partNumber") => query.push("partNumber=1".to_owned()),
            Selector::Parameter(name) => query.push(name.to_owned()),
            Selector::Value(name, value) => query.push(format!("{name}={value}")),
            Selector::Header(name) => headers.push((name, "/bucket/key")),
        }
    }
    let path = match row.level {
        Level::Service => "/",
        Level::Bucket => "/bucket",
        Level::Object => "/bucket/key",
    };
    (format!("{path}?{}", query.join("&")), headers)
}

#[tokio::test]
async fn nobody_gets_through_any_row_without_a_signature() {
    let client = Client::with_bucket().await;
    client.put_object("/bucket/key", "kept").await;
    let before = client.backend.count();
    for row in TABLE {
        let (target, headers) = selecting(row);
        let mut ask = client.ask(row.method.clone(), &target).signed_by(Signer::Nobody);
        for (name, value) in headers {
            ask = ask.header(name, value);
        }
        let reply = ask.send().await;
        assert_eq!(reply.status, 403, "{}: {reply:?}", row.name);
        if row.method != Method::HEAD {
            assert_eq!(reply.code(), "AccessDenied", "{}", row.name);
        }
    }
    assert_eq!((client.backend.count(), client.backend.bucket_count()), (before, 1));
}

#[tokio::test]
async fn strangers_get_the_same_refusal_whether_or_not_a_key_exists() {
    let client = Client::with_bucket().await;
    client.put_object("/bucket/key", "kept").await;
    let before = client.backend.count();
    for row in TABLE.iter().filter(|row| row.level != Level::Service && row.name != "CreateBucket") {
        let mut refusals = Vec::new();
        for key in ["key", "absent"] {
            let (target, headers) = selecting(row);
            let target = target.replace("/bucket/key", &format!("/bucket/{key}"));
            for condition in ["", "if-match", "if-none-match"] {
                let mut ask = client.ask(row.method.clone(), &target).signed_by(Signer::Other);
                for (name, value) in &headers {
                    ask = ask.header(name, value);
                }
                if !condition.is_empty() {
                    ask = ask.header(condition, "*");
                }
                let reply = ask.send().await;
                refusals.push((reply.status.as_u16(), reply.headers.len(), reply.code()));
            }
        }
        let first = refusals[0].clone();
        assert_eq!(first.0, 403, "{}", row.name);
        assert!(refusals.iter().all(|refusal| *refusal == first), "{}: {refusals:?}", row.name);
    }
    assert_eq!(client.backend.count(), before);
}

#[tokio::test]
async fn a_stranger_neither_copies_from_nor_into_a_bucket() {
    let client = Client::with_bucket().await;
    client.put_object("/bucket/key", "secret").await;
    client.put("/others").signed_by(Signer::Other).ok().await;
    let copy =
        |target: &str| client.put(target).header("x-amz-copy-source", "/bucket/key").signed_by(Signer::Other);
    let denied = (403, "AccessDenied".to_owned());
    assert_eq!(copy("/others/stolen").refused().await, denied);
    let upload = client.post("/others/stolen?uploads").signed_by(Signer::Other).ok().await;
    let upload = upload.xml().child_text("UploadId").unwrap().to_owned();
    assert_eq!(copy(&format!("/others/stolen?partNumber=1&uploadId={upload}")).refused().await, denied);
    let into = client.put("/others/gift").header("x-amz-copy-source", "/bucket/key");
    assert_eq!(into.refused().await, denied);
}

#[tokio::test]
async fn a_foreign_subresource_is_501_for_every_method_and_changes_nothing() {
    let client = Client::with_bucket().await;
    client.put_object("/bucket/key", "kept").await;
    let before = client.backend.count();
    let names = "acl policy policyStatus cors website tagging lifecycle encryption object-lock retention legal-hold \
                 notification replication logging requestPayment accelerate inventory analytics metrics \
                 intelligent-tiering ownershipControls publicAccessBlock torrent restore select attributes";
    for name in names.split_whitespace() {
        for target in
            [format!("/bucket?{name}"), format!("/bucket/key?{name}"), format!("/bucket/key?{name}=1")]
        {
            for method in [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE] {
                let reply = client.ask(method.clone(), &target).send().await;
                assert_eq!(reply.status, 501, "{method} {target}");
            }
        }
    }
    for target in ["/bucket?foo", "/bucket/key?foo", "/bucket?foo=", "/bucket/key?versionid"] {
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            let refused = client.ask(method.clone(), target).refused().await;
            assert_eq!(refused, (501, "NotImplemented".to_owned()), "{method} {target}");
        }
    }
    assert_eq!((client.backend.count(), client.backend.bucket_count()), (before, 1));
}

#[tokio::test]
async fn the_expected_owner_is_checked() {
    let client = Client::with_bucket().await;
    client.get("/bucket").header("x-amz-expected-bucket-owner", "main").ok().await;
    let wrong = client.get("/bucket").header("x-amz-expected-bucket-owner", "mainfoo");
    assert_eq!(wrong.refused().await, (403, "AccessDenied".to_owned()));
    client.put_object("/bucket/key", "x").await;
    let copy = client
        .put("/bucket/copy")
        .header("x-amz-copy-source", "/bucket/key")
        .header("x-amz-source-expected-bucket-owner", "other");
    assert_eq!(copy.refused().await, (403, "AccessDenied".to_owned()));
}
