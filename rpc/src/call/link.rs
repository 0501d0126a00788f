//! The caller's end of a stream of small calls.
//!
//! A link is made by the first call and ends with its stream; the next call makes another one. Calls are queued here
//! until the connection takes them, so a call that is withdrawn or runs out of time before that was never sent.

use super::{HELLO, NotBegun, check_hello, result_of};
use crate::{MAX_MESSAGE_BYTES, Method, PeerService, refusals::Refusals, tuning::FRAME_HEAD_BYTES};
use ashlar_proto::call::{self as wire, call_frame, call_service_client::CallServiceClient, reply_frame};
use ashlar_runtime::{Clock, ClockExt, Env, TaskHandle, sync::Mutex};
use bytes::Bytes;
use futures_core::Stream;
use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::sync::oneshot;
use tonic::{Code, Status, Streaming};

/// Calls that a connection has not taken yet: more means that it is stuck, and waiting would not help.
const QUEUED_CALLS_MAX: usize = 4096;
const QUEUED_BYTES_MAX: usize = 4 * MAX_MESSAGE_BYTES;

#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    /// Dropping the link ends its stream and all calls on it.
    _stream: TaskHandle,
}

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    address: String,
    refusals: Arc<Refusals>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    calls: BTreeMap<u64, Waiting>,
    /// Ids in the order of the calls; those that are no longer in `calls` are skipped.
    queue: VecDeque<u64>,
    queued_bytes: usize,
    /// Sent calls that nobody waits for any more.
    withdrawn: VecDeque<u64>,
    greeted: bool,
    ended: bool,
    sender: Option<Waker>,
}

#[derive(Debug)]
struct Waiting {
    reply: oneshot::Sender<Result<Bytes, Status>>,
    /// `None`: sent.
    unsent: Option<Unsent>,
}

#[derive(Debug)]
struct Unsent {
    method: Method,
    payload: Bytes,
    map_epoch: u64,
    deadline: Duration,
}

impl State {
    fn has_room(&mut self, len: usize) -> bool {
        if self.queue.len() >= QUEUED_CALLS_MAX {
            let calls = &self.calls;
            self.queue.retain(|id| calls.contains_key(id));
        }
        self.queue.len() < QUEUED_CALLS_MAX && self.queued_bytes + len <= QUEUED_BYTES_MAX
    }
}

/// The link's stream has ended; the call is given back.
pub(crate) struct Ended(pub(crate) Bytes);

impl Link {
    /// `address` and `refusals`: for what is said when the peer refuses the stream.
    pub(crate) fn open(env: &Env, service: PeerService, address: &str, refusals: Arc<Refusals>) -> Self {
        let shared = Arc::new(Shared {
            clock: Arc::clone(&env.clock),
            address: address.to_owned(),
            refusals,
            state: Mutex::default(),
        });
        let stream = env.tasks.spawn("rpc-calls", run(Arc::clone(&shared), service));
        Self { shared, _stream: stream }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.shared.lock().ended
    }

    /// Cancel-safe: dropped, the call is withdrawn.
    pub(crate) async fn call(
        &self,
        method: Method,
        payload: Bytes,
        map_epoch: u64,
        limit: Duration,
    ) -> Result<Result<Bytes, Status>, Ended> {
        let (ticket, replied) = match self.shared.enqueue(method, payload, map_epoch, limit)? {
            Ok(queued) => queued,
            Err(full) => return Ok(Err(full)),
        };
        match self.shared.clock.timeout(limit, replied).await {
            Ok(Ok(result)) => Ok(result),
            // Dropped without an answer: it was never sent, or the link has ended in a way that told nobody.
            Ok(Err(_)) => Ok(Err(Status::unavailable("the connection was closed"))),
            Err(elapsed) => {
                let status = Status::deadline_exceeded(elapsed.to_string());
                Ok(Err(if ticket.withdraw() { status } else { NotBegun::NotSent.mark(status) }))
            }
        }
    }
}

type Queued<'a> = (Ticket<'a>, oneshot::Receiver<Result<Bytes, Status>>);

