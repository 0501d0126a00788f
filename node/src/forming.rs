//! How a cluster comes to be: `init` on the first node, `join` on the others, `bootstrap` once all are there.

use crate::{
    capacity::{CapacityError, capacities},
    credentials::{JoinToken, access_key, root_user, token_hash},
    entry::Entry,
    identity::{Identity, IdentityDrive, IdentityError},
    node::Shared,
    running::Running,
    shard_wire,
    start::StartError,
    tls::{Authority, Certificates, Issued, NodeKey, TlsError},
};
use ashlar_datapath::{object_error, propose_error, query_error};
use ashlar_metadata::{
    MetadataApi,
    command::{Command, Done, Refusal, SystemCommand},
    query::{Answer, Query},
};
use ashlar_placement::{ClusterMap, Drive, DriveState, Group, Node, NodeState, Phase};
use ashlar_proto::node::{self as wire, join_service_client::JoinServiceClient};
use ashlar_rpc::{Class, ConnectError, Fingerprint, Peers, RpcIdentity};
use ashlar_runtime::{ClockExt, RngExt};
use ashlar_storage::{DriveIdentity, DriveStore, FormatOptions};
use ashlar_types::{
    ClusterId, DriveId, DriveUuid, FailureDomain, GroupId, Incarnation, MapEpoch, NodeId, ObjectError,
    Profile, ProfileId, ReplicaId, Timestamp, service::AccessKey, service::User,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Partition groups of a new cluster: each has timers and heartbeats of its own, so few; enough that the buckets of
/// one cluster spread over the nodes.
pub const GROUPS_DEFAULT: u32 = 8;
/// Long enough for an operator to walk to the next machine.
const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Within which a group must elect a leader and commit.
const STEP_DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum FormError {
    #[error("this node belongs to cluster {0} already")]
    AlreadyFormed(ClusterId),
    #[error("this node belongs to no cluster yet: run `ashlar cluster init` or `ashlar cluster join` first")]
    Unformed,
    #[error("the cluster is bootstrapped already, with profile {0}")]
    AlreadyBootstrapped(String),
    #[error("`{0}` is not a profile: write k+m, for example 4+2")]
    BadProfile(String),
    #[error(
        "profile {profile} needs {needed} drives, the cluster has {found}; add nodes or choose a narrower one"
    )]
    TooFewDrives { profile: String, needed: usize, found: usize },
    #[error("the cluster has no drive that can hold data")]
    NoDrives,
    #[error("the cluster map was changed meanwhile; run the command again")]
    MapChanged,
    #[error(
        "this is not a join token, or not a whole one: copy it again, or make another with `ashlar cluster token`"
    )]
    BadToken,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the node at {peer} did not take this node in: {reason}")]
    Refused { peer: String, reason: String },
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Metadata(#[from] ObjectError),
}

/// What `init` hands to the operator; shown once.
pub struct Formed {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub root: AccessKey,
    pub join_token: String,
}

/// What `bootstrap` settled.
#[derive(Debug)]
pub struct Settled {
    pub profile: Profile,
    pub groups: u32,
    pub voters: usize,
    pub placement_groups: usize,
    pub warnings: Vec<String>,
}

/// What an operator may choose at bootstrap.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    pub profile: Option<String>,
    pub groups: Option<u32>,
    pub read_grace: Option<Duration>,
}

/// A drive about to be formatted.
struct NewDrive {
    uuid: DriveUuid,
    capacity_bytes: u64,
}

