//! What the data path and the front end ask of metadata, whatever carries it.

use crate::{
    MetadataError,
    command::{Command, Outcome},
    query::{Answer, Query},
};
use ashlar_placement::ClusterMap;
use ashlar_types::{GroupId, RequestId};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};

/// Proposals and linearizable queries. Implemented by the client over Raft groups and, for tests of the data path,
/// by a single state machine in memory.
#[async_trait]
pub trait MetadataApi: Send + Sync + 'static {
    /// The newest map known here.
    fn map(&self) -> Arc<ClusterMap>;

    /// A fresh request id under the group's present write epoch.
    async fn begin(&self, group: GroupId) -> Result<RequestId, MetadataError>;

    /// Proposes until there is an outcome or the deadline is over; retries under the same request id, so the command
    /// is applied at most once. Not cancelled by dropping the future once it was sent.
    async fn propose(
        &self,
        group: GroupId,
        request: Option<RequestId>,
        command: Command,
        deadline: Duration,
    ) -> Result<Outcome, MetadataError>;

    /// Linearizable.
    async fn query(&self, group: GroupId, query: Query, deadline: Duration) -> Result<Answer, MetadataError>;

    /// From this node's own copy of group 0 where that will do: an active bucket or an access key that it holds,
    /// while its leader was heard within a minute. Everything else, and that something is not there, is linearizable.
    async fn local_system(&self, query: Query, deadline: Duration) -> Result<Answer, MetadataError> {
        self.query(GroupId::SYSTEM, query, deadline).await
    }
}
