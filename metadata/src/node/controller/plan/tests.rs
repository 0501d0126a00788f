//! The planner against a world that follows it: groups that take up members, nodes that come, die, return and lose files.

use super::*;
use crate::{node::controller::views::NodeReport, raft::status::Role};
use ashlar_placement::{Labels, Node};
use ashlar_types::{ClusterId, FailureDomain, Profile, ProfileId};
use proptest::prelude::*;

const PATIENCE: Patience = Patience { down: Duration::from_secs(5), dead: Duration::from_secs(600) };
const GROUPS: u32 = 4;

fn node() -> Node {
    Node { rpc: String::new(), s3: String::new(), labels: Labels::default(), state: NodeState::Member }
}

/// Replicas and members as they really are, beside the map.
struct World {
    map: ClusterMap,
    now: Duration,
    /// `None`: the node does not answer since then.
    silent_since: BTreeMap<NodeId, Duration>,
    /// Raft members: voters, learners.
    members: BTreeMap<GroupId, Group>,
    /// What each node holds; `false`: damaged.
    held: BTreeMap<(GroupId, NodeId), (ReplicaId, bool)>,
    /// Every replica that was ever made.
    made: BTreeSet<(GroupId, ReplicaId)>,
}

impl World {
    fn new(nodes: u32, m: u8) -> Self {
        let mut map = ClusterMap::forming(ClusterId(1), node());
        map.phase = Phase::Ready;
        map.default_profile = Some(ProfileId(1));
        map.profiles.insert(ProfileId(1), Profile::new(4, m, FailureDomain::Node).unwrap());
        let first = map.groups[&GroupId::SYSTEM].clone();
        map.groups.extend((1..=GROUPS).map(|group| (GroupId(group), first.clone())));
        let mut world = Self {
            members: map.groups.clone(),
            map,
            now: Duration::from_secs(1),
            silent_since: BTreeMap::new(),
            held: BTreeMap::new(),
            made: BTreeSet::new(),
        };
        for id in 2..=nodes {
            world.map.nodes.insert(NodeId(id), node());
        }
        world.make();
        world
    }

    fn is_up(&self, node: NodeId) -> bool {
        !self.silent_since.contains_key(&node)
    }

    fn is_sound(&self, group: GroupId, replica: ReplicaId) -> bool {
        self.is_up(replica.node) && self.held.get(&(group, replica.node)) == Some(&(replica, true))
    }

    /// Nodes make what the map lists.
    fn make(&mut self) {
        for (id, group) in &self.map.groups {
            for replica in group.voters.iter().chain(&group.learners) {
                let held = self.held.get(&(*id, replica.node));
                if self.is_up(replica.node) && held.is_none_or(|(held, _)| *held < *replica) {
                    assert!(self.made.insert((*id, *replica)), "{replica:?} of {id} is made twice");
                    self.held.insert((*id, replica.node), (*replica, true));
                }
            }
        }
    }

    fn leader(&self, group: GroupId) -> Option<ReplicaId> {
        let voters = &self.members[&group].voters;
        let sound: Vec<ReplicaId> =
            voters.iter().copied().filter(|voter| self.is_sound(group, *voter)).collect();
        (sound.len() > voters.len() / 2).then(|| sound[0])
    }

    /// Groups with a quorum take up new members once these are there.
    fn follow(&mut self) {
        for (id, listed) in self.map.groups.clone() {
            if self.leader(id).is_none() {
                continue;
            }
            let ready =
                |voter: &ReplicaId| self.members[&id].voters.contains(voter) || self.is_sound(id, *voter);
            if listed.voters.iter().all(ready) {
                let quorum = listed.voters.iter().filter(|voter| self.is_sound(id, **voter)).count();
                if quorum > listed.voters.len() / 2 {
                    self.members.insert(id, listed.clone());
                }
            }
        }
    }

    fn views(&self) -> Views {
        let mut views = Views::new(Duration::ZERO);
        for node in self.map.nodes.keys() {
            let at = self.silent_since.get(node).copied().unwrap_or(self.now);
            let groups = self.members.iter().filter_map(|(id, members)| {
                let (replica, sound) = self.held.get(&(*id, *node))?;
                let mut status = GroupStatus::closed(*id, *replica, Condition::Damaged);
                if *sound {
                    status.condition = Condition::Sound;
                    status.role = Role::Follower;
                    if self.leader(*id) == Some(*replica) {
                        status.role = Role::Leader;
                        status.term = 1;
                        status.voters.clone_from(&members.voters);
                        status.learners.clone_from(&members.learners);
                    }
                }
                Some(status)
            });
            views.hear(*node, at, NodeReport { groups: groups.collect(), ..NodeReport::default() });
        }
        views
    }

    /// One turn of everything; what was planned.
    fn turn(&mut self) -> Vec<MapChange> {
        // The controller runs where group 0 is led.
        let controlled = self.leader(GroupId::SYSTEM).is_some();
        let changes =
            if controlled { plan(&self.map, &self.views(), self.now, PATIENCE) } else { Vec::new() };
        if !changes.is_empty() {
            let before = self.map.clone();
            self.map = changed(&self.map, &changes);
            self.check(&before);
        }
        self.make();
        self.follow();
        self.now += Duration::from_secs(1);
        changes
    }

