//! One client: calls one after another, records each, and sees to it that what it is told is what it records.

use super::{Inner, TestBucket};
use crate::{
    check::{
        history::{Client, Operation, Outcome, Reply, UploadName, VersionName},
        recorder::Pending,
    },
    world::Seed,
};
use ashlar_metadata::{
    MetadataApi, MetadataError,
    command::{Command, Done, PartitionCommand, Refusal, SystemCommand},
    query::{Answer, Query},
};
use ashlar_runtime::Env;
use ashlar_types::{BucketName, GroupId, RequestId, Versioning, service::BucketInfo};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// For one call; elections and short faults fit in it.
pub(super) const LIMIT: Duration = Duration::from_secs(6);
/// How often a call without an outcome is made again under the same request.
const RETRIES: u32 = 2;
const CLOSED_POLL: Duration = Duration::from_millis(200);

pub(super) struct Caller {
    pub(super) id: Client,
    pub(super) host: usize,
    pub(super) seed: Seed,
    pub(super) env: Env,
    pub(super) metadata: Arc<dyn MetadataApi>,
    pub(super) shared: Arc<Inner>,
}

/// Why a command has no outcome.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failed {
    /// It surely was not applied and never will be.
    NotDone,
    Unknown,
}

/// How long a client takes between the first step of a call and its proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Usual,
    /// As if the process were suspended meanwhile.
    Suspended(Duration),
}

impl Caller {
    /// Until the process ends.
    pub(super) async fn run(mut self) {
        loop {
            let pause = Duration::from_millis(self.seed.between(5, 120));
            self.env.clock.sleep(if self.shared.is_open() { pause } else { CLOSED_POLL }).await;
            if self.shared.is_open() {
                self.shared.counts.calls.fetch_add(1, Ordering::SeqCst);
                self.call().await;
            }
        }
    }

    async fn call(&mut self) {
        match self.seed.below(100) {
            0..34 => self.get().await,
            34..58 => self.put(Pace::Usual).await,
            58..66 => self.delete().await,
            66..80 => self.multipart().await,
            80..88 => self.list().await,
            88..92 => self.list_versions().await,
            92..94 => self.list_uploads().await,
            94..99 => self.churn().await,
            _ => {
                let suspended = Pace::Suspended(Duration::from_secs(self.seed.between(5, 90)));
                self.put(suspended).await;
            }
        }
    }

    /// Makes the buckets of the run.
    pub(super) async fn prepare(&mut self) {
        for group in 1..=self.shared.groups {
            for versioned in [false, true] {
                let name = format!("{}-{group}", if versioned { "versioned" } else { "plain" });
                if versioned {
                    self.shared.recorder.versioned(&name);
                }
                let info = loop {
                    match self.make_bucket(&name, GroupId(group)).await {
                        Ok(info) => break info,
                        Err(_) => self.env.clock.sleep(CLOSED_POLL).await,
                    }
                };
                while versioned && !self.enable_versioning(&info).await {
                    self.env.clock.sleep(CLOSED_POLL).await;
                }
                self.shared.plan().buckets.push(TestBucket { info, versioned });
            }
        }
    }

    async fn make_bucket(&mut self, name: &str, group: GroupId) -> Result<BucketInfo, Failed> {
        let name = BucketName::parse(name).expect("names of the workload are sound");
        let reserve =
            SystemCommand::ReserveBucket { name, owner: "owner".to_owned(), location: String::new(), group };
        let reserved = self.propose(GroupId::SYSTEM, Command::System(reserve), Pace::Usual).await?;
        let Ok(Done::Bucket(info)) = reserved else { return Err(Failed::Unknown) };
        let create = PartitionCommand::CreateBucket { bucket: info.clone() };
        let created = self.propose(group, Command::Partition(create), Pace::Usual).await?;
        created.map_err(|_| Failed::Unknown)?;
        let activate = SystemCommand::ActivateBucket { bucket: info.id };
        let activated = self.propose(GroupId::SYSTEM, Command::System(activate), Pace::Usual).await?;
        activated.map(|_| info).map_err(|_| Failed::Unknown)
    }

    async fn enable_versioning(&mut self, info: &BucketInfo) -> bool {
        let enable = PartitionCommand::SetVersioning { bucket: info.id, versioning: Versioning::Enabled };
        matches!(self.propose(info.group, Command::Partition(enable), Pace::Usual).await, Ok(Ok(_)))
    }

