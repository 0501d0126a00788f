//! How a call to a metadata group can fail without an outcome.

/// The group gave no answer. Refusals are answers: see [`crate::command::Refusal`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// No leader or no quorum within the deadline; nothing was proposed, or surely not applied.
    #[error("metadata group {group} is not available: {reason}")]
    Unavailable { group: ashlar_types::GroupId, reason: &'static str },
    /// A proposal was sent and its outcome is not known. Repeating it under the same request id is safe.
    #[error("the outcome of a command to metadata group {group} is not known")]
    Ambiguous { group: ashlar_types::GroupId },
    /// The engine or the log of this node's replica failed.
    #[error("metadata replica failed: {0}")]
    Failed(&'static str),
}
