//! The superblock: whose drive this is. Owns its bytes and how a directory becomes a drive.

use crate::error::{FileOperation, OpenError};
use ashlar_hashing::crc64nvme;
use ashlar_runtime::{Disk, OpenMode};
use ashlar_types::{ClusterId, DriveUuid};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Format of the drive directory that this crate writes, and the newest that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"ASHLARSB";
const LEN: usize = 56;
/// Far above any superblock: a longer file is not one.
const LEN_MAX: u64 = 64 * 1024;

const SUPERBLOCK: &str = "superblock";
const LOCK: &str = "lock";
const TEMPORARY: &str = "tmp";
const SHARDS: &str = "shards";
/// Made by mkfs in the root of an ext4 file system.
const LOST_AND_FOUND: &str = "lost+found";

/// Which drive of which cluster a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriveIdentity {
    pub cluster: ClusterId,
    pub drive: DriveUuid,
}

/// The places inside a drive directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join(LOCK)
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join(TEMPORARY)
    }

    pub(crate) fn shards(&self) -> PathBuf {
        self.root.join(SHARDS)
    }

    /// The directory of shards whose blob ids begin with `byte`.
    pub(crate) fn fan_out(&self, byte: u8) -> PathBuf {
        self.root.join(format!("{SHARDS}/{byte:02x}"))
    }

    fn superblock(&self) -> PathBuf {
        self.root.join(SUPERBLOCK)
    }
}

fn encode(identity: DriveIdentity) -> [u8; LEN] {
    let mut out = [0; LEN];
    let len = u32::try_from(LEN).expect("a superblock is short");
    out[..8].copy_from_slice(MAGIC);
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&len.to_le_bytes());
    out[16..32].copy_from_slice(&identity.cluster.0.to_le_bytes());
    out[32..48].copy_from_slice(&identity.drive.0.to_le_bytes());
    let crc = crc64nvme(&out[..48]);
    out[48..].copy_from_slice(&crc.to_le_bytes());
    out
}

