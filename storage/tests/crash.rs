//! The crash proof of the drive store. The harness is in a file of its own, so that other packages can run it.

#[cfg(test)]
#[path = "crash/harness.rs"]
mod harness;

#[cfg(test)]
mod crash {
    mod clients;
    mod devices;
    mod power_cuts;
    mod soak;
}
