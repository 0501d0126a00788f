//! Devices that lie: bits flip, writes are lost or land elsewhere, reads are stale. What a drive returns is right or
//! an error; what it no longer has it says; and it serves the rest.

use super::{
    Counts, Failure, Limits, Run,
    client::{Client, on_request},
    content::{Contents, Dice, number_of},
    describe::describe,
    faulty_run::{LAST_CHECKPOINT, NUMBERS, run},
    model::{Found, MARK, Model, Note, last_mark},
    recovery,
    second_life::block_on,
};
use ashlar_runtime::{
    Disk, OpenMode, SimDisk,
    disk::sim::{Event, Fault, FaultKind, FaultOn, History, Operation, Survivors},
};
use std::{io, path::Path};

/// What is readable on a damaged drive.
#[derive(Clone, Debug)]
struct Examined {
    found: Found,
    /// There, but an error.
    unreadable: Vec<u8>,
    /// Recovery said that something is damaged or lost.
    reported: bool,
}

/// Reads everything. An error if any bytes are wrong, or if the drive does not open.
fn examine(disk: &SimDisk, contents: &Contents) -> Result<Examined, String> {
    let drive = recovery::open(disk)?;
    let report = drive.recovery();
    let reported =
        !report.damaged.is_empty() || !report.lost.is_empty() || report.rebuilt || report.torn_tail;
    let (mut found, mut unreadable) = (Found::new(), Vec::new());
    for id in drive.ids() {
        let number = number_of(id).ok_or_else(|| format!("{id} is there but was never written"))?;
        let units = drive
            .stat(id)
            .and_then(|stat| stat.map(|stat| Ok((drive.read(id, 0..stat.units)?, stat))).transpose());
        match units {
            Ok(Some((read, stat))) => {
                let round = contents.identify(number, &stat, &read);
                found.insert(number, round.map_err(|what| format!("shard {number}: {what}"))?);
            }
            Ok(None) => return Err(format!("shard {number} has an id but no description")),
            Err(_) => unreadable.push(number),
        }
    }
    Ok(Examined { found, unreadable, reported })
}

/// Shards that are not as the model says, unless an error says so.
fn deviating(examined: &Examined, model: &Model) -> Vec<u8> {
    let deviates = |number: &u8| {
        !examined.unreadable.contains(number)
            && !model.allowed(*number).contains(&examined.found.get(number).copied())
    };
    (0..=NUMBERS).filter(deviates).collect()
}

fn judge(examined: &Examined, model: &Model, harmed_max: usize) -> Result<(), String> {
    let deviating = deviating(examined, model);
    if !deviating.is_empty() && !examined.reported {
        return Err(format!("shards {deviating:?} are not what was acknowledged, and nothing says so"));
    }
    let harmed = deviating.len() + examined.unreadable.len();
    if harmed > harmed_max {
        let unreadable = &examined.unreadable;
        return Err(format!(
            "one fault harmed {harmed} shards: {deviating:?} deviate, {unreadable:?} unreadable"
        ));
    }
    Ok(())
}

/// Each write of a run is lost, lands elsewhere or has a bit flipped, and each read is stale or has one flipped.
pub(crate) fn silent_faults(limits: &Limits) -> Result<Counts, Failure> {
    let contents = Contents::default();
    let mut counts = Counts::default();
    let kinds = [
        (Operation::Write, FaultKind::LostWrite),
        (Operation::Write, FaultKind::Misdirected { by: 4096 }),
        (Operation::Write, FaultKind::Misdirected { by: 8192 }),
        (Operation::Write, FaultKind::Misdirected { by: -8192 }),
        (Operation::Write, FaultKind::Misdirected { by: 512 }),
        (Operation::Write, FaultKind::BitFlip { bit: 12_345 }),
        (Operation::Write, FaultKind::BitFlip { bit: 300 }),
        (Operation::Read, FaultKind::BitFlip { bit: 4_567 }),
        (Operation::Read, FaultKind::StaleRead),
        (Operation::Read, FaultKind::Eio),
    ];
    for (operation, kind) in kinds {
        for nth in 0.. {
            let on = FaultOn { operation, path_contains: String::new(), nth };
            let fault = Fault { on, kind: kind.clone() };
            if counts.points >= limits.points_max || !lie(&fault, &contents, &mut counts)? {
                break;
            }
        }
    }
    Ok(counts)
}

