//! The outbox: events of buckets, in the order in which they happened, until a reader has passed them on.
//!
//! Rows are numbered without gaps: `trimmed + 1 ..= last` are there. A reader reads after its cursor and trims up to it.
//! What nobody read in time, or beyond the size allowed, is dropped from the beginning and counted as lost; a reader
//! whose cursor is before `trimmed` sees how many it missed.

use super::{
    StateError,
    apply::{Applied, Apply},
    put::Place,
};
use crate::{
    command::Done,
    encoding::encode_row,
    event::{Event, EventKind, EventRecording, OutboxLimits},
    kv::{KvRead, Table},
    tables::{self, record::OutboxState},
};
use ashlar_types::BucketId;
use std::time::Duration;

/// Rows dropped with each new one: more than one, so that a limit that was lowered is reached.
const DROPPED_PER_EVENT: usize = 4;
/// Rows that one trim removes.
const TRIMMED_PER_COMMAND: usize = 10_000;

impl Apply<'_> {
    /// Does nothing if the bucket's events are not recorded.
    pub(super) fn record_event(&mut self, place: &Place<'_>, kind: EventKind) -> Result<(), StateError> {
        match place.events {
            EventRecording::Off => return Ok(()),
            EventRecording::On => {}
        }
        let event = Event { bucket: place.bucket, key: place.key.clone(), time: self.now(), kind };
        let outbox = &mut self.group.outbox;
        outbox.last += 1;
        let (row, value) = (tables::outbox(outbox.last), encode_row(&event));
        outbox.bytes += row_bytes(&row, &value);
        self.tables.put(Table::Outbox, row, value);
        self.cap_outbox(DROPPED_PER_EVENT)
    }

    pub(super) fn set_events(&mut self, bucket: BucketId, recording: EventRecording) -> Applied {
        let mut record = self.open_bucket(bucket)?;
        record.events = recording;
        self.put(Table::Buckets, tables::bucket(bucket), &record);
        Ok(Done::Nothing)
    }

    pub(super) fn set_outbox_limits(&mut self, limits: OutboxLimits) -> Applied {
        self.group.outbox.limits = limits;
        Ok(Done::Nothing)
    }

    /// Removes rows up to a cursor, some at a time.
    pub(super) fn trim_outbox(&mut self, through: u64) -> Applied {
        for _ in 0..TRIMMED_PER_COMMAND {
            if self.group.outbox.trimmed >= through.min(self.group.outbox.last) {
                break;
            }
            self.drop_oldest_event()?;
        }
        let OutboxState { trimmed, last, .. } = self.group.outbox;
        Ok(Done::Purged { more: trimmed < through.min(last) })
    }

    /// Drops what is beyond the limits, at most so many rows.
    pub(super) fn cap_outbox(&mut self, rows: usize) -> Result<(), StateError> {
        for _ in 0..rows {
            let OutboxState { trimmed, last, bytes, limits, .. } = self.group.outbox;
            if trimmed == last {
                break;
            }
            if bytes <= limits.bytes {
                let row = tables::outbox(trimmed + 1);
                let Event { time, .. } = self.promised(Table::Outbox, &row)?;
                if self.now() <= time.plus(Duration::from_millis(limits.age_ms)) {
                    break;
                }
            }
            self.drop_oldest_event()?;
            self.group.outbox.lost += 1;
        }
        Ok(())
    }

    fn drop_oldest_event(&mut self) -> Result<(), StateError> {
        let row = tables::outbox(self.group.outbox.trimmed + 1);
        let value = self.tables.get(Table::Outbox, &row)?;
        let value = value.ok_or(StateError::MissingRow { table: Table::Outbox })?;
        self.group.outbox.bytes -= row_bytes(&row, &value);
        self.group.outbox.trimmed += 1;
        self.remove(Table::Outbox, row);
        Ok(())
    }
}

fn row_bytes(row: &[u8], value: &[u8]) -> u64 {
    (row.len() + value.len()) as u64
}
