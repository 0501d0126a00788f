//! Random calls against a map.

use super::{
    fixture::{
        IDENTITY, SMALL_SEGMENTS, get, meta, open, open_after_drop, payload, put, real_disk, shard_id, units,
    },
    sim_drive::SimDrive,
};
use ashlar_runtime::{Disk, SimDisk};
use ashlar_storage::{DriveIdentity, DriveStore, ShardUnit, StoreError};
use ashlar_types::ShardId;
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

#[derive(Clone, Debug)]
enum Call {
    Put { number: u8, seed: u64, lens: Vec<usize> },
    GiveUp { number: u8, seed: u64, lens: Vec<usize> },
    Delete { numbers: Vec<u8> },
    Read { number: u8, start: u32, end: u32 },
    List { after: Option<u8>, limit: usize },
    Checkpoint,
    Reclaim,
    Close,
    Drop,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let number = 0..12_u8;
    let lens = || {
        prop_oneof![
            8 => prop::collection::vec(0..2000_usize, 0..5),
            1 => prop::collection::vec(60_000..66_000_usize, 1..12),
        ]
    };
    let call = prop_oneof![
        8 => (number.clone(), any::<u64>(), lens()).prop_map(|(number, seed, lens)| Call::Put { number, seed, lens }),
        2 => (number.clone(), any::<u64>(), lens()).prop_map(|(number, seed, lens)| Call::GiveUp { number, seed, lens }),
        3 => prop::collection::vec(number.clone(), 0..4).prop_map(|numbers| Call::Delete { numbers }),
        6 => (number.clone(), 0..6_u32, 0..6_u32).prop_map(|(number, start, end)| Call::Read { number, start, end }),
        3 => (prop::option::of(number), 0..15_usize).prop_map(|(after, limit)| Call::List { after, limit }),
        1 => Just(Call::Checkpoint),
        2 => Just(Call::Reclaim),
        1 => Just(Call::Close),
        1 => Just(Call::Drop),
    ];
    prop::collection::vec(call, 1..40)
}

type Model = BTreeMap<ShardId, Vec<ShardUnit>>;

async fn check_read(store: &DriveStore, model: &Model, id: ShardId, wanted: std::ops::Range<u32>) {
    let (start, end) = (wanted.start as usize, wanted.end as usize);
    match (store.read(id, wanted).await, model.get(&id)) {
        (Ok(read), Some(units)) => {
            let expected = if start < end { &units[start..end] } else { &[] };
            assert_eq!(read.len(), expected.len());
            for (read, unit) in read.iter().zip(expected) {
                assert!(read.bytes == unit.bytes && read.sum == unit.sum);
            }
        }
        (Err(StoreError::NoSuchUnit { units: count }), Some(units)) => {
            assert!(end > units.len() && count as usize == units.len());
        }
        (Err(StoreError::NotFound), None) => {}
        (read, expected) => panic!("{id}: {read:?} instead of {expected:?}"),
    }
}

async fn check_list(store: &DriveStore, model: &Model, after: Option<ShardId>, limit: usize) {
    let listed = store.list(after, limit).await.unwrap();
    let expected: Vec<_> = model.iter().filter(|(id, _)| Some(**id) > after).take(limit).collect();
    assert_eq!(listed.len(), expected.len());
    for (stat, (id, units)) in listed.iter().zip(expected) {
        let len: usize = units.iter().map(|unit| unit.bytes.len()).sum();
        assert_eq!((&stat.meta, stat.len, stat.units as usize), (&meta(*id), len as u64, units.len()));
    }
}

/// Where the drive is.
enum Place {
    /// On the file system of this machine, looking after itself.
    Real(tempfile::TempDir),
    /// In memory, with segments that are soon full.
    Simulated(SimDrive),
}

impl Place {
    fn real() -> Self {
        let root = tempfile::tempdir().unwrap();
        DriveStore::format(&real_disk(), root.path(), IDENTITY, SMALL_SEGMENTS).unwrap();
        Self::Real(root)
    }

    async fn open(&self) -> DriveStore {
        match self {
            Self::Real(root) => open(&real_disk(), root.path()).await.unwrap(),
            Self::Simulated(drive) => drive.open().await,
        }
    }

