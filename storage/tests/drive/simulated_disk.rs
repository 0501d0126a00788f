//! A disk in memory that records every change, and what a power cut leaves of it.
//!
//! The model is stricter than any file system: writes are durable only after `sync_data` of their file, names only
//! after `sync_dir` of their directory, and of what is not durable any subset survives, writes cut at any sector. A
//! rename is two changes, one in each directory.

use super::fixture::Seeded;
use ashlar_runtime::{Disk, DiskFile, DiskUsage, OpenMode, RngExt};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

const SECTOR: u64 = 512;
const DEVICE_LEN: u64 = 1 << 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File(u64),
}

/// Files and directories at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    files: BTreeMap<u64, Vec<u8>>,
    directories: BTreeMap<PathBuf, BTreeMap<String, Node>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write { file: u64, offset: u64, bytes: Vec<u8> },
    Truncate { file: u64, len: u64 },
    Link { dir: PathBuf, name: String, node: Node },
    Unlink { dir: PathBuf, name: String },
}

#[derive(Clone, Debug)]
pub(crate) enum Event<N> {
    Change(Change),
    SyncFile(u64),
    SyncDir(PathBuf),
    /// Something the test says about this moment.
    Note(N),
}

/// Which of the changes that are not durable survive a power cut.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Survivors {
    None,
    All,
    /// A random subset, writes cut at random sectors.
    Some {
        seed: u64,
    },
}

impl Image {
    pub(crate) fn empty() -> Self {
        let directories = BTreeMap::from([(PathBuf::from("/"), BTreeMap::new())]);
        Self { files: BTreeMap::new(), directories }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { file, offset, bytes } => {
                let (start, file) = (usize::try_from(*offset).unwrap(), self.files.entry(*file).or_default());
                file.resize(file.len().max(start + bytes.len()), 0);
                file[start..start + bytes.len()].copy_from_slice(bytes);
            }
            Change::Truncate { file, len } => {
                self.files.entry(*file).or_default().resize(usize::try_from(*len).unwrap(), 0);
            }
            Change::Link { dir, name, node } => {
                if *node == Node::Directory {
                    self.directories.entry(dir.join(name)).or_default();
                }
                self.directories.entry(dir.clone()).or_default().insert(name.clone(), *node);
            }
            Change::Unlink { dir, name } => {
                self.directories.entry(dir.clone()).or_default().remove(name);
            }
        }
    }

    fn node(&self, path: &Path) -> Option<Node> {
        let (dir, name) = split(path)?;
        self.directories.get(&dir)?.get(&name).copied()
    }

    /// What is there after a power cut at the end of `events`.
    pub(crate) fn after_power_cut<N>(&self, events: &[Event<N>], survivors: Survivors) -> Self {
        let mut durable = self.clone();
        let mut pending: Vec<&Change> = Vec::new();
        for event in events {
            match event {
                Event::Change(change) => pending.push(change),
                Event::SyncFile(synced) => {
                    settle(&mut durable, &mut pending, |change| change.file() == Some(*synced));
                }
                Event::SyncDir(synced) => {
                    settle(&mut durable, &mut pending, |change| change.dir() == Some(synced));
                }
                Event::Note(_) => {}
            }
        }
        match survivors {
            Survivors::None => {}
            Survivors::All => settle(&mut durable, &mut pending, |_| true),
            Survivors::Some { seed } => {
                let random = Seeded::new(seed);
                for change in pending {
                    if random.below(2) == 0 {
                        durable.apply(&change.torn(&random));
                    }
                }
            }
        }
        durable.drop_unreachable();
        durable
    }

    fn drop_unreachable(&mut self) {
        let known: Vec<PathBuf> = self.directories.keys().cloned().collect();
        // Parents come before their children.
        for path in known {
            let reachable = path == Path::new("/")
                || (path.parent().is_some_and(|parent| self.directories.contains_key(parent))
                    && self.node(&path) == Some(Node::Directory));
            if !reachable {
                self.directories.remove(&path);
            }
        }
    }
}

/// Applies those pending changes that `chosen` picks, in their order.
fn settle(durable: &mut Image, pending: &mut Vec<&Change>, chosen: impl Fn(&Change) -> bool) {
    pending.retain(|change| {
        let now = chosen(change);
        if now {
            durable.apply(change);
        }
        !now
    });
}

impl Change {
    fn file(&self) -> Option<u64> {
        match self {
            Self::Write { file, .. } | Self::Truncate { file, .. } => Some(*file),
            Self::Link { .. } | Self::Unlink { .. } => None,
        }
    }

    fn dir(&self) -> Option<&PathBuf> {
        match self {
            Self::Link { dir, .. } | Self::Unlink { dir, .. } => Some(dir),
            Self::Write { .. } | Self::Truncate { .. } => None,
        }
    }

    /// A write of which only the first sectors arrived; another change as it is.
    fn torn(&self, random: &Seeded) -> Self {
        let mut torn = self.clone();
        if let Self::Write { offset, bytes, .. } = &mut torn
            && random.below(2) == 0
        {
            let end = *offset + bytes.len() as u64;
            let cut = (*offset + random.below(end - *offset + 1)) / SECTOR * SECTOR;
            bytes.truncate(usize::try_from(cut.saturating_sub(*offset)).unwrap());
        }
        torn
    }
}

fn split(path: &Path) -> Option<(PathBuf, String)> {
    Some((path.parent()?.to_owned(), path.file_name()?.to_str()?.to_owned()))
}

#[derive(Debug)]
struct State<N> {
    base: Image,
    now: Image,
    events: Vec<Event<N>>,
    next_file: u64,
    locks: BTreeSet<PathBuf>,
}

