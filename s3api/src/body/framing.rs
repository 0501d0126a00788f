//! What the headers say about a body's length and form.

use super::{
    chunked::{ChunkedDecoder, Proof},
    plain::PlainDecoder,
    stream::Decoder,
    trailer::{self, Announced},
};
use crate::{
    auth::{PayloadMode, Trailer},
    error::{ErrorCode, S3Error, S3Result},
};
use http::{HeaderMap, HeaderName, header};
use http_body::SizeHint;

const DECODED_CONTENT_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");

#[derive(Debug)]
pub(super) enum Framing {
    Plain { len: Option<u64>, sha256: Option<[u8; 32]> },
    Chunked { len: u64, proof: Proof, announced: Announced },
}

impl Framing {
    pub(super) fn read(headers: &HeaderMap, payload: PayloadMode, hint: &SizeHint) -> S3Result<Self> {
        let wire_len = number(headers, &header::CONTENT_LENGTH)?;
        let decoded_len = number(headers, &DECODED_CONTENT_LENGTH)?;
        let in_transport_chunks = headers.contains_key(header::TRANSFER_ENCODING);
        if wire_len.is_some() && in_transport_chunks {
            return Err(contradiction("Content-Length and Transfer-Encoding exclude each other."));
        }
        let announced = trailer::announced(headers)?;
        let (sha256, proof) = match payload {
            PayloadMode::Signed(digest) => (Some(digest), None),
            PayloadMode::Unsigned => (None, None),
            PayloadMode::ChunkedSigned { seed, trailer } => {
                (None, Some(Proof::Signed { signer: seed, trailer }))
            }
            PayloadMode::ChunkedUnsignedTrailer => (None, Some(Proof::None)),
        };
        let may_have_trailer = match &proof {
            None | Some(Proof::Signed { trailer: Trailer::None, .. }) => false,
            Some(Proof::Signed { trailer: Trailer::Signed, .. } | Proof::None) => true,
        };
        if !announced.is_empty() && !may_have_trailer {
            return Err(contradiction(
                "x-amz-trailer is there, but x-amz-content-sha256 announces no trailer.",
            ));
        }
        let Some(proof) = proof else {
            if decoded_len.is_some() && decoded_len != wire_len {
                return Err(contradiction(
                    "x-amz-decoded-content-length differs from the length of a plain body.",
                ));
            }
            // HTTP/2 may send a body without any length; HTTP/1 then has no body at all.
            if wire_len.is_none() && !in_transport_chunks && hint.exact().is_some() {
                return Err(S3Error::new(ErrorCode::MissingContentLength));
            }
            return Ok(Self::Plain { len: wire_len, sha256 });
        };
        let len = decoded_len.ok_or_else(|| {
            S3Error::new(ErrorCode::MissingContentLength)
                .message("You must provide the x-amz-decoded-content-length HTTP header.")
        })?;
        if wire_len.is_some_and(|wire_len| wire_len <= len) {
            return Err(contradiction(
                "Content-Length leaves no room for chunks of x-amz-decoded-content-length.",
            ));
        }
        Ok(Self::Chunked { len, proof, announced })
    }

    pub(super) fn decoded_len(&self) -> Option<u64> {
        match self {
            Self::Plain { len, .. } => *len,
            Self::Chunked { len, .. } => Some(*len),
        }
    }

    pub(super) fn into_decoder(self) -> Decoder {
        match self {
            Self::Plain { len, sha256 } => Decoder::Plain(PlainDecoder::new(len, sha256)),
            Self::Chunked { len, proof, announced } => {
                Decoder::Chunked(Box::new(ChunkedDecoder::new(len, proof, announced)))
            }
        }
    }
}

fn number(headers: &HeaderMap, name: &HeaderName) -> S3Result<Option<u64>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let refuse =
        |why: &str| S3Error::invalid_argument(name.as_str(), String::from_utf8_lossy(value.as_bytes()), why);
    if values.any(|other| other != value) {
        return Err(refuse("The header is there more than once, with different values."));
    }
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    number.map(Some).ok_or_else(|| refuse("The header is not a number of bytes."))
}

fn contradiction(why: &str) -> S3Error {
    S3Error::new(ErrorCode::InvalidRequest).message(why)
}
