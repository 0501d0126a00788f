//! The drives that scenarios begin with, and what has to hold of them at the end.

use super::{
    client::{Client, NUMBERS},
    content::{Class, UNITS, identify, shard_id, value},
    explore::once,
    history::History,
    switching_disk::SwitchingDisk,
    threads::{Counted, tasks},
};
use ashlar_runtime::{
    Disk, Env, SimDisk,
    disk::sim::{DiskImage, Survivors},
};
use ashlar_storage::{
    DriveIdentity, DriveOptions, DriveStore, DriveUsage, FormatOptions, Housekeeping, OfflineDrive,
};
use ashlar_types::{ClusterId, DriveUuid};
use shuttle::{future::block_on, thread};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

const DIR: &str = "/drive";
const IDENTITY: DriveIdentity = DriveIdentity { cluster: ClusterId(1), drive: DriveUuid(2) };
const SEGMENT_BYTES: u64 = 64 << 10;
/// Numbers of contents below are of the drives to begin with.
const FIRST_CONTENT: u64 = 1000;

/// A drive to begin with, and what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    image: DiskImage,
    held: BTreeMap<u8, u64>,
}

/// Nothing works on its own.
pub(crate) fn on_request() -> DriveOptions {
    DriveOptions { readers: 2, housekeeping: Housekeeping::OnRequest, ..DriveOptions::default() }
}

/// A thread keeps house, and has something to do after every few batches.
pub(crate) fn in_background() -> DriveOptions {
    let checkpoint_bytes = 8 << 10;
    DriveOptions { readers: 1, housekeeping: Housekeeping::Background, checkpoint_bytes, ..on_request() }
}

/// A content of the scenario's own, in place of `number` of the class.
pub(crate) fn new(class: Class, number: u64) -> u64 {
    value(class, FIRST_CONTENT + number)
}

impl Base {
    /// Just formatted.
    pub(crate) fn empty() -> Self {
        Self::made(|_| {})
    }

    /// Shards 0 to 3 are small, 4, 5 and 10 large. Two log segments and an extent segment are mostly dead; the open
    /// segments of both kinds are nearly full, so that the next ones are taken soon.
    pub(crate) fn aged() -> Self {
        Self::made(|client| {
            let mut numbers = 0..;
            let mut put = |number, class| client.put(number, value(class, numbers.next().unwrap()));
            for pair in [[0, 1], [2, 3]] {
                pair.into_iter().for_each(|number| put(number, Class::Small));
                (0..13).for_each(|_| put(9, Class::Small));
            }
            (4..9).for_each(|number| put(number, Class::Large));
            (0..4).for_each(|_| put(10, Class::Large));
            (0..2).for_each(|_| put(11, Class::Small));
            client.delete(&[6, 7, 8, 9, 11]);
        })
    }

    fn made(fill: fn(&Client)) -> Self {
        let made = Arc::new(Mutex::new(None));
        let result = Arc::clone(&made);
        once(move || {
            let disk = SimDisk::new();
            let as_disk: Arc<dyn Disk> = Arc::new(disk.clone());
            let options = FormatOptions { segment_bytes: SEGMENT_BYTES };
            DriveStore::format(&as_disk, Path::new(DIR), IDENTITY, options).unwrap();
            let client = open(&disk, &BTreeMap::new(), on_request(), 1);
            fill(&client);
            client.close();
            let drive = OfflineDrive::open(&as_disk, Path::new(DIR)).unwrap();
            *result.lock().unwrap() = Some(Self { image: disk.image(), held: held(&drive) });
        });
        made.lock().unwrap().take().unwrap()
    }

    /// Lets clients work on the drive at the same time, and checks all that must hold then.
    pub(crate) fn play(&self, options: DriveOptions, clients: &[fn(&Client)]) {
        let disk = SimDisk::with_image(self.image.clone());
        let client = open(&disk, &self.held, options, 2);
        Self::work(&disk, &client, clients);
    }

    /// As `play`, with a client more, which closes the drive meanwhile.
    pub(crate) fn play_and_close(&self, options: DriveOptions, clients: &[fn(&Client)]) {
        let disk = SimDisk::with_image(self.image.clone());
        let client = Client { closing: true, ..open(&disk, &self.held, options, 2) };
        let clients: Vec<fn(&Client)> =
            clients.iter().copied().chain([Client::close as fn(&Client)]).collect();
        Self::work(&disk, &client, &clients);
    }

    fn work(disk: &SimDisk, client: &Client, clients: &[fn(&Client)]) {
        let threads: Vec<_> = clients
            .iter()
            .map(|work| {
                let (client, work) = (client.clone(), *work);
                thread::spawn(move || work(&client))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        (0..NUMBERS).for_each(|number| client.read(number));
        client.list();
        client.scrub();
        let history = disk.history();
        let cut = SimDisk::with_image(history.crash(history.events.len(), Survivors::None));
        show(&cut, &client.history);
        client.close();
        show(disk, &client.history);
        client.history.check().unwrap();
    }
}

fn open(disk: &SimDisk, held: &BTreeMap<u8, u64>, options: DriveOptions, seed: u64) -> Client {
    let disk: Arc<dyn Disk> = Arc::new(SwitchingDisk::new(disk));
    let env = Env { disk, rng: Arc::new(Counted::new(seed)), tasks: tasks(), ..Env::real() };
    let store = block_on(DriveStore::open(&env, Path::new(DIR), IDENTITY, options)).unwrap();
    Client { store, history: History::of(held), closing: false }
}

/// Opens the drive offline: it is whole, its space adds up, and what it shows is as good as read.
fn show(disk: &SimDisk, history: &History) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let drive = OfflineDrive::open(&disk, Path::new(DIR)).unwrap();
    let report = drive.recovery();
    assert!(report.damaged.is_empty() && report.lost.is_empty() && !report.rebuilt, "{report:?}");
    let begun = history.begin();
    let held = held(&drive);
    for number in 0..NUMBERS {
        history.saw(number, begun, held.get(&number).copied());
    }
    adds_up(&drive.usage(), held.len());
}

fn held(drive: &OfflineDrive) -> BTreeMap<u8, u64> {
    let ids = drive.ids();
    let numbers = (0..NUMBERS).filter(|number| ids.contains(&shard_id(*number)));
    let held: BTreeMap<u8, u64> = numbers
        .map(|number| (number, identify(&drive.read(shard_id(number), 0..UNITS).unwrap()).unwrap()))
        .collect();
    assert_eq!(held.len(), ids.len(), "{ids:?}");
    held
}

fn adds_up(usage: &DriveUsage, shards: usize) {
    let DriveUsage { capacity, used, free, live, dead, .. } = *usage;
    let adds_up = used == live + dead && used + free <= capacity;
    assert!(adds_up && usage.shards == shards as u64, "{shards} shards: {usage:?}");
}
