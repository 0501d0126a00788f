//! Counters of a bucket against a recount of what its listings show.

use super::history::Violation;

/// What a bucket says it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Live latest versions.
    pub objects: u64,
    /// Other versions that hold bytes.
    pub noncurrent: u64,
    pub delete_markers: u64,
    /// Of all versions.
    pub bytes: u64,
    pub uploads: u64,
    /// Of the parts of open uploads.
    pub upload_bytes: u64,
}

/// One row of a whole listing of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRow {
    pub latest: bool,
    pub delete_marker: bool,
    pub size: u64,
}

pub fn recount(
    versions: impl IntoIterator<Item = VersionRow>,
    part_sizes_by_upload: impl IntoIterator<Item = Vec<u64>>,
) -> Counted {
    let mut counted = Counted::default();
    for row in versions {
        match row {
            VersionRow { delete_marker: true, .. } => counted.delete_markers += 1,
            VersionRow { latest: true, .. } => counted.objects += 1,
            VersionRow { latest: false, .. } => counted.noncurrent += 1,
        }
        counted.bytes += row.size;
    }
    for parts in part_sizes_by_upload {
        counted.uploads += 1;
        counted.upload_bytes += parts.iter().sum::<u64>();
    }
    counted
}

pub fn agree(bucket: &str, kept: Counted, recounted: Counted) -> Result<(), Violation> {
    if kept == recounted {
        return Ok(());
    }
    Err(Violation::new("counters", format!("{bucket}: kept {kept:?}, recounted {recounted:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recount_sees_every_kind_of_row_and_a_counter_that_is_off() {
        let row = |latest, delete_marker, size| VersionRow { latest, delete_marker, size };
        let rows = [row(true, false, 5), row(false, false, 7), row(true, true, 0), row(false, true, 0)];
        let counted = recount(rows, [vec![1, 2], vec![]]);
        let expected =
            Counted { objects: 1, noncurrent: 1, delete_markers: 2, bytes: 12, uploads: 2, upload_bytes: 3 };
        assert_eq!(counted, expected);
        assert_eq!(agree("b", expected, counted), Ok(()));
        assert!(agree("b", Counted { bytes: 13, ..expected }, counted).is_err());
    }
}
