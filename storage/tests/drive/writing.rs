//! Writers: both lanes, back pressure, cancellation, concurrency.

use super::{
    fixture::{get, meta, payload, put, shard_id, unit, units, until},
    sim_drive::SimDrive,
};
use ashlar_runtime::{
    SimDisk,
    disk::sim::{Operation, SimCache},
};
use ashlar_storage::{DriveStore, ShardUnit, StoreError, UNIT_MAX_LEN, UNITS_MAX};
use ashlar_types::ShardId;
use futures_util::{FutureExt, future::join_all};
use std::path::Path;

const K: usize = 1024;

fn is_in(store: &DriveStore, id: ShardId, lane: &str) -> bool {
    store.locate(id).unwrap().path.starts_with(Path::new("/drive").join(lane))
}

/// Unit lengths around everything that the lanes and the pieces tell apart.
fn shapes(segment: usize) -> Vec<(Vec<usize>, &'static str)> {
    let small_max = (segment / 8).min(128 * K);
    let piece = (segment / 4).min(256 * K);
    vec![
        (vec![], "log"),
        (vec![0], "log"),
        (vec![1], "log"),
        (vec![0, 0, 1, 0], "log"),
        (vec![4000, 1, 4091, 0], "log"),
        (vec![small_max], "log"),
        (vec![small_max - 1, 0, 1], "log"),
        (vec![small_max + 1], "extents"),
        (vec![small_max, 1], "extents"),
        (vec![1; small_max + 1].chunks(small_max / 7).map(<[usize]>::len).collect(), "extents"),
        (vec![piece], "extents"),
        (vec![piece + 1], "extents"),
        (vec![piece - 1, 1, 1], "extents"),
        (vec![3 * piece + 5, 0, 7, piece - 12, 4096], "extents"),
        (vec![8191; 3 * piece / 8191 + 2], "extents"),
        (vec![65_536; 7], "extents"),
        (vec![UNIT_MAX_LEN], "extents"),
    ]
}

async fn check_shapes(store: &DriveStore, segment: usize) {
    for (number, (lens, lane)) in (0..).zip(shapes(segment)) {
        let id = shard_id(number);
        let units = units(number.into(), &lens);
        assert!(is_in(store, id, lane), "{lens:?} with segments of {segment}");
        let stat = store.stat(id).await.unwrap().unwrap();
        let len = lens.iter().sum::<usize>() as u64;
        assert_eq!((stat.meta, stat.len, stat.units as usize), (meta(id), len, lens.len()));
        assert!(get(store, id).await.unwrap() == payload(&units), "{lens:?}");
        // Each unit alone, with what it says of itself.
        for (index, unit) in (0..).zip(&units).step_by(1 + units.len() / 5) {
            let read = store.read(id, index..index + 1).await.unwrap();
            assert!(read.len() == 1 && read[0].bytes == unit.bytes && read[0].sum == unit.sum);
        }
        let past = u32::try_from(lens.len()).unwrap();
        let read = store.read(id, past..past + 1).await;
        assert!(matches!(read, Err(StoreError::NoSuchUnit { units }) if units == past), "{read:?}");
    }
}

#[tokio::test]
async fn shards_of_every_shape_are_read_as_they_were_put() {
    for (segment, direct) in [(64 * K, true), (64 * K, false), (1024 * K, true), (4096 * K, false)] {
        let disk = SimDisk::new();
        let disk = if direct { disk } else { disk.without_direct_io() };
        let drive = SimDrive::formatted(disk, segment as u64);
        let store = drive.open().await;
        for (number, (lens, _)) in (0..).zip(shapes(segment)) {
            put(&store, shard_id(number), &units(number.into(), &lens)).await.unwrap();
        }
        check_shapes(&store, segment).await;
        drop(store);
        let store = drive.open_after_drop().await;
        assert_eq!(store.recovery().replayed_records, shapes(segment).len() as u64);
        check_shapes(&store, segment).await;
        store.close().await;
        drive.disk.drop_caches();
        let offline = drive.offline();
        let verified = offline.verify(&mut |_| {});
        assert!(verified.corrupt.is_empty() && verified.unreadable.is_empty(), "{verified:?}");
        assert_eq!(verified.shards, shapes(segment).len() as u64);
        drop(offline);
        check_shapes(&drive.open().await, segment).await;
    }
}

