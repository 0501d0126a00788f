//! Changes files of a drive where it matters: fields, entries, whole batches; then makes the checksums right, so that
//! what lies behind them is reached.

use super::{
    bytes::{Dice, number, set},
    layout::{BLOCK, Field, Repair, Structure, entry_blocks, fields, repair, rows},
};

/// Numbers at which lengths, counts and places go wrong.
const EDGES: [u64; 22] = [
    0,
    1,
    2,
    3,
    7,
    8,
    63,
    64,
    4095,
    4096,
    4104,
    61440,
    65528,
    65536,
    128 << 10,
    (1 << 30) - 4096,
    1 << 30,
    u32::MAX as u64 - 7,
    u32::MAX as u64,
    1 << 63,
    u64::MAX - 4095,
    u64::MAX,
];

/// One mutation, repeatable by the dice. `other` is a file of the same structure to take pieces from; what comes out
/// is at most `max` bytes long.
pub(crate) fn mutate(structure: Structure, bytes: &mut Vec<u8>, other: &[u8], max: usize, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        match dice.below(16) {
            0 => flip(bytes, dice),
            1 => resize(bytes, max, dice),
            2 | 3 => rearrange(structure, bytes, other, dice),
            _ => set_field(structure, bytes, dice),
        }
    }
    bytes.truncate(max);
    finish(structure, bytes, dice);
}

/// Makes checksums right in most cases.
pub(crate) fn finish(structure: Structure, bytes: &mut [u8], dice: &mut Dice) {
    if !dice.once_in(16) {
        let how = Repair {
            chain: !dice.once_in(3),
            epochs: !dice.once_in(3),
            units: !dice.once_in(3),
            counts: !dice.once_in(3),
        };
        repair(structure, bytes, how);
    }
}

fn set_field(structure: Structure, bytes: &mut [u8], dice: &mut Dice) {
    let all = fields(structure, bytes);
    if all.is_empty() {
        return;
    }
    let Field { at, len } = all[dice.below(all.len())];
    let present = number(bytes, at, len);
    let value = match dice.below(8) {
        0 => EDGES[dice.below(EDGES.len())],
        1 => present.wrapping_add(1),
        2 => present.wrapping_sub(1),
        3 => present ^ (1 << dice.below(8 * len)),
        4 => present.wrapping_add(EDGES[dice.below(EDGES.len())]),
        5 => present.wrapping_sub(EDGES[dice.below(EDGES.len())]),
        6 => {
            let same: Vec<&Field> = all.iter().filter(|field| field.len == len).collect();
            number(bytes, same[dice.below(same.len())].at, len)
        }
        _ => dice.u64() >> dice.below(64),
    };
    set(bytes, at, len, value);
}

fn flip(bytes: &mut [u8], dice: &mut Dice) {
    if !bytes.is_empty() {
        let at = dice.below(bytes.len());
        bytes[at] ^= 1 << dice.below(8);
    }
}

fn resize(bytes: &mut Vec<u8>, max: usize, dice: &mut Dice) {
    let len = match dice.below(3) {
        0 => dice.below(bytes.len() + 1),
        1 => dice.below(bytes.len() / BLOCK + 1) * BLOCK,
        _ => (bytes.len() + dice.below(2 * BLOCK)).min(max),
    };
    bytes.resize(len, 0);
}

fn rearrange(structure: Structure, bytes: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    match structure {
        Structure::Superblock => copy(bytes, other, 8 * dice.below(16), 8 * dice.below(16), 8),
        Structure::Segment => {
            let blocks = bytes.len() / BLOCK;
            let len = BLOCK * (1 + dice.below(2));
            let to = BLOCK * dice.below(blocks);
            match dice.below(5) {
                0 => copy(bytes, other, BLOCK * dice.below(other.len() / BLOCK), to, len),
                1 => {
                    let end = (to + len).min(bytes.len());
                    bytes[to.min(end)..end].fill(0);
                }
                2 => {
                    let end = (to + len).min(bytes.len());
                    for byte in &mut bytes[to.min(end)..end] {
                        *byte = dice.u64().to_le_bytes()[0];
                    }
                }
                _ => {
                    let from = bytes.clone();
                    copy(bytes, &from, BLOCK * dice.below(blocks), to, len);
                }
            }
        }
        Structure::Checkpoint if dice.once_in(3) => rearrange_rows(bytes, dice),
        Structure::Checkpoint => rearrange_entries(bytes, dice),
    }
}

fn copy(bytes: &mut [u8], from: &[u8], source: usize, to: usize, len: usize) {
    let len = len.min(from.len().saturating_sub(source)).min(bytes.len().saturating_sub(to));
    if len > 0 {
        bytes[to..to + len].copy_from_slice(&from[source..source + len]);
    }
}

/// Drops or doubles a row of the segment table, with lengths that fit.
fn rearrange_rows(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let rows = rows(bytes);
    if rows.is_empty() {
        return;
    }
    let at = rows[dice.below(rows.len())];
    let row = bytes[at..at + 40].to_vec();
    let (header, count) = (number(bytes, 12, 4), number(bytes, 88, 8));
    let (header, count) = if dice.once_in(2) {
        bytes.drain(at..at + 40);
        (header.wrapping_sub(40), count.wrapping_sub(1))
    } else {
        bytes.splice(at..at, row);
        (header.wrapping_add(40), count.wrapping_add(1))
    };
    set(bytes, 12, 4, header);
    set(bytes, 88, 8, count);
}

/// Drops or doubles an entry or an extent of one, or begins a block, with lengths that fit.
fn rearrange_entries(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let blocks = entry_blocks(bytes);
    let Some(block) = blocks.get(dice.below(blocks.len())) else { return };
    let Some(entry) = block.entries.get(dice.below(block.entries.len())).cloned() else { return };
    let len = number(bytes, block.at, 4);
    match dice.below(4) {
        0 => {
            bytes.drain(entry.clone());
            set(bytes, block.at, 4, len - entry.len() as u64);
        }
        1 => {
            let copied = bytes[entry.clone()].to_vec();
            bytes.splice(entry.end..entry.end, copied);
            set(bytes, block.at, 4, len + entry.len() as u64);
            // Another id, so that the order holds.
            let raised = number(bytes, entry.end + 20, 1) + 1;
            set(bytes, entry.end + 20, 1, raised);
        }
        2 => {
            let extents = number(bytes, entry.start + 22, 2);
            let extent: Vec<u8> = match bytes.get(entry.start + 68..entry.start + 100) {
                Some(extent) if extents > 0 => extent.to_vec(),
                Some(_) | None => vec![0; 32],
            };
            bytes.splice(entry.start + 68..entry.start + 68, extent);
            set(bytes, entry.start + 22, 2, extents + 1);
            set(bytes, block.at, 4, len + 32);
        }
        _ => {
            // The rest becomes a block of its own: checksum of the first, prefix of the second.
            let rest = (block.end - 8 - entry.end) as u64;
            if rest > 0 {
                let mut between = vec![0; 16];
                set(&mut between, 8, 4, rest);
                bytes.splice(entry.end..entry.end, between);
                set(bytes, block.at, 4, len - rest);
            }
        }
    }
}
