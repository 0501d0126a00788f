//! The server side of `MetadataService`: hands calls to the replicas of this node.
//!
//! What travels is the encoding of our own types; how replies are built here, the client takes apart in
//! [`crate::client`].

use crate::{
    command::Command,
    encoding::{decode, encode},
    node::MetadataNode,
    query::Query,
    raft::{
        network::SnapshotHead,
        replica::{Refused, Replica},
    },
};
use ashlar_proto::metadata::{
    GroupReply, NotLeader, ProbeReply, ProbeRequest, ProposeRequest, QueryRequest, RaftKind, RaftReply,
    RaftRequest, ReadIndexReply, ReadIndexRequest, SnapshotPiece, group_reply::Reply,
    metadata_service_server::MetadataService,
};
use ashlar_types::{GroupId, RequestId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Weak};
use tonic::{Request, Response, Status, Streaming};

/// What a proposal carries; the leader adds its stamp.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Proposal {
    pub(crate) request: Option<RequestId>,
    pub(crate) command: Command,
}

/// Weak: connections outlive the node they serve.
#[derive(Clone, Debug)]
pub(crate) struct Service(pub(crate) Weak<MetadataNode>);

impl Service {
    fn node(&self) -> Result<Arc<MetadataNode>, Status> {
        self.0.upgrade().ok_or_else(|| Status::unavailable("the node shuts down"))
    }

    /// The replica that is meant, under the incarnation that is meant.
    fn target(&self, group: u32, target: u64) -> Result<Arc<Replica>, Status> {
        let replica = self.node()?.replica(GroupId(group));
        replica
            .filter(|replica| replica.id.raft_id() == target)
            .ok_or_else(|| Status::not_found(format!("this node has no replica {target:x} of group {group}")))
    }
}

#[tonic::async_trait]
impl MetadataService for Service {
    async fn raft(&self, request: Request<RaftRequest>) -> Result<Response<RaftReply>, Status> {
        let RaftRequest { group, target, kind, payload } = request.into_inner();
        let replica = self.target(group, target)?;
        let kind = RaftKind::try_from(kind).unwrap_or(RaftKind::Unspecified);
        match replica.message(kind, &payload).await {
            Some(reply) => Ok(Response::new(RaftReply { payload: Bytes::from(reply) })),
            None => Err(Status::unavailable("the replica cannot answer")),
        }
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotPiece>>,
    ) -> Result<Response<RaftReply>, Status> {
        let mut pieces = request.into_inner();
        let first = pieces.message().await?.ok_or_else(|| Status::invalid_argument("no pieces"))?;
        let replica = self.target(first.group, first.target)?;
        let head: SnapshotHead =
            decode(&first.head).map_err(|error| Status::invalid_argument(error.to_string()))?;
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
            Some(reply) => Ok(Response::new(RaftReply { payload: Bytes::from(reply) })),
            None => Err(Status::unavailable("the replica cannot answer")),
        }
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<GroupReply>, Status> {
        let ProposeRequest { group, proposal } = request.into_inner();
        let Some(replica) = self.node()?.replica(GroupId(group)) else { return Ok(no_replica()) };
        let Proposal { request, command } =
            decode(&proposal).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let outcome = replica.propose(request, command).await;
        reply(&replica, outcome)
    }

    async fn query(&self, request: Request<QueryRequest>) -> Result<Response<GroupReply>, Status> {
        let QueryRequest { group, query } = request.into_inner();
        let Some(replica) = self.node()?.replica(GroupId(group)) else { return Ok(no_replica()) };
        let query: Query = decode(&query).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let answer = replica.query(query).await;
        reply(&replica, answer)
    }

    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexReply>, Status> {
        let ReadIndexRequest { group, target } = request.into_inner();
        let reply = match self.target(group, target)?.read_index().await {
            Ok(index) => ReadIndexReply { index: Some(index), leader_node: 0 },
            Err(Refused::NotLeader(leader)) => {
                ReadIndexReply { index: None, leader_node: leader.map_or(0, |leader| leader.0) }
            }
            Err(Refused::Busy) => return Err(Status::resource_exhausted("too many wait for an index")),
            Err(Refused::Unknown(reason)) => return Err(Status::aborted(reason)),
        };
        Ok(Response::new(reply))
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        let ProbeRequest { group, target, asker } = request.into_inner();
        let replica = self.target(group, target)?;
        let asker_votes = replica.status().voters.iter().any(|voter| voter.raft_id() == asker);
        Ok(Response::new(ProbeReply { initialized: replica.is_initialized().await, asker_votes }))
    }
}

fn no_replica() -> Response<GroupReply> {
    let not_leader = NotLeader { leader_node: 0, no_replica: true };
    Response::new(GroupReply { reply: Some(Reply::NotLeader(not_leader)), write_epoch: 0 })
}

fn reply<T: Serialize>(
    replica: &Replica,
    result: Result<T, Refused>,
) -> Result<Response<GroupReply>, Status> {
    let write_epoch = replica.state().group_state().write_epoch.0;
    let reply = match result {
        Ok(done) => Reply::Done(Bytes::from(encode(&done))),
        Err(Refused::NotLeader(leader)) => {
            let leader_node = leader.map_or(0, |leader| leader.0);
            Reply::NotLeader(NotLeader { leader_node, no_replica: false })
        }
        Err(Refused::Busy) => return Err(Status::resource_exhausted("too much waits in the group")),
        Err(Refused::Unknown(reason)) => return Err(Status::aborted(reason)),
    };
    Ok(Response::new(GroupReply { reply: Some(reply), write_epoch }))
}
