//! Bytes of one simulated file: pages that are shared until they change.
//!
//! Owns which pages occupy space. Invariants: a page has exactly [`PAGE`] bytes; bytes after the end of the file
//! are zeros, so that a file that grows again shows nothing old; no page begins at or after the end.

use super::history::Change;
use bytes::Bytes;

/// Unit of allocation, and of what the simulated cache holds.
pub(super) const PAGE: usize = crate::buf::ALIGN;
/// Longer files are refused: a wrong offset shall be an error, not all memory.
pub(super) const LONGEST: u64 = 16 << 30;
static ZEROS: [u8; PAGE] = [0; PAGE];

#[derive(Clone, Debug)]
enum Page {
    /// Reads as zeros, occupies nothing.
    Hole,
    /// Zeros that were written: occupies space on the device but none here, as segments are zeroed whole.
    Zeros,
    Data(Bytes),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pages: Vec<Page>,
    len: u64,
    allocated_pages: u64,
}

/// A part of a range that lies in one page.
struct Span {
    page: usize,
    /// Within the page.
    start: usize,
    /// Within the range.
    at: usize,
    len: usize,
}

/// Cuts a range at the borders of pages.
fn spans(offset: u64, len: usize) -> impl Iterator<Item = Span> {
    let first = index(offset);
    let mut at = 0;
    std::iter::from_fn(move || {
        (at < len).then(|| {
            let (page, start) = ((first + at) / PAGE, (first + at) % PAGE);
            let span = Span { page, start, at, len: (PAGE - start).min(len - at) };
            at += span.len;
            span
        })
    })
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a simulated file fits the address space")
}

impl Page {
    fn of(bytes: Bytes) -> Self {
        if bytes[..] == ZEROS { Self::Zeros } else { Self::Data(bytes) }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Hole | Self::Zeros => &ZEROS,
            Self::Data(bytes) => bytes,
        }
    }

    fn is_hole(&self) -> bool {
        matches!(self, Self::Hole)
    }
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        self.allocated_pages * PAGE as u64
    }

    /// Bytes that writing the range would newly occupy.
    pub(super) fn needed_bytes(&self, offset: u64, len: usize) -> u64 {
        let missing = |span: &Span| self.pages.get(span.page).is_none_or(Page::is_hole);
        spans(offset, len).filter(missing).count() as u64 * PAGE as u64
    }

    /// `false` if the file ends before the range does; nothing was read then.
    pub(super) fn read(&self, out: &mut [u8], offset: u64) -> bool {
        if out.is_empty() {
            return true;
        }
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.len) {
            return false;
        }
        for span in spans(offset, out.len()) {
            let page = self.pages[span.page].bytes();
            out[span.at..][..span.len].copy_from_slice(&page[span.start..][..span.len]);
        }
        true
    }

    /// A change of bytes; one of names is none of a file.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { offset, bytes, .. } => self.write(*offset, bytes),
            Change::Truncate { len, .. } => self.truncate(*len),
            Change::Punch { offset, len, .. } => self.punch(*offset, *len),
            Change::Link { .. } | Change::Unlink { .. } => {}
        }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.grow(offset + bytes.len() as u64);
        for span in spans(offset, bytes.len()) {
            let part = bytes.slice(span.at..span.at + span.len);
            let page = if span.len == PAGE { Page::of(part) } else { self.merged(&span, &part) };
            self.put(span.page, page);
        }
    }

    fn truncate(&mut self, len: u64) {
        if len >= self.len {
            self.grow(len);
            return;
        }
        let kept = index(len).div_ceil(PAGE);
        let dropped = self.pages.drain(kept..).filter(|page| !page.is_hole()).count();
        self.allocated_pages -= dropped as u64;
        self.len = len;
        let inside = index(len) % PAGE;
        if inside != 0 {
            self.clear(&Span { page: kept - 1, start: inside, at: 0, len: PAGE - inside });
        }
    }

    fn punch(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.len);
        if offset >= end {
            return;
        }
        for span in spans(offset, index(end - offset)) {
            // The tail of the file's last page holds nothing, so a hole up to the end takes the page whole.
            if span.start == 0 && (span.len == PAGE || end == self.len) {
                self.put(span.page, Page::Hole);
            } else {
                self.clear(&span);
            }
        }
    }

    fn grow(&mut self, len: u64) {
        if len > self.len {
            self.len = len;
            self.pages.resize(index(len).div_ceil(PAGE), Page::Hole);
        }
    }

    fn merged(&self, span: &Span, part: &[u8]) -> Page {
        let mut bytes = self.pages[span.page].bytes().to_vec();
        bytes[span.start..][..span.len].copy_from_slice(part);
        Page::Data(Bytes::from(bytes))
    }

    /// Zeros in a part of a page, which keeps its space.
    fn clear(&mut self, span: &Span) {
        if matches!(self.pages[span.page], Page::Data(_)) {
            let page = self.merged(span, &ZEROS[..span.len]);
            self.put(span.page, page);
        }
    }

    fn put(&mut self, at: usize, page: Page) {
        let (before, after) = (self.pages[at].is_hole(), page.is_hole());
        self.allocated_pages = self.allocated_pages + u64::from(before) - u64::from(after);
        self.pages[at] = page;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Truncate(u64),
        Punch(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let offset = prop_oneof![0..20_000_u64, (0..5_u64).prop_map(|page| page * PAGE as u64)];
        let len = prop_oneof![0..9_000_usize, (0..3_usize).prop_map(|pages| pages * PAGE)];
        prop_oneof![
            (offset.clone(), len.clone(), any::<u8>())
                .prop_map(|(offset, len, byte)| Step::Write(offset, vec![byte; len])),
            offset.clone().prop_map(Step::Truncate),
            (offset, len).prop_map(|(offset, len)| Step::Punch(offset, len as u64)),
        ]
    }

    proptest! {
        #[test]
        fn pages_read_as_a_plain_vector_would(steps in prop::collection::vec(step(), 1..20)) {
            let (mut content, mut model) = (Content::default(), Vec::new());
            for step in steps {
                match step {
                    Step::Write(offset, bytes) => {
                        content.write(offset, &Bytes::from(bytes.clone()));
                        let start = index(offset);
                        if !bytes.is_empty() {
                            model.resize(model.len().max(start + bytes.len()), 0);
                            model[start..start + bytes.len()].copy_from_slice(&bytes);
                        }
                    }
                    Step::Truncate(len) => {
                        content.truncate(len);
                        model.resize(index(len), 0);
                    }
                    Step::Punch(offset, len) => {
                        content.punch(offset, len);
                        let end = index(offset + len).min(model.len());
                        model[index(offset).min(end)..end].fill(0);
                    }
                }
                let mut out = vec![1; model.len()];
                prop_assert!(content.read(&mut out, 0) && out == model);
                prop_assert!(!content.read(&mut vec![0; model.len() + 1], 0));
                let occupied = content.pages.iter().filter(|page| !page.is_hole()).count();
                prop_assert_eq!(content.allocated_bytes(), (occupied * PAGE) as u64);
                // What is not a hole in the model must occupy space.
                let needed = model.chunks(PAGE).filter(|page| page.iter().any(|byte| *byte != 0)).count();
                prop_assert!(occupied >= needed);
            }
        }
    }
}
