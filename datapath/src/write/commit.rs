//! The commit of a write, and what becomes of its shards.
//!
//! From the proposal on the client no longer decides: the commit runs in a task of its own, so that a client that goes
//! away leaves neither a half-known commit nor shards that nobody names.

use super::{blob::BlobWriter, target::Target};
use crate::{
    refusal::{object_error, propose_error},
    store::Core,
};
use ashlar_metadata::{
    MetadataError,
    command::{Command, Done, Outcome, PartitionCommand, Refusal},
};
use ashlar_types::ObjectError;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Proposes a command that names `blob`.
pub(crate) async fn commit(
    core: &Arc<Core>,
    target: &Target,
    command: PartitionCommand,
    blob: Option<BlobWriter>,
) -> Result<Done, ObjectError> {
    let Some(mut blob) = blob else {
        return core.propose(target.group, Some(target.request), command).await;
    };
    blob.proposed();
    let (done, result) = oneshot::channel();
    let (group, request, worker) = (target.group, target.request, Arc::clone(core));
    let task = async move {
        let deadline = worker.settings.request_deadline;
        let command = Command::Partition(command);
        let proposed = worker.metadata.propose(group, Some(request), command, deadline).await;
        // The client may have gone; the blob is settled all the same.
        let _ = done.send(settle(proposed, blob));
    };
    // Bounded by the deadline of the proposal.
    core.env.tasks.spawn("commit", task).detach();
    result.await.unwrap_or(Err(ObjectError::Ambiguous("the commit was interrupted")))
}

fn settle(proposed: Result<Outcome, MetadataError>, blob: BlobWriter) -> Result<Done, ObjectError> {
    match proposed {
        Ok(Ok(done)) => {
            blob.keep();
            Ok(done)
        }
        // An earlier sending of the command may have been applied: the shards may be named by a version.
        Ok(Err(refusal @ Refusal::Expired)) => Err(object_error(refusal)),
        // Decided for good under this request id. The apply has queued the blob as garbage; this frees it at once.
        Ok(Err(refusal)) => {
            blob.refused();
            Err(object_error(refusal))
        }
        Err(error @ MetadataError::Unavailable { .. }) => {
            blob.refused();
            Err(propose_error(error))
        }
        Err(error @ (MetadataError::Ambiguous { .. } | MetadataError::Failed(_))) => {
            Err(propose_error(error))
        }
    }
}
