//! A position in one table that moves forward, by rows or by jumps.
//!
//! Rows are read a few at a time, so that two tables can be walked side by side and a jump over a group of keys
//! costs one seek. The first read after a jump is short: in a listing of groups only one row of each is wanted.

use super::{Direction, KeyRange, KvError, KvRead, Table, after_prefix};
use bytes::Bytes;
use std::{collections::VecDeque, ops::ControlFlow};

const FIRST_READ: usize = 2;
const READ_MAX: usize = 256;

pub struct Cursor<'a> {
    kv: &'a dyn KvRead,
    table: Table,
    /// Not read yet.
    rest: KeyRange,
    read: VecDeque<(Bytes, Bytes)>,
    read_len: usize,
    exhausted: bool,
}

impl<'a> Cursor<'a> {
    pub fn new(kv: &'a dyn KvRead, table: Table, range: KeyRange) -> Self {
        let exhausted = range.is_empty();
        Self { kv, table, rest: range, read: VecDeque::new(), read_len: FIRST_READ, exhausted }
    }

    /// The row at the position.
    pub fn peek(&mut self) -> Result<Option<&(Bytes, Bytes)>, KvError> {
        if self.read.is_empty() && !self.exhausted {
            self.fill()?;
        }
        Ok(self.read.front())
    }

    /// The row at the position, and moves past it.
    pub fn take(&mut self) -> Result<Option<(Bytes, Bytes)>, KvError> {
        self.peek()?;
        Ok(self.read.pop_front())
    }

    /// Moves to the first row not before `key`; never back.
    pub fn seek(&mut self, key: &[u8]) {
        while self.read.front().is_some_and(|(row, _)| row.as_ref() < key) {
            self.read.pop_front();
        }
        if self.read.is_empty() && key > self.rest.from.as_slice() {
            self.rest.from = key.to_vec();
            self.exhausted |= self.rest.is_empty();
            self.read_len = FIRST_READ;
        }
    }

    /// Moves past all rows that begin with `prefix` (and all before them).
    pub fn skip_prefix(&mut self, prefix: &[u8]) {
        match after_prefix(prefix) {
            Some(after) => self.seek(&after),
            None => {
                self.read.clear();
                self.exhausted = true;
            }
        }
    }

    fn fill(&mut self) -> Result<(), KvError> {
        let (read, want) = (&mut self.read, self.read_len);
        self.kv.scan(self.table, &self.rest, Direction::Forward, &mut |key, value| {
            read.push_back((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if read.len() < want { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        match self.read.back() {
            Some((last, _)) if self.read.len() == want => {
                self.rest.from.clear();
                self.rest.from.extend_from_slice(last);
                self.rest.from.push(0);
            }
            _ => self.exhausted = true,
        }
        self.read_len = (want * 2).min(READ_MAX);
        Ok(())
    }
}
