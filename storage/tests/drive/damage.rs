//! Damaged files: right bytes, an error, or a report; never wrong bytes.

use super::{
    fixture::{get, payload, put, shard_id, unit, units},
    sim_drive::SimDrive,
};
use ashlar_storage::{DriveStore, OfflineDrive, ShardUnit, StoreError};
use ashlar_types::UnitSum;
use bytes::Bytes;
use std::collections::BTreeMap;

/// What the shards are, and what each of them has been before.
#[derive(Debug, Default)]
struct Contents {
    now: BTreeMap<u8, Units>,
    before: Vec<(u8, Units)>,
    /// What was put last, of which a damaged record cannot be told from one that was never finished.
    last: Option<u8>,
}

/// Units with what they say of themselves.
type Units = Vec<(Bytes, UnitSum)>;

const NUMBERS: u8 = 12;

impl Contents {
    async fn put(&mut self, store: &DriveStore, number: u8, units: Vec<ShardUnit>) {
        self.last = Some(number);
        put(store, shard_id(number), &units).await.unwrap();
        let units = units.into_iter().map(|unit| (unit.bytes, unit.sum)).collect();
        self.before.extend(self.now.insert(number, units).map(|former| (number, former)));
    }

    async fn delete(&mut self, store: &DriveStore, number: u8) {
        store.delete(vec![shard_id(number)]).await.unwrap();
        self.before.extend(self.now.remove(&number).map(|former| (number, former)));
    }

    /// Shards that are not as they should be, all of them properly so.
    fn affected(&self, drive: &OfflineDrive, what: &str) -> Vec<u8> {
        let report = drive.recovery();
        let reported = report.torn_tail || report.rebuilt || !report.damaged.is_empty();
        let mut affected = Vec::new();
        for number in 0..NUMBERS {
            let expected = self.now.get(&number);
            match read(drive, number) {
                Ok(found) if found.as_ref() == expected => continue,
                // An earlier state shows only where the report says that something is missing.
                Ok(None) => {
                    let told = reported || self.last == Some(number);
                    assert!(told, "{what}: shard {number} is missing, {report:?}");
                }
                Ok(Some(found)) => {
                    let earlier = self.before.contains(&(number, found));
                    assert!(earlier && reported, "{what}: shard {number} has wrong bytes, {report:?}");
                }
                Err(StoreError::Corrupt { unit }) => {
                    let units = expected.map_or(u32::MAX, |units| u32::try_from(units.len()).unwrap());
                    assert!(unit < units.max(1), "{what}: unit {unit} of shard {number}");
                }
                Err(error) => panic!("{what}: shard {number}: {error}"),
            }
            affected.push(number);
        }
        for lost in &report.lost {
            let number = (0..NUMBERS).find(|number| shard_id(*number) == *lost).expect("a known shard");
            assert!(affected.contains(&number), "{what}: {number} is not lost, {report:?}");
        }
        affected
    }
}

fn read(drive: &OfflineDrive, number: u8) -> Result<Option<Units>, StoreError> {
    let Some(stat) = drive.stat(shard_id(number))? else { return Ok(None) };
    assert_eq!(stat.meta, super::fixture::meta(shard_id(number)));
    let units = drive.read(shard_id(number), 0..stat.units)?;
    Ok(Some(units.into_iter().map(|unit| (unit.bytes, unit.sum)).collect()))
}

/// A drive that has something of everything: two checkpoints, shards of both lanes, replaced and deleted ones, before
/// and after the checkpoints. As a killed process leaves it.
async fn everything() -> (SimDrive, Contents) {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    let mut contents = Contents::default();
    contents.put(&store, 0, units(1, &[70, 0, 33])).await;
    contents.put(&store, 1, units(11, &[9000, 100])).await;
    contents.put(&store, 2, units(21, &[50])).await;
    store.checkpoint().await.unwrap();
    contents.put(&store, 3, units(31, &[40])).await;
    contents.put(&store, 2, units(23, &[60])).await;
    contents.put(&store, 4, units(41, &[8300])).await;
    contents.delete(&store, 3).await;
    store.checkpoint().await.unwrap();
    contents.put(&store, 5, units(51, &[80, 1])).await;
    contents.put(&store, 6, units(61, &[8500])).await;
    contents.put(&store, 0, units(5, &[71])).await;
    contents.delete(&store, 4).await;
    contents.put(&store, 7, vec![]).await;
    contents.put(&store, 8, units(81, &[20])).await;
    (drive.killed(), contents)
}

