//! The three doors for bytes from a device: each takes one file in place of the real drive's, and says what went wrong.

use super::{
    bytes::{crc64, is_sealed, number, set, size},
    drive::{FORMER, Files, NEWEST, SEEDS, WHOLE, WITHOUT_CHECKPOINTS, log_names, pad},
    layout::{BLOCK, Structure, entry_blocks},
    oracle::{Shown, examine, judge_prefix},
    witness::{self, Witness},
};
use ashlar_types::ShardId;

/// Longest file that is tried.
pub(crate) const LEN_MAX: usize = 68 << 10;

/// Opens drives with these bytes in place of one file.
pub(crate) fn run(structure: Structure, bytes: &[u8]) -> Result<(), String> {
    match structure {
        Structure::Superblock => superblock(bytes),
        Structure::Segment => segment(bytes),
        Structure::Checkpoint => checkpoint(bytes),
    }
}

/// Real files of this kind.
pub(crate) fn seeds(structure: Structure) -> Vec<Vec<u8>> {
    let of_kind = |name: &str| match structure {
        Structure::Superblock => name.starts_with("superblock"),
        Structure::Segment => name.starts_with("log/"),
        Structure::Checkpoint => name.starts_with("index/"),
    };
    SEEDS.iter().filter(|(name, _)| of_kind(name)).map(|(_, bytes)| bytes.clone()).collect()
}

/// What a superblock says: generation, segment length, checkpoint.
fn read_superblock(bytes: &[u8]) -> Option<(u64, u64, u64)> {
    let segment_bytes = number(bytes, 56, 8);
    let sound = bytes.len() == BLOCK
        && bytes.starts_with(b"ASHLARSB")
        && is_sealed(bytes)
        && number(bytes, 8, 4) == 2
        && number(bytes, 12, 4) == 4096
        && (64 << 10..=1 << 30).contains(&segment_bytes)
        && segment_bytes.is_multiple_of(4096)
        && bytes[72..BLOCK - 8].iter().all(|byte| *byte == 0);
    sound.then(|| (number(bytes, 48, 8), segment_bytes, number(bytes, 64, 8)))
}

fn superblock(bytes: &[u8]) -> Result<(), String> {
    let mut files = WHOLE.clone();
    files.insert("superblock.a".to_owned(), bytes.to_vec());
    let other = files["superblock.b"].clone();
    // No more of a file is looked at.
    let read = &bytes[..bytes.len().min(64 << 10)];
    let of_other_version = read.len() >= 20
        && read.starts_with(b"ASHLARSB")
        && is_sealed(read)
        && !matches!(number(bytes, 8, 4), 0 | 2);
    for other in [Some(other), None] {
        match &other {
            Some(other) => files.insert("superblock.b".to_owned(), other.clone()),
            None => files.remove("superblock.b"),
        };
        // The higher generation counts; of two equal ones the first.
        let valid = [Some(bytes), other.as_deref()];
        let valid = valid.into_iter().flatten().filter(|bytes| read_superblock(bytes).is_some());
        let newest = valid.rev().max_by_key(|bytes| number(bytes, 48, 8)).filter(|_| !of_other_version);
        let shown = examine(&files)?;
        match (&shown, newest) {
            (Ok(shown), Some(newest)) => {
                let rewritten = rewrite_superblock(shown);
                if rewritten != newest[..BLOCK - 8] {
                    return Err(format!("the superblock was read as {:?}", shown.superblock));
                }
            }
            (Err(_), None) => {}
            (Ok(_), None) => return Err("an invalid superblock was accepted".to_owned()),
            (Err(error), Some(_)) => return Err(format!("a valid superblock was refused: {error}")),
        }
    }
    Ok(())
}

/// The superblock that says what is shown, without its checksum.
fn rewrite_superblock(shown: &Shown) -> Vec<u8> {
    let says = shown.superblock;
    let mut bytes = vec![0; BLOCK - 8];
    bytes[..8].copy_from_slice(b"ASHLARSB");
    set(&mut bytes, 8, 4, says.format_version.into());
    set(&mut bytes, 12, 4, 4096);
    bytes[16..32].copy_from_slice(&says.identity.cluster.0.to_le_bytes());
    bytes[32..48].copy_from_slice(&says.identity.drive.0.to_le_bytes());
    set(&mut bytes, 48, 8, says.generation);
    set(&mut bytes, 56, 8, says.segment_bytes);
    set(&mut bytes, 64, 8, says.checkpoint);
    bytes
}

