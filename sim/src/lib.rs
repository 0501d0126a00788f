//! A whole cluster in one process, driven by one seed, and the oracles that judge what its clients saw.

#[cfg(not(any(tokio_unstable, doc)))]
compile_error!(
    "the simulation repeats nothing without `--cfg tokio_unstable`: a RUSTFLAGS in the environment hides the one of \
     .cargo/config.toml"
);

pub mod check;
