//! What a change of the cluster would cost before it is made.
//!
//! Answers for acting sets as they are stored: versions that lack a shard have less margin than their PG, and
//! are the business of the repair rows.

use crate::{
    map::{ClusterMap, Drive, DriveState, Node, NodeState, PlacementGroup, Slot},
    plan::{Move, plan_moves},
};
use ashlar_types::{DriveId, NodeId, PgId};
use std::collections::BTreeSet;

/// A change that somebody thinks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node pauses, with all that is on its drives.
    Stop(NodeId),
    StopDrive(DriveId),
    /// A node is emptied, then left out.
    Drain(NodeId),
    DrainDrive(DriveId),
    /// What was there is gone and is rebuilt elsewhere.
    Lose(NodeId),
    LoseDrive(DriveId),
    /// Nodes that are known already may get drives too.
    Add {
        nodes: Vec<(NodeId, Node)>,
        drives: Vec<(DriveId, Drive)>,
    },
    /// A drive is lost and a new one, in the same node or in another, takes its load.
    Replace {
        lost: DriveId,
        by: (DriveId, Drive),
    },
}

/// What a change brings about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impact {
    /// PGs of which fewer than k slots can be read: data would be out of reach, or lost.
    pub unreadable: Vec<PgId>,
    /// PGs that could not acknowledge, even with handoff to every drive that is up.
    pub unwritable: Vec<PgId>,
    /// Slots that would move because of the change.
    pub moved_slots: usize,
}

/// The impact of a change while the drives in `down` do not answer.
pub fn what_if(map: &ClusterMap, change: Change, down: &BTreeSet<DriveId>) -> Impact {
    let mut after = map.clone();
    let mut down = down.clone();
    apply(&mut after, change, &mut down);
    let moved_slots = if after == *map {
        0
    } else {
        let slot = |step: &Move| (step.pg, step.slot);
        let due_anyway: BTreeSet<_> = plan_moves(map).iter().map(slot).collect();
        plan_moves(&after).iter().map(slot).filter(|slot| !due_anyway.contains(slot)).count()
    };
    Impact {
        unreadable: affected(&after, |pg| readable_slots(&after, pg, &down) < data_slots(&after, pg)),
        unwritable: affected(&after, |pg| writable_drives(&after, pg, &down) < quorum(&after, pg)),
        moved_slots,
    }
}

fn apply(map: &mut ClusterMap, change: Change, down: &mut BTreeSet<DriveId>) {
    match change {
        Change::Stop(node) => {
            down.extend(map.drives.iter().filter(|(_, d)| d.node == node).map(|(id, _)| *id))
        }
        Change::StopDrive(drive) => {
            down.insert(drive);
        }
        Change::Drain(node) => set_node(map, node, NodeState::Draining),
        Change::DrainDrive(drive) => set_drive(map, drive, DriveState::Draining),
        Change::Lose(node) => set_node(map, node, NodeState::Out),
        Change::LoseDrive(drive) => set_drive(map, drive, DriveState::Out),
        Change::Add { nodes, drives } => {
            map.nodes.extend(nodes);
            map.drives.extend(drives);
        }
        Change::Replace { lost, by: (id, drive) } => {
            set_drive(map, lost, DriveState::Out);
            map.drives.insert(id, drive);
        }
    }
}

fn set_node(map: &mut ClusterMap, node: NodeId, state: NodeState) {
    if let Some(node) = map.nodes.get_mut(&node) {
        node.state = state;
    }
}

fn set_drive(map: &mut ClusterMap, drive: DriveId, state: DriveState) {
    if let Some(drive) = map.drives.get_mut(&drive) {
        drive.state = state;
    }
}

fn affected(map: &ClusterMap, hit: impl Fn(&PlacementGroup) -> bool) -> Vec<PgId> {
    map.pgs.iter().filter(|(_, pg)| hit(pg)).map(|(id, _)| *id).collect()
}

fn data_slots(map: &ClusterMap, pg: &PlacementGroup) -> usize {
    map.profiles.get(&pg.profile).map_or(0, |profile| usize::from(profile.k()))
}

fn quorum(map: &ClusterMap, pg: &PlacementGroup) -> usize {
    map.profiles.get(&pg.profile).map_or(0, |profile| usize::from(profile.ack_quorum()))
}

/// Slots that can be read whatever the version: while a slot moves, old shards are on one drive and new ones on
/// the other.
fn readable_slots(map: &ClusterMap, pg: &PlacementGroup, down: &BTreeSet<DriveId>) -> usize {
    let holds = |drive: DriveId| {
        let known = map.drives.get(&drive).is_some_and(|known| {
            known.state != DriveState::Out
                && map.nodes.get(&known.node).is_some_and(|node| node.state != NodeState::Out)
        });
        known && !down.contains(&drive)
    };
    let readable = |slot: &&Slot| slot.current.is_some_and(holds) && slot.next.is_none_or(holds);
    pg.slots.iter().filter(readable).count()
}

