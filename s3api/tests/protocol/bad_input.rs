//! Requests that are wrong in one way, and what S3 says about each.

use crate::{
    client::{Ask, Client, Signer},
    memory::START,
};
use ashlar_s3api::auth::sign::SigV4Signer;
use ashlar_types::Timestamp;
use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use std::time::Duration;

async fn expect(ask: Ask<'_>, status: u16, code: &str, what: &str) {
    assert_eq!(ask.refused().await, (status, code.to_owned()), "{what}");
}

#[tokio::test]
async fn signatures_that_do_not_hold() {
    let client = Client::with_bucket().await;
    let minute = 60_000;
    for late in [START.0 - 16 * minute, START.0 + 16 * minute] {
        expect(client.get("/bucket").at(Timestamp(late)), 403, "RequestTimeTooSkewed", "skew").await;
    }
    client.get("/bucket").at(Timestamp(START.0 - 14 * minute)).ok().await;

    let (_, mut changed) = client.get("/bucket/key").request();
    *changed.uri_mut() = "/bucket/other".parse().unwrap();
    let reply = client.send(changed).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (403, "SignatureDoesNotMatch".into()));

    let (_, mut unknown) = client.get("/bucket").signed_by(Signer::Nobody).request();
    let signer = SigV4Signer::new("AKNOBODY", "guess", "us-east-1");
    let payload = ashlar_s3api::auth::sign::SignedPayload::of(b"");
    signer.sign(&mut unknown, START, &payload).unwrap();
    let reply = client.send(unknown).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (403, "InvalidAccessKeyId".into()));

    let (_, mut swapped) = client.put("/bucket/key").body("right").request();
    *swapped.body_mut() = Full::new(Bytes::from_static(b"wrong"));
    let reply = client.send(swapped).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (400, "XAmzContentSHA256Mismatch".into()));
    assert_eq!(client.backend.count(), 0);
}

#[tokio::test]
async fn names_and_keys_at_and_past_their_limits() {
    let client = Client::with_bucket().await;
    for bad in ["/ab", "/Bucket", "/_bucket", "/192.168.5.4", &format!("/{}", "a".repeat(64))] {
        expect(client.put(bad), 400, "InvalidBucketName", bad).await;
        expect(client.get(bad), 400, "InvalidBucketName", bad).await;
    }
    client.put(format!("/{}", "a".repeat(63))).ok().await;
    let key = |len| format!("/bucket/{}", "k".repeat(len));
    client.put(key(1024)).ok().await;
    expect(client.put(key(1025)), 400, "KeyTooLongError", "key").await;
    expect(client.put("/bucket/%FF"), 400, "InvalidURI", "not UTF-8").await;
    expect(client.get("/absent"), 404, "NoSuchBucket", "bucket").await;
    expect(client.get("/absent/key"), 404, "NoSuchBucket", "bucket of a key").await;
    expect(client.get("/bucket/absent"), 404, "NoSuchKey", "key").await;
    expect(client.get("/bucket?prefix=a&prefix=b"), 400, "InvalidArgument", "twice").await;
}

#[tokio::test]
async fn digests_and_checksums_that_are_not() {
    let client = Client::with_bucket().await;
    let put = || client.put("/bucket/key").body("bar");
    for (name, value, code) in [
        ("content-md5", "YWJyYWNhZGFicmE=", "InvalidDigest"),
        ("content-md5", "", "InvalidDigest"),
        ("content-md5", "rL0Y20xC+Fzt72VPzMSk2A==", "BadDigest"),
        ("x-amz-checksum-crc32", "bad", "InvalidRequest"),
        ("x-amz-checksum-crc32", "AAAAAA==", "BadDigest"),
        ("x-amz-checksum-sha256", "AAAAAA==", "InvalidRequest"),
        ("x-amz-sdk-checksum-algorithm", "CRC31", "InvalidRequest"),
        ("x-amz-storage-class", "COLD", "InvalidStorageClass"),
        ("x-amz-tagging", "=v", "InvalidTag"),
    ] {
        expect(put().header(name, value), 400, code, name).await;
    }
    let two = put().header("x-amz-checksum-crc32", "AAAAAA==").header("x-amz-checksum-crc32c", "AAAAAA==");
    expect(two, 400, "InvalidRequest", "two checksums").await;
    let large = put().header("x-amz-meta-a", "v".repeat(2048));
    expect(large, 400, "MetadataTooLarge", "metadata").await;
    for name in ["x-amz-server-side-encryption", "x-amz-object-lock-mode", "x-amz-grant-read", "x-amz-acl"] {
        expect(put().header(name, "AES256"), 501, "NotImplemented", name).await;
    }
    assert_eq!(client.backend.count(), 0, "nothing refused is stored");
    let good = put().header("x-amz-checksum-crc32", "dv+Mqg==").ok().await;
    assert_eq!(good.header("x-amz-checksum-crc32"), "dv+Mqg==");
}

