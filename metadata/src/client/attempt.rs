//! One try to get an answer from one node.

use crate::{
    calls::{self, Answered, Proposal, Question, Reply},
    command::{Command, Outcome},
    encoding::{decode, encode},
    node::MetadataNode,
    query::{Answer, Query},
    raft::replica::{Refused, Replica},
};
use ashlar_rpc::{Method, never_sent};
use ashlar_runtime::ClockExt;
use ashlar_types::{GroupId, NodeId, RequestId, WriteEpoch};
use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tonic::Code;

/// What came of a try.
#[derive(Debug, PartialEq, Eq)]
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
    const METHOD: Method;

    async fn here(&self, replica: &Replica) -> Result<Self::Answer, Refused>;

    /// What a node elsewhere is sent.
    fn encoded(&self) -> Bytes;
}

pub(super) struct AskPropose {
    proposal: Proposal,
    encoded: Bytes,
}

impl AskPropose {
    pub(super) fn new(group: GroupId, request: Option<RequestId>, command: Command) -> Self {
        let proposal = Proposal { group, request, command };
        let encoded = Bytes::from(encode(&proposal));
        Self { proposal, encoded }
    }
}

#[async_trait]
impl Ask for AskPropose {
    type Answer = Outcome;
    const CHANGES: bool = true;
    const METHOD: Method = calls::PROPOSE;

    async fn here(&self, replica: &Replica) -> Result<Outcome, Refused> {
        let Proposal { request, command, .. } = &self.proposal;
        replica.propose_sized(*request, command.clone(), self.encoded.len()).await
    }

    fn encoded(&self) -> Bytes {
        self.encoded.clone()
    }
}

pub(super) struct AskQuery {
    question: Question,
}

impl AskQuery {
    pub(super) fn new(group: GroupId, query: Query) -> Self {
        Self { question: Question { group, query } }
    }
}

#[async_trait]
impl Ask for AskQuery {
    type Answer = Answer;
    const CHANGES: bool = false;
    const METHOD: Method = calls::QUERY;

    async fn here(&self, replica: &Replica) -> Result<Answer, Refused> {
        replica.query(self.question.query.clone()).await
    }

    /// Most queries are answered here and never encoded.
    fn encoded(&self) -> Bytes {
        Bytes::from(encode(&self.question))
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
    match node.peers().call(&address, A::METHOD, ask.encoded(), limit).await {
        Ok(reply) => take_apart(&reply),
        Err(status) if status.code() == Code::ResourceExhausted && never_sent(&status) => Tried::Busy,
        Err(status) if never_sent(&status) => Tried::NotSent,
        Err(_) => Tried::Unknown,
    }
}

fn take_apart<T: DeserializeOwned>(reply: &[u8]) -> Tried<T> {
    match decode(reply) {
        Ok(Answered { write_epoch, reply: Reply::Done(value) }) => Tried::Done { value, write_epoch },
        Ok(Answered { reply: Reply::NotLeader(leader), .. }) => Tried::NotLeader(leader),
        Ok(Answered { reply: Reply::Busy, .. }) => Tried::Busy,
        Ok(Answered { reply: Reply::Unknown, .. }) => Tried::Unknown,
        Err(_) => Tried::Malformed,
    }
}
