//! Where a new chunk goes: its PG, and the drive that stands in for one that takes no writes.
//!
//! Owns no state and no randomness: the caller knows what is usable now and brings a random number.

use crate::{
    load::mix,
    map::{ClusterMap, Domain, PlacementGroup},
};
use ashlar_types::{DriveId, PgId, Profile, ProfileId};
use std::collections::BTreeSet;

/// PGs that are drawn at random before they are looked at in turn.
const DRAWS: usize = 64;

/// PGs looked at in turn before the best one that can acknowledge by itself is taken: a search that has met none
/// whole by then is in a cluster where a node is down and hardly any PG is whole.
const LOOKED_AT_MAX: usize = 256;

/// A random PG of the profile whose slots are all usable; else one with as many usable slots as can be found,
/// as long as other usable drives can stand in up to the acknowledgement quorum. `None`: nothing can acknowledge.
pub fn choose_pg(
    map: &ClusterMap,
    profile: ProfileId,
    usable: impl Fn(DriveId) -> bool,
    random: u64,
) -> Option<PgId> {
    let known = map.profiles.get(&profile)?;
    let (quorum, whole) = (usize::from(known.ack_quorum()), usize::from(known.slots()));
    let mut best: Option<(usize, PgId)> = None;
    for (looked_at, (id, pg)) in candidates(map, profile, random).enumerate() {
        let usable_slots = targets(pg).filter(|drive| usable(*drive)).count();
        if usable_slots == whole {
            return Some(id);
        }
        if best.is_none_or(|(most, _)| usable_slots > most) {
            best = Some((usable_slots, id));
        }
        if looked_at >= DRAWS + LOOKED_AT_MAX && best.is_some_and(|(most, _)| most >= quorum) {
            break;
        }
    }
    let (usable_slots, id) = best?;
    let pg = map.pgs.get(&id)?;
    let can_stand_in =
        || map.placeable().filter(|(drive, _)| usable(*drive) && !targets(pg).any(|t| t == *drive));
    (usable_slots >= quorum || usable_slots + can_stand_in().take(quorum).count() >= quorum).then_some(id)
}

/// PGs of a profile: some drawn, then all in turn from a random one on. Drawing first keeps the PG behind a run
/// of broken ones from being chosen in the place of them all.
fn candidates(
    map: &ClusterMap,
    profile: ProfileId,
    random: u64,
) -> impl Iterator<Item = (PgId, &PlacementGroup)> {
    let first = map.pgs.first_key_value().map_or(0, |(id, _)| id.0);
    let count = u64::from(map.pgs.last_key_value().map_or(0, |(id, _)| id.0) - first) + 1;
    let drawn = move |draw| {
        let offset = u32::try_from(mix(random, draw) % count).expect("an offset between two u32 is a u32");
        PgId(first + offset)
    };
    let draws = (1..).map(drawn).take(DRAWS).filter_map(|id| Some((id, map.pgs.get(&id)?)));
    let start = drawn(0);
    let in_turn = map.pgs.range(start..).chain(map.pgs.range(..start)).map(|(id, pg)| (*id, pg));
    draws.chain(in_turn).filter(move |(_, pg)| pg.profile == profile)
}

/// The drives that take new shards of a PG.
fn targets(pg: &PlacementGroup) -> impl Iterator<Item = DriveId> {
    pg.slots.iter().filter_map(|slot| slot.next.or(slot.current))
}

/// A usable drive outside the PG and outside `taken` (the drives that this chunk has already) for a slot whose
/// own drive takes no writes: where the chunk has no more than m slots in a domain, and of those on the least used
/// node and in the least used domain; at random among equals.
pub fn handoff(
    map: &ClusterMap,
    pg: PgId,
    taken: &BTreeSet<DriveId>,
    usable: impl Fn(DriveId) -> bool,
    random: u64,
) -> Option<DriveId> {
    let pg = map.pgs.get(&pg)?;
    let profile = map.profiles.get(&pg.profile)?;
    let own: BTreeSet<DriveId> = targets(pg).collect();
    let holding: BTreeSet<DriveId> =
        own.iter().copied().filter(|drive| usable(*drive)).chain(taken.iter().copied()).collect();
    let used = Used::by(map, profile, &holding);
    map.placeable()
        .map(|(id, _)| id)
        .filter(|id| !own.contains(id) && !taken.contains(id) && usable(*id))
        .min_by_key(|id| (used.crowding(map, *id), mix(random, u64::from(id.0))))
}

/// The domains that a chunk already has.
struct Used<'a> {
    profile: &'a Profile,
    nodes: Vec<u32>,
    domains: Vec<Domain>,
}

impl<'a> Used<'a> {
    fn by(map: &ClusterMap, profile: &'a Profile, drives: &BTreeSet<DriveId>) -> Self {
        Self {
            profile,
            nodes: drives.iter().filter_map(|id| Some(map.drive_node(*id)?.0.0)).collect(),
            domains: drives.iter().filter_map(|id| map.domain_of(*id, profile.domain)).collect(),
        }
    }

