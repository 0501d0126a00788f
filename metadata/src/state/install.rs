//! The whole state as a stream of pieces, and its replacement by one.
//!
//! ```text
//! piece   format version (1) u8 | kind u8 | body
//! rows    kind 0; body: { table u8 | key length u32 | key | value length u32 | value }*
//! end     kind 1; body: rows in all u64 | BLAKE3 of all pieces before this one, 32 bytes
//! ```
//! Numbers are little-endian. Rows come in order of table and key.
//!
//! An install loads a replacement beside the state in use and takes its place only when the end piece agrees: a
//! stream that ends early, or a crash, changes nothing.

use super::{Cached, StateError, StateMachine, decode, digest::Digests};
use crate::{
    kv::{Batch, Change, Direction, KeyRange, KvRead, Table},
    planted::{Plant, planted},
    tables,
};
use bytes::Bytes;
use std::ops::ControlFlow;

const FORMAT_VERSION: u8 = 1;
const ROWS: u8 = 0;
const END: u8 = 1;
/// A piece ends with the row that reaches this.
const PIECE_BYTES: usize = 256 << 10;

/// A consistent dump of a state machine.
pub struct StateSnapshot {
    kv: Box<dyn KvRead>,
    position: Option<Bytes>,
    /// `None` when all rows were given.
    next: Option<(usize, Vec<u8>)>,
    ended: bool,
    rows: u64,
    digest: blake3::Hasher,
}

/// Why a snapshot was not installed. Nothing has changed, unless it was `State`.
#[derive(Debug, thiserror::Error)]
pub enum InstallError<E> {
    /// From the stream.
    #[error("the snapshot could not be received")]
    Source(E),
    #[error("the snapshot is of format version {0}, which is not known")]
    UnknownVersion(u8),
    #[error("the snapshot is malformed")]
    Malformed,
    #[error("the snapshot ends early")]
    Truncated,
    #[error("the snapshot does not match its digest")]
    BadDigest,
    /// The sender's rows are not what it applied: they changed at rest, and must not spread.
    #[error("rows of {tables:?} in the snapshot are not those that its digests were kept of")]
    RowsDiffer { tables: Vec<Table> },
    #[error(transparent)]
    State(StateError),
}

impl StateMachine {
    /// The state as it is now. Call `persist` before it counts as built.
    pub fn snapshot(&self) -> Result<StateSnapshot, StateError> {
        let kv = self.kv.snapshot()?;
        let position = kv.get(Table::Meta, tables::POSITION)?;
        Ok(StateSnapshot {
            kv,
            position,
            next: Some((0, Vec::new())),
            ended: false,
            rows: 0,
            digest: blake3::Hasher::new(),
        })
    }

    /// Replaces everything, position included, by a snapshot; durable when it returns.
    pub fn install<E>(
        &self,
        pieces: &mut dyn Iterator<Item = Result<Vec<u8>, E>>,
    ) -> Result<(), InstallError<E>> {
        // The outer result is what the guarded change sees: refused snapshots leave the state machine whole.
        self.change(|cached| {
            let refused = self.load(pieces)?;
            if refused.is_none() {
                *cached = Cached::read(self.group, &*self.kv)?;
            }
            Ok(refused)
        })
        .map_err(InstallError::State)?
        .map_or(Ok(()), Err)
    }

