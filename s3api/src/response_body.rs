//! The body of a response on its way to the client.
//!
//! Owns the promise of `Content-Length`: a stream that ends early or runs over is an error, which aborts the
//! connection, never a clean end. Pulls one piece at a time, so a slow client slows the reads. Writes the access log
//! when it is dropped, finished or not.

use crate::{access_log::AccessRecord, answer::AnswerBody};
use ashlar_types::{ObjectError, ReadStream};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// Why a response cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    #[error("the object could not be read to its end")]
    Read(#[source] ObjectError),
    #[error("the object ended {missing} bytes early")]
    Short { missing: u64 },
    #[error("the object is longer than announced")]
    Long,
}

/// A response body for hyper.
pub struct ResponseBody {
    content: Content,
    record: AccessRecord,
}

enum Content {
    Bytes(Bytes),
    Stream {
        stream: ReadStream,
        remaining: u64,
    },
    /// Nothing more, ever.
    Done,
}

impl ResponseBody {
    pub(crate) fn new(body: AnswerBody, record: AccessRecord) -> Self {
        let content = match body {
            AnswerBody::Bytes(bytes) if bytes.is_empty() => Content::Done,
            AnswerBody::Bytes(bytes) => Content::Bytes(bytes),
            AnswerBody::Stream { len: 0, .. } | AnswerBody::Withheld { .. } => Content::Done,
            AnswerBody::Stream { stream, len } => Content::Stream { stream, remaining: len },
        };
        let mut body = Self { content, record };
        if matches!(body.content, Content::Done) {
            body.record.finish();
        }
        body
    }

    fn fail(&mut self, error: ResponseError) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        self.content = Content::Done;
        self.record.fail(&error);
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let this = &mut *self;
        let (stream, remaining) = match &mut this.content {
            Content::Done => return Poll::Ready(None),
            Content::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Done;
                this.record.sent(bytes.len());
                this.record.finish();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Content::Stream { stream, remaining } => (stream, remaining),
        };
        loop {
            return match std::task::ready!(stream.as_mut().poll_next(cx)) {
                None => {
                    let missing = *remaining;
                    this.fail(ResponseError::Short { missing })
                }
                Some(Err(error)) => this.fail(ResponseError::Read(error)),
                Some(Ok(piece)) if piece.is_empty() => continue,
                Some(Ok(piece)) => match remaining.checked_sub(piece.len() as u64) {
                    None => this.fail(ResponseError::Long),
                    Some(left) => {
                        *remaining = left;
                        this.record.sent(piece.len());
                        if left == 0 {
                            this.content = Content::Done;
                            this.record.finish();
                        }
                        Poll::Ready(Some(Ok(Frame::data(piece))))
                    }
                },
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Done)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Stream { remaining, .. } => *remaining,
            Content::Done => 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_runtime::RealClock;
    use http::Method;
    use http_body_util::BodyExt;
    use std::sync::Arc;

    fn body(pieces: Vec<Result<&'static str, ObjectError>>, len: u64) -> ResponseBody {
        let record = AccessRecord::new(Arc::new(RealClock::new()), Arc::from(""), String::new(), Method::GET);
        let pieces = pieces.into_iter().map(|piece| piece.map(|text| Bytes::from_static(text.as_bytes())));
        let stream: ReadStream = Box::pin(futures_util::stream::iter(pieces));
        ResponseBody::new(AnswerBody::Stream { stream, len }, record)
    }

    async fn read(pieces: Vec<Result<&'static str, ObjectError>>, len: u64) -> Result<Bytes, ResponseError> {
        body(pieces, len).collect().await.map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn a_stream_of_the_announced_length_is_whole() {
        assert_eq!(read(vec![Ok("ab"), Ok(""), Ok("c")], 3).await.unwrap(), "abc");
        assert_eq!(read(vec![], 0).await.unwrap(), "");
        let mut whole = body(vec![Ok("abc")], 3);
        assert_eq!(whole.size_hint().exact(), Some(3));
        whole.frame().await.unwrap().unwrap();
        assert!(whole.is_end_stream());
    }

    #[tokio::test]
    async fn any_other_end_is_an_error_and_then_nothing() {
        assert!(matches!(read(vec![Ok("ab")], 3).await, Err(ResponseError::Short { missing: 1 })));
        assert!(matches!(read(vec![Ok("ab"), Ok("cd")], 3).await, Err(ResponseError::Long)));
        let failing = || vec![Ok("ab"), Err(ObjectError::Unreadable), Ok("c")];
        assert!(matches!(read(failing(), 3).await, Err(ResponseError::Read(ObjectError::Unreadable))));
        let mut failed = body(failing(), 3);
        failed.frame().await.unwrap().unwrap();
        failed.frame().await.unwrap().unwrap_err();
        assert!(failed.frame().await.is_none());
    }
}
