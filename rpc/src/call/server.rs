//! The server's end of a stream of small calls.
//!
//! Each call is a task of its own, so that a slow one holds up no other. When the server shuts down, new calls are
//! refused, those that run are answered, and the stream ends.

use super::{CallTable, HELLO, check_hello, reply_of};
use crate::{
    Caller, MAX_MESSAGE_BYTES,
    refusals::Refusals,
    routes::behind,
    tuning::{CONCURRENT_STREAMS, EPOCH_WAIT_MAX},
};
use ashlar_proto::call::{
    self as wire, call_frame, call_service_server::CallService as CallServiceTrait, reply_frame,
};
use ashlar_runtime::{ClockExt, Env, TaskHandle, sync::Mutex};
use ashlar_types::MapEpoch;
use bytes::Bytes;
use futures_core::Stream;
use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::{Notify, mpsc, watch};
use tonic::{Request, Response, Status, Streaming};

/// Replies that the connection has not taken yet; handlers that are done wait beyond.
const REPLIES: usize = 256;
/// No caller waits longer than this for a small call, whatever it says.
const LIMIT_MAX: Duration = Duration::from_secs(3600);

/// Serves the streams of one connection.
#[derive(Clone, Debug)]
pub(crate) struct CallServer {
    pub(crate) env: Env,
    pub(crate) table: CallTable,
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) refusals: Arc<Refusals>,
    /// Who calls, for the log.
    pub(crate) peer: String,
}

#[tonic::async_trait]
impl CallServiceTrait for CallServer {
    type CallsStream = Replies;

    async fn calls(&self, request: Request<Streaming<wire::CallFrame>>) -> Result<Response<Replies>, Status> {
        let caller = request.extensions().get::<Caller>().copied();
        let (replies, taken) = mpsc::channel(REPLIES);
        // The channel is empty and open: there is room for the first.
        let _ = replies.send(Ok(hello())).await;
        let running = Arc::new(Running::default());
        let reader = Reader { server: self.clone(), caller, running: Arc::clone(&running), replies };
        let reader = self.env.tasks.spawn("rpc-calls", reader.run(request.into_inner()));
        Ok(Response::new(Replies { taken, running, _reader: reader }))
    }
}

fn hello() -> wire::ReplyFrame {
    wire::ReplyFrame { frame: Some(reply_frame::Frame::Hello(HELLO)) }
}

type Frame = Result<wire::ReplyFrame, Status>;

/// What the connection takes replies from. Dropped with the connection, it ends the calls of the stream.
#[derive(Debug)]
pub(crate) struct Replies {
    taken: mpsc::Receiver<Frame>,
    running: Arc<Running>,
    _reader: TaskHandle,
}

impl Stream for Replies {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        self.taken.poll_recv(context)
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.running.calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Calls that are not answered yet.
#[derive(Debug, Default)]
struct Running {
    calls: Mutex<BTreeMap<u64, TaskHandle>>,
    idle: Notify,
}

impl Running {
    fn remove(&self, id: u64) -> Option<TaskHandle> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let call = calls.remove(&id);
        if calls.is_empty() {
            self.idle.notify_one();
        }
        call
    }

