//! Memory stays within what a request reserved.

use crate::world::{Choice, World, body, payload, profile, put, world, world_of};
use ashlar_types::{BodyFrame, DriveId, ObjectError, service::Selection};
use bytes::Bytes;
use futures_util::{StreamExt, stream};

/// Six units of 1 KiB.
const ROW: u64 = 6 * 1024;
/// Two queued, one in the drives' hands, one being sent, one being read.
const ROWS_MAX: u64 = 5;

#[tokio::test]
async fn a_slow_drive_holds_back_the_body_and_no_memory() {
    for held in [0, 1, 2, 30] {
        let world = world_of(profile(4, 2, 1000, 0));
        world.drives.fault(DriveId(3), |faults| faults.holds_unit = Some(held));
        let piece = world.bytes(1000);
        let pieces = stream::repeat(()).take(400).map(move |()| Ok(BodyFrame::Data(piece.clone())));
        let payload = payload(Box::pin(pieces), Some(400_000));
        let write = world.store.put_object(&world.bucket, put("k", payload));
        // Nothing is let go of before the drive has taken its first unit.
        let rows = if held == 0 { ROWS_MAX - 1 } else { ROWS_MAX };
        let watch = async {
            while world.store.live_row_bytes() < rows * ROW || world.drives.appended(DriveId(1)) < held + 2 {
                tokio::task::yield_now().await;
            }
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
                assert!(world.store.live_row_bytes() <= rows * ROW, "{held}");
                assert!(world.drives.appended(DriveId(1)) <= held + 4, "{held}");
            }
            world.drives.fault(DriveId(3), |faults| faults.holds_unit = None);
        };
        let (written, ()) = tokio::join!(write, watch);
        assert_eq!(written.unwrap().size, 400_000);
        world.until_memory_is_free().await;
    }
}

#[tokio::test]
async fn a_write_without_memory_is_refused_before_its_body_is_read() {
    let world = World::new(Choice { memory: 40 * 1024, ..Choice::of(profile(4, 2, 10, 0)) });
    let untouched = stream::once(async { panic!("the body must not be read") });
    let refused =
        world.store.put_object(&world.bucket, put("k", payload(Box::pin(untouched), Some(1 << 20)))).await;
    assert!(matches!(refused, Err(ObjectError::SlowDown(_))), "{refused:?}");
    // What fits is written.
    assert!(world.put("k", &Bytes::from_static(b"small")).await.is_ok());
}

#[tokio::test]
async fn a_read_holds_its_memory_until_its_stream_is_gone() {
    let world = world();
    let bytes = world.bytes(200_000);
    world.put("k", &bytes).await.unwrap();
    world.until_memory_is_free().await;
    let read = world.open("k", Selection::Whole).await.unwrap();
    assert!(world.memory.available() < world.memory.limit());
    let mut stream = read.body.unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(world.memory.available(), world.memory.limit());

    let _all = world.memory.try_reserve(world.memory.available()).unwrap();
    let refused = world.open("k", Selection::Whole).await.err();
    assert!(matches!(refused, Some(ObjectError::SlowDown(_))), "{refused:?}");
}

#[tokio::test]
async fn a_reader_that_stops_reading_stops_the_drives() {
    let world = world_of(profile(1, 0, 1000, 0));
    let bytes = world.bytes(100 * 1024);
    world.store.put_object(&world.bucket, put("k", body(vec![bytes], None))).await.unwrap();
    let mut stream = world.open("k", Selection::Whole).await.unwrap().body.unwrap();
    stream.next().await.unwrap().unwrap();
    let left = |drives: &crate::cluster::Drives| drives.handed_out(DriveId(1));
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    // Two rows ahead, one held back, one in hand, one being passed on, the first.
    assert!(left(&world.drives) <= 6, "{}", left(&world.drives));
}
