//! A client's byte stream with bounds on standing still, closed so that the last response arrives.
//!
//! Closing a socket that still holds unread bytes makes the system send a reset, and a client that gets one may throw
//! away the response that explains why its upload was refused. So where a request was left unread, a close first ends
//! the sending direction, then reads and drops what the client still sends, for a short time.

use ashlar_runtime::{Clock, Connection, clock::Sleep};
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How long, and how much, a client may go on sending after the last response.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
const LINGER_LEN_MAX: usize = 16 << 20;

#[derive(Debug)]
enum Closing {
    /// Open in both directions.
    No,
    Sending,
    Lingering {
        read_bytes: usize,
    },
}

pub(super) struct ClientStream {
    inner: Box<dyn Connection>,
    clock: Arc<dyn Clock>,
    write_idle_max: Duration,
    /// Runs while a write stands still.
    write_deadline: Option<Sleep>,
    /// A request was answered before it was read to its end.
    unread: Arc<AtomicBool>,
    closing: Closing,
    linger_deadline: Option<Sleep>,
}

impl ClientStream {
    pub(super) fn new(
        inner: Box<dyn Connection>,
        clock: Arc<dyn Clock>,
        write_idle_max: Duration,
        unread: Arc<AtomicBool>,
    ) -> Self {
        Self {
            inner,
            clock,
            write_idle_max,
            write_deadline: None,
            unread,
            closing: Closing::No,
            linger_deadline: None,
        }
    }

    /// Passes a write's outcome on, but ends one that stands still for too long.
    fn bound<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_deadline = None;
            return outcome;
        }
        let (clock, limit) = (&self.clock, self.write_idle_max);
        let deadline = self.write_deadline.get_or_insert_with(|| clock.sleep(limit));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")))
    }

    /// Ready when the client has closed, or may not send any more.
    fn poll_linger(&mut self, cx: &mut Context<'_>, read_bytes: &mut usize) -> Poll<()> {
        let clock = &self.clock;
        let deadline = self.linger_deadline.get_or_insert_with(|| clock.sleep(LINGER_TIME_MAX));
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [0; 8 << 10];
        while *read_bytes < LINGER_LEN_MAX {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => *read_bytes += buf.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bound(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bound(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.bound(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match this.closing {
                Closing::No => this.closing = Closing::Sending,
                Closing::Sending => {
                    let outcome = Pin::new(&mut this.inner).poll_shutdown(cx);
                    ready!(this.bound(cx, outcome))?;
                    if !this.unread.load(Ordering::Relaxed) {
                        return Poll::Ready(Ok(()));
                    }
                    this.closing = Closing::Lingering { read_bytes: 0 };
                }
                Closing::Lingering { mut read_bytes } => {
                    let lingered = this.poll_linger(cx, &mut read_bytes);
                    this.closing = Closing::Lingering { read_bytes };
                    return lingered.map(Ok);
                }
            }
        }
    }
}
