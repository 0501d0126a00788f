//! Metrics of the S3 front end. Label values come from the operation table and from statuses, never from clients.

use metrics::{counter, gauge, histogram};
use std::{sync::Arc, time::Duration};

/// Requests answered; labels: node, operation, status.
const REQUESTS: &str = "s3_requests_total";
/// Seconds from the head of a request to the end of its response; labels: node, operation.
const SECONDS: &str = "s3_request_seconds";
/// Bytes of response bodies; labels: node, operation.
const SENT: &str = "s3_response_bytes_total";
/// Bytes of request bodies, as they came over the wire; labels: node, operation.
const RECEIVED: &str = "s3_request_bytes_total";
/// Open client connections; label: node.
const CONNECTIONS: &str = "s3_connections";

/// Bytes of the bodies of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

pub(crate) fn request(
    node: &Arc<str>,
    operation: &'static str,
    status: u16,
    bytes: Bytes,
    duration: Duration,
) {
    let status = status.to_string();
    counter!(REQUESTS, "node" => Arc::clone(node), "operation" => operation, "status" => status).increment(1);
    histogram!(SECONDS, "node" => Arc::clone(node), "operation" => operation).record(duration.as_secs_f64());
    counter!(RECEIVED, "node" => Arc::clone(node), "operation" => operation).increment(bytes.received);
    counter!(SENT, "node" => Arc::clone(node), "operation" => operation).increment(bytes.sent);
}

/// Counts an open connection until it is dropped.
pub(crate) struct OpenConnection(Arc<str>);

impl OpenConnection {
    pub(crate) fn new(node: Arc<str>) -> Self {
        gauge!(CONNECTIONS, "node" => Arc::clone(&node)).increment(1);
        Self(node)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!(CONNECTIONS, "node" => Arc::clone(&self.0)).decrement(1);
    }
}
