//! What a signature says about the body.

use super::{ChunkSigner, hex};

/// How the body is framed and what proves it.
#[derive(Debug)]
pub enum PayloadMode {
    /// Plain bytes with this SHA-256.
    Signed([u8; 32]),
    /// Plain bytes that the signature does not cover.
    Unsigned,
    /// `aws-chunked`, each chunk signed.
    ChunkedSigned { seed: ChunkSigner, trailer: Trailer },
    /// `aws-chunked` with a trailer, nothing signed.
    ChunkedUnsignedTrailer,
}

/// Whether signed chunks are followed by a signed trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailer {
    None,
    Signed,
}

/// The value of `x-amz-content-sha256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentSha256 {
    Digest([u8; 32]),
    Unsigned,
    Chunked,
    ChunkedTrailer,
    ChunkedUnsignedTrailer,
}

pub(super) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
pub(super) const CHUNKED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
pub(super) const CHUNKED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
pub(super) const CHUNKED_UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

impl ContentSha256 {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            UNSIGNED_PAYLOAD => Self::Unsigned,
            CHUNKED => Self::Chunked,
            CHUNKED_TRAILER => Self::ChunkedTrailer,
            CHUNKED_UNSIGNED_TRAILER => Self::ChunkedUnsignedTrailer,
            digest => Self::Digest(hex::decode_32(digest.to_ascii_lowercase().as_bytes())?),
        })
    }

    pub(super) fn is_chunked(self) -> bool {
        match self {
            Self::Digest(_) | Self::Unsigned => false,
            Self::Chunked | Self::ChunkedTrailer | Self::ChunkedUnsignedTrailer => true,
        }
    }

    pub(super) fn has_signed_chunks(self) -> bool {
        match self {
            Self::Chunked | Self::ChunkedTrailer => true,
            Self::Digest(_) | Self::Unsigned | Self::ChunkedUnsignedTrailer => false,
        }
    }

    pub(super) fn into_mode(self, seed: impl FnOnce() -> ChunkSigner) -> PayloadMode {
        match self {
            Self::Digest(digest) => PayloadMode::Signed(digest),
            Self::Unsigned => PayloadMode::Unsigned,
            Self::Chunked => PayloadMode::ChunkedSigned { seed: seed(), trailer: Trailer::None },
            Self::ChunkedTrailer => PayloadMode::ChunkedSigned { seed: seed(), trailer: Trailer::Signed },
            Self::ChunkedUnsignedTrailer => PayloadMode::ChunkedUnsignedTrailer,
        }
    }
}