/// Shards that one lost or misdirected write may harm: those of a batch, which compaction fills with several, and of
/// what it hit.
const HARMED_MAX: usize = 6;
/// Operations between a lie and the power cut that follows it.
const ACKS_SINCE: usize = 2;

/// `false` if there are no more such calls.
fn lie(fault: &Fault, contents: &Contents, counts: &mut Counts) -> Result<bool, Failure> {
    let place = Run::part("a_device_that_lies", format!("{fault:?}"));
    let outcome = run(fault, contents).map_err(|what| place.failure(what))?;
    if !outcome.fired {
        return Ok(false);
    }
    // The events of the operation that was lied to.
    let history = outcome.disk.history();
    let mark = last_mark(&history);
    let around = mark..(mark + 24).min(history.events.len());
    let fail = |what: String| Failure { events: describe(&history, around.clone()), ..place.failure(what) };
    let examined = examine(&outcome.disk, contents).map_err(fail)?;
    let is_write = fault.on.operation == Operation::Write;
    let harmed_max = if is_write { HARMED_MAX } else { 0 };
    judge(&examined, &outcome.model, harmed_max).map_err(fail)?;
    // A power cut takes nothing away that was acknowledged, lies or not: at the end, and where the log has to be read.
    let end = history.events.len();
    for end in [end, soon_after(&history, mark)] {
        let cut = SimDisk::with_image(history.crash(end, Survivors::All));
        let examined = examine(&cut, contents).map_err(fail)?;
        judge(&examined, &Model::after(&history.events[..end]), harmed_max).map_err(fail)?;
        opens(&cut).map_err(fail)?;
    }
    counts.points += 3;
    counts.histories += 1;
    Ok(true)
}

/// Where in a history some operations have been acknowledged since a mark, so that the log goes on behind what they met.
fn soon_after(history: &History, mark: usize) -> usize {
    let is_ack = |event: &Event| matches!(event, Event::Note(raw) if matches!(Note::decode(*raw).0, Note::PutAcked | Note::DeleteAcked));
    let acks = (mark..).zip(&history.events[mark..]).filter(|(_, event)| is_ack(event));
    acks.map(|(at, _)| at + 1).nth(ACKS_SINCE).unwrap_or(history.events.len())
}

/// Damage to a drive at rest.
#[derive(Clone, Copy, Debug)]
enum Decay {
    Bit,
    /// 512 bytes of garbage.
    Sector,
    /// 4096 zeros.
    Block,
}

impl Decay {
    /// Shards that may be gone with it: compaction leaves small records side by side.
    fn harmed_max(self) -> usize {
        match self {
            Self::Bit => 1,
            Self::Sector => 3,
            Self::Block => 6,
        }
    }
}

/// Places of a drive at rest decay, one at a time.
pub(crate) fn decay(places: u64, limits: &Limits) -> Result<Counts, Failure> {
    let contents = Contents::default();
    let mut counts = Counts::default();
    let place = Run::part("a_drive_that_decays", "decay".to_owned());
    let never = FaultOn { operation: Operation::Lock, path_contains: "nothing".to_owned(), nth: 0 };
    let never = Fault { on: never, kind: FaultKind::Eio };
    let outcome = run(&never, &contents).map_err(|what| place.failure(what))?;
    let history = outcome.disk.history();
    // A drive that was closed, whose log nobody has to read, and one that was cut off long after its last checkpoint.
    let drives = [history.events.len(), before_checkpoint(&history)].map(|end| {
        let image = history.crash(end, Survivors::All);
        let files =
            image.files().into_iter().filter(|path| image.read(path).is_some_and(|bytes| !bytes.is_empty()));
        let files: Vec<_> = files.collect();
        (image, files, Model::after(&history.events[..end]))
    });
    let mut dice = Dice::new(77);
    for number in 0..places {
        if counts.points >= limits.points_max {
            break;
        }
        let (image, files, model) = &drives[index(number % 2)];
        let path = &files[index(dice.below(files.len() as u64))];
        let decay = [Decay::Bit, Decay::Sector, Decay::Block][index(dice.below(3))];
        let disk = SimDisk::with_image(image.clone());
        let offset = dice.below(image.read(path).map_or(1, |bytes| bytes.len() as u64));
        let place = Run::part(
            "a_drive_that_decays",
            format!("{number}: {decay:?} at {offset} of {}", path.display()),
        );
        let done = decayed(&disk, path, decay, offset, &mut dice).map_err(|error| error.to_string());
        let judged = done.and_then(|()| {
            let examined = examine(&disk, &contents)?;
            judge(&examined, model, decay.harmed_max())?;
            if number % 16 == 0 { opens(&disk) } else { Ok(()) }
        });
        judged.map_err(|what| place.failure(what))?;
        counts.points += 1;
    }
    counts.histories = 1;
    Ok(counts)
}

