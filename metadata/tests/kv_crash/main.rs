//! The store on disk under crashes of its process and of the machine. Its engine opens files itself, so no simulated disk
//! is under it; this is what stands in for one, and what a new release of the engine has to pass.
//!
//! A process writes batches that overwrite and delete, flushes now and then, and now and then replaces everything. It is
//! killed: at any moment; at the nth system call of a kind (with `strace`); by a power cut of the file system it writes to,
//! which loses what was not flushed (with root and loop devices). Afterwards the store opens and holds what the first so
//! many batches of the history made, with nothing of the later ones, and no fewer than were flushed.
//!
//! A kill keeps the page cache: it proves replay. Power cuts prove flushing. What a machine cannot do is skipped loudly.
//! `ASHLAR_KV_CRASHES` sets the number of crashes of each story.

#[cfg(test)]
mod child;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod history;
#[cfg(test)]
mod killing;
#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod story;
#[cfg(test)]
#[path = "../../../storage/tests/power_cut/volume.rs"]
mod volume;
