//! One try to get an answer from one node.

use crate::{
    command::{Command, Outcome},
    encoding::{decode, encode},
    node::MetadataNode,
    query::{Answer, Query},
    raft::replica::{Refused, Replica},
    service::Proposal,
};
use ashlar_proto::metadata::{
    GroupReply, ProposeRequest, QueryRequest, group_reply::Reply,
    metadata_service_client::MetadataServiceClient,
};
use ashlar_rpc::{Class, MAX_MESSAGE_BYTES, PeerService, call_timeout, never_sent, request};
use ashlar_runtime::ClockExt;
use ashlar_types::{GroupId, NodeId, RequestId, WriteEpoch};
use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tonic::{Code, Response, Status};

/// What came of a try.
#[derive(Debug)]
pub(super) enum Tried<T> {
    Done {
        value: T,
        write_epoch: WriteEpoch,
    },
    /// Surely nothing was done here.
    NotLeader(Option<NodeId>),
    /// Surely nothing was done.
    NotSent,
    /// Surely nothing was done: the node has enough to do.
    Busy,
    /// No answer: a proposal may have been applied or may be yet.
    Unknown,
    /// The node answers with something else than was asked for.
    Malformed,
}

/// A question to a group, of which a replica here and a node elsewhere can be asked.
#[async_trait]
pub(super) trait Ask: Send + Sync + 'static {
    type Answer: DeserializeOwned + Send + 'static;
    /// Whether an attempt without an answer may have changed something.
    const CHANGES: bool;

    async fn here(&self, replica: &Replica) -> Result<Self::Answer, Refused>;

    async fn there(
        &self,
        client: &mut MetadataServiceClient<PeerService>,
        group: GroupId,
        limit: Duration,
    ) -> Result<Response<GroupReply>, Status>;
}

pub(super) struct AskPropose {
    proposal: Proposal,
    encoded: Bytes,
}

impl AskPropose {
    pub(super) fn new(request: Option<RequestId>, command: Command) -> Self {
        let proposal = Proposal { request, command };
        let encoded = Bytes::from(encode(&proposal));
        Self { proposal, encoded }
    }
}

#[async_trait]
impl Ask for AskPropose {
    type Answer = Outcome;
    const CHANGES: bool = true;

    async fn here(&self, replica: &Replica) -> Result<Outcome, Refused> {
        replica.propose(self.proposal.request, self.proposal.command.clone()).await
    }

    async fn there(
        &self,
        client: &mut MetadataServiceClient<PeerService>,
        group: GroupId,
        limit: Duration,
    ) -> Result<Response<GroupReply>, Status> {
        client
            .propose(request(ProposeRequest { group: group.0, proposal: self.encoded.clone() }, limit))
            .await
    }
}

pub(super) struct AskQuery {
    query: Query,
    encoded: Bytes,
}

impl AskQuery {
    pub(super) fn new(query: Query) -> Self {
        let encoded = Bytes::from(encode(&query));
        Self { query, encoded }
    }
}

#[async_trait]
impl Ask for AskQuery {
    type Answer = Answer;
    const CHANGES: bool = false;

    async fn here(&self, replica: &Replica) -> Result<Answer, Refused> {
        replica.query(self.query.clone()).await
    }

    async fn there(
        &self,
        client: &mut MetadataServiceClient<PeerService>,
        group: GroupId,
        limit: Duration,
    ) -> Result<Response<GroupReply>, Status> {
        client.query(request(QueryRequest { group: group.0, query: self.encoded.clone() }, limit)).await
    }
}

/// Asks one node, which may be this one.
pub(super) async fn attempt<A: Ask>(
    ask: &A,
    node: &MetadataNode,
    group: GroupId,
    target: NodeId,
    limit: Duration,
) -> Tried<A::Answer> {
    if node.node() == Some(target) {
        let Some(replica) = node.replica(group) else { return Tried::NotLeader(None) };
        return match node.env().clock.timeout(limit, ask.here(&replica)).await {
            Ok(Ok(value)) => Tried::Done { value, write_epoch: replica.state().group_state().write_epoch },
            Ok(Err(Refused::NotLeader(leader))) => Tried::NotLeader(leader),
            Ok(Err(Refused::Busy)) => Tried::Busy,
            Ok(Err(Refused::Unknown(_))) | Err(_) => Tried::Unknown,
        };
    }
    let address = node.watch_map().borrow().nodes.get(&target).map(|node| node.rpc.clone());
    let Some(address) = address else { return Tried::NotSent };
    let mut client = MetadataServiceClient::new(node.peers().service(&address, Class::Small))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let call = ask.there(&mut client, group, limit);
    match call_timeout(&*node.env().clock, limit, call).await {
        Ok(reply) => take_apart(reply),
        Err(status) if never_sent(&status) => Tried::NotSent,
        Err(status) if status.code() == Code::ResourceExhausted => Tried::Busy,
        Err(_) => Tried::Unknown,
    }
}

fn take_apart<T: DeserializeOwned>(reply: GroupReply) -> Tried<T> {
    match reply.reply {
        Some(Reply::Done(bytes)) => match decode(&bytes) {
            Ok(value) => Tried::Done { value, write_epoch: WriteEpoch(reply.write_epoch) },
            Err(_) => Tried::Malformed,
        },
        Some(Reply::NotLeader(not)) => {
            Tried::NotLeader((not.leader_node != 0).then_some(NodeId(not.leader_node)))
        }
        None => Tried::Malformed,
    }
}
