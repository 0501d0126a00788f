//! Bytes that live in metadata.

use ashlar_hashing::crc64nvme;
use ashlar_types::{ManifestEntry, ObjectError};
use bytes::Bytes;

/// The bytes of an inline entry, verified. `inline` is the row of all inline entries of the version.
pub(crate) fn entry_bytes(entry: &ManifestEntry, offset: u32, inline: &Bytes) -> Result<Bytes, ObjectError> {
    let bytes = usize::try_from(offset).ok().and_then(|start| {
        let end = start.checked_add(usize::try_from(entry.len).ok()?)?;
        (end <= inline.len()).then(|| inline.slice(start..end))
    });
    match bytes {
        Some(bytes) if crc64nvme(&bytes) == entry.crc64 => Ok(bytes),
        Some(_) | None => {
            tracing::error!(len = entry.len, "inline bytes do not match their checksum");
            Err(ObjectError::Unreadable)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_types::ExtentSource;

    #[test]
    fn only_bytes_that_match_their_checksum_are_returned() {
        let inline = Bytes::from_static(b"abcdef");
        let entry = |len, crc64| ManifestEntry {
            part_number: 0,
            len,
            crc64,
            source: ExtentSource::Inline { offset: 2 },
        };
        let good = entry(3, crc64nvme(b"cde"));
        assert_eq!(entry_bytes(&good, 2, &inline), Ok(Bytes::from_static(b"cde")));
        assert_eq!(entry_bytes(&good, 1, &inline), Err(ObjectError::Unreadable));
        assert_eq!(entry_bytes(&entry(5, crc64nvme(b"cdef")), 2, &inline), Err(ObjectError::Unreadable));
        assert_eq!(entry_bytes(&entry(u64::MAX, 0), 2, &inline), Err(ObjectError::Unreadable));
    }
}
