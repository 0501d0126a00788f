//! Every short sequence of calls, every crash point, every subset of what was not durable.

use super::{
    Dice,
    client::Client,
    crash::play,
    model::{Call, Calls, Model, Replicas, id},
    node::{Key, live},
    sweep::{Counts, Sweep, holding, recover_sound},
};
use ashlar_metadata::log::raft::Vote;
use ashlar_runtime::{
    SimDisk,
    disk::sim::{DiskImage, Event, Survivors},
};

const A: Key = (1, 1);
const B: Key = (2, 1);

#[derive(Clone, Copy, Debug)]
enum Step {
    AppendA,
    AppendB,
    VoteA,
    TruncateA,
    PurgeA,
    ReplaceB,
    Reopen,
}

const STEPS: [Step; 7] =
    [Step::AppendA, Step::AppendB, Step::VoteA, Step::TruncateA, Step::PurgeA, Step::ReplaceB, Step::Reopen];

async fn step(client: &mut Client, step: Step) -> Result<(), String> {
    let mut dice = Dice::new(1);
    let last = |client: &Client, key| client.replicas.get(&key).and_then(super::model::Replica::last);
    let next = |client: &Client, key| last(client, key).map_or(0, |last| last.index + 1);
    let calls = match step {
        Step::AppendA | Step::AppendB => {
            let key = if matches!(step, Step::AppendA) { A } else { B };
            let (from, term) = (next(client, key), last(client, key).map_or(1, |last| last.leader_id.term));
            vec![Call::Append(key, (from..from + 30).map(|index| id(term, index)).collect())]
        }
        Step::VoteA => {
            let term = client.replicas.get(&A).and_then(|replica| replica.vote);
            vec![Call::Vote(A, Vote::new(term.map_or(1, |vote| vote.leader_id.term + 1), 1))]
        }
        Step::TruncateA => {
            let keep = client.replicas.get(&A).and_then(|replica| {
                let from = replica.last()?.index.saturating_sub(3);
                replica.entries.range(from..).next().map(|(_, id)| *id)
            });
            keep.map(|keep| Call::Truncate(A, Some(keep))).into_iter().collect()
        }
        Step::PurgeA => last(client, A).map(|last| Call::AskPurge(A, last)).into_iter().collect(),
        Step::ReplaceB => vec![Call::Remove(B)],
        Step::Reopen => {
            client.reopen(A).await?;
            return Ok(());
        }
    };
    make(client, calls, &mut dice).await?;
    if matches!(step, Step::ReplaceB) {
        make(client, vec![Call::Begin(B)], &mut dice).await?;
    }
    Ok(())
}

async fn make(client: &mut Client, calls: Vec<Call>, dice: &mut Dice) -> Result<(), String> {
    let mut planned = Vec::new();
    for call in calls {
        client.plan(call, dice, &mut planned);
    }
    client.make(planned).await.map_err(|error| error.to_string())
}

/// A log that crashed in use.
fn aged() -> Result<DiskImage, String> {
    let disk = SimDisk::new();
    let calls = Calls::default();
    play(&disk, 11, 30, &Model::new(Replicas::new(), calls.clone()), &calls)?;
    let history = disk.history();
    Ok(history.crash(history.events.len() * 4 / 5, Survivors::Random { seed: 5 }))
}

fn sequence(image: &DiskImage, steps: &[Step]) -> Result<Counts, String> {
    let disk = SimDisk::with_image(image.clone());
    let calls = Calls::default();
    let known = holding(&recover_sound(&SimDisk::with_image(image.clone()))?);
    let model = Model::new(known, calls.clone());
    // Shorter sequences crashed before: this one from its last step on.
    let from = live(async {
        let mut client = Client::open(&disk, 1, &model, calls)?;
        for key in [A, B] {
            if !client.replicas.contains_key(&key) {
                make(&mut client, vec![Call::Begin(key)], &mut Dice::new(1)).await?;
            }
        }
        let mut from = 0;
        for (place, next) in steps.iter().enumerate() {
            if place + 1 == steps.len() {
                from = disk.history().events.len();
            }
            step(&mut client, *next).await?;
        }
        Ok::<_, String>(from)
    })?;
    let history = disk.history();
    assert!(history.events[from..].iter().any(|event| matches!(event, Event::Note(_))) || from > 0);
    let mut sweep = Sweep { exhaustive: true, kill_every: 5, ..Sweep::new(1) };
    sweep.walk(&history, from, model).map(|()| sweep.counts)
}

#[test]
fn every_short_sequence_survives_every_crash() {
    let mut counts = Counts::default();
    for image in [SimDisk::new().image(), aged().unwrap()] {
        let mut sequences: Vec<Vec<Step>> = vec![Vec::new()];
        for _ in 0..3 {
            let longer = |sequence: &Vec<Step>| STEPS.map(|step| [&sequence[..], &[step]].concat());
            sequences = sequences.iter().flat_map(longer).collect();
            for steps in &sequences {
                match sequence(&image, steps) {
                    Ok(one) => counts.add(one),
                    Err(what) => panic!("{steps:?}: {what}"),
                }
            }
        }
    }
    eprintln!("crash points: {}, {counts:?}", counts.points);
    assert!(counts.points >= 5_000, "{counts:?}");
}
