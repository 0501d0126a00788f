//! A whole cluster in one process, driven by one seed, and the oracles that judge what its clients saw.
//!
//! One seed, one fresh process: some state of the libraries beneath lives as long as the process.

#[cfg(not(any(tokio_unstable, doc)))]
compile_error!(
    "the simulation repeats nothing without `--cfg tokio_unstable`: a RUSTFLAGS in the environment hides the one of \
     .cargo/config.toml"
);

pub mod check;
pub mod faults;
pub mod run;
pub mod settings;
pub mod setup;
pub mod soak;
pub mod workload;
pub mod world;

pub use run::{Report, run};
pub use settings::Settings;