    fn load<E>(
        &self,
        pieces: &mut dyn Iterator<Item = Result<Vec<u8>, E>>,
    ) -> Result<Option<InstallError<E>>, StateError> {
        let mut replacement = self.kv.replace()?;
        let mut digest = blake3::Hasher::new();
        let mut rows = 0;
        let (mut kept, mut found) = (None, Digests::default());
        loop {
            let piece = match pieces.next() {
                None => return Ok(Some(InstallError::Truncated)),
                Some(Err(error)) => return Ok(Some(InstallError::Source(error))),
                Some(Ok(piece)) => piece,
            };
            match piece.as_slice() {
                [FORMAT_VERSION, ROWS, body @ ..] => {
                    let Some(batch) = parse_rows(body) else { return Ok(Some(InstallError::Malformed)) };
                    rows += batch.changes.len() as u64;
                    digest.update(&piece);
                    for Change { table, key, value } in &batch.changes {
                        found.add(*table, key, value.as_deref().unwrap_or_default());
                        if (*table, key.as_ref()) == (Table::Meta, tables::DIGESTS) {
                            kept = value.clone();
                        }
                    }
                    replacement.write(batch)?;
                }
                [FORMAT_VERSION, END, body @ ..] => {
                    if body != end_body(rows, &digest) {
                        return Ok(Some(InstallError::BadDigest));
                    }
                    if let Some(kept) = kept {
                        let kept: Digests = decode(Table::Meta, &kept)?;
                        let tables = kept.difference(&found);
                        if !tables.is_empty() && !planted(Plant::SnapshotWithoutTable) {
                            return Ok(Some(InstallError::RowsDiffer { tables }));
                        }
                    }
                    replacement.commit()?;
                    return Ok(None);
                }
                [FORMAT_VERSION, ..] | [] => return Ok(Some(InstallError::Malformed)),
                [version, ..] => return Ok(Some(InstallError::UnknownVersion(*version))),
            }
        }
    }
}

impl StateSnapshot {
    /// The position that the state machine had.
    pub fn position(&self) -> Option<&Bytes> {
        self.position.as_ref()
    }

    /// The next piece; `None` after the last.
    pub fn next_piece(&mut self) -> Result<Option<Vec<u8>>, StateError> {
        while let Some((index, from)) = self.next.take() {
            let Some(&table) = Table::ALL.get(index) else { break };
            if planted(Plant::SnapshotWithoutTable) && table == Table::Requests {
                self.next = Some((index + 1, Vec::new()));
                continue;
            }
            let mut piece = vec![FORMAT_VERSION, ROWS];
            let (mut rows, mut resume) = (0, None);
            self.kv.scan(table, &KeyRange { from, to: None }, Direction::Forward, &mut |key, value| {
                push_row(&mut piece, table, key, value);
                rows += 1;
                if piece.len() < PIECE_BYTES {
                    return ControlFlow::Continue(());
                }
                let mut after = key.to_vec();
                after.push(0);
                resume = Some((index, after));
                ControlFlow::Break(())
            })?;
            self.next = resume.or(Some((index + 1, Vec::new())));
            if rows > 0 {
                self.rows += rows;
                self.digest.update(&piece);
                return Ok(Some(piece));
            }
        }
        if std::mem::replace(&mut self.ended, true) {
            return Ok(None);
        }
        let mut piece = vec![FORMAT_VERSION, END];
        piece.extend_from_slice(&end_body(self.rows, &self.digest));
        Ok(Some(piece))
    }
}

fn end_body(rows: u64, digest: &blake3::Hasher) -> Vec<u8> {
    let mut body = rows.to_le_bytes().to_vec();
    body.extend_from_slice(digest.finalize().as_bytes());
    body
}

fn push_row(piece: &mut Vec<u8>, table: Table, key: &[u8], value: &[u8]) {
    let len =
        |bytes: &[u8]| u32::try_from(bytes.len()).expect("keys and values are far below 4 GiB").to_le_bytes();
    piece.push(table.number());
    piece.extend_from_slice(&len(key));
    piece.extend_from_slice(key);
    piece.extend_from_slice(&len(value));
    piece.extend_from_slice(value);
}

fn parse_rows(mut body: &[u8]) -> Option<Batch> {
    fn field<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (len, rest) = body.split_first_chunk::<4>()?;
        let (field, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        *body = rest;
        Some(field)
    }
    let mut batch = Batch::default();
    while let Some((number, rest)) = body.split_first() {
        body = rest;
        let table = Table::from_number(*number)?;
        let key = field(&mut body)?;
        let value = field(&mut body)?;
        batch.put(table, key.to_vec(), value.to_vec());
    }
    Some(batch)
}
