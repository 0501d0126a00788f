//! Small calls: one long-lived stream a peer carries all of them, so that a call costs a frame and not a request.
//!
//! ```text
//! caller   Peers::call -> Link (one a peer): Queued -frame-> Sent -reply-> done
//! server   CallServer (one a stream): frame -> a task of the handler -> reply
//! ```
//!
//! What the payloads mean is the business of the handlers. Invariants:
//!  - a call that has left its link is never sent again; one that has not left it is not carried out, and its status
//!    says so ([`never_sent`](crate::never_sent));
//!  - each call has a deadline, on both sides; a call that nobody waits for is withdrawn;
//!  - what waits on either side is bounded, and more is refused at once rather than queued.

pub(crate) mod link;
pub(crate) mod server;

use crate::{Caller, MapEpochs};
use ashlar_proto::call as wire;
use async_trait::async_trait;
use bytes::Bytes;
use std::{fmt, ops::RangeInclusive, sync::Arc, time::Duration};
use tonic::{Code, Status};

/// Names a small call; each crate that has some owns a range of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(pub u16);

/// Answers small calls. `FAILED_PRECONDITION` and `UNIMPLEMENTED` say that nothing was carried out.
#[async_trait]
pub trait CallHandler: Send + Sync {
    /// `limit`: how long the caller waits; the future is dropped after it, or when the caller has gone.
    async fn call(
        &self,
        caller: Option<Caller>,
        method: Method,
        payload: Bytes,
        limit: Duration,
    ) -> Result<Bytes, Status>;
}

/// Newest and oldest version of what nodes say to each other. Raised by a change that an older node would not read.
pub(crate) const HELLO: wire::Hello = wire::Hello { protocol: 1, protocol_oldest: 1 };

/// Whether the other side's versions and ours overlap.
pub(crate) fn check_hello(theirs: wire::Hello) -> Result<(), Status> {
    if theirs.protocol >= HELLO.protocol_oldest && HELLO.protocol >= theirs.protocol_oldest {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "the peer speaks versions {} to {} of the protocol, this node {} to {}",
        theirs.protocol_oldest, theirs.protocol, HELLO.protocol_oldest, HELLO.protocol
    )))
}

/// Why a call was surely not carried out; the source of such a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotBegun {
    #[error("the call did not leave this node")]
    NotSent,
    #[error("the peer refused the call before it began")]
    Refused,
}

impl NotBegun {
    pub(crate) fn mark(self, mut status: Status) -> Status {
        status.set_source(Arc::new(self));
        status
    }
}

/// Which handler answers which methods.
#[derive(Clone, Default)]
pub(crate) struct CallTable(Arc<Vec<Methods>>);

#[derive(Clone)]
struct Methods {
    range: RangeInclusive<u16>,
    /// As with a service: see [`Routes::map_epoch`](crate::Routes::map_epoch).
    epochs: Option<MapEpochs>,
    handler: Arc<dyn CallHandler>,
}

impl fmt::Debug for CallTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|methods| &methods.range)).finish()
    }
}

impl CallTable {
    pub(crate) fn add(&mut self, range: RangeInclusive<u16>, handler: Arc<dyn CallHandler>) {
        Arc::make_mut(&mut self.0).push(Methods { range, epochs: None, handler });
    }

    pub(crate) fn set_epochs(&mut self, epochs: &MapEpochs) {
        for methods in Arc::make_mut(&mut self.0) {
            methods.epochs = Some(epochs.clone());
        }
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        Arc::make_mut(&mut self.0).extend(other.0.iter().cloned());
    }

    fn find(&self, method: u32) -> Option<(Method, &Methods)> {
        let method = u16::try_from(method).ok()?;
        let methods = self.0.iter().find(|methods| methods.range.contains(&method))?;
        Some((Method(method), methods))
    }
}

fn reply_of(id: u64, result: Result<Bytes, Status>) -> wire::Reply {
    match result {
        Ok(payload) => wire::Reply { id, payload, ..wire::Reply::default() },
        Err(status) => wire::Reply {
            id,
            // Codes of gRPC are small and not negative.
            code: u32::try_from(i32::from(status.code())).unwrap_or_default(),
            message: status.message().to_owned(),
            ..wire::Reply::default()
        },
    }
}

fn result_of(reply: wire::Reply) -> Result<Bytes, Status> {
    if reply.code == 0 {
        return Ok(reply.payload);
    }
    let code = i32::try_from(reply.code).map_or(Code::Unknown, Code::from);
    let status = Status::new(code, reply.message);
    Err(if reply.not_begun { NotBegun::Refused.mark(status) } else { status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_overlap_understand_each_other() {
        let hello = |protocol, protocol_oldest| wire::Hello { protocol, protocol_oldest };
        assert!(check_hello(HELLO).is_ok());
        assert!(check_hello(hello(HELLO.protocol + 1, HELLO.protocol)).is_ok());
        assert!(check_hello(hello(HELLO.protocol + 2, HELLO.protocol + 1)).is_err());
        assert!(check_hello(hello(HELLO.protocol_oldest - 1, 0)).is_err());
    }

    #[test]
    fn a_status_comes_back_as_it_was_given() {
        let back = |result| result_of(reply_of(1, result));
        assert_eq!(back(Ok(Bytes::from_static(b"x"))).unwrap(), "x");
        let refused = back(Err(Status::resource_exhausted("full"))).unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "full"));
        assert!(!crate::never_sent(&refused));
        let reply = wire::Reply { not_begun: true, ..reply_of(1, Err(Status::aborted("no"))) };
        assert!(crate::never_sent(&result_of(reply).unwrap_err()));
    }
}
