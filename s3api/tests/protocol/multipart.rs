//! Multipart uploads from Create to Complete.

use crate::client::{Client, Reply, texts};
use ashlar_s3api::S3Config;
use bytes::Bytes;

const PART_LEN: usize = 5 << 20;

async fn create(client: &Client, key: &str) -> String {
    let reply = client.post(format!("/bucket/{key}?uploads")).header("x-amz-meta-a", "1").ok().await;
    let xml = reply.xml();
    assert_eq!(xml.name(), "InitiateMultipartUploadResult");
    assert_eq!((xml.child_text("Bucket"), xml.child_text("Key")), (Some("bucket"), Some(key)));
    xml.child_text("UploadId").unwrap().to_owned()
}

async fn part(client: &Client, key: &str, upload: &str, number: u16, body: impl Into<Bytes>) -> String {
    let target = format!("/bucket/{key}?partNumber={number}&uploadId={upload}");
    client.put(target).body(body).ok().await.header("etag").to_owned()
}

fn document(parts: &[(u16, &str)]) -> String {
    let parts: String = parts
        .iter()
        .map(|(number, etag)| {
            let etag = etag.replace('"', "&quot;");
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        })
        .collect();
    format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}</CompleteMultipartUpload>"
    )
}

async fn complete(client: &Client, key: &str, upload: &str, parts: &[(u16, &str)]) -> Reply {
    client.post(format!("/bucket/{key}?uploadId={upload}")).body(document(parts)).send().await
}

fn code(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.code())
}

#[tokio::test]
async fn parts_become_one_object_and_stay_readable() {
    let client = Client::with_bucket().await;
    let upload = create(&client, "key").await;
    let large = vec![b'a'; PART_LEN];
    let one = part(&client, "key", &upload, 1, large.clone()).await;
    let three = part(&client, "key", &upload, 3, "tail").await;
    assert_eq!(client.get("/bucket/key").refused().await, (404, "NoSuchKey".into()));
    let done = complete(&client, "key", &upload, &[(1, &one), (3, &three)]).await;
    assert_eq!(done.status, 200, "{done:?}");
    let xml = done.xml();
    let etag = xml.child_text("ETag").unwrap();
    assert!(etag.ends_with("-2\""), "{etag}");
    assert_eq!(xml.child_text("Location"), Some("http://s3.test/bucket/key"));
    assert_eq!(code(&complete(&client, "key", &upload, &[(1, &one), (3, &three)]).await).0, 200);

    let got = client.get("/bucket/key").ok().await;
    assert_eq!((got.body.len(), got.header("etag"), got.header("x-amz-meta-a")), (PART_LEN + 4, etag, "1"));
    assert_eq!(got.header("x-amz-mp-parts-count"), "");
    let tail = client.get("/bucket/key?partNumber=3").ok().await;
    assert_eq!((tail.status.as_u16(), tail.text()), (206, "tail"));
    assert_eq!(tail.header("x-amz-mp-parts-count"), "2");
    assert_eq!(tail.header("content-range"), format!("bytes {PART_LEN}-{}/{}", PART_LEN + 3, PART_LEN + 4));
    let head = client.head("/bucket/key?partNumber=1").ok().await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (206, PART_LEN.to_string().as_str()));
    assert_eq!(client.get("/bucket/key?partNumber=2").refused().await, (416, "InvalidPartNumber".into()));
    for bad in ["0", "10001", "x", ""] {
        let refused = client.get(format!("/bucket/key?partNumber={bad}")).refused().await;
        assert_eq!(refused, (400, "InvalidArgument".into()), "{bad}");
    }
    let both = client.get("/bucket/key?partNumber=1").header("range", "bytes=0-1");
    assert_eq!(both.refused().await, (400, "InvalidRequest".into()));
    client.put_object("/bucket/single", "body").await;
    assert_eq!(client.get("/bucket/single?partNumber=1").ok().await.text(), "body");
}

#[tokio::test]
async fn the_conformance_profile_calls_an_absent_part_invalid() {
    let client = Client::with(S3Config { conformance: true, ..S3Config::default() });
    client.put("/bucket").ok().await;
    client.put_object("/bucket/key", "body").await;
    assert_eq!(client.get("/bucket/key?partNumber=2").refused().await, (400, "InvalidPart".into()));
}