#[tokio::test]
async fn what_the_format_cannot_hold_is_refused_and_harms_nobody() {
    let drive = SimDrive::new(4 << 20);
    let store = drive.open().await;
    let mut writer = store.put(meta(shard_id(1))).await.unwrap();
    let long = unit(1, UNIT_MAX_LEN + 1);
    assert!(matches!(writer.append(long).await, Err(StoreError::TooLarge)));
    assert!(matches!(writer.append(unit(1, 1)).await, Err(StoreError::TooLarge)), "it can only be given up");
    assert!(matches!(writer.commit().await, Err(StoreError::TooLarge)));
    assert_eq!(store.stat(shard_id(1)).await.unwrap(), None);

    let mut writer = store.put(meta(shard_id(2))).await.unwrap();
    for _ in 0..UNITS_MAX {
        writer.append(unit(2, 0)).await.unwrap();
    }
    writer.commit().await.unwrap();
    assert_eq!(store.stat(shard_id(2)).await.unwrap().unwrap().units as usize, UNITS_MAX);
    let mut writer = store.put(meta(shard_id(3))).await.unwrap();
    for _ in 0..UNITS_MAX {
        writer.append(unit(2, 0)).await.unwrap();
    }
    assert!(matches!(writer.append(unit(2, 0)).await, Err(StoreError::TooLarge)));
    drop(writer);
    drop(store);
    let store = drive.open_after_drop().await;
    assert_eq!(store.list(None, 9).await.unwrap().len(), 1);
    assert_eq!(store.read(shard_id(2), 65_535..65_536).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_description_longer_than_half_a_segment_is_refused() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for (count, fits) in [(1900, true), (2100, false)] {
        for last in [0, 30_000] {
            let mut units = vec![unit(2, 0); count];
            units.push(unit(2, last));
            let outcome = put(&store, shard_id(1), &units).await;
            match fits {
                true => outcome.unwrap(),
                false => assert!(matches!(outcome, Err(StoreError::TooLarge)), "{outcome:?}"),
            }
        }
    }
    // The refused ones replaced nothing.
    assert_eq!(store.stat(shard_id(1)).await.unwrap().unwrap().units, 1901);
    drop(store);
    let store = drive.open_after_drop().await;
    assert_eq!(get(&store, shard_id(1)).await.unwrap()[1900], unit(2, 30_000).bytes);
}

#[tokio::test]
async fn a_unit_that_changed_on_its_way_is_refused_and_ends_the_writer() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    let sound = unit(1, 100);
    let mut wrong_crc = sound.clone();
    wrong_crc.sum.crc64 ^= 1;
    let mut wrong_len = sound.clone();
    wrong_len.sum.len = 99;
    let large = unit(3, 100_000);
    let mut wrong_large = large.clone();
    wrong_large.sum.crc64 ^= 1 << 63;
    for (sound, bad) in [(&sound, wrong_crc), (&sound, wrong_len), (&large, wrong_large)] {
        let mut writer = store.put(meta(shard_id(1))).await.unwrap();
        writer.append(sound.clone()).await.unwrap();
        assert!(matches!(writer.append(bad).await, Err(StoreError::CrcMismatch)));
        assert!(matches!(writer.append(sound.clone()).await, Err(StoreError::CrcMismatch)));
        assert!(matches!(writer.commit().await, Err(StoreError::CrcMismatch)));
    }
    assert!(store.stat(shard_id(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_shard_is_invisible_until_its_commit_and_then_replaces_the_former_whole() {
    let drive = SimDrive::new(1 << 20);
    let store = drive.open().await;
    let former = [unit(1, 300_000)];
    let mut writer = store.put(meta(shard_id(1))).await.unwrap();
    writer.append(former[0].clone()).await.unwrap();
    assert!(matches!(store.read(shard_id(1), 0..1).await, Err(StoreError::NotFound)));
    assert_eq!((store.locate(shard_id(1)), store.usage().shards), (None, 0));
    writer.commit().await.unwrap();
    assert!(store.usage().live >= 300_000 && store.usage().live < 310_000);

    // Forty pieces of one unit each, in many segments.
    let next = units(5, &[65_536; 40]);
    let mut writer = store.put(meta(shard_id(1))).await.unwrap();
    for unit in &next {
        writer.append(unit.clone()).await.unwrap();
        assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&former));
    }
    until("pieces are counted", || store.usage().used > 2_000_000).await;
    writer.commit().await.unwrap();
    assert!(get(&store, shard_id(1)).await.unwrap() == payload(&next));
    assert_eq!(store.read(shard_id(1), 17..19).await.unwrap()[1].bytes, next[18].bytes);
    let usage = store.usage();
    assert!(usage.shards == 1 && usage.live > 40 * 65_536 && usage.live < 40 * 65_536 + 10_000, "{usage:?}");
    assert!(usage.dead >= 300_000, "{usage:?}");
    // Smaller again, in the log.
    put(&store, shard_id(1), &units(9, &[10, 20])).await.unwrap();
    assert!(is_in(&store, shard_id(1), "log"));
    assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&units(9, &[10, 20])));
    store.delete(vec![shard_id(1)]).await.unwrap();
    assert_eq!((store.usage().live, store.usage().shards), (0, 0));
    drop(store);
    assert_eq!(drive.open_after_drop().await.usage().shards, 0);
}