/// Withdraws its call when dropped; nothing happens to one that was answered.
struct Ticket<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Ticket<'_> {
    /// Whether the call may have been sent.
    fn withdraw(&self) -> bool {
        let mut state = self.shared.lock();
        let Some(waiting) = state.calls.remove(&self.id) else { return true };
        if let Some(unsent) = waiting.unsent {
            state.queued_bytes -= unsent.payload.len();
            return false;
        }
        if !state.ended {
            state.withdrawn.push_back(self.id);
        }
        let waker = state.sender.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(
        &self,
        method: Method,
        payload: Bytes,
        map_epoch: u64,
        limit: Duration,
    ) -> Result<Result<Queued<'_>, Status>, Ended> {
        let mut state = self.lock();
        if state.ended {
            return Err(Ended(payload));
        }
        if !state.has_room(payload.len()) {
            let full = Status::resource_exhausted("too many calls wait for the peer");
            return Ok(Err(NotBegun::NotSent.mark(full)));
        }
        let id = state.next;
        state.next += 1;
        state.queued_bytes += payload.len();
        let deadline = self.clock.monotonic().saturating_add(limit);
        let unsent = Unsent { method, payload, map_epoch, deadline };
        let (reply, replied) = oneshot::channel();
        state.calls.insert(id, Waiting { reply, unsent: Some(unsent) });
        state.queue.push_back(id);
        let waker = state.sender.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(Ok((Ticket { shared: self, id }, replied)))
    }

    /// Fails all calls that are not answered yet, each with what is known of it.
    fn end(&self, status: &Status) {
        let mut state = self.lock();
        state.ended = true;
        let calls = std::mem::take(&mut state.calls);
        state.queue.clear();
        state.queued_bytes = 0;
        drop(state);
        for waiting in calls.into_values() {
            let status = match waiting.unsent {
                // A status that tells by itself why there was no connection is more telling than our mark.
                Some(_) if !crate::never_sent(status) => NotBegun::NotSent.mark(status.clone()),
                Some(_) | None => status.clone(),
            };
            // Whoever waited may have gone meanwhile.
            let _ = waiting.reply.send(Err(status));
        }
    }

    fn answer(&self, reply: wire::Reply) {
        let waiting = self.lock().calls.remove(&reply.id);
        if let Some(waiting) = waiting {
            // Whoever waited may have gone meanwhile.
            let _ = waiting.reply.send(result_of(reply));
        }
    }
}

async fn run(shared: Arc<Shared>, service: PeerService) {
    let mut client = CallServiceClient::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES + FRAME_HEAD_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES + FRAME_HEAD_BYTES);
    let status = match client.calls(Outgoing(Arc::clone(&shared))).await {
        Ok(replies) => receive(&shared, replies.into_inner()).await,
        Err(status) => status,
    };
    shared.end(&status);
}

/// Until the stream ends; why it did.
async fn receive(shared: &Shared, mut replies: Streaming<wire::ReplyFrame>) -> Status {
    loop {
        let frame = match replies.message().await {
            Ok(Some(frame)) => frame.frame,
            Ok(None) => return Status::unavailable("the peer closed the stream"),
            Err(status) if status.code() == Code::FailedPrecondition => {
                shared.refusals.told_by(&shared.address, status.message());
                return status;
            }
            Err(status) => {
                return Status::unavailable(format!("the connection broke: {}", status.message()));
            }
        };
        match frame {
            Some(reply_frame::Frame::Reply(reply)) => shared.answer(reply),
            Some(reply_frame::Frame::Hello(hello)) => {
                if let Err(status) = check_hello(hello) {
                    shared.refusals.refused_peer(&shared.address, status.message());
                    return status;
                }
            }
            // Of a newer version that counts on being ignored.
            None => {}
        }
    }
}

/// What the connection takes frames from, one after the other.
#[derive(Debug)]
struct Outgoing(Arc<Shared>);

impl Stream for Outgoing {
    type Item = wire::CallFrame;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<wire::CallFrame>> {
        let mut state = self.0.lock();
        let frame = |frame| Poll::Ready(Some(wire::CallFrame { frame: Some(frame) }));
        if state.ended {
            return Poll::Ready(None);
        }
        if !state.greeted {
            state.greeted = true;
            return frame(call_frame::Frame::Hello(HELLO));
        }
        if let Some(id) = state.withdrawn.pop_front() {
            return frame(call_frame::Frame::Cancel(wire::Cancel { id }));
        }
        while let Some(id) = state.queue.pop_front() {
            let Some(unsent) = state.calls.get_mut(&id).and_then(|waiting| waiting.unsent.take()) else {
                continue;
            };
            state.queued_bytes -= unsent.payload.len();
            let left = unsent.deadline.saturating_sub(self.0.clock.monotonic());
            return frame(call_frame::Frame::Call(wire::Call {
                id,
                method: u32::from(unsent.method.0),
                limit_us: u64::try_from(left.as_micros()).unwrap_or(u64::MAX),
                map_epoch: unsent.map_epoch,
                payload: unsent.payload,
            }));
        }
        state.sender = Some(context.waker().clone());
        Poll::Pending
    }
}