impl Shared {
    /// Makes a cluster of this node alone.
    pub(crate) async fn init(&self, access: &str, secret: &str) -> Result<Formed, FormError> {
        if let Some(running) = self.running.get() {
            return Err(FormError::AlreadyFormed(running.identity.cluster));
        }
        let rng = &*self.env.rng;
        let cluster = ClusterId(rng.u128());
        let node = NodeId(1);
        let drives = self.new_drives()?;
        let mut map = ClusterMap::forming(
            cluster,
            Node {
                rpc: self.advertised_rpc(),
                s3: self.advertised_s3(),
                labels: self.config.labels.clone(),
                state: NodeState::Member,
            },
        );
        let mut identity = Identity { cluster, node, drives: Vec::new() };
        for (drive, id) in drives.iter().zip(1..) {
            let id = DriveId(id);
            let entry =
                Drive { uuid: drive.uuid, node, capacity_bytes: drive.capacity_bytes, state: DriveState::In };
            map.drives.insert(id, entry);
            identity.drives.push(IdentityDrive { uuid: drive.uuid, id });
        }
        self.format(cluster, &drives)?;
        Certificates::first(&self.env, cluster, node)?.store(&*self.env.disk, &self.config.data_dir)?;
        Entry::Form(Box::new(map)).store(&identity, &*self.env.disk, &self.config.data_dir)?;
        let running = self.run(identity).await?;

        let root = access_key(rng, root_user(), access, secret);
        running.system(SystemCommand::PutAccessKey { key: root.clone() }).await?;
        let join_token = running.new_token().await?;
        tracing::info!(%cluster, "cluster made");
        Ok(Formed { cluster, node, root, join_token })
    }

    /// Has a member take this node in.
    pub(crate) async fn join(&self, peer: &str, token: &str) -> Result<Arc<Running>, FormError> {
        if let Some(running) = self.running.get() {
            return Err(FormError::AlreadyFormed(running.identity.cluster));
        }
        let refused = |reason: String| FormError::Refused { peer: peer.to_owned(), reason };
        let token = JoinToken::parse(token).ok_or(FormError::BadToken)?;
        let key = NodeKey::generate(&*self.env.rng)?;
        let drives = self.new_drives()?;
        // Takes no peer but those of the cluster that made the token.
        let joining = RpcIdentity::joining(&self.env, token.authority);
        let peers = Peers::new(self.env.clone(), joining);
        let mut client = JoinServiceClient::new(peers.service(peer, Class::Small));
        let request = wire::JoinRequest {
            token: token.secret.clone(),
            rpc: self.advertised_rpc(),
            s3: self.advertised_s3(),
            rack: self.config.labels.rack.clone(),
            zone: self.config.labels.zone.clone(),
            drives: drives
                .iter()
                .map(|drive| wire::JoinDrive {
                    uuid: drive.uuid.0.to_be_bytes().to_vec().into(),
                    capacity_bytes: drive.capacity_bytes,
                })
                .collect(),
            public_key: key.public().to_vec().into(),
        };
        let reply = match self
            .env
            .clock
            .timeout(STEP_DEADLINE, client.join(ashlar_rpc::request(request, STEP_DEADLINE)))
            .await
        {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return Err(refused(told(&status))),
            Err(elapsed) => return Err(refused(elapsed.to_string())),
        };
        let malformed = || refused("its answer is malformed; are both the same version?".to_owned());
        let cluster: [u8; 16] = reply.cluster[..].try_into().map_err(|_| malformed())?;
        let cluster = ClusterId(u128::from_be_bytes(cluster));
        if Fingerprint::of(&reply.authority) != token.authority {
            return Err(malformed());
        }
        let seed: [u8; 32] = reply.authority_key[..].try_into().map_err(|_| malformed())?;
        let certificates = Certificates {
            authority: Authority::restore(cluster, NodeKey::from_seed(seed)?, reply.authority.to_vec()),
            key,
            issued: Issued {
                certificate: reply.certificate.to_vec(),
                at: Timestamp(reply.issued_ms),
                expires: Timestamp(reply.expires_ms),
            },
        };
        let map: ClusterMap = shard_wire::decode(&reply.map).map_err(|_| malformed())?;
        let numbers = reply
            .drives
            .iter()
            .map(|drive| Ok((crate::join::uuid(&drive.uuid).map_err(|_| malformed())?, DriveId(drive.id))))
            .collect::<Result<BTreeMap<_, _>, FormError>>()?;
        let identity = Identity {
            cluster,
            node: NodeId(reply.node),
            drives: drives
                .iter()
                .map(|drive| {
                    let id = *numbers.get(&drive.uuid).ok_or_else(malformed)?;
                    Ok(IdentityDrive { uuid: drive.uuid, id })
                })
                .collect::<Result<_, FormError>>()?,
        };
        self.format(cluster, &drives)?;
        certificates.store(&*self.env.disk, &self.config.data_dir)?;
        Entry::Joined(Box::new(map)).store(&identity, &*self.env.disk, &self.config.data_dir)?;
        let running = self.run(identity).await?;
        tracing::info!(%cluster, node = reply.node, "joined");
        Ok(running)
    }