#[tokio::test]
async fn a_deleted_shard_is_gone_after_a_drop_and_its_id_can_be_used_again() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for number in 0..20 {
        put(&store, shard_id(number), &[unit(number.into(), 9000 * usize::from(number % 3))]).await.unwrap();
    }
    store.checkpoint().await.unwrap();
    store.delete((0..20).filter(|number| number % 2 == 0).map(shard_id).collect()).await.unwrap();
    // What is not there is skipped, and nothing is asked of the drive for it.
    let before = drive.disk.operations_of(Operation::Write);
    store.delete(vec![shard_id(0), shard_id(77)]).await.unwrap();
    store.delete(vec![]).await.unwrap();
    assert_eq!(drive.disk.operations_of(Operation::Write), before);
    put(&store, shard_id(4), &[unit(44, 5)]).await.unwrap();
    drop(store);
    let store = drive.open_after_drop().await;
    for number in 0..20_u8 {
        let found = get(&store, shard_id(number)).await;
        match number {
            4 => assert_eq!(found.unwrap(), payload(&[unit(44, 5)])),
            even if even % 2 == 0 => assert!(matches!(found, Err(StoreError::NotFound)), "{number}"),
            odd => {
                assert_eq!(found.unwrap(), payload(&[unit(odd.into(), 9000 * usize::from(odd % 3))]));
            }
        }
    }
}

#[tokio::test]
async fn more_ids_than_a_batch_takes_are_deleted_in_one_call() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    let ids: Vec<_> = (0..=255).map(shard_id).collect();
    for result in join_all(ids.iter().map(|id| put(&store, *id, &[]))).await {
        result.unwrap();
    }
    // Each of them several times: a second record of a deleted shard is not written.
    let many: Vec<_> = ids.iter().copied().cycle().take(2000).collect();
    store.delete(many).await.unwrap();
    assert_eq!(store.usage().shards, 0);
    drop(store);
    let store = drive.open_after_drop().await;
    assert_eq!((store.usage().shards, store.recovery().replayed_records), (0, 512));
}

