//! Which profile a new cluster starts with, and how many placement groups carry it.
//!
//! Owns the rule, not the choice: an operator may name any k+m.

use crate::map::ClusterMap;
use ashlar_types::{FailureDomain, NodeId, Profile};
use std::collections::BTreeMap;

/// Widest first.
const CANDIDATES: [(u8, u8); 6] = [(8, 4), (6, 3), (4, 2), (3, 2), (2, 2), (1, 1)];

/// From here on every slot of a PG has a domain of its own; fewer domains have to hold two slots each.
const DOMAINS_TO_SPREAD: usize = 4;

/// Slots of one PG in a domain that has to hold several. More would only widen the stripe: it would still not
/// survive a second domain.
const SHARED_SLOTS_MAX: usize = 2;

/// Enough PGs that drives fill evenly and that a lost drive is repaired from, and to, many others.
const SLOTS_PER_DRIVE: usize = 100;

/// The widest candidate that keeps taking writes while one failure domain is gone: the drives outside the
/// largest domain are at least k + ceil(m/2), with handoff, and no domain holds more than m slots. Nodes are the
/// domains, or the drives of a cluster of one node.
///
/// Width is never bought by sharing domains: with four or more of them each slot has its own, so that losing
/// one costs one slot. Two or three domains hold at most two slots each, in even widths, which leaves 3+2 to
/// clusters of exactly five domains.
///
/// | domains | profile |
/// |---|---|
/// | 12 or more; 9-11; 6-8; 5; 4 | 8+4; 6+3; 4+2; 3+2; 2+2 |
/// | 3 nodes | 4+2 with three or more drives each, 2+2 with two, 1+1 with one |
/// | 2 nodes | 2+2 with three or more drives each, else 1+1 |
///
/// Two domains of which one has a single drive cannot acknowledge without the other, whatever the profile; they
/// get 1+1 rather than no redundancy. One drive gets 1+0. `None`: no drive may be given slots.
pub fn default_profile(map: &ClusterMap) -> Option<Profile> {
    let mut per_node: BTreeMap<NodeId, usize> = BTreeMap::new();
    for (_, drive) in map.placeable() {
        *per_node.entry(drive.node).or_default() += 1;
    }
    let drives: usize = per_node.values().sum();
    let (level, domains) = match per_node.len() {
        0 => return None,
        1 => (FailureDomain::Drive, vec![1; drives]),
        _ => (FailureDomain::Node, per_node.into_values().collect()),
    };
    let (k, m) = CANDIDATES
        .into_iter()
        .find(|(k, m)| survives_a_domain(&domains, *k, *m))
        .unwrap_or(if domains.len() > 1 { (1, 1) } else { (1, 0) });
    Some(Profile::new(k, m, level).expect("every candidate has at most 12 slots"))
}

/// `domains`: how many drives each has.
fn survives_a_domain(domains: &[usize], k: u8, m: u8) -> bool {
    let (slots, parity) = (usize::from(k + m), usize::from(m));
    let acknowledging = usize::from(k + m.div_ceil(2));
    let largest = domains.iter().copied().max().unwrap_or_default();
    let left: usize = domains.iter().sum::<usize>() - largest;
    let shared_max = SHARED_SLOTS_MAX.min(parity);
    let spread = domains.len() >= slots;
    let shared = domains.len() < DOMAINS_TO_SPREAD
        && slots.is_multiple_of(2)
        && domains.iter().map(|drives| shared_max.min(*drives)).sum::<usize>() >= slots;
    left >= acknowledging && (spread || shared)
}