    fn new_drives(&self) -> Result<Vec<NewDrive>, FormError> {
        let capacities = capacities(&self.config, &self.env)?;
        let drive = |capacity_bytes| NewDrive { uuid: DriveUuid(self.env.rng.u128()), capacity_bytes };
        Ok(capacities.into_iter().map(drive).collect())
    }

    fn format(&self, cluster: ClusterId, drives: &[NewDrive]) -> Result<(), StartError> {
        for (config, drive) in self.config.drives.iter().zip(drives) {
            let identity = DriveIdentity { cluster, drive: drive.uuid };
            let options = FormatOptions::for_capacity(drive.capacity_bytes, self.config.segment_bytes_max);
            DriveStore::format(&self.env.disk, &config.path, identity, options)
                .map_err(|source| StartError::Drive { path: config.path.clone(), source })?;
        }
        Ok(())
    }
}

impl Running {
    /// Proposes one command to group 0.
    pub async fn system(&self, command: SystemCommand) -> Result<Done, FormError> {
        let request = self.metadata.begin(GroupId::SYSTEM).await.map_err(query_error)?;
        let outcome = self
            .metadata
            .propose(GroupId::SYSTEM, Some(request), Command::System(command), STEP_DEADLINE)
            .await
            .map_err(propose_error)?;
        match outcome {
            Ok(done) => Ok(done),
            Err(Refusal::MapChanged { .. }) => Err(FormError::MapChanged),
            Err(refusal) => Err(FormError::Metadata(object_error(refusal))),
        }
    }

    /// A one-time token for the next node.
    pub async fn new_token(&self) -> Result<String, FormError> {
        let authority = self.renewal.current().authority.fingerprint();
        let token = JoinToken::make(&*self.env.rng, authority);
        let expires = self.env.clock.wall().plus(TOKEN_LIFETIME);
        self.system(SystemCommand::PutJoinToken { token_hash: token_hash(&token.secret), expires }).await?;
        Ok(token.to_string())
    }

    pub async fn create_user(&self, user: User, access: &str, secret: &str) -> Result<AccessKey, FormError> {
        let key = access_key(&*self.env.rng, user, access, secret);
        self.system(SystemCommand::PutAccessKey { key: key.clone() }).await?;
        Ok(key)
    }

    /// Settles profile, placement groups, metadata groups and voters, in one change of the map.
    pub async fn bootstrap(&self, choices: &Choices) -> Result<Settled, FormError> {
        let answer = self.metadata.query(GroupId::SYSTEM, Query::Map, STEP_DEADLINE).await;
        let Answer::Map(Some(map)) = answer.map_err(query_error)? else {
            return Err(FormError::Unformed);
        };
        let mut map = *map;
        if map.phase == Phase::Ready {
            let profile = map.default_profile.and_then(|id| map.profiles.get(&id));
            return Err(FormError::AlreadyBootstrapped(profile.map(ToString::to_string).unwrap_or_default()));
        }
        let settled = settle(&mut map, choices)?;
        let expected = map.epoch;
        map.epoch = MapEpoch(expected.0 + 1);
        self.system(SystemCommand::UpdateMap { expected, map: Box::new(map) }).await?;
        tracing::info!(profile = %settled.profile, groups = settled.groups, "cluster bootstrapped");
        Ok(settled)
    }
}

