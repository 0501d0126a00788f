//! Raft: the only module that knows openraft.
//!
//! Owns the types that openraft is made for (`types`), how its messages travel (`network`), how committed entries
//! reach the tables (`machine`), how readers learn that the tables are recent enough (`read`), how commands
//! get their stamps (`clock`, `propose`), and one replica of one
//! group as the rest of the crate sees it (`replica`). The log beneath it is [`crate::log`].

pub(crate) mod catch_up;
pub(crate) mod clock;
pub(crate) mod contact;
pub(crate) mod machine;
pub(crate) mod network;
mod propose;
pub(crate) mod read;
pub(crate) mod replica;
mod settings;
pub(crate) mod spool;
pub(crate) mod status;
pub(crate) mod types;

#[cfg(test)]
mod suite;

pub use settings::RaftSettings;
