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

/// What is known about a request; writes itself when dropped.
pub(crate) struct AccessRecord {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) node: Arc<str>,
    pub(crate) request_id: String,
    pub(crate) method: Method,
    /// `None`: refused before it was known.
    pub(crate) operation: Option<Operation>,
    pub(crate) status: StatusCode,
    /// Of the monotonic clock.
    pub(crate) started: Duration,
    sent_bytes: u64,
    end: End,
}

impl AccessRecord {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        node: Arc<str>,
        request_id: String,
        method: Method,
        operation: Option<Operation>,
        status: StatusCode,
        started: Duration,
    ) -> Self {
        Self { clock, node, request_id, method, operation, status, started, sent_bytes: 0, end: End::Cut }
    }

    pub(crate) fn sent(&mut self, len: usize) {
        self.sent_bytes += len as u64;
    }

    pub(crate) fn finish(&mut self) {
        self.end = End::Whole;
    }

    pub(crate) fn fail(&mut self, error: &ResponseError) {
        self.end = End::Failed;
        warn!(request_id = %self.request_id, ?error, "a response was cut off: the connection is aborted");
    }
}

impl Drop for AccessRecord {
    fn drop(&mut self) {
        let duration = self.clock.monotonic().saturating_sub(self.started);
        let operation = self.operation.map_or("Unknown", Operation::name);
        info!(
            target: "ashlar::access",
            request_id = %self.request_id,
            method = %self.method,
            operation,
            status = self.status.as_u16(),
            sent_bytes = self.sent_bytes,
            end = ?self.end,
            duration_us = duration.as_micros(),
        );
        metrics::request(&self.node, operation, self.status, self.sent_bytes, duration);
    }
}
