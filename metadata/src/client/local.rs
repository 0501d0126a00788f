//! Answers about the cluster from this node's own copy of group 0.
//!
//! What is there may be used as long as group 0's leader was heard lately: what it names never changes its meaning
//! (a bucket id is not used twice), so an answer that has aged leads to a refusal further on and not to a wrong deed.
//! That something is *not* there is only ever said by a linearizable read, as is everything while the leader is not heard.

use super::Inner;
use crate::{
    MetadataError,
    query::{Answer, BucketPhase, Query},
};
use ashlar_types::GroupId;

impl Inner {
    /// `None`: the question has to be asked linearizably.
    pub(super) fn local_system(&self, query: &Query) -> Result<Option<Answer>, MetadataError> {
        let group = GroupId::SYSTEM;
        if !names_one(query) {
            return Ok(None);
        }
        let Some(replica) = self.node.replica(group) else { return Ok(None) };
        if !replica.is_recent(self.node.contact_limit()) {
            return Ok(None);
        }
        let answer = replica.state().query(query).map_err(|error| {
            tracing::error!(%group, %error, "a query failed in the engine");
            MetadataError::Failed("the tables could not be read")
        })?;
        Ok(is_there(&answer).then_some(answer))
    }
}

/// Whether the question is for one thing that is there or not.
fn names_one(query: &Query) -> bool {
    matches!(query, Query::Bucket { .. } | Query::AccessKey { .. })
}

fn is_there(answer: &Answer) -> bool {
    if let Answer::Bucket(row) = answer {
        return row.as_ref().is_some_and(|row| row.phase == BucketPhase::Active);
    }
    matches!(answer, Answer::AccessKey(Some(_)))
}
