//! The object store of one gateway: what its operations share.
//!
//! Owns the handles (metadata, drives, memory, workers) and the calls to metadata that every operation makes. The
//! operations are in files of their own.

use crate::{
    metrics::Metrics, read::Reporter, refusal, settings::Settings, shard_io::ShardIo, write::LiveBytes,
};
use ashlar_metadata::{
    MetadataApi,
    command::{Command, Done, PartitionCommand},
    query::{Answer, Query},
};
use ashlar_placement::ClusterMap;
use ashlar_runtime::{Env, Pool, Reservation};
use ashlar_types::{GroupId, ObjectError, RequestId};
use std::{sync::Arc, time::Duration};

/// Jobs that may wait for a coding thread beyond those that run; more wait asynchronously, with their rows reserved.
const CODING_QUEUE: usize = 64;

/// Reads and writes objects. Cheap to clone; clones share everything.
///
/// Unless an operation says otherwise, dropping its future abandons the request: a write leaves nothing visible
/// unless its commit was already under way, and cleans up after itself in the background.
#[derive(Clone)]
pub struct ObjectStore(pub(crate) Arc<Core>);

pub(crate) struct Core {
    pub(crate) env: Env,
    pub(crate) metadata: Arc<dyn MetadataApi>,
    pub(crate) shards: Arc<dyn ShardIo>,
    pub(crate) settings: Settings,
    pub(crate) coding: Pool,
    pub(crate) metrics: Metrics,
    pub(crate) reporter: Reporter,
    pub(crate) live: Arc<LiveBytes>,
}

impl ObjectStore {
    pub fn new(
        env: Env,
        metadata: Arc<dyn MetadataApi>,
        shards: Arc<dyn ShardIo>,
        settings: Settings,
    ) -> Self {
        let coding = Pool::new(&env.tasks, "coding", settings.coding_threads.max(1), CODING_QUEUE);
        let metrics = Metrics::new(settings.node);
        let live = LiveBytes::new(metrics.row_bytes.clone());
        let reporter = Reporter::new(settings.reports_per_second, settings.report_again);
        Self(Arc::new(Core { env, metadata, shards, settings, coding, metrics, reporter, live }))
    }

    /// Bytes of rows being written that are in memory now, wherever they wait.
    pub fn live_row_bytes(&self) -> u64 {
        self.0.live.now()
    }
}

impl Core {
    pub(crate) fn map(&self) -> Arc<ClusterMap> {
        self.metadata.map()
    }

    pub(crate) fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// Memory for a request, at once or not at all.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reservation, ObjectError> {
        self.settings
            .memory
            .try_reserve(bytes)
            .map_err(|_| ObjectError::SlowDown("the gateway's memory budget is taken"))
    }

    pub(crate) async fn begin(&self, group: GroupId) -> Result<RequestId, ObjectError> {
        self.metadata.begin(group).await.map_err(refusal::query_error)
    }

    pub(crate) async fn query(&self, group: GroupId, query: Query) -> Result<Answer, ObjectError> {
        match self.metadata.query(group, query, self.settings.request_deadline).await {
            Ok(Answer::NoSuchBucket) => Err(ObjectError::NoSuchBucket),
            Ok(answer) => Ok(answer),
            Err(error) => Err(refusal::query_error(error)),
        }
    }

    /// Proposes a command that carries no blobs.
    pub(crate) async fn propose(
        &self,
        group: GroupId,
        request: Option<RequestId>,
        command: PartitionCommand,
    ) -> Result<Done, ObjectError> {
        let command = Command::Partition(command);
        let outcome = self.metadata.propose(group, request, command, self.settings.request_deadline).await;
        outcome.map_err(refusal::propose_error)?.map_err(refusal::object_error)
    }
}

/// An answer of another kind than the question: metadata and data path disagree about the protocol.
pub(crate) const WRONG_ANSWER: ObjectError = ObjectError::Internal("metadata answered another question");
