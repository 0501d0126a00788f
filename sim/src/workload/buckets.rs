//! Buckets that come and go, by the steps that gateways take: reserve, create, activate; seal, remove, purge.

use super::{
    Inner,
    caller::{Caller, Failed, Pace, refused},
};
use crate::check::history::{Operation, Outcome, Reply};
use ashlar_metadata::{
    command::{Command, Done, PartitionCommand, Refusal, SystemCommand},
    query::{Answer, BucketPhase, BucketRow, Query},
};
use ashlar_types::{BucketName, GroupId};
use std::sync::Arc;

/// Names at a time, and calls before other names take their place.
const NAMES: u64 = 2;
const CALLS_PER_NAME: u64 = 24;
const PURGE_ROWS: u32 = 100;

impl Caller {
    pub(super) async fn churn(&mut self) {
        let used = {
            let mut plan = self.shared.plan();
            plan.next_churn += 1;
            plan.next_churn
        };
        let name = format!("churn-{}-{}", used / (NAMES * CALLS_PER_NAME), self.seed.below(NAMES));
        match self.seed.below(10) {
            0..4 => {
                let pending = self.invoke(Operation::CreateBucket { name: name.clone() });
                let outcome = self.create_bucket(&name).await.unwrap_or_else(Outcome::from);
                self.finish(pending, outcome);
            }
            4..7 => {
                let pending = self.invoke(Operation::DeleteBucket { name: name.clone() });
                let alone = Deleting::begin(&self.shared, &name);
                let outcome = self.delete_bucket(&name).await.unwrap_or_else(Outcome::from);
                let outcome = alone.end(outcome);
                self.finish(pending, outcome);
            }
            _ => {
                let pending = self.invoke(Operation::HeadBucket { name: name.clone() });
                let outcome = match self.directory(&name).await {
                    None => Outcome::Unknown,
                    Some(Some(BucketRow { info, phase: BucketPhase::Active, .. })) => {
                        Outcome::Done(Reply::Bucket { number: info.id.0 })
                    }
                    Some(_) => Outcome::Done(Reply::NoSuchBucket),
                };
                self.finish(pending, outcome);
            }
        }
    }

    async fn directory(&self, name: &str) -> Option<Option<BucketRow>> {
        let name = BucketName::parse(name).ok()?;
        let Answer::Bucket(row) = self.ask(GroupId::SYSTEM, Query::Bucket { name }).await? else {
            return None;
        };
        Some(row)
    }

    async fn create_bucket(&mut self, name: &str) -> Result<Outcome, Failed> {
        let group = GroupId(u32::try_from(self.seed.between(1, u64::from(self.shared.groups))).unwrap_or(1));
        let name = BucketName::parse(name).expect("names of the workload are sound");
        let reserve =
            SystemCommand::ReserveBucket { name, owner: "owner".to_owned(), location: String::new(), group };
        let reserved = self.propose(GroupId::SYSTEM, Command::System(reserve), Pace::Usual).await?;
        let info = match reserved {
            Ok(Done::Bucket(info)) => info,
            other => return Ok(self.outcome("a reserve", Ok(other))),
        };
        // From here on somebody else may finish it.
        let create = PartitionCommand::CreateBucket { bucket: info.clone() };
        match self.propose(info.group, Command::Partition(create), Pace::Usual).await {
            Ok(Ok(_)) => {}
            Ok(Err(Refusal::BucketSealed | Refusal::NoSuchBucket | Refusal::BucketGone)) => {
                return Ok(Outcome::Unknown);
            }
            Ok(Err(refusal)) => return Ok(self.unexpected("a create of a bucket", &refusal)),
            Err(_) => return Ok(Outcome::Unknown),
        }
        let activate = SystemCommand::ActivateBucket { bucket: info.id };
        match self.propose(GroupId::SYSTEM, Command::System(activate), Pace::Usual).await {
            Ok(Ok(_)) => Ok(Outcome::Done(Reply::Bucket { number: info.id.0 })),
            _ => Ok(Outcome::Unknown),
        }
    }

    async fn delete_bucket(&mut self, name: &str) -> Result<Outcome, Failed> {
        let info = match self.directory(name).await {
            None => return Err(Failed::NotDone),
            Some(None) => return Ok(Outcome::Done(Reply::NoSuchBucket)),
            Some(Some(BucketRow { phase: BucketPhase::Active, info, .. })) => info,
            Some(Some(_)) => return Ok(Outcome::Done(Reply::NoSuchBucket)),
        };
        let seal = PartitionCommand::SealBucket { bucket: info.id };
        match self.propose(info.group, Command::Partition(seal), Pace::Usual).await? {
            Ok(_) => {}
            Err(Refusal::NoSuchBucket) => return Ok(Outcome::Unknown),
            Err(refusal) => {
                return Ok(match refused(&refusal) {
                    Some(reply) => Outcome::Done(reply),
                    None => self.unexpected("a seal", &refusal),
                });
            }
        }
        let remove = SystemCommand::RemoveBucket { bucket: info.id };
        match self.propose(GroupId::SYSTEM, Command::System(remove), Pace::Usual).await {
            Ok(Ok(_)) => {}
            _ => return Ok(Outcome::Unknown),
        }
        loop {
            let purge = PartitionCommand::PurgeBucket { bucket: info.id, limit: PURGE_ROWS };
            match self.propose(info.group, Command::Partition(purge), Pace::Usual).await {
                Ok(Ok(Done::Purged { more: true })) => {}
                // The name is free: what is left is swept later.
                _ => return Ok(Outcome::Done(Reply::BucketDeleted)),
            }
        }
    }
}

/// Deletes of one name at the same time help each other, and each says that it is done: which of them did it cannot
/// be told, so none of them counts as more than perhaps done.
struct Deleting {
    shared: Arc<Inner>,
    name: String,
}

impl Deleting {
    fn begin(shared: &Arc<Inner>, name: &str) -> Self {
        let mut plan = shared.plan();
        let (active, contested) = plan.deleting.entry(name.to_owned()).or_default();
        *active += 1;
        *contested |= *active > 1;
        Self { shared: Arc::clone(shared), name: name.to_owned() }
    }

    fn end(self, outcome: Outcome) -> Outcome {
        let contested = self.shared.plan().deleting.get(&self.name).is_some_and(|(_, contested)| *contested);
        if contested && outcome == Outcome::Done(Reply::BucketDeleted) { Outcome::Unknown } else { outcome }
    }
}

impl Drop for Deleting {
    fn drop(&mut self) {
        let mut plan = self.shared.plan();
        if let Some((active, _)) = plan.deleting.get_mut(&self.name) {
            *active -= 1;
            if *active == 0 {
                plan.deleting.remove(&self.name);
            }
        }
    }
}
