//! A client of a drive under test: does operations, notes what it knows of them, and remembers it.

use super::{
    content::{Contents, Round, meta, number_of, shard_id},
    model::{Found, Model, Note},
};
use ashlar_runtime::{
    Disk, Env, Rng, SimDisk,
    disk::sim::{Fault, FaultKind, FaultOn, Operation},
};
use ashlar_storage::{
    DriveIdentity, DriveOptions, DriveStore, FormatOptions, Housekeeping, OpenError, StoreError, UnitRead,
};
use ashlar_types::{ClusterId, DriveUuid, ShardStat};
use futures_util::FutureExt;
use std::{
    cell::{Cell, RefCell},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) const DIR: &str = "/drive";
pub(crate) const IDENTITY: DriveIdentity = DriveIdentity { cluster: ClusterId(1), drive: DriveUuid(2) };
pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;
/// Longer than it takes to wake a client.
const FLUSH: Duration = Duration::from_micros(300);

pub(crate) fn format(disk: &SimDisk) -> Result<(), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    DriveStore::format(&disk, Path::new(DIR), IDENTITY, FormatOptions { segment_bytes: SEGMENT_BYTES })
}

/// Nothing works on its own, so that a run repeats.
pub(crate) fn on_request() -> DriveOptions {
    DriveOptions { readers: 1, housekeeping: Housekeeping::OnRequest, ..DriveOptions::default() }
}

/// A thread writes checkpoints and reclaims space, often.
pub(crate) fn in_background() -> DriveOptions {
    let checkpoint_bytes = 2 * SEGMENT_BYTES;
    DriveOptions {
        readers: 1,
        housekeeping: Housekeeping::Background,
        checkpoint_bytes,
        ..DriveOptions::default()
    }
}

/// `seed` is of the drive's own randomness; no two openings of a drive may have the same.
async fn open(disk: &SimDisk, options: DriveOptions, seed: u64) -> Result<DriveStore, String> {
    let env = Env { disk: Arc::new(disk.clone()), rng: Arc::new(SeededRng::new(seed)), ..Env::real() };
    let opened = DriveStore::open(&env, Path::new(DIR), IDENTITY, options).await;
    opened.map_err(|error| format!("open: {error}"))
}

/// Flushes take a while, so that what is said too early is said before them.
pub(crate) fn with_slow_flushes(disk: SimDisk) -> SimDisk {
    let on = FaultOn { operation: Operation::SyncFile, path_contains: String::new(), nth: 0 };
    disk.faults().inject_lasting(Fault { on, kind: FaultKind::Slow(FLUSH) });
    disk
}

#[derive(Debug)]
struct SeededRng(Mutex<super::content::Dice>);

impl SeededRng {
    fn new(seed: u64) -> Self {
        Self(Mutex::new(super::content::Dice::new(seed)))
    }
}

impl Rng for SeededRng {
    fn fill(&self, out: &mut [u8]) {
        self.0.lock().expect("no holder panics").fill(out);
    }
}

#[derive(Debug)]
pub(crate) struct Client<'a> {
    pub(crate) store: DriveStore,
    disk: SimDisk,
    options: DriveOptions,
    contents: &'a Contents,
    model: RefCell<Model>,
    acked: Cell<u64>,
}

impl<'a> Client<'a> {
    /// Opens a drive of which `model` is known.
    pub(crate) async fn open(
        disk: &SimDisk,
        options: DriveOptions,
        seed: u64,
        contents: &'a Contents,
        model: Model,
    ) -> Result<Self, String> {
        let store = open(disk, options.clone(), seed).await?;
        let (disk, model) = (disk.clone(), RefCell::new(model));
        Ok(Self { store, disk, options, contents, model, acked: Cell::new(0) })
    }

    pub(crate) fn model(&self) -> Model {
        self.model.borrow().clone()
    }

    /// Shards that were put or deleted, so far.
    pub(crate) fn acked(&self) -> u64 {
        self.acked.get()
    }

    fn note(&self, note: Note, number: u8, round: Round) {
        if matches!(note, Note::PutAcked | Note::DeleteAcked) {
            self.acked.set(self.acked.get() + 1);
        }
        let raw = note.encode(number, round);
        self.disk.note(raw);
        self.model.borrow_mut().note(raw);
    }

    pub(crate) async fn put(&self, number: u8, round: Round) -> Result<(), String> {
        self.note(Note::PutBegun, number, round);
        match self.write(number, round).await {
            Ok(()) => self.note(Note::PutAcked, number, round),
            Err(StoreError::Overloaded) => self.note(Note::Refused, number, round),
            // The device may have said so when the record was written and only not durable.
            Err(StoreError::Full) => {}
            Err(error) => return Err(format!("put of shard {number}, {round:?}: {error}")),
        }
        Ok(())
    }

    async fn write(&self, number: u8, round: Round) -> Result<(), StoreError> {
        let mut writer = self.store.put(meta(number, round)).await?;
        for unit in self.contents.units(round).iter() {
            writer.append(unit.clone()).await?;
        }
        writer.commit().await
    }

    /// A writer that is dropped before its commit: it never had any effect, so nothing is noted.
    pub(crate) async fn give_up(&self, number: u8, round: Round) -> Result<(), String> {
        let given_up = async {
            let mut writer = self.store.put(meta(number, round)).await?;
            for unit in self.contents.units(round).iter() {
                writer.append(unit.clone()).await?;
            }
            Ok(())
        };
        match given_up.await {
            Ok(()) | Err(StoreError::Full | StoreError::Overloaded) => Ok(()),
            Err(error) => Err(format!("a writer to be given up, shard {number}, {round:?}: {error}")),
        }
    }