/// Why a call failed: what the peer said, or why there is no connection to it.
fn told(status: &tonic::Status) -> String {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(connect) = error.downcast_ref::<ConnectError>() {
            return connect.to_string();
        }
        cause = error.source();
    }
    status.message().to_owned()
}

/// Pure: the map of a cluster that is ready, from one that is forming.
fn settle(map: &mut ClusterMap, choices: &Choices) -> Result<Settled, FormError> {
    let drives = map.placeable().count();
    let by_rule = ashlar_placement::default_profile(map).ok_or(FormError::NoDrives)?;
    let profile = match &choices.profile {
        None => by_rule,
        Some(name) => {
            let chosen: Profile = name.parse().map_err(|_| FormError::BadProfile(name.clone()))?;
            Profile::new(chosen.k(), chosen.m(), by_rule.domain)
                .map_err(|_| FormError::BadProfile(name.clone()))?
        }
    };
    let needed = usize::from(profile.slots());
    if drives < needed {
        return Err(FormError::TooFewDrives { profile: profile.to_string(), needed, found: drives });
    }
    let mut warnings = Vec::new();
    if profile.m() == 0 {
        warnings.push(format!("profile {profile} has no redundancy: losing a drive loses data"));
    }
    let id = ProfileId(1);
    map.profiles.insert(id, profile);
    map.default_profile = Some(id);
    map.phase = Phase::Ready;
    if let Some(grace) = choices.read_grace {
        map.read_grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    }
    let count = ashlar_placement::default_pg_count(map, &profile);
    let pgs = ashlar_placement::plan_initial(map, id, count);
    let crowded = pgs.iter().filter(|pg| crowded(map, pg, profile)).count();
    if crowded > 0 {
        warnings.push(format!(
            "{crowded} placement groups have more than {} slots in one {:?}: losing it makes their data unreadable",
            profile.m(),
            profile.domain
        ));
    }
    map.pgs = (1..).map(ashlar_types::PgId).zip(pgs).collect();

    let groups = choices.groups.unwrap_or(GROUPS_DEFAULT).max(1);
    let ids: Vec<_> = (0..=groups).map(GroupId).collect();
    let voters = ashlar_placement::voter_count(profile.m(), ashlar_placement::voter_domains(map));
    let planned = ashlar_placement::plan_voters(map, &ids, voters);
    let first = |node: NodeId| ReplicaId { node, incarnation: Incarnation(1) };
    for (group, mut nodes) in planned {
        // The first one listed begins as the leader: another one for each group.
        if let Some(shift) = usize::try_from(group.0).ok().and_then(|group| group.checked_rem(nodes.len())) {
            nodes.rotate_left(shift);
        }
        let learners = if group == GroupId::SYSTEM {
            map.nodes.keys().filter(|node| !nodes.contains(node)).map(|node| first(*node)).collect()
        } else {
            Vec::new()
        };
        map.groups.insert(group, Group { voters: nodes.into_iter().map(first).collect(), learners });
    }
    let placement_groups = map.pgs.len();
    Ok(Settled { profile, groups, voters, placement_groups, warnings })
}

/// More than m slots in one domain.
fn crowded(map: &ClusterMap, pg: &ashlar_placement::PlacementGroup, profile: Profile) -> bool {
    let mut counts = BTreeMap::new();
    for drive in pg.slots.iter().filter_map(|slot| slot.current) {
        if let Some(domain) = map.domain_of(drive, profile.domain) {
            *counts.entry(domain).or_insert(0u8) += 1;
        }
    }
    profile.domain != FailureDomain::Drive && counts.values().any(|count| *count > profile.m())
}
