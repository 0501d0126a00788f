//! Questions that nodes ask each other to keep groups in order, and how they are answered.
//!
//! They travel in our own encoding: both sides are nodes of one cluster. A question that is not understood is
//! answered like one to a replica that is not here.

use super::{MetadataNode, controller::views::NodeReport, reinstall};
use crate::{
    encoding::{decode, encode},
    raft::{replica::Membership, status::Condition},
    state::Marked,
};
use ashlar_placement::ClusterMap;
use ashlar_rpc::{CallHandler, Caller, Method};
use ashlar_types::{GroupId, MapEpoch, NodeId, ReplicaId};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tonic::Status;

/// The small call that carries a question.
pub(super) const ASK: Method = Method(0x200);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// How the node and its replicas are.
    View,
    /// The map, if the node knows a newer one.
    Map { known: MapEpoch },
    /// Of a leader: whether the replica is a member.
    Member { group: GroupId, replica: ReplicaId },
    /// Of a leader: to let a voter take over.
    HandOver { group: GroupId, to: ReplicaId },
    /// The digests at the last mark.
    Mark { group: GroupId },
    /// The tables are to be replaced by those of another node's replica.
    Reinstall { group: GroupId, replica: ReplicaId, from: NodeId },
    /// Nothing is to be answered any more.
    Freeze { group: GroupId, replica: ReplicaId },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    View(NodeReport),
    Map(Option<Box<ClusterMap>>),
    Member(Membership),
    /// Whether it was done or begun.
    Done(bool),
    Mark(MarkView),
    /// The tables of the replica are being replaced.
    Reinstalling,
    /// No such replica here, or not one that can tell.
    NotHere,
}

/// What a replica has at the last mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkView {
    pub(crate) replica: ReplicaId,
    pub(crate) marked: Option<Marked>,
    /// Its rows are known not to be what it applied.
    pub(crate) suspect: bool,
}

/// Asks a node, which may be this one. `None`: no answer.
pub(crate) async fn ask(
    node: &Arc<MetadataNode>,
    map: &ClusterMap,
    target: NodeId,
    question: &Question,
    limit: Duration,
) -> Option<Answer> {
    if node.node() == Some(target) {
        return Some(answer(node, question.clone()).await);
    }
    let address = &map.nodes.get(&target)?.rpc;
    let question = Bytes::from(encode(question));
    let answer = node.shared.peers.call(address, ASK, question, limit).await.ok()?;
    decode(&answer).ok()
}

/// Weak: connections outlive the node they serve.
pub(super) struct Asked(pub(super) Weak<MetadataNode>);

#[async_trait]
impl CallHandler for Asked {
    async fn call(
        &self,
        _caller: Option<Caller>,
        _method: Method,
        payload: Bytes,
        _limit: Duration,
    ) -> Result<Bytes, Status> {
        let node = self.0.upgrade().ok_or_else(|| Status::unavailable("the node shuts down"))?;
        let answer = match decode(&payload) {
            Ok(question) => answer(&node, question).await,
            Err(_) => Answer::NotHere,
        };
        Ok(Bytes::from(encode(&answer)))
    }
}

async fn answer(node: &Arc<MetadataNode>, question: Question) -> Answer {
    match question {
        Question::View => Answer::View(node.report()),
        Question::Map { known } => {
            let map = Arc::clone(&node.map.borrow());
            Answer::Map((map.epoch > known).then(|| Box::new(ClusterMap::clone(&map))))
        }
        Question::Member { group, replica } => match node.replica(group) {
            Some(leader) => leader.membership_of(replica).await.map_or(Answer::NotHere, Answer::Member),
            None => Answer::NotHere,
        },
        Question::HandOver { group, to } => match node.replica(group) {
            Some(leader) => Answer::Done(leader.hand_over(to).await),
            None => Answer::NotHere,
        },
        Question::Mark { group } => match node.replica(group) {
            Some(replica) => Answer::Mark(MarkView {
                replica: replica.id,
                marked: replica.state().digest_mark(),
                suspect: replica.is_suspect(),
            }),
            None => {
                let closed = node.lock(&node.closed).get(&group).copied();
                let reinstalling = closed.is_some_and(|closed| closed.condition == Condition::Reinstalling);
                if reinstalling { Answer::Reinstalling } else { Answer::NotHere }
            }
        },
        Question::Reinstall { group, replica, from } => {
            Answer::Done(reinstall::begin(node, group, replica, Some(from)).await)
        }
        Question::Freeze { group, replica } => Answer::Done(node.freeze(group, replica).await),
    }
}