/// How many PGs a profile gets on the drives that are there: about 100 slots a drive.
pub fn default_pg_count(map: &ClusterMap, profile: &Profile) -> u32 {
    let slots = map.placeable().count() * SLOTS_PER_DRIVE;
    u32::try_from(slots.div_ceil(usize::from(profile.slots()))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster, cluster_of};
    use proptest::prelude::*;

    fn published(nodes: usize, drives: usize) -> &'static str {
        match (nodes, drives) {
            (1, 1) => "1+0",
            (1, 2) => "1+1",
            (1, drives) => published(drives, 1),
            (2, 3..) | (3, 2) | (4, _) => "2+2",
            (2, _) | (3, 1) => "1+1",
            (3, _) | (6..=8, _) => "4+2",
            (5, _) => "3+2",
            (9..=11, _) => "6+3",
            _ => "8+4",
        }
    }

    #[test]
    fn every_row_of_the_published_table_holds() {
        for nodes in 1..=40 {
            for drives in 1..=26 {
                let profile = default_profile(&cluster(nodes, drives)).unwrap();
                assert_eq!(profile.to_string(), published(nodes, drives), "{nodes} nodes of {drives} drives");
                let level = if nodes == 1 { FailureDomain::Drive } else { FailureDomain::Node };
                assert_eq!(profile.domain, level);
            }
        }
    }

    #[test]
    fn a_cluster_without_drives_has_no_profile() {
        assert_eq!(default_profile(&cluster(3, 0)), None);
    }

    /// Every way to put `slots` on drives of `domains`, at most `most` in each: the slots per domain.
    fn layouts(domains: &[usize], slots: usize, most: usize) -> Vec<Vec<usize>> {
        let Some((drives, rest)) = domains.split_first() else {
            return if slots == 0 { vec![vec![]] } else { vec![] };
        };
        (0..=slots.min(most).min(*drives))
            .flat_map(|here| {
                layouts(rest, slots - here, most).into_iter().map(move |mut tail| {
                    tail.insert(0, here);
                    tail
                })
            })
            .collect()
    }

    /// The rule as it is published, by trying everything: some layout with at most m slots in a domain, and
    /// whichever domain goes, the drives of the others can acknowledge.
    fn rule_holds(domains: &[usize], k: usize, m: usize, most: usize) -> bool {
        let writable = (0..domains.len()).all(|lost| {
            let left: usize = domains.iter().enumerate().filter(|(at, _)| *at != lost).map(|(_, d)| d).sum();
            2 * left >= 2 * k + m
        });
        writable && !layouts(domains, k + m, most.min(m)).is_empty()
    }

    proptest! {
        #[test]
        fn the_default_is_the_widest_that_the_rule_allows(
            domains in proptest::collection::vec(1_usize..6, 2..7),
        ) {
            let chosen = default_profile(&cluster_of(&domains)).unwrap();
            let (k, m) = (usize::from(chosen.k()), usize::from(chosen.m()));
            let most = if domains.len() >= 4 { 1 } else { 2 };
            if !matches!(domains[..], [1, _] | [_, 1]) {
                prop_assert!(rule_holds(&domains, k, m, usize::MAX), "{chosen} breaks the rule on {domains:?}");
                prop_assert!(rule_holds(&domains, k, m, most), "{chosen} shares domains of {domains:?}");
            }
            for (wider_k, wider_m) in [(8, 4), (6, 3), (4, 2), (3, 2), (2, 2), (1, 1)] {
                if (wider_k, wider_m) == (k, m) {
                    break;
                }
                let kept_for_five = (wider_k, wider_m) == (3, 2) && domains.len() < 5;
                prop_assert!(
                    kept_for_five || !rule_holds(&domains, wider_k, wider_m, most),
                    "{wider_k}+{wider_m} would do on {domains:?}, {chosen} was taken"
                );
            }
        }
    }

    #[test]
    fn a_drive_gets_about_a_hundred_slots() {
        for (nodes, drives) in [(1, 1), (1, 6), (3, 2), (6, 4), (100, 12)] {
            let map = cluster(nodes, drives);
            let profile = default_profile(&map).unwrap();
            let slots = default_pg_count(&map, &profile) as usize * usize::from(profile.slots());
            let a_drive = slots / (nodes * drives);
            assert!((100..=105).contains(&a_drive), "{nodes} nodes of {drives}: {a_drive}");
        }
    }
}
