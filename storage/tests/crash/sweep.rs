//! Cutting a history at every event and recovering what is left.

use super::{
    Counts, Failure, Run,
    client::{Client, on_request},
    content::{Contents, Dice},
    describe::describe,
    model::{Found, Model},
    recovery::{Recovered, recover, verify},
    second_life::block_on,
};
use ashlar_runtime::{
    SimDisk,
    disk::sim::{DiskImage, Event, History, Survivors},
};
use std::ops::Range;

/// All subsets are tried of so many changes at most.
const SUBSET_CHANGES: usize = 10;
/// Events that a failure shows.
const EVENTS_SHOWN: usize = 24;

/// Which survivors a crash has among the changes that were not durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plan {
    /// Every subset of up to ten changes, and some with writes torn; of more a sample.
    Exhaustive,
    /// None, all, and so many random subsets with writes torn.
    Sampled { random: u64 },
}

impl Plan {
    fn survivors(self, unsynced: usize, dice: &mut Dice) -> Vec<Survivors> {
        let mut random =
            |count: u64| (0..count).map(|_| Survivors::Random { seed: dice.next() }).collect::<Vec<_>>();
        match self {
            _ if unsynced == 0 => vec![Survivors::None],
            Self::Exhaustive if unsynced <= SUBSET_CHANGES => {
                let subsets = (0..1_u64 << unsynced).map(Survivors::Subset);
                subsets.chain(random(2)).collect()
            }
            Self::Exhaustive => [Survivors::None, Survivors::All].into_iter().chain(random(64)).collect(),
            Self::Sampled { random: count } => {
                [Survivors::None, Survivors::All].into_iter().chain(random(count)).collect()
            }
        }
    }
}

/// A state after a crash that was found good.
#[derive(Debug)]
pub(crate) struct Survived<'a> {
    pub(crate) image: &'a DiskImage,
    pub(crate) found: &'a Found,
}

/// How often a costly check is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Recoveries between two that are repeated.
    pub(crate) again: u64,
    /// Events between two at which the process is killed too; 0 for never.
    pub(crate) kill: usize,
}

#[derive(Debug)]
pub(crate) struct Sweep<'a> {
    pub(crate) run: &'a Run,
    pub(crate) contents: &'a Contents,
    pub(crate) plan: Plan,
    pub(crate) rates: Rates,
    pub(crate) points_max: u64,
    pub(crate) dice: Dice,
    pub(crate) counts: Counts,
}

impl Sweep<'_> {
    /// Crashes after each number of events in `ends`. `model` is what was known when the history began; `next` is
    /// called with each state that was recovered.
    pub(crate) fn walk(
        &mut self,
        history: &History,
        ends: Range<usize>,
        mut model: Model,
        next: &mut dyn FnMut(&mut Counts, Survived<'_>) -> Result<(), String>,
    ) -> Result<(), Failure> {
        self.counts.histories += 1;
        let mut cursor = history.crashes();
        let mut recovered: Vec<(Survivors, Found)> = Vec::new();
        for end in 0..ends.end.min(history.events.len() + 1) {
            let event = if end > 0 { cursor.advance() } else { None };
            let note = if let Some(Event::Note(raw)) = event { Some(*raw) } else { None };
            if let Some(raw) = note {
                model.note(raw);
            }
            if end < ends.start {
                continue;
            }
            // A note changes what may be found but not the disk: what was recovered last counts again.
            if note.is_none() || end == ends.start {
                recovered.clear();
                for survivors in self.plan.survivors(cursor.unsynced(), &mut self.dice) {
                    let image = cursor.crash(survivors);
                    let one = self.recover(&image).and_then(|one| {
                        model.check(&one.found)?;
                        next(&mut self.counts, Survived { image: &image, found: &one.found })?;
                        Ok(one)
                    });
                    let one =
                        one.map_err(|what| self.failure(what, history, end, &format!("{survivors:?}")))?;
                    recovered.push((survivors, one.found));
                }
                if self.rates.kill > 0 && end.is_multiple_of(self.rates.kill) {
                    self.kill(&cursor.kill(), &model)
                        .map_err(|what| self.failure(what, history, end, "killed"))?;
                }
            }
            for (survivors, found) in &recovered {
                let checked = model.check(found);
                checked.map_err(|what| self.failure(what, history, end, &format!("{survivors:?}")))?;
            }
            if self.counts.points >= self.points_max {
                break;
            }
        }
        Ok(())
    }

    fn recover(&mut self, image: &DiskImage) -> Result<Recovered, String> {
        let disk = SimDisk::with_image(image.clone());
        let recovered = recover(&disk, self.contents)?;
        self.counts.points += 1;
        self.counts.torn_tails += u64::from(recovered.torn_tail);
        self.counts.from_checkpoint += u64::from(recovered.from_checkpoint);
        if self.counts.points.is_multiple_of(self.rates.again) {
            let again = recover(&disk, self.contents).map_err(|what| format!("recovered again: {what}"))?;
            same(&recovered, &again)?;
            verify(&disk, &recovered.found)?;
            let history = disk.history();
            let cut = history.crash(history.events.len(), Survivors::None);
            let again = recover(&SimDisk::with_image(cut), self.contents);
            same(&recovered, &again.map_err(|what| format!("recovered and cut off again: {what}"))?)?;
        }
        Ok(recovered)
    }

    /// What a drive shows after its process was killed, it still shows after a power cut: it was made durable first.
    fn kill(&mut self, killed: &SimDisk, model: &Model) -> Result<(), String> {
        let seed = self.dice.next();
        let (shown, history) = block_on(async {
            let client = Client::open(killed, on_request(), seed, self.contents, model.clone()).await?;
            let shown = client.check().await?;
            let history = killed.history();
            client.store.close().await;
            Ok((shown, history))
        })?;
        let cut = SimDisk::with_image(history.crash(history.events.len(), Survivors::None));
        let kept = recover(&cut, self.contents).map_err(|what| format!("then cut off: {what}"))?;
        self.counts.kills += 1;
        self.counts.points += 2;
        if kept.found == shown {
            Ok(())
        } else {
            Err(format!("after the kill it showed {shown:?}, after a power cut {:?}", kept.found))
        }
    }

    fn failure(&self, what: String, history: &History, end: usize, survivors: &str) -> Failure {
        Failure {
            what,
            run: self.run.name.clone(),
            crash_point: end,
            survivors: survivors.into(),
            events: describe(history, end.saturating_sub(EVENTS_SHOWN)..end),
            command: self.run.command.clone(),
        }
    }
}

fn same(first: &Recovered, again: &Recovered) -> Result<(), String> {
    if first.found == again.found {
        return Ok(());
    }
    Err(format!("recovered as {:?} and then as {:?}", first.found, again.found))
}
