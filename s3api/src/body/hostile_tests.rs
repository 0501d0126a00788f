//! What must not pass for a whole body: cut, changed, reordered and contradicting ones.

use super::tests::{
    CRC32C, Sent, all_modes, chunk_signer, chunked, chunked_trailer, clock, frames, headers, length_headers,
    plain, plain_signed, run, run_whole, tricky_body, unsigned_trailer,
};
use super::*;
use crate::auth::Trailer;
use ashlar_types::BodyError;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use std::convert::Infallible;

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
