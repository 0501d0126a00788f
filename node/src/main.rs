//! `ashlar`: the daemon and its command line.

use std::process::ExitCode;

/// Payload-sized messages cost the system allocator hundreds of page faults a mebibyte; this one keeps its pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ashlar_node::cli::main()
}
