//! The body of a write on its way in.
//!
//! Owns its framing: length, end and trailers. Does not hash (see `rows`) and does not judge digests (see `digests`).

use ashlar_types::{BodyError, BodyFrame, BodyStream, ObjectError, ReadStream, limits::PUT_MAX_LEN};
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use std::pin::Pin;

type Frames = Pin<Box<dyn Stream<Item = Result<BodyFrame, ObjectError>> + Send>>;

pub(crate) struct Intake {
    frames: Frames,
    /// What the client declared.
    len: Option<u64>,
    /// Bytes received from the client, those of `front` and `waiting` included.
    received: u64,
    /// Given back: comes before `waiting`.
    front: Bytes,
    waiting: Bytes,
    ended: bool,
    trailers: Vec<(String, String)>,
}

impl Intake {
    pub(crate) fn from_body(body: BodyStream, len: Option<u64>) -> Result<Self, ObjectError> {
        Self::new(Box::pin(body.map(|frame| frame.map_err(ObjectError::Body))), len)
    }

    /// The bytes of another object. What ends them early is the reader's error.
    pub(crate) fn from_read(body: ReadStream, len: u64) -> Result<Self, ObjectError> {
        Self::new(Box::pin(body.map(|bytes| bytes.map(BodyFrame::Data))), Some(len))
    }

    fn new(frames: Frames, len: Option<u64>) -> Result<Self, ObjectError> {
        if len.is_some_and(|len| len > PUT_MAX_LEN) {
            return Err(ObjectError::EntityTooLarge);
        }
        Ok(Self {
            frames,
            len,
            received: 0,
            front: Bytes::new(),
            waiting: Bytes::new(),
            ended: false,
            trailers: Vec::new(),
        })
    }

    /// Declared length of the body.
    pub(crate) fn len(&self) -> Option<u64> {
        self.len
    }

    pub(crate) fn trailers(&self) -> &[(String, String)] {
        &self.trailers
    }

    /// Reads until `out` is full or the body ends; fewer bytes than asked for mean its end. Not cancel-safe: bytes
    /// in `out` are lost.
    pub(crate) async fn fill(&mut self, out: &mut [u8]) -> Result<usize, ObjectError> {
        let mut filled = take(&mut self.front, out);
        while filled < out.len() {
            if self.waiting.is_empty() && !self.receive().await? {
                break;
            }
            filled += take(&mut self.waiting, &mut out[filled..]);
        }
        Ok(filled)
    }

    /// Gives bytes back that were read from the front of the body.
    pub(crate) fn put_back(&mut self, front: Bytes) {
        assert!(self.front.is_empty(), "bytes are given back once");
        self.front = front;
    }

    /// Reads to the end after as many bytes as were declared; there must be no more.
    pub(crate) async fn end(&mut self) -> Result<(), ObjectError> {
        if !self.front.is_empty() || !self.waiting.is_empty() || self.receive().await? {
            return Err(BodyError::TooLong.into());
        }
        Ok(())
    }

    /// Puts the next bytes into `waiting`; `false` at the end.
    async fn receive(&mut self) -> Result<bool, ObjectError> {
        while !self.ended {
            match self.frames.next().await {
                Some(Ok(BodyFrame::Data(bytes))) => {
                    self.received += bytes.len() as u64;
                    if self.len.is_some_and(|len| self.received > len) {
                        return Err(BodyError::TooLong.into());
                    }
                    if self.received > PUT_MAX_LEN {
                        return Err(ObjectError::EntityTooLarge);
                    }
                    if !bytes.is_empty() {
                        self.waiting = bytes;
                        return Ok(true);
                    }
                }
                Some(Ok(BodyFrame::Trailers(trailers))) => self.trailers = trailers,
                Some(Err(error)) => return Err(error),
                None => {
                    self.ended = true;
                    if self.len.is_some_and(|len| self.received < len) {
                        return Err(BodyError::Incomplete.into());
                    }
                }
            }
        }
        Ok(false)
    }
}

/// Moves as many bytes as fit.
fn take(from: &mut Bytes, out: &mut [u8]) -> usize {
    let len = from.len().min(out.len());
    out[..len].copy_from_slice(&from[..len]);
    from.advance(len);
    len
}
