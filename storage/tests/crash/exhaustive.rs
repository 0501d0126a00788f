//! Every short sequence of operations, every crash point, every subset of what was not durable.

use super::{
    Counts, Failure, Limits, Run,
    client::{Client, on_request, with_slow_flushes},
    content::{Class, Contents, Dice, Round},
    model::{Found, MARK, Model, last_mark},
    random::formatted,
    recovery::recover,
    second_life::block_on,
    sweep::{Plan, Rates, Sweep},
};
use ashlar_runtime::{
    SimDisk,
    disk::sim::{DiskImage, Survivors},
};

/// One operation of a sequence. Shards A and B are 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    PutSmallA,
    PutSmallB,
    PutLargeA,
    PutLargeB,
    /// With a content of another lane than the one before.
    ReplaceA,
    DeleteA,
    DeleteBoth,
    Checkpoint,
    Reclaim,
    Reopen,
}

pub(crate) const STEPS: [Step; 10] = [
    Step::PutSmallA,
    Step::PutSmallB,
    Step::PutLargeA,
    Step::PutLargeB,
    Step::ReplaceA,
    Step::DeleteA,
    Step::DeleteBoth,
    Step::Checkpoint,
    Step::Reclaim,
    Step::Reopen,
];

/// The drive that sequences begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// Just formatted.
    Empty,
    /// With live and dead shards, a checkpoint, and little room left in its log segment.
    Aged,
    /// As before, and then cut off in the middle of writing: its log ends in a torn tail.
    Torn,
}

const BASES: [Base; 3] = [Base::Empty, Base::Aged, Base::Torn];

/// All sequences on all bases.
pub(crate) fn exhaustive(limits: &Limits) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    for base in BASES {
        counts.add(exhaustive_from(base, limits)?);
    }
    Ok(counts)
}

/// All sequences on one base. A sequence crashes only from its last operation on: shorter ones crashed before.
pub(crate) fn exhaustive_from(base: Base, limits: &Limits) -> Result<Counts, Failure> {
    let mut sequences = vec![Vec::new()];
    let mut counts = Counts::default();
    let mut player = Player::new(base)?;
    for _ in 0..limits.sequence_len {
        let longer = |sequence: &Vec<Step>| STEPS.map(|step| [&sequence[..], &[step]].concat());
        sequences = sequences.iter().flat_map(longer).collect();
        for sequence in &sequences {
            let points_max = limits.points_max.saturating_sub(counts.points);
            if points_max == 0 {
                return Ok(counts);
            }
            counts.add(player.play(sequence, points_max)?);
        }
    }
    Ok(counts)
}

/// One sequence as a failure prints it, such as `Aged:PutLargeA,DeleteA`.
pub(crate) fn repeat(name: &str) -> Result<Counts, Failure> {
    let run = Run::chosen("every_short_sequence_on_an_empty", VARIABLE, name.to_owned());
    let parsed = name.split_once(':').and_then(|(base, steps)| {
        let base = BASES.into_iter().find(|known| format!("{known:?}") == base)?;
        let step = |name: &str| STEPS.into_iter().find(|known| format!("{known:?}") == name);
        Some((base, steps.split(',').map(step).collect::<Option<Vec<Step>>>()?))
    });
    let (base, steps) = parsed.ok_or_else(|| run.failure(format!("{name} is no sequence")))?;
    Player::new(base)?.play(&steps, u64::MAX)
}

/// Flushes are slow in sequences shorter than this.
const SLOW_LEN: usize = 3;

/// Names the sequence to repeat.
pub(crate) const VARIABLE: &str = "ASHLAR_CRASH_SEQUENCE";

#[derive(Debug)]
struct Player {
    base: Base,
    image: DiskImage,
    found: Found,
    contents: Contents,
}

impl Player {
    fn new(base: Base) -> Result<Self, Failure> {
        let contents = Contents::default();
        let made = formatted().and_then(|image| match base {
            Base::Empty => Ok((image, Found::new())),
            Base::Aged => aged(image, &contents),
            Base::Torn => aged(image, &contents).and_then(|(image, _)| torn(image, &contents)),
        });
        let run = Run::part("every_short_sequence", format!("{base:?}"));
        let (image, found) = made.map_err(|what| run.failure(what))?;
        Ok(Self { base, image, found, contents })
    }

