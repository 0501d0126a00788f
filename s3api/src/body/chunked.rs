//! Decodes `aws-chunked`:
//!
//! ```text
//! body    = chunk* last trailer CRLF
//! chunk   = size [";chunk-signature=" signature] CRLF data CRLF
//! last    = "0"  [";chunk-signature=" signature] CRLF
//! trailer = (name ":" value CRLF)* ["x-amz-trailer-signature:" signature CRLF]
//! ```
//!
//! Signatures are there exactly if [`Proof::Signed`]. A chunk's bytes are passed on while it arrives and verified at
//! its end, so that a chunk needs no memory of its own.

use super::trailer::{Announced, LINE_LEN_MAX, TrailerReader};
use crate::auth::{ChunkSigner, Trailer, decode_signature};
use ashlar_types::{BodyError, BodyFrame};
use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

/// Of a signed chunk: bytes that are passed on before their signature is checked. Unsigned chunks have no such limit;
/// SDKs send a whole object as one.
const SIGNED_CHUNK_LEN_MAX: u64 = 16 << 20;
/// 16 digits, `;chunk-signature=` and 64 digits fit.
const HEADER_LEN_MAX: usize = 128;

/// What proves a body's bytes.
#[derive(Debug)]
pub(super) enum Proof {
    None,
    Signed { signer: ChunkSigner, trailer: Trailer },
}

#[derive(Debug)]
pub(super) struct ChunkedDecoder {
    input: Bytes,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    state: State,
    proof: Proof,
    trailer: Option<TrailerReader>,
    /// Of the declared length.
    remaining: u64,
    /// Of the current chunk.
    hash: Sha256,
}

#[derive(Debug)]
enum State {
    Header,
    Data { remaining: u64, signature: Option<[u8; 32]> },
    DataEnd,
    Trailer,
    End { fields: Vec<(String, String)> },
}

impl ChunkedDecoder {
    pub(super) fn new(len: u64, proof: Proof, announced: Announced) -> Self {
        Self {
            input: Bytes::new(),
            line: Vec::new(),
            state: State::Header,
            proof,
            trailer: Some(TrailerReader::new(announced)),
            remaining: len,
            hash: Sha256::new(),
        }
    }

    pub(super) fn feed(&mut self, input: Bytes) {
        self.input = input;
    }

    /// The next piece. `None`: needs more input.
    pub(super) fn next(&mut self) -> Result<Option<BodyFrame>, BodyError> {
        loop {
            match self.state {
                State::Header => match self.take_line(HEADER_LEN_MAX)? {
                    Some(line) => self.begin_chunk(&line)?,
                    None => return Ok(None),
                },
                State::Data { remaining: 0, signature } => {
                    self.check_chunk(signature)?;
                    self.state = State::DataEnd;
                }
                State::Data { ref mut remaining, signature } => {
                    if self.input.is_empty() {
                        return Ok(None);
                    }
                    let len = usize::try_from(*remaining).unwrap_or(usize::MAX).min(self.input.len());
                    *remaining -= len as u64;
                    let data = self.input.split_to(len);
                    if signature.is_some() {
                        self.hash.update(&data);
                    }
                    return Ok(Some(BodyFrame::Data(data)));
                }
                State::DataEnd => match self.take_line(0)? {
                    Some(_) => self.state = State::Header,
                    None => return Ok(None),
                },
                State::Trailer => match self.take_line(LINE_LEN_MAX)? {
                    Some(line) if line.is_empty() => self.finish_trailer()?,
                    Some(line) => self.trailer.as_mut().ok_or(BodyError::Malformed)?.line(&line)?,
                    None => return Ok(None),
                },
                State::End { .. } if self.input.is_empty() => return Ok(None),
                State::End { .. } => return Err(BodyError::TooLong),
            }
        }
    }

