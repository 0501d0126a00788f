//! Oracles for all structures: what is encoded is read back, the bytes are those of the page, no flipped bit and no
//! truncation goes unnoticed, and hostile bytes are refused.

mod batches;
mod bodies;
mod checkpoints;
mod fixture;
mod headers;
