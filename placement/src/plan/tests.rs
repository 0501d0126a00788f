use super::*;
use crate::{
    DriveState, NodeState, default_pg_count, default_profile,
    testing::{PROFILE, TIB, add_drive, cluster, cluster_of, moved, node, weighted, with_pgs},
};
use ashlar_types::{FailureDomain, NodeId, Profile};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn profile(k: u8, m: u8, level: FailureDomain) -> Profile {
    Profile::new(k, m, level).unwrap()
}

/// The default profile and number of PGs on a map.
fn settled(map: ClusterMap) -> ClusterMap {
    let profile = default_profile(&map).unwrap();
    let pgs = default_pg_count(&map, &profile);
    with_pgs(map, profile, pgs)
}

fn drives_of(pg: &PlacementGroup) -> Vec<DriveId> {
    pg.slots.iter().filter_map(|slot| slot.next.or(slot.current)).collect()
}

fn assert_drives_are_distinct(map: &ClusterMap) {
    for (id, pg) in &map.pgs {
        let drives = drives_of(pg);
        assert_eq!(drives.iter().collect::<BTreeSet<_>>().len(), drives.len(), "PG {id}: {drives:?}");
    }
}

/// Slots of each PG in its fullest domain.
fn fullest(map: &ClusterMap, level: FailureDomain) -> usize {
    let in_pg = |pg| {
        let mut used: BTreeMap<_, usize> = BTreeMap::new();
        for drive in drives_of(pg) {
            *used.entry(map.domain_of(drive, level).unwrap()).or_default() += 1;
        }
        used.into_values().max().unwrap_or_default()
    };
    map.pgs.values().map(in_pg).max().unwrap_or_default()
}

/// The fewest slots that the fullest node of a PG must hold, by trying upwards.
fn unavoidable(nodes: &[usize], slots: usize) -> usize {
    (1..).find(|most| nodes.iter().map(|drives| most.min(drives)).sum::<usize>() >= slots).unwrap()
}

fn load(map: &ClusterMap) -> BTreeMap<DriveId, usize> {
    let mut load: BTreeMap<DriveId, usize> = map.placeable().map(|(id, _)| (id, 0)).collect();
    for drive in map.pgs.values().flat_map(drives_of) {
        *load.entry(drive).or_default() += 1;
    }
    load
}

/// Every drive has its share by weight, but for `percent` and two slots.
fn assert_balanced(map: &ClusterMap, percent: f64) {
    let load = load(map);
    let slots: usize = load.values().sum();
    let capacity: u64 = map.placeable().map(|(_, drive)| drive.capacity_bytes).sum();
    for (id, drive) in map.placeable() {
        let share = slots as f64 * drive.capacity_bytes as f64 / capacity as f64;
        let off = (load[&id] as f64 - share).abs();
        assert!(off <= share * percent / 100.0 + 2.0, "drive {id} has {} slots for {share:.1}", load[&id]);
    }
}

fn any_drive(map: &ClusterMap, which: proptest::sample::Index) -> DriveId {
    *which.get(&map.drives.keys().copied().collect::<Vec<_>>())
}

fn set_drive(map: &mut ClusterMap, drive: u32, state: DriveState) {
    map.drives.get_mut(&DriveId(drive)).unwrap().state = state;
}

fn set_node(map: &mut ClusterMap, node: u32, state: NodeState) {
    map.nodes.get_mut(&NodeId(node)).unwrap().state = state;
}

/// Carries the plan out and asserts that there is nothing left to do.
fn carried_out(map: &ClusterMap) -> ClusterMap {
    let after = moved(map.clone(), &plan_moves(map));
    assert_eq!(plan_moves(&after), []);
    assert_drives_are_distinct(&after);
    after
}

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1_usize..7, 1..16)
}

