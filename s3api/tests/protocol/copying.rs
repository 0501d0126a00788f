//! CopyObject: source, directives, conditions.

use crate::client::{Ask, Client};

fn copy<'a>(client: &'a Client, target: &str, source: &str) -> Ask<'a> {
    client.put(target).header("x-amz-copy-source", source)
}

async fn with_source() -> Client {
    let client = Client::with_bucket().await;
    client
        .put("/bucket/source%20key")
        .header("content-type", "text/plain")
        .header("x-amz-meta-a", "1")
        .header("x-amz-tagging", "t=1")
        .body("hello")
        .ok()
        .await;
    client
}

#[tokio::test]
async fn a_copy_has_bytes_and_metadata_of_its_source() {
    let client = with_source().await;
    client.put("/another").ok().await;
    let done = copy(&client, "/another/copy", "/bucket/source%20key").ok().await;
    let xml = done.xml();
    assert_eq!(xml.name(), "CopyObjectResult");
    assert_eq!(xml.child_text("ETag"), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    assert!(xml.child_text("LastModified").is_some_and(|date| date.ends_with(".000Z")));
    let got = client.get("/another/copy").ok().await;
    assert_eq!((got.text(), got.header("content-type")), ("hello", "text/plain"));
    assert_eq!((got.header("x-amz-meta-a"), got.header("x-amz-tagging-count")), ("1", "1"));
}

#[tokio::test]
async fn directives_replace_metadata_and_tags_apart() {
    let client = with_source().await;
    let source = "bucket/source%20key";
    let replaced = |target: &str| {
        copy(&client, target, source)
            .header("x-amz-metadata-directive", "REPLACE")
            .header("content-type", "image/png")
            .header("x-amz-meta-b", "2")
    };
    replaced("/bucket/metadata").ok().await;
    let got = client.get("/bucket/metadata").ok().await;
    assert_eq!((got.header("content-type"), got.header("x-amz-meta-b")), ("image/png", "2"));
    assert_eq!((got.header("x-amz-meta-a"), got.header("x-amz-tagging-count")), ("", "1"));

    replaced("/bucket/both").header("x-amz-tagging-directive", "REPLACE").ok().await;
    assert_eq!(client.get("/bucket/both").ok().await.header("x-amz-tagging-count"), "");

    let tags = copy(&client, "/bucket/tags", source)
        .header("x-amz-tagging-directive", "REPLACE")
        .header("x-amz-tagging", "x=1&y=2");
    tags.ok().await;
    let got = client.get("/bucket/tags").ok().await;
    assert_eq!((got.header("x-amz-meta-a"), got.header("x-amz-tagging-count")), ("1", "2"));

    let odd = copy(&client, "/bucket/odd", source).header("x-amz-metadata-directive", "MERGE");
    assert_eq!(odd.refused().await, (400, "InvalidArgument".into()));
}

#[tokio::test]
async fn a_copy_onto_itself_has_to_change_something() {
    let client = with_source().await;
    let itself = || copy(&client, "/bucket/source%20key", "bucket/source%20key");
    assert_eq!(itself().refused().await, (400, "InvalidRequest".into()));
    itself().header("x-amz-metadata-directive", "REPLACE").header("x-amz-meta-c", "3").ok().await;
    itself().header("x-amz-storage-class", "STANDARD_IA").ok().await;
    let got = client.get("/bucket/source%20key").ok().await;
    assert_eq!((got.text(), got.header("x-amz-meta-c")), ("hello", "3"));
    assert_eq!(got.header("x-amz-storage-class"), "STANDARD_IA");
}

#[tokio::test]
async fn sources_are_checked_and_conditional() {
    let client = with_source().await;
    let etag = client.head("/bucket/source%20key").ok().await.header("etag").to_owned();
    let onto = |source: &str| copy(&client, "/bucket/copy", source);
    assert_eq!(onto("/absent/key").refused().await, (404, "NoSuchBucket".into()));
    assert_eq!(onto("/bucket/absent").refused().await, (404, "NoSuchKey".into()));
    assert_eq!(onto("").refused().await, (400, "InvalidArgument".into()));
    assert_eq!(onto("bucket/k?versionId=x").refused().await, (400, "InvalidArgument".into()));
    for (name, value, status) in [
        ("x-amz-copy-source-if-match", etag.as_str(), 200),
        ("x-amz-copy-source-if-match", "\"x\"", 412),
        ("x-amz-copy-source-if-none-match", etag.as_str(), 412),
        ("x-amz-copy-source-if-none-match", "\"x\"", 200),
        ("x-amz-copy-source-if-modified-since", "Sat, 29 Oct 2044 19:43:31 GMT", 412),
        ("x-amz-copy-source-if-unmodified-since", "Sat, 29 Oct 1994 19:43:31 GMT", 412),
        ("x-amz-copy-source-if-modified-since", "nonsense", 400),
        ("if-none-match", "*", 412),
    ] {
        let reply = onto("bucket/source%20key").header(name, value).send().await;
        assert_eq!(reply.status, status, "{name}: {value}");
        // The same where the source's head is read first.
        let retagged = onto("bucket/source%20key").header("x-amz-tagging-directive", "REPLACE");
        assert_eq!(retagged.header(name, value).send().await.status, status, "{name}: {value}");
    }
}

#[tokio::test]
async fn versions_are_copied_by_id_and_delete_markers_are_not() {
    let client = Client::with_bucket().await;
    client.enable_versioning("Enabled").await;
    let old = client.put_object("/bucket/key", "old").await.header("x-amz-version-id").to_owned();
    client.put_object("/bucket/key", "new").await;
    let done = copy(&client, "/bucket/copy", &format!("bucket/key?versionId={old}")).ok().await;
    assert_eq!(done.header("x-amz-copy-source-version-id"), old);
    assert_eq!(done.header("x-amz-version-id").len(), 32);
    assert_eq!(client.get("/bucket/copy").ok().await.text(), "old");
    // An old version onto its own key brings it back.
    copy(&client, "/bucket/key", &format!("bucket/key?versionId={old}")).ok().await;
    assert_eq!(client.get("/bucket/key").ok().await.text(), "old");
    let marker = client.delete("/bucket/key").ok().await.header("x-amz-version-id").to_owned();
    let of_marker = copy(&client, "/bucket/copy", &format!("bucket/key?versionId={marker}"));
    assert_eq!(of_marker.refused().await, (400, "InvalidRequest".into()));
    assert_eq!(copy(&client, "/bucket/copy", "bucket/key").refused().await, (404, "NoSuchKey".into()));
}
