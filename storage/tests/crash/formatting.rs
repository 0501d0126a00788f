//! Power cuts while a drive is formatted: it is a drive or can be formatted again.

use super::{
    Counts, Failure, Run,
    client::{self, DIR, IDENTITY},
    content::{Contents, Dice},
    recovery::recover,
};
use ashlar_runtime::{
    Disk, SimDisk,
    disk::sim::{History, Survivors},
};
use ashlar_storage::DriveStore;
use std::{path::Path, sync::Arc};

const RANDOM_SURVIVORS: u64 = 8;

pub(crate) fn formatting() -> Result<Counts, Failure> {
    let run = Run::part("a_format_is_done_or_can_be_repeated", "format".to_owned());
    let disk = SimDisk::new();
    client::format(&disk).map_err(|error| run.failure(error.to_string()))?;
    let history = disk.history();
    let mut counts = Counts { histories: 1, ..Counts::default() };
    let mut dice = Dice::new(3);
    for end in 0..=history.events.len() {
        let random = (0..RANDOM_SURVIVORS).map(|_| Survivors::Random { seed: dice.next() });
        for survivors in [Survivors::None, Survivors::All].into_iter().chain(random) {
            let survived = cut(&history, end, survivors);
            survived.map_err(|what| run.failure(format!("cut after {end}, {survivors:?}: {what}")))?;
            counts.points += 1;
        }
    }
    Ok(counts)
}

fn cut(history: &History, end: usize, survivors: Survivors) -> Result<(), String> {
    let disk = SimDisk::with_image(history.crash(end, survivors));
    let as_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let found =
        DriveStore::identity(&as_disk, Path::new(DIR)).map_err(|error| format!("identity: {error}"))?;
    match found {
        Some(IDENTITY) => {}
        None if end < history.events.len() => {
            client::format(&disk).map_err(|error| format!("formatted again: {error}"))?;
        }
        None | Some(_) => return Err(format!("the drive is {found:?}")),
    }
    let recovered = recover(&disk, &Contents::default())?;
    if recovered.found.is_empty() { Ok(()) } else { Err("a new drive has shards".to_owned()) }
}
