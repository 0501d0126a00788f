//! What a read has to fetch: the entries, chunks and stripes that hold a range of a version. Pure.

use super::report::Subject;
use ashlar_types::{
    ByteRange, Content, ExtentSource, ManifestEntry, ObjectError, ShardOwner, VersionInfo,
    service::BucketInfo,
};

pub(crate) struct ReadPlan {
    pub(crate) subject: Subject,
    pub(crate) content: Content,
    /// Of the version's bytes.
    pub(crate) range: ByteRange,
    /// CRC-64/NVME of the whole, if the whole is read.
    pub(crate) whole_crc64: Option<u64>,
}

/// The bytes wanted of one entry.
pub(crate) struct Section<'a> {
    pub(crate) entry: &'a ManifestEntry,
    /// Within the entry; never empty.
    pub(crate) range: ByteRange,
}

/// The bytes wanted of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRange {
    pub(crate) index: u32,
    pub(crate) chunk_len: u64,
    /// Within the chunk; never empty.
    pub(crate) range: ByteRange,
}

impl ReadPlan {
    pub(crate) fn new(
        bucket: &BucketInfo,
        info: &VersionInfo,
        content: Content,
        range: ByteRange,
    ) -> Result<Self, ObjectError> {
        if content.manifest.len() != info.size || range.end > info.size || range.start > range.end {
            tracing::error!(key = %info.key, size = info.size, "a manifest does not add up to its version");
            return Err(ObjectError::Internal("a manifest does not add up to its version"));
        }
        let subject = Subject {
            group: bucket.group,
            bucket: bucket.id,
            key: info.key.clone(),
            owner: info.parts_count.is_none().then_some(ShardOwner::Version(info.uid)),
        };
        let whole_crc64 = if range == ByteRange::whole(info.size) { info.crc64 } else { None };
        Ok(Self { subject, content, range, whole_crc64 })
    }

    pub(crate) fn sections(&self) -> impl Iterator<Item = Section<'_>> {
        let mut start = 0;
        self.content.manifest.entries.iter().filter_map(move |entry| {
            let placed = ByteRange { start, end: start + entry.len };
            start = placed.end;
            let wanted = placed.intersect(self.range)?;
            let range = ByteRange { start: wanted.start - placed.start, end: wanted.end - placed.start };
            Some(Section { entry, range })
        })
    }

    /// No byte of it is on a drive.
    pub(crate) fn is_inline(&self) -> bool {
        self.sections().all(|section| matches!(section.entry.source, ExtentSource::Inline { .. }))
    }
}

impl Section<'_> {
    pub(crate) fn is_whole(&self) -> bool {
        self.range == ByteRange::whole(self.entry.len)
    }
}

/// The chunks that hold `range` of a blob, in order.
pub(crate) fn chunk_ranges(
    blob_len: u64,
    chunk_size: u64,
    range: ByteRange,
) -> impl Iterator<Item = ChunkRange> {
    let first = range.start / chunk_size;
    let end = range.end.div_ceil(chunk_size);
    (first..end).filter_map(move |index| {
        let start = index * chunk_size;
        let chunk = ByteRange { start, end: blob_len.min(start + chunk_size) };
        let wanted = chunk.intersect(range)?;
        Some(ChunkRange {
            index: u32::try_from(index).ok()?,
            chunk_len: chunk.len(),
            range: ByteRange { start: wanted.start - start, end: wanted.end - start },
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunk_ranges_cover_exactly_the_bytes_asked_for(
            len in 1u64..1000, chunk_size in 1u64..300, a: prop::sample::Index, b: prop::sample::Index,
        ) {
            let bytes = usize::try_from(len).unwrap() + 1;
            let (a, b) = (a.index(bytes) as u64, b.index(bytes) as u64);
            let range = ByteRange { start: a.min(b), end: a.max(b) };
            let mut at = range.start;
            for chunk in chunk_ranges(len, chunk_size, range) {
                prop_assert_eq!(u64::from(chunk.index) * chunk_size + chunk.range.start, at);
                prop_assert!(!chunk.range.is_empty() && chunk.range.end <= chunk.chunk_len);
                let chunk_start = u64::from(chunk.index) * chunk_size;
                prop_assert_eq!(chunk.chunk_len, chunk_size.min(len - chunk_start));
                at += chunk.range.len();
            }
            prop_assert_eq!(at, range.end);
        }
    }
}
