//! Verified reads of one shard file.
//!
//! All reads go through one open file, so a shard that is replaced or deleted meanwhile is read whole in its old
//! state or not at all.

use super::{Damage, Description, HEADER_LEN, Header};
use ashlar_hashing::crc64nvme;
use ashlar_runtime::{AlignedBuf, Disk, DiskFile, OpenMode};
use ashlar_types::{ShardId, UnitSum};
use bytes::Bytes;
use std::{io, ops::Range, path::Path};

/// Why a shard could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFault {
    #[error("there is no such file")]
    Absent,
    #[error(transparent)]
    Damaged(#[from] Damage),
    #[error("unit {0} does not match its checksum")]
    BadUnit(u32),
    #[error("the shard has {0} units")]
    NoSuchUnit(u32),
    #[error("the file could not be read")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ReadFault {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            Self::Absent
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Damaged(Damage("the file ends too early"))
        } else {
            Self::Io(error)
        }
    }
}

/// An open file whose header was verified.
#[derive(Debug)]
pub(crate) struct OpenShard {
    file: Box<dyn DiskFile>,
    pub(crate) header: Header,
}

impl OpenShard {
    pub(crate) fn open(disk: &dyn Disk, path: &Path, shard: ShardId) -> Result<Self, ReadFault> {
        let file = disk.open(path, OpenMode::Read)?;
        let mut raw = [0; HEADER_LEN];
        file.read_exact_at(&mut raw, 0)?;
        let header = Header::decode(&raw)?;
        if header.id != shard {
            return Err(Damage("the file holds another shard").into());
        }
        if header.file_len() != Some(file.len()?) {
            return Err(Damage("the file has another length than its header says").into());
        }
        Ok(Self { file, header })
    }

    pub(crate) fn description(&self) -> Result<Description, ReadFault> {
        let len = u64::from(self.header.meta_len) + u64::from(self.header.table_len);
        // The header was verified and the file is that long, so this much is really there.
        let len = usize::try_from(len).map_err(|_| Damage("the description is too long"))?;
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, HEADER_LEN as u64 + self.header.payload_len)?;
        Ok(Description::decode(&self.header, &bytes)?)
    }

    /// The units asked for, each verified.
    pub(crate) fn units(&self, wanted: Range<u32>) -> Result<Vec<(UnitSum, Bytes)>, ReadFault> {
        let mut sums = self.description()?.units;
        if wanted.end > self.header.units {
            return Err(ReadFault::NoSuchUnit(self.header.units));
        }
        if wanted.start >= wanted.end {
            return Ok(Vec::new());
        }
        let place = |unit: u32| usize::try_from(unit).map_err(|_| Damage("the unit table is too long"));
        let (first, end) = (place(wanted.start)?, place(wanted.end)?);
        let before: u64 = sums[..first].iter().map(|sum| u64::from(sum.len)).sum();
        sums.truncate(end);
        let sums = sums.split_off(first);
        let span: u64 = sums.iter().map(|sum| u64::from(sum.len)).sum();
        let span = usize::try_from(span).map_err(|_| Damage("the payload is too long"))?;
        let mut buffer = AlignedBuf::zeroed(span);
        self.file.read_exact_at(&mut buffer, HEADER_LEN as u64 + before)?;

        let mut rest = buffer.freeze();
        let mut units = Vec::with_capacity(sums.len());
        for (unit, sum) in wanted.zip(sums) {
            let bytes = rest.split_to(place(sum.len)?);
            if crc64nvme(&bytes) != sum.crc64 {
                return Err(ReadFault::BadUnit(unit));
            }
            units.push((sum, bytes));
        }
        Ok(units)
    }
}
