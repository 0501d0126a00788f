//! One log line and one set of metrics for each request, written when its response ends.
//!
//! Queries and headers are never logged: they carry signatures. Keys are not logged either.

use crate::{metrics, operation::Operation, response_body::ResponseError};
use ashlar_runtime::Clock;
use http::{Method, StatusCode};
use std::{sync::Arc, time::Duration};
use tracing::{info, warn};

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client or the server went away before the last byte.
    Cut,
    /// The object could not be read to its end.
    Failed,
    Whole,
}

/// What is known about a request when its response begins.
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) method: Method,
    /// `None`: refused before it was known.
    pub(crate) operation: Option<Operation>,
    /// Of the monotonic clock.
    pub(crate) started: Duration,
    /// Of the body, as they came over the wire.
    pub(crate) received_bytes: u64,
}

/// Follows a response; writes itself when dropped.
pub(crate) struct AccessRecord {
    clock: Arc<dyn Clock>,
    node: Arc<str>,
    request: Request,
    status: StatusCode,
    sent_bytes: u64,
    end: End,
}

impl AccessRecord {
    pub(crate) fn new(clock: Arc<dyn Clock>, node: Arc<str>, request: Request, status: StatusCode) -> Self {
        Self { clock, node, request, status, sent_bytes: 0, end: End::Cut }
    }

    pub(crate) fn sent(&mut self, len: usize) {
        self.sent_bytes += len as u64;
    }

    pub(crate) fn finish(&mut self) {
        self.end = End::Whole;
    }

    pub(crate) fn fail(&mut self, error: &ResponseError) {
        self.end = End::Failed;
        warn!(request_id = %self.request.id, ?error, "a response was cut off: the connection is aborted");
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let Request { id, method, operation, started, received_bytes } = &self.request;
        let duration = self.clock.monotonic().saturating_sub(*started);
        let operation = operation.map_or("Unknown", Operation::name);
        info!(
            target: "ashlar::access",
            request_id = %id,
            %method,
            operation,
            status = self.status.as_u16(),
            received_bytes,
            sent_bytes = self.sent_bytes,
            end = ?self.end,
            duration_us = duration.as_micros(),
        );
        metrics::request(&self.node, operation, self.status, *received_bytes, self.sent_bytes, duration);
    }
}
