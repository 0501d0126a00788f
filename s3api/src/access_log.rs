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

/// Stands for the status of a request whose client went away before there was one.
const ABANDONED: u16 = 499;

/// Follows a request from its head to the end of its response; writes itself when dropped, whatever happened.
pub(crate) struct AccessRecord {
    clock: Arc<dyn Clock>,
    node: Arc<str>,
    request_id: String,
    method: Method,
    /// Of the monotonic clock.
    started: Duration,
    /// `None`: refused before it was known.
    pub(crate) operation: Option<Operation>,
    status: u16,
    received_bytes: u64,
    sent_bytes: u64,
    end: End,
}

impl AccessRecord {
    pub(crate) fn new(clock: Arc<dyn Clock>, node: Arc<str>, request_id: String, method: Method) -> Self {
        let started = clock.monotonic();
        Self {
            clock,
            node,
            request_id,
            method,
            started,
            operation: None,
            status: ABANDONED,
            received_bytes: 0,
            sent_bytes: 0,
            end: End::Cut,
        }
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The response begins. `received_bytes`: of the request's body, as they came over the wire.
    pub(crate) fn answer(&mut self, status: StatusCode, received_bytes: u64) {
        self.status = status.as_u16();
        self.received_bytes = received_bytes;
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
            status = self.status,
            received_bytes = self.received_bytes,
            sent_bytes = self.sent_bytes,
            end = ?self.end,
            duration_us = duration.as_micros(),
        );
        metrics::request(
            &self.node,
            operation,
            self.status,
            metrics::Bytes { received: self.received_bytes, sent: self.sent_bytes },
            duration,
        );
    }
}
