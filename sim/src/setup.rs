//! How a cluster comes to be: the first host forms it, the others join one after another, then the groups are given
//! their voters. What travels between an operator and the nodes in production goes through memory here.

use crate::{
    Settings,
    world::{Host, Trace, host::CLUSTER},
};
use ashlar_metadata::{
    MetadataApi, MetadataClient, MetadataNode,
    command::{Command, Done, JoinNode, Outcome, SystemCommand},
    query::{Answer, Query},
};
use ashlar_placement::{ClusterMap, Group, Labels, Phase};
use ashlar_runtime::{Env, TaskHandle};
use ashlar_types::{
    FailureDomain, GroupId, Incarnation, MapEpoch, NodeId, Profile, ProfileId, ReplicaId, Timestamp,
};
use std::{
    error::Error,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

pub struct Setup {
    groups: u32,
    voters: usize,
    managed: bool,
    hosts: Mutex<Vec<Weak<Host>>>,
    joins: Mutex<Vec<Join>>,
    complete: Arc<AtomicBool>,
}

#[derive(Clone)]
enum Join {
    No,
    Asks,
    Joined(NodeId, Box<ClusterMap>),
}

type Failure = Box<dyn Error + Send + Sync>;

impl Setup {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            groups: settings.groups,
            voters: settings.voters,
            managed: settings.managed,
            hosts: Mutex::default(),
            joins: Mutex::new(vec![Join::No; settings.hosts]),
            complete: Arc::default(),
        }
    }

    pub(crate) fn introduce(&self, hosts: &[Arc<Host>]) {
        *self.hosts.lock().unwrap_or_else(PoisonError::into_inner) =
            hosts.iter().map(Arc::downgrade).collect();
    }

    /// All hosts are in and all groups have been given their voters.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::SeqCst)
    }

    fn joins(&self) -> MutexGuard<'_, Vec<Join>> {
        self.joins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self, index: usize) -> Option<Arc<Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(index)?.upgrade()
    }

    /// Becomes a node of the cluster.
    pub(crate) async fn enter(
        &self,
        host: &Host,
        env: &Env,
        node: &Arc<MetadataNode>,
        client: &MetadataClient,
    ) -> Result<NodeId, Failure> {
        if host.index == 0 {
            node.form(ClusterMap::forming(CLUSTER, host.in_map())).await?;
            let hosts = self.joins().len();
            for next in 1..hosts {
                while matches!(self.joins()[next], Join::No) {
                    env.clock.sleep(POLL).await;
                }
                let Some(joining) = self.host(next) else { continue };
                let (number, map) = admit(client, &joining).await?;
                self.joins()[next] = Join::Joined(number, map);
            }
            return Ok(NodeId(1));
        }
        self.joins()[host.index] = Join::Asks;
        loop {
            let join = self.joins()[host.index].clone();
            if let Join::Joined(number, map) = join {
                node.join(number, *map).await?;
                return Ok(number);
            }
            env.clock.sleep(POLL).await;
        }
    }

    /// Gives every group its voters, if that has not been done.
    pub(crate) fn complete(&self, env: &Env, client: &Arc<MetadataClient>) -> Option<TaskHandle> {
        if self.is_complete() {
            return None;
        }
        let (client, complete) = (Arc::clone(client), Arc::clone(&self.complete));
        let (groups, voters, managed) = (self.groups, self.voters, self.managed);
        let hosts = self.joins().len();
        let clock = Arc::clone(&env.clock);
        Some(env.tasks.spawn("setup", async move {
            let change = |map: &mut ClusterMap| assign(map, groups, voters, hosts, managed);
            while change_map(&client, &change).await.is_err() {
                clock.sleep(POLL).await;
            }
            complete.store(true, Ordering::SeqCst);
        }))
    }
}

/// Each group has its voters, beginning with another node. A cluster that is managed moves them by its rules from here on.
fn assign(map: &mut ClusterMap, groups: u32, voters: usize, hosts: usize, managed: bool) -> bool {
    let replica = |node: usize| ReplicaId {
        node: NodeId(u32::try_from(node % hosts + 1).expect("few hosts")),
        incarnation: Incarnation(1),
    };
    for group in 0..=groups {
        let first = usize::try_from(group).expect("few groups");
        let voting: Vec<ReplicaId> = (0..voters.min(hosts)).map(|step| replica(first + step)).collect();
        let learners = if group == 0 {
            (0..hosts).map(replica).filter(|replica| !voting.contains(replica)).collect()
        } else {
            Vec::new()
        };
        map.groups.insert(GroupId(group), Group { voters: voting, learners });
    }
    if managed {
        let parity = u8::try_from(voters / 2).expect("few voters");
        let profile = Profile::new(2, parity, FailureDomain::Node).expect("a small profile");
        map.profiles.insert(ProfileId(1), profile);
        map.default_profile = Some(ProfileId(1));
        map.phase = Phase::Ready;
    }
    true
}

async fn admit(client: &MetadataClient, joining: &Host) -> Result<(NodeId, Box<ClusterMap>), Failure> {
    let token_hash = [u8::try_from(joining.index).unwrap_or(u8::MAX); 32];
    let token = SystemCommand::PutJoinToken { token_hash, expires: Timestamp(u64::MAX) };
    drop(system(client, token).await?);
    let join = JoinNode {
        token_hash,
        rpc: joining.address.to_string(),
        s3: String::new(),
        labels: Labels::default(),
        drives: Vec::new(),
    };
    match system(client, SystemCommand::JoinNode(join)).await? {
        Ok(Done::Joined { node, map, .. }) => Ok((node, map)),
        other => Err(format!("a host was not let in: {other:?}").into()),
    }
}

async fn system(client: &MetadataClient, command: SystemCommand) -> Result<Outcome, Failure> {
    let request = client.begin(GroupId::SYSTEM).await?;
    Ok(client.propose(GroupId::SYSTEM, Some(request), Command::System(command), LIMIT).await?)
}

/// `false` from the change: there is nothing to change.
async fn change_map(
    client: &MetadataClient,
    change: &(dyn Fn(&mut ClusterMap) -> bool + Send + Sync),
) -> Result<(), Failure> {
    let Answer::Map(Some(mut map)) = client.query(GroupId::SYSTEM, Query::Map, LIMIT).await? else {
        return Err("there is no map".into());
    };
    let expected = map.epoch;
    if !change(&mut map) {
        return Ok(());
    }
    map.epoch = MapEpoch(expected.0 + 1);
    match system(client, SystemCommand::UpdateMap { expected, map }).await? {
        Ok(_) => Ok(()),
        Err(refusal) => Err(format!("{refusal:?}").into()),
    }
}

/// An operator's change of the map, once: the operator sees whether it worked.
pub(crate) async fn operate(
    client: &MetadataClient,
    trace: &Trace,
    change: Arc<dyn Fn(&mut ClusterMap) -> bool + Send + Sync>,
) {
    if let Err(error) = change_map(client, &*change).await {
        trace.event(format_args!("the map was not changed: {error}"));
    }
}