fn alike() -> impl Strategy<Value = Vec<usize>> {
    (1_usize..16, 1_usize..7).prop_map(|(nodes, drives)| vec![drives; nodes])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn acting_sets_are_distinct_spread_and_final(shape in shapes()) {
        let map = settled(cluster_of(&shape));
        let profile = map.profiles[&PROFILE];
        let slots = usize::from(profile.slots());
        assert_drives_are_distinct(&map);
        prop_assert!(map.pgs.values().all(|pg| drives_of(pg).len() == slots));
        prop_assert_eq!(fullest(&map, FailureDomain::Node), unavoidable(&shape, slots));
        prop_assert!(fullest(&map, profile.domain) <= usize::from(profile.m().max(1)));
        let plan = plan(&map);
        prop_assert_eq!(&plan.moves, &vec![]);
        let bare = [Warning::NoRedundancy { profile: PROFILE }];
        prop_assert_eq!(&plan.warnings[..], if profile.m() == 0 { &bare[..] } else { &[] });
        prop_assert_eq!(&plan_initial(&map, PROFILE, 9), &plan_initial(&map, PROFILE, 9));
    }

    #[test]
    fn when_a_drive_goes_out_only_its_slots_move(shape in prop_oneof![alike(), shapes()], lost: proptest::sample::Index) {
        let mut map = settled(cluster_of(&shape));
        let lost = any_drive(&map, lost).0;
        let held = load(&map)[&DriveId(lost)];
        set_drive(&mut map, lost, DriveState::Out);
        let plan = plan(&map);
        let (its_own, others): (Vec<Move>, Vec<Move>) =
            plan.moves.iter().copied().partition(|step: &Move| step.from == Some(DriveId(lost)));
        prop_assert_eq!(its_own.len(), held);
        let room = map.placeable().count() >= usize::from(map.profiles[&PROFILE].slots());
        prop_assert!(its_own.iter().all(|step| step.to.is_some() == room && step.to != step.from));
        // Where nodes differ, the loss may make another imbalance unavoidable, or open a place for a crowded node.
        let alike = shape.iter().all(|drives| *drives == shape[0]);
        prop_assert!(others.is_empty() || !alike, "{others:?}");
        carried_out(&map);
    }

    #[test]
    fn any_sequence_of_losses_and_additions_settles_in_one_plan(
        shape in proptest::collection::vec(1_usize..5, 3..10),
        changes in proptest::collection::vec((0_u8..4, any::<proptest::sample::Index>()), 1..6),
    ) {
        let mut map = settled(cluster_of(&shape));
        for (change, which) in changes {
            let drive = any_drive(&map, which).0;
            let on = map.drives[&DriveId(drive)].node;
            match change {
                0 => set_drive(&mut map, drive, DriveState::Out),
                1 => set_drive(&mut map, drive, DriveState::Draining),
                2 => set_node(&mut map, on.0, NodeState::Draining),
                _ => { add_drive(&mut map, on, 2 * TIB); }
            }
            map = carried_out(&map);
            let limit = usize::from(map.profiles[&PROFILE].m().max(1));
            let warned = plan(&map).warnings.iter().any(|warning| {
                matches!(warning, Warning::MoreThanParityInOneDomain { .. })
            });
            prop_assert_eq!(fullest(&map, map.profiles[&PROFILE].domain) > limit, warned);
        }
    }

    #[test]
    fn drives_carry_slots_by_weight(
        weights in proptest::collection::vec(proptest::collection::vec(2_u64..9, 4), 14..20),
    ) {
        let weights: Vec<Vec<u64>> =
            weights.iter().map(|node| node.iter().map(|weight| weight * TIB).collect()).collect();
        let map = weighted(&weights);
        let map = with_pgs(map, profile(4, 2, FailureDomain::Node), 1000);
        assert_balanced(&map, 2.0);
        prop_assert_eq!(plan_moves(&map), vec![]);
    }
}

#[test]
fn a_new_node_is_filled_by_moves_to_it_alone() {
    let mut map = settled(cluster(12, 4));
    map.nodes.insert(NodeId(13), node(13, ""));
    let new: Vec<DriveId> = (0..4).map(|_| add_drive(&mut map, NodeId(13), TIB)).collect();
    let moves = plan_moves(&map);
    assert!(moves.iter().all(|step| new.contains(&step.to.unwrap())));
    let share = 4 * load(&map).values().sum::<usize>() / 52;
    assert!((share * 9 / 10..=share).contains(&moves.len()), "{} moves for {share} slots", moves.len());
    let after = carried_out(&map);
    assert_balanced(&after, 4.0);
    assert_eq!(fullest(&after, FailureDomain::Node), 1);
}

