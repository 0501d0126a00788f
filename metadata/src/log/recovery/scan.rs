//! Which batches there are: every block of every segment is looked at.
//!
//! Whether a batch is whole is not looked at here. Those of a segment's former uses are found as well; their numbers tell.

use super::super::{
    LogError,
    format::{BLOCK, BLOCK_BYTES, BatchHead, BatchNumber, Header, Salt, SegmentHead, SegmentId},
    segment::{Files, SegmentFile},
    window::Window,
};
use ashlar_runtime::{Rng, RngExt};
use std::{collections::BTreeMap, sync::Arc};

#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) salt: Salt,
    pub(super) segments: Vec<Segment>,
    /// Batches by number; of several with one number the one that continues the log.
    pub(super) batches: BTreeMap<BatchNumber, Found>,
    /// Others with the same numbers.
    pub(super) copies: Vec<Found>,
    pub(super) next_id: SegmentId,
    /// A block that may have been a batch's could not be read.
    pub(super) unreadable: bool,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<SegmentFile>,
    /// It has held a batch: so its name is durable.
    pub(super) was_used: bool,
}

/// A batch whose header verifies and that lies where it says.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) head: BatchHead,
    pub(super) crc: u64,
    /// In [`Scanned::segments`].
    pub(super) segment: usize,
}

pub(super) fn scan(files: &Files, rng: &dyn Rng) -> Result<Scanned, LogError> {
    let failed = |source| files.failed(source);
    let ids = files.list().map_err(failed)?;
    let next_id = SegmentId(ids.last().map_or(1, |last| last.0 + 1));
    let mut opened = Vec::new();
    for id in ids {
        opened.push(Arc::new(files.open(id).map_err(failed)?));
    }
    let Some(salt) = salt_of(&opened)? else {
        return without_salt(files, rng, opened, next_id);
    };
    let mut scanned = Scanned {
        salt,
        segments: Vec::new(),
        batches: BTreeMap::new(),
        copies: Vec::new(),
        next_id,
        unreadable: false,
    };
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for file in opened {
        let segment = scanned.segments.len();
        let before = found.len();
        unreadable.extend(batches_of(&file, salt, segment, &mut found).map(|offset| (segment, offset)));
        scanned.segments.push(Segment { file, was_used: found.len() > before });
    }
    scanned.unreadable = scanned.sort(found, &unreadable);
    Ok(scanned)
}

/// The salt of the log: that of most segments, as one may be another log's.
fn salt_of(files: &[Arc<SegmentFile>]) -> Result<Option<Salt>, LogError> {
    let mut salts: BTreeMap<Salt, usize> = BTreeMap::new();
    for file in files {
        match SegmentHead::decode(Window::new(file).at(0, BLOCK_BYTES)) {
            Header::Sound(head) if head.id == file.id => *salts.entry(head.salt).or_default() += 1,
            Header::Newer(found) => return Err(LogError::Version { path: file.path.clone(), found }),
            Header::Sound(_) | Header::Damaged => {}
        }
    }
    Ok(salts.into_iter().max_by_key(|(_, count)| *count).map(|(salt, _)| salt))
}

/// No header can be read, so no batch can. What was in the log is lost, and with it whoever had a replica in it; a log that
/// never held a batch looks the same after a crash during its making.
fn without_salt(
    files: &Files,
    rng: &dyn Rng,
    opened: Vec<Arc<SegmentFile>>,
    next_id: SegmentId,
) -> Result<Scanned, LogError> {
    for file in opened {
        let mut window = Window::new(&file);
        let blocks = (BLOCK_BYTES..file.len).step_by(BLOCK);
        let held_something = blocks
            .into_iter()
            .any(|offset| BatchHead::announced_len(window.at(offset, BLOCK_BYTES)).is_some());
        if held_something {
            tracing::error!(
                path = %file.path.display(),
                "no segment of the Raft log has a readable header: all that it held is lost; the file is set aside"
            );
            files.set_aside(file.id).map_err(|source| files.failed(source))?;
        } else {
            files.unlink(file.id).map_err(|source| files.failed(source))?;
        }
    }
    let salt = Salt(rng.u64());
    Ok(Scanned {
        salt,
        segments: Vec::new(),
        batches: BTreeMap::new(),
        copies: Vec::new(),
        next_id,
        unreadable: false,
    })
}

/// Adds the batches of one segment and returns the blocks that could not be read.
fn batches_of(
    file: &Arc<SegmentFile>,
    salt: Salt,
    segment: usize,
    found: &mut Vec<Found>,
) -> impl Iterator<Item = u64> {
    let mut window = Window::new(file);
    let mut offset = BLOCK_BYTES;
    while offset < file.len {
        if let Some(len) = BatchHead::announced_len(window.at(offset, BLOCK_BYTES)) {
            let head = BatchHead::decode(salt, window.at(offset, len as u64));
            let here = |(head, _): &(BatchHead, u64)| head.segment == file.id && head.offset == offset;
            found.extend(head.filter(here).map(|(head, crc)| Found { head, crc, segment }));
        }
        offset += BLOCK_BYTES;
    }
    window.unreadable().to_vec().into_iter()
}

impl Found {
    fn covers(&self, segment: usize, offset: u64) -> bool {
        self.segment == segment
            && (self.head.offset..self.head.offset + u64::from(self.head.len)).contains(&offset)
    }
}

impl Scanned {
    /// Sorts the batches. Whether an unreadable block may hide one that is none of them.
    fn sort(&mut self, found: Vec<Found>, unreadable: &[(usize, u64)]) -> bool {
        let hides = |(segment, offset): &(usize, u64)| {
            *offset > 0 && !found.iter().any(|batch| batch.covers(*segment, *offset))
        };
        let hidden = unreadable.iter().any(hides);
        for batch in found {
            let number = batch.head.number;
            let before = self.batches.get(&BatchNumber(number.0 - 1)).map(|before| before.crc);
            let continues = before.is_none_or(|crc| crc == batch.head.previous);
            if continues || !self.batches.contains_key(&number) {
                self.copies.extend(self.batches.insert(number, batch));
            } else {
                self.copies.push(batch);
            }
        }
        hidden
    }
}
