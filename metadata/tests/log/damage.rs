//! Damage at rest: whoever's records are hit says so, for good; nobody serves other records; nobody else is touched.

use super::{
    Dice,
    crash::play,
    model::{Calls, Model, Replicas},
    node::Key,
    sweep::{Recovered, recover},
};
use ashlar_runtime::{
    Disk, OpenMode, SimDisk,
    disk::sim::{Change, Event, Survivors},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A batch as it was written, by the description of the format.
struct Batch {
    file: PathBuf,
    offset: u64,
    len: u64,
    header_len: u64,
    number: u64,
    oldest: u64,
    /// End of each replica's records in the batch, from the header on.
    sections: Vec<(Key, u64)>,
}

fn batches(disk: &SimDisk, image: &ashlar_runtime::disk::sim::DiskImage) -> Vec<Batch> {
    let history = disk.history();
    let files: BTreeMap<_, _> =
        image.files().into_iter().filter_map(|path| Some((image.node(&path)?, path))).collect();
    let mut found: Vec<Batch> = Vec::new();
    for event in &history.events {
        let Event::Change(Change::Write { file, offset, bytes }) = event else { continue };
        if !bytes.starts_with(b"aLgBatch") {
            continue;
        }
        // Segments come and go.
        let Some(path) = files.get(file) else { continue };
        let at = usize::try_from(*offset).unwrap();
        let written = image.read(path).unwrap();
        if written[at..].get(..64) != Some(&bytes[..64]) {
            continue;
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let count = u64::from(u32_at(60));
        let header_len = 64 + 32 * count;
        let mut end = header_len;
        let sections = (0..usize::try_from(count).unwrap()).map(|place| {
            let at = 64 + 32 * place;
            end += u64::from(u32_at(at + 16));
            ((u32_at(at), u64_at(at + 8)), end)
        });
        let sections = sections.collect();
        found.push(Batch {
            file: path.clone(),
            offset: *offset,
            len: bytes.len() as u64,
            header_len,
            number: u64_at(16),
            oldest: u64_at(32),
            sections,
        });
    }
    // The last one written with a number, or at a place, is the one that is there.
    let mut last: BTreeMap<u64, Batch> = BTreeMap::new();
    for batch in found {
        last.insert(batch.number, batch);
    }
    last.into_values().collect()
}

fn flip(disk: &SimDisk, path: &Path, offset: u64, bit: u8) {
    let file = disk.open(path, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], offset).unwrap();
    file.sync_data().unwrap();
}

fn run(seed: u64) -> Result<(u64, u64, u64), String> {
    let mut dice = Dice::new(seed);
    let disk = SimDisk::new();
    let calls = Calls::default();
    let model = Model::new(Replicas::new(), calls.clone());
    play(&disk, seed, 10 + dice.below(20), &model, &calls)?;
    let history = disk.history();
    let image = history.crash(history.events.len(), Survivors::None);
    let sound = recover(&SimDisk::with_image(image.clone()))?;
    let batches = batches(&disk, &image);
    let Some(newest) = batches.last() else { return Ok((0, 0, 0)) };
    let (mut of_one, mut of_all, mut of_none) = (0, 0, 0);
    for _ in 0..60 {
        let place = usize::try_from(dice.below(batches.len() as u64)).unwrap();
        let batch = &batches[place];
        // A newest batch that is damaged looks like one that a crash tore.
        if batch.number >= newest.number {
            continue;
        }
        let at = dice.below(batch.len);
        let hit = SimDisk::with_image(image.clone());
        flip(&hit, &batch.file, batch.offset + at, u8::try_from(dice.below(8)).unwrap());
        let found = recover(&hit)?;
        let damaged: Vec<Key> = found
            .iter()
            .filter(|(_, recovered)| **recovered == Recovered::Damaged)
            .map(|(key, _)| *key)
            .collect();
        for (key, recovered) in &found {
            if *recovered != Recovered::Damaged && sound.get(key) != Some(recovered) {
                return Err(format!("{key:?} serves {recovered:?} instead of {:?}", sound.get(key)));
            }
        }
        if let Some(gone) = sound.keys().find(|key| !found.contains_key(*key)) {
            // Its only record so far is in the batch that was hit.
            let begins_there = batch.sections.iter().any(|(key, _)| key == gone);
            if batch.number < newest.oldest || !begins_there || at >= batch.header_len {
                return Err(format!("{gone:?} is forgotten"));
            }
        }
        let stale = batch.number < newest.oldest;
        let whose = batch.sections.iter().find(|(_, end)| at < *end).map(|(key, _)| *key);
        match (stale, at < batch.header_len, whose) {
            (true, _, _) | (false, false, None) => {
                if !damaged.is_empty() {
                    return Err(format!("{damaged:?} are condemned for bytes that are not needed"));
                }
                of_none += 1;
            }
            (false, true, _) => {
                if damaged.is_empty()
                    && sound.keys().any(|key| batches[0].sections.iter().any(|(one, _)| one == key))
                {
                    return Err("a header is damaged and nobody is condemned".to_owned());
                }
                of_all += 1;
            }
            (false, false, Some(key)) => {
                if damaged.iter().any(|one| *one != key) {
                    return Err(format!("{damaged:?} are condemned for records of {key:?} at {at}"));
                }
                // Nothing reads padding, and one that began again later does not need what was before.
                let again = batches[place..].iter().skip(1).any(|later| begins(&image, later, key));
                let needed = sound.contains_key(&key) && !is_padding(&image, batch, at) && !again;
                if needed && damaged.is_empty() {
                    return Err(format!("nobody is condemned for records of {key:?} at {at}"));
                }
                of_one += 1;
            }
        }
        // Who is condemned stays so.
        let again = recover(&hit)?;
        let kept = damaged.iter().all(|key| again.get(key) == Some(&Recovered::Damaged));
        if !kept {
            return Err("a condemned replica came back".to_owned());
        }
    }
    Ok((of_one, of_all, of_none))
}

/// Whether a batch has a record that says so.
fn begins(image: &ashlar_runtime::disk::sim::DiskImage, batch: &Batch, key: Key) -> bool {
    let bytes = image.read(&batch.file).unwrap();
    let start = usize::try_from(batch.offset).unwrap();
    let mut record = start + usize::try_from(batch.header_len).unwrap();
    for (section, end) in &batch.sections {
        let end = start + usize::try_from(*end).unwrap();
        while record < end {
            if *section == key && bytes[record + 12] == 1 {
                return true;
            }
            let len = u32::from_le_bytes(bytes[record + 8..record + 12].try_into().unwrap()) as usize;
            record += 40 + len.next_multiple_of(8);
        }
    }
    false
}

/// Records are padded to eight bytes; nothing reads that.
fn is_padding(image: &ashlar_runtime::disk::sim::DiskImage, batch: &Batch, at: u64) -> bool {
    let bytes = image.read(&batch.file).unwrap();
    let start = usize::try_from(batch.offset).unwrap();
    let mut record = start + usize::try_from(batch.header_len).unwrap();
    let at = start + usize::try_from(at).unwrap();
    loop {
        let len = u32::from_le_bytes(bytes[record + 8..record + 12].try_into().unwrap()) as usize;
        let end = record + 40 + len.next_multiple_of(8);
        if at < end {
            return at >= record + 40 + len;
        }
        record = end;
    }
}

#[test]
fn damage_is_told_by_those_it_hits_and_by_nobody_else() {
    let mut sums = (0, 0, 0);
    for seed in 0..60 {
        match run(seed) {
            Ok((one, all, none)) => sums = (sums.0 + one, sums.1 + all, sums.2 + none),
            Err(what) => panic!("seed {seed}: {what}"),
        }
    }
    eprintln!("hits of one replica, of headers, of nobody: {sums:?}");
    assert!(sums.0 > 300 && sums.1 > 10 && sums.2 > 50, "{sums:?}");
}
