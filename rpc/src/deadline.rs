//! Deadlines of calls, sent along, so that the server stops too, and held against the clock of this node; and what a
//! failed call tells.

use crate::{ConnectError, call::NotBegun};
use ashlar_runtime::{Clock, ClockExt};
use std::{future::Future, time::Duration};
use tonic::{Code, Request, Response, Status};

pub(crate) const TIMEOUT_HEADER: &str = "grpc-timeout";

/// A request that tells the server how long the caller will wait.
pub fn request<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Waits for a call for at most `limit`; `DEADLINE_EXCEEDED` after it. The call may have been carried out then.
pub async fn call_timeout<T: Send>(
    clock: &dyn Clock,
    limit: Duration,
    call: impl Future<Output = Result<Response<T>, Status>> + Send,
) -> Result<T, Status> {
    match clock.timeout(limit, call).await {
        Ok(reply) => reply.map(Response::into_inner),
        Err(elapsed) => Err(Status::deadline_exceeded(elapsed.to_string())),
    }
}

/// Whether a call failed before it began, so that it surely was not carried out. `false`: not known.
pub fn never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() || error.is::<NotBegun>() {
            return true;
        }
        cause = error.source();
    }
    // Refused by `Routes` or by an interceptor, before a service saw it.
    matches!(status.code(), Code::FailedPrecondition | Code::Unimplemented)
}

/// How long the caller said it would wait, if it did.
pub fn remaining<T>(request: &Request<T>) -> Option<Duration> {
    request.metadata().get(TIMEOUT_HEADER)?.to_str().ok().and_then(parse)
}

/// At most eight digits and a unit, as gRPC over HTTP/2 has it.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_back_as_they_were_sent() {
        for limit in [Duration::from_millis(5), Duration::from_secs(90), Duration::from_secs(3600)] {
            assert_eq!(remaining(&request((), limit)), Some(limit));
        }
        assert_eq!(remaining(&Request::new(())), None);
    }

    #[test]
    fn malformed_timeouts_are_none() {
        for text in ["", "S", "12", "-1S", "+1S", "123456789S", "1s", "1é"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
