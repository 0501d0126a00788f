//! One client on a device with one planned fault: the run that all tests of faults share.

use super::{
    client::{Client, on_request},
    content::{Class, Contents, Round},
    model::{MARK, Model},
    random::formatted,
    second_life::block_on,
};
use ashlar_runtime::{SimDisk, disk::sim::Fault};
use ashlar_storage::{DriveState, StoreError};

/// Shards of the run.
pub(crate) const NUMBERS: u8 = 10;
/// Operations after the run proper, so that whatever a fault hit is not the end of the log.
const SENTINELS: u64 = 2;
const OPERATIONS: u64 = 34;
/// The operation that writes the last checkpoint.
pub(crate) const LAST_CHECKPOINT: u64 = 33;

/// What the drive held, and whether it said all that it must.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Its history has a mark before the operation in which the fault happened.
    pub(crate) disk: SimDisk,
    /// What may be found.
    pub(crate) model: Model,
    /// The fault happened, and some operations after it.
    pub(crate) fired: bool,
    pub(crate) state: DriveState,
    /// Shards that were acknowledged after the drive had said that it failed.
    pub(crate) acked_after_failure: u64,
    /// Shards that were there but could not be read while the drive was open.
    pub(crate) unreadable: Vec<u8>,
}

/// Opens a drive, injects `fault`, works, reads everything, and closes. The drive may refuse any of it.
pub(crate) fn run(fault: &Fault, contents: &Contents) -> Result<Outcome, String> {
    let disk = SimDisk::with_image(formatted()?);
    block_on(work(disk, fault, contents))
}

async fn work(disk: SimDisk, fault: &Fault, contents: &Contents) -> Result<Outcome, String> {
    let client = Client::open(&disk, on_request(), 5, contents, Model::default()).await?;
    disk.faults().inject(fault.clone());
    let mut acked_after_failure = 0;
    let mut fired = false;
    for sequence in 1..=OPERATIONS + SENTINELS {
        if sequence <= OPERATIONS + 1 && !fired {
            fired = !disk.faults().fired().is_empty();
            if !fired {
                disk.note(MARK);
            }
        }
        let (failed, acked) = (client.store.state() != DriveState::Ok, client.acked());
        // What is refused stays unacknowledged, which the model knows.
        let _refused = operation(&client, sequence).await;
        acked_after_failure += if failed { client.acked() - acked } else { 0 };
    }
    disk.faults().clear();
    let unreadable = read_all(&client, contents).await?;
    let (model, state) = (client.model(), client.store.state());
    client.store.close().await;
    Ok(Outcome { disk, model, fired, state, acked_after_failure, unreadable })
}

/// An open drive knows what it holds, whatever became of the bytes: it answers with the right ones or an error.
async fn read_all(client: &Client<'_>, contents: &Contents) -> Result<Vec<u8>, String> {
    let mut unreadable = Vec::new();
    for number in 0..NUMBERS {
        let found = match client.read(number).await {
            Ok((stat, read)) => {
                let round = contents.identify(number, &stat, &read);
                Some(round.map_err(|what| format!("shard {number}: {what}"))?)
            }
            Err(StoreError::NotFound) => None,
            Err(_) => {
                unreadable.push(number);
                continue;
            }
        };
        let allowed = client.model().allowed(number);
        if !allowed.contains(&found) {
            return Err(format!("while the drive is open: shard {number} is {found:?}, not in {allowed:?}"));
        }
    }
    Ok(unreadable)
}

/// Puts in both lanes, replacements, deletes, checkpoints and reclaiming, enough to fill several segments.
async fn operation(client: &Client<'_>, sequence: u64) -> Result<(), String> {
    let number = u8::try_from(sequence * 7 % u64::from(NUMBERS)).expect("numbers are few");
    let round = |class| Round::new(sequence, class);
    if sequence > OPERATIONS {
        return client.put(NUMBERS, round(Class::Tiny)).await;
    }
    match sequence % 11 {
        0 => client.checkpoint().await,
        1 => client.put(number, round(Class::Tiny)).await,
        2 | 6 => client.put(number, round(Class::Large)).await,
        3 => client.put(number, round(Class::Limit)).await,
        4 => client.put(number, round(Class::OverLimit)).await,
        5 | 9 => client.delete(&[number], round(Class::NoUnits)).await,
        7 => client.put(number, round(Class::Odd)).await,
        8 => client.put(number, round(Class::ManyUnits)).await,
        _ => client.reclaim().await,
    }
}
