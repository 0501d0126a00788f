//! Metrics of the metadata plane, labelled with the node that says them.

use ashlar_types::NodeId;

/// How far a voter's wall clock is ahead of the median of its group's voters, as a leader sees it.
#[allow(clippy::cast_precision_loss, reason = "skews that matter are far below 2^52 ms")]
pub(crate) fn clock_skew(node: NodeId, voter: NodeId, skew_ms: i64) {
    let gauge = metrics::gauge!(
        "metadata_clock_skew_seconds", "node" => node.to_string(), "voter" => voter.to_string()
    );
    gauge.set(skew_ms as f64 / 1000.0);
}
