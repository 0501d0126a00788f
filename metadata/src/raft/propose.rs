//! Proposals at the leader: admitted, stamped, and waited for.
//!
//! Openraft gathers what waits into one append, so a flush carries whatever came while the last one was under way. What is
//! under way at one leader is bounded in number and bytes; beyond that a caller is told so at once and comes again.

use super::{
    clock::{Offset, VoterClocks},
    replica::{Refused, Replica, forward},
    types::{RaftTypes, replica},
};
use crate::command::{Command, Entry, Outcome};
use ashlar_runtime::{ByteBudget, Reservation};
use ashlar_types::{RequestId, Timestamp};
use openraft::{
    async_runtime::watch::WatchReceiver as _,
    errors::{ClientWriteError, RaftError},
};
use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Proposals under way at one leader: several flushes' worth.
const PROPOSALS: usize = 4_096;
/// And their bytes: what the largest commands need, and enough of small objects to fill flushes.
const PROPOSAL_BYTES: u64 = 64 << 20;

/// Between two proposals while a member is brought up and the log is long: about two hundred a second.
const SLOW_PAUSE: Duration = Duration::from_millis(5);

/// Places for proposals under way.
#[derive(Debug)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    bytes: ByteBudget,
}

/// Given back when dropped.
#[derive(Debug)]
struct Place {
    _place: OwnedSemaphorePermit,
    _bytes: Reservation,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self::of(PROPOSALS, PROPOSAL_BYTES)
    }

    fn of(places: usize, bytes: u64) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), bytes: ByteBudget::new(bytes) }
    }

    fn enter(&self, bytes: usize) -> Result<Place, Refused> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refused::Busy)?;
        // Nothing is larger than a message between nodes, which is less than all places together.
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let bytes = self.bytes.try_reserve(bytes).map_err(|_| Refused::Busy)?;
        Ok(Place { _place: place, _bytes: bytes })
    }
}

impl Replica {
    /// Housekeeping's proposals: small and few.
    pub(crate) async fn propose(
        &self,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<Outcome, Refused> {
        self.propose_sized(request, command, 0).await
    }

    /// Leader only: stamps and proposes a command of `bytes` encoded bytes. Dropping the future does not take the
    /// proposal back.
    pub(crate) async fn propose_sized(
        &self,
        request: Option<RequestId>,
        command: Command,
        bytes: usize,
    ) -> Result<Outcome, Refused> {
        if let Some(refused) = self.not_leader() {
            return Err(refused);
        }
        let _place = self.admission.enter(bytes)?;
        let begun = self.shared.env.clock.monotonic();
        if let Some(turn) = self.catch_up.slows() {
            let _turn = turn.acquire().await.map_err(|_| Refused::NotLeader(None))?;
            self.shared.env.clock.sleep(SLOW_PAUSE).await;
        }
        let entry = Entry { request, stamp: self.stamp()?, command };
        match self.scoped(self.raft.client_write(entry)).await {
            Ok(response) => {
                self.metrics().proposed(self.shared.env.clock.monotonic().saturating_sub(begun));
                Ok(response.data)
            }
            Err(error) => Err(refusal(&error)),
        }
    }

    /// What the group clock shows at this leader. A group without any stamp has nothing to run on from: its leader waits
    /// until it knows a majority's clocks.
    fn stamp(&self) -> Result<Timestamp, Refused> {
        let now = self.shared.env.clock.monotonic();
        let applied = self.state.group_state().clock;
        let median = self.voter_clocks().deciding(self.id.node);
        if applied == Timestamp(0) && median.is_none() {
            return Err(Refused::Busy);
        }
        let term = self.raft.metrics().borrow_watched().current_term;
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(clock.stamp(term, now, applied, median))
    }

    /// The wall clocks of the group's voters, as far as this node knows them.
    pub(crate) fn voter_clocks(&self) -> VoterClocks {
        let clock = &self.shared.env.clock;
        let own = Offset::of(clock.wall(), clock.monotonic());
        let known = self.shared.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.voter_ids().map(|voter| replica(voter).node);
        let offset = |node| if node == self.id.node { Some(own) } else { known.of(node) };
        VoterClocks(voters.map(|node| (node, offset(node))).collect())
    }
}

fn refusal(error: &RaftError<RaftTypes, ClientWriteError<RaftTypes>>) -> Refused {
    match error {
        // Not appended anywhere.
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => forward(to),
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Refused::Unknown("the leader changed"),
        RaftError::APIError(
            ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_),
        ) => Refused::Unknown("the proposal was taken for another"),
        RaftError::Fatal(_) => Refused::Unknown("the replica failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_bounded_in_number_and_bytes() {
        let admission = Admission::of(2, 10 << 10);
        let first = admission.enter(9 << 10).unwrap();
        assert_eq!(admission.enter(2 << 10).unwrap_err(), Refused::Busy);
        let second = admission.enter(1 << 10).unwrap();
        assert_eq!(admission.enter(0).unwrap_err(), Refused::Busy);
        drop(first);
        let third = admission.enter(9 << 10).unwrap();
        drop((second, third));
        assert!(admission.enter(10 << 10).is_ok());
    }
}
