//! The drives of a map as dense indices: their weights, nodes and domains, and how well a drive suits a slot.
//!
//! Owns nothing that changes while a plan is made; loads are kept in [`crate::load`].

use crate::map::{ClusterMap, Domain, DriveState, NodeState};
use ashlar_types::{DriveId, FailureDomain, Profile};
use std::collections::{BTreeMap, BTreeSet};

/// Position of a drive in a [`Layout`], in the order of drive ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DriveIndex(pub(crate) usize);

/// What may be done with a drive's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Placeable,
    /// Holds what it has until it is moved.
    Draining,
    /// What was here is lost.
    Out,
}

pub(crate) struct Layout {
    pub(crate) drives: Vec<DriveId>,
    index: BTreeMap<DriveId, DriveIndex>,
    pub(crate) weights: Vec<u64>,
    standing: Vec<Standing>,
    node: Vec<usize>,
    rack: Vec<usize>,
    zone: Vec<usize>,
    /// By level: the domains with a placeable drive.
    placeable_domains: [BTreeSet<usize>; 4],
}

/// How a slot's place shares its fate with the other slots of its PG; smaller is better, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crowding {
    /// The domain would hold more slots than may be lost.
    pub(crate) over_limit: bool,
    pub(crate) same_node: usize,
    pub(crate) same_domain: usize,
}

/// What a profile asks of the places of its slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpreadRule {
    pub(crate) level: FailureDomain,
    /// Slots that one domain may hold: m, or 1 without parity.
    pub(crate) limit: usize,
}

impl SpreadRule {
    pub(crate) fn of(profile: &Profile) -> Self {
        Self { level: profile.domain, limit: usize::from(profile.m().max(1)) }
    }
}

impl Layout {
    pub(crate) fn new(map: &ClusterMap) -> Self {
        let mut layout = Self {
            drives: Vec::new(),
            index: BTreeMap::new(),
            weights: Vec::new(),
            standing: Vec::new(),
            node: Vec::new(),
            rack: Vec::new(),
            zone: Vec::new(),
            placeable_domains: Default::default(),
        };
        let mut ordinals: [BTreeMap<Domain, usize>; 4] = Default::default();
        for (id, drive) in &map.drives {
            let Some((_, node)) = map.drive_node(*id) else { continue };
            let standing = match (drive.state, node.state) {
                (DriveState::In, NodeState::Member) => Standing::Placeable,
                (DriveState::Out, _) | (_, NodeState::Out) => Standing::Out,
                (DriveState::Draining, _) | (_, NodeState::Draining) => Standing::Draining,
            };
            let at = DriveIndex(layout.drives.len());
            layout.drives.push(*id);
            layout.index.insert(*id, at);
            layout.weights.push(drive.capacity_bytes.max(1));
            layout.standing.push(standing);
            for level in [FailureDomain::Node, FailureDomain::Rack, FailureDomain::Zone] {
                let Some(domain) = map.domain_of(*id, level) else { continue };
                let known = &mut ordinals[level_index(level)];
                let next = known.len();
                let ordinal = *known.entry(domain).or_insert(next);
                match level {
                    FailureDomain::Drive => {}
                    FailureDomain::Node => layout.node.push(ordinal),
                    FailureDomain::Rack => layout.rack.push(ordinal),
                    FailureDomain::Zone => layout.zone.push(ordinal),
                }
                if standing == Standing::Placeable {
                    layout.placeable_domains[level_index(level)].insert(ordinal);
                }
            }
        }
        layout
    }

    /// `None`: the map does not know the drive, or not its node.
    pub(crate) fn find(&self, drive: DriveId) -> Option<DriveIndex> {
        self.index.get(&drive).copied()
    }

    pub(crate) fn id(&self, drive: DriveIndex) -> DriveId {
        self.drives[drive.0]
    }

    pub(crate) fn standing(&self, drive: DriveIndex) -> Standing {
        self.standing[drive.0]
    }

    pub(crate) fn placeable(&self) -> impl Iterator<Item = DriveIndex> {
        (0..self.drives.len()).map(DriveIndex).filter(|at| self.standing(*at) == Standing::Placeable)
    }

    fn domain(&self, drive: DriveIndex, level: FailureDomain) -> usize {
        match level {
            FailureDomain::Drive => drive.0,
            FailureDomain::Node => self.node[drive.0],
            FailureDomain::Rack => self.rack[drive.0],
            FailureDomain::Zone => self.zone[drive.0],
        }
    }

    /// How a slot on `drive` would stand beside `others`, the places of the other slots of its PG.
    pub(crate) fn crowding(&self, rule: SpreadRule, drive: DriveIndex, others: &[DriveIndex]) -> Crowding {
        let node = self.node[drive.0];
        let domain = self.domain(drive, rule.level);
        let same_node = others.iter().filter(|other| self.node[other.0] == node).count();
        let same_domain = match rule.level {
            FailureDomain::Node => same_node,
            FailureDomain::Drive | FailureDomain::Rack | FailureDomain::Zone => {
                others.iter().filter(|other| self.domain(**other, rule.level) == domain).count()
            }
        };
        Crowding { over_limit: same_domain >= rule.limit, same_node, same_domain }
    }

    /// No place is less crowded than this: once one is found that is as good, the search may end.
    pub(crate) fn least_crowding(&self, rule: SpreadRule, others: &[DriveIndex]) -> Crowding {
        Crowding {
            over_limit: false,
            same_node: self.least_used(FailureDomain::Node, others),
            same_domain: self.least_used(rule.level, others),
        }
    }

    /// Slots in the least used domain that may be given slots.
    fn least_used(&self, level: FailureDomain, others: &[DriveIndex]) -> usize {
        if level == FailureDomain::Drive {
            return 0;
        }
        let placeable = &self.placeable_domains[level_index(level)];
        let mut used: Vec<(usize, usize)> = Vec::with_capacity(others.len());
        for other in others {
            let domain = self.domain(*other, level);
            match used.iter_mut().find(|(known, _)| *known == domain) {
                Some((_, slots)) => *slots += 1,
                None if placeable.contains(&domain) => used.push((domain, 1)),
                None => {}
            }
        }
        if used.len() < placeable.len() {
            return 0;
        }
        used.into_iter().map(|(_, slots)| slots).min().unwrap_or_default()
    }

    /// The most slots that one domain of `level` holds.
    pub(crate) fn fullest_domain(&self, level: FailureDomain, slots: &[DriveIndex]) -> usize {
        slots
            .iter()
            .map(|slot| {
                let domain = self.domain(*slot, level);
                slots.iter().filter(|other| self.domain(**other, level) == domain).count()
            })
            .max()
            .unwrap_or_default()
    }
}

fn level_index(level: FailureDomain) -> usize {
    match level {
        FailureDomain::Drive => 0,
        FailureDomain::Node => 1,
        FailureDomain::Rack => 2,
        FailureDomain::Zone => 3,
    }
}
