//! How Raft messages of one group reach its other replicas.
//!
//! Openraft asks for a link to a Raft id; the node behind it is looked up in the newest map known for every call,
//! so a changed address is used at once. Deadlines are ours.

use super::{
    machine::SnapshotData,
    types::{RaftTypes, SnapshotMeta, Vote, replica},
};
use crate::{
    calls::{self, Address},
    encoding::{decode, encode},
};
use ashlar_placement::ClusterMap;
use ashlar_proto::metadata::{SnapshotPiece, metadata_service_client::MetadataServiceClient};
use ashlar_rpc::{MAX_MESSAGE_BYTES, Method, Peers, request};
use ashlar_runtime::{ClockExt, Pool};
use ashlar_types::{GroupId, NodeId};
use bytes::Bytes;
use openraft::{
    EmptyNode, OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2, Snapshot,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};

/// Entries may wait for a slow flush on the other side; a heartbeat has openraft's own, shorter limit.
const APPEND_LIMIT: Duration = Duration::from_secs(3);
/// A snapshot transfer that makes no step for so long is given up.
const SNAPSHOT_STALL: Duration = Duration::from_secs(30);
/// No snapshot takes longer: the caller's own limit is the stall.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Pieces on their way: the next is read while one is sent.
const SNAPSHOT_PIECES: usize = 2;

/// Precedes the pieces of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
}

/// Where nodes are, by the newest map known.
#[derive(Clone, Debug)]
pub(crate) struct AddressBook(pub(crate) watch::Receiver<Arc<ClusterMap>>);

impl AddressBook {
    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.0.borrow().nodes.get(&node).map(|node| node.rpc.clone())
    }
}

/// Makes links to the other replicas of one group.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) group: GroupId,
    pub(crate) raft_id: u64,
    pub(crate) peers: Peers,
    pub(crate) book: AddressBook,
    pub(crate) pool: Pool,
}

/// To one other replica.
#[derive(Debug)]
pub(crate) struct Link {
    network: Network,
    target: u64,
}

impl RaftNetworkFactory<RaftTypes> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Link {
        Link { network: self.clone(), target }
    }
}

impl Link {
    fn address(&self) -> Result<String, Unreachable<RaftTypes>> {
        let node = replica(self.target).node;
        let address = self.network.book.address(node);
        address.ok_or_else(|| Unreachable::from_string(format!("node {node} is not in the map")))
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        action: RPCTypes,
        message: &Q,
        limit: Duration,
    ) -> Result<A, RPCError<RaftTypes>> {
        let payload = Address { group: self.network.group, raft_id: self.target }.with(message);
        match self.network.peers.call(&self.address()?, method, payload, limit).await {
            Ok(reply) => decode(&reply).map_err(|error| RPCError::Network(NetworkError::new(&error))),
            Err(status) => Err(self.failure(action, limit, &status)),
        }
    }

    fn failure(&self, action: RPCTypes, timeout: Duration, status: &Status) -> RPCError<RaftTypes> {
        if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) {
            return Timeout { action, id: self.network.raft_id, target: self.target, timeout }.into();
        }
        // Whatever else it is does not pass by asking again at once.
        Unreachable::new(status).into()
    }

    /// Feeds the pieces of a snapshot to a call, none of it cancelled half-way by a slow disk.
    async fn feed(
        &self,
        mut snapshot: SnapshotData,
        pieces: mpsc::Sender<SnapshotPiece>,
    ) -> Result<(), StreamingError<RaftTypes>> {
        let clock = Arc::clone(&self.network.peers.env().clock);
        loop {
            let (back, piece) = self
                .network
                .pool
                .run(move || {
                    let piece = match &mut snapshot {
                        SnapshotData::Outgoing(snapshot) => snapshot.next_piece().map_err(|e| e.to_string()),
                        SnapshotData::Incoming(_) => Err("a received snapshot is not sent on".to_owned()),
                    };
                    (snapshot, piece)
                })
                .await
                .map_err(|closed| NetworkError::new(&closed))?;
            snapshot = back;
            let piece = piece.map_err(NetworkError::<RaftTypes>::from_string)?;
            let last = piece.is_none();
            let data = Bytes::from(piece.unwrap_or_default());
            let piece = SnapshotPiece { group: 0, target: 0, head: Bytes::new(), data, last };
            match clock.timeout(SNAPSHOT_STALL, pieces.send(piece)).await {
                Ok(Ok(())) if last => return Ok(()),
                Ok(Ok(())) => {}
                // The call has ended; its own answer says why.
                Ok(Err(_)) => return Ok(()),
                Err(stalled) => return Err(NetworkError::new(&stalled).into()),
            }
        }
    }
}

impl RaftNetworkV2<RaftTypes> for Link {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<RaftTypes>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftTypes>, RPCError<RaftTypes>> {
        let limit = if rpc.entries.is_empty() { option.hard_ttl() } else { APPEND_LIMIT };
        self.call(calls::APPEND, RPCTypes::AppendEntries, &rpc, limit).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<RaftTypes>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftTypes>, RPCError<RaftTypes>> {
        self.call(calls::VOTE, RPCTypes::Vote, &rpc, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<RaftTypes>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftTypes>, RPCError<RaftTypes>> {
        self.call(calls::PRE_VOTE, RPCTypes::Vote, &rpc, option.hard_ttl()).await
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<RaftTypes>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<RaftTypes>, RPCError<RaftTypes>> {
        self.call(calls::TRANSFER_LEADER, RPCTypes::TransferLeader, &rpc, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<RaftTypes, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<RaftTypes>, StreamingError<RaftTypes>> {
        let peer = self.network.peers.bulk(&self.address()?);
        let mut client = MetadataServiceClient::new(peer)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let Snapshot { meta, snapshot } = snapshot;
        let (pieces, waiting) = mpsc::channel(SNAPSHOT_PIECES);
        let first = SnapshotPiece {
            group: self.network.group.0,
            target: self.target,
            head: Bytes::from(encode(&SnapshotHead { vote, meta })),
            data: Bytes::new(),
            last: false,
        };
        // The channel is empty and open: there is room for the first.
        let _ = pieces.send(first).await;
        let stream = futures_util::stream::unfold(waiting, |mut waiting| async move {
            waiting.recv().await.map(|piece| (piece, waiting))
        });
        let mut call = pin!(client.install_snapshot(request(stream, SNAPSHOT_LIMIT)));
        let mut feed = pin!(self.feed(snapshot, pieces));
        let mut cancel = pin!(cancel);
        let mut fed = false;
        loop {
            tokio::select! {
                reply = &mut call => {
                    let reply = reply.map_err(|status| self.failure(RPCTypes::InstallSnapshot, SNAPSHOT_LIMIT, &status))?;
                    return decode(&reply.into_inner().payload).map_err(|error| NetworkError::new(&error).into());
                }
                // An error drops the call, so that the other side sees a stream that was cut.
                done = &mut feed, if !fed => { done?; fed = true; }
                closed = &mut cancel => return Err(closed.into()),
            }
        }
    }
}