    fn len(&self) -> usize {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Takes the frames of one stream.
struct Reader {
    server: CallServer,
    caller: Option<Caller>,
    running: Arc<Running>,
    replies: mpsc::Sender<Frame>,
}

impl Reader {
    async fn run(mut self, mut frames: Streaming<wire::CallFrame>) {
        if let Err(refusal) = greet(&mut frames).await {
            self.server.refusals.told_to(&self.server.peer, refusal.message());
            // The caller may have gone.
            let _ = self.replies.send(Err(refusal)).await;
            return;
        }
        let mut closing = *self.server.closing.borrow();
        while !(closing && self.running.len() == 0) {
            tokio::select! {
                frame = frames.message() => match frame {
                    Ok(Some(frame)) => self.take(frame.frame, closing).await,
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!(%error, "a stream of calls ended");
                        return;
                    }
                },
                // An error means that the server is gone, which closes as well.
                _ = self.server.closing.changed(), if !closing => closing = true,
                () = self.running.idle.notified(), if closing => {}
            }
        }
    }

    async fn take(&self, frame: Option<call_frame::Frame>, closing: bool) {
        match frame {
            Some(call_frame::Frame::Call(call)) => {
                let id = call.id;
                if let Err(refusal) = self.begin(call, closing) {
                    let reply = wire::Reply { not_begun: true, ..reply_of(id, Err(refusal)) };
                    send(&self.replies, reply).await;
                }
            }
            // Dropping the handle ends the task.
            Some(call_frame::Frame::Cancel(cancel)) => drop(self.running.remove(cancel.id)),
            // A second hello, or a frame of a newer version that counts on being ignored.
            Some(call_frame::Frame::Hello(_)) | None => {}
        }
    }

    fn begin(&self, call: wire::Call, closing: bool) -> Result<(), Status> {
        if closing {
            return Err(Status::unavailable("the node shuts down"));
        }
        let (method, methods) =
            self.server.table.find(call.method).ok_or_else(|| Status::unimplemented("no such method"))?;
        let (handler, epochs) = (Arc::clone(&methods.handler), methods.epochs.clone());
        let epoch = MapEpoch(call.map_epoch);
        let limit = Duration::from_micros(call.limit_us).min(LIMIT_MAX);
        let (id, caller) = (call.id, self.caller);
        let (replies, clock) = (self.replies.clone(), Arc::clone(&self.server.env.clock));
        // Held until the task is listed, so that it cannot end before.
        let mut calls = self.running.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if calls.len() >= usize::try_from(CONCURRENT_STREAMS).unwrap_or(usize::MAX) {
            return Err(Status::resource_exhausted("too many calls of this node are under way"));
        }
        let running = Arc::downgrade(&self.running);
        let task = self.server.env.tasks.spawn("rpc-call", async move {
            let began = clock.monotonic();
            let waited = match epochs.filter(|epochs| epochs.current() < epoch) {
                None => Ok(()),
                Some(epochs) => {
                    let wait = limit.min(EPOCH_WAIT_MAX);
                    let reached = clock.timeout(wait, epochs.reached(epoch)).await;
                    reached.map_err(|_| behind(&epochs, epoch))
                }
            };
            let reply = match waited {
                Err(behind) => wire::Reply { not_begun: true, ..reply_of(id, Err(behind)) },
                Ok(()) => {
                    let limit = limit.saturating_sub(clock.monotonic().saturating_sub(began));
                    let handling = handler.call(caller, method, call.payload, limit);
                    let result = match clock.timeout(limit, handling).await {
                        Ok(result) => result,
                        Err(elapsed) => Err(Status::deadline_exceeded(elapsed.to_string())),
                    };
                    reply_of(id, bounded(result))
                }
            };
            send(&replies, reply).await;
            if let Some(task) = running.upgrade().and_then(|running| running.remove(id)) {
                // It is this task, and it is at its end.
                task.detach();
            }
        });
        // An id that is used twice ends the call that had it: the peer could not tell their replies apart.
        calls.insert(id, task);
        Ok(())
    }
}

/// The first frame says which versions the caller speaks.
async fn greet(frames: &mut Streaming<wire::CallFrame>) -> Result<(), Status> {
    match frames.message().await?.and_then(|frame| frame.frame) {
        Some(call_frame::Frame::Hello(hello)) => check_hello(hello),
        Some(call_frame::Frame::Call(_) | call_frame::Frame::Cancel(_)) | None => {
            Err(Status::failed_precondition("a stream of calls begins with a hello"))
        }
    }
}

async fn send(replies: &mpsc::Sender<Frame>, reply: wire::Reply) {
    // Nobody listens if the connection is gone.
    let _ = replies.send(Ok(wire::ReplyFrame { frame: Some(reply_frame::Frame::Reply(reply)) })).await;
}

/// A reply that the caller would not take would end all calls of its stream.
fn bounded(result: Result<Bytes, Status>) -> Result<Bytes, Status> {
    match result {
        Ok(payload) if payload.len() > MAX_MESSAGE_BYTES => {
            Err(Status::out_of_range(format!("the reply has {} bytes", payload.len())))
        }
        Err(status) if status.message().len() > MESSAGE_LEN_MAX => {
            Err(Status::new(status.code(), "the reason is too long to be told"))
        }
        Ok(_) | Err(_) => result,
    }
}

/// Of the text of a status; fits what frames have room for beside their payload.
const MESSAGE_LEN_MAX: usize = 2048;
