//! The gRPC shard service: this node's drives for its peers.
//!
//! Owns no state but the drives and the node's map. Back pressure is HTTP/2's: a put reads the next unit only after
//! the drive's queue took the last, a get reads ahead by a few units.

use crate::{
    drives::{Drives, shard_error},
    shard_wire as convert,
};
use ashlar_datapath::{ShardError, Unit};
use ashlar_placement::ClusterMap;
use ashlar_proto::shard::{
    self as wire, put_frame::Frame, shard_service_server::ShardService as ShardServiceTrait,
};
use ashlar_runtime::{ByteBudget, Env};
use ashlar_storage::{ShardUnit, ShardWriter};
use ashlar_types::{DriveId, ShardMeta};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Units that a get reads ahead of the wire: one on its way, one ready.
const READ_AHEAD_UNITS: usize = 2;
/// Units read from the drive by one call.
pub(crate) const READ_BATCH_UNITS: u32 = 4;

pub struct ShardService {
    pub drives: Drives,
    pub map: watch::Receiver<Arc<ClusterMap>>,
    pub env: Env,
    pub budget: ByteBudget,
}

/// Memory that one open stream may hold: what is read from a drive or waits for it, and what HTTP/2 has in flight.
const STREAM_BYTES: u64 = 512 << 10;

/// Checks at the opening of a shard that the drive holds the slot under the interval the writer saw. A handoff
/// holds no slot of the placement group, so only the interval is checked for drives outside the acting set.
pub fn check_open(map: &ClusterMap, drive: DriveId, meta: &ShardMeta) -> Result<(), ShardError> {
    let Some(pg) = map.pgs.get(&meta.pg) else { return Ok(()) };
    if meta.interval < pg.interval {
        return Err(ShardError::StaleInterval { current: pg.interval });
    }
    if meta.interval > pg.interval {
        // The writer's map is newer than ours; its word counts, the commit decides.
        return Ok(());
    }
    let owns = |slot: usize| {
        pg.slots.get(slot).is_some_and(|slot| slot.current == Some(drive) || slot.next == Some(drive))
    };
    let own_slot = usize::from(meta.id.slot.0);
    let elsewhere = (0..pg.slots.len()).any(|slot| slot != own_slot && owns(slot));
    if elsewhere && !owns(own_slot) { Err(ShardError::NotMine) } else { Ok(()) }
}

fn refuse(error: ShardError) -> Status {
    convert::error_to_wire(&error)
}

/// Units up to Commit, each handed on only after the drive's queue took the one before. Without Commit nothing is kept.
async fn write_frames(mut frames: Streaming<wire::PutFrame>, mut writer: ShardWriter) -> Result<(), Status> {
    loop {
        match frames.message().await?.and_then(|frame| frame.frame) {
            Some(Frame::Unit(unit)) => {
                let Unit { bytes, sum } = convert::unit_from_wire(unit)?;
                let appended = writer.append(ShardUnit { bytes, sum }).await;
                appended.map_err(|error| refuse(shard_error(error)))?;
            }
            Some(Frame::Commit(wire::Commit {})) => {
                return writer.commit().await.map_err(|error| refuse(shard_error(error)));
            }
            // The caller gave up: dropping the writer leaves nothing.
            None => return Err(Status::cancelled("the stream ended without Commit")),
            Some(Frame::Open(_)) => return Err(Status::invalid_argument("a put has one Open")),
        }
    }
}

#[tonic::async_trait]
impl ShardServiceTrait for ShardService {
    type PutStream = ReceiverStream<Result<wire::PutReply, Status>>;
    type GetStream = ReceiverStream<Result<wire::Unit, Status>>;

