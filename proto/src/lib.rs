//! Wire messages between nodes and their conversions.
//!
//! Generated code lives in one module a package; conversions to the words of `types` beside it.

#[allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "generated"
)]
pub mod call {
    tonic::include_proto!("ashlar.call.v1");
}

#[allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "generated"
)]
pub mod shard {
    tonic::include_proto!("ashlar.shard.v1");
}

#[allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "generated"
)]
pub mod metadata {
    tonic::include_proto!("ashlar.metadata.v1");
}

#[allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "generated"
)]
pub mod node {
    tonic::include_proto!("ashlar.node.v1");
}

#[allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "generated"
)]
pub mod admin {
    tonic::include_proto!("ashlar.admin.v1");
}
