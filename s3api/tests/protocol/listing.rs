//! ListObjects, both versions: XML, pages, encodings.

use crate::client::{Client, Reply, texts};
use ashlar_s3api::xml::Element;

async fn with_keys(keys: &[&str]) -> Client {
    let client = Client::with_bucket().await;
    for key in keys {
        let encoded: String = key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        client.put_object(&format!("/bucket/{encoded}"), "x").await;
    }
    client
}

fn keys(reply: &Reply) -> Vec<String> {
    texts(&reply.xml(), "Contents", "Key")
}

fn prefixes(reply: &Reply) -> Vec<String> {
    texts(&reply.xml(), "CommonPrefixes", "Prefix")
}

#[tokio::test]
async fn a_listing_shows_objects_and_groups() {
    let client = with_keys(&["foo+1/bar", "foo/bar/xyzzy", "quux ab/thud", "asdf+b"]).await;
    for list_type in ["", "&list-type=2"] {
        let plain = client.get(format!("/bucket?delimiter=/{list_type}")).ok().await;
        assert_eq!(keys(&plain), ["asdf+b"]);
        assert_eq!(prefixes(&plain), ["foo+1/", "foo/", "quux ab/"]);
        let encoded = client.get(format!("/bucket?delimiter=/&encoding-type=url{list_type}")).ok().await;
        assert_eq!(keys(&encoded), ["asdf%2Bb"]);
        assert_eq!(prefixes(&encoded), ["foo%2B1/", "foo/", "quux%20ab/"]);
        assert_eq!(encoded.xml().child_text("EncodingType"), Some("url"));
        assert_eq!(encoded.xml().child_text("Delimiter"), Some("/"));
        let below = client.get(format!("/bucket?prefix=foo/&delimiter=/{list_type}")).ok().await;
        assert_eq!((keys(&below), prefixes(&below)), (vec![], vec!["foo/bar/".to_owned()]));
        let odd = client.get(format!("/bucket?encoding-type=base64{list_type}"));
        assert_eq!(odd.refused().await, (400, "InvalidArgument".into()));
    }
    let xml = client.get("/bucket?prefix=asdf").ok().await.xml();
    let object = xml.child("Contents").unwrap();
    for (name, value) in [
        ("Key", "asdf+b"),
        ("ETag", "\"9dd4e461268c8034f5c8564e155c67a6\""),
        ("Size", "1"),
        ("StorageClass", "STANDARD"),
        ("LastModified", "2026-09-21T14:13:25.000Z"),
    ] {
        assert_eq!(object.child_text(name), Some(value), "{name}");
    }
    assert_eq!(object.child("Owner").unwrap().child_text("DisplayName"), Some("Name of main"));
    for (name, value) in [
        ("Name", "bucket"),
        ("Prefix", "asdf"),
        ("Marker", ""),
        ("MaxKeys", "1000"),
        ("IsTruncated", "false"),
    ] {
        assert_eq!(xml.child_text(name), Some(value), "{name}");
    }
    assert_eq!((xml.child("NextMarker"), xml.child("Delimiter")), (None, None));
}

#[tokio::test]
async fn pages_of_both_versions_join_to_the_whole() {
    let all = ["a", "b/1", "b/2", "c d", "d\u{e9}", "e"];
    let client = with_keys(&all).await;
    for size in 1..=6 {
        let (mut marker, mut found) = (String::new(), Vec::new());
        loop {
            let page =
                client.get(format!("/bucket?max-keys={size}&encoding-type=url&marker={marker}")).ok().await;
            found.extend(keys(&page));
            match page.xml().child_text("NextMarker") {
                Some(next) => marker = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(found, ["a", "b/1", "b/2", "c%20d", "d%C3%A9", "e"]);

        let (mut token, mut found, mut counted) = (String::new(), Vec::new(), 0);
        loop {
            let page = client
                .get(format!("/bucket?list-type=2&max-keys={size}&continuation-token={token}"))
                .ok()
                .await;
            found.extend(keys(&page));
            let xml: Element = page.xml();
            counted += xml.child_text("KeyCount").unwrap().parse::<usize>().unwrap();
            assert_eq!(xml.child_text("ContinuationToken"), Some(token.as_str()));
            match xml.child_text("NextContinuationToken") {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        assert_eq!((found.as_slice(), counted), (all.map(str::to_owned).as_slice(), 6));
    }
}

#[tokio::test]
async fn page_sizes_owners_and_starts() {
    let client = with_keys(&["a", "b", "c"]).await;
    for list_type in ["", "&list-type=2"] {
        let none = client.get(format!("/bucket?max-keys=0{list_type}")).ok().await;
        assert_eq!((keys(&none).len(), none.xml().child_text("IsTruncated")), (0, Some("false")));
        let many = client.get(format!("/bucket?max-keys=5000{list_type}")).ok().await;
        assert_eq!(many.xml().child_text("MaxKeys"), Some("1000"));
        for bad in ["blah", "-1"] {
            let refused = client.get(format!("/bucket?max-keys={bad}{list_type}")).refused().await;
            assert_eq!(refused, (400, "InvalidArgument".into()));
        }
    }
    let after = client.get("/bucket?list-type=2&start-after=a").ok().await;
    assert_eq!(
        (keys(&after), after.xml().child_text("StartAfter")),
        (vec!["b".into(), "c".into()], Some("a"))
    );
    assert_eq!(keys(&client.get("/bucket?marker=b").ok().await), ["c"]);
    let has_owner = |reply: &Reply| reply.xml().child("Contents").unwrap().child("Owner").is_some();
    assert!(!has_owner(&after));
    assert!(has_owner(&client.get("/bucket?list-type=2&fetch-owner=true").ok().await));
    let forged = client.get("/bucket?list-type=2&continuation-token=forged").refused().await;
    assert_eq!(forged, (400, "InvalidArgument".into()));
    // The token wins over the start.
    let page = client.get("/bucket?list-type=2&max-keys=1&start-after=a").ok().await.xml();
    let token = page.child_text("NextContinuationToken").unwrap();
    let next = client.get(format!("/bucket?list-type=2&start-after=a&continuation-token={token}")).ok().await;
    assert_eq!(keys(&next), ["c"]);
}
