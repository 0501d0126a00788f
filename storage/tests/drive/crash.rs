//! Power cuts and kills at every step: what was acknowledged is there, what was not is whole or absent.
//!
//! A random workload runs once on a disk that records. Then every prefix of the record is cut off, with different
//! survivors among the changes that were not durable, and the drive is opened on what is left.

use super::{
    fixture::{IDENTITY, Seeded, formatted, get, meta, open, payload, put, shard_id, unit},
    simulated_disk::{Event, Image, SimulatedDisk, Survivors},
};
use ashlar_runtime::{Disk, RngExt};
use ashlar_storage::{DriveStore, ShardUnit, StoreError};
use ashlar_types::ShardId;
use futures_util::future::join_all;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

const DIR: &str = "/drive";
const IDS: u8 = 10;

/// What the workload did, as its caller knows it. The content of a shard follows from the number of its round.
#[derive(Clone, Copy, Debug)]
enum Note {
    Putting { number: u8, round: u64 },
    Put { number: u8, round: u64 },
    Deleting { number: u8 },
    Deleted { number: u8 },
}

type RecordingDisk = SimulatedDisk<Note>;

fn content(round: u64) -> Vec<ShardUnit> {
    let random = Seeded::new(round);
    let count = random.below(4);
    (0..count).map(|seed| unit(round * 16 + seed, usize::try_from(random.below(3000)).unwrap())).collect()
}

fn as_disk(disk: &RecordingDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

async fn formatted_image() -> Image {
    let disk = RecordingDisk::new(Image::empty());
    formatted(&as_disk(&disk), Path::new(DIR)).await.close().await;
    disk.power_cut(Survivors::None)
}

/// Puts, replaces, gives up and deletes, several shards at a time but each id by one caller.
async fn workload(store: &DriveStore, disk: &RecordingDisk, seed: u64) {
    let random = Seeded::new(seed);
    for batch in 0..8_u64 {
        let calls = (0..IDS).filter(|_| random.below(2) == 0).map(|number| (number, random.below(10)));
        let calls = calls.collect::<Vec<_>>().into_iter().map(|(number, choice)| async move {
            let (id, round) = (shard_id(number), (seed << 32) + batch * 100 + u64::from(number));
            match choice {
                0..=5 => {
                    disk.note(Note::Putting { number, round });
                    put(store, id, &content(round)).await.unwrap();
                    disk.note(Note::Put { number, round });
                }
                6..=8 => {
                    disk.note(Note::Deleting { number });
                    store.delete(vec![id]).await.unwrap();
                    disk.note(Note::Deleted { number });
                }
                _ => {
                    let mut writer = store.put(meta(id)).await.unwrap();
                    writer.append(unit(round, 300_000)).await.unwrap();
                }
            }
        });
        join_all(calls).await;
    }
}

/// For each id the rounds whose content may be found; `None` stands for no shard.
fn allowed(events: &[Event<Note>]) -> BTreeMap<u8, BTreeSet<Option<u64>>> {
    let mut allowed: BTreeMap<_, _> = (0..IDS).map(|number| (number, BTreeSet::from([None]))).collect();
    for event in events {
        let Event::Note(note) = event else { continue };
        match *note {
            Note::Putting { number, round } => {
                allowed.entry(number).or_default().insert(Some(round));
            }
            Note::Put { number, round } => {
                allowed.insert(number, BTreeSet::from([Some(round)]));
            }
            Note::Deleting { number } => {
                allowed.entry(number).or_default().insert(None);
            }
            Note::Deleted { number } => {
                allowed.insert(number, BTreeSet::from([None]));
            }
        }
    }
    allowed
}

/// The rounds found, after checking that each shard is exactly what one of its rounds wrote.
async fn observe(
    store: &DriveStore,
    allowed: &BTreeMap<u8, BTreeSet<Option<u64>>>,
    what: &str,
) -> BTreeMap<u8, Option<u64>> {
    let mut found = BTreeMap::new();
    for (number, rounds) in allowed {
        let round = match get(store, shard_id(*number)).await {
            Ok(bytes) => {
                let round = rounds.iter().flatten().find(|round| bytes == payload(&content(**round)));
                Some(*round.unwrap_or_else(|| panic!("{what}: shard {number} is none of {rounds:?}")))
            }
            Err(StoreError::NotFound) => None,
            Err(error) => panic!("{what}: shard {number}: {error}"),
        };
        assert!(rounds.contains(&round), "{what}: shard {number} is {round:?}, allowed {rounds:?}");
        found.insert(*number, round);
    }
    let listed: Vec<ShardId> =
        store.list(None, 1000).await.unwrap().into_iter().map(|stat| stat.meta.id).collect();
    let mut expected: Vec<ShardId> =
        found.iter().filter(|(_, round)| round.is_some()).map(|(number, _)| shard_id(*number)).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected, "{what}");
    assert!(store.damaged().is_empty(), "{what}: a shard without a whole file");
    assert_eq!(store.usage().shards, expected.len() as u64);
    found
}

