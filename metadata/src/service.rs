//! The side that is called: hands calls to the replicas of this node.
//!
//! Small calls carry everything but snapshots, which come as a stream of their own. What they carry is in
//! [`crate::calls`].

use crate::{
    calls::{self, Address, Answered, Probed, Proposal, Question, understand},
    encoding::encode,
    node::MetadataNode,
    raft::{
        network::SnapshotHead,
        replica::{Refused, Replica},
        status::Condition,
    },
};
use ashlar_proto::metadata::{
    FetchRequest, SnapshotPiece, SnapshotReply, metadata_service_server::MetadataService,
};
use ashlar_rpc::{CallHandler, Caller, Method};
use ashlar_types::{GroupId, WriteEpoch};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use std::{
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};
use tonic::{Request, Response, Status, Streaming};

/// Weak: connections outlive the node they serve.
#[derive(Clone, Debug)]
pub(crate) struct Service(pub(crate) Weak<MetadataNode>);

impl Service {
    fn node(&self) -> Result<Arc<MetadataNode>, Status> {
        self.0.upgrade().ok_or_else(|| Status::unavailable("the node shuts down"))
    }

    fn replica(&self, group: GroupId) -> Result<Option<Arc<Replica>>, Status> {
        Ok(self.node()?.replica(group))
    }

    /// The replica that is meant, under the incarnation that is meant.
    fn target(&self, address: Address) -> Result<Arc<Replica>, Status> {
        let Address { group, raft_id } = address;
        let found = self.replica(group)?.filter(|replica| replica.id.raft_id() == raft_id);
        found.ok_or_else(|| {
            Status::not_found(format!("this node has no replica {raft_id:x} of group {group}"))
        })
    }

    async fn raft(&self, method: Method, payload: Bytes) -> Result<Bytes, Status> {
        let (address, message) = Address::take(payload)?;
        let answer = self.target(address)?.message(method, &message).await;
        answer.map(Bytes::from).ok_or_else(|| Status::unavailable("the replica cannot answer"))
    }

    async fn read_index(&self, payload: Bytes) -> Result<Bytes, Status> {
        let replica = self.target(Address::take(payload)?.0)?;
        let index = replica.read_index().await;
        Ok(answered(Some(&replica), index))
    }

    async fn propose(&self, payload: Bytes) -> Result<Bytes, Status> {
        let Proposal { group, request, command } = understand(&payload)?;
        let replica = self.replica(group)?;
        let outcome = match &replica {
            Some(replica) => replica.propose_sized(request, command, payload.len()).await,
            None => Err(Refused::NotLeader(None)),
        };
        Ok(answered(replica.as_deref(), outcome))
    }

    async fn query(&self, payload: Bytes) -> Result<Bytes, Status> {
        let Question { group, query } = understand(&payload)?;
        let replica = self.replica(group)?;
        let answer = match &replica {
            Some(replica) => replica.query(query).await,
            None => Err(Refused::NotLeader(None)),
        };
        Ok(answered(replica.as_deref(), answer))
    }

    async fn probe(&self, payload: Bytes) -> Result<Bytes, Status> {
        let (address, asker) = Address::take(payload)?;
        let (replica, asker) = (self.target(address)?, understand::<u64>(&asker)?);
        let asker_votes = replica.status().voters.iter().any(|voter| voter.raft_id() == asker);
        let probed = Probed { initialized: replica.is_initialized().await, asker_votes };
        Ok(Bytes::from(encode(&probed)))
    }
}

fn answered<T: Serialize>(replica: Option<&Replica>, result: Result<T, Refused>) -> Bytes {
    let write_epoch = replica.map_or(WriteEpoch(0), |replica| replica.state().group_state().write_epoch);
    Bytes::from(encode(&Answered { write_epoch, reply: result.into() }))
}

#[async_trait]
impl CallHandler for Service {
    async fn call(
        &self,
        _caller: Option<Caller>,
        method: Method,
        payload: Bytes,
        _limit: Duration,
    ) -> Result<Bytes, Status> {
        match method {
            calls::APPEND | calls::VOTE | calls::PRE_VOTE | calls::TRANSFER_LEADER => {
                self.raft(method, payload).await
            }
            calls::READ_INDEX => self.read_index(payload).await,
            calls::PROPOSE => self.propose(payload).await,
            calls::QUERY => self.query(payload).await,
            calls::PROBE => self.probe(payload).await,
            calls::CLOCK => Ok(Bytes::from(encode(&self.node()?.env().clock.wall()))),
            Method(_) => Err(Status::unimplemented("no such call")),
        }
    }
}

#[async_trait]
impl MetadataService for Service {
    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotPiece>>,
    ) -> Result<Response<SnapshotReply>, Status> {
        let mut pieces = request.into_inner();
        let first = pieces.message().await?.ok_or_else(|| Status::invalid_argument("no pieces"))?;
        let replica = self.target(Address { group: GroupId(first.group), raft_id: first.target })?;
        let head: SnapshotHead = understand(&first.head)?;
        let full = |error: std::io::Error| Status::resource_exhausted(error.to_string());
        let mut spool = replica.spool().await.map_err(full)?;
        loop {
            let Some(SnapshotPiece { data, last, .. }) = pieces.message().await? else {
                return Err(Status::aborted("the snapshot was cut"));
            };
            if last {
                break;
            }
            spool = replica.spool_piece(spool, data).await.map_err(full)?;
        }
        match replica.install(head, spool).await {
            Some(reply) => Ok(Response::new(SnapshotReply { payload: Bytes::from(reply) })),
            None => Err(Status::unavailable("the replica cannot answer")),
        }
    }

    type FetchSnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotPiece, Status>> + Send>>;

    async fn fetch_snapshot(
        &self,
        request: Request<FetchRequest>,
    ) -> Result<Response<Self::FetchSnapshotStream>, Status> {
        let FetchRequest { group, asker } = request.into_inner();
        let node = self.node()?;
        let replica = node.replica(GroupId(group)).filter(|replica| replica.id.raft_id() != asker);
        let sound = replica.filter(|replica| replica.status().condition == Condition::Sound);
        let replica = sound.ok_or_else(|| Status::not_found("no sound replica of the group"))?;
        let snapshot = replica.dump().await.map_err(|error| Status::aborted(error.to_string()))?;
        tracing::info!(group, asker = format_args!("{asker:x}"), "sends its tables to another replica");
        // Each piece is read when the one before it was taken.
        let pieces = futures_util::stream::unfold(Some((replica, snapshot)), |left| async move {
            let (replica, snapshot) = left?;
            let piece = |data: Vec<u8>, last| {
                Ok(SnapshotPiece { group: 0, target: 0, head: Bytes::new(), data: Bytes::from(data), last })
            };
            Some(match replica.next_piece(snapshot).await {
                Ok((snapshot, Some(data))) => (piece(data, false), Some((replica, snapshot))),
                Ok((_, None)) => (piece(Vec::new(), true), None),
                Err(error) => (Err(Status::aborted(error.to_string())), None),
            })
        });
        Ok(Response::new(Box::pin(pieces)))
    }
}
