//! Reading objects: conditions and ranges first, then bytes, verified and reconstructed where needed.
//!
//! Owns the order of the steps (DESIGN, section 6): ask metadata, evaluate conditions, select bytes, reserve memory,
//! fetch stripes ahead of the client, hand out what is verified. HEAD and failed conditions touch no drive.
//!
//! Invariants:
//!  - a byte is handed out only after the CRC of its unit was verified here; a reconstructed one, after the CRC that a
//!    parity unit carries for it;
//!  - the last bytes of a whole object go out only after its CRC-64/NVME was found right.

mod chunk;
mod drives;
mod get;
mod inline;
mod pace;
mod plan;
mod rebuild;
mod report;
mod select;
mod stream;
mod stripe;
mod version;

pub(crate) use plan::ReadPlan;
pub(crate) use report::Reporter;
pub(crate) use stream::open_stream;
pub(crate) use version::{FoundVersion, find_version};