async fn record(seed: u64) -> (Image, Vec<Event<Note>>) {
    let image = formatted_image().await;
    let disk = RecordingDisk::new(image.clone());
    let store = open(&as_disk(&disk), Path::new(DIR)).await.unwrap();
    workload(&store, &disk, seed).await;
    store.close().await;
    (image, disk.events())
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut_at_every_step() {
    let mut cuts = 0;
    for seed in 1..=2 {
        let (image, events) = record(seed).await;
        for end in 0..=events.len() {
            let allowed = allowed(&events[..end]);
            let random = Survivors::Some { seed: end as u64 };
            for survivors in [Survivors::None, Survivors::All, random] {
                let what = format!("seed {seed}, cut at {end}, {survivors:?}");
                let disk = RecordingDisk::new(image.after_power_cut(&events[..end], survivors));
                let store = open(&as_disk(&disk), Path::new(DIR)).await.unwrap();
                let found = observe(&store, &allowed, &what).await;
                // The power goes again right after the drive was opened.
                if end % 8 == 0 {
                    drop(store);
                    let disk = RecordingDisk::new(disk.power_cut(Survivors::Some { seed: cuts }));
                    let store = open(&as_disk(&disk), Path::new(DIR)).await.unwrap();
                    assert_eq!(observe(&store, &allowed, &what).await, found, "{what}, cut again");
                }
                cuts += 1;
            }
        }
    }
    assert!(cuts > 1000, "{cuts} power cuts");
}

#[tokio::test]
async fn what_a_drive_shows_after_a_kill_survives_the_next_power_cut() {
    let (image, events) = record(3).await;
    for end in (0..=events.len()).step_by(3) {
        let allowed = allowed(&events[..end]);
        let what = format!("killed at {end}");
        let killed = RecordingDisk::replay(image.clone(), &events[..end]);
        let store = open(&as_disk(&killed), Path::new(DIR)).await.unwrap();
        let shown = observe(&store, &allowed, &what).await;
        drop(store);
        let disk = RecordingDisk::new(killed.power_cut(Survivors::None));
        let store = open(&as_disk(&disk), Path::new(DIR)).await.unwrap();
        for (number, round) in observe(&store, &allowed, &what).await {
            // An unacknowledged delete may be undone; a shard that was shown must stay.
            assert!(shown[&number].is_none() || shown[&number] == round, "{what}: shard {number}");
        }
    }
}

#[tokio::test]
async fn a_format_is_done_or_can_be_repeated_after_a_power_cut_at_every_step() {
    let disk = RecordingDisk::new(Image::empty());
    DriveStore::format(&as_disk(&disk), Path::new(DIR), IDENTITY).unwrap();
    let events = disk.events();
    for end in 0..=events.len() {
        for survivors in [Survivors::None, Survivors::All, Survivors::Some { seed: end as u64 }] {
            let disk = RecordingDisk::new(Image::empty().after_power_cut(&events[..end], survivors));
            let disk = as_disk(&disk);
            let found = DriveStore::identity(&disk, Path::new(DIR)).unwrap();
            assert!(
                found == Some(IDENTITY) || (found.is_none() && end < events.len()),
                "{end} {survivors:?}"
            );
            if found.is_none() {
                DriveStore::format(&disk, Path::new(DIR), IDENTITY).unwrap();
            }
            // A format that ended opens; opening all of them would only cost time.
            if end + 8 > events.len() {
                open(&disk, Path::new(DIR)).await.unwrap();
            }
        }
    }
}