#[derive(Debug, PartialEq, Eq)]
enum DecodeError {
    Damaged(&'static str),
    Newer(u32),
}

fn decode(bytes: &[u8]) -> Result<DriveIdentity, DecodeError> {
    let (body, crc) = bytes.split_last_chunk::<8>().ok_or(DecodeError::Damaged("it is too short"))?;
    if !body.starts_with(MAGIC) {
        return Err(DecodeError::Damaged("it does not begin with the magic number"));
    }
    if crc64nvme(body) != u64::from_le_bytes(*crc) {
        return Err(DecodeError::Damaged("its checksum does not match"));
    }
    let version = body[8..].first_chunk::<4>().map(|raw| u32::from_le_bytes(*raw));
    match version {
        Some(FORMAT_VERSION) => {}
        Some(newer) if newer > FORMAT_VERSION => return Err(DecodeError::Newer(newer)),
        Some(_) | None => return Err(DecodeError::Damaged("its format version never existed")),
    }
    let wide = |at: usize| body.get(at..)?.first_chunk::<16>().map(|raw| u128::from_le_bytes(*raw));
    match (bytes.len(), wide(16), wide(32)) {
        (LEN, Some(cluster), Some(drive)) => {
            Ok(DriveIdentity { cluster: ClusterId(cluster), drive: DriveUuid(drive) })
        }
        _ => Err(DecodeError::Damaged("its length is wrong")),
    }
}

/// Names `operation` and `path` in an I/O error.
pub(crate) fn at(operation: FileOperation, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { operation, path, source }
}

/// `None` if the directory does not exist.
pub(crate) fn names(disk: &dyn Disk, dir: &Path) -> Result<Option<Vec<String>>, OpenError> {
    match disk.list_dir(dir) {
        Ok(names) => Ok(Some(names)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(FileOperation::List, dir)(error)),
    }
}

/// `Ok(None)` if the directory is absent, empty, or left by an interrupted format.
pub(crate) fn read(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Option<DriveIdentity>, OpenError> {
    let layout = Layout::new(dir);
    let Some(found) = names(disk.as_ref(), dir)? else { return Ok(None) };
    if !found.iter().any(|name| name == SUPERBLOCK) {
        return match foreign_name(disk.as_ref(), &layout, &found)? {
            None => Ok(None),
            Some(name) => Err(OpenError::NotEmpty { dir: dir.to_owned(), name }),
        };
    }
    let path = layout.superblock();
    let file = disk.open(&path, OpenMode::Read).map_err(at(FileOperation::Open, &path))?;
    let len = file.len().map_err(at(FileOperation::Read, &path))?;
    let damaged = |reason| OpenError::DamagedSuperblock { dir: dir.to_owned(), reason };
    let len = usize::try_from(len.min(LEN_MAX)).map_err(|_| damaged("it is too long"))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map_err(at(FileOperation::Read, &path))?;
    match decode(&bytes) {
        Ok(identity) => Ok(Some(identity)),
        Err(DecodeError::Damaged(reason)) => Err(damaged(reason)),
        Err(DecodeError::Newer(found)) => {
            Err(OpenError::NewerFormat { dir: dir.to_owned(), found, supported: FORMAT_VERSION })
        }
    }
}

/// The first name in a directory without superblock that an interrupted format does not leave.
fn foreign_name(disk: &dyn Disk, layout: &Layout, found: &[String]) -> Result<Option<String>, OpenError> {
    for name in found {
        let foreign = match name.as_str() {
            LOCK | LOST_AND_FOUND => None,
            TEMPORARY => names(disk, &layout.temporary())?
                .unwrap_or_default()
                .into_iter()
                .find(|inner| inner != SUPERBLOCK)
                .map(|inner| format!("{TEMPORARY}/{inner}")),
            SHARDS => first_shard(disk, layout)?,
            other => Some(other.to_owned()),
        };
        if foreign.is_some() {
            return Ok(foreign);
        }
    }
    Ok(None)
}

fn first_shard(disk: &dyn Disk, layout: &Layout) -> Result<Option<String>, OpenError> {
    for inner in names(disk, &layout.shards())?.unwrap_or_default() {
        let path = layout.shards().join(&inner);
        if let Some(shard) = names(disk, &path)?.unwrap_or_default().first() {
            return Ok(Some(format!("{SHARDS}/{inner}/{shard}")));
        }
    }
    Ok(None)
}

/// Makes a drive of an absent or empty directory. The superblock is the last thing to become durable.
pub(crate) fn format(disk: &Arc<dyn Disk>, dir: &Path, identity: DriveIdentity) -> Result<(), OpenError> {
    let layout = Layout::new(dir);
    create_durably(disk.as_ref(), dir)?;
    let _lock = lock(disk.as_ref(), &layout)?;
    if let Some(DriveIdentity { cluster, drive }) = read(disk, dir)? {
        return Err(OpenError::AlreadyFormatted { dir: dir.to_owned(), cluster, drive });
    }
    let make = |path: &Path| disk.create_dir_all(path).map_err(at(FileOperation::Create, path));
    let flush = |path: &Path| disk.sync_dir(path).map_err(at(FileOperation::FlushDirectory, path));
    make(&layout.temporary())?;
    for byte in 0..=u8::MAX {
        make(&layout.fan_out(byte))?;
    }
    flush(&layout.shards())?;
    flush(dir)?;

    let draft = layout.temporary().join(SUPERBLOCK);
    let file = disk.open(&draft, OpenMode::Create).map_err(at(FileOperation::Create, &draft))?;
    file.truncate(0).map_err(at(FileOperation::Write, &draft))?;
    file.write_all_at(&encode(identity), 0).map_err(at(FileOperation::Write, &draft))?;
    file.sync_data().map_err(at(FileOperation::Flush, &draft))?;
    disk.rename(&draft, &layout.superblock()).map_err(at(FileOperation::Rename, &draft))?;
    flush(dir)
}

/// Takes the drive for this process.
pub(crate) fn lock(
    disk: &dyn Disk,
    layout: &Layout,
) -> Result<Box<dyn std::fmt::Debug + Send + Sync>, OpenError> {
    let path = layout.lock();
    disk.lock(&path).map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            OpenError::Locked { dir: layout.root().to_owned() }
        } else {
            at(FileOperation::Lock, &path)(error)
        }
    })
}

/// Makes the directory and flushes the names of all its ancestors that did not exist.
fn create_durably(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let mut missing = Vec::new();
    for path in dir.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        if names(disk, path)?.is_some() {
            break;
        }
        missing.push(path);
    }
    disk.create_dir_all(dir).map_err(at(FileOperation::Create, dir))?;
    for path in missing {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            Some(_) | None => Path::new("."),
        };
        disk.sync_dir(parent).map_err(at(FileOperation::FlushDirectory, parent))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: DriveIdentity =
        DriveIdentity { cluster: ClusterId(0x0102_0304), drive: DriveUuid(u128::MAX - 7) };

    #[test]
    fn a_superblock_is_read_back_and_every_flipped_bit_or_cut_is_noticed() {
        let sound = encode(IDENTITY);
        assert_eq!(decode(&sound), Ok(IDENTITY));
        for bit in 0..LEN * 8 {
            let mut flipped = sound;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&flipped), Err(DecodeError::Damaged(_))), "bit {bit}");
        }
        for len in 0..LEN {
            assert!(matches!(decode(&sound[..len]), Err(DecodeError::Damaged(_))), "{len} bytes");
        }
    }

    #[test]
    fn the_bytes_of_the_superblock_do_not_change() {
        let mut expected = b"ASHLARSB\x01\0\0\0\x38\0\0\0\x04\x03\x02\x01".to_vec();
        expected.resize(32, 0);
        expected.extend([0xf8]);
        expected.extend([0xff; 15]);
        assert_eq!(encode(IDENTITY)[..48], expected);
    }

    #[test]
    fn a_longer_superblock_of_a_later_version_is_newer_and_not_damaged() {
        let mut later = encode(IDENTITY)[..48].to_vec();
        later[8] = 2;
        later.extend([9; 40]);
        later.extend(crc64nvme(&later).to_le_bytes());
        assert_eq!(decode(&later), Err(DecodeError::Newer(2)));
    }
}
