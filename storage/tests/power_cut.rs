//! Real power cuts: a drive store on a real file system, on a device whose cache is lost. Whatever was acknowledged,
//! or once read, is there afterwards, byte for byte: this proves flushing, not only replay.
//!
//! Needs root and loop devices; skips loudly without them. `ASHLAR_POWER_CUTS` sets the cuts per file system.

#[cfg(test)]
mod power_cut {
    mod cycles;
    mod device_cache;
    mod ledger;
    mod unflushed_disk;
    mod volume;
    mod workload;
}
