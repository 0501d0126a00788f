//! Who should lead, in small clusters written out.

use super::*;
use crate::{node::controller::views::NodeReport, raft::status::GroupStatus};
use ashlar_placement::{Labels, Node};
use ashlar_types::{ClusterId, Incarnation};

const PATIENCE: Patience = Patience { down: Duration::from_secs(5), dead: Duration::from_secs(600) };
const NOW: Duration = Duration::from_secs(1000);

fn replica(node: u32) -> ReplicaId {
    ReplicaId { node: NodeId(node), incarnation: Incarnation(1) }
}

struct Cluster {
    map: ClusterMap,
    /// Group by group: its leader.
    led_by: Vec<u32>,
    flush_us: BTreeMap<u32, u64>,
    silent: Option<u32>,
    /// Lacks entries of every group it does not lead.
    behind: Option<u32>,
}

impl Cluster {
    fn of_three(led_by: Vec<u32>) -> Self {
        let node = || Node {
            rpc: String::new(),
            s3: String::new(),
            labels: Labels::default(),
            state: NodeState::Member,
        };
        let mut map = ClusterMap::forming(ClusterId(1), node());
        map.nodes.extend((2..=3).map(|id| (NodeId(id), node())));
        let members = ashlar_placement::Group { voters: [1, 2, 3].map(replica).to_vec(), learners: vec![] };
        map.groups = (0..).map(GroupId).zip(&led_by).map(|(id, _)| (id, members.clone())).collect();
        Self { map, led_by, flush_us: BTreeMap::new(), silent: None, behind: None }
    }

    fn plan(&self) -> Vec<Transfer> {
        let mut views = Views::new(Duration::ZERO);
        for node in 1..=3 {
            let groups = (0..).zip(&self.led_by).map(|(group, leader)| {
                let mut status = GroupStatus::closed(GroupId(group), replica(node), Condition::Sound);
                status.role = if *leader == node { Role::Leader } else { Role::Follower };
                status.term = 3;
                status.last_log = Some(if self.behind == Some(node) { 10 } else { 10_000 });
                status.voters = [1, 2, 3].map(replica).to_vec();
                status
            });
            let flush_us = self.flush_us.get(&node).copied();
            let report = NodeReport { groups: groups.collect(), flush_us, ..NodeReport::default() };
            let silent = self.silent == Some(node);
            views.hear(NodeId(node), if silent { Duration::ZERO } else { NOW }, report);
        }
        plan_leaders(&self.map, &views, NOW, PATIENCE)
    }

    fn after(&self) -> BTreeMap<u32, usize> {
        let mut led_by = self.led_by.clone();
        for transfer in self.plan() {
            let group = usize::try_from(transfer.group.0).unwrap();
            assert_eq!(led_by[group], transfer.from.0);
            led_by[group] = transfer.to.node.0;
        }
        let mut leads: BTreeMap<u32, usize> = (1..=3).map(|node| (node, 0)).collect();
        for leader in led_by {
            *leads.get_mut(&leader).unwrap() += 1;
        }
        leads
    }
}

#[test]
fn leaders_are_spread_and_then_stay() {
    assert_eq!(Cluster::of_three(vec![1; 9]).after(), BTreeMap::from([(1, 3), (2, 3), (3, 3)]));
    assert_eq!(Cluster::of_three(vec![1, 1, 2, 2, 3]).plan(), vec![]);
    assert_eq!(Cluster::of_three(vec![1, 1, 1, 2]).plan().len(), 1);
}

#[test]
fn leaders_leave_a_draining_node_at_once() {
    let mut cluster = Cluster::of_three(vec![1, 2, 3, 1]);
    cluster.map.nodes.get_mut(&NodeId(1)).unwrap().state = NodeState::Draining;
    assert_eq!(cluster.after(), BTreeMap::from([(1, 0), (2, 2), (3, 2)]));
    assert!(cluster.plan().iter().all(|transfer| transfer.urgent));
}

#[test]
fn leaders_leave_a_node_whose_flushes_are_slow_but_not_if_all_are() {
    let mut cluster = Cluster::of_three(vec![1, 2, 3]);
    cluster.flush_us = BTreeMap::from([(1, 80_000), (2, 500), (3, 500)]);
    assert_eq!(cluster.after(), BTreeMap::from([(1, 0), (2, 2), (3, 1)]));
    cluster.flush_us = BTreeMap::from([(1, 80_000), (2, 60_000), (3, 60_000)]);
    assert_eq!(cluster.plan(), vec![]);
    cluster.flush_us = BTreeMap::from([(1, 5_000), (2, 50), (3, 50)]);
    assert_eq!(cluster.plan(), vec![]);
}

#[test]
fn a_voter_that_is_silent_or_behind_is_not_asked_to_lead() {
    let mut cluster = Cluster::of_three(vec![1; 6]);
    cluster.silent = Some(2);
    assert_eq!(cluster.after(), BTreeMap::from([(1, 3), (2, 0), (3, 3)]));
    cluster.behind = Some(3);
    assert_eq!(cluster.plan(), vec![]);
}