#[tokio::test]
async fn a_complete_that_does_not_fit_is_refused() {
    let client = Client::with_bucket().await;
    let upload = create(&client, "key").await;
    let one = part(&client, "key", &upload, 1, vec![b'a'; PART_LEN]).await;
    let two = part(&client, "key", &upload, 2, "small").await;
    let three = part(&client, "key", &upload, 3, "tail").await;
    for (parts, status, expected) in [
        (vec![(2, &*two), (1, &*one)], 400, "InvalidPartOrder"),
        (vec![(1, &*one), (1, &*one)], 400, "InvalidPartOrder"),
        (vec![(1, &*one), (9, &*two)], 400, "InvalidPart"),
        (vec![(1, &*two)], 400, "InvalidPart"),
        (vec![(2, &*two), (3, &*three)], 400, "EntityTooSmall"),
        (vec![], 400, "MalformedXML"),
        (vec![(0, &*one)], 400, "InvalidArgument"),
        (vec![(10001, &*one)], 400, "InvalidArgument"),
    ] {
        let reply = complete(&client, "key", &upload, &parts).await;
        assert_eq!(code(&reply), (status, expected.to_owned()), "{parts:?}");
    }
    for body in ["", "<CompleteMultipartUpload>", "<Other/>"] {
        let refused = client.post(format!("/bucket/key?uploadId={upload}")).body(body).refused().await;
        assert_eq!(refused, (400, "MalformedXML".into()), "{body}");
    }
    let guarded = client
        .post(format!("/bucket/key?uploadId={upload}"))
        .header("if-match", "\"x\"")
        .body(document(&[(1, &one)]));
    assert_eq!(guarded.refused().await, (404, "NoSuchKey".into()));
    let absent = complete(&client, "key", &"0".repeat(48), &[(1, &one)]).await;
    assert_eq!(code(&absent), (404, "NoSuchUpload".into()));
}

#[tokio::test]
async fn part_numbers_and_upload_ids_have_limits() {
    let client = Client::with_bucket().await;
    let upload = create(&client, "key").await;
    for number in ["0", "10001", "-1", "x", ""] {
        let put = client.put(format!("/bucket/key?partNumber={number}&uploadId={upload}")).body("x");
        assert_eq!(put.refused().await, (400, "InvalidArgument".into()), "{number}");
    }
    part(&client, "key", &upload, 10000, "x").await;
    for id in ["nonsense", &"0".repeat(48)] {
        let put = client.put(format!("/bucket/key?partNumber=1&uploadId={id}")).body("x");
        assert_eq!(put.refused().await, (404, "NoSuchUpload".into()), "{id}");
        let abort = client.delete(format!("/bucket/key?uploadId={id}"));
        assert_eq!(abort.refused().await, (404, "NoSuchUpload".into()), "{id}");
    }
    assert_eq!(client.delete(format!("/bucket/key?uploadId={upload}")).ok().await.status, 204);
    let late = client.put(format!("/bucket/key?partNumber=1&uploadId={upload}")).body("x");
    assert_eq!(late.refused().await, (404, "NoSuchUpload".into()));
    assert_eq!(client.backend.count(), 0);
}

#[tokio::test]
async fn parts_and_uploads_are_listed_in_pages() {
    let client = Client::with_bucket().await;
    let upload = create(&client, "key").await;
    for number in [1, 2, 5] {
        part(&client, "key", &upload, number, "x").await;
    }
    let page = client.get(format!("/bucket/key?uploadId={upload}&max-parts=2")).ok().await.xml();
    assert_eq!(texts(&page, "Part", "PartNumber"), ["1", "2"]);
    assert_eq!(
        (page.child_text("IsTruncated"), page.child_text("NextPartNumberMarker")),
        (Some("true"), Some("2"))
    );
    assert_eq!(page.child("Initiator").unwrap().child_text("ID"), Some("main"));
    let rest = client.get(format!("/bucket/key?uploadId={upload}&part-number-marker=2")).ok().await.xml();
    assert_eq!(
        (texts(&rest, "Part", "PartNumber"), rest.child_text("IsTruncated")),
        (vec!["5".into()], Some("false"))
    );
    let none = client.get(format!("/bucket/key?uploadId={upload}&part-number-marker=99999")).ok().await.xml();
    assert_eq!(none.child("Part"), None);

    let second = create(&client, "key").await;
    let third = create(&client, "z/1").await;
    create(&client, "z/2").await;
    let page = client.get("/bucket?uploads&max-uploads=1").ok().await.xml();
    assert_eq!(texts(&page, "Upload", "UploadId"), [upload]);
    let marker = page.child_text("NextUploadIdMarker").unwrap();
    let rest = client.get(format!("/bucket?uploads&key-marker=key&upload-id-marker={marker}&max-uploads=2"));
    assert_eq!(texts(&rest.ok().await.xml(), "Upload", "UploadId"), [second, third]);
    let grouped = client.get("/bucket?uploads&delimiter=/").ok().await.xml();
    assert_eq!(texts(&grouped, "CommonPrefixes", "Prefix"), ["z/"]);
    assert_eq!(texts(&grouped, "Upload", "Key"), ["key", "key"]);
}

