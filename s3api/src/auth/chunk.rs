//! The chain of signatures over the chunks and the trailer of a signed `aws-chunked` body
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>).

use super::{credential::SigningKey, hex};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The next link of the chain: each signature covers the one before it, the first one that of the request.
#[derive(Clone, Debug)]
pub struct ChunkSigner {
    key: SigningKey,
    timestamp: String,
    scope: String,
    previous: [u8; 32],
}

impl ChunkSigner {
    pub(super) fn new(key: SigningKey, timestamp: String, scope: String, seed: [u8; 32]) -> Self {
        Self { key, timestamp, scope, previous: seed }
    }

    /// Signs the next chunk, given the SHA-256 of its bytes.
    pub fn sign_chunk(&mut self, digest: &[u8; 32]) -> [u8; 32] {
        let empty = hex::encode(&Sha256::digest(b""));
        self.advance("AWS4-HMAC-SHA256-PAYLOAD", &format!("{empty}\n{}", hex::encode(digest)))
    }

    /// Signs the trailer, given the SHA-256 of its canonical form: `name:value\n` for each field, in order.
    pub fn sign_trailer(&mut self, digest: &[u8; 32]) -> [u8; 32] {
        self.advance("AWS4-HMAC-SHA256-TRAILER", &hex::encode(digest))
    }

    /// Whether `signature` is that of the next chunk. The chain goes on either way; it is of no use after a mismatch.
    #[must_use]
    pub fn verify_chunk(&mut self, digest: &[u8; 32], signature: &[u8; 32]) -> bool {
        self.sign_chunk(digest).ct_eq(signature).into()
    }

    #[must_use]
    pub fn verify_trailer(&mut self, digest: &[u8; 32], signature: &[u8; 32]) -> bool {
        self.sign_trailer(digest).ct_eq(signature).into()
    }

    fn advance(&mut self, kind: &str, digests: &str) -> [u8; 32] {
        let previous = hex::encode(&self.previous);
        let text = format!("{kind}\n{}\n{}\n{previous}\n{digests}", self.timestamp, self.scope);
        self.previous = self.key.sign(text.as_bytes());
        self.previous
    }
}