#[test]
fn doubling_three_nodes_gives_each_slot_a_node_of_its_own() {
    let mut map = settled(cluster(3, 4));
    assert_eq!(fullest(&map, FailureDomain::Node), 2);
    for id in 4..=6 {
        map.nodes.insert(NodeId(id), node(id, ""));
        (0..4).for_each(|_| {
            add_drive(&mut map, NodeId(id), TIB);
        });
    }
    let slots = map.pgs.len() * 6;
    assert_eq!(plan_moves(&map).len(), slots / 2);
    let after = carried_out(&map);
    assert_eq!(fullest(&after, FailureDomain::Node), 1);
    assert_balanced(&after, 4.0);
}

/// The new drive takes slots from one drive after another; each may open a place for one that was passed over.
#[test]
fn a_plan_goes_on_until_nothing_is_left_to_do() {
    let mut map = settled(cluster_of(&[1, 3, 3, 3, 1, 4]));
    for lost in [11, 1, 2] {
        set_drive(&mut map, lost, DriveState::Out);
        map = carried_out(&map);
    }
    add_drive(&mut map, NodeId(6), 2 * TIB);
    carried_out(&map);
}

#[test]
fn racks_hold_at_most_m_slots_each() {
    let mut map = cluster(9, 3);
    for (id, node) in &mut map.nodes {
        node.labels.rack = format!("rack {}", id.0 % 3);
    }
    let racks = with_pgs(map.clone(), profile(4, 2, FailureDomain::Rack), 200);
    assert_eq!((fullest(&racks, FailureDomain::Rack), fullest(&racks, FailureDomain::Node)), (2, 1));
    assert_balanced(&racks, 3.0);
    assert_eq!(plan(&racks), Plan::default());

    let too_wide = with_pgs(map, profile(6, 2, FailureDomain::Rack), 200);
    let [warning] = plan(&too_wide).warnings.try_into().unwrap();
    assert_eq!(
        warning,
        Warning::MoreThanParityInOneDomain {
            profile: PROFILE,
            level: FailureDomain::Rack,
            first: PgId(1),
            pgs: 200,
            most: 3,
            limit: 2
        }
    );
}

/// One node of rack 0, five of rack 1 and of rack 2: sparing rack 0 a second slot would put three in another.
#[test]
fn the_parity_limit_comes_before_the_spread_over_nodes() {
    let mut map = cluster(11, 4);
    for (id, node) in &mut map.nodes {
        node.labels.rack = format!("rack {}", (id.0 + 3) / 5);
    }
    let map = with_pgs(map, profile(4, 2, FailureDomain::Rack), 100);
    assert_eq!((fullest(&map, FailureDomain::Rack), fullest(&map, FailureDomain::Node)), (2, 2));
    assert_eq!(plan(&map).moves, []);
}

#[test]
fn a_drained_node_is_emptied_and_its_slots_spread() {
    let mut map = settled(cluster(7, 4));
    set_node(&mut map, 3, NodeState::Draining);
    let moves = plan_moves(&map);
    assert!(moves.iter().all(|step| map.drives[&step.from.unwrap()].node == NodeId(3)));
    let after = carried_out(&map);
    assert!(load(&after).iter().all(|(drive, slots)| map.drives[drive].node != NodeId(3) || *slots == 0));
    assert_balanced(&after, 4.0);
    assert_eq!(fullest(&after, FailureDomain::Node), 1);
}

#[test]
fn a_drain_that_would_break_the_parity_limit_is_refused_and_a_loss_is_mended() {
    let map = settled(cluster(3, 4));
    let mut draining = map.clone();
    set_node(&mut draining, 2, NodeState::Draining);
    let refused = plan(&draining);
    assert_eq!(refused.moves, []);
    assert_eq!(refused.warnings.len(), 4);
    assert!(matches!(refused.warnings[0], Warning::DrainBlocked { drive: DriveId(5), slots: 100 }));

    let mut lost = map.clone();
    set_node(&mut lost, 2, NodeState::Out);
    let mended = plan(&lost);
    assert_eq!(mended.moves.len(), 400);
    assert!(mended.moves.iter().all(|step| step.to.is_some()));
    let [Warning::MoreThanParityInOneDomain { pgs: 200, most: 3, limit: 2, .. }] = mended.warnings[..] else {
        panic!("{:?}", mended.warnings);
    };
    let mut returned = carried_out(&lost);
    set_node(&mut returned, 2, NodeState::Member);
    let returned = carried_out(&returned);
    assert_eq!(fullest(&returned, FailureDomain::Node), 2);
    assert_balanced(&returned, 4.0);
}

