//! Long runs from a seed, cut at every event.

use super::{
    Dice,
    client::Client,
    model::{Calls, Model, Replicas},
    node::{Key, live},
    sweep::{Counts, Sweep},
};
use ashlar_runtime::SimDisk;
use std::env;

pub(crate) const KEYS: [Key; 5] = [(0, 1), (1, 1), (2, 1), (2, 2), (7, 1)];
const SEED: &str = "ASHLAR_LOG_CRASH_SEED";
const SEEDS: &str = "ASHLAR_LOG_CRASH_SEEDS";

/// Plays a seed on a disk that records.
pub(crate) fn play(
    disk: &SimDisk,
    seed: u64,
    waves: u64,
    model: &Model,
    calls: &Calls,
) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    live(async {
        let mut client = Client::open(disk, dice.next(), model, calls.clone())?;
        for _ in 0..waves {
            let callers = 1 + dice.below(12);
            client.wave(&KEYS, &mut dice, callers).await.map_err(|error| error.to_string())?;
            if dice.below(6) == 0 {
                for key in client.keys() {
                    client.reopen(key).await?;
                }
            }
        }
        if dice.below(2) == 0 {
            client.close().await;
        }
        Ok(())
    })
}

fn run(seed: u64) -> Result<Counts, String> {
    let mut dice = Dice::new(!seed);
    let disk = SimDisk::new();
    let disk = if dice.below(4) == 0 { disk.without_direct_io() } else { disk };
    let calls = Calls::default();
    let model = Model::new(Replicas::new(), calls.clone());
    play(&disk, seed, 12 + dice.below(30), &model, &calls)?;
    let mut sweep = Sweep { live_again_every: 40, ..Sweep::new(dice.next()) };
    sweep.walk(&disk.history(), 0, model).map(|()| sweep.counts)
}

#[test]
fn whatever_a_crash_leaves_is_what_the_log_once_was() {
    let chosen = env::var(SEED).ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = env::var(SEEDS).ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(24);
    let mut counts = Counts::default();
    for seed in chosen.map_or(0..seeds, |seed| seed..seed + 1) {
        match run(seed) {
            Ok(one) => counts.add(one),
            Err(what) => panic!(
                "seed {seed}: {what}\n  repeat: {SEED}={seed} cargo test -p ashlar-metadata --test log -- \
                 whatever_a_crash --nocapture"
            ),
        }
    }
    eprintln!("crash points: {}, {counts:?}", counts.points);
    if chosen.is_none() && seeds >= 24 {
        assert!(counts.points >= 20_000 && counts.kills > 500 && counts.second_lives > 100, "{counts:?}");
    }
}
