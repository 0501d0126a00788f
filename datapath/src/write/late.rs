//! Slots that their write did not wait for.
//!
//! A late slot has all its units and its drive was asked to flush. When it is durable in time, metadata is told, and
//! the repair row goes away.

use super::{fan_out::LateSlot, slot_stream::SlotEnd, target::Target};
use crate::store::Core;
use ashlar_metadata::{
    MetadataError,
    command::{Command, FillSlot, PartitionCommand, Refusal},
};
use ashlar_runtime::{ClockExt, Reservation};
use ashlar_types::Interval;
use std::sync::Arc;

/// `intervals` are those of the blob's chunks.
pub(crate) fn fill_late_slots(
    core: &Arc<Core>,
    target: &Target,
    intervals: Vec<Interval>,
    late: Vec<LateSlot>,
    reservation: &Arc<Reservation>,
) {
    for slot in late {
        let index = usize::try_from(slot.shard.chunk.index).unwrap_or(usize::MAX);
        let Some(interval) = intervals.get(index).copied() else { continue };
        let (core, target, memory) = (Arc::clone(core), target.clone(), Arc::clone(reservation));
        let tasks = core.env.tasks.clone();
        let task = async move {
            fill(&core, target, interval, slot).await;
            drop(memory);
        };
        // Bounded by the deadlines of the wait and of the proposal.
        tasks.spawn("late-slot", task).detach();
    }
}

async fn fill(core: &Arc<Core>, target: Target, interval: Interval, mut late: LateSlot) {
    let shard = late.shard;
    let drive = late.stream.drive;
    match core.env.clock.timeout(core.settings.late_deadline, late.stream.end()).await {
        Ok(SlotEnd::Committed) => {}
        // The repair row of the commit stands.
        Ok(SlotEnd::Failed(_) | SlotEnd::Cancelled) | Err(_) => return,
    }
    drop(late);
    let fill = FillSlot {
        bucket: target.bucket,
        key: target.key,
        owner: target.owner,
        chunk: shard.chunk,
        slot: shard.slot,
        interval,
        drive,
    };
    let command = Command::Partition(PartitionCommand::FillSlot(fill));
    let deadline = core.settings.request_deadline;
    match core.metadata.propose(target.group, None, command, deadline).await {
        Ok(Ok(_)) => core.metrics.filled_slots.increment(1),
        // Nothing needs the shard any more, and no row names it.
        Ok(Err(Refusal::NoSuchVersion)) => {
            let delete = core.shards.delete(drive, vec![shard]);
            let deleted = core.env.clock.timeout(core.settings.cleanup_deadline, delete).await;
            if !matches!(deleted, Ok(Ok(()))) {
                tracing::info!(%drive, %shard, "an unwanted late shard stays until the next sweep");
            }
        }
        Ok(Err(refusal)) => tracing::debug!(%drive, %shard, ?refusal, "a late shard was refused"),
        Err(
            error @ (MetadataError::Unavailable { .. }
            | MetadataError::Ambiguous { .. }
            | MetadataError::Failed(_)),
        ) => tracing::debug!(%drive, %shard, %error, "a late shard was not told to metadata"),
    }
}
