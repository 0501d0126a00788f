//! What the engine's journals hold after a crash, looked at before the engine replays them.
//!
//! ```text
//! journal   { batch }* rest; the rest is zeros (a new journal is 64 MiB of them) or nothing
//! batch     start u8 1 | items u32 | sequence u64
//!           item  u8 2 | kind u8 | compression u8 | keyspace u64 | key length u16 | value length u32 | stored length u32 | key | value
//!           clear u8 4 | keyspace u64
//!           end   u8 3 | xxh3-64 of the items as they are stored u64 | "FJL" 3
//! ```
//! Numbers are little-endian. This is the format of the pinned release of the engine.
//!
//! A power cut may lose any pages that were not flushed, in front of pages that were written back by chance. The engine
//! takes a hole for the end where it happens to fall on the beginning of an item, and refuses to open where it falls into a
//! value. Both are the same: the journal in use ends with the last batch before the hole, and is cut there. Journals
//! before it were flushed when they were sealed: a hole in one of them is damage, and what the engine makes of it, which is
//! to go on with the next journal, would leave out batches in the middle.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::Xxh3;

const EXTENSION: &str = "jnl";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = *b"FJL\x03";
const BUFFER_BYTES: usize = 256 << 10;

/// What was found and done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    Whole,
    /// The rest held no whole batch.
    Cut {
        bytes: u64,
    },
}

#[derive(Debug)]
pub(super) enum JournalError {
    Io(io::Error),
    /// A journal that had been flushed is not whole.
    Damaged(PathBuf),
}

impl From<io::Error> for JournalError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Makes the journals in `dir` such that the engine replays all whole batches from the first on, and nothing else.
pub(super) fn settle(dir: &Path) -> Result<Tail, JournalError> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let Some(number) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok())
        {
            journals.push((number, path));
        }
    }
    journals.sort_unstable();
    let Some((_, last)) = journals.pop() else { return Ok(Tail::Whole) };
    for (_, sealed) in journals {
        if read(&sealed)?.torn {
            return Err(JournalError::Damaged(sealed));
        }
    }
    let Extent { valid, torn, len } = read(&last)?;
    if !torn {
        return Ok(Tail::Whole);
    }
    let file = OpenOptions::new().write(true).open(&last)?;
    file.set_len(valid)?;
    file.sync_all()?;
    Ok(Tail::Cut { bytes: len - valid })
}

struct Extent {
    /// Bytes of whole batches from the beginning on.
    valid: u64,
    /// Something other than zeros follows them.
    torn: bool,
    len: u64,
}

fn read(path: &Path) -> io::Result<Extent> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut reader = Reader { inner: BufReader::with_capacity(BUFFER_BYTES, file), position: 0 };
    let mut valid = 0;
    let torn = loop {
        match reader.batch()? {
            Step::Batch => valid = reader.position,
            Step::End => break false,
            Step::Zero => break !reader.only_zeros_follow()?,
            Step::Broken => break true,
        }
    };
    Ok(Extent { valid, torn, len })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Batch,
    /// The file ends where a batch would begin.
    End,
    /// A zero byte where a batch would begin.
    Zero,
    Broken,
}

struct Reader<R> {
    inner: R,
    position: u64,
}

