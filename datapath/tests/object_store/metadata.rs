//! Metadata without Raft: one state machine in memory, whose calls can fail.

use crate::cluster::WATCHDOG;
use ashlar_metadata::{
    MetadataApi, MetadataError,
    command::{Command, Done, Entry, Outcome, PartitionCommand},
    kv::MemKv,
    query::{Answer, Query},
    state::StateMachine,
};
use ashlar_placement::ClusterMap;
use ashlar_types::{GroupId, RequestId, SessionId, Timestamp};
use async_trait::async_trait;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

/// How proposals that carry a request id go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    #[default]
    None,
    Unavailable,
    /// Applied, but nobody says so.
    AppliedInSilence,
    /// Wait until there is no trouble.
    Held,
}

pub struct Metadata {
    state: StateMachine,
    map: Mutex<Arc<ClusterMap>>,
    clock: Mutex<u64>,
    sequence: Mutex<u64>,
    pub trouble: watch::Sender<Trouble>,
    /// Proposals that have arrived.
    pub proposals: watch::Sender<Vec<Command>>,
}

impl Metadata {
    pub fn new(group: GroupId, map: ClusterMap) -> Self {
        Self {
            state: StateMachine::open(group, Arc::new(MemKv::new())).unwrap(),
            map: Mutex::new(Arc::new(map)),
            clock: Mutex::new(1_000_000),
            sequence: Mutex::new(0),
            trouble: watch::Sender::new(Trouble::None),
            proposals: watch::Sender::new(Vec::new()),
        }
    }

    /// The group clock goes on; the group learns of it with the next entry, which this makes.
    pub fn pass(&self, time: Duration) {
        let mut clock = self.clock.lock().unwrap();
        *clock += u64::try_from(time.as_millis()).unwrap();
        let entry = Entry { request: None, stamp: Timestamp(*clock), command: Command::Nothing };
        self.state.apply(&[entry], b"").unwrap().remove(0).unwrap();
    }

    pub fn set_map(&self, change: impl FnOnce(&mut ClusterMap)) {
        let mut map = self.map.lock().unwrap();
        change(Arc::make_mut(&mut map));
    }

    pub fn apply(&self, request: Option<RequestId>, command: PartitionCommand) -> Outcome {
        let mut clock = self.clock.lock().unwrap();
        *clock += 1;
        let entry = Entry { request, stamp: Timestamp(*clock), command: Command::Partition(command) };
        self.state.apply(&[entry], b"").unwrap().remove(0)
    }

    pub fn ask(&self, query: &Query) -> Answer {
        self.state.query(query).unwrap()
    }

    /// Waits until so many proposals of a kind have arrived.
    pub async fn until_proposed(&self, wanted: impl Fn(&Command) -> bool, count: usize) {
        let mut proposals = self.proposals.subscribe();
        let enough =
            |proposals: &Vec<Command>| proposals.iter().filter(|command| wanted(command)).count() >= count;
        let waiting = tokio::time::timeout(WATCHDOG, proposals.wait_for(enough)).await;
        waiting.expect("the command is proposed").unwrap();
    }
}

#[async_trait]
impl MetadataApi for Metadata {
    fn map(&self) -> Arc<ClusterMap> {
        Arc::clone(&self.map.lock().unwrap())
    }

    async fn begin(&self, _group: GroupId) -> Result<RequestId, MetadataError> {
        let mut sequence = self.sequence.lock().unwrap();
        *sequence += 1;
        let write_epoch = self.state.group_state().write_epoch;
        Ok(RequestId { write_epoch, session: SessionId(1), sequence: *sequence })
    }

    async fn propose(
        &self,
        group: GroupId,
        request: Option<RequestId>,
        command: Command,
        _deadline: Duration,
    ) -> Result<Outcome, MetadataError> {
        assert_eq!(group, self.state.group());
        let Command::Partition(partition) = command.clone() else {
            assert_eq!(command, Command::Nothing);
            self.pass(Duration::ZERO);
            return Ok(Ok(Done::Nothing));
        };
        if request.is_none() {
            let outcome = self.apply(request, partition);
            self.proposals.send_modify(|proposals| proposals.push(command));
            return Ok(outcome);
        }
        let mut trouble = self.trouble.subscribe();
        self.proposals.send_modify(|proposals| proposals.push(command));
        let now = *trouble.wait_for(|trouble| *trouble != Trouble::Held).await.unwrap();
        match now {
            Trouble::Unavailable => Err(MetadataError::Unavailable { group, reason: "planned" }),
            Trouble::AppliedInSilence => {
                let _ = self.apply(request, partition);
                Err(MetadataError::Ambiguous { group })
            }
            Trouble::None | Trouble::Held => Ok(self.apply(request, partition)),
        }
    }

    async fn query(
        &self,
        group: GroupId,
        query: Query,
        _deadline: Duration,
    ) -> Result<Answer, MetadataError> {
        assert_eq!(group, self.state.group());
        Ok(self.ask(&query))
    }
}
