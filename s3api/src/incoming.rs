//! The body of a request, shared between the operation that reads it and the service that drains what is left.
//!
//! Reading the first byte is what makes the server send `100 Continue`, so nothing here reads before it is asked to.

use ashlar_runtime::{Clock, ClockExt};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An unread rest up to this size is read and thrown away to keep the connection; a longer one costs more than a new
/// connection.
const DRAIN_LEN_MAX: u64 = 256 << 10;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// A handle to a request's body; clones share it.
#[derive(Clone)]
pub(crate) struct Incoming(Arc<Mutex<State>>);

struct State {
    body: UnsyncBoxBody<Bytes, BoxError>,
    polled: bool,
    failed: bool,
    read_bytes: u64,
}

/// What became of the rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// The next request follows.
    Whole,
    /// There is more, or there may be: the connection has to be closed.
    Rest,
}

impl Incoming {
    pub(crate) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let body = body.map_err(Into::into).boxed_unsync();
        Self(Arc::new(Mutex::new(State { body, polled: false, failed: false, read_bytes: 0 })))
    }

    /// No panic can happen while the lock is held that leaves the state half-changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that were read, as they came over the wire.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.state().read_bytes
    }

    /// Reads what the operation left. `expects_continue`: the client waits to be asked for the body; asking it only to
    /// throw the body away would be worse than a new connection.
    pub(crate) async fn drain(&self, clock: &dyn Clock, expects_continue: bool) -> Drained {
        {
            let state = self.state();
            if state.body.is_end_stream() {
                // A client that waits to be asked for an empty body is not asked: there is nothing to read. botocore
                // takes that for an early refusal and would send no further body on the connection.
                let unasked = expects_continue && state.read_bytes == 0;
                return if unasked { Drained::Rest } else { Drained::Whole };
            }
            let asked = state.polled || !expects_continue;
            if state.failed || !asked || state.body.size_hint().lower() > DRAIN_LEN_MAX {
                return Drained::Rest;
            }
        }
        let mut body = self.clone();
        let rest = async {
            let limit = body.read_bytes().saturating_add(DRAIN_LEN_MAX);
            while let Some(frame) = body.frame().await {
                if frame.is_err() || body.read_bytes() > limit {
                    return Drained::Rest;
                }
            }
            Drained::Whole
        };
        clock.timeout(DRAIN_TIME_MAX, rest).await.unwrap_or(Drained::Rest)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut state = self.state();
        state.polled = true;
        let frame = std::task::ready!(Pin::new(&mut state.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => state.read_bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => state.failed = true,
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.state().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.state().body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_runtime::RealClock;
    use http_body_util::{Empty, Full, StreamBody};

    async fn drained(body: Incoming, expects_continue: bool) -> Drained {
        body.drain(&RealClock::new(), expects_continue).await
    }

    #[tokio::test]
    async fn small_rests_are_drained_and_large_ones_are_not() {
        let of = |len: u64| Incoming::new(Full::new(Bytes::from(vec![0; usize::try_from(len).unwrap()])));
        assert_eq!(drained(Incoming::new(Empty::new()), false).await, Drained::Whole);
        assert_eq!(drained(of(DRAIN_LEN_MAX), false).await, Drained::Whole);
        let large = of(DRAIN_LEN_MAX + 1);
        assert_eq!(drained(large.clone(), false).await, Drained::Rest);
        assert_eq!(large.read_bytes(), 0, "a body that is known to be too long is not begun");
        let endless = futures_util::stream::repeat_with(|| {
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(&[0; 4096])))
        });
        assert_eq!(drained(Incoming::new(StreamBody::new(endless)), false).await, Drained::Rest);
    }

    #[tokio::test]
    async fn a_client_that_waits_to_be_asked_for_an_empty_body_gets_a_new_connection() {
        assert_eq!(drained(Incoming::new(Empty::new()), true).await, Drained::Rest);
    }

    #[tokio::test]
    async fn a_body_that_was_not_asked_for_is_not_read() {
        let touched = Arc::new(Mutex::new(false));
        let flag = Arc::clone(&touched);
        let stream = futures_util::stream::once(async move {
            *flag.lock().unwrap() = true;
            Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"x")))
        });
        let body = Incoming::new(StreamBody::new(stream));
        assert_eq!(drained(body.clone(), true).await, Drained::Rest);
        assert!(!*touched.lock().unwrap());
        assert_eq!(drained(body, false).await, Drained::Whole);
        assert!(*touched.lock().unwrap());
    }
}