#[test]
fn a_slot_without_a_drive_waits_for_one() {
    let mut map = settled(cluster(1, 6));
    set_drive(&mut map, 2, DriveState::Out);
    let short = plan(&map);
    assert!(short.moves.iter().all(|step| step.from == Some(DriveId(2)) && step.to.is_none()));
    assert_eq!(short.warnings, [Warning::NoDriveLeft { profile: PROFILE, first: PgId(1), slots: 100 }]);
    let mut map = carried_out(&map);
    let new = add_drive(&mut map, NodeId(1), TIB);
    let moves = plan_moves(&map);
    assert_eq!(moves.len(), 100);
    assert!(moves.iter().all(|step| step.from.is_none() && step.to == Some(new)));
}

#[test]
fn a_moving_slot_is_never_moved_again() {
    let mut map = settled(cluster(7, 2));
    let moves = {
        let mut draining = map.clone();
        set_drive(&mut draining, 1, DriveState::Draining);
        plan_moves(&draining)
    };
    for step in &moves {
        map.pgs.get_mut(&step.pg).unwrap().slots[usize::from(step.slot.0)].next = step.to;
    }
    set_drive(&mut map, 1, DriveState::Draining);
    assert_eq!(plan(&map), Plan::default());

    let target = moves[0].to.unwrap();
    set_drive(&mut map, target.0, DriveState::Out);
    let plan = plan(&map);
    let stuck = moves.iter().filter(|step| step.to == Some(target)).count();
    assert_eq!(plan.warnings.len(), stuck);
    assert!(matches!(plan.warnings[0], Warning::MovingToUnplaceable { drive, .. } if drive == target));
    assert!(plan.moves.iter().all(|step| moves.iter().all(|m| (m.pg, m.slot) != (step.pg, step.slot))));
}

#[test]
fn groups_that_have_lost_the_most_come_first() {
    let mut map = settled(cluster(8, 2));
    set_drive(&mut map, 1, DriveState::Out);
    set_drive(&mut map, 3, DriveState::Out);
    set_drive(&mut map, 6, DriveState::Draining);
    let moves = plan_moves(&map);
    let rank = |step: &Move| {
        let out = |drive: Option<DriveId>| matches!(drive, Some(DriveId(1 | 3)));
        let lost = map.pgs[&step.pg].slots.iter().filter(|slot| out(slot.current)).count();
        if out(step.from) { 3 - lost } else { 3 }
    };
    let ranks: Vec<usize> = moves.iter().map(rank).collect();
    assert!(ranks.is_sorted());
    assert_eq!(ranks.iter().collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn data_and_parity_slots_are_shared_by_all_drives() {
    let map = settled(weighted(&[
        vec![TIB; 4],
        vec![TIB; 4],
        vec![TIB; 4],
        vec![TIB; 4],
        vec![TIB; 4],
        vec![3 * TIB; 4],
    ]));
    for (id, _) in map.placeable() {
        let at = |range: std::ops::Range<usize>| {
            map.pgs
                .values()
                .filter(|pg| pg.slots[range.clone()].iter().any(|slot| slot.current == Some(id)))
                .count()
        };
        let (data, parity) = (at(0..4), at(4..6));
        assert!(parity * 4 > data && parity < data, "drive {id}: {data} data, {parity} parity");
    }
}

#[test]
fn a_drive_shares_its_groups_with_most_others() {
    let map = settled(cluster(20, 6));
    let partners: BTreeSet<DriveId> =
        map.pgs.values().map(drives_of).filter(|drives| drives.contains(&DriveId(1))).flatten().collect();
    assert!(partners.len() > 100, "{} of 120 drives", partners.len());
}
