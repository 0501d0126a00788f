//! From content that nothing names any more to rows of `Gc`, and their end.
//!
//! One row an entry: it is worked off as a whole, and its time is the entry's.

use super::apply::Apply;
use crate::{
    command::{Done, GarbageId},
    kv::Table,
    tables,
};
use ashlar_types::{Blob, ChunkId, ShardOwner, SlotIndex};

impl Apply<'_> {
    /// Makes a blob garbage that was named by `owner`, with its rows in `Reverse` and `Repair`.
    pub(super) fn discard_blob(&mut self, owner: ShardOwner, blob: Blob) {
        for (chunk, index) in blob.chunks.iter().zip(0u32..) {
            let id = ChunkId { blob: blob.id, index };
            self.remove(Table::Reverse, tables::reverse(chunk.pg, owner, id));
            for (_, slot) in chunk.slots.iter().zip(0u8..) {
                self.remove_repair(id, SlotIndex(slot));
            }
        }
        self.garbage.push(blob);
    }

    pub(super) fn flush_garbage(&mut self) {
        if self.garbage.is_empty() {
            return;
        }
        let id = GarbageId { since: self.now(), number: self.group.next_garbage };
        self.group.next_garbage += 1;
        let blobs = std::mem::take(&mut self.garbage);
        self.put(Table::Gc, tables::garbage(id), &blobs);
    }

    pub(super) fn garbage_done(&mut self, rows: &[GarbageId]) -> Done {
        for row in rows {
            self.remove(Table::Gc, tables::garbage(*row));
        }
        Done::Nothing
    }
}
