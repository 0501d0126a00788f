//! Cutting a history at every event and recovering what is left.

use super::{
    Dice,
    client::Client,
    model::{Calls, Found, Model, Replica, Replicas},
    node::{Key, Tables, env, live, open, replica},
};
use ashlar_metadata::log::{LogCondition, LogError};
use ashlar_runtime::{
    SimDisk,
    disk::sim::{DiskImage, Event, History, Survivors},
};
use openraft::{RaftLogReader, entry::RaftEntry as _, storage::RaftLogStorage};
use std::collections::BTreeMap;

/// All subsets are tried of so many changes at most.
const SUBSET_CHANGES: usize = 6;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Recoveries from different states of the disk.
    pub(crate) points: u64,
    pub(crate) kills: u64,
    pub(crate) second_lives: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.points += other.points;
        self.kills += other.kills;
        self.second_lives += other.second_lives;
    }
}

/// What recovery says of every replica.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Recovered {
    Sound(Box<Found>),
    Damaged,
}

/// Opens the log and reads all of it.
pub(crate) fn recover(disk: &SimDisk) -> Result<BTreeMap<Key, Recovered>, String> {
    live(async {
        let env = env(disk, 7);
        let log = open(&env).map_err(|error| format!("open: {error}"))?;
        let mut all = BTreeMap::new();
        for known in log.replicas() {
            let key = (known.group.0, known.raft_id);
            let store = replica(&log, &env, &Tables::new(disk, key));
            let recovered = match (known.condition, store) {
                (LogCondition::Damaged, Err(LogError::Damaged { .. })) => Recovered::Damaged,
                (LogCondition::Sound, Ok(mut store)) => {
                    let read = async {
                        let state = store.get_log_state().await?;
                        Ok::<_, std::io::Error>(Found {
                            vote: store.read_vote().await?,
                            committed: store.read_committed().await?,
                            purged: state.last_purged_log_id,
                            last: state.last_log_id,
                            entries: store.try_get_log_entries(..).await?,
                        })
                    };
                    Recovered::Sound(Box::new(read.await.map_err(|error| format!("{key:?}: {error}"))?))
                }
                (condition, opened) => {
                    return Err(format!("{key:?} is {condition:?} and opens as {opened:?}"));
                }
            };
            all.insert(key, recovered);
        }
        Ok(all)
    })
}

/// The same where nothing may be damaged.
pub(crate) fn recover_sound(disk: &SimDisk) -> Result<BTreeMap<Key, Found>, String> {
    let sound = |(key, recovered)| match recovered {
        Recovered::Sound(found) => Ok((key, *found)),
        Recovered::Damaged => Err(format!("{key:?} is taken for damaged")),
    };
    recover(disk)?.into_iter().map(sound).collect()
}

/// What was found, as what is certain from now on.
pub(crate) fn holding(found: &BTreeMap<Key, Found>) -> Replicas {
    let replica = |found: &Found| Replica {
        vote: found.vote,
        committed: found.committed,
        purged: found.purged,
        asked: Vec::new(),
        entries: found.entries.iter().map(|entry| (entry.index(), entry.log_id())).collect(),
    };
    found.iter().map(|(key, found)| (*key, replica(found))).collect()
}

#[derive(Debug)]
pub(crate) struct Sweep {
    /// All subsets of few changes; else none, all and so many random ones.
    pub(crate) exhaustive: bool,
    pub(crate) random: u64,
    pub(crate) kill_every: usize,
    /// Each so many recoveries the log is used again and crashes again.
    pub(crate) live_again_every: u64,
    pub(crate) dice: Dice,
    pub(crate) counts: Counts,
}

