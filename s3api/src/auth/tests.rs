//! The published examples of AWS, and each rule of the verifier.

use super::{
    sign::{SigV4Signer, SignedPayload},
    *,
};
use crate::http_date;
use ashlar_runtime::clock::Sleep;
use ashlar_types::{ObjectError, Timestamp, service::AccessKey};
use async_trait::async_trait;
use futures_util::FutureExt;
use http::Request;

pub(crate) const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[derive(Debug)]
pub(crate) struct OneKey;

#[async_trait]
impl Identities for OneKey {
    async fn access_key(&self, id: &str) -> Result<Option<AccessKey>, ObjectError> {
        let user =
            User { id: "u1".to_owned(), display_name: "One".to_owned(), email: "one@example.com".to_owned() };
        Ok((id == KEY_ID).then(|| AccessKey { id: id.to_owned(), secret: SECRET.to_owned(), user }))
    }
}

#[derive(Debug)]
pub(crate) struct StoppedClock(pub(crate) Timestamp);

impl Clock for StoppedClock {
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn wall(&self) -> Timestamp {
        self.0
    }

    fn sleep(&self, _: Duration) -> Sleep {
        Box::pin(std::future::pending())
    }
}

pub(crate) fn example_time() -> Timestamp {
    http_date::parse_amz("20130524T000000Z").unwrap()
}

pub(crate) fn signer() -> SigV4Signer {
    SigV4Signer::new(KEY_ID, SECRET, "us-east-1")
}

pub(crate) fn check_with<B>(
    request: &Request<B>,
    now: Timestamp,
    config: &AuthConfig,
) -> Result<Verified<()>, S3Error>
where
    B: Clone,
{
    let (parts, _) = request.clone().into_parts();
    verify(&parts, (), &OneKey, &StoppedClock(now), config).now_or_never().unwrap()
}

pub(crate) fn check(request: &Request<()>) -> Result<Verified<()>, S3Error> {
    check_with(request, example_time(), &AuthConfig::default())
}

fn code_of(result: Result<Verified<()>, S3Error>) -> ErrorCode {
    result.expect_err("refused").code
}

/// A request of the examples, with the `Authorization` header as published.
fn example(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    signed: &str,
    signature: &str,
) -> Request<()> {
    let mut request =
        Request::builder().method(method).uri(target).header("host", "examplebucket.s3.amazonaws.com");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .header(
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential={KEY_ID}/20130524/us-east-1/s3/aws4_request,\
                 SignedHeaders={signed},Signature={signature}"
            ),
        )
        .body(())
        .unwrap()
}

const DATE: (&str, &str) = ("x-amz-date", "20130524T000000Z");
const NO_BODY: (&str, &str) = ("x-amz-content-sha256", EMPTY_SHA256);

