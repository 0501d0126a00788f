//! What clients ask of the cluster, on every host, and what they were answered.
//!
//! Owns the calls and their recording. The state here is that of the test, not of any host: it outlives processes, and
//! clients of all hosts share it, so that they meet at the same keys.
//! Invariants:
//!  - every value is written by one call;
//!  - a key gets few calls, then another takes its place: histories per key stay short enough to be judged.

use crate::{
    Settings,
    check::{
        history::{Body, Client, Place, UploadName, Value, VersionName},
        recorder::Recorder,
    },
    world::{Seed, clock::SimTime},
};
use ashlar_metadata::{MetadataApi, MetadataClient};
use ashlar_runtime::{Env, TaskHandle};
use ashlar_types::{ETag, GroupId, service::BucketInfo};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

mod buckets;
mod caller;
mod multipart;
mod objects;
mod recount;
mod words;

use caller::Caller;

/// Cheap to clone; all clones are one workload.
#[derive(Clone)]
pub struct Workload(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) recorder: Recorder,
    pub(crate) time: SimTime,
    pub(crate) groups: u32,
    pub(crate) clients_per_host: usize,
    pub(crate) calls_per_key: u64,
    pub(crate) slots: u64,
    plan: Mutex<Plan>,
    open: AtomicBool,
    pub(crate) recounted: AtomicBool,
    pub(crate) counts: Counts,
}

/// For coverage and the ledger.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) calls: AtomicU64,
    /// Completes that were called and have not returned: of processes that died, they never do.
    pub(crate) completing: Mutex<BTreeMap<u64, (usize, GroupId)>>,
    pub(crate) expired: AtomicU64,
    pub(crate) retried: AtomicU64,
}

pub(crate) struct Plan {
    pub(crate) seed: Seed,
    next_value: u64,
    next_client: u32,
    pub(crate) next_churn: u64,
    pub(crate) buckets: Vec<TestBucket>,
    /// Calls on the key of a slot, over all its generations.
    used: BTreeMap<(usize, u64), u64>,
    /// Bodies by the tag that they have.
    tags: BTreeMap<String, Body>,
    /// The tag that some call of a key saw last.
    pub(crate) seen: BTreeMap<Place, Body>,
    pub(crate) versions: BTreeMap<Place, Vec<VersionName>>,
    pub(crate) uploads: Vec<OpenUpload>,
    /// Deletes of a bucket under way, and whether there was more than one at a time.
    pub(crate) deleting: BTreeMap<String, (u32, bool)>,
    /// What clients saw that no correct store shows, beyond what histories can tell.
    pub(crate) oddities: Vec<String>,
}

/// Bucket by index, key, name, and the parts that are known to be there.
pub(crate) type OpenUpload = (usize, Place, UploadName, Vec<(u16, Value)>);

#[derive(Clone)]
pub(crate) struct TestBucket {
    pub(crate) info: BucketInfo,
    pub(crate) versioned: bool,
}

impl Workload {
    pub(crate) fn new(settings: &Settings, seed: Seed, time: SimTime) -> Self {
        let plan = Plan {
            seed,
            next_value: 1,
            next_client: 1,
            next_churn: 1,
            buckets: Vec::new(),
            used: BTreeMap::new(),
            tags: BTreeMap::new(),
            seen: BTreeMap::new(),
            versions: BTreeMap::new(),
            uploads: Vec::new(),
            deleting: BTreeMap::new(),
            oddities: Vec::new(),
        };
        Self(Arc::new(Inner {
            recorder: Recorder::new(),
            time,
            groups: settings.groups,
            clients_per_host: settings.clients_per_host,
            calls_per_key: settings.calls_per_key,
            slots: 3,
            plan: Mutex::new(plan),
            open: AtomicBool::new(false),
            recounted: AtomicBool::new(false),
            counts: Counts::default(),
        }))
    }

    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// Lets clients begin, or makes them pause.
    pub fn set_open(&self, open: bool) {
        self.0.open.store(open, Ordering::SeqCst);
    }

    /// Buckets of the run are there.
    pub fn is_prepared(&self) -> bool {
        self.0.plan().buckets.len() == self.0.bucket_count()
    }

    pub fn calls(&self) -> u64 {
        self.0.counts.calls.load(Ordering::SeqCst)
    }

    pub fn expired(&self) -> u64 {
        self.0.counts.expired.load(Ordering::SeqCst)
    }

