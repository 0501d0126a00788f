//! The shard store of one drive.