    fn play(&mut self, steps: &[Step], points_max: u64) -> Result<Counts, Failure> {
        let names: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        let name = format!("{:?}:{}", self.base, names.join(","));
        let run = Run::chosen("every_short_sequence_on_an_empty", VARIABLE, name);
        let disk = SimDisk::with_image(self.image.clone());
        // Where there are few sequences there is time for it.
        let disk = if steps.len() < SLOW_LEN { with_slow_flushes(disk) } else { disk };
        let model = Model::holding(&self.found);
        let played = block_on(play(&disk, &self.contents, model.clone(), steps));
        played.map_err(|what| run.failure(what))?;
        let history = disk.history();
        let mut sweep = Sweep {
            run: &run,
            contents: &self.contents,
            plan: Plan::Exhaustive,
            rates: Rates { again: 64, kill: 8 },
            points_max,
            dice: Dice::new(number_of(steps)),
            counts: Counts::default(),
        };
        sweep.walk(&history, last_mark(&history)..usize::MAX, model, &mut |_, _| Ok(()))?;
        Ok(sweep.counts)
    }
}

/// Different for each sequence, so that the random survivors are.
fn number_of(steps: &[Step]) -> u64 {
    steps.iter().fold(1, |number, step| number * STEPS.len() as u64 + *step as u64)
}

async fn play(disk: &SimDisk, contents: &Contents, model: Model, steps: &[Step]) -> Result<(), String> {
    let mut client = Client::open(disk, on_request(), 1, contents, model).await?;
    let mut a_is_large = false;
    for (sequence, step) in (1..).zip(steps) {
        if sequence == steps.len() as u64 {
            disk.note(MARK);
        }
        let (small, large) = (Round::new(sequence, Class::Odd), Round::new(sequence, Class::Large));
        match step {
            Step::PutSmallA => client.put(0, small).await?,
            Step::PutSmallB => client.put(1, small).await?,
            Step::PutLargeA => client.put(0, large).await?,
            Step::PutLargeB => client.put(1, large).await?,
            Step::ReplaceA => client.put(0, if a_is_large { small } else { large }).await?,
            Step::DeleteA => client.delete(&[0], small).await?,
            Step::DeleteBoth => client.delete(&[0, 1], small).await?,
            Step::Checkpoint => client.checkpoint().await?,
            Step::Reclaim => client.reclaim().await?,
            Step::Reopen => client = client.reopen(1000 + sequence).await?,
        }
        match step {
            Step::PutSmallA => a_is_large = false,
            Step::PutLargeA => a_is_large = true,
            Step::ReplaceA => a_is_large = !a_is_large,
            Step::PutSmallB
            | Step::PutLargeB
            | Step::DeleteA
            | Step::DeleteBoth
            | Step::Checkpoint
            | Step::Reclaim
            | Step::Reopen => {}
        }
    }
    client.check().await?;
    client.store.close().await;
    Ok(())
}

/// Fills segments and empties some of them.
fn aged(image: DiskImage, contents: &Contents) -> Result<(DiskImage, Found), String> {
    let disk = SimDisk::with_image(image);
    block_on(async {
        let client = Client::open(&disk, on_request(), 101, contents, Model::default()).await?;
        for number in 2..10 {
            let class = if number % 2 == 0 { Class::Large } else { Class::Limit };
            client.put(number, Round::new(1000 + u64::from(number), class)).await?;
        }
        client.delete(&[2, 3, 4, 5], Round(0)).await?;
        client.checkpoint().await?;
        client.reclaim().await?;
        for number in [0, 1, 6, 7] {
            client.put(number, Round::new(2000 + u64::from(number), Class::Limit)).await?;
        }
        client.delete(&[8], Round(1)).await?;
        client.check().await?;
        client.store.close().await;
        Ok(())
    })?;
    let history = disk.history();
    let image = history.crash(history.events.len(), Survivors::None);
    let recovered = recover(&SimDisk::with_image(image.clone()), contents)?;
    Ok((image, recovered.found))
}

/// Cuts the power during operations that begin with `image`, as late as it leaves a torn tail.
fn torn(image: DiskImage, contents: &Contents) -> Result<(DiskImage, Found), String> {
    let disk = SimDisk::with_image(image);
    block_on(async {
        let client = Client::open(&disk, on_request(), 102, contents, Model::default()).await?;
        client.give_up(0, Round::new(3000, Class::Large)).await?;
        client.put(1, Round::new(3001, Class::Limit)).await?;
        client.store.close().await;
        Ok(())
    })?;
    let history = disk.history();
    for end in (0..history.events.len()).rev() {
        for seed in 0..32 {
            let image = history.crash(end, Survivors::Random { seed });
            let recovered = recover(&SimDisk::with_image(image.clone()), contents)?;
            if recovered.torn_tail {
                return Ok((image, recovered.found));
            }
        }
    }
    Err("no crash leaves a torn tail".to_owned())
}
