//! A drive that crashed is used again and crashes again, at every event of its second life, recovery included.

use super::{
    Counts, Failure, Run, WATCHDOG,
    client::{Client, on_request},
    content::{Contents, Dice},
    model::Model,
    sweep::{Plan, Rates, Sweep},
    workload::{NUMBERS, Workload},
};
use ashlar_runtime::{Clock, RealClock, SimDisk};
use futures_util::future::{Either, select};

/// Rounds of a second life begin here: a first life does not come near.
const FIRST_ROUND: u64 = 1 << 40;

/// What a crash left, and what its first life's clients may expect of it.
#[derive(Debug)]
pub(crate) struct Crashed {
    pub(crate) disk: SimDisk,
    /// Changes of the first life that are not durable: the first events of the history.
    pub(crate) events: usize,
    pub(crate) model: Model,
}

/// Opens the drive, does some acknowledged operations, and crashes at each event since.
pub(crate) fn live_again(
    crashed: Crashed,
    run: &Run,
    contents: &Contents,
    mut dice: Dice,
) -> Result<Counts, Failure> {
    let Crashed { disk, events, model } = crashed;
    let seed = dice.next();
    let used = block_on(use_again(&disk, model.clone(), contents, seed));
    used.map_err(|what| run.failure(format!("second life: {what}")))?;
    let mut sweep = Sweep {
        run,
        contents,
        plan: Plan::Sampled { random: 1 },
        rates: Rates { again: 64, kill: 0 },
        points_max: u64::MAX,
        dice,
        counts: Counts::default(),
    };
    let swept = sweep.walk(&disk.history(), events..usize::MAX, model, &mut |_, _| Ok(()));
    swept.map_err(|failure| Failure { what: format!("second life: {}", failure.what), ..failure })?;
    let counts = sweep.counts;
    Ok(Counts { second_points: counts.points, second_lives: 1, ..counts })
}

async fn use_again(disk: &SimDisk, model: Model, contents: &Contents, seed: u64) -> Result<(), String> {
    let client = Client::open(disk, on_request(), seed, contents, model).await?;
    let found = client.check().await?;
    client.shown(0..NUMBERS, &found);
    let mut workload = Workload::new(seed, FIRST_ROUND + seed % (1 << 40));
    for _ in 0..1 + workload.dice.below(3) {
        workload.wave(&client, 3).await?;
    }
    client.check().await?;
    client.store.close().await;
    Ok(())
}

/// Runs a test's calls on this thread, but not for ever.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let (work, watchdog) = (std::pin::pin!(work), RealClock::new());
    match runtime.block_on(async { select(work, watchdog.sleep(WATCHDOG)).await }) {
        Either::Left((done, _)) => done,
        Either::Right(((), _)) => Err(format!("the drive hangs: no end after {WATCHDOG:?}")),
    }
}
