//! Stories of a cluster of real processes. They take turns: one cluster at a time.
//!
//! `ASHLAR_SEED=N` chooses another run, `ASHLAR_BIN=PATH` another binary.
#![allow(
    clippy::disallowed_methods,
    reason = "real processes run in real time: there is no simulated clock here"
)]

use ashlar_cluster_tests::story::tell;

mod stories {
    pub(crate) mod configuration;
    pub(crate) mod dead_nodes;
    pub(crate) mod dev;
    pub(crate) mod flipped_bytes;
    pub(crate) mod killed_leaders;
    pub(crate) mod one_way;
    pub(crate) mod power_cut;
    pub(crate) mod race;
    pub(crate) mod suspended;
    pub(crate) mod total_kill;
    pub(crate) mod tree;
}

macro_rules! stories {
    ($($name:ident: $module:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            Box::pin(tell(stringify!($name), stories::$module::told)).await;
        }
    )*};
}

stories! {
    a_tree_of_files_comes_back_bit_for_bit: tree,
    two_dead_nodes_do_not_stop_reads_or_writes: dead_nodes,
    flipped_bytes_in_shards_are_read_around: flipped_bytes,
    killing_each_leader_loses_and_repeats_nothing: killed_leaders,
    suspended_leaders_wake_to_a_group_that_went_on: suspended,
    a_leader_cut_off_in_one_direction_is_replaced: one_way,
    everything_acknowledged_survives_killing_all_six: total_kill,
    bad_configuration_and_foreign_drives_are_refused: configuration,
    dev_survives_a_restart: dev,
    acknowledged_writes_survive_a_power_cut: power_cut,
}