impl Sweep {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            exhaustive: false,
            random: 2,
            kill_every: 8,
            live_again_every: 0,
            dice: Dice::new(seed),
            counts: Counts::default(),
        }
    }

    fn survivors(&mut self, unsynced: usize) -> Vec<Survivors> {
        if unsynced == 0 {
            return vec![Survivors::None];
        }
        let random: Vec<_> = (0..self.random).map(|_| Survivors::Random { seed: self.dice.next() }).collect();
        if self.exhaustive && unsynced <= SUBSET_CHANGES {
            (0..1_u64 << unsynced).map(Survivors::Subset).chain(random).collect()
        } else {
            [Survivors::None, Survivors::All].into_iter().chain(random).collect()
        }
    }

    /// Crashes at every event from `from` on. `model` is what was known when the history began.
    pub(crate) fn walk(&mut self, history: &History, from: usize, mut model: Model) -> Result<(), String> {
        let mut cursor = history.crashes();
        let mut recovered: Vec<(String, BTreeMap<Key, Found>)> = Vec::new();
        for end in 0..=history.events.len() {
            let event = if end > 0 { cursor.advance() } else { None };
            let note = if let Some(Event::Note(raw)) = event { Some(*raw) } else { None };
            if let Some(raw) = note {
                model.note(raw);
            }
            if end < from {
                continue;
            }
            let fail = |what: String, survivors: &str| {
                let events: Vec<_> =
                    history.events[end.saturating_sub(12)..end].iter().map(describe).collect();
                format!(
                    "{what}\n  crash after {end} events, survivors {survivors}\n  {}",
                    events.join("\n  ")
                )
            };
            // A note changes what may be found but not the disk.
            if note.is_none() || end == from {
                recovered.clear();
                for survivors in self.survivors(cursor.unsynced()) {
                    let image = cursor.crash(survivors);
                    let name = format!("{survivors:?}");
                    let found = self.recover(&image).map_err(|what| fail(what, &name))?;
                    model.check(&found).map_err(|what| fail(what, &name))?;
                    if self.live_again_every > 0 && self.counts.points.is_multiple_of(self.live_again_every) {
                        self.live_again(&image, &found).map_err(|what| fail(what, &name))?;
                    }
                    recovered.push((name, found));
                }
                if self.kill_every > 0 && end.is_multiple_of(self.kill_every) {
                    self.kill(&cursor.kill(), &model).map_err(|what| fail(what, "killed"))?;
                }
            }
            for (name, found) in &recovered {
                model.check(found).map_err(|what| fail(what, name))?;
            }
        }
        Ok(())
    }

    fn recover(&mut self, image: &DiskImage) -> Result<BTreeMap<Key, Found>, String> {
        let disk = SimDisk::with_image(image.clone());
        let found = recover_sound(&disk)?;
        self.counts.points += 1;
        if self.counts.points.is_multiple_of(32) {
            let again = recover_sound(&disk)?;
            let history = disk.history();
            let cut = SimDisk::with_image(history.crash(history.events.len(), Survivors::None));
            if again != found || recover_sound(&cut)? != found {
                return Err("recovered otherwise the second time".to_owned());
            }
        }
        Ok(found)
    }

    /// What a log shows after its process was killed, it still shows after a power cut.
    fn kill(&mut self, killed: &SimDisk, model: &Model) -> Result<(), String> {
        let shown = recover_sound(killed)?;
        model.check(&shown)?;
        let history = killed.history();
        let cut = SimDisk::with_image(history.crash(history.events.len(), Survivors::None));
        let kept = recover_sound(&cut).map_err(|what| format!("then cut off: {what}"))?;
        self.counts.kills += 1;
        self.counts.points += 2;
        if kept == shown { Ok(()) } else { Err(format!("it showed {shown:?}, after a power cut {kept:?}")) }
    }

    /// Uses a log that crashed, and crashes it again at every event, those of its recovery too.
    fn live_again(&mut self, image: &DiskImage, found: &BTreeMap<Key, Found>) -> Result<(), String> {
        let disk = SimDisk::with_image(image.clone());
        let calls = Calls::default();
        let model = Model::new(holding(found), calls.clone());
        let mut dice = Dice::new(self.dice.next());
        live(async {
            let mut client = Client::open(&disk, dice.next(), &model, calls)?;
            let keys = super::crash::KEYS;
            for _ in 0..2 {
                client.wave(&keys, &mut dice, 4).await.map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        })?;
        let mut sweep = Self { live_again_every: 0, random: 1, kill_every: 0, ..Self::new(self.dice.next()) };
        let walked = sweep.walk(&disk.history(), 0, model);
        self.counts.add(sweep.counts);
        self.counts.second_lives += 1;
        walked.map_err(|what| format!("in a second life: {what}"))
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::Note(raw) => format!("note {:?}", super::model::Note::decode(*raw)),
        Event::Change(change) => {
            let mut text = format!("{change:?}");
            text.truncate(160);
            text
        }
        Event::SyncFile(_) | Event::SyncDir(_) | Event::Lost(_) => format!("{event:?}"),
    }
}
