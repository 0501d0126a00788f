//! The drive store under all kinds of schedules of its threads and its clients'.
//!
//! Every lock, every atomic and every call of the disk is a point at which the explorer may go on with another
//! thread. Clients note what they asked and were answered; what they saw has to be explained by some order of the
//! operations on each shard (`history`), nothing may be damaged, and what the drive shows at the end is still there
//! after a power cut and after it was closed (`drive`).
//!
//! The store is compiled a second time for this, with the explorer's locks (`storage/src/sync.rs`).

extern crate ashlar_storage_schedules as ashlar_storage;

#[cfg(test)]
mod schedules {
    mod client;
    mod content;
    mod drive;
    mod explore;
    mod history;
    mod scenarios;
    mod switching_disk;
    mod threads;
}
