//! A snapshot on its way in, kept in a file until it is complete: an install that began is not broken off by the
//! network.

use ashlar_runtime::{Disk, DiskFile, OpenMode};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

const PREFIX: &str = "incoming-";

/// Pieces of a snapshot in a file that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Spool {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    end: u64,
    pieces: Vec<(u64, usize)>,
}

impl Spool {
    /// `number` tells it from others in the same directory.
    pub(crate) fn create(disk: Arc<dyn Disk>, dir: &Path, number: u64) -> io::Result<Self> {
        let path = dir.join(format!("{PREFIX}{number:016x}"));
        let file = disk.open(&path, OpenMode::CreateNew)?;
        Ok(Self { disk, path, file, end: 0, pieces: Vec::new() })
    }

    /// Removes what a crash left behind.
    pub(crate) fn remove_remains(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        for name in disk.list_dir(dir)? {
            if name.starts_with(PREFIX) {
                disk.unlink(&dir.join(name))?;
            }
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all_at(piece, self.end)?;
        self.pieces.push((self.end, piece.len()));
        self.end += piece.len() as u64;
        Ok(())
    }

    pub(crate) fn pieces(&self) -> impl Iterator<Item = io::Result<Vec<u8>>> {
        self.pieces.iter().map(|(offset, len)| {
            let mut piece = vec![0; *len];
            self.file.read_exact_at(&mut piece, *offset)?;
            Ok(piece)
        })
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(error) = self.disk.unlink(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a received snapshot could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_runtime::RealDisk;

    #[test]
    fn pieces_come_back_in_order_and_the_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(Arc::new(RealDisk), dir.path(), 1).unwrap();
        let pieces: Vec<Vec<u8>> = vec![vec![1; 1000], vec![], vec![2; 3]];
        pieces.iter().for_each(|piece| spool.push(piece).unwrap());
        assert_eq!(spool.pieces().collect::<io::Result<Vec<_>>>().unwrap(), pieces);
        drop(spool);
        assert!(RealDisk.list_dir(dir.path()).unwrap().is_empty());
        std::mem::forget(Spool::create(Arc::new(RealDisk), dir.path(), 2).unwrap());
        Spool::remove_remains(&RealDisk, dir.path()).unwrap();
        assert!(RealDisk.list_dir(dir.path()).unwrap().is_empty());
    }
}
