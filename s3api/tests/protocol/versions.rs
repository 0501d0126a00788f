//! Versioned buckets: ids, delete markers, the null version.

use crate::client::{Client, texts};

#[tokio::test]
async fn versioning_is_set_and_shown() {
    let client = Client::with_bucket().await;
    let status =
        async || client.get("/bucket?versioning").ok().await.xml().child_text("Status").map(str::to_owned);
    assert_eq!(status().await, None);
    for set in ["Enabled", "Suspended", "Enabled"] {
        client.enable_versioning(set).await;
        assert_eq!(status().await.as_deref(), Some(set));
    }
}

#[tokio::test]
async fn versions_are_read_and_deleted_by_id() {
    let client = Client::with_bucket().await;
    client.put_object("/bucket/key", "null").await;
    client.enable_versioning("Enabled").await;
    let one = client.put_object("/bucket/key", "one").await.header("x-amz-version-id").to_owned();
    let two = client.put_object("/bucket/key", "two").await.header("x-amz-version-id").to_owned();
    assert_eq!(one.len(), 32);
    for (id, body) in [("null", "null"), (one.as_str(), "one"), (two.as_str(), "two")] {
        let got = client.get(format!("/bucket/key?versionId={id}")).ok().await;
        assert_eq!((got.text(), got.header("x-amz-version-id")), (body, id));
    }
    assert_eq!(client.get("/bucket/key").ok().await.header("x-amz-version-id"), two);
    for id in ["", "x", "NULL"] {
        for ask in [
            client.get(format!("/bucket/key?versionId={id}")),
            client.delete(format!("/bucket/key?versionId={id}")),
        ] {
            assert_eq!(ask.refused().await, (400, "InvalidArgument".into()), "{id}");
        }
    }
    let foreign = one.replace(&one[..4], "AAAB");
    assert_eq!(client.get(format!("/bucket/key?versionId={foreign}")).refused().await.0, 404);

    let gone = client.delete(format!("/bucket/key?versionId={two}")).ok().await;
    assert_eq!((gone.status.as_u16(), gone.header("x-amz-version-id")), (204, two.as_str()));
    assert_eq!(gone.header("x-amz-delete-marker"), "");
    assert_eq!(client.get("/bucket/key").ok().await.text(), "one");
}

#[tokio::test]
async fn delete_markers_hide_and_are_removed() {
    let client = Client::with_bucket().await;
    client.enable_versioning("Enabled").await;
    client.put_object("/bucket/key", "x").await;
    let deleted = client.delete("/bucket/key").ok().await;
    let marker = deleted.header("x-amz-version-id").to_owned();
    assert_eq!((deleted.header("x-amz-delete-marker"), marker.len()), ("true", 32));

    for head in [false, true] {
        let ask = |target: &str| if head { client.head(target) } else { client.get(target) };
        let hidden = ask("/bucket/key").send().await;
        assert_eq!(hidden.status, 404);
        assert_eq!(hidden.header("x-amz-delete-marker"), "true");
        assert_eq!(hidden.header("x-amz-version-id"), marker);
        let named = ask(&format!("/bucket/key?versionId={marker}")).send().await;
        assert_eq!((named.status.as_u16(), named.header("allow")), (405, "DELETE"));
        assert_eq!(named.header("x-amz-delete-marker"), "true");
    }

    let undone = client.delete(format!("/bucket/key?versionId={marker}")).ok().await;
    assert_eq!(
        (undone.header("x-amz-delete-marker"), undone.header("x-amz-version-id")),
        ("true", marker.as_str())
    );
    assert_eq!(client.get("/bucket/key").ok().await.text(), "x");

    let document = "<Delete><Object><Key>key</Key></Object></Delete>";
    let result = client.post("/bucket?delete").document(document).ok().await.xml();
    let deleted = result.child("Deleted").unwrap();
    assert_eq!(deleted.child_text("DeleteMarker"), Some("true"));
    let marker = deleted.child_text("DeleteMarkerVersionId").unwrap();
    assert_eq!(deleted.child("VersionId"), None);
    let document = format!("<Delete><Object><Key>key</Key><VersionId>{marker}</VersionId></Object></Delete>");
    let result = client.post("/bucket?delete").document(document).ok().await.xml();
    let deleted = result.child("Deleted").unwrap();
    assert_eq!(deleted.child_text("VersionId"), Some(marker));
    assert_eq!(deleted.child_text("DeleteMarkerVersionId"), Some(marker));
    client.get("/bucket/key").ok().await;
}