    async fn open_after_drop(&self) -> DriveStore {
        match self {
            Self::Real(root) => open_after_drop(&real_disk(), root.path()).await,
            Self::Simulated(drive) => drive.open_after_drop().await,
        }
    }

    fn identity(&self) -> Option<DriveIdentity> {
        let (disk, dir): (Arc<dyn Disk>, PathBuf) = match self {
            Self::Real(root) => (real_disk(), root.path().to_owned()),
            Self::Simulated(drive) => (drive.shared_disk(), drive.dir().to_owned()),
        };
        DriveStore::identity(&disk, &dir).unwrap()
    }

    fn read(&self, path: &Path) -> Vec<u8> {
        match self {
            Self::Real(_) => std::fs::read(path).unwrap(),
            Self::Simulated(drive) => drive.disk.image().read(path).unwrap(),
        }
    }
}

async fn check_all(place: &Place, store: &DriveStore, model: &Model) {
    check_list(store, model, None, usize::MAX).await;
    for (id, units) in model {
        assert_eq!(get(store, *id).await.unwrap(), payload(units));
        let bytes = units.iter().flat_map(|unit| unit.bytes.to_vec()).collect::<Vec<_>>();
        // The first of several extents, unless it was moved just now.
        let location = store.locate(*id).unwrap();
        let file = place.read(&location.path);
        let (start, len) =
            (usize::try_from(location.offset).unwrap(), usize::try_from(location.len).unwrap());
        if store.locate(*id).as_ref() == Some(&location) {
            assert!(len <= bytes.len() && file[start..start + len] == bytes[..len], "{id} is elsewhere");
        }
    }
    let usage = store.usage();
    assert_eq!(usage.shards, model.len() as u64);
    assert!(usage.live + usage.dead + usage.free <= usage.capacity, "{usage:?}");
}

async fn play(place: Place, calls: Vec<Call>) {
    let mut store = place.open().await;
    let mut model = Model::new();
    for call in calls {
        match call {
            Call::Put { number, seed, lens } => {
                let units = units(seed, &lens);
                put(&store, shard_id(number), &units).await.unwrap();
                model.insert(shard_id(number), units);
            }
            Call::GiveUp { number, seed, lens } => {
                let mut writer = store.put(meta(shard_id(number))).await.unwrap();
                for unit in units(seed, &lens) {
                    writer.append(unit).await.unwrap();
                }
            }
            Call::Delete { numbers } => {
                store.delete(numbers.iter().map(|number| shard_id(*number)).collect()).await.unwrap();
                for number in numbers {
                    if let Some(place) = store.locate(shard_id(number)) {
                        panic!("{} was deleted but is at {place:?}", shard_id(number));
                    }
                    model.remove(&shard_id(number));
                }
            }
            Call::Read { number, start, end } => {
                check_read(&store, &model, shard_id(number), start..end).await
            }
            Call::List { after, limit } => check_list(&store, &model, after.map(shard_id), limit).await,
            Call::Checkpoint => store.checkpoint().await.unwrap(),
            Call::Reclaim => drop(store.reclaim().await.unwrap()),
            Call::Close => {
                store.close().await;
                store = place.open().await;
                check_all(&place, &store, &model).await;
            }
            Call::Drop => {
                drop(store);
                store = place.open_after_drop().await;
                check_all(&place, &store, &model).await;
            }
        }
    }
    check_all(&place, &store, &model).await;
    store.close().await;
    assert_eq!(place.identity(), Some(IDENTITY));
}

fn run(place: Place, calls: Vec<Call>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(play(place, calls));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_drive_behaves_like_a_map(calls in calls()) {
        run(Place::real(), calls);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_drive_of_small_segments_behaves_like_a_map(calls in calls()) {
        run(Place::Simulated(SimDrive::new(64 << 10)), calls);
    }

    #[test]
    fn a_drive_without_direct_io_behaves_like_a_map(calls in calls()) {
        run(Place::Simulated(SimDrive::formatted(SimDisk::new().without_direct_io(), 256 << 10)), calls);
    }
}
