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

pub(super) const CRC32C: (&str, &str) = ("x-amz-checksum-crc32c", "sOO8/Q==");

/// A request's head, what it says about its body, and the body as it goes over the wire.
pub(super) struct Sent {
    pub(super) headers: HeaderMap,
    pub(super) payload: Box<dyn Fn() -> PayloadMode>,
    pub(super) wire: Vec<u8>,
}

pub(super) type Outcome = Result<(Vec<u8>, Vec<(String, String)>), BodyError>;

pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(StoppedClock(Timestamp(0)))
}

pub(super) fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

pub(super) fn chunk_signer() -> ChunkSigner {
    let mut request = Request::put("http://h/k").body(()).unwrap();
    SigV4Signer::new(KEY_ID, SECRET, "r")
        .sign(&mut request, example_time(), &SignedPayload::Unsigned)
        .unwrap()
}

pub(super) fn length_headers(len: usize, wire_len: usize, trailer: &[(&str, &str)]) -> HeaderMap {
    let mut headers = headers(&[
        ("content-length", &wire_len.to_string()),
        ("x-amz-decoded-content-length", &len.to_string()),
    ]);
    for (name, _) in trailer {
        headers.append("x-amz-trailer", name.parse().unwrap());
    }
    headers
}

pub(super) fn plain(body: &[u8]) -> Sent {
    let len = body.len().to_string();
    Sent {
        headers: headers(&[("content-length", &len)]),
        payload: Box::new(|| PayloadMode::Unsigned),
        wire: body.to_vec(),
    }
}

pub(super) fn plain_signed(body: &[u8]) -> Sent {
    let digest = Sha256::digest(body).into();
    Sent { payload: Box::new(move || PayloadMode::Signed(digest)), ..plain(body) }
}

pub(super) fn chunked(body: &[u8], chunk_len: usize) -> Sent {
    let wire = encode_signed_chunks(body, chunk_len, chunk_signer(), None);
    let payload = || PayloadMode::ChunkedSigned { seed: chunk_signer(), trailer: Trailer::None };
    Sent { headers: length_headers(body.len(), wire.len(), &[]), payload: Box::new(payload), wire }
}

pub(super) fn chunked_trailer(body: &[u8], chunk_len: usize) -> Sent {
    let wire = encode_signed_chunks(body, chunk_len, chunk_signer(), Some(&[CRC32C]));
    let payload = || PayloadMode::ChunkedSigned { seed: chunk_signer(), trailer: Trailer::Signed };
    Sent { headers: length_headers(body.len(), wire.len(), &[CRC32C]), payload: Box::new(payload), wire }
}

pub(super) fn unsigned_trailer(body: &[u8], chunk_len: usize) -> Sent {
    let wire = encode_unsigned_chunks(body, chunk_len, &[CRC32C]);
    let payload = || PayloadMode::ChunkedUnsignedTrailer;
    Sent { headers: length_headers(body.len(), wire.len(), &[CRC32C]), payload: Box::new(payload), wire }
}

pub(super) fn all_modes(body: &[u8], chunk_len: usize) -> [Sent; 5] {
    [
        plain(body),
        plain_signed(body),
        chunked(body, chunk_len),
        chunked_trailer(body, chunk_len),
        unsigned_trailer(body, chunk_len),
    ]
}

pub(super) fn frames(
    pieces: Vec<Bytes>,
) -> impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static {
    StreamBody::new(stream::iter(pieces.into_iter().map(|piece| Ok(Frame::data(piece)))))
}

pub(super) fn run(sent: &Sent, pieces: Vec<Bytes>) -> Outcome {
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

pub(super) fn run_whole(sent: &Sent, wire: &[u8]) -> Outcome {
    run(sent, vec![Bytes::copy_from_slice(wire)])
}

/// Bytes that look like framing.
pub(super) fn tricky_body() -> Vec<u8> {
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

/// Counts the deadlines that were set; none of them ends, or all end at once.
#[derive(Debug, Default)]
struct CountingClock {
    deadlines: AtomicU32,
    impatient: bool,
}

impl Clock for CountingClock {
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        assert_eq!(duration, Duration::from_secs(7));
        self.deadlines.fetch_add(1, Ordering::Relaxed);
        if self.impatient { Box::pin(std::future::ready(())) } else { Box::pin(std::future::pending()) }
    }
}

/// Delivers its frames, `None` for a moment in which there is none, then nothing; never ends.
struct Stalled(std::vec::IntoIter<Option<&'static str>>);

impl Body for Stalled {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.next() {
            Some(Some(data)) => Poll::Ready(Some(Ok(Frame::data(Bytes::from(data))))),
            Some(None) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

fn decode_stalled(frames: Vec<Option<&'static str>>, clock: &Arc<CountingClock>) -> BodyStream {
    let headers = headers(&[("content-length", "4")]);
    let body = Stalled(frames.into_iter());
    decode(body, &headers, PayloadMode::Unsigned, clock.clone(), Duration::from_secs(7)).unwrap().0
}

#[test]
fn a_body_that_stalls_times_out_and_one_that_flows_does_not() {
    let clock = Arc::new(CountingClock { impatient: true, ..CountingClock::default() });
    let mut decoded = decode_stalled(vec![Some("ab"), Some(""), Some("c")], &clock);
    let mut next = || decoded.next().now_or_never().unwrap();
    assert_eq!(next(), Some(Ok(BodyFrame::Data(Bytes::from("ab")))));
    assert_eq!(next(), Some(Ok(BodyFrame::Data(Bytes::from("c")))));
    assert_eq!(clock.deadlines.load(Ordering::Relaxed), 0);
    assert_eq!(next(), Some(Err(BodyError::Timeout)));
    assert_eq!(next(), None);
}

#[test]
fn only_bytes_renew_the_deadline() {
    for (between, deadlines) in [("", 1), ("a", 2)] {
        let clock = Arc::new(CountingClock::default());
        let mut decoded = decode_stalled(vec![None, Some(between), None, None], &clock);
        for _ in 0..8 {
            let _ = decoded.next().now_or_never();
        }
        assert_eq!(clock.deadlines.load(Ordering::Relaxed), deadlines, "{between:?}");
    }
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
