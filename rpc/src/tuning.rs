//! Numbers of HTTP/2 that both ends share.

use std::time::Duration;

/// The 16 KiB default frame halves the throughput of bulk bodies; the receiver announces it, so both ends set it.
pub(crate) const FRAME_BYTES: u32 = 256 * 1024;

/// Larger windows gain nothing for bulk and cost small calls latency.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// A peer that vanished without closing its sockets is noticed after the sum of both.
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection within one site is there in milliseconds or not at all.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A handshake is one round trip and a millisecond of arithmetic; on a busy machine it waits its turn.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that are read from a secured connection at once, and that wait encrypted to be written.
pub(crate) const TLS_BUFFER_BYTES: usize = 256 * 1024;

/// Connections for bulk bodies to each peer, so that one busy flow-control window does not stall the next body.
pub(crate) const BULK_CONNECTIONS: u8 = 2;

/// Calls in flight on one connection before the peer has to wait.
pub(crate) const CONCURRENT_STREAMS: u32 = 4096;

/// How long a server that shuts down waits for calls in flight.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A map reaches all nodes within a heartbeat or two; who does not have it by then is cut off from it.
pub(crate) const EPOCH_WAIT_MAX: Duration = Duration::from_secs(5);

/// The largest message that services and clients should accept: a batch of log entries with inline objects.
pub const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// Room beside the payload in a frame of a small call: ids, limits and the text of a status.
pub(crate) const FRAME_HEAD_BYTES: usize = 4096;