#[tokio::test]
async fn parts_are_copied_from_ranges() {
    let client = Client::with_bucket().await;
    client.put_object("/bucket/source", "0123456789").await;
    let upload = create(&client, "key").await;
    let target = format!("/bucket/key?partNumber=1&uploadId={upload}");
    let copy = |range: &str| {
        let ask = client.put(&target).header("x-amz-copy-source", "bucket/source");
        if range.is_empty() { ask } else { ask.header("x-amz-copy-source-range", range) }
    };
    for bad in
        ["0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=hello-", "bytes=0-2,3-5", "bytes=1-"]
    {
        assert_eq!(copy(bad).refused().await, (400, "InvalidArgument".into()), "{bad}");
    }
    assert_eq!(copy("bytes=10-20").refused().await, (416, "InvalidRange".into()));
    let done = copy("bytes=2-4").ok().await.xml();
    assert_eq!(done.name(), "CopyPartResult");
    let etag = done.child_text("ETag").unwrap().to_owned();
    complete(&client, "key", &upload, &[(1, &etag)]).await;
    assert_eq!(client.get("/bucket/key").ok().await.text(), "234");
}

#[tokio::test]
async fn checksums_of_parts_and_objects() {
    let client = Client::with_bucket().await;
    for (algorithm, kind, shown) in [
        ("CRC32", "", Some("COMPOSITE")),
        ("CRC32", "FULL_OBJECT", Some("FULL_OBJECT")),
        ("CRC64NVME", "", Some("FULL_OBJECT")),
        ("CRC64NVME", "COMPOSITE", None),
        ("SHA256", "FULL_OBJECT", None),
        ("MD5", "", None),
    ] {
        let mut ask = client.post("/bucket/key?uploads").header("x-amz-checksum-algorithm", algorithm);
        if !kind.is_empty() {
            ask = ask.header("x-amz-checksum-type", kind);
        }
        let reply = ask.send().await;
        match shown {
            Some(shown) => {
                assert_eq!(reply.header("x-amz-checksum-type"), shown);
                assert_eq!(reply.header("x-amz-checksum-algorithm"), algorithm);
            }
            None => assert_eq!(code(&reply), (400, "InvalidRequest".into()), "{algorithm} {kind}"),
        }
    }
    let created = client.post("/bucket/sum?uploads").header("x-amz-checksum-algorithm", "SHA256").ok().await;
    let upload = created.xml().child_text("UploadId").unwrap().to_owned();
    let sum = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let target = format!("/bucket/sum?partNumber=1&uploadId={upload}");
    let put = client.put(target).header("x-amz-checksum-sha256", sum).body("hello").ok().await;
    assert_eq!(put.header("x-amz-checksum-sha256"), sum);
    let listed = client.get(format!("/bucket/sum?uploadId={upload}")).ok().await.xml();
    assert_eq!(texts(&listed, "Part", "ChecksumSHA256"), [sum]);
    let document = |sum: &str| {
        format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag>\
             <ChecksumSHA256>{sum}</ChecksumSHA256></Part></CompleteMultipartUpload>",
            put.header("etag")
        )
    };
    let finish = |sum: &str| client.post(format!("/bucket/sum?uploadId={upload}")).body(document(sum));
    let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(finish(other).refused().await, (400, "InvalidPart".into()));
    assert_eq!(finish("short").refused().await, (400, "MalformedXML".into()));
    let done = finish(sum).ok().await.xml();
    assert!(done.child_text("ChecksumSHA256").is_some_and(|sum| sum.ends_with("-1")));
    assert_eq!(done.child_text("ChecksumType"), Some("COMPOSITE"));
    let got = client.get("/bucket/sum").header("x-amz-checksum-mode", "ENABLED").ok().await;
    assert_eq!(got.header("x-amz-checksum-sha256"), done.child_text("ChecksumSHA256").unwrap());
}
