//! Every byte that a signature covers is changed in turn; each change is refused.

use super::{
    sign::SignedPayload,
    tests::{check, example_time, signer},
    *,
};
use http::{HeaderValue, Method, Request, Uri};

const BITS: [u8; 3] = [0x01, 0x02, 0x10];

fn request() -> Request<()> {
    Request::put("/bucket/some/key%20x?partNumber=1&uploadId=abc%2Fd&tagging")
        .header("host", "s3.example.com:9000")
        .header("content-type", "text/plain")
        .header("x-amz-acl", "private")
        .header("x-amz-copy-source", "/other/key")
        .header("x-amz-meta-a", "value")
        .body(())
        .unwrap()
}

fn signed() -> Request<()> {
    let mut request = request();
    signer().sign(&mut request, example_time(), &SignedPayload::of(b"body")).unwrap();
    request
}

fn presigned() -> Request<()> {
    let mut request = request();
    signer().presign(&mut request, example_time(), Duration::from_hours(1)).unwrap();
    request
}

fn assert_refused(request: &Request<()>, what: &str) {
    match check(request) {
        Ok(_) => panic!("accepted with another {what}"),
        Err(error) => assert!(matches!(error.status().as_u16(), 400 | 403), "{what}: {error}"),
    }
}

/// The texts that differ from `text` in one bit of one byte, or lack one byte.
fn mutants(text: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..text.len()).flat_map(move |at| {
        let flipped = BITS.map(|bit| {
            let mut mutant = text.to_vec();
            mutant[at] ^= bit;
            mutant
        });
        let mut shorter = text.to_vec();
        shorter.remove(at);
        flipped.into_iter().chain([shorter])
    })
}

#[test]
fn the_unchanged_requests_are_accepted() {
    for request in [signed(), presigned()] {
        check(&request).unwrap();
    }
}

#[test]
fn another_method_is_refused() {
    for mut request in [signed(), presigned()] {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
            *request.method_mut() = method;
            assert_refused(&request, "method");
        }
        for mutant in mutants(b"PUT") {
            if let Ok(method) = Method::from_bytes(&mutant) {
                *request.method_mut() = method;
                assert_refused(&request, "method");
            }
        }
    }
}

#[test]
fn another_path_or_query_is_refused() {
    for request in [signed(), presigned()] {
        let target = request.uri().to_string();
        let mut tried = 0;
        for mutant in mutants(target.as_bytes()) {
            let Ok(uri) = Uri::from_maybe_shared(mutant) else {
                continue;
            };
            // `tagging` and `tagging=`, `%2f` and `%2F`, `&&` and `&` say the same and sign the same.
            let decoded = |uri: &Uri| {
                let mut pairs: Vec<_> = uri
                    .query()
                    .unwrap_or_default()
                    .split('&')
                    .filter(|pair| !pair.is_empty())
                    .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                    .map(|(name, value)| (canonical::decode(name).ok(), canonical::decode(value).ok()))
                    .collect();
                pairs.sort();
                (canonical::decode(uri.path()).ok(), pairs)
            };
            if decoded(&uri) == decoded(request.uri()) {
                continue;
            }
            let mut mutated = request.clone();
            *mutated.uri_mut() = uri;
            assert_refused(&mutated, "target");
            tried += 1;
        }
        assert!(tried > target.len() * 2, "{tried}");
        for extra in ["&versionId=1", "&acl", "&X-Amz-Signature=0", "&partNumber=1"] {
            let mut mutated = request.clone();
            *mutated.uri_mut() = format!("{target}{extra}").parse().unwrap();
            assert_refused(&mutated, extra);
        }
    }
}

#[test]
fn another_header_is_refused() {
    for request in [signed(), presigned()] {
        let names: Vec<HeaderName> = request.headers().keys().cloned().collect();
        for name in names {
            let value = request.headers()[&name].as_bytes().to_vec();
            for mutant in mutants(&value) {
                // White space is not signed: `a, b` is `a,b` in the Authorization header.
                if mutant.iter().filter(|b| **b != b' ').eq(value.iter().filter(|b| **b != b' ')) {
                    continue;
                }
                if let Ok(mutant) = HeaderValue::from_bytes(&mutant) {
                    let mut mutated = request.clone();
                    mutated.headers_mut().insert(&name, mutant);
                    assert_refused(&mutated, name.as_str());
                }
            }
            let mut without = request.clone();
            without.headers_mut().remove(&name);
            assert_refused(&without, name.as_str());
            let mut twice = request.clone();
            twice.headers_mut().append(&name, HeaderValue::from_static("again"));
            assert_refused(&twice, name.as_str());
        }
    }
}