    fn check(&self, before: &ClusterMap) {
        for (id, group) in &self.map.groups {
            assert!(!group.voters.is_empty());
            let nodes: Vec<NodeId> = group.voters.iter().chain(&group.learners).map(|r| r.node).collect();
            let distinct: BTreeSet<&NodeId> = nodes.iter().collect();
            assert_eq!(distinct.len(), nodes.len(), "a node is listed twice in {id}: {group:?}");
            if *group != before.groups[id] {
                assert!(self.leader(*id).is_some(), "group {id} has no leader to follow");
            }
            if *id == GroupId::SYSTEM {
                assert!(self.map.nodes.keys().all(|node| before.nodes.contains_key(node)));
            }
        }
    }

    /// Until nothing is left to change.
    fn settle(&mut self) {
        for _ in 0..200 {
            if self.turn().is_empty() && self.members == self.map.groups {
                return;
            }
        }
        panic!("not settled: {:?} against {:?}", self.members, self.map.groups);
    }

    fn voters(&self, group: u32) -> BTreeSet<u32> {
        self.members[&GroupId(group)].voters.iter().map(|voter| voter.node.0).collect()
    }

    fn set_state(&mut self, node: u32, state: NodeState) {
        if let Some(node) = self.map.nodes.get_mut(&NodeId(node)) {
            node.state = state;
        }
    }

    /// So long ago that it has been noticed.
    fn kill(&mut self, node: u32) {
        self.silent_since.insert(NodeId(node), self.now.saturating_sub(PATIENCE.down));
    }
}

#[test]
fn replicas_grow_from_one_to_three_to_five_as_nodes_join() {
    let mut world = World::new(1, 2);
    world.settle();
    assert!((0..=GROUPS).all(|group| world.voters(group) == BTreeSet::from([1])));
    for (nodes, voters) in [(2, 1), (3, 3), (4, 3), (5, 5), (6, 5)] {
        world.map.nodes.insert(NodeId(nodes), node());
        world.settle();
        assert!((0..=GROUPS).all(|group| world.voters(group).len() == voters), "{nodes} nodes");
        let system = &world.map.groups[&GroupId::SYSTEM];
        assert_eq!(system.voters.len() + system.learners.len(), world.map.nodes.len());
    }
}

#[test]
fn a_dead_voter_is_replaced_where_there_is_a_node_and_not_before_its_time() {
    let mut world = World::new(4, 1);
    world.settle();
    let group = (1..=GROUPS).find(|group| world.voters(*group).contains(&3)).unwrap();
    world.kill(3);
    for _ in 0..590 {
        assert_eq!(world.turn(), vec![]);
    }
    world.now += Duration::from_secs(10);
    world.settle();
    let voters = world.voters(group);
    assert!(voters.len() == 3 && !voters.contains(&3), "{voters:?}");
    // The next one that dies has nobody to take its votes.
    world.kill(2);
    world.now += PATIENCE.dead;
    world.silent_since.insert(NodeId(3), Duration::ZERO);
    for _ in 0..20 {
        world.turn();
    }
    assert_eq!(world.voters(group).len(), 3);
}

#[test]
fn a_node_that_answers_and_cannot_serve_its_replicas_counts_as_dead_in_the_end() {
    let mut world = World::new(4, 1);
    world.settle();
    let group = (1..=GROUPS).map(GroupId).find(|group| world.voters(group.0).contains(&3)).unwrap();
    let (replica, _) = world.held[&(group, NodeId(3))];
    let mut views = Views::new(Duration::ZERO);
    let mut hear = |world: &World, condition| {
        views = world.views().after(&views);
        let groups = vec![GroupStatus::closed(group, replica, condition)];
        views.hear(NodeId(3), world.now, NodeReport { groups, ..NodeReport::default() });
        plan(&world.map, &views, world.now, PATIENCE)
    };
    assert_eq!(hear(&world, Condition::Failed), vec![]);
    world.now += PATIENCE.dead - Duration::from_secs(1);
    assert_eq!(hear(&world, Condition::Failed), vec![], "not yet");
    world.now += Duration::from_secs(1);
    let moved = hear(&world, Condition::Failed);
    assert!(
        moved.iter().any(|change| matches!(change, MapChange::SetVoters { voters, .. } if
        voters.iter().all(|voter| voter.node != NodeId(3)))),
        "{moved:?}"
    );
    assert_eq!(hear(&world, Condition::Sound), vec![], "it serves again");
}

#[test]
fn a_draining_node_gives_its_votes_away_and_keeps_them_if_nobody_can_take_them() {
    let mut world = World::new(4, 1);
    world.settle();
    world.map.nodes.get_mut(&NodeId(1)).unwrap().state = NodeState::Draining;
    world.settle();
    assert!((0..=GROUPS).all(|group| !world.voters(group).contains(&1)));
    assert!(world.map.groups[&GroupId::SYSTEM].learners.iter().any(|learner| learner.node == NodeId(1)));
    world.map.nodes.get_mut(&NodeId(2)).unwrap().state = NodeState::Draining;
    world.settle();
    assert!((0..=GROUPS).all(|group| world.voters(group).len() == 3));
}

