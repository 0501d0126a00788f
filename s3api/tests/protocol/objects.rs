//! Buckets and whole objects: what goes in comes out, with its headers.

use crate::client::{Client, Signer, texts};
use http::StatusCode;

#[tokio::test]
async fn buckets_are_made_found_listed_and_removed() {
    let client = Client::new();
    let made = client.put("/bucket").ok().await;
    assert_eq!(made.header("location"), "/bucket");
    client.put("/bucket").ok().await;
    let taken = client.put("/bucket").signed_by(Signer::Other).refused().await;
    assert_eq!(taken, (409, "BucketAlreadyExists".into()));
    let located = "<CreateBucketConfiguration><LocationConstraint>eu-x</LocationConstraint></CreateBucketConfiguration>";
    client.put("/elsewhere").body(located).ok().await;
    client.put("/others").signed_by(Signer::Other).ok().await;

    assert_eq!(client.head("/bucket").ok().await.header("x-amz-bucket-region"), "us-east-1");
    assert_eq!(client.head("/elsewhere").ok().await.header("x-amz-bucket-region"), "eu-x");
    assert_eq!(client.get("/elsewhere?location").ok().await.xml().text(), "eu-x");
    assert_eq!(client.get("/bucket?location").ok().await.xml().text(), "");

    let names = |reply: &crate::client::Reply| texts(reply.xml().child("Buckets").unwrap(), "Bucket", "Name");
    let all = client.get("/").ok().await;
    assert_eq!(names(&all), ["bucket", "elsewhere"]);
    let owner = all.xml();
    let owner = owner.child("Owner").unwrap();
    assert_eq!(
        (owner.child_text("ID"), owner.child_text("DisplayName")),
        (Some("main"), Some("Name of main"))
    );
    assert_eq!(all.xml().child("ContinuationToken"), None);
    let first = client.get("/?max-buckets=1").ok().await;
    assert_eq!(names(&first), ["bucket"]);
    let token = first.xml().child_text("ContinuationToken").unwrap().to_owned();
    let second = client.get(format!("/?max-buckets=1&continuation-token={token}")).ok().await;
    assert_eq!(names(&second), ["elsewhere"]);
    assert_eq!(second.xml().child("ContinuationToken"), None);
    assert_eq!(names(&client.get("/?prefix=else").ok().await), ["elsewhere"]);
    assert_eq!(client.get("/?max-buckets=0").refused().await.1, "InvalidArgument");

    client.put_object("/bucket/key", "x").await;
    assert_eq!(client.delete("/bucket").refused().await, (409, "BucketNotEmpty".into()));
    client.delete("/bucket/key").ok().await;
    assert_eq!(client.delete("/bucket").ok().await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.head("/bucket").send().await.status, 404);
}

