//! Reads records at positions of a file.

use super::record::{self, HEADER_LEN, Head, Salt};
use ashlar_runtime::DiskFile;
use std::io;

/// Bytes fetched at once when records are read one after the other.
const WINDOW_BYTES: usize = 1024 * 1024;

/// A window over a file, moved by reading.
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    file_len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn DiskFile) -> io::Result<Self> {
        Ok(Self { file, file_len: file.len()?, start: 0, bytes: Vec::new() })
    }

    pub(super) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Exactly `len` bytes, or `None` if the file ends before.
    pub(super) fn get(&mut self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
        let Some(left) = self.file_len.checked_sub(offset) else { return Ok(None) };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if left < len {
            return Ok(None);
        }
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + len as u64 > end {
            self.bytes.resize(len.max(WINDOW_BYTES).min(left), 0);
            self.file.read_exact_at(&mut self.bytes, offset)?;
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).expect("the offset lies in the window");
        Ok(self.bytes.get(from..from + len))
    }

    /// The valid record at an offset, with its payload.
    pub(super) fn record(&mut self, salt: Salt, offset: u64) -> io::Result<Option<(Head, &[u8])>> {
        let Some(header) = self.get(offset, HEADER_LEN)?.and_then(<[u8]>::first_chunk::<HEADER_LEN>) else {
            return Ok(None);
        };
        let header = *header;
        let Some(len) = record::payload_len(&header) else { return Ok(None) };
        let Some(bytes) = self.get(offset, HEADER_LEN + len)? else { return Ok(None) };
        let payload = &bytes[HEADER_LEN..];
        Ok(record::verify(salt, &header, payload).map(|head| (head, payload)))
    }
}