#[test]
fn a_damaged_replica_comes_back_under_an_incarnation_that_never_was() {
    let mut world = World::new(3, 1);
    world.settle();
    for group in [GroupId::SYSTEM, GroupId(2)] {
        let (old, _) = world.held[&(group, NodeId(2))];
        world.held.insert((group, NodeId(2)), (old, false));
        world.settle();
        let (new, sound) = world.held[&(group, NodeId(2))];
        assert!(sound && new > old, "{old:?} {new:?}");
        assert!(world.members[&group].voters.contains(&new));
    }
}

#[test]
fn nothing_moves_while_a_node_is_silent_for_a_short_time_or_a_group_has_no_leader() {
    let mut world = World::new(3, 1);
    world.settle();
    world.map.nodes.insert(NodeId(4), node());
    world.settle();
    world.map.nodes.get_mut(&NodeId(1)).unwrap().state = NodeState::Draining;
    world.kill(2);
    world.now += Duration::from_secs(100);
    assert_eq!(plan(&world.map, &world.views(), world.now, PATIENCE), vec![]);
    world.silent_since.clear();
    world.now += Duration::from_secs(1);
    assert_ne!(plan(&world.map, &world.views(), world.now, PATIENCE), vec![]);
    let two = |world: &mut World, sound| {
        for node in [1, 2, 3, 4].map(NodeId) {
            if let Some(held) = world.held.get_mut(&(GroupId(1), node)) {
                held.1 = sound;
            }
        }
    };
    two(&mut world, false);
    let changes = plan(&world.map, &world.views(), world.now, PATIENCE);
    let of = |change: &MapChange| match change {
        MapChange::Reincarnate { group, .. }
        | MapChange::SetVoters { group, .. }
        | MapChange::AddLearner { group, .. }
        | MapChange::RemoveLearner { group, .. } => *group,
    };
    assert!(changes.iter().all(|change| of(change) != GroupId(1)), "{changes:?}");
}

#[derive(Clone, Debug)]
enum Event {
    Join,
    Kill(u32),
    Return(u32),
    Damage(u32, u32),
    Drain(u32),
    Serve(u32),
    Turns(u32),
    Patience,
}

fn event() -> impl Strategy<Value = Event> {
    let node = 1_u32..9;
    prop_oneof![
        Just(Event::Join),
        node.clone().prop_map(Event::Kill),
        node.clone().prop_map(Event::Return),
        (0..=GROUPS, node.clone()).prop_map(|(group, node)| Event::Damage(group, node)),
        node.clone().prop_map(Event::Drain),
        node.prop_map(Event::Serve),
        (1_u32..6).prop_map(Event::Turns),
        Just(Event::Patience),
    ]
}

proptest! {
    /// Whatever happens, a replica is never made twice and no group is changed without a leader; once all nodes are
    /// back, groups that have a quorum are whole again.
    #[test]
    fn groups_recover_from_whatever_happens(
        nodes in 1_u32..7, m in 1_u8..3, events in prop::collection::vec(event(), 0..40),
    ) {
        let mut world = World::new(nodes, m);
        world.settle();
        for event in events {
            match event {
                Event::Join => {
                    let next = world.map.nodes.last_key_value().unwrap().0.0 + 1;
                    if next < 9 {
                        world.map.nodes.insert(NodeId(next), node());
                    }
                }
                // Group 0 decides while it has a quorum only: the test kills no more than that.
                Event::Kill(node) => {
                    if world.map.nodes.contains_key(&NodeId(node)) && world.silent_since.is_empty() {
                        world.kill(node);
                    }
                }
                Event::Return(node) => drop(world.silent_since.remove(&NodeId(node))),
                Event::Damage(group, node) => {
                    let key = (GroupId(group), NodeId(node));
                    let others = world.members[&key.0].voters.iter().filter(|voter| voter.node != key.1);
                    let sound = others.filter(|voter| world.is_sound(key.0, **voter)).count();
                    // A majority that is lost stays lost.
                    if sound > world.members[&key.0].voters.len() / 2
                        && let Some(held) = world.held.get_mut(&key)
                    {
                        held.1 = false;
                    }
                }
                Event::Drain(node) => world.set_state(node, NodeState::Draining),
                Event::Serve(node) => world.set_state(node, NodeState::Member),
                Event::Turns(turns) => (0..turns).for_each(|_| drop(world.turn())),
                Event::Patience => world.now += PATIENCE.dead,
            }
        }
        world.silent_since.clear();
        for node in world.map.nodes.values_mut() {
            node.state = NodeState::Member;
        }
        world.now += Duration::from_secs(1);
        world.settle();
        let count = voter_count(m, world.map.nodes.len());
        for group in 0..=GROUPS {
            prop_assert_eq!(world.voters(group).len(), count);
            let sound = world.members[&GroupId(group)].voters.iter();
            prop_assert!(sound.clone().all(|voter| world.is_sound(GroupId(group), *voter)));
        }
    }
}