#[tokio::test]
async fn an_object_comes_back_with_what_was_said_about_it() {
    let client = Client::with_bucket().await;
    let put = client
        .put("/bucket/a%20b")
        .header("content-type", "text/plain")
        .header("cache-control", "no-store")
        .header("content-encoding", "aws-chunked,gzip")
        .header("x-amz-meta-name", b"Hello World\xE9")
        .header("x-amz-tagging", "a=1&b=2")
        .header("x-amz-storage-class", "STANDARD_IA")
        .header("x-amz-website-redirect-location", "/other")
        .body("hello")
        .ok()
        .await;
    assert_eq!(put.header("etag"), "\"5d41402abc4b2a76b9719d911017c592\"");
    assert_eq!(put.headers.get("x-amz-version-id"), None);
    let got = client.get("/bucket/a%20b").ok().await;
    assert_eq!((got.status, got.text()), (StatusCode::OK, "hello"));
    let head = client.head("/bucket/a%20b").ok().await;
    assert!(head.body.is_empty());
    for (name, value) in [
        ("etag", "\"5d41402abc4b2a76b9719d911017c592\""),
        ("content-length", "5"),
        ("content-type", "text/plain"),
        ("cache-control", "no-store"),
        ("content-encoding", "gzip"),
        ("accept-ranges", "bytes"),
        ("x-amz-tagging-count", "2"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-website-redirect-location", "/other"),
        ("last-modified", "Mon, 21 Sep 2026 14:13:22 GMT"),
    ] {
        assert_eq!(got.header(name), value, "{name}");
        assert_eq!(head.header(name), value, "{name}");
    }
    assert_eq!(got.headers["x-amz-meta-name"].as_bytes(), b"Hello World\xE9");
    let untyped = client.put_object("/bucket/untyped", "").await;
    assert_eq!(untyped.body.len(), 0);
    assert_eq!(client.get("/bucket/untyped").ok().await.header("content-type"), "binary/octet-stream");
}

#[tokio::test]
async fn hostile_keys_are_ordinary_keys() {
    let client = Client::with_bucket().await;
    let keys = [
        "..%2F..%2Fetc%2Fpasswd",
        "a//b",
        "/",
        ".",
        "%00",
        "a%252Fb",
        "%F0%9F%98%80",
        "a+b",
        "a?b".replace('?', "%3F").leak(),
    ];
    for (number, key) in keys.iter().enumerate() {
        client.put(format!("/bucket/{key}")).body(number.to_string()).ok().await;
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(client.get(format!("/bucket/{key}")).ok().await.text(), number.to_string(), "{key}");
    }
    assert_eq!(client.backend.count(), keys.len());
}

#[tokio::test]
async fn ranges_are_answered_as_http_says() {
    let client = Client::with_bucket().await;
    client.put_object("/bucket/key", "0123456789").await;
    client.put_object("/bucket/empty", "").await;
    for (range, status, body, content_range) in [
        ("bytes=0-0", 206, "0", "bytes 0-0/10"),
        ("bytes=4-", 206, "456789", "bytes 4-9/10"),
        ("bytes=-3", 206, "789", "bytes 7-9/10"),
        ("bytes=5-500", 206, "56789", "bytes 5-9/10"),
        ("bytes=1-2,4-5", 200, "0123456789", ""),
        ("lines=1-2", 200, "0123456789", ""),
    ] {
        let got = client.get("/bucket/key").header("range", range).ok().await;
        assert_eq!(
            (got.status.as_u16(), got.text(), got.header("content-range")),
            (status, body, content_range)
        );
        assert_eq!(got.header("content-length"), body.len().to_string());
        let head = client.head("/bucket/key").header("range", range).ok().await;
        assert_eq!((head.status.as_u16(), head.header("content-range")), (status, content_range));
        assert_eq!(head.header("content-length"), body.len().to_string());
    }
    for (key, range, size) in [("key", "bytes=10-", 10), ("key", "bytes=-0", 10), ("empty", "bytes=0-5", 0)] {
        let refused = client.get(format!("/bucket/{key}")).header("range", range).send().await;
        assert_eq!((refused.status.as_u16(), refused.code()), (416, "InvalidRange".into()), "{range}");
        assert_eq!(refused.header("content-range"), format!("bytes */{size}"));
        assert_eq!(refused.xml().child_text("ActualObjectSize"), Some(size.to_string().as_str()));
    }
}

#[tokio::test]
async fn a_resumed_download_never_joins_two_versions() {
    let client = Client::with_bucket().await;
    let etag = client.put_object("/bucket/key", "0123456789").await.header("etag").to_owned();
    let resume = |range: &'static str, validator: &str| {
        client.get("/bucket/key").header("range", range).header("if-range", validator)
    };
    assert_eq!(resume("bytes=4-", &etag).ok().await.text(), "456789");
    for (range, validator) in
        [("bytes=4-", "\"other\""), ("bytes=50-", "\"other\""), ("bytes=4-", &format!("W/{etag}"))]
    {
        let whole = resume(range, validator).ok().await;
        assert_eq!((whole.status.as_u16(), whole.text()), (200, "0123456789"), "{range} {validator}");
    }
}

