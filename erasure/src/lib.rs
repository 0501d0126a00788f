//! Reed-Solomon codec over GF(2^8), stripe geometry and coding kernels.
//!
//! Owns the arithmetic of a stripe: how parity follows from data, which survivors rebuild which slots, and where
//! a chunk's bytes lie in its shards. Knows no I/O, no clock, no randomness, and allocates nothing.
//!
//! The code is frozen with the disk format: polynomial 0x11d, systematic, byte-identical to
//! `reed-solomon-erasure` (`galois_8`), which stays as the tests' oracle.

mod codec;
mod field;
mod geometry;
mod interpolation;
mod kernel;
mod plan;
mod slots;

pub use codec::{Codec, CodecError};
pub use geometry::{CHUNK_LEN_MAX, Geometry, GeometryError, Piece, Pieces, Stripe, UNIT_ALIGN};
pub use kernel::Kernel;
pub use plan::DecodePlan;
pub use slots::{SLOTS_MAX, SlotSet};
