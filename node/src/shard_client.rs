//! Drives as the data path reaches them: local ones by call, remote ones by gRPC.

use crate::{
    drives::{Drives, shard_error},
    health::Health,
    shard_service::{READ_BATCH_UNITS, check_open},
    shard_wire as convert,
};
use ashlar_datapath::{ShardError, ShardIo, ShardSink, ShardSource, Unit};
use ashlar_placement::ClusterMap;
use ashlar_proto::shard::{self as wire, put_frame::Frame, shard_service_client::ShardServiceClient};
use ashlar_rpc::{Class, MAX_MESSAGE_BYTES, PeerService, Peers, request as request_within};
use ashlar_runtime::{ClockExt, Env, TaskHandle};
use ashlar_storage::{DriveStore, ShardUnit, ShardWriter, UnitRead};
use ashlar_types::{DriveId, NodeId, ShardId, ShardMeta, ShardStat};
use async_trait::async_trait;
use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Units on their way to a remote drive besides what HTTP/2 holds.
const PUT_QUEUE_UNITS: usize = 2;
/// A single call that moves no payload; longer means the node is gone.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// A unit that takes longer is taken for lost, and its stripe rebuilt from others.
const UNIT_TIMEOUT: Duration = Duration::from_secs(10);
/// The final flush of a shard; the data path's straggler rule is what usually ends the wait.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct ShardClient {
    pub drives: Drives,
    pub map: watch::Receiver<Arc<ClusterMap>>,
    pub peers: Peers,
    pub health: Health,
    pub env: Env,
}

/// Where a drive is.
enum Place<'a> {
    Here(&'a DriveStore),
    There(NodeId, ShardServiceClient<PeerService>),
}

/// Which connection a call takes.
#[derive(Clone, Copy, Debug)]
enum Size {
    Small,
    Bulk,
}

/// Position of a shard on its drive, for `explain`.
#[derive(Clone, Debug, Default)]
pub struct Located {
    pub file: String,
    pub offset: u64,
    pub len: u64,
}

impl ShardClient {
    fn place(&self, drive: DriveId, size: Size) -> Result<Place<'_>, ShardError> {
        if let Ok(store) = self.drives.get(drive) {
            return Ok(Place::Here(store));
        }
        let map = self.map.borrow();
        let (node, entry) = map.drive_node(drive).ok_or(ShardError::Unreachable)?;
        let service = match size {
            Size::Small => self.peers.service(&entry.rpc, Class::Small),
            Size::Bulk => self.peers.bulk(&entry.rpc),
        };
        let client = ShardServiceClient::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Place::There(node, client))
    }

    /// A small call with its deadline; an unreachable peer is remembered.
    async fn call<T>(
        &self,
        node: NodeId,
        call: impl Future<Output = Result<tonic::Response<T>, Status>> + Send,
    ) -> Result<T, ShardError> {
        let result = match self.env.clock.timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(convert::error_from_wire(&status)),
            Err(_) => Err(ShardError::Unreachable),
        };
        self.remember(node, result)
    }

    fn remember<T>(&self, node: NodeId, result: Result<T, ShardError>) -> Result<T, ShardError> {
        if matches!(result, Err(ShardError::Unreachable)) {
            self.health.mark_down(node);
        }
        result
    }

    /// The shard's description and where it lies, whether or not its bytes verify.
    pub async fn locate(
        &self,
        drive: DriveId,
        shard: ShardId,
    ) -> Result<Option<(ShardStat, Located)>, ShardError> {
        match self.place(drive, Size::Small)? {
            Place::Here(store) => {
                let stat = store.stat(shard).await.map_err(shard_error)?;
                let location = store.locate(shard).map(|location| Located {
                    file: location.path.display().to_string(),
                    offset: location.offset,
                    len: location.len,
                });
                Ok(stat.map(|stat| (stat, location.unwrap_or_default())))
            }
            Place::There(node, mut client) => {
                let request = wire::StatRequest { drive: drive.0, shard: shard.encode().to_vec().into() };
                let reply = self.call(node, client.stat(request_within(request, CALL_TIMEOUT))).await?;
                if reply.stat.is_empty() {
                    return Ok(None);
                }
                let stat = convert::stat(&reply.stat).map_err(|status| convert::error_from_wire(&status))?;
                Ok(Some((stat, Located { file: reply.file, offset: reply.offset, len: reply.len })))
            }
        }
    }
}