impl<R: Read> Reader<R> {
    /// `None` if the file ends before.
    fn take<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        match self.inner.read_exact(&mut bytes) {
            Ok(()) => {
                self.position += N as u64;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn batch(&mut self) -> io::Result<Step> {
        match self.take::<1>()? {
            None => return Ok(Step::End),
            Some([0]) => return Ok(Step::Zero),
            Some([START]) => {}
            Some(_) => return Ok(Step::Broken),
        }
        Ok(if self.rest_of_batch()?.is_some() { Step::Batch } else { Step::Broken })
    }

    /// `None` if it is not whole.
    fn rest_of_batch(&mut self) -> io::Result<Option<()>> {
        let Some([i0, i1, i2, i3, _sequence @ ..]) = self.take::<12>()? else { return Ok(None) };
        let mut hash = Xxh3::new();
        for _ in 0..u32::from_le_bytes([i0, i1, i2, i3]) {
            if self.item(&mut hash)?.is_none() {
                return Ok(None);
            }
        }
        let Some([END, sum @ ..]) = self.take::<9>()? else { return Ok(None) };
        let trailer = self.take()?;
        Ok((u64::from_le_bytes(sum) == hash.digest() && trailer == Some(TRAILER)).then_some(()))
    }

    fn item(&mut self, hash: &mut Xxh3) -> io::Result<Option<()>> {
        match self.take::<1>()? {
            Some([ITEM]) => {
                let Some(head) = self.take::<20>()? else { return Ok(None) };
                let [_kind, compression, rest @ ..] = head;
                let [.., k0, k1, v0, v1, v2, v3, s0, s1, s2, s3] = rest;
                let stored = u32::from_le_bytes([s0, s1, s2, s3]);
                if compression != 0 || stored != u32::from_le_bytes([v0, v1, v2, v3]) {
                    return Ok(None);
                }
                hash.update(&[ITEM]);
                hash.update(&head);
                self.hash_bytes(hash, u64::from(u16::from_le_bytes([k0, k1])) + u64::from(stored))
            }
            Some([CLEAR]) => {
                hash.update(&[CLEAR]);
                self.hash_bytes(hash, 8)
            }
            Some(_) | None => Ok(None),
        }
    }

    fn hash_bytes(&mut self, hash: &mut Xxh3, mut len: u64) -> io::Result<Option<()>> {
        let mut bytes = [0; 4096];
        while len > 0 {
            let part = usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len());
            let read = self.inner.read(&mut bytes[..part])?;
            if read == 0 {
                return Ok(None);
            }
            hash.update(&bytes[..read]);
            self.position += read as u64;
            len -= read as u64;
        }
        Ok(Some(()))
    }

    fn only_zeros_follow(&mut self) -> io::Result<bool> {
        let mut bytes = vec![0; BUFFER_BYTES];
        loop {
            match self.inner.read(&mut bytes)? {
                0 => return Ok(true),
                read if bytes[..read].iter().any(|byte| *byte != 0) => return Ok(false),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Batch, FjallKv, FjallOptions, Kv, Table};
    use tempfile::TempDir;

    /// A journal of a few batches, and where each ends.
    fn journal() -> (Vec<u8>, Vec<usize>) {
        let dir = tempfile::tempdir().unwrap();
        let kv = FjallKv::open(dir.path(), FjallOptions::default()).unwrap();
        let mut ends = vec![];
        for number in 0..6u8 {
            let mut batch = Batch::default();
            batch.put(Table::Current, vec![number], vec![number; 100 * usize::from(number)]);
            batch.remove(Table::Versions, vec![number]);
            kv.write(batch).unwrap();
            let bytes = fs::read(dir.path().join("0/0.jnl")).unwrap();
            ends.push(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
        }
        let bytes = fs::read(dir.path().join("0/0.jnl")).unwrap();
        (bytes[..ends[5] + 1000].to_vec(), ends)
    }

    fn with(journals: &[&[u8]]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (number, bytes) in journals.iter().enumerate() {
            fs::write(dir.path().join(format!("{number}.jnl")), bytes).unwrap();
        }
        dir
    }

    #[test]
    fn any_changed_byte_ends_the_journal_in_use_before_its_batch() {
        let (bytes, ends) = journal();
        let dir = with(&[&bytes]);
        assert_eq!(settle(dir.path()).unwrap(), Tail::Whole);
        for place in (0..ends[5]).step_by(7) {
            // Numbers of batches are not covered by a checksum.
            let begin = ends.iter().copied().filter(|end| *end <= place).max().unwrap_or(0);
            if (5..13).contains(&(place - begin)) {
                continue;
            }
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let dir = with(&[&changed]);
            let cut = Tail::Cut { bytes: (bytes.len() - begin) as u64 };
            assert_eq!(settle(dir.path()).unwrap(), cut, "byte {place}");
            assert_eq!(fs::read(dir.path().join("0.jnl")).unwrap(), bytes[..begin]);
        }
    }

    #[test]
    fn damage_of_a_sealed_journal_is_an_error() {
        let (bytes, ends) = journal();
        let dir = with(&[&bytes, &bytes]);
        assert_eq!(settle(dir.path()).unwrap(), Tail::Whole);
        let mut damaged = bytes.clone();
        damaged[ends[2] + 40] ^= 1;
        let dir = with(&[&damaged, &bytes]);
        assert!(matches!(settle(dir.path()), Err(JournalError::Damaged(path)) if path.ends_with("0.jnl")));
        // Torn by the same damage, the journal in use is cut.
        let dir = with(&[&bytes, &damaged]);
        assert!(matches!(settle(dir.path()), Ok(Tail::Cut { .. })));
        assert_eq!(settle(dir.path()).unwrap(), Tail::Whole, "done once");
    }
}