/// Writers that never commit, of `each` bytes, several times the capacity in sum.
async fn give_up_many(store: &DriveStore, each: usize, rounds: u64) {
    for round in 0..rounds {
        let begun = async {
            let mut writer = store.put(meta(shard_id(1))).await?;
            for part in units(round, &[each / 4; 4]) {
                writer.append(part).await?;
            }
            Ok::<_, StoreError>(writer)
        };
        match begun.await {
            Ok(writer) if round % 2 == 0 => drop(writer),
            Ok(mut writer) => {
                let mut bad = unit(1, 10);
                bad.sum.crc64 ^= 1;
                assert!(writer.append(bad).await.is_err());
            }
            Err(StoreError::Full) => {
                // Pieces that are still being written count until they end.
                store.reclaim().await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn given_up_writers_leave_nothing_but_space_that_comes_back() {
    let drive = SimDrive::new(64 << 10).with_capacity(2 << 20);
    let store = drive.open().await;
    put(&store, shard_id(7), &[unit(7, 100)]).await.unwrap();
    put(&store, shard_id(1), &[unit(3, 50_000)]).await.unwrap();
    give_up_many(&store, 200_000, 100).await;
    assert_eq!(get(&store, shard_id(1)).await.unwrap(), payload(&[unit(3, 50_000)]));
    // All that is left is what the open segment holds.
    for _ in 0..3 {
        store.reclaim().await.unwrap();
    }
    let usage = store.usage();
    assert!(usage.shards == 2 && usage.dead <= 64 << 10 && usage.free > 1 << 20, "{usage:?}");
    store.close().await;
    let store = drive.open().await;
    assert_eq!(store.usage().shards, 2);
    assert_eq!(get(&store, shard_id(7)).await.unwrap(), payload(&[unit(7, 100)]));
}

#[tokio::test]
async fn many_writers_of_few_ids_leave_one_whole_shard_each() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    let content =
        |round: u64| units(round * 10, &[2000, if round.is_multiple_of(3) { 9000 } else { 10 }, 2000]);
    let writes = (0..192_u64).map(|round| {
        let (store, units) = (store.clone(), content(round));
        async move {
            let id = shard_id(u8::try_from(round % 12).unwrap());
            if round % 8 == 7 { store.delete(vec![id]).await } else { put(&store, id, &units).await }
        }
    });
    for written in join_all(writes).await {
        written.unwrap();
    }
    let mut before = Vec::new();
    for number in 0..12_u8 {
        let found = get(&store, shard_id(number)).await;
        match &found {
            Ok(found) => assert!(
                (0..192)
                    .filter(|round| round % 12 == u64::from(number))
                    .any(|round| *found == payload(&content(round)))
            ),
            Err(error) => assert!(matches!(error, StoreError::NotFound) && number % 4 == 3, "{error}"),
        }
        before.push(found.ok());
    }
    drop(store);
    let store = drive.open_after_drop().await;
    for (number, before) in (0..).zip(before) {
        assert_eq!(get(&store, shard_id(number)).await.ok(), before, "what was seen stays");
    }
}

#[tokio::test]
async fn one_flush_serves_all_that_waited_for_it() {
    let drive = SimDrive::new(1 << 20);
    let store = drive.open().await;
    put(&store, shard_id(200), &[]).await.unwrap();
    let before = drive.disk.operations_of(Operation::SyncFile);
    let gate = drive.hold(Operation::SyncFile, "log/");
    let mut first = Box::pin(put(&store, shard_id(201), &[]));
    assert!(first.as_mut().now_or_never().is_none());
    until("the first flush", || gate.reached() == 1).await;
    let contents: Vec<_> = (0..100_u8).map(|number| [unit(number.into(), 500)]).collect();
    let mut rest: Vec<_> =
        (0..).zip(&contents).map(|(number, units)| Box::pin(put(&store, shard_id(number), units))).collect();
    for write in &mut rest {
        assert!(write.as_mut().now_or_never().is_none(), "not before the flush");
    }
    assert_eq!(store.usage().shards, 1, "nothing is visible before the flush");
    drive.disk.faults().clear();
    gate.open();
    first.await.unwrap();
    for outcome in join_all(rest).await {
        outcome.unwrap();
    }
    let flushes = drive.disk.operations_of(Operation::SyncFile) - before;
    assert_eq!(flushes, 2, "one for the first, one for the hundred");
}

#[tokio::test]
async fn writers_and_reads_beyond_the_limits_are_refused() {
    let drive = SimDrive::formatted(SimDisk::new().with_cache(SimCache::Nothing), 64 << 10);
    let store = drive.open().await;
    let mut writers = Vec::new();
    let refused = loop {
        match store.put(meta(shard_id(1))).await {
            Ok(writer) => writers.push(writer),
            Err(error) => break error,
        }
        assert!(writers.len() < 10_000);
    };
    assert!(matches!(refused, StoreError::Overloaded), "{refused:?}");
    writers.pop();
    store.put(meta(shard_id(1))).await.unwrap().commit().await.unwrap();

    let gate = drive.hold(Operation::Read, "log/");
    let reads = join_all((0..5000).map(|_| store.read(shard_id(1), 0..0)));
    let release = async {
        until("reads reach the device", || gate.reached() == 2).await;
        gate.open();
    };
    let (reads, ()) = tokio::join!(reads, release);
    let refused = reads.iter().filter(|read| matches!(read, Err(StoreError::Overloaded))).count();
    assert!(
        refused >= 3900 && reads.iter().filter(|read| read.is_ok()).count() == 5000 - refused,
        "{refused}"
    );
    store.read(shard_id(1), 0..0).await.unwrap();
}

/// Bytes that may be on their way to the drive.
const QUEUE_BYTES: usize = 32 << 20;

#[tokio::test]
async fn small_shards_wait_in_bounded_memory_while_the_drive_stands_still() {
    let drive = SimDrive::new(4 << 20);
    let store = drive.open().await;
    put(&store, shard_id(0), &[unit(1, 10)]).await.unwrap();
    let gate = drive.hold(Operation::SyncFile, "log/");
    let unit = unit(2, 128 * K);
    let mut commits = Vec::new();
    let refused = loop {
        let mut writer = match store.put(meta(shard_id(u8::try_from(commits.len() % 200).unwrap()))).await {
            Ok(writer) => writer,
            Err(error) => break error,
        };
        writer.append(unit.clone()).await.unwrap();
        // A task that is polled this often would be told to wait by its runtime.
        let mut commit = Box::pin(tokio::task::unconstrained(writer.commit()));
        assert!(commit.as_mut().now_or_never().is_none());
        commits.push(commit);
    };
    assert!(matches!(refused, StoreError::Overloaded), "{refused:?}");
    let held = commits.len() * 128 * K;
    assert!((QUEUE_BYTES - (1 << 20)..=QUEUE_BYTES + 128 * K).contains(&held), "{held}");
    // Reads and deletes are not kept out.
    assert_eq!(store.read(shard_id(0), 0..1).await.unwrap().len(), 1);
    let mut delete = Box::pin(store.delete(vec![shard_id(3)]));
    assert!(delete.as_mut().now_or_never().is_none());
    gate.open();
    for commit in commits {
        commit.await.unwrap();
    }
    delete.await.unwrap();
    assert_eq!(store.stat(shard_id(3)).await.unwrap(), None, "the delete came last");
    put(&store, shard_id(3), &[unit]).await.unwrap();
}

#[tokio::test]
async fn appends_wait_while_the_queue_is_full_and_a_cancelled_one_gives_the_shard_up() {
    let drive = SimDrive::new(4 << 20);
    let store = drive.open().await;
    let gate = drive.hold(Operation::Write, "extents/");
    let unit = unit(1, 512 << 10);
    const WRITERS: u8 = 140;
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        writers.push(store.put(meta(shard_id(number))).await.unwrap());
    }
    // A unit has two pieces, and a writer has one on its way at a time: the queue is full before all have theirs.
    let mut appends: Vec<_> =
        writers.iter_mut().map(|writer| Box::pin(async { join_twice(writer, &unit).await })).collect();
    for append in &mut appends {
        assert!(append.as_mut().now_or_never().is_none(), "the disk does not move");
    }
    until("the disk is asked", || gate.reached() >= 1).await;
    let refused = store.put(meta(shard_id(200))).await;
    assert!(matches!(refused, Err(StoreError::Overloaded)), "{refused:?}");
    // Of the first one pieces are with the disk, the last one waits for memory; both are given up.
    drop((appends.remove(usize::from(WRITERS) - 1), appends.remove(0)));
    gate.open();
    for append in appends {
        append.await.unwrap();
    }
    for (number, writer) in (0_u8..).zip(writers) {
        let committed = writer.commit().await;
        let given_up = number == 0 || number == WRITERS - 1;
        assert!(matches!(committed, Err(StoreError::Closed)) == given_up, "{number}: {committed:?}");
        assert_eq!(store.stat(shard_id(number)).await.unwrap().is_some(), !given_up, "{number}");
    }
    assert!(get(&store, shard_id(5)).await.unwrap() == payload(&[unit.clone(), unit.clone()]));
    store.put(meta(shard_id(200))).await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn long_reads_do_not_keep_an_async_worker_even_if_memory_has_all_of_it() {
    let drive = SimDrive::formatted(SimDisk::new().with_cache(SimCache::Everything), 8 << 20);
    let store = drive.open().await;
    let units = units(3, &[64 * K; 17]);
    put(&store, shard_id(1), &units).await.unwrap();
    let short = store.read(shard_id(1), 0..15).now_or_never().expect("answered without a thread").unwrap();
    assert_eq!(short.len(), 15);
    let gate = drive.hold(Operation::Read, "extents/");
    let mut long = Box::pin(store.read(shard_id(1), 0..17));
    assert!(long.as_mut().now_or_never().is_none(), "a thread reads it");
    until("a thread reads", || gate.reached() >= 1).await;
    gate.open();
    let long: Vec<_> = long.await.unwrap().into_iter().map(|unit| unit.bytes).collect();
    assert!(long == payload(&units));
}

async fn join_twice(writer: &mut ashlar_storage::ShardWriter, unit: &ShardUnit) -> Result<(), StoreError> {
    writer.append(unit.clone()).await?;
    writer.append(unit.clone()).await
}

#[tokio::test]
async fn a_commit_nobody_waits_for_is_whole_or_absent() {
    let drive = SimDrive::new(64 << 10);
    let store = drive.open().await;
    for number in 0..40_u8 {
        let units = units(number.into(), &[usize::from(number) * 1000, 5]);
        let mut writer = store.put(meta(shard_id(number))).await.unwrap();
        for unit in units {
            writer.append(unit).await.unwrap();
        }
        let _ = writer.commit().now_or_never();
    }
    // What comes later in the queue is done later.
    put(&store, shard_id(100), &[]).await.unwrap();
    drop(store);
    let store = drive.open_after_drop().await;
    let mut found = 0;
    for number in 0..40_u8 {
        match get(&store, shard_id(number)).await {
            Ok(read) => {
                assert_eq!(read, payload(&units(number.into(), &[usize::from(number) * 1000, 5])));
                found += 1;
            }
            Err(error) => assert!(matches!(error, StoreError::NotFound), "{error}"),
        }
    }
    assert!(found >= 9, "the small ones were queued by the first call: {found}");
}