/// The name of the log segment that these bytes say they are; of the first one if the drive has no such.
pub(crate) fn segment_name(bytes: &[u8]) -> String {
    let name = format!("log/{:016x}.seg", number(bytes, 32, 8));
    let first = || log_names(&WHOLE).next().cloned().expect("the drive has a log");
    if WHOLE.contains_key(&name) { name } else { first() }
}

fn segment(bytes: &[u8]) -> Result<(), String> {
    let name = segment_name(bytes);
    let mut padded = bytes.to_vec();
    pad(&mut padded);
    let with = |files: &Files, bytes: &[u8]| {
        let mut files = files.clone();
        files.insert(name.clone(), bytes.to_vec());
        files
    };
    examine(&with(&WHOLE, &padded))?.map_err(|error| format!("the drive was refused: {error}"))?;
    // A drive whose checkpoints are gone, and one that never had any.
    let mut without = WHOLE.clone();
    without.retain(|name, _| !name.starts_with("index/"));
    for (files, bytes) in [(&without, bytes), (&*WITHOUT_CHECKPOINTS, &padded)] {
        let files = with(files, bytes);
        let shown = examine(&files)?.map_err(|error| format!("the drive was refused: {error}"))?;
        judge_prefix(&shown, &files)?;
    }
    Ok(())
}

fn checkpoint(bytes: &[u8]) -> Result<(), String> {
    let mut files = WHOLE.clone();
    files.insert(NEWEST.to_owned(), bytes.to_vec());
    for former in [true, false] {
        if !former {
            files.remove(FORMER);
        }
        let shown = examine(&files)?.map_err(|error| format!("the drive was refused: {error}"))?;
        let (accepted, fallback) = match shown.report.checkpoint {
            Some(2) => (true, false),
            Some(1) => (false, former),
            Some(_) | None => (false, !former),
        };
        if !accepted && !fallback {
            return Err(format!("opening began with checkpoint {:?}", shown.report.checkpoint));
        }
        if accepted {
            judge_checkpoint(&shown, bytes)?;
        } else if bytes == SEEDS[NEWEST] {
            return Err("the real checkpoint was not accepted".to_owned());
        }
    }
    Ok(())
}

/// All of it verifies, and its shards are shown, but for those that the log deleted.
fn judge_checkpoint(shown: &Shown, bytes: &[u8]) -> Result<(), String> {
    let header = size(bytes, 12, 4);
    let blocks = entry_blocks(bytes);
    let mut crcs = bytes[header - 8..header].to_vec();
    let mut ids = Vec::new();
    let mut end = header;
    for block in &blocks {
        if !is_sealed(&bytes[block.at..block.end]) {
            return Err("a checkpoint with a damaged block was accepted".to_owned());
        }
        crcs.extend_from_slice(&bytes[block.end - 8..block.end]);
        ids.extend(block.entries.iter().filter_map(|entry| {
            ShardId::decode(bytes[entry.start..entry.start + 21].try_into().expect("21 bytes"))
        }));
        end = block.end;
    }
    let sound = is_sealed(&bytes[..header])
        && end + 24 == bytes.len()
        && number(bytes, end, 8) == 0
        && number(bytes, end + 8, 8) == ids.len() as u64
        && number(bytes, end + 16, 8) == crc64(&crcs)
        && ids.is_sorted_by(|a, b| a < b);
    if !sound {
        return Err("a damaged checkpoint was accepted".to_owned());
    }
    let witnesses = witness::all(&WHOLE);
    let deleted = |id: &ShardId| witnesses.get(id).is_some_and(|all| all.iter().any(Witness::is_delete));
    let missing = |id: &&ShardId| {
        shown.ids.binary_search(id).is_err() && !shown.report.lost.contains(id) && !deleted(id)
    };
    match ids.iter().find(missing) {
        Some(id) => Err(format!("{id} is in the checkpoint, and neither listed nor lost")),
        None => Ok(()),
    }
}
