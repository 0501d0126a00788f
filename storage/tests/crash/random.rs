//! Long runs of concurrent clients, all from one seed.

use super::{
    Counts, Failure, Limits, Run,
    client::{self, Client, in_background, on_request},
    content::{Contents, Dice},
    model::{Found, Model},
    second_life::{Crashed, block_on, live_again},
    sweep::{Plan, Rates, Sweep},
    workload::Workload,
};
use ashlar_runtime::{
    SimDisk,
    disk::sim::{DiskImage, History, SimCache, Survivors},
};

/// Operations that run at once, at most.
const CALLERS: u64 = 8;
/// Holds a few segments and checkpoints.
const SMALL_DEVICE: u64 = 1 << 20;
/// Second lives of a run that begin with a kill.
const KILLED_LIVES: u64 = 6;

/// Plays the run of a seed and crashes at every event of its history.
pub(crate) fn random(seed: u64, limits: &Limits) -> Result<Counts, Failure> {
    let run = Run::chosen("clients::concurrent_clients_keep", "ASHLAR_CRASH_SEED", seed.to_string());
    let (contents, mut dice) = (Contents::default(), Dice::new(seed));
    let span = limits.operations.end() - limits.operations.start() + 1;
    let operations = limits.operations.start() + dice.below(span);
    let image = formatted().map_err(|what| run.failure(what))?;
    let disk = device(image, &mut dice);
    block_on(play(&disk, &contents, dice.next(), operations)).map_err(|what| run.failure(what))?;

    let every = limits.second_life_every;
    let mut lives = dice.clone();
    let mut since = 0;
    let mut second_life = |counts: &mut Counts, image: &DiskImage, found: &Found| {
        since += 1;
        if every == 0 || since < every {
            return Ok(());
        }
        since = 0;
        let disk = SimDisk::with_image(image.clone());
        let crashed = Crashed { disk, events: 0, model: Model::holding(found) };
        let lived = live_again(crashed, &run, &contents, Dice::new(lives.next()));
        counts.add(lived.map_err(|failure| failure.to_string())?);
        Ok(())
    };
    let mut sweep = Sweep {
        run: &run,
        contents: &contents,
        plan: Plan::Sampled { random: limits.survivors },
        rates: Rates { again: 32, kill: 16 },
        points_max: limits.points_max,
        dice,
        counts: Counts::default(),
    };
    let history = disk.history();
    sweep.walk(&history, 0..usize::MAX, Model::default(), &mut |counts, survived| {
        second_life(counts, survived.image, survived.found)
    })?;
    let mut counts = sweep.counts;
    if every > 0 {
        let mut dice = sweep.dice;
        for _ in 0..KILLED_LIVES {
            counts.add(killed_and_cut_off(&history, &run, &contents, &mut dice)?);
        }
    }
    Ok(counts)
}

/// A process is killed, the next one works on, and the power goes: what the first left in the cache is still not
/// durable when the second begins.
fn killed_and_cut_off(
    history: &History,
    run: &Run,
    contents: &Contents,
    dice: &mut Dice,
) -> Result<Counts, Failure> {
    let end = index(dice.below(history.events.len() as u64 + 1));
    let mut cursor = history.crashes();
    cursor.advance_to(end);
    let model = Model::after(&history.events[..end]);
    let crashed = Crashed { disk: cursor.kill(), events: cursor.unsynced(), model };
    live_again(crashed, run, contents, Dice::new(dice.next()))
}

/// Devices and file systems differ, and the drive takes other paths on them.
fn device(image: DiskImage, dice: &mut Dice) -> SimDisk {
    let disk = SimDisk::with_image(image);
    let disk = if dice.below(4) == 0 { disk.without_direct_io() } else { disk };
    let disk =
        disk.with_cache([SimCache::Tracked, SimCache::Everything, SimCache::Nothing][index(dice.below(3))]);
    let disk = if dice.below(3) == 0 { client::with_slow_flushes(disk) } else { disk };
    // Some are so small that shards are refused.
    if dice.below(5) == 0 { disk.with_capacity(SMALL_DEVICE) } else { disk }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("histories are short")
}

/// A drive that was just formatted, as a power cut leaves it: formatting is durable when it returns.
pub(crate) fn formatted() -> Result<DiskImage, String> {
    let disk = SimDisk::new();
    client::format(&disk).map_err(|error| format!("format: {error}"))?;
    let history = disk.history();
    Ok(history.crash(history.events.len(), Survivors::None))
}

async fn play(disk: &SimDisk, contents: &Contents, seed: u64, operations: u64) -> Result<(), String> {
    // A drive that keeps house by itself does so at moments that no test would choose.
    let options = if seed.is_multiple_of(3) { in_background() } else { on_request() };
    let mut client = Client::open(disk, options, seed, contents, Model::default()).await?;
    let mut workload = Workload::new(seed, 0);
    let mut done = 0;
    while done < operations {
        // Long waves make long batches, short ones many.
        done += workload.wave(&client, CALLERS).await?;
        match workload.dice.below(12) {
            0 => client = client.reopen(workload.dice.next()).await?,
            1..4 => drop(client.check().await?),
            _ => {}
        }
    }
    client.check().await?;
    client.store.close().await;
    Ok(())
}