/// Bytes that mean something, and some of the zeros between.
fn worth_a_flip(bytes: &[u8]) -> Vec<u64> {
    let zero_around =
        |at: usize| bytes[at.saturating_sub(8)..(at + 9).min(bytes.len())].iter().all(|b| *b == 0);
    // Within long runs of payload every byte is like its neighbour.
    let dull = |at: usize| {
        zero_around(at)
            || bytes[at.saturating_sub(200)..(at + 201).min(bytes.len())].iter().filter(|b| **b == 0).count()
                < 16
    };
    (0..bytes.len()).filter(|at| !dull(*at) || at % 67 == 0).map(|at| at as u64).collect()
}

#[tokio::test]
async fn every_flipped_byte_gives_right_bytes_or_an_error_or_a_report() {
    let (drive, contents) = everything().await;
    assert!(contents.affected(&drive.killed().offline(), "sound").is_empty());
    let superblocks = ["superblock.a", "superblock.b"].map(str::to_owned);
    let names = ["log", "extents", "index"].into_iter().flat_map(|inner| drive.names(inner));
    let mut flips = 0;
    let mut hits = 0;
    for name in names.chain(superblocks) {
        let bytes = drive.file(&name);
        for at in worth_a_flip(&bytes) {
            // All masks where a byte has been as it should be, one elsewhere.
            let mask = [0x01, 0x80, 0xff][usize::try_from(at % 3).unwrap()];
            let what = format!("{name}, byte {at} xor {mask:#x}");
            let damaged = drive.killed();
            damaged.flip(&damaged.path(&name), at, mask);
            let affected = contents.affected(&damaged.offline(), &what);
            let header = at < 4096;
            let most = usize::from(name.ends_with(".seg") && !header);
            assert!(affected.len() <= most, "{what}: {affected:?}");
            flips += 1;
            hits += affected.len();
        }
    }
    assert!(flips > 3000 && hits > 1000, "{flips} flips that were felt {hits} times");
}