/// Right before the run's last checkpoint but the one at closing.
fn before_checkpoint(history: &History) -> usize {
    let marks = (0..).zip(&history.events).filter(|(_, event)| matches!(event, Event::Note(MARK)));
    marks.map(|(at, _)| at).nth(index(LAST_CHECKPOINT) - 1).unwrap_or(history.events.len())
}

fn decayed(disk: &SimDisk, path: &Path, decay: Decay, offset: u64, dice: &mut Dice) -> io::Result<()> {
    let file = disk.open(path, OpenMode::ReadWrite)?;
    let (start, mut bytes) = match decay {
        Decay::Bit => (offset, vec![0; 1]),
        Decay::Sector => (offset / 512 * 512, vec![0; 512]),
        Decay::Block => (offset / 4096 * 4096, vec![0; 4096]),
    };
    let inside = file.len()?.saturating_sub(start).min(bytes.len() as u64);
    bytes.truncate(index(inside));
    match decay {
        Decay::Bit => {
            file.read_exact_at(&mut bytes, start)?;
            bytes.iter_mut().for_each(|byte| *byte ^= 1 << dice.below(8));
        }
        Decay::Sector => dice.fill(&mut bytes),
        Decay::Block => {}
    }
    file.write_all_at(&bytes, start)
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("images of tests are small")
}

/// Each read of a recovery goes wrong: it fails, is stale, or has a bit flipped.
pub(crate) fn lies_during_recovery(limits: &Limits) -> Result<Counts, Failure> {
    let contents = Contents::default();
    let mut counts = Counts::default();
    let place = Run::part("a_recovery_that_is_lied_to", "recovery".to_owned());
    let never = FaultOn { operation: Operation::Lock, path_contains: "nothing".to_owned(), nth: 0 };
    let never = Fault { on: never, kind: FaultKind::Eio };
    let outcome = run(&never, &contents).map_err(|what| place.failure(what))?;
    for kind in [
        FaultKind::Eio,
        FaultKind::StaleRead,
        FaultKind::BitFlip { bit: 1000 },
        FaultKind::BitFlip { bit: 40_000 },
    ] {
        for nth in 0.. {
            let on = FaultOn { operation: Operation::Read, path_contains: String::new(), nth };
            let fault = Fault { on, kind: kind.clone() };
            let place = Run::part("a_recovery_that_is_lied_to", format!("{fault:?}"));
            outcome.disk.faults().inject(fault);
            let fired = outcome.disk.faults().fired().len();
            let examined = examine(&outcome.disk, &contents);
            outcome.disk.faults().clear();
            if outcome.disk.faults().fired().len() == fired || counts.points >= limits.points_max {
                break;
            }
            let judged = match (examined, &kind) {
                (Err(_), FaultKind::Eio) => Ok(()),
                // Nobody can tell a log that ends from one whose end was not shown.
                (Ok(_), FaultKind::StaleRead) => Ok(()),
                (Ok(examined), _) => judge(&examined, &outcome.model, HARMED_MAX),
                (Err(what), _) => Err(what),
            };
            judged.map_err(|what| place.failure(what))?;
            // The next recovery is not lied to, and finds all.
            let examined = examine(&outcome.disk, &contents);
            examined
                .and_then(|examined| judge(&examined, &outcome.model, 0))
                .map_err(|what| place.failure(what))?;
            counts.points += 2;
        }
    }
    Ok(counts)
}

/// The drive opens and takes shards.
fn opens(disk: &SimDisk) -> Result<(), String> {
    block_on(async {
        let contents = Contents::default();
        let client = Client::open(disk, on_request(), 9, &contents, Model::default()).await?;
        client.put(NUMBERS + 1, super::content::Round(1 << 30)).await?;
        client.store.close().await;
        Ok(())
    })
}
