//! Drives a decoder with what the connection delivers, and gives up on a connection that delivers nothing.

use super::{chunked::ChunkedDecoder, plain::PlainDecoder};
use ashlar_runtime::{Clock, clock::Sleep};
use ashlar_types::{BodyError, BodyFrame};
use bytes::Bytes;
use futures_core::Stream;
use http_body::Body;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

#[derive(Debug)]
pub(super) enum Decoder {
    Plain(PlainDecoder),
    Chunked(Box<ChunkedDecoder>),
}

impl Decoder {
    /// Only after `next` answered `None`.
    fn feed(&mut self, input: Bytes) {
        match self {
            Self::Plain(decoder) => decoder.feed(input),
            Self::Chunked(decoder) => decoder.feed(input),
        }
    }

    fn next(&mut self) -> Result<Option<BodyFrame>, BodyError> {
        match self {
            Self::Plain(decoder) => decoder.next(),
            Self::Chunked(decoder) => decoder.next(),
        }
    }

    fn end(&mut self) -> Result<Option<BodyFrame>, BodyError> {
        match self {
            Self::Plain(decoder) => decoder.end(),
            Self::Chunked(decoder) => decoder.end(),
        }
    }
}

/// Lifecycle: `decoder` is there until the end or an error was answered; afterwards the stream is over.
pub(super) struct Decoded<B> {
    body: B,
    decoder: Option<Decoder>,
    clock: Arc<dyn Clock>,
    idle: Duration,
    /// Runs while bytes are waited for.
    deadline: Option<Sleep>,
}

impl<B> Decoded<B> {
    pub(super) fn new(body: B, decoder: Decoder, clock: Arc<dyn Clock>, idle: Duration) -> Self {
        Self { body, decoder: Some(decoder), clock, idle, deadline: None }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Decoded<B> {
    /// Bytes of the transport, never none of them; `None` at its end.
    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => {
                        self.deadline = None;
                        return Poll::Ready(Some(Ok(data)));
                    }
                    // Neither empty frames nor the transport's own trailers are progress.
                    Ok(_) | Err(_) => {}
                },
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(BodyError::Disconnected))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let deadline = self.deadline.get_or_insert_with(|| self.clock.sleep(self.idle));
                    return deadline.as_mut().poll(context).map(|()| Some(Err(BodyError::Timeout)));
                }
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Stream for Decoded<B> {
    type Item = Result<BodyFrame, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Put back while there is more to come.
        let Some(mut decoder) = self.decoder.take() else {
            return Poll::Ready(None);
        };
        loop {
            match decoder.next() {
                Ok(Some(frame)) => {
                    self.decoder = Some(decoder);
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match self.poll_input(context) {
                Poll::Ready(Some(Ok(input))) => decoder.feed(input),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(decoder.end().transpose()),
                Poll::Pending => {
                    self.decoder = Some(decoder);
                    return Poll::Pending;
                }
            }
        }
    }
}