#[tokio::test]
async fn damage_in_one_unit_leaves_the_others_readable_and_names_it() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    let units = units(1, &[70, 0, 33, 9000, 12]);
    put(&store, shard_id(1), &units).await.unwrap();
    put(&store, shard_id(2), &units[..3]).await.unwrap();
    for number in [1, 2] {
        let place = store.locate(shard_id(number)).unwrap();
        drive.damage(&place, 75);
        drive.disk.drop_caches();
        let read = async |units| store.read(shard_id(number), units).await;
        assert!(matches!(read(0..3).await, Err(StoreError::Corrupt { unit: 2 })));
        assert!(matches!(read(2..3).await, Err(StoreError::Corrupt { unit: 2 })));
        let sound = read(0..2).await.unwrap();
        assert_eq!((&sound[0].bytes, &sound[1].bytes), (&units[0].bytes, &units[1].bytes));
        if number == 1 {
            assert_eq!(read(3..5).await.unwrap()[0].bytes, units[3].bytes);
        }
        assert!(store.stat(shard_id(number)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn the_record_of_another_shard_is_not_served() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for number in 1..4 {
        put(&store, shard_id(number), &units(number.into(), &[70, 33])).await.unwrap();
    }
    let places: Vec<_> = (1..4).map(|number| store.locate(shard_id(number)).unwrap()).collect();
    let file = drive.disk.image().read(&places[0].path).unwrap();
    let block = |at: u64| usize::try_from(at / 4096 * 4096).unwrap();
    let other = block(places[1].offset);
    drive.overwrite(&places[0].path, &file[other..other + 4096], block(places[0].offset) as u64);
    drive.disk.drop_caches();
    assert!(matches!(store.read(shard_id(1), 0..1).await, Err(StoreError::Corrupt { unit: 0 })));
    assert!(matches!(store.stat(shard_id(1)).await, Err(StoreError::Corrupt { .. })));
    assert_eq!(get(&store, shard_id(2)).await.unwrap(), payload(&units(2, &[70, 33])));
    // Nor is it when the log is read again.
    drop(store);
    let store = drive.open_after_drop().await;
    assert_eq!(store.recovery().damaged.len(), 1);
    assert!(matches!(get(&store, shard_id(1)).await, Err(StoreError::NotFound | StoreError::Corrupt { .. })));
    assert_eq!(get(&store, shard_id(2)).await.unwrap(), payload(&units(2, &[70, 33])));
    assert_eq!(get(&store, shard_id(3)).await.unwrap(), payload(&units(3, &[70, 33])));
}

#[tokio::test]
async fn damage_before_the_checkpoint_is_found_by_readers_and_the_shard_can_be_replaced() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for number in 0..6 {
        let len = if number < 3 { 100 } else { 20_000 };
        put(&store, shard_id(number), &[unit(number.into(), len)]).await.unwrap();
    }
    let places: Vec<_> = (0..6).map(|number| store.locate(shard_id(number)).unwrap()).collect();
    store.close().await;
    drive.damage(&places[1], 50);
    // The record of number 2: its header is before the payload, the unit table between.
    drive.flip(&places[2].path, places[2].offset - 20, 1);
    drive.damage(&places[4], 19_999);
    let store = drive.open().await;
    assert_eq!((store.recovery().lost.len(), store.recovery().replayed_records), (0, 0));
    for number in 0..6_u8 {
        let found = get(&store, shard_id(number)).await;
        if [1, 2, 4].contains(&number) {
            assert!(matches!(found, Err(StoreError::Corrupt { unit: 0 })), "{number}: {found:?}");
        } else {
            found.unwrap();
        }
    }
    for limit in [1, 2, 100] {
        let listed: Vec<_> =
            store.list(None, limit).await.unwrap().into_iter().map(|stat| stat.meta.id).collect();
        // Number 2 cannot say what it is.
        let expected: Vec<_> = [0, 1, 3, 4, 5].map(shard_id).into_iter().take(limit).collect();
        assert_eq!(listed, expected);
    }
    store.delete(vec![shard_id(1)]).await.unwrap();
    put(&store, shard_id(2), &[unit(22, 10)]).await.unwrap();
    put(&store, shard_id(4), &[unit(44, 20_000)]).await.unwrap();
    drop(store);
    let store = drive.open_after_drop().await;
    assert!(matches!(get(&store, shard_id(1)).await, Err(StoreError::NotFound)));
    assert_eq!(get(&store, shard_id(2)).await.unwrap(), payload(&[unit(22, 10)]));
    assert_eq!(get(&store, shard_id(4)).await.unwrap(), payload(&[unit(44, 20_000)]));
    assert_eq!(store.usage().shards, 5);
}

#[tokio::test]
async fn reclaiming_leaves_what_does_not_verify_and_never_moves_wrong_bytes() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    // Segments in which little stays alive, so that it is moved.
    for number in 0..60_u8 {
        let len = if number % 2 == 0 { 1000 } else { 14_000 };
        put(&store, shard_id(number), &[unit(number.into(), len)]).await.unwrap();
    }
    let kept: Vec<u8> = (0..60).filter(|number| number % 10 < 2).collect();
    let bad = [kept[2], kept[3], kept[6], kept[7]];
    for number in bad {
        drive.damage(&store.locate(shard_id(number)).unwrap(), 500);
    }
    drive.disk.drop_caches();
    store.delete((0..60).filter(|number| number % 10 >= 2).map(shard_id).collect()).await.unwrap();
    let mut moved = 0;
    for _ in 0..4 {
        moved += store.reclaim().await.unwrap().moved_shards;
    }
    assert!(moved >= 4, "{moved}");
    let check = async |store: &DriveStore| {
        for number in &kept {
            let len = if number % 2 == 0 { 1000 } else { 14_000 };
            match get(store, shard_id(*number)).await {
                Ok(found) => {
                    assert!(!bad.contains(number));
                    assert_eq!(found, payload(&[unit((*number).into(), len)]));
                }
                Err(error) => {
                    assert!(bad.contains(number) && matches!(error, StoreError::Corrupt { .. }), "{error}");
                }
            }
        }
    };
    check(&store).await;
    store.close().await;
    let store = drive.open().await;
    check(&store).await;
    // Repaired, it comes free.
    for number in bad {
        put(&store, shard_id(number), &[unit(number.into(), 10)]).await.unwrap();
    }
    let before = store.usage().dead;
    for _ in 0..4 {
        store.reclaim().await.unwrap();
    }
    assert!(store.usage().dead < before, "{:?}", store.usage());
}