    /// The transport's end is here: the trailers, or what is missing.
    pub(super) fn end(&mut self) -> Result<Option<BodyFrame>, BodyError> {
        match &mut self.state {
            State::End { fields } if fields.is_empty() => Ok(None),
            State::End { fields } => Ok(Some(BodyFrame::Trailers(std::mem::take(fields)))),
            State::Header | State::Data { .. } | State::DataEnd | State::Trailer => {
                Err(BodyError::Incomplete)
            }
        }
    }

    fn begin_chunk(&mut self, line: &[u8]) -> Result<(), BodyError> {
        let (size, signature) = match &self.proof {
            Proof::None => (line, None),
            Proof::Signed { .. } => {
                let at = line.iter().position(|byte| *byte == b';').ok_or(BodyError::Malformed)?;
                let (size, extension) = line.split_at(at);
                let signature = extension.strip_prefix(b";chunk-signature=").ok_or(BodyError::Malformed)?;
                (size, Some(decode_signature(signature).ok_or(BodyError::Signature)?))
            }
        };
        let size = parse_size(size).ok_or(BodyError::Malformed)?;
        if signature.is_some() && size > SIGNED_CHUNK_LEN_MAX {
            return Err(BodyError::Malformed);
        }
        self.remaining = self.remaining.checked_sub(size).ok_or(BodyError::TooLong)?;
        if size > 0 {
            self.state = State::Data { remaining: size, signature };
            return Ok(());
        }
        if self.remaining > 0 {
            return Err(BodyError::Incomplete);
        }
        self.check_chunk(signature)?;
        self.state = State::Trailer;
        Ok(())
    }

    /// At the end of a chunk's bytes.
    fn check_chunk(&mut self, signature: Option<[u8; 32]>) -> Result<(), BodyError> {
        match (&mut self.proof, signature) {
            (Proof::None, None) => Ok(()),
            (Proof::Signed { signer, .. }, Some(signature)) => {
                let digest = self.hash.finalize_reset().into();
                if signer.verify_chunk(&digest, &signature) { Ok(()) } else { Err(BodyError::Signature) }
            }
            (Proof::None, Some(_)) | (Proof::Signed { .. }, None) => Err(BodyError::Malformed),
        }
    }

    fn finish_trailer(&mut self) -> Result<(), BodyError> {
        let trailer = self.trailer.take().ok_or(BodyError::Malformed)?.finish()?;
        let valid = match (&mut self.proof, trailer.signature) {
            (Proof::Signed { signer, trailer: Trailer::Signed }, Some(signature)) => {
                signer.verify_trailer(&trailer.digest, &signature)
            }
            (Proof::Signed { trailer: Trailer::Signed, .. }, None) => false,
            (Proof::None | Proof::Signed { trailer: Trailer::None, .. }, Some(_)) => {
                return Err(BodyError::Malformed);
            }
            (Proof::None | Proof::Signed { trailer: Trailer::None, .. }, None) => true,
        };
        if !valid {
            return Err(BodyError::Signature);
        }
        self.state = State::End { fields: trailer.fields };
        Ok(())
    }

    /// A line without its CRLF, at most `len_max` bytes long. `None`: its end has not arrived.
    fn take_line(&mut self, len_max: usize) -> Result<Option<Vec<u8>>, BodyError> {
        let line_end = self.input.iter().position(|byte| *byte == b'\n');
        let len = line_end.map_or(self.input.len(), |at| at + 1);
        if self.line.len() + len > len_max + 2 {
            return Err(BodyError::Malformed);
        }
        self.line.extend_from_slice(&self.input[..len]);
        self.input.advance(len);
        if line_end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        if !line.ends_with(b"\r\n") {
            return Err(BodyError::Malformed);
        }
        line.truncate(line.len() - 2);
        Ok(Some(line))
    }
}

/// 1 to 16 hexadecimal digits.
fn parse_size(text: &[u8]) -> Option<u64> {
    let text =
        std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u64::from_str_radix(text, 16).ok()
}
