//! What a stale read returns: the range as it was before the last change of it.

use super::{
    content::Content,
    history::{Change, Event},
    image::{DiskImage, NodeId},
};

/// Fills `out`, as far as the file went then; the rest is zeros, as on blocks that were never written.
pub(super) fn read(base: &DiskImage, events: &[Event], file: NodeId, out: &mut [u8], offset: u64) {
    let end = offset.saturating_add(out.len() as u64);
    let touches = |from: u64, to: u64| from < end && offset < to;
    let changes = events.iter().filter_map(|event| match event {
        Event::Change(change) => Some(change),
        Event::SyncFile(_) | Event::SyncDir(_) | Event::Lost(_) | Event::Note(_) => None,
    });
    let mut content = base.file(file).cloned().unwrap_or_default();
    let mut before = None;
    for change in changes.filter(|change| change.target() == file) {
        let (from, to) = match change {
            Change::Write { offset, bytes, .. } => (*offset, offset + bytes.len() as u64),
            Change::Punch { offset, len, .. } => (*offset, offset.saturating_add(*len)),
            Change::Truncate { len, .. } => (*len, u64::MAX),
            Change::Link { .. } | Change::Unlink { .. } => continue,
        };
        if touches(from, to) {
            before = Some(content.clone());
        }
        content.apply(change);
    }
    fill(&before.unwrap_or(content), out, offset);
}

fn fill(content: &Content, out: &mut [u8], offset: u64) {
    out.fill(0);
    let there = content.len().saturating_sub(offset).min(out.len() as u64);
    let there = usize::try_from(there).expect("at most the length of a slice");
    content.read(&mut out[..there], offset);
}