#[tokio::test]
async fn all_versions_are_listed_newest_first_and_in_pages() {
    let client = Client::with_bucket().await;
    client.enable_versioning("Enabled").await;
    let mut expected = Vec::new();
    for key in ["a", "b/1", "b/2", "c d"] {
        let mut versions = Vec::new();
        for body in ["1", "2"] {
            let put = client.put(format!("/bucket/{}", key.replace(' ', "%20"))).body(body).ok().await;
            versions.insert(0, (key.to_owned(), put.header("x-amz-version-id").to_owned()));
        }
        expected.append(&mut versions);
    }
    let marker = client.delete("/bucket/a").ok().await.header("x-amz-version-id").to_owned();
    expected.insert(0, ("a".to_owned(), marker.clone()));

    let all = client.get("/bucket?versions").ok().await.xml();
    let read = |xml: &ashlar_s3api::xml::Element| -> Vec<(String, String)> {
        xml.elements()
            .iter()
            .filter(|e| matches!(e.name(), "Version" | "DeleteMarker"))
            .map(|e| (e.child_text("Key").unwrap().to_owned(), e.child_text("VersionId").unwrap().to_owned()))
            .collect()
    };
    assert_eq!(read(&all), expected);
    assert_eq!(texts(&all, "DeleteMarker", "VersionId"), [marker]);
    assert_eq!(
        texts(&all, "Version", "IsLatest"),
        ["false", "false", "true", "false", "true", "false", "true", "false"]
    );
    assert_eq!(all.child_text("IsTruncated"), Some("false"));

    let mut paged = Vec::new();
    let mut query = String::new();
    loop {
        let page = client.get(format!("/bucket?versions&max-keys=2{query}")).ok().await.xml();
        paged.extend(read(&page));
        if page.child_text("IsTruncated") == Some("false") {
            break;
        }
        let key = page.child_text("NextKeyMarker").unwrap().replace(' ', "%20");
        query = format!(
            "&key-marker={key}&version-id-marker={}",
            page.child_text("NextVersionIdMarker").unwrap()
        );
    }
    assert_eq!(paged, expected);

    let grouped = client.get("/bucket?versions&delimiter=/&encoding-type=url").ok().await.xml();
    assert_eq!(texts(&grouped, "CommonPrefixes", "Prefix"), ["b/"]);
    assert_eq!(texts(&grouped, "Version", "Key"), ["a", "a", "c%20d", "c%20d"]);
    let lone = client.get(format!("/bucket?versions&version-id-marker={}", expected[0].1));
    assert_eq!(lone.refused().await, (400, "InvalidArgument".into()));
}

#[tokio::test]
async fn a_suspended_bucket_replaces_its_null_version() {
    let client = Client::with_bucket().await;
    client.enable_versioning("Enabled").await;
    client.put_object("/bucket/key", "kept").await;
    client.enable_versioning("Suspended").await;
    for body in ["one", "two"] {
        assert_eq!(client.put_object("/bucket/key", body).await.header("x-amz-version-id"), "null");
    }
    assert_eq!(client.backend.count(), 2);
    let deleted = client.delete("/bucket/key").ok().await;
    assert_eq!((deleted.header("x-amz-delete-marker"), deleted.header("x-amz-version-id")), ("true", "null"));
    assert_eq!(client.backend.count(), 2);
}