#[async_trait]
impl ShardIo for ShardClient {
    async fn put(&self, drive: DriveId, meta: ShardMeta) -> Result<Box<dyn ShardSink>, ShardError> {
        match self.place(drive, Size::Bulk)? {
            Place::Here(store) => {
                check_open(&self.map.borrow(), drive, &meta)?;
                Ok(Box::new(LocalSink(store.put(meta).await.map_err(shard_error)?)))
            }
            Place::There(node, client) => {
                Ok(Box::new(RemoteSink::open(self, node, client, drive, &meta).await?))
            }
        }
    }

    async fn get(
        &self,
        drive: DriveId,
        shard: ShardId,
        units: Range<u32>,
    ) -> Result<Box<dyn ShardSource>, ShardError> {
        match self.place(drive, Size::Bulk)? {
            Place::Here(store) => {
                let mut source =
                    LocalSource { store: store.clone(), shard, left: units, ready: VecDeque::new() };
                source.fill().await?;
                Ok(Box::new(source))
            }
            Place::There(node, mut client) => {
                let request = wire::GetRequest {
                    drive: drive.0,
                    shard: shard.encode().to_vec().into(),
                    first_unit: units.start,
                    end_unit: units.end,
                };
                let stream = self.call(node, client.get(request_within(request, CALL_TIMEOUT))).await?;
                Ok(Box::new(RemoteSource { stream, env: self.env.clone() }))
            }
        }
    }

    async fn delete(&self, drive: DriveId, shards: Vec<ShardId>) -> Result<(), ShardError> {
        match self.place(drive, Size::Small)? {
            Place::Here(store) => store.delete(shards).await.map_err(shard_error),
            Place::There(node, mut client) => {
                let shards = shards.into_iter().map(|shard| shard.encode().to_vec().into()).collect();
                let request = wire::DeleteRequest { drive: drive.0, shards };
                self.call(node, client.delete(request_within(request, CALL_TIMEOUT)))
                    .await
                    .map(|wire::DeleteReply {}| ())
            }
        }
    }

    async fn list(
        &self,
        drive: DriveId,
        after: Option<ShardId>,
        limit: u32,
    ) -> Result<Vec<ShardStat>, ShardError> {
        match self.place(drive, Size::Small)? {
            Place::Here(store) => {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                store.list(after, limit).await.map_err(shard_error)
            }
            Place::There(node, mut client) => {
                let after = after.map(|shard| shard.encode().to_vec().into()).unwrap_or_default();
                let request = wire::ListRequest { drive: drive.0, after, limit };
                let reply = self.call(node, client.list(request_within(request, CALL_TIMEOUT))).await?;
                let stats = reply.stats.iter().map(|stat| convert::stat(stat)).collect::<Result<_, _>>();
                stats.map_err(|status| convert::error_from_wire(&status))
            }
        }
    }

    async fn stat(&self, drive: DriveId, shard: ShardId) -> Result<Option<ShardStat>, ShardError> {
        self.locate(drive, shard).await.map(|found| found.map(|(stat, _)| stat))
    }

    fn is_usable(&self, drive: DriveId) -> bool {
        self.health.is_usable(&self.map.borrow(), drive)
    }
}

struct LocalSink(ShardWriter);

#[async_trait]
impl ShardSink for LocalSink {
    async fn append(&mut self, unit: Unit) -> Result<(), ShardError> {
        let Unit { bytes, sum } = unit;
        self.0.append(ShardUnit { bytes, sum }).await.map_err(shard_error)
    }

    async fn commit(self: Box<Self>) -> Result<(), ShardError> {
        self.0.commit().await.map_err(shard_error)
    }
}

struct LocalSource {
    store: DriveStore,
    shard: ShardId,
    left: Range<u32>,
    ready: VecDeque<UnitRead>,
}

impl LocalSource {
    async fn fill(&mut self) -> Result<(), ShardError> {
        let end = self.left.start.saturating_add(READ_BATCH_UNITS).min(self.left.end);
        let batch = self.store.read(self.shard, self.left.start..end).await.map_err(shard_error)?;
        self.left.start = end;
        self.ready.extend(batch);
        Ok(())
    }
}

