//! The ashlar daemon and command line; the only place where all crates meet.