/// Distinct drives that could take a shard, up to the quorum: any that may be given slots may stand in. A
/// draining drive does not count, because the answer has to hold when it is empty.
fn writable_drives(map: &ClusterMap, pg: &PlacementGroup, down: &BTreeSet<DriveId>) -> usize {
    let enough = quorum(map, pg);
    map.placeable().filter(|(id, _)| !down.contains(id)).take(enough).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        default_pg_count, default_profile,
        testing::{PROFILE, TIB, cluster, drive, node, with_pgs},
    };
    use proptest::prelude::*;

    fn settled(nodes: usize, drives: usize) -> ClusterMap {
        let map = cluster(nodes, drives);
        let profile = default_profile(&map).unwrap();
        let pgs = default_pg_count(&map, &profile);
        with_pgs(map, profile, pgs)
    }

    fn nobody() -> BTreeSet<DriveId> {
        BTreeSet::new()
    }

    proptest! {
        #[test]
        fn stopping_m_nodes_of_a_spread_cluster_hides_nothing(
            stopped in proptest::collection::btree_set(1_u32..7, 1..4),
        ) {
            let map = settled(6, 2);
            let last = NodeId(*stopped.last().unwrap());
            let down: BTreeSet<DriveId> = map
                .drives
                .iter()
                .filter(|(_, drive)| stopped.contains(&drive.node.0) && drive.node != last)
                .map(|(id, _)| *id)
                .collect();
            let impact = what_if(&map, Change::Stop(last), &down);
            prop_assert_eq!(impact.unreadable.len(), if stopped.len() <= 2 { 0 } else { map.pgs.len() });
            let up = map.drives.len() - 2 * stopped.len();
            prop_assert_eq!(impact.unwritable.len(), if up >= 5 { 0 } else { map.pgs.len() });
            prop_assert_eq!(impact.moved_slots, 0);
        }
    }

    #[test]
    fn with_one_drive_a_node_a_second_stop_ends_writes_before_reads() {
        let map = settled(6, 1);
        assert_eq!(what_if(&map, Change::Stop(NodeId(1)), &nobody()), Impact::default());
        let second = what_if(&map, Change::StopDrive(DriveId(2)), &BTreeSet::from([DriveId(1)]));
        assert!(second.unreadable.is_empty());
        assert_eq!(second.unwritable.len(), map.pgs.len());
    }

    #[test]
    fn only_groups_that_lose_too_many_slots_are_unreadable() {
        let map = settled(8, 2);
        let down = BTreeSet::from([DriveId(1), DriveId(3)]);
        let impact = what_if(&map, Change::LoseDrive(DriveId(5)), &down);
        let hit = |pg: &PlacementGroup| {
            pg.slots.iter().filter(|slot| matches!(slot.current, Some(DriveId(1 | 3 | 5)))).count()
        };
        let expected: Vec<PgId> = map.pgs.iter().filter(|(_, pg)| hit(pg) > 2).map(|(id, _)| *id).collect();
        assert!(!expected.is_empty() && expected.len() < map.pgs.len());
        assert_eq!(impact.unreadable, expected);
        let on_it =
            map.pgs.values().flat_map(|pg| &pg.slots).filter(|s| s.current == Some(DriveId(5))).count();
        assert_eq!(impact.moved_slots, on_it);
    }

    #[test]
    fn a_slot_on_the_move_counts_only_while_both_drives_are_there() {
        let mut map = with_pgs(cluster(1, 3), "1+1".parse().unwrap(), 1);
        let slots = &mut map.pgs.get_mut(&PgId(1)).unwrap().slots;
        let free =
            (1..=3).map(DriveId).find(|id| slots.iter().all(|slot| slot.current != Some(*id))).unwrap();
        slots[0].next = Some(free);
        let other = slots[1].current.unwrap();
        let impact = what_if(&map, Change::StopDrive(free), &BTreeSet::from([other]));
        assert_eq!(impact.unreadable, [PgId(1)]);
    }

    #[test]
    fn a_drain_moves_what_the_node_holds_and_hides_nothing() {
        let map = settled(7, 2);
        let held = map
            .pgs
            .values()
            .flat_map(|pg| &pg.slots)
            .filter(|slot| map.drives[&slot.current.unwrap()].node == NodeId(4))
            .count();
        for change in [Change::Drain(NodeId(4)), Change::Lose(NodeId(4))] {
            let impact = what_if(&map, change, &nobody());
            assert_eq!(impact, Impact { moved_slots: held, ..Impact::default() });
        }
        let small = settled(4, 1);
        let impact = what_if(&small, Change::Drain(NodeId(1)), &BTreeSet::from([DriveId(2)]));
        assert_eq!(impact.unwritable.len(), small.pgs.len());
    }

    #[test]
    fn an_added_node_takes_its_share_and_a_replacement_takes_the_load_of_the_lost() {
        let map = settled(6, 2);
        let slots = map.pgs.len() * usize::from(map.profiles[&PROFILE].slots());
        let new = DriveId(50);
        let added = what_if(
            &map,
            Change::Add {
                nodes: vec![(NodeId(7), node(7, ""))],
                drives: vec![(new, drive(new, NodeId(7), TIB))],
            },
            &nobody(),
        );
        assert!((slots / 13 * 9 / 10..=slots / 13 + 1).contains(&added.moved_slots), "{}", added.moved_slots);
        let replaced = what_if(
            &map,
            Change::Replace { lost: DriveId(1), by: (new, drive(new, NodeId(1), TIB)) },
            &nobody(),
        );
        assert_eq!(replaced.moved_slots, 100);
    }

    #[test]
    fn what_is_due_anyway_is_not_put_down_to_the_change() {
        let mut map = settled(8, 2);
        set_drive(&mut map, DriveId(1), DriveState::Out);
        let stop = what_if(&map, Change::Stop(NodeId(2)), &nobody());
        assert_eq!(stop.moved_slots, 0);
        let lose = what_if(&map, Change::LoseDrive(DriveId(5)), &nobody());
        let held =
            map.pgs.values().flat_map(|pg| &pg.slots).filter(|s| s.current == Some(DriveId(5))).count();
        assert!((held..held + 10).contains(&lose.moved_slots), "{} for {held}", lose.moved_slots);
    }
}