#[tokio::test]
async fn answers_can_be_given_other_headers() {
    let client = Client::with_bucket().await;
    client.put_object("/bucket/key", "x").await;
    let query = "response-content-type=foo/bar&response-content-disposition=bla&response-content-language=esperanto\
                 &response-content-encoding=aaa&response-cache-control=no-cache&response-expires=never";
    let got = client.get(format!("/bucket/key?{query}")).ok().await;
    for (name, value) in [
        ("content-type", "foo/bar"),
        ("content-disposition", "bla"),
        ("content-language", "esperanto"),
        ("content-encoding", "aaa"),
        ("cache-control", "no-cache"),
        ("expires", "never"),
    ] {
        assert_eq!(got.header(name), value);
    }
    let split = client.get("/bucket/key?response-content-type=a%0D%0AX-Evil:1").refused().await;
    assert_eq!(split, (400, "InvalidArgument".into()));
}

#[tokio::test]
async fn checksums_are_shown_to_those_who_ask() {
    let client = Client::with_bucket().await;
    let sha256 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    client.put("/bucket/declared").header("x-amz-checksum-sha256", sha256).body("hello").ok().await;
    client.put_object("/bucket/plain", "hello").await;
    let silent = client.head("/bucket/declared").ok().await;
    assert_eq!(silent.header("x-amz-checksum-sha256"), "");
    let shown = |key: &str| client.get(format!("/bucket/{key}")).header("x-amz-checksum-mode", "ENABLED");
    let got = shown("declared").ok().await;
    assert_eq!(
        (got.header("x-amz-checksum-sha256"), got.header("x-amz-checksum-type")),
        (sha256, "FULL_OBJECT")
    );
    let crc = ashlar_hashing::checksum(ashlar_types::ChecksumAlgorithm::Crc64Nvme, b"hello").to_base64();
    assert_eq!(shown("plain").ok().await.header("x-amz-checksum-crc64nvme"), crc);
    let part = shown("declared").header("range", "bytes=1-2").ok().await;
    assert_eq!(part.header("x-amz-checksum-sha256"), "", "it is not the checksum of these bytes");
}

#[tokio::test]
async fn many_keys_are_deleted_at_once() {
    let client = Client::with_bucket().await;
    for key in ["a", "b", "c%20d"] {
        client.put_object(&format!("/bucket/{key}"), "x").await;
    }
    let long = "k".repeat(1025);
    let document = format!(
        "<Delete><Object><Key>a</Key></Object><Object><Key>{long}</Key></Object>\
         <Object><Key><![CDATA[c d]]></Key></Object><Object><Key>absent</Key></Object>\
         <Object><Key>b</Key><VersionId>nonsense</VersionId></Object></Delete>"
    );
    let result = client.post("/bucket?delete").document(&document).ok().await.xml();
    assert_eq!(texts(&result, "Deleted", "Key"), ["a", "c d", "absent"]);
    assert_eq!(texts(&result, "Error", "Key"), [long.as_str(), "b"]);
    assert_eq!(texts(&result, "Error", "Code"), ["KeyTooLongError", "NoSuchVersion"]);
    assert_eq!(client.backend.count(), 1);

    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>b</Key><ETag>\"other\"</ETag></Object></Delete>";
    let result = client.post("/bucket?delete").document(quiet).ok().await.xml();
    assert_eq!(texts(&result, "Error", "Code"), ["PreconditionFailed"]);
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>";
    let crc = ashlar_hashing::checksum(ashlar_types::ChecksumAlgorithm::Crc32, quiet.as_bytes()).to_base64();
    let result =
        client.post("/bucket?delete").header("x-amz-checksum-crc32", crc).body(quiet).ok().await.xml();
    assert!(result.elements().is_empty());
    assert_eq!(client.backend.count(), 0);
    let wrong = client.post("/bucket?delete").header("x-amz-checksum-crc32", "AAAAAA==").body(quiet);
    assert_eq!(wrong.refused().await, (400, "BadDigest".into()));
}
