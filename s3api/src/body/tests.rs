//! Each mode decodes its own form, whatever the transport does to it, and nothing but its own form.

use super::*;
use crate::auth::{
    AuthConfig, ChunkSigner, Trailer,
    sign::{SigV4Signer, SignedPayload, encode_signed_chunks, encode_unsigned_chunks},
    tests::{KEY_ID, OneKey, SECRET, StoppedClock, example_time},
    verify,
};
use ashlar_runtime::clock::Sleep;
use ashlar_types::{BodyError, Timestamp};
use futures_util::{FutureExt, stream};
use http::Request;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll},
};

const CRC32C: (&str, &str) = ("x-amz-checksum-crc32c", "sOO8/Q==");

/// A request's head, what it says about its body, and the body as it goes over the wire.
struct Sent {
    headers: HeaderMap,
    payload: Box<dyn Fn() -> PayloadMode>,
    wire: Vec<u8>,
}

type Outcome = Result<(Vec<u8>, Vec<(String, String)>), BodyError>;

fn clock() -> Arc<dyn Clock> {
    Arc::new(StoppedClock(Timestamp(0)))
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn chunk_signer() -> ChunkSigner {
    let mut request = Request::put("http://h/k").body(()).unwrap();
    SigV4Signer::new(KEY_ID, SECRET, "r")
        .sign(&mut request, example_time(), &SignedPayload::Unsigned)
        .unwrap()
}

fn length_headers(len: usize, wire_len: usize, trailer: &[(&str, &str)]) -> HeaderMap {
    let mut headers = headers(&[
        ("content-length", &wire_len.to_string()),
        ("x-amz-decoded-content-length", &len.to_string()),
    ]);
    for (name, _) in trailer {
        headers.append("x-amz-trailer", name.parse().unwrap());
    }
    headers
}

fn plain(body: &[u8]) -> Sent {
    let len = body.len().to_string();
    Sent {
        headers: headers(&[("content-length", &len)]),
        payload: Box::new(|| PayloadMode::Unsigned),
        wire: body.to_vec(),
    }
}

fn plain_signed(body: &[u8]) -> Sent {
    let digest = Sha256::digest(body).into();
    Sent { payload: Box::new(move || PayloadMode::Signed(digest)), ..plain(body) }
}

fn chunked(body: &[u8], chunk_len: usize) -> Sent {
    let wire = encode_signed_chunks(body, chunk_len, chunk_signer(), None);
    let payload = || PayloadMode::ChunkedSigned { seed: chunk_signer(), trailer: Trailer::None };
    Sent { headers: length_headers(body.len(), wire.len(), &[]), payload: Box::new(payload), wire }
}

fn chunked_trailer(body: &[u8], chunk_len: usize) -> Sent {
    let wire = encode_signed_chunks(body, chunk_len, chunk_signer(), Some(&[CRC32C]));
    let payload = || PayloadMode::ChunkedSigned { seed: chunk_signer(), trailer: Trailer::Signed };
    Sent { headers: length_headers(body.len(), wire.len(), &[CRC32C]), payload: Box::new(payload), wire }
}

fn unsigned_trailer(body: &[u8], chunk_len: usize) -> Sent {
    let wire = encode_unsigned_chunks(body, chunk_len, &[CRC32C]);
    let payload = || PayloadMode::ChunkedUnsignedTrailer;
    Sent { headers: length_headers(body.len(), wire.len(), &[CRC32C]), payload: Box::new(payload), wire }
}

fn all_modes(body: &[u8], chunk_len: usize) -> [Sent; 5] {
    [
        plain(body),
        plain_signed(body),
        chunked(body, chunk_len),
        chunked_trailer(body, chunk_len),
        unsigned_trailer(body, chunk_len),
    ]
}

fn frames(pieces: Vec<Bytes>) -> impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static {
    StreamBody::new(stream::iter(pieces.into_iter().map(|piece| Ok(Frame::data(piece)))))
}

fn run(sent: &Sent, pieces: Vec<Bytes>) -> Outcome {
    let (mut decoded, _) = decode(frames(pieces), &sent.headers, (sent.payload)(), clock(), IDLE_MAX)
        .expect("headers are right");
    let mut body = Vec::new();
    let mut trailers = Vec::new();
    while let Some(frame) = decoded.next().now_or_never().expect("all input is there") {
        match frame {
            Ok(BodyFrame::Data(data)) => {
                assert!(trailers.is_empty(), "data after the trailers");
                assert!(!data.is_empty(), "an empty frame");
                body.extend_from_slice(&data);
            }
            Ok(BodyFrame::Trailers(fields)) => trailers = fields,
            Err(error) => {
                assert_eq!(decoded.next().now_or_never(), Some(None), "an error ends the stream");
                return Err(error);
            }
        }
    }
    Ok((body, trailers))
}

fn run_whole(sent: &Sent, wire: &[u8]) -> Outcome {
    run(sent, vec![Bytes::copy_from_slice(wire)])
}

/// Bytes that look like framing.
fn tricky_body() -> Vec<u8> {
    b"0\r\n\r\n5;chunk-signature=\r\n\n\r x-amz-trailer-signature:\r\n".to_vec()
}

fn trailers_of(sent: &Sent) -> Vec<(String, String)> {
    let announced = sent.headers.contains_key("x-amz-trailer");
    if announced { vec![(CRC32C.0.to_owned(), CRC32C.1.to_owned())] } else { Vec::new() }
}

#[test]
fn every_split_of_the_wire_gives_the_same_body() {
    let body = tricky_body();
    for sent in all_modes(&body, 24) {
        let expected = Ok((body.clone(), trailers_of(&sent)));
        let wire = Bytes::from(sent.wire.clone());
        for first in 0..=wire.len() {
            assert_eq!(run(&sent, vec![wire.slice(..first), wire.slice(first..)]), expected, "{first}");
        }
        for len in 1..8 {
            let pieces = wire.chunks(len).map(Bytes::copy_from_slice).collect();
            assert_eq!(run(&sent, pieces), expected, "pieces of {len}");
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    for sent in all_modes(&tricky_body(), 24) {
        for len in 0..sent.wire.len() {
            assert_eq!(run_whole(&sent, &sent.wire[..len]), Err(BodyError::Incomplete), "{len}");
        }
    }
}

#[test]
fn bytes_after_the_end_are_an_error() {
    for sent in all_modes(&tricky_body(), 24) {
        for extra in [&b"\r\n"[..], b"0", b"\0"] {
            let pieces = vec![Bytes::from(sent.wire.clone()), Bytes::copy_from_slice(extra)];
            assert_eq!(run(&sent, pieces), Err(BodyError::TooLong));
            assert_eq!(run_whole(&sent, &[&sent.wire, extra].concat()), Err(BodyError::TooLong));
        }
    }
}

#[test]
fn every_changed_byte_of_a_signed_body_is_an_error() {
    let body = tricky_body();
    for sent in [plain_signed(&body), chunked(&body, 24), chunked_trailer(&body, 24)] {
        for at in 0..sent.wire.len() {
            for bit in [0x01, 0x02, 0x04, 0x40, 0x80] {
                let mut wire = sent.wire.clone();
                wire[at] ^= bit;
                assert!(run_whole(&sent, &wire).is_err(), "bit {bit:#x} of byte {at}");
            }
            let mut shorter = sent.wire.clone();
            shorter.remove(at);
            assert!(run_whole(&sent, &shorter).is_err(), "without byte {at}");
            let mut longer = sent.wire.clone();
            // Not the same byte again: a size may have leading zeros.
            longer.insert(at, sent.wire[at] ^ 0x08);
            assert!(run_whole(&sent, &longer).is_err(), "a byte more at {at}");
        }
    }
}

#[test]
fn a_changed_byte_of_an_unsigned_body_changes_data_or_is_an_error() {
    let body = tricky_body();
    let sent = unsigned_trailer(&body, 24);
    let whole = run_whole(&sent, &sent.wire).unwrap();
    for at in 0..sent.wire.len() {
        let mut wire = sent.wire.clone();
        wire[at] ^= 0x01;
        if let Ok(read) = run_whole(&sent, &wire) {
            assert_eq!(read.0.len(), body.len());
            assert_ne!(read, whole, "byte {at} means nothing");
        }
    }
}

#[test]
fn chunks_cannot_change_places_or_be_dropped() {
    let body = [b'a'; 32];
    let sent = chunked(&body, 16);
    let chunk_len = "10;chunk-signature=\r\n\r\n".len() + 64 + 16;
    let (first, rest) = sent.wire.split_at(chunk_len);
    let (second, last) = rest.split_at(chunk_len);
    assert_eq!(run_whole(&sent, &[first, second, last].concat()).unwrap().0, body);
    assert_eq!(run_whole(&sent, &[second, first, last].concat()), Err(BodyError::Signature));
    assert_eq!(run_whole(&sent, &[first, first, last].concat()), Err(BodyError::Signature));
    let shorter = Sent { headers: length_headers(16, sent.wire.len(), &[]), ..chunked(&body, 16) };
    assert_eq!(run_whole(&shorter, &[first, last].concat()), Err(BodyError::Signature));
    assert_eq!(run_whole(&shorter, &[first, second, last].concat()), Err(BodyError::TooLong));
    let longer = Sent { headers: length_headers(33, 1000, &[]), ..chunked(&body, 16) };
    assert_eq!(run_whole(&longer, &sent.wire), Err(BodyError::Incomplete));
}

#[test]
fn another_decoded_length_is_an_error() {
    for (declared, error) in [(15, BodyError::TooLong), (17, BodyError::Incomplete)] {
        for mut sent in [chunked(&[1; 16], 8), chunked_trailer(&[1; 16], 8), unsigned_trailer(&[1; 16], 8)] {
            sent.headers.insert("x-amz-decoded-content-length", declared.to_string().parse().unwrap());
            assert_eq!(run_whole(&sent, &sent.wire.clone()), Err(error.clone()));
        }
    }
    let sent = Sent { headers: headers(&[("content-length", "3")]), ..plain(b"abcd") };
    assert_eq!(run_whole(&sent, b"abcd"), Err(BodyError::TooLong));
}

#[test]
fn a_signed_chunk_is_at_most_16_mib() {
    let sent = Sent { headers: length_headers(1 << 30, 1 << 31, &[]), ..chunked(b"", 1) };
    let line = |size: u64| format!("{size:x};chunk-signature={}\r\n", "0".repeat(64)).into_bytes();
    assert_eq!(run_whole(&sent, &line(16 << 20)), Err(BodyError::Incomplete));
    assert_eq!(run_whole(&sent, &line((16 << 20) + 1)), Err(BodyError::Malformed));
    let sent = Sent { headers: length_headers(1 << 30, 1 << 31, &[]), ..unsigned_trailer(b"", 1) };
    assert_eq!(run_whole(&sent, b"40000000\r\n"), Err(BodyError::Incomplete));
}

#[test]
fn malformed_chunk_headers_are_errors() {
    let signature = "0".repeat(64);
    for line in [
        "\r\n".to_owned(),
        "\n".to_owned(),
        "1\r\n".to_owned(),
        format!(";chunk-signature={signature}\r\n"),
        format!("+1;chunk-signature={signature}\r\n"),
        format!(" 1;chunk-signature={signature}\r\n"),
        format!("1 ;chunk-signature={signature}\r\n"),
        format!("0x1;chunk-signature={signature}\r\n"),
        format!("1;chunk-signature={signature}\n"),
        format!("1;chunk-signature={signature};x=y\r\n"),
        format!("1;chunk-Signature={signature}\r\n"),
        format!("10000000000000000;chunk-signature={signature}\r\n"),
        format!("1;{}", "x".repeat(1000)),
    ] {
        let sent = chunked(b"a", 1);
        let error = run_whole(&sent, line.as_bytes()).unwrap_err();
        assert!(matches!(error, BodyError::Malformed | BodyError::Signature), "{line:?}: {error}");
    }
    for line in ["\r\n", "1;a=b\r\na\r\n", "-1\r\n", "1\na\r\n", "1\r\nab\r\n", "1\r\na\n", "1\r\na\rb\n"] {
        let sent = unsigned_trailer(b"a", 1);
        assert_eq!(run_whole(&sent, line.as_bytes()), Err(BodyError::Malformed), "{line:?}");
    }
}

#[test]
fn trailers_are_those_announced_and_each_once() {
    let sent = unsigned_trailer(b"a", 1);
    let with = |trailer: &str| run_whole(&sent, format!("1\r\na\r\n0\r\n{trailer}\r\n").as_bytes());
    let fields = |value: &str| Ok((b"a".to_vec(), vec![(CRC32C.0.to_owned(), value.to_owned())]));
    assert_eq!(with("X-Amz-Checksum-CRC32C: sOO8/Q== \r\n"), fields("sOO8/Q=="));
    assert_eq!(with("x-amz-checksum-crc32c:\r\n"), fields(""));
    for trailer in [
        String::new(),
        "x-amz-checksum-sha1:a\r\n".to_owned(),
        "x-amz-checksum-crc32c:a\r\nx-amz-checksum-crc32c:a\r\n".to_owned(),
        "x-amz-checksum-crc32c:a\r\nx-amz-meta-a:b\r\n".to_owned(),
        "x-amz-checksum-crc32c\r\n".to_owned(),
        "x-amz-checksum-crc32c:a\n".to_owned(),
        "x-amz-checksum-crc32c:a\0b\r\n".to_owned(),
        "x-amz-checksum-crc32c:a\rb\r\n".to_owned(),
        format!("x-amz-checksum-crc32c:{}\r\n", "a".repeat(1024)),
        format!("x-amz-checksum-crc32c:a\r\nx-amz-trailer-signature:{}\r\n", "0".repeat(64)),
    ] {
        assert_eq!(with(&trailer), Err(BodyError::Malformed), "{trailer:?}");
    }
}

#[test]
fn a_signed_trailer_cannot_lose_its_signature() {
    let sent = chunked_trailer(b"a", 1);
    let text = String::from_utf8(sent.wire.clone()).unwrap();
    let at = text.find("x-amz-trailer-signature").unwrap();
    let signature = &text[at..text.len() - 2];
    assert_eq!(run_whole(&sent, format!("{}\r\n", &text[..at]).as_bytes()), Err(BodyError::Signature));
    let first = text.replace(signature, "").replace("x-amz-checksum", &format!("{signature}x-amz-checksum"));
    assert_eq!(run_whole(&sent, first.as_bytes()), Err(BodyError::Malformed));
    let twice = text.replace(signature, &signature.repeat(2));
    assert_eq!(run_whole(&sent, twice.as_bytes()), Err(BodyError::Malformed));
}

#[test]
fn a_mode_is_not_taken_for_another() {
    let body = tricky_body();
    let modes = || all_modes(&body, 24);
    for (from, sent) in modes().into_iter().enumerate().skip(2) {
        for (to, other) in modes().into_iter().enumerate().skip(2) {
            let mixed = Sent { headers: sent.headers.clone(), ..other };
            let decoded = decode(frames(vec![]), &mixed.headers, (mixed.payload)(), clock(), IDLE_MAX)
                .map(|(_, len)| len);
            if decoded.is_ok() {
                assert_eq!(run_whole(&mixed, &sent.wire).is_ok(), from == to, "{from} as {to}");
            }
        }
    }
}

#[test]
fn the_published_chunked_examples_are_decoded() {
    let body = vec![b'a'; 66560];
    let chunks = |signatures: [&str; 3], trailer: &str| {
        let mut wire = Vec::new();
        for (chunk, signature) in [&body[..65536], &body[65536..]].iter().zip(signatures) {
            wire.extend_from_slice(format!("{:x};chunk-signature={signature}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(format!("0;chunk-signature={}\r\n{trailer}\r\n", signatures[2]).as_bytes());
        wire
    };
    let request = |fields: &[(&'static str, &str)], signed: &str, signature: &str| {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={KEY_ID}/20130524/us-east-1/s3/aws4_request,SignedHeaders={signed},\
             Signature={signature}"
        );
        let mut request = Request::put("/examplebucket/chunkObject.txt").body(()).unwrap();
        *request.headers_mut() = headers(fields);
        request.headers_mut().extend(headers(&[
            ("host", "s3.amazonaws.com"),
            ("x-amz-date", "20130524T000000Z"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", "66560"),
            ("authorization", &authorization),
        ]));
        request.into_parts().0
    };
    let check = |parts: &http::request::Parts, wire: Vec<u8>, trailers: &[(&str, &str)]| {
        let clock = StoppedClock(example_time());
        let verified = verify(parts, (), &OneKey, &clock, &AuthConfig::default()).now_or_never().unwrap();
        let (_, _, payload) = verified.unwrap().into_parts();
        let body_of = Full::new(Bytes::from(wire));
        let (decoded, len) = decode(body_of, &parts.headers, payload, Arc::new(clock), IDLE_MAX).unwrap();
        assert_eq!(len, Some(66560));
        let (read, fields) = collect_with_trailers(decoded, 66560).now_or_never().unwrap().unwrap();
        assert!(read == body);
        let trailers: Vec<_> = trailers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(fields, trailers);
    };

    let parts = request(
        &[("content-length", "66824"), ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")],
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
         x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    let wire = chunks(
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ],
        "",
    );
    assert_eq!(wire.len(), 66824);
    check(&parts, wire, &[]);

    let parts = request(
        &[
            ("x-amz-trailer", "x-amz-checksum-crc32c"),
            ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        ],
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;\
         x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    let wire = chunks(
        [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
        ],
        "x-amz-checksum-crc32c:sOO8/Q==\r\n\
         x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n",
    );
    check(&parts, wire, &[CRC32C]);
}

fn refusal(fields: &[(&'static str, &str)], payload: PayloadMode, body: &'static str) -> Option<ErrorCode> {
    decode(Full::new(Bytes::from(body)), &headers(fields), payload, clock(), IDLE_MAX).err().map(|e| e.code)
}

#[test]
fn a_length_must_be_declared() {
    let signed = || PayloadMode::ChunkedSigned { seed: chunk_signer(), trailer: Trailer::None };
    assert_eq!(refusal(&[], PayloadMode::Unsigned, ""), Some(ErrorCode::MissingContentLength));
    assert_eq!(refusal(&[("transfer-encoding", "chunked")], PayloadMode::Unsigned, ""), None);
    assert_eq!(refusal(&[("content-length", "0")], PayloadMode::Unsigned, ""), None);
    for payload in [signed(), PayloadMode::ChunkedUnsignedTrailer] {
        assert_eq!(refusal(&[("content-length", "9")], payload, ""), Some(ErrorCode::MissingContentLength));
    }
    let of_unknown_len = StreamBody::new(stream::empty::<Result<Frame<Bytes>, Infallible>>());
    let decoded = decode(of_unknown_len, &HeaderMap::new(), PayloadMode::Unsigned, clock(), IDLE_MAX);
    assert_eq!(decoded.map(|(_, len)| len).ok(), Some(None));
}

#[test]
fn headers_that_contradict_each_other_are_refused() {
    let signed = |trailer| PayloadMode::ChunkedSigned { seed: chunk_signer(), trailer };
    for (fields, payload, code) in [
        (
            &[("content-length", "1"), ("transfer-encoding", "chunked")][..],
            PayloadMode::Unsigned,
            ErrorCode::InvalidRequest,
        ),
        (
            &[("content-length", "1"), ("content-length", "2")],
            PayloadMode::Unsigned,
            ErrorCode::InvalidArgument,
        ),
        (&[("content-length", "-1")], PayloadMode::Unsigned, ErrorCode::InvalidArgument),
        (&[("content-length", "+1")], PayloadMode::Unsigned, ErrorCode::InvalidArgument),
        (&[("content-length", "")], PayloadMode::Unsigned, ErrorCode::InvalidArgument),
        (
            &[("content-length", "1"), ("x-amz-decoded-content-length", "2")],
            PayloadMode::Unsigned,
            ErrorCode::InvalidRequest,
        ),
        (
            &[("content-length", "90"), ("x-amz-decoded-content-length", "90")],
            signed(Trailer::None),
            ErrorCode::InvalidRequest,
        ),
        (&[("x-amz-decoded-content-length", "x")], signed(Trailer::None), ErrorCode::InvalidArgument),
        (
            &[("x-amz-decoded-content-length", "1"), ("x-amz-trailer", "x-amz-checksum-sha1")],
            signed(Trailer::None),
            ErrorCode::InvalidRequest,
        ),
        (
            &[("content-length", "1"), ("x-amz-trailer", "x-amz-checksum-sha1")],
            PayloadMode::Unsigned,
            ErrorCode::InvalidRequest,
        ),
        (
            &[("x-amz-decoded-content-length", "1"), ("x-amz-trailer", "a,A")],
            signed(Trailer::Signed),
            ErrorCode::InvalidRequest,
        ),
        (
            &[("x-amz-decoded-content-length", "1"), ("x-amz-trailer", "a,b,c,d,e,f,g,h,i")],
            signed(Trailer::Signed),
            ErrorCode::InvalidRequest,
        ),
        (
            &[("x-amz-decoded-content-length", "1"), ("x-amz-trailer", "x-amz-trailer-signature")],
            signed(Trailer::Signed),
            ErrorCode::InvalidRequest,
        ),
        (
            &[("x-amz-decoded-content-length", "1"), ("x-amz-trailer", "a b")],
            PayloadMode::ChunkedUnsignedTrailer,
            ErrorCode::InvalidRequest,
        ),
    ] {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        let refused = decode(Full::new(Bytes::new()), &map, payload, clock(), IDLE_MAX).err();
        assert_eq!(refused.map(|e| e.code), Some(code), "{fields:?}");
    }
}

/// Sleeps end when the limit has been asked for; counts how often.
#[derive(Debug, Default)]
struct ImpatientClock(AtomicU32);

impl Clock for ImpatientClock {
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        assert_eq!(duration, Duration::from_secs(7));
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }
}

/// Delivers its frames, then nothing, and never ends.
struct Stalled(Vec<Bytes>);

impl Body for Stalled {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.0.is_empty() { Poll::Pending } else { Poll::Ready(Some(Ok(Frame::data(self.0.remove(0))))) }
    }
}

#[test]
fn a_body_that_stalls_times_out_and_one_that_flows_does_not() {
    let clock = Arc::new(ImpatientClock::default());
    let body = Stalled(vec![Bytes::from("ab"), Bytes::new(), Bytes::from("c")]);
    let headers = headers(&[("content-length", "4")]);
    let (mut decoded, len) =
        decode(body, &headers, PayloadMode::Unsigned, clock.clone(), Duration::from_secs(7)).unwrap();
    assert_eq!(len, Some(4));
    let mut next = || decoded.next().now_or_never().unwrap();
    assert_eq!(next(), Some(Ok(BodyFrame::Data(Bytes::from("ab")))));
    assert_eq!(next(), Some(Ok(BodyFrame::Data(Bytes::from("c")))));
    assert_eq!(clock.0.load(Ordering::Relaxed), 0);
    assert_eq!(next(), Some(Err(BodyError::Timeout)));
    assert_eq!(next(), None);
}

#[test]
fn a_broken_connection_is_an_error() {
    let body = StreamBody::new(stream::iter([
        Ok(Frame::data(Bytes::from("ab"))),
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
    ]));
    let headers = headers(&[("transfer-encoding", "chunked")]);
    let (mut decoded, _) = decode(body, &headers, PayloadMode::Unsigned, clock(), IDLE_MAX).unwrap();
    let mut next = || decoded.next().now_or_never().unwrap();
    assert_eq!(next(), Some(Ok(BodyFrame::Data(Bytes::from("ab")))));
    assert_eq!(next(), Some(Err(BodyError::Disconnected)));
    assert_eq!(next(), None);
}

#[test]
fn data_is_passed_on_without_a_copy() {
    for sent in all_modes(&[b'x'; 4096], 1000) {
        let wire = Bytes::from(sent.wire.clone());
        let range = wire.as_ptr_range();
        let (mut decoded, _) =
            decode(frames(vec![wire.clone()]), &sent.headers, (sent.payload)(), clock(), IDLE_MAX).unwrap();
        while let Some(frame) = decoded.next().now_or_never().unwrap() {
            if let BodyFrame::Data(data) = frame.unwrap() {
                assert!(range.contains(&data.as_ptr()));
            }
        }
    }
}

#[test]
fn small_bodies_are_collected_up_to_their_limit() {
    let collected = |pieces: Vec<Bytes>, limit| {
        let headers = headers(&[("transfer-encoding", "chunked")]);
        let (decoded, _) =
            decode(frames(pieces), &headers, PayloadMode::Unsigned, clock(), IDLE_MAX).unwrap();
        collect(decoded, limit).now_or_never().unwrap()
    };
    let pieces = || vec![Bytes::from("ab"), Bytes::from("c"), Bytes::from("de")];
    assert_eq!(collected(pieces(), 5), Ok(Bytes::from("abcde")));
    assert_eq!(collected(vec![], 0), Ok(Bytes::new()));
    let one = Bytes::from("abc");
    assert_eq!(collected(vec![one.clone()], 3).unwrap().as_ptr(), one.as_ptr());
    for limit in 0..5 {
        let error = collected(pieces(), limit).unwrap_err();
        assert_eq!(error.code, ErrorCode::MaxMessageLengthExceeded);
        assert!(error.close);
    }
    let sent = plain_signed(b"abc");
    let (decoded, _) =
        decode(frames(vec![Bytes::from("abd")]), &sent.headers, (sent.payload)(), clock(), IDLE_MAX).unwrap();
    let error = collect(decoded, 10).now_or_never().unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::XAmzContentSHA256Mismatch);
}

#[test]
fn the_transfer_coding_is_not_the_objects() {
    for (values, kept) in [
        (&[][..], None),
        (&["aws-chunked"], None),
        (&["AWS-Chunked,aws-chunked"], None),
        (&["gzip"], Some("gzip")),
        (&["gzip, aws-chunked"], Some("gzip")),
        (&["aws-chunked,deflate , gzip"], Some("deflate, gzip")),
        (&["deflate", "aws-chunked", "gzip"], Some("deflate, gzip")),
        (&[""], None),
    ] {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("content-encoding", value.parse().unwrap());
        }
        assert_eq!(content_encoding_without_aws_chunked(&headers).as_deref(), kept, "{values:?}");
    }
}

proptest! {
    #[test]
    fn any_body_in_any_chunks_and_pieces_is_decoded(
        body in proptest::collection::vec(any::<u8>(), 0..3000),
        chunk_len in 1..1500_usize,
        cuts in proptest::collection::vec(0..1000_usize, 0..6),
    ) {
        for sent in all_modes(&body, chunk_len.max(body.len() / 20)) {
            let wire = Bytes::from(sent.wire.clone());
            let mut ends: Vec<usize> = cuts.iter().map(|permille| wire.len() * permille / 1000).collect();
            ends.sort_unstable();
            ends.push(wire.len());
            let mut from = 0;
            let mut pieces = Vec::new();
            for end in ends {
                pieces.push(wire.slice(from..end));
                from = end;
            }
            prop_assert_eq!(run(&sent, pieces), Ok((body.clone(), trailers_of(&sent))));
        }
    }

    #[test]
    fn no_bytes_bring_the_decoder_down(
        wire in "(0|5|;chunk-signature=|\r\n|\n|\r|a|:|x-amz-checksum-crc32c|x-amz-trailer-signature:){0,30}",
    ) {
        for sent in all_modes(b"aaaaa", 5) {
            let _ = run_whole(&sent, wire.as_bytes());
        }
    }
}