#[async_trait]
impl ShardSource for LocalSource {
    async fn next(&mut self) -> Result<Option<Unit>, ShardError> {
        if self.ready.is_empty() && !self.left.is_empty() {
            self.fill().await?;
        }
        Ok(self.ready.pop_front().map(|unit| Unit { bytes: unit.bytes, sum: unit.sum }))
    }
}

fn is_stage(reply: Option<&wire::PutReply>, stage: wire::PutStage) -> bool {
    reply.is_some_and(|reply| reply.stage() == stage)
}

/// A shard on its way to another node, which has said that its drive takes it. The answer is awaited in a task of its
/// own; this end only fills the queue.
struct RemoteSink {
    frames: mpsc::Sender<wire::PutFrame>,
    result: oneshot::Receiver<Result<(), ShardError>>,
    env: Env,
    /// Aborts the call, and so the shard, when the sink is dropped.
    _call: TaskHandle,
}

impl RemoteSink {
    async fn open(
        client: &ShardClient,
        node: NodeId,
        mut service: ShardServiceClient<PeerService>,
        drive: DriveId,
        meta: &ShardMeta,
    ) -> Result<Self, ShardError> {
        let (frames, stream) = mpsc::channel(PUT_QUEUE_UNITS);
        let (done, result) = oneshot::channel();
        let open = wire::Open { drive: drive.0, meta: convert::encode(meta) };
        let open = wire::PutFrame { frame: Some(Frame::Open(open)) };
        frames.send(open).await.map_err(|_| ShardError::Unreachable)?;
        let mut replies =
            client.call(node, service.put(request_within(ReceiverStream::new(stream), CALL_TIMEOUT))).await?;
        let opened = match client.env.clock.timeout(CALL_TIMEOUT, replies.message()).await {
            Ok(Ok(reply)) if is_stage(reply.as_ref(), wire::PutStage::Opened) => Ok(()),
            Ok(Err(status)) => Err(convert::error_from_wire(&status)),
            Ok(Ok(_)) | Err(_) => Err(ShardError::Unreachable),
        };
        client.remember(node, opened)?;
        let health = client.health.clone();
        let call = client.env.tasks.spawn("shard-put", async move {
            let outcome = match replies.message().await {
                Ok(reply) if is_stage(reply.as_ref(), wire::PutStage::Committed) => Ok(()),
                Ok(_) => Err(ShardError::Unreachable),
                Err(status) => Err(convert::error_from_wire(&status)),
            };
            if matches!(outcome, Err(ShardError::Unreachable)) {
                health.mark_down(node);
            }
            // The sink may be gone; then nobody asks.
            let _ = done.send(outcome);
        });
        Ok(Self { frames, result, env: client.env.clone(), _call: call })
    }

    /// The call has ended while frames were still to come: its own error says why.
    async fn failure(&mut self) -> ShardError {
        match self.env.clock.timeout(CALL_TIMEOUT, &mut self.result).await {
            Ok(Ok(Err(error))) => error,
            Ok(Ok(Ok(())) | Err(_)) | Err(_) => ShardError::Unreachable,
        }
    }
}

#[async_trait]
impl ShardSink for RemoteSink {
    async fn append(&mut self, unit: Unit) -> Result<(), ShardError> {
        let frame = wire::PutFrame { frame: Some(Frame::Unit(convert::unit_to_wire(unit))) };
        match self.env.clock.timeout(UNIT_TIMEOUT, self.frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.failure().await),
            Err(_) => Err(ShardError::Unreachable),
        }
    }

    async fn commit(mut self: Box<Self>) -> Result<(), ShardError> {
        let frame = wire::PutFrame { frame: Some(Frame::Commit(wire::Commit {})) };
        if self.frames.send(frame).await.is_err() {
            return Err(self.failure().await);
        }
        match self.env.clock.timeout(COMMIT_TIMEOUT, &mut self.result).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(ShardError::Unreachable),
        }
    }
}

struct RemoteSource {
    stream: Streaming<wire::Unit>,
    env: Env,
}

#[async_trait]
impl ShardSource for RemoteSource {
    async fn next(&mut self) -> Result<Option<Unit>, ShardError> {
        match self.env.clock.timeout(UNIT_TIMEOUT, self.stream.message()).await {
            Ok(Ok(Some(unit))) => {
                convert::unit_from_wire(unit).map(Some).map_err(|status| convert::error_from_wire(&status))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(status)) => Err(convert::error_from_wire(&status)),
            Err(_) => Err(ShardError::Unreachable),
        }
    }
}
