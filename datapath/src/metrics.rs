//! Metrics of the data path. All carry the label `node`.

use ashlar_types::NodeId;
use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

/// Handles made once: counting costs one addition.
pub(crate) struct Metrics {
    pub(crate) put_bytes: Counter,
    pub(crate) get_bytes: Counter,
    pub(crate) inline_puts: Counter,
    pub(crate) blob_puts: Counter,
    pub(crate) short_commits: Counter,
    pub(crate) handoffs: Counter,
    pub(crate) stragglers: Counter,
    pub(crate) filled_slots: Counter,
    pub(crate) abandoned_writes: Counter,
    pub(crate) hedged_stripes: Counter,
    pub(crate) degraded_stripes: Counter,
    pub(crate) reconstructed_bytes: Counter,
    pub(crate) corrupt_units: Counter,
    pub(crate) unreadable_stripes: Counter,
    pub(crate) reported_slots: Counter,
    pub(crate) suppressed_reports: Counter,
    pub(crate) garbage_rows: Counter,
    pub(crate) garbage_shards: Counter,
    pub(crate) row_bytes: Gauge,
}

impl Metrics {
    pub(crate) fn new(node: NodeId) -> Self {
        let node = node.to_string();
        let count = |name: &'static str, unit, help: &'static str| {
            describe_counter!(name, unit, help);
            counter!(name, "node" => node.clone())
        };
        describe_gauge!("datapath_row_bytes", Unit::Bytes, "Bytes of rows being written that are in memory");
        Self {
            put_bytes: count("datapath_put_bytes_total", Unit::Bytes, "Object bytes committed"),
            get_bytes: count("datapath_get_bytes_total", Unit::Bytes, "Object bytes handed to readers"),
            inline_puts: count(
                "datapath_inline_puts_total",
                Unit::Count,
                "Objects and parts kept in metadata",
            ),
            blob_puts: count("datapath_blob_puts_total", Unit::Count, "Objects and parts written to drives"),
            short_commits: count(
                "datapath_short_commits_total",
                Unit::Count,
                "Writes acknowledged with fewer than all shards",
            ),
            handoffs: count(
                "datapath_handoffs_total",
                Unit::Count,
                "Shards written to a drive outside their placement group",
            ),
            stragglers: count(
                "datapath_stragglers_total",
                Unit::Count,
                "Slots that a write did not wait for",
            ),
            filled_slots: count(
                "datapath_filled_slots_total",
                Unit::Count,
                "Slots finished after their write was acknowledged",
            ),
            abandoned_writes: count(
                "datapath_abandoned_writes_total",
                Unit::Count,
                "Writes to drives that ended without a commit",
            ),
            hedged_stripes: count(
                "datapath_hedged_stripes_total",
                Unit::Count,
                "Stripes for which further drives were asked because one was slow",
            ),
            degraded_stripes: count(
                "datapath_degraded_stripes_total",
                Unit::Count,
                "Stripes read by reconstruction",
            ),
            reconstructed_bytes: count(
                "datapath_reconstructed_bytes_total",
                Unit::Bytes,
                "Bytes rebuilt from other slots for readers",
            ),
            corrupt_units: count(
                "datapath_corrupt_units_total",
                Unit::Count,
                "Units that failed their checksum on a drive or at the gateway",
            ),
            unreadable_stripes: count(
                "datapath_unreadable_stripes_total",
                Unit::Count,
                "Stripes with too few readable slots",
            ),
            reported_slots: count(
                "datapath_reported_slots_total",
                Unit::Count,
                "Missing or corrupt slots reported for repair",
            ),
            suppressed_reports: count(
                "datapath_suppressed_reports_total",
                Unit::Count,
                "Reports of slots dropped by the rate limit",
            ),
            garbage_rows: count("datapath_garbage_rows_total", Unit::Count, "Garbage rows worked off"),
            garbage_shards: count("datapath_garbage_shards_total", Unit::Count, "Shards deleted as garbage"),
            row_bytes: gauge!("datapath_row_bytes", "node" => node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_can_be_made_for_several_nodes_of_one_process() {
        for node in [1, 2] {
            Metrics::new(NodeId(node)).put_bytes.increment(1);
        }
    }
}
