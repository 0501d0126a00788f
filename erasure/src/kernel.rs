//! The inner loop of coding: outputs = coefficients x inputs, over GF(2^8), byte column by byte column.
//!
//! Owns the choice of an implementation for the processor at hand. Every kernel gives the bytes of the scalar
//! one; a kernel that needs a processor feature carries the proof of it in its variant, so that holding a
//! `Kernel` means that it may run.

mod scalar;

use crate::interpolation::Row;

/// An implementation of the inner loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Portable, on 64-bit words.
    Scalar,
}

impl Kernel {
    /// The fastest kernel that this processor can run.
    pub fn detect() -> Self {
        Self::Scalar
    }

    /// Sets output r to the sum over i of `rows[r][i]` times input i. The caller has checked that there is a row
    /// for every output, at least one and at most `SLOTS_MAX` inputs, and one length throughout.
    pub(crate) fn multiply(self, rows: &[Row], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
        match self {
            Self::Scalar => scalar::multiply(rows, inputs, outputs),
        }
    }
}