    pub(super) fn bucket(&mut self) -> (usize, TestBucket) {
        let plan = self.shared.plan();
        let index = self.seed.index(plan.buckets.len());
        (index, plan.buckets[index].clone())
    }

    pub(super) fn invoke(&self, operation: Operation) -> Pending {
        self.shared.recorder.invoke(self.id, operation, self.shared.now())
    }

    pub(super) fn finish(&self, pending: Pending, outcome: Outcome) {
        pending.finish(outcome, self.shared.now());
    }

    pub(super) fn odd(&self, what: String) {
        self.shared.plan().oddities.push(what);
    }

    /// An answer that nobody expects is worth a look, and tells nothing.
    pub(super) fn unexpected(&self, call: &str, refusal: &Refusal) -> Outcome {
        self.odd(format!("{call} was refused with {refusal:?}"));
        Outcome::Unknown
    }

    /// A command under a request of its own, repeated under it while there is no outcome.
    pub(super) async fn propose(
        &mut self,
        group: GroupId,
        command: Command,
        pace: Pace,
    ) -> Result<Result<Done, Refusal>, Failed> {
        let Ok(request) = self.metadata.begin(group).await else { return Err(Failed::NotDone) };
        if let Pace::Suspended(duration) = pace {
            self.env.clock.sleep(duration).await;
        }
        let too_late = pace != Pace::Usual && self.is_below_floor(group, request).await;
        let mut maybe_done = false;
        for _ in 0..=RETRIES {
            match self.metadata.propose(group, Some(request), command.clone(), LIMIT).await {
                Ok(Err(Refusal::Expired)) => {
                    self.shared.counts.expired.fetch_add(1, Ordering::SeqCst);
                    // An attempt that was not answered may have come before the floor.
                    maybe_done |= !too_late;
                    break;
                }
                Ok(outcome) => {
                    if too_late {
                        self.odd(format!("{request:?} was below the floor and is answered {outcome:?}"));
                    }
                    return Ok(outcome);
                }
                Err(MetadataError::Unavailable { .. }) => {}
                Err(MetadataError::Ambiguous { .. } | MetadataError::Failed(_)) => maybe_done = true,
            }
            if self.seed.chance(40) {
                break;
            }
            self.shared.counts.retried.fetch_add(1, Ordering::SeqCst);
        }
        Err(if maybe_done { Failed::Unknown } else { Failed::NotDone })
    }

    /// Whether a command under this request is refused from now on, whenever it is applied.
    async fn is_below_floor(&self, group: GroupId, request: RequestId) -> bool {
        match self.ask(group, Query::GroupState).await {
            Some(Answer::GroupState(state)) => request.write_epoch < state.floor,
            Some(_) | None => false,
        }
    }

    pub(super) async fn ask(&self, group: GroupId, query: Query) -> Option<Answer> {
        self.metadata.query(group, query, LIMIT).await.ok()
    }

    pub(super) fn remember_version(&self, place: &crate::check::history::Place, version: &VersionName) {
        self.shared.plan().versions.entry(place.clone()).or_default().push(version.clone());
    }

    pub(super) fn remember_upload(
        &self,
        bucket: usize,
        place: &crate::check::history::Place,
        upload: &UploadName,
    ) {
        self.shared.plan().uploads.push((bucket, place.clone(), upload.clone(), Vec::new()));
    }
}

impl From<Failed> for Outcome {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NotDone => Self::NotDone,
            Failed::Unknown => Self::Unknown,
        }
    }
}

/// What the refusal of a write says about what is stored.
#[allow(clippy::wildcard_enum_match_arm, reason = "refusals that are not named are not expected")]
pub(super) fn refused(refusal: &Refusal) -> Option<Reply> {
    match refusal {
        Refusal::PreconditionFailed => Some(Reply::PreconditionFailed),
        Refusal::NoSuchKey { delete_marker } => {
            Some(Reply::NoSuchKey { marker: delete_marker.map(super::words::version_name) })
        }
        Refusal::NoSuchUpload => Some(Reply::NoSuchUpload),
        Refusal::NoSuchBucket => Some(Reply::NoSuchBucket),
        Refusal::BucketNotEmpty => Some(Reply::BucketNotEmpty),
        Refusal::BucketSealed => Some(Reply::BucketBusy),
        Refusal::InvalidPart { .. } => Some(Reply::InvalidPart),
        _ => None,
    }
}