    /// Over the limit, slots on the node, slots in the domain.
    fn crowding(&self, map: &ClusterMap, drive: DriveId) -> (bool, usize, usize) {
        let node = map.drive_node(drive).map(|(id, _)| id.0);
        let domain = map.domain_of(drive, self.profile.domain);
        let same_node = self.nodes.iter().filter(|other| Some(**other) == node).count();
        let same_domain = self.domains.iter().filter(|other| Some(*other) == domain.as_ref()).count();
        (same_domain >= usize::from(self.profile.m().max(1)), same_node, same_domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        default_pg_count, default_profile, plan_initial,
        testing::{PROFILE, cluster, with_pgs},
    };
    use ashlar_types::{FailureDomain, NodeId};
    use proptest::prelude::*;

    fn settled(nodes: usize, drives: usize) -> ClusterMap {
        let map = cluster(nodes, drives);
        let profile = default_profile(&map).unwrap();
        let pgs = default_pg_count(&map, &profile);
        with_pgs(map, profile, pgs)
    }

    fn usable_slots(map: &ClusterMap, pg: PgId, usable: impl Fn(DriveId) -> bool) -> usize {
        targets(&map.pgs[&pg]).filter(|drive| usable(*drive)).count()
    }

    #[test]
    fn every_whole_group_is_chosen_about_equally_often() {
        let mut map = settled(12, 2);
        let second = ProfileId(2);
        map.profiles.insert(second, Profile::new(2, 2, FailureDomain::Node).unwrap());
        let more = plan_initial(&map, second, 50);
        let from = map.pgs.last_key_value().unwrap().0.0 + 1;
        map.pgs.extend((from..).map(PgId).zip(more));
        let whole: Vec<PgId> = map
            .pgs
            .iter()
            .filter(|(_, pg)| pg.profile == second && targets(pg).all(|drive| drive != DriveId(5)))
            .map(|(id, _)| *id)
            .collect();
        assert!(whole.len() < 50);
        let mut chosen = vec![0; whole.len()];
        for random in 0..20_000 {
            let pg = choose_pg(&map, second, |drive| drive != DriveId(5), random).unwrap();
            chosen[whole.iter().position(|id| *id == pg).unwrap()] += 1;
        }
        let mean = 20_000 / whole.len();
        assert!(chosen.iter().all(|times| (mean * 6 / 10..mean * 14 / 10).contains(times)), "{chosen:?}");
    }

    proptest! {
        #[test]
        fn the_choice_is_as_whole_as_any_and_can_be_acknowledged(
            nodes in 1_usize..8, drives in 1_usize..4, random: u64,
            down in proptest::collection::btree_set(1_u32..20, 0..10),
        ) {
            let map = settled(nodes, drives);
            let usable = |drive: DriveId| !down.contains(&drive.0);
            let up = map.placeable().filter(|(id, _)| usable(*id)).count();
            let quorum = usize::from(map.profiles[&PROFILE].ack_quorum());
            let most = map.pgs.keys().map(|pg| usable_slots(&map, *pg, usable)).max().unwrap();
            let chosen = choose_pg(&map, PROFILE, usable, random);
            prop_assert_eq!(chosen.is_some(), up >= quorum);
            if let Some(pg) = chosen {
                let slots = usable_slots(&map, pg, usable);
                prop_assert!(slots == most || (map.pgs.len() > LOOKED_AT_MAX && slots >= quorum));
                let mut taken: BTreeSet<DriveId> = targets(&map.pgs[&pg]).filter(|id| usable(*id)).collect();
                while taken.len() < quorum {
                    let drive = handoff(&map, pg, &taken, usable, random).unwrap();
                    prop_assert!(usable(drive) && taken.insert(drive));
                }
            }
        }
    }

    #[test]
    fn among_few_groups_the_most_usable_is_found_whatever_is_drawn() {
        let map = settled(7, 2);
        assert!(map.pgs.len() < LOOKED_AT_MAX);
        let usable = |drive: DriveId| ![2, 5, 6, 9, 12, 13].contains(&drive.0);
        let most = map.pgs.keys().map(|pg| usable_slots(&map, *pg, usable)).max().unwrap();
        for random in 0..500 {
            let chosen = choose_pg(&map, PROFILE, usable, random).unwrap();
            assert_eq!(usable_slots(&map, chosen, usable), most);
        }
    }

    #[test]
    fn an_unknown_profile_or_no_group_chooses_nothing() {
        let mut map = settled(4, 2);
        assert_eq!(choose_pg(&map, ProfileId(9), |_| true, 1), None);
        map.pgs.clear();
        assert_eq!(choose_pg(&map, PROFILE, |_| true, 1), None);
    }

    #[test]
    fn a_moving_slot_is_usable_where_it_moves_to() {
        let mut map = settled(1, 6);
        map.pgs.retain(|id, _| *id == PgId(1));
        let pg = map.pgs.get_mut(&PgId(1)).unwrap();
        let from = pg.slots[0].current.unwrap();
        pg.slots[0].next = Some(DriveId(77));
        assert_eq!(usable_slots(&map, PgId(1), |drive| drive != from), 6);
        assert_eq!(choose_pg(&map, PROFILE, |drive| drive != from, 3), Some(PgId(1)));
    }

    #[test]
    fn a_handoff_goes_to_a_free_node_first_and_then_to_any_drive() {
        let map = settled(7, 2);
        let pg = PgId(1);
        let own: BTreeSet<DriveId> = targets(&map.pgs[&pg]).collect();
        let nodes: BTreeSet<NodeId> = own.iter().map(|drive| map.drives[drive].node).collect();
        let down = *own.first().unwrap();
        let home = map.drives[&down].node;
        let mut taken: BTreeSet<DriveId> = own.iter().copied().filter(|drive| *drive != down).collect();
        let usable = |drive| drive != down;
        let mut by_turn = BTreeSet::new();
        for random in 0..64 {
            by_turn.insert(handoff(&map, pg, &taken, usable, random).unwrap());
        }
        assert!(
            by_turn
                .iter()
                .all(|drive| map.drives[drive].node == home || !nodes.contains(&map.drives[drive].node))
        );
        assert_eq!(by_turn.len(), 3);
        taken.extend(by_turn);
        let crowded = handoff(&map, pg, &taken, usable, 1).unwrap();
        assert!(!taken.contains(&crowded) && crowded != down);
        taken.extend(map.drives.keys());
        assert_eq!(handoff(&map, pg, &taken, usable, 1), None);
    }
}