    pub fn retried(&self) -> u64 {
        self.0.counts.retried.load(Ordering::SeqCst)
    }

    pub fn oddities(&self) -> Vec<String> {
        self.0.plan().oddities.clone()
    }

    /// Buckets by the group that has them, for recounting.
    pub fn buckets(&self) -> Vec<(GroupId, BucketInfo)> {
        self.0.plan().buckets.iter().map(|bucket| (bucket.info.group, bucket.info.clone())).collect()
    }

    /// Whether a Complete is under way that the death of this host, as its gateway or as the leader of its group, cuts.
    pub fn completes_by(&self, host: usize, leads: &[GroupId]) -> bool {
        let completing = self.0.counts.completing.lock().unwrap_or_else(PoisonError::into_inner);
        completing.values().any(|(gateway, group)| *gateway == host || leads.contains(group))
    }

    /// Completes of a process that is gone are not under way any more.
    pub fn forget_completes(&self, host: usize) {
        let mut completing = self.0.counts.completing.lock().unwrap_or_else(PoisonError::into_inner);
        completing.retain(|_, (gateway, _)| *gateway != host);
    }

    pub(crate) fn start(&self, host: usize, env: &Env, client: &Arc<MetadataClient>) -> Vec<TaskHandle> {
        let mut tasks = Vec::new();
        if host == 0 && !self.is_prepared() {
            let mut preparing = self.caller(host, env, client);
            tasks.push(env.tasks.spawn("prepare", async move { preparing.prepare().await }));
        }
        for _ in 0..self.0.clients_per_host {
            let caller = self.caller(host, env, client);
            tasks.push(env.tasks.spawn("client", caller.run()));
        }
        tasks
    }

    /// Counts every bucket anew; what does not agree is odd.
    pub(crate) fn recount(&self, host: usize, env: &Env, client: &Arc<MetadataClient>) -> TaskHandle {
        let mut caller = self.caller(host, env, client);
        env.tasks.spawn("recount", async move { caller.recount_all().await })
    }

    pub fn is_recounted(&self) -> bool {
        self.0.recounted.load(Ordering::SeqCst)
    }

    fn caller(&self, host: usize, env: &Env, client: &Arc<MetadataClient>) -> Caller {
        let mut plan = self.0.plan();
        let id = Client(plan.next_client);
        plan.next_client += 1;
        let seed = plan.seed.fork();
        drop(plan);
        let metadata: Arc<dyn MetadataApi> = Arc::clone(client) as Arc<dyn MetadataApi>;
        Caller { id, host, seed, env: env.clone(), metadata, shared: Arc::clone(&self.0) }
    }
}

impl Inner {
    pub(crate) fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In every partition group one that is versioned and one that never is.
    fn bucket_count(&self) -> usize {
        usize::try_from(self.groups * 2).expect("few groups")
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    pub(crate) fn now(&self) -> Duration {
        Duration::from_millis(self.time.millis())
    }
}

impl Plan {
    pub(crate) fn value(&mut self) -> Value {
        let value = Value(self.next_value);
        self.next_value += 1;
        self.tags.insert(words::tag(value).as_str().to_owned(), Body::One(value));
        value
    }

    /// A key of a bucket that has calls left.
    pub(crate) fn place(&mut self, bucket: usize, slot: u64, calls_per_key: u64) -> Place {
        let used = self.used.entry((bucket, slot)).or_default();
        let generation = *used / calls_per_key;
        *used += 1;
        // Slashes, so that listings have prefixes to find.
        let key = format!("{}/{slot}/{generation:04}", ["a", "b"][usize::from(slot % 2 == 1)]);
        Place::new(self.buckets[bucket].info.name.as_str(), key)
    }

    /// Remembers what a Complete of these parts makes.
    pub(crate) fn assembled(&mut self, parts: &[Value]) {
        let tag = words::assembled_tag(parts);
        self.tags.insert(tag.as_str().to_owned(), Body::Parts(parts.to_vec()));
    }

    /// What has this tag; `None`: nobody ever wrote such a thing.
    pub(crate) fn body(&mut self, tag: &ETag) -> Option<Body> {
        let body = self.tags.get(tag.as_str()).cloned();
        if body.is_none() {
            self.oddities.push(format!("a tag that nobody wrote: {}", tag.as_str()));
        }
        body
    }
}