#[tokio::test]
async fn lengths_that_are_missing_or_too_large() {
    let client = Client::with_bucket().await;
    let (_, mut missing) = client.put("/bucket/key").request();
    missing.headers_mut().remove("content-length");
    let reply = client.send(missing).await;
    // Signed headers include the length, so leaving it out breaks the signature first.
    assert_eq!(reply.status, 403);
    let huge = client.put("/bucket/key").header("content-length", "5368709121");
    expect(huge, 400, "EntityTooLarge", "5 GiB and one byte").await;
}

#[tokio::test]
async fn documents_that_are_malformed() {
    let client = Client::with_bucket().await;
    for (target, body) in [
        ("/bucket?versioning", "<VersioningConfiguration><Status>On</Status></VersioningConfiguration>"),
        ("/bucket?versioning", "<VersioningConfiguration/>"),
        ("/bucket?versioning", "<Versioning><Status>Enabled</Status></Versioning>"),
        ("/bucket?versioning", "<VersioningConfiguration><Status>Enabled"),
        ("/bucket?versioning", ""),
        ("/newbucket", "<CreateBucketConfiguration>"),
        ("/newbucket", "text"),
    ] {
        expect(client.put(target).body(body), 400, "MalformedXML", body).await;
    }
    for body in [
        "<Delete></Delete>".to_owned(),
        "<Delete><Object><Name>a</Name></Object></Delete>".to_owned(),
        "<Delete><Quiet>maybe</Quiet><Object><Key>a</Key></Object></Delete>".to_owned(),
        format!("<Delete>{}</Delete>", "<Object><Key>a</Key></Object>".repeat(1001)),
    ] {
        expect(client.post("/bucket?delete").document(&body), 400, "MalformedXML", &body).await;
    }
    let unproven = client.post("/bucket?delete").body("<Delete><Object><Key>a</Key></Object></Delete>");
    expect(unproven, 400, "InvalidRequest", "no digest").await;
    client.put_object("/bucket/a", "kept").await;
    let other = client
        .post("/bucket?delete")
        .header("content-md5", "rL0Y20xC+Fzt72VPzMSk2A==")
        .body("<Delete><Object><Key>a</Key></Object></Delete>");
    expect(other, 400, "BadDigest", "another digest").await;
    assert_eq!(client.backend.count(), 1);
    let long = "x".repeat((64 << 10) + 1);
    expect(client.put("/bucket?versioning").body(long), 400, "MaxMessageLengthExceeded", "long").await;
    let mfa = "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>\
               </VersioningConfiguration>";
    expect(client.put("/bucket?versioning").body(mfa), 501, "NotImplemented", "MFA").await;
}

#[tokio::test]
async fn every_answer_carries_its_request_id() {
    let client = Client::with_bucket().await;
    let refused = client.get("/bucket/absent").send().await;
    let id = refused.header("x-amz-request-id");
    assert_eq!(id.len(), 16);
    let xml = refused.xml();
    assert_eq!(xml.child_text("RequestId"), Some(id));
    assert_eq!(xml.child_text("HostId"), Some("host-1"));
    assert_eq!(xml.child_text("Resource"), Some("/bucket/absent"));
    let good = client.get("/bucket").ok().await;
    assert_ne!(good.header("x-amz-request-id"), id);
    for reply in [&refused, &good] {
        assert_eq!(reply.header("server"), "Ashlar");
        assert_eq!(reply.header("x-amz-id-2"), "host-1");
        assert!(reply.header("date").ends_with(" GMT"));
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
    }
    let head = client.head("/bucket/absent").send().await;
    assert_eq!((head.status.as_u16(), head.body.len()), (404, 0));
}

#[tokio::test]
async fn a_presigned_query_means_what_its_headers_would() {
    let client = Client::with_bucket().await;
    let signer = crate::client::signer(Signer::Main).unwrap();
    let presign = |target: &str, body: &'static str| {
        let mut request = Request::new(Full::new(Bytes::from_static(body.as_bytes())));
        *request.method_mut() = http::Method::PUT;
        *request.uri_mut() = target.parse().unwrap();
        request.headers_mut().insert("host", HeaderValue::from_static("s3.test"));
        signer.presign(&mut request, START, Duration::from_secs(60)).unwrap();
        request.headers_mut().insert("content-length", HeaderValue::from(body.len()));
        request
    };
    let plain = client.send(presign("/bucket/plain?x-id=PutObject", "bar")).await;
    assert_eq!(plain.status, 200, "{plain:?}");
    let public = client.send(presign("/bucket/public?x-amz-acl=public-read", "bar")).await;
    assert_eq!((public.status.as_u16(), public.code()), (501, "NotImplemented".into()));
    let wrong = client.send(presign("/bucket/wrong?x-amz-checksum-crc32=AAAAAA%3D%3D", "bar")).await;
    assert_eq!((wrong.status.as_u16(), wrong.code()), (400, "BadDigest".into()));
    // A header that the signer did not sign would turn the upload into a copy.
    let mut injected = presign("/bucket/injected", "");
    injected.headers_mut().insert("x-amz-copy-source", HeaderValue::from_static("/bucket/plain"));
    assert_eq!(client.send(injected).await.status, 403);
    assert_eq!(client.backend.count(), 1);
}
