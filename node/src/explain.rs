//! `ashlar explain`: the data path's explanation of an object, with each shard's file, and its bytes verified now.

use crate::running::Running;
use ashlar_datapath::{ExplainedChunk, ExplainedSlot, ExplainedSource, ShardError, ShardIo, SlotState};
use ashlar_proto::admin as wire;
use ashlar_types::{BucketName, DriveId, ObjectError, ObjectKey, Profile, ShardId, VersionId};

/// Reads every shard of the object: its state is what a read would find.
pub async fn explain(
    running: &Running,
    bucket: &BucketName,
    key: &ObjectKey,
    version: Option<VersionId>,
) -> Result<wire::ExplainReply, ObjectError> {
    let bucket = running.buckets.get(bucket).await?;
    let explained = running.store.explain(&bucket, key.clone(), version).await?;
    let mut reply = wire::ExplainReply {
        version_id: explained.version.version_id.to_string(),
        size: explained.version.size,
        etag: explained.version.etag.to_string(),
        group: bucket.group.0,
        inline: true,
        ..Default::default()
    };
    for entry in &explained.entries {
        if let ExplainedSource::Blob { profile, chunks, .. } = &entry.source {
            reply.inline = false;
            for chunk in chunks {
                reply.chunks.push(explain_chunk(running, chunk, profile, entry.part_number).await);
            }
        }
    }
    let inline_margin = || {
        let map = running.map.borrow();
        let voters = map.groups.get(&bucket.group).map_or(1, |group| group.voters.len());
        i32::try_from(voters.saturating_sub(1) / 2).unwrap_or(0)
    };
    reply.margin = reply.chunks.iter().map(|chunk| chunk.margin).min().unwrap_or_else(inline_margin);
    Ok(reply)
}

async fn explain_chunk(
    running: &Running,
    chunk: &ExplainedChunk,
    profile: &Profile,
    part_number: u16,
) -> wire::Chunk {
    let mut slots = Vec::new();
    for slot in &chunk.slots {
        slots.push(explain_slot(running, slot).await);
    }
    let whole = i32::try_from(slots.iter().filter(|slot| slot.state == "ok").count()).unwrap_or(0);
    wire::Chunk {
        id: chunk.chunk.to_string(),
        part_number: u32::from(part_number),
        len: chunk.len,
        pg: chunk.pg.0,
        interval: chunk.interval.0,
        k: u32::from(profile.k()),
        m: u32::from(profile.m()),
        margin_at_ack: chunk.margin_at_ack,
        margin: whole - i32::from(profile.k()),
        slots,
    }
}

async fn explain_slot(running: &Running, explained: &ExplainedSlot) -> wire::Slot {
    let shard = explained.shard;
    let mut slot = wire::Slot { slot: u32::from(shard.slot.0), ..Default::default() };
    let Some(drive) = explained.drive else {
        slot.state = "unassigned".into();
        return slot;
    };
    slot.drive = drive.0;
    slot.node = running.map.borrow().drive_node(drive).map_or(0, |(node, _)| node.0);
    let bytes = match running.shards.locate(drive, shard).await {
        Ok(Some((stat, location))) => {
            slot.file = location.file;
            slot.offset = location.offset;
            slot.len = location.len;
            verify(running, drive, shard, stat.units).await
        }
        Ok(None) => Err(ShardError::NotFound),
        Err(error) => Err(error),
    };
    let state = match (explained.state, bytes) {
        (SlotState::Corrupt, _) | (_, Err(ShardError::Corrupt { .. })) => "corrupt",
        (SlotState::Ok, Ok(())) => "ok",
        (SlotState::Missing, _) | (_, Err(ShardError::NotFound)) => "missing",
        (SlotState::Unreachable, _) | (_, Err(_)) => "unreachable",
    };
    slot.state = state.into();
    slot
}

/// Has the drive read and check every unit.
async fn verify(running: &Running, drive: DriveId, shard: ShardId, units: u32) -> Result<(), ShardError> {
    let mut source = running.shards.get(drive, shard, 0..units).await?;
    while source.next().await?.is_some() {}
    Ok(())
}
