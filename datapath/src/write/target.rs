//! What a write is for: all that its shards and its commit have in common.

use ashlar_types::{BucketId, GroupId, ObjectKey, RequestId, ShardOwner};

#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) bucket: BucketId,
    pub(crate) group: GroupId,
    pub(crate) key: ObjectKey,
    pub(crate) owner: ShardOwner,
    /// Begun before the first byte was read: its write epoch is that of the blobs.
    pub(crate) request: RequestId,
}