/// Cheap to clone. `N` is what the test notes between the changes.
#[derive(Debug)]
pub(crate) struct SimulatedDisk<N>(Arc<Mutex<State<N>>>);

impl<N> Clone for SimulatedDisk<N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<N: Clone + Debug + Send + 'static> SimulatedDisk<N> {
    /// A disk on which all of `image` is durable.
    pub(crate) fn new(image: Image) -> Self {
        let next_file = image.files.keys().next_back().map_or(0, |last| last + 1);
        let now = image.clone();
        Self(Arc::new(Mutex::new(State {
            base: image,
            now,
            events: Vec::new(),
            next_file,
            locks: BTreeSet::new(),
        })))
    }

    /// A disk on which `events` happened, not all of them durable: what a killed process leaves.
    pub(crate) fn replay(image: Image, events: &[Event<N>]) -> Self {
        let disk = Self::new(image);
        {
            let mut state = disk.0.lock().unwrap();
            for event in events {
                if let Event::Change(change) = event {
                    state.now.apply(change);
                }
                state.events.push(event.clone());
            }
            state.next_file = state.now.files.keys().next_back().map_or(0, |last| last + 1);
        }
        disk
    }

    pub(crate) fn note(&self, note: N) {
        self.0.lock().unwrap().events.push(Event::Note(note));
    }

    pub(crate) fn events(&self) -> Vec<Event<N>> {
        self.0.lock().unwrap().events.clone()
    }

    /// What a power cut now would leave.
    pub(crate) fn power_cut(&self, survivors: Survivors) -> Image {
        let state = self.0.lock().unwrap();
        state.base.after_power_cut(&state.events, survivors)
    }

    fn change(state: &mut State<N>, change: Change) {
        state.now.apply(&change);
        state.events.push(Event::Change(change));
    }
}

#[derive(Debug)]
struct SimulatedFile<N> {
    disk: SimulatedDisk<N>,
    file: u64,
}

#[derive(Debug)]
struct Lock<N: Clone + Debug + Send + 'static> {
    disk: SimulatedDisk<N>,
    path: PathBuf,
}

impl<N: Clone + Debug + Send + 'static> Drop for Lock<N> {
    fn drop(&mut self) {
        self.disk.0.lock().unwrap().locks.remove(&self.path);
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl<N: Clone + Debug + Send + 'static> Disk for SimulatedDisk<N> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.0.lock().unwrap();
        let found = state.now.node(path);
        let file = match (found, mode) {
            (Some(Node::Directory), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Node::File(file)), OpenMode::Read | OpenMode::ReadWrite | OpenMode::Create) => file,
            (None, OpenMode::Read | OpenMode::ReadWrite) => return Err(not_found()),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                let (dir, name) = split(path).ok_or_else(not_found)?;
                if !state.now.directories.contains_key(&dir) {
                    return Err(not_found());
                }
                let file = state.next_file;
                state.next_file += 1;
                Self::change(&mut state, Change::Truncate { file, len: 0 });
                Self::change(&mut state, Change::Link { dir, name, node: Node::File(file) });
                file
            }
        };
        Ok(Box::new(SimulatedFile { disk: self.clone(), file }))
    }

    fn open_direct(&self, _path: &Path, _mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let mut missing: Vec<&Path> = path.ancestors().collect();
        missing.retain(|path| !state.now.directories.contains_key(*path));
        for path in missing.into_iter().rev() {
            let (dir, name) = split(path).ok_or_else(not_found)?;
            Self::change(&mut state, Change::Link { dir, name, node: Node::Directory });
        }
        Ok(())
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock().unwrap();
        state.now.directories.get(path).map(|dir| dir.keys().cloned().collect()).ok_or_else(not_found)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let node = state.now.node(from).ok_or_else(not_found)?;
        let ((dir, name), (old_dir, old_name)) = split(to).zip(split(from)).ok_or_else(not_found)?;
        if !state.now.directories.contains_key(&dir) {
            return Err(not_found());
        }
        Self::change(&mut state, Change::Link { dir, name, node });
        Self::change(&mut state, Change::Unlink { dir: old_dir, name: old_name });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.now.node(path).ok_or_else(not_found)?;
        let (dir, name) = split(path).ok_or_else(not_found)?;
        Self::change(&mut state, Change::Unlink { dir, name });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if !state.now.directories.contains_key(path) {
            return Err(not_found());
        }
        state.events.push(Event::SyncDir(path.to_owned()));
        Ok(())
    }

    fn usage(&self, _path: &Path) -> io::Result<DiskUsage> {
        Ok(DiskUsage { device: 1, total_bytes: DEVICE_LEN, available_bytes: DEVICE_LEN })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.open(path, OpenMode::Create)?;
        if !self.0.lock().unwrap().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock { disk: self.clone(), path: path.to_owned() }))
    }
}

impl<N: Clone + Debug + Send + 'static> DiskFile for SimulatedFile<N> {
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        // A file of which only the name is durable is empty.
        let file = state.now.files.get(&self.file).map_or(&[][..], Vec::as_slice);
        let found = file.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_cached_at(&self, _out: &mut [u8], _offset: u64) -> io::Result<bool> {
        Ok(false)
    }

    fn write_parts_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write_all_at(&parts.concat(), offset)
    }

    fn punch(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.len()
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        let bytes = bytes.to_vec();
        SimulatedDisk::change(&mut state, Change::Write { file: self.file, offset, bytes });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.0.lock().unwrap().events.push(Event::SyncFile(self.file));
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        SimulatedDisk::change(&mut state, Change::Truncate { file: self.file, len });
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.0.lock().unwrap();
        Ok(state.now.files.get(&self.file).map_or(0, |file| file.len() as u64))
    }
}
