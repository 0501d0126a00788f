//! Lengths between the widths of files (`u64`) and of memory (`usize`).

/// Bytes of memory for a length that is bounded by a segment.
pub(crate) fn memory(len: u64) -> usize {
    usize::try_from(len).expect("a segment fits the address space")
}

/// A length in memory as a length in a file.
pub(crate) fn file(len: usize) -> u64 {
    len as u64
}
