//! A body as it is: counted, and compared with its SHA-256.

use ashlar_types::{BodyError, BodyFrame};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

#[derive(Debug)]
pub(super) struct PlainDecoder {
    input: Bytes,
    /// `None`: the transport says where the end is.
    remaining: Option<u64>,
    expected: Option<(Sha256, [u8; 32])>,
}

impl PlainDecoder {
    pub(super) fn new(len: Option<u64>, sha256: Option<[u8; 32]>) -> Self {
        Self { input: Bytes::new(), remaining: len, expected: sha256.map(|digest| (Sha256::new(), digest)) }
    }

    pub(super) fn feed(&mut self, input: Bytes) {
        self.input = input;
    }

    pub(super) fn next(&mut self) -> Result<Option<BodyFrame>, BodyError> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let data = std::mem::take(&mut self.input);
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.checked_sub(data.len() as u64).ok_or(BodyError::TooLong)?;
        }
        if let Some((hash, _)) = &mut self.expected {
            hash.update(&data);
        }
        Ok(Some(BodyFrame::Data(data)))
    }

    /// The transport's end is here.
    pub(super) fn end(&mut self) -> Result<Option<BodyFrame>, BodyError> {
        if self.remaining.is_some_and(|remaining| remaining > 0) {
            return Err(BodyError::Incomplete);
        }
        let matches = self.expected.take().is_none_or(|(hash, digest)| hash.finalize().ct_eq(&digest).into());
        if matches { Ok(None) } else { Err(BodyError::ContentSha256) }
    }
}