    /// A commit nobody waits for: the shard may appear at any later time.
    pub(crate) async fn abandon_commit(&self, number: u8, round: Round) -> Result<(), String> {
        self.note(Note::PutBegun, number, round);
        match self.write(number, round).now_or_never() {
            Some(Ok(())) => self.note(Note::PutAcked, number, round),
            None | Some(Err(StoreError::Full | StoreError::Overloaded)) => {}
            Some(Err(error)) => return Err(format!("a commit to be abandoned, shard {number}: {error}")),
        }
        Ok(())
    }

    /// Deletes are numbered like rounds, so that the model can tell them apart.
    pub(crate) async fn delete(&self, numbers: &[u8], round: Round) -> Result<(), String> {
        for number in numbers {
            self.note(Note::DeleteBegun, *number, round);
        }
        let ids = numbers.iter().map(|number| shard_id(*number)).collect();
        match self.store.delete(ids).await {
            Ok(()) => {}
            // Only where the device itself has no room.
            Err(StoreError::Full) => return Ok(()),
            Err(error) => return Err(format!("delete of {numbers:?}: {error}")),
        }
        for number in numbers {
            self.note(Note::DeleteAcked, *number, round);
        }
        Ok(())
    }

    pub(crate) async fn checkpoint(&self) -> Result<(), String> {
        match self.store.checkpoint().await {
            Ok(()) | Err(StoreError::Full) => Ok(()),
            Err(error) => Err(format!("checkpoint: {error}")),
        }
    }

    pub(crate) async fn reclaim(&self) -> Result<(), String> {
        match self.store.reclaim().await {
            Ok(_) | Err(StoreError::Full) => Ok(()),
            Err(error) => Err(format!("reclaim: {error}")),
        }
    }

    /// A read beside other operations: what could be found before it or can be since.
    pub(crate) async fn read_beside(&self, number: u8) -> Result<(), String> {
        let mut allowed = self.model.borrow().allowed(number);
        let found = match self.read(number).await {
            Ok((stat, read)) => {
                let round = self.contents.identify(number, &stat, &read);
                Some(round.map_err(|what| format!("read beside writes, shard {number}: {what}"))?)
            }
            Err(StoreError::NotFound) => None,
            Err(error) => return Err(format!("read beside writes, shard {number}: {error}")),
        };
        allowed.extend(self.model.borrow().allowed(number));
        if allowed.contains(&found) {
            Ok(())
        } else {
            Err(format!("read beside writes: shard {number} is {found:?}, which is none of {allowed:?}"))
        }
    }

    /// Closes the drive and opens it again.
    pub(crate) async fn reopen(self, seed: u64) -> Result<Self, String> {
        self.store.close().await;
        let store = open(&self.disk, self.options.clone(), seed).await;
        Ok(Self { store: store.map_err(|what| format!("after close: {what}"))?, ..self })
    }

    /// What the drive shows now, which must be what the client may expect.
    pub(crate) async fn check(&self) -> Result<Found, String> {
        let before = self.store.usage();
        let found = self.read_all().await?;
        let usage = self.store.usage();
        // A commit that nobody waits for may end meanwhile.
        let counted = before.shards..=usage.shards;
        if !counted.contains(&(found.len() as u64)) || usage.live + usage.dead + usage.free > usage.capacity {
            return Err(format!("the open drive has {} shards, but counts {usage:?}", found.len()));
        }
        self.model.borrow().check(&found).map_err(|what| format!("while the drive is open: {what}"))?;
        Ok(found)
    }

    /// Notes what an opened drive shows; from now on it must stay.
    pub(crate) fn shown(&self, numbers: impl Iterator<Item = u8>, found: &Found) {
        for number in numbers {
            match found.get(&number) {
                Some(round) => self.note(Note::Shown, number, *round),
                None => self.note(Note::ShownAbsent, number, Round(0)),
            }
        }
    }

    /// A shard as it is, or what is wrong with it.
    pub(crate) async fn read(&self, number: u8) -> Result<(ShardStat, Vec<UnitRead>), StoreError> {
        let id = shard_id(number);
        loop {
            let stat = self.store.stat(id).await?.ok_or(StoreError::NotFound)?;
            let read = self.store.read(id, 0..stat.units).await;
            // Description and units are read apart: between the two the shard may have been replaced.
            if self.store.stat(id).await?.as_ref() == Some(&stat) {
                return Ok((stat, read?));
            }
        }
    }

    async fn read_all(&self) -> Result<Found, String> {
        let mut found = Found::new();
        let listed = self.store.list(None, usize::MAX).await.map_err(|error| format!("list: {error}"))?;
        for stat in listed {
            let id = stat.meta.id;
            let number = number_of(id).ok_or_else(|| format!("{id} is listed but was never written"))?;
            let (stat, read) = match self.read(number).await {
                Ok(read) => read,
                Err(error) => return Err(format!("shard {number} is listed, but: {error}")),
            };
            let round = self.contents.identify(number, &stat, &read);
            let round = round.map_err(|what| format!("shard {number}: {what}"))?;
            if found.insert(number, round).is_some() {
                return Err(format!("shard {number} is listed twice"));
            }
        }
        Ok(found)
    }
}