fn published_examples() -> Vec<Request<()>> {
    vec![
        example(
            "GET",
            "/test.txt",
            &[("range", "bytes=0-9"), NO_BODY, DATE],
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        example(
            "PUT",
            "/test$file.text",
            &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                ("x-amz-content-sha256", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"),
                DATE,
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        example(
            "GET",
            "/?lifecycle",
            &[NO_BODY, DATE],
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        example(
            "GET",
            "/?max-keys=2&prefix=J",
            &[NO_BODY, DATE],
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ]
}

#[test]
fn the_published_header_examples_are_verified_and_signed_alike() {
    for request in published_examples() {
        let verified = check(&request).unwrap();
        assert_eq!(verified.identity().user.id, "u1");
        assert_eq!(verified.identity().mode, AuthMode::Header);

        let PayloadMode::Signed(digest) = verified.payload() else {
            panic!("{:?}", verified.payload());
        };
        let mut ours = request.clone();
        ours.headers_mut().remove("authorization");
        signer().sign(&mut ours, example_time(), &SignedPayload::Sha256(*digest)).unwrap();
        let published = request.headers()["authorization"].to_str().unwrap();
        assert_eq!(ours.headers()["authorization"].to_str().unwrap().replace(", ", ","), published);
    }
}

#[test]
fn the_published_presigned_example_is_verified_and_signed_alike() {
    let target = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2F\
                  us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400\
                  &X-Amz-SignedHeaders=host\
                  &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let request = Request::get(target).header("host", "examplebucket.s3.amazonaws.com").body(()).unwrap();
    let verified = check(&request).unwrap();
    assert_eq!(verified.identity().mode, AuthMode::Presigned);
    assert!(matches!(verified.payload(), PayloadMode::Unsigned));

    let mut ours =
        Request::get("/test.txt").header("host", "examplebucket.s3.amazonaws.com").body(()).unwrap();
    signer().presign(&mut ours, example_time(), Duration::from_hours(24)).unwrap();
    assert_eq!(ours.uri().to_string(), target);
}

#[test]
fn a_day_old_presigned_request_has_expired() {
    let day = Duration::from_hours(24);
    let mut request = Request::get("http://h/k").body(()).unwrap();
    signer().presign(&mut request, example_time(), day).unwrap();
    let at = |now| check_with(&request, now, &AuthConfig::default());
    assert!(at(example_time().plus(day)).is_ok());
    let late = at(example_time().plus(day + Duration::from_millis(1))).unwrap_err();
    assert_eq!((late.code, late.message.as_str()), (ErrorCode::AccessDenied, "Request has expired"));
    let before = |minutes: u64| Timestamp(example_time().0 - minutes * 60_000);
    assert!(at(before(15)).is_ok());
    assert_eq!(code_of(at(Timestamp(before(15).0 - 1))), ErrorCode::AccessDenied);
}

#[test]
fn the_life_of_a_presigned_request_is_bounded() {
    for (expires, expected) in [
        ("1", None),
        ("604800", None),
        ("604801", Some(ErrorCode::AccessDenied)),
        ("0", Some(ErrorCode::AccessDenied)),
        ("-7", Some(ErrorCode::AccessDenied)),
        ("soon", Some(ErrorCode::AuthorizationQueryParametersError)),
        ("99999999999999999999", Some(ErrorCode::AuthorizationQueryParametersError)),
    ] {
        let mut request = Request::get("http://h/k").body(()).unwrap();
        let seconds = expires.parse::<u64>().ok().filter(|seconds| *seconds <= 604_800).unwrap_or(60);
        signer().presign(&mut request, example_time(), Duration::from_secs(seconds)).unwrap();
        let target = request.uri().to_string();
        let target = target.replace(&format!("Expires={seconds}&"), &format!("Expires={expires}&"));
        *request.uri_mut() = target.parse().unwrap();
        assert_eq!(check(&request).err().map(|e| e.code), expected, "{expires}");
    }
}

#[test]
fn clocks_may_differ_by_a_quarter_of_an_hour() {
    let request = &published_examples()[0];
    let quarter = 15 * 60_000;
    let at = |milliseconds: u64| check_with(request, Timestamp(milliseconds), &AuthConfig::default());
    let time = example_time().0;
    assert!(at(time + quarter).is_ok() && at(time - quarter).is_ok());
    for now in [time + quarter + 1, time - quarter - 1] {
        assert_eq!(code_of(at(now)), ErrorCode::RequestTimeTooSkewed);
    }
    let config = AuthConfig { clock_skew_max: Duration::from_secs(1), ..AuthConfig::default() };
    assert!(check_with(request, Timestamp(time + 1000), &config).is_ok());
    assert_eq!(
        code_of(check_with(request, Timestamp(time + 1001), &config)),
        ErrorCode::RequestTimeTooSkewed
    );
}

#[test]
fn a_date_header_replaces_a_missing_amz_date() {
    let mut request =
        Request::get("http://h/k").header("date", "Fri, 24 May 2013 00:00:00 GMT").body(()).unwrap();
    signer().sign(&mut request, example_time(), &SignedPayload::of(b"")).unwrap();
    // Signed again without x-amz-date, as clients do that send Date only.
    let names = ["date", "host", "x-amz-content-sha256"].map(HeaderName::from_static);
    request.headers_mut().remove("x-amz-date");
    let digest = canonical::digest(&canonical::Signed {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        signed_headers: &names,
        payload: EMPTY_SHA256,
    })
    .unwrap();
    let scope = "20130524/us-east-1/s3/aws4_request";
    let key = credential::SigningKey::derive(SECRET, "20130524", "us-east-1", "s3");
    let signature =
        hex::encode(&key.sign(claim::string_to_sign("20130524T000000Z", scope, &digest).as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope},SignedHeaders=date;host;x-amz-content-sha256,Signature={signature}"
    );
    request.headers_mut().insert("authorization", authorization.parse().unwrap());
    assert!(check(&request).is_ok());
    request.headers_mut().insert("date", "Fri, 24 May 2013 00:00:01 GMT".parse().unwrap());
    assert_eq!(code_of(check(&request)), ErrorCode::SignatureDoesNotMatch);
    request.headers_mut().insert("date", "Bad Date".parse().unwrap());
    assert_eq!(code_of(check(&request)), ErrorCode::AccessDenied);
}

#[test]
fn what_is_not_version_4_is_told_why() {
    let plain =
        || Request::get("http://h/k").header("host", "h").header(NO_BODY.0, NO_BODY.1).header(DATE.0, DATE.1);
    for (authorization, code) in [
        (None, ErrorCode::AccessDenied),
        (Some(""), ErrorCode::AccessDenied),
        (Some("AWS AKIAIOSFODNN7EXAMPLE:c2lnbmF0dXJl"), ErrorCode::InvalidRequest),
        (Some("AWS HAHAHA"), ErrorCode::InvalidRequest),
        (Some("Basic dTpw"), ErrorCode::InvalidArgument),
        (Some("AWS4-ECDSA-P256-SHA256 Credential=a"), ErrorCode::InvalidArgument),
        (Some("AWS4-HMAC-SHA256"), ErrorCode::AuthorizationHeaderMalformed),
        (Some("AWS4-HMAC-SHA256 Credential=a,SignedHeaders=host"), ErrorCode::AuthorizationHeaderMalformed),
        (
            Some("AWS4-HMAC-SHA256 Credential=a,Credential=a,SignedHeaders=host,Signature=0"),
            ErrorCode::AuthorizationHeaderMalformed,
        ),
        (
            Some("AWS4-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=0,Other=1"),
            ErrorCode::AuthorizationHeaderMalformed,
        ),
        (
            Some("AWS4-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=0"),
            ErrorCode::AuthorizationHeaderMalformed,
        ),
        (
            Some("AWS4-HMAC-SHA256 Credential=a/20130524/r/s3/aws4_request,SignedHeaders=Host,Signature=0"),
            ErrorCode::AuthorizationHeaderMalformed,
        ),
        (
            Some("AWS4-HMAC-SHA256 Credential=a/20130524/r/s3/aws4_request,SignedHeaders=host,Signature=0"),
            ErrorCode::SignatureDoesNotMatch,
        ),
    ] {
        let mut request = plain().body(()).unwrap();
        if let Some(authorization) = authorization {
            request.headers_mut().insert("authorization", authorization.parse().unwrap());
        }
        assert_eq!(code_of(check(&request)), code, "{authorization:?}");
    }
    for (query, code) in [
        ("AWSAccessKeyId=a&Expires=1&Signature=b", ErrorCode::InvalidRequest),
        ("X-Amz-Signature=00", ErrorCode::AuthorizationQueryParametersError),
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256", ErrorCode::AuthorizationQueryParametersError),
        ("X%2DAmz-Credential=a", ErrorCode::AuthorizationQueryParametersError),
        ("prefix=a", ErrorCode::AccessDenied),
        ("x-amz-signature=a", ErrorCode::AccessDenied),
    ] {
        let request = Request::get(format!("http://h/k?{query}")).body(()).unwrap();
        assert_eq!(code_of(check(&request)), code, "{query}");
    }
}

#[test]
fn two_signatures_are_one_too_many() {
    let mut request = published_examples().remove(0);
    let authorization = request.headers()["authorization"].clone();
    request.headers_mut().append("authorization", authorization);
    assert_eq!(code_of(check(&request)), ErrorCode::InvalidArgument);

    let mut request = Request::get("http://h/k").body(()).unwrap();
    signer().presign(&mut request, example_time(), Duration::from_mins(1)).unwrap();
    let twice = format!("{}&X-Amz-Date=20130524T000000Z", request.uri());
    let mut doubled = request.clone();
    *doubled.uri_mut() = twice.parse().unwrap();
    assert_eq!(code_of(check(&doubled)), ErrorCode::AuthorizationQueryParametersError);
    signer().sign(&mut request, example_time(), &SignedPayload::of(b"")).unwrap();
    assert_eq!(code_of(check(&request)), ErrorCode::InvalidArgument);

    for field in 0..3 {
        let mut request = published_examples().remove(0);
        let authorization = request.headers()["authorization"].to_str().unwrap().to_owned();
        let (_, fields) = authorization.split_once(' ').unwrap();
        let again = format!("{authorization},{}", fields.split(',').nth(field).unwrap());
        request.headers_mut().insert("authorization", again.parse().unwrap());
        assert_eq!(code_of(check(&request)), ErrorCode::AuthorizationHeaderMalformed);
    }
}

#[test]
fn every_amz_header_and_the_host_must_be_signed() {
    for (name, refused) in [
        ("x-amz-copy-source", true),
        ("x-amz-acl", true),
        ("x-amz-meta-a", true),
        ("x-amzn-trace-id", false),
        ("content-type", false),
        ("content-md5", false),
    ] {
        let mut signed = published_examples().remove(0);
        let mut presigned = Request::put("http://h/k").body(()).unwrap();
        signer().presign(&mut presigned, example_time(), Duration::from_mins(1)).unwrap();
        for request in [&mut signed, &mut presigned] {
            request.headers_mut().insert(HeaderName::from_static(name), "v".parse().unwrap());
            match check(request) {
                Ok(_) => assert!(!refused, "{name}"),
                Err(error) => {
                    assert!(refused, "{name}: {error}");
                    assert_eq!(error.code, ErrorCode::AccessDenied);
                    assert_eq!(error.elements, [("HeadersNotSigned", name.to_owned())]);
                }
            }
        }
    }
    let request = example("GET", "/test.txt", &[NO_BODY, DATE], "x-amz-date", &"0".repeat(64));
    assert_eq!(check(&request).unwrap_err().elements, [("HeadersNotSigned", "host".to_owned())]);
    let request = example("GET", "/test.txt", &[NO_BODY, DATE], "host;range;x-amz-date", &"0".repeat(64));
    assert_eq!(code_of(check(&request)), ErrorCode::SignatureDoesNotMatch);
}

#[test]
fn the_scope_is_that_of_the_request() {
    let signature = "0".repeat(64);
    for (scope, needle) in [
        ("20130525/us-east-1/s3/aws4_request", "credential date"),
        ("2013052/us-east-1/s3/aws4_request", "credential date"),
        ("/us-east-1/s3/aws4_request", "credential date"),
        ("20130524/us-east-1/ec2/aws4_request", "service"),
        ("20130524/us-east-1/s3/aws5_request", "terminal"),
    ] {
        let mut request = example("GET", "/k", &[NO_BODY, DATE], "host;x-amz-date", &signature);
        let authorization = request.headers()["authorization"].to_str().unwrap();
        let authorization = authorization.replace("20130524/us-east-1/s3/aws4_request", scope);
        request.headers_mut().insert("authorization", authorization.parse().unwrap());
        let error = check(&request).unwrap_err();
        assert_eq!(error.code, ErrorCode::AuthorizationHeaderMalformed, "{scope}");
        assert!(error.message.contains(needle), "{error}");

        let target = format!(
            "/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY_ID}/{scope}&X-Amz-Date=20130524T000000Z\
             &X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
        );
        let request = Request::get(target).header("host", "h").body(()).unwrap();
        assert_eq!(code_of(check(&request)), ErrorCode::AuthorizationQueryParametersError, "{scope}");
    }
}

#[test]
fn regions_can_be_limited_to_one_and_its_aliases() {
    let config = AuthConfig { regions: Regions::Only("eu-1".to_owned()), ..AuthConfig::default() };
    for (region, accepted) in
        [("eu-1", true), ("us-east-1", true), ("auto", true), ("", true), ("eu-2", false), ("EU-1", false)]
    {
        let mut request = Request::get("http://h/k").body(()).unwrap();
        let signer = SigV4Signer::new(KEY_ID, SECRET, region);
        signer.sign(&mut request, example_time(), &SignedPayload::of(b"")).unwrap();
        assert!(check(&request).is_ok(), "{region}");
        match check_with(&request, example_time(), &config) {
            Ok(_) => assert!(accepted, "{region}"),
            Err(error) => {
                assert!(!accepted, "{region}");
                assert_eq!(error.code, ErrorCode::AuthorizationHeaderMalformed);
                assert!(error.elements.contains(&("Region", "eu-1".to_owned())));
            }
        }
    }
}

#[test]
fn unknown_keys_and_wrong_secrets_are_told_apart_and_tell_no_secret() {
    let sign = |id: &str, secret: &str| {
        let mut request = Request::get("http://h/k").body(()).unwrap();
        SigV4Signer::new(id, secret, "r")
            .sign(&mut request, example_time(), &SignedPayload::of(b""))
            .unwrap();
        check(&request).unwrap_err()
    };
    assert_eq!(sign("AKIAUNKNOWN", SECRET).code, ErrorCode::InvalidAccessKeyId);
    let error = sign(KEY_ID, "wrong");
    assert_eq!(error.code, ErrorCode::SignatureDoesNotMatch);
    let key = credential::SigningKey::derive(SECRET, "20130524", "r", "s3");
    let right = error.elements.iter().find(|(name, _)| *name == "StringToSign").unwrap();
    let right = hex::encode(&key.sign(right.1.as_bytes()));
    assert!(!format!("{error:?}").contains(SECRET) && !format!("{error:?}").contains(&right));
}

#[test]
fn the_payload_mode_follows_the_content_sha256() {
    let mode = |payload: &SignedPayload| {
        let mut request = Request::put("http://h/k").body(()).unwrap();
        signer().sign(&mut request, example_time(), payload).unwrap();
        check(&request).unwrap().into_parts().2
    };
    assert!(
        matches!(mode(&SignedPayload::Sha256([7; 32])), PayloadMode::Signed(digest) if digest == [7; 32])
    );
    assert!(matches!(mode(&SignedPayload::Unsigned), PayloadMode::Unsigned));
    assert!(matches!(
        mode(&SignedPayload::ChunkedSigned),
        PayloadMode::ChunkedSigned { trailer: Trailer::None, .. }
    ));
    assert!(matches!(
        mode(&SignedPayload::ChunkedSignedTrailer),
        PayloadMode::ChunkedSigned { trailer: Trailer::Signed, .. }
    ));
    assert!(matches!(mode(&SignedPayload::ChunkedUnsignedTrailer), PayloadMode::ChunkedUnsignedTrailer));

    for (value, code) in [
        (None, ErrorCode::InvalidRequest),
        (Some(""), ErrorCode::InvalidArgument),
        (Some("UNSIGNED"), ErrorCode::InvalidArgument),
        (Some("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"), ErrorCode::InvalidArgument),
        (Some(&EMPTY_SHA256[1..]), ErrorCode::InvalidArgument),
    ] {
        let mut request = published_examples().remove(0);
        request.headers_mut().remove("x-amz-content-sha256");
        if let Some(value) = value {
            request.headers_mut().insert("x-amz-content-sha256", value.parse().unwrap());
        }
        assert_eq!(code_of(check(&request)), code, "{value:?}");
    }
}

#[test]
fn a_presigned_body_may_promise_its_digest() {
    let presign = |before: Option<&'static str>, after: Option<&'static str>, parameter: &str| {
        let mut request = Request::put(format!("http://h/k{parameter}")).body(()).unwrap();
        if let Some(value) = before {
            request.headers_mut().insert(AMZ_CONTENT_SHA256, value.parse().unwrap());
        }
        signer().presign(&mut request, example_time(), Duration::from_mins(1)).unwrap();
        if let Some(value) = after {
            request.headers_mut().insert(AMZ_CONTENT_SHA256, value.parse().unwrap());
        }
        check(&request).map(|verified| format!("{:?}", verified.payload())).map_err(|error| error.code)
    };
    let digest = Some(EMPTY_SHA256);
    assert_eq!(presign(None, None, ""), Ok("Unsigned".to_owned()));
    assert!(presign(None, digest, "").unwrap().starts_with("Signed"));
    // The signer signs the literal, the header says otherwise: the header is covered, the last line is its value.
    assert_eq!(presign(digest, None, ""), Err(ErrorCode::SignatureDoesNotMatch));
    assert_eq!(presign(Some("UNSIGNED-PAYLOAD"), None, ""), Ok("Unsigned".to_owned()));
    assert_eq!(presign(None, None, "?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"), Ok("Unsigned".to_owned()));
    assert_eq!(
        presign(None, digest, "?X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"),
        Err(ErrorCode::InvalidArgument)
    );
    for word in [payload::CHUNKED, payload::CHUNKED_TRAILER, payload::CHUNKED_UNSIGNED_TRAILER] {
        assert_eq!(presign(None, Some(word), ""), Err(ErrorCode::InvalidRequest), "{word}");
    }
    assert_eq!(
        presign(None, None, &format!("?X-Amz-Content-Sha256={}", payload::CHUNKED)),
        Err(ErrorCode::InvalidRequest)
    );
}

#[test]
fn session_tokens_are_refused_as_long_as_there_are_none() {
    let mut request = Request::get("http://h/k").header("x-amz-security-token", "t").body(()).unwrap();
    signer().sign(&mut request, example_time(), &SignedPayload::of(b"")).unwrap();
    assert_eq!(code_of(check(&request)), ErrorCode::InvalidToken);
    let mut request = Request::get("http://h/k?X-Amz-Security-Token=t").body(()).unwrap();
    signer().presign(&mut request, example_time(), Duration::from_mins(1)).unwrap();
    assert_eq!(code_of(check(&request)), ErrorCode::InvalidToken);
}

#[test]
fn signer_and_verifier_agree_on_hostile_targets_and_values() {
    for target in [
        "http://h:9000/b/k%20k+%2B%2f//../%F0%9F%98%80?prefix=a%26b+c&delimiter=%2F&acl&x=",
        "http://h/%00?versionId=%FF",
        "http://h/?%20=",
    ] {
        let request = || {
            Request::put(target)
                .header("x-amz-meta-a", "  spaced   out ")
                .header("x-amz-meta-a", "twice")
                .header("x-amz-meta-b", http::HeaderValue::from_bytes(b"\xC3\xA9\xFF").unwrap())
                .header("x-amz-meta-c", "")
                .body(())
                .unwrap()
        };
        let mut signed = request();
        signer().sign(&mut signed, example_time(), &SignedPayload::Unsigned).unwrap();
        check(&signed).unwrap();
        let mut presigned = request();
        signer().presign(&mut presigned, example_time(), Duration::from_mins(1)).unwrap();
        check(&presigned).unwrap();
    }
}
