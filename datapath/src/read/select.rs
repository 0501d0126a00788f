//! Which bytes of a version a request means. Pure.

use ashlar_types::{ByteRange, Manifest, ObjectError, PartInfo, VersionInfo, service::Selection};

/// `manifest` and `parts` matter for `Selection::Part` only.
pub(crate) fn select(
    selection: Selection,
    info: &VersionInfo,
    manifest: Option<&Manifest>,
    parts: &[PartInfo],
) -> Result<(ByteRange, Option<PartInfo>), ObjectError> {
    match selection {
        Selection::Whole => Ok((ByteRange::whole(info.size), None)),
        Selection::Range(range) => {
            Ok((range.resolve(info.size).map_err(|_| ObjectError::InvalidRange)?, None))
        }
        // An object that was not uploaded in parts is its own part 1.
        Selection::Part(1) if info.parts_count.is_none() => Ok((ByteRange::whole(info.size), None)),
        Selection::Part(part_number) => {
            let absent = ObjectError::InvalidPartNumber { part_number };
            if info.parts_count.is_none() {
                return Err(absent);
            }
            let manifest =
                manifest.ok_or(ObjectError::Internal("a part was asked for without a manifest"))?;
            let range = part_range(manifest, part_number).ok_or(absent)?;
            Ok((range, parts.iter().find(|part| part.part_number == part_number).cloned()))
        }
    }
}

/// The bytes of the entries of one part, which follow each other.
fn part_range(manifest: &Manifest, part_number: u16) -> Option<ByteRange> {
    let mut start = 0;
    let mut found: Option<ByteRange> = None;
    for entry in &manifest.entries {
        let end = start + entry.len;
        if entry.part_number == part_number {
            found = Some(ByteRange { start: found.map_or(start, |range| range.start), end });
        }
        start = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_types::{
        ETag, ExtentSource, ManifestEntry, ObjectKey, ObjectMetadata, RangeRequest, Timestamp, VersionId,
        VersionUid,
    };

    fn info(size: u64, parts_count: Option<u32>) -> VersionInfo {
        VersionInfo {
            key: ObjectKey::parse("k").unwrap(),
            version_id: VersionId::Null,
            uid: VersionUid(1),
            is_latest: true,
            delete_marker: false,
            size,
            etag: ETag::from_md5([0; 16]),
            last_modified: Timestamp(0),
            metadata: ObjectMetadata::default(),
            checksum: None,
            crc64: Some(0),
            parts_count,
        }
    }

    fn parts(parts: &[(u16, u64)]) -> Manifest {
        let entry = |(part_number, len): &(u16, u64)| ManifestEntry {
            part_number: *part_number,
            len: *len,
            crc64: 0,
            source: ExtentSource::Inline { offset: 0 },
        };
        Manifest { entries: parts.iter().map(entry).collect() }
    }

    #[test]
    fn parts_are_found_by_their_number_not_their_position() {
        let manifest = parts(&[(2, 10), (5, 20), (5, 1), (9, 3)]);
        let info = info(34, Some(3));
        let range = |part| {
            select(Selection::Part(part), &info, Some(&manifest), &[])
                .map(|(range, _)| (range.start, range.end))
        };
        assert_eq!(range(2), Ok((0, 10)));
        assert_eq!(range(5), Ok((10, 31)));
        assert_eq!(range(9), Ok((31, 34)));
        assert_eq!(range(1), Err(ObjectError::InvalidPartNumber { part_number: 1 }));
    }

    #[test]
    fn an_object_without_parts_has_part_1_alone() {
        let info = info(7, None);
        assert_eq!(select(Selection::Part(1), &info, None, &[]).unwrap().0, ByteRange::whole(7));
        assert!(select(Selection::Part(2), &info, None, &[]).is_err());
    }

    #[test]
    fn a_range_past_the_end_is_refused() {
        let beyond = Selection::Range(RangeRequest::From(7));
        assert_eq!(select(beyond, &info(7, None), None, &[]), Err(ObjectError::InvalidRange));
    }
}