    async fn put(
        &self,
        request: Request<Streaming<wire::PutFrame>>,
    ) -> Result<Response<Self::PutStream>, Status> {
        let mut frames = request.into_inner();
        let Some(wire::PutFrame { frame: Some(Frame::Open(open)) }) = frames.message().await? else {
            return Err(Status::invalid_argument("a put begins with Open"));
        };
        let drive = DriveId(open.drive);
        let meta = convert::meta(&open.meta)?;
        let memory = self.budget.try_reserve(STREAM_BYTES).map_err(|_| refuse(ShardError::Overloaded))?;
        check_open(&self.map.borrow(), drive, &meta).map_err(refuse)?;
        let store = self.drives.get(drive).map_err(refuse)?;
        let writer = store.put(meta).await.map_err(|error| refuse(shard_error(error)))?;
        // Room for both replies: the task never waits for the caller to read them.
        let (replies, stream) = mpsc::channel(2);
        let reply = |stage: wire::PutStage| Ok(wire::PutReply { stage: stage.into() });
        self.env
            .tasks
            .spawn("shard-put", async move {
                let _memory = memory;
                // A caller that is gone has dropped its frames as well, which ends the writing.
                let _ = replies.send(reply(wire::PutStage::Opened)).await;
                let written = write_frames(frames, writer).await;
                let _ = replies.send(written.and_then(|()| reply(wire::PutStage::Committed))).await;
            })
            // Ends with its frames.
            .detach();
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let request = request.into_inner();
        let shard = convert::shard_id(&request.shard)?;
        let store = self.drives.get(DriveId(request.drive)).map_err(refuse)?.clone();
        let memory = self.budget.try_reserve(STREAM_BYTES).map_err(|_| refuse(ShardError::Overloaded))?;
        // The first batch is read before the answer begins, so that a missing shard is an error and not a stream.
        let mut next = request.first_unit;
        let end = request.end_unit;
        let read = async move |store: &ashlar_storage::DriveStore, from: u32| {
            let to = from.saturating_add(READ_BATCH_UNITS).min(end);
            store.read(shard, from..to).await.map_err(shard_error)
        };
        let first = read(&store, next).await.map_err(refuse)?;
        let (units, stream) = mpsc::channel(READ_AHEAD_UNITS);
        self.env
            .tasks
            .spawn("shard-get", async move {
                let _memory = memory;
                let mut batch = first;
                loop {
                    for unit in batch {
                        next = next.saturating_add(1);
                        let unit = convert::unit_to_wire(Unit { bytes: unit.bytes, sum: unit.sum });
                        if units.send(Ok(unit)).await.is_err() {
                            // The reader has what it wants.
                            return;
                        }
                    }
                    if next >= end {
                        return;
                    }
                    batch = match read(&store, next).await {
                        Ok(batch) if batch.is_empty() => return,
                        Ok(batch) => batch,
                        Err(error) => {
                            // Nobody may be listening any more.
                            let _ = units.send(Err(convert::error_to_wire(&error))).await;
                            return;
                        }
                    };
                }
            })
            // Ends with its stream: sending fails as soon as the call is gone.
            .detach();
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::DeleteReply>, Status> {
        let request = request.into_inner();
        let shards = request.shards.iter().map(|id| convert::shard_id(id)).collect::<Result<Vec<_>, _>>()?;
        let store = self.drives.get(DriveId(request.drive)).map_err(refuse)?;
        store.delete(shards).await.map_err(|error| refuse(shard_error(error)))?;
        Ok(Response::new(wire::DeleteReply {}))
    }

    async fn list(&self, request: Request<wire::ListRequest>) -> Result<Response<wire::ListReply>, Status> {
        let request = request.into_inner();
        let after = match &request.after[..] {
            [] => None,
            id => Some(convert::shard_id(id)?),
        };
        let store = self.drives.get(DriveId(request.drive)).map_err(refuse)?;
        let limit = usize::try_from(request.limit.min(10_000)).expect("bounded");
        let stats = store.list(after, limit).await.map_err(|error| refuse(shard_error(error)))?;
        Ok(Response::new(wire::ListReply { stats: stats.iter().map(convert::encode).collect() }))
    }

    async fn stat(&self, request: Request<wire::StatRequest>) -> Result<Response<wire::StatReply>, Status> {
        let request = request.into_inner();
        let shard = convert::shard_id(&request.shard)?;
        let store = self.drives.get(DriveId(request.drive)).map_err(refuse)?;
        let Some(stat) = store.stat(shard).await.map_err(|error| refuse(shard_error(error)))? else {
            return Ok(Response::new(wire::StatReply::default()));
        };
        let location = store.locate(shard);
        Ok(Response::new(wire::StatReply {
            stat: convert::encode(&stat),
            file: location.as_ref().map(|l| l.path.display().to_string()).unwrap_or_default(),
            offset: location.as_ref().map_or(0, |l| l.offset),
            len: location.as_ref().map_or(0, |l| l.len),
        }))
    }
}
