//! The kinds of faults, and how often each is chosen.

use crate::world::Seed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    LeaderInMinority,
    LeaderInMajority,
    Split,
    /// A leader that is heard by nobody.
    LeaderMute,
    /// A leader that hears nobody.
    LeaderDeaf,
    /// One link.
    Cut,
    Stall,
    Suspend,
    PowerCut,
    LongOutage,
    PowerCutAll,
    Kill,
    KillInComplete,
    Restart,
    ClockJump,
    DiskFull,
    DamagedLog,
    ChangeVoters,
}

/// With weights.
const KINDS: [(Kind, u64); 18] = [
    (Kind::LeaderInMinority, 10),
    (Kind::LeaderInMajority, 8),
    (Kind::Split, 6),
    (Kind::LeaderMute, 6),
    (Kind::LeaderDeaf, 6),
    (Kind::Cut, 6),
    (Kind::Stall, 10),
    (Kind::Suspend, 6),
    (Kind::PowerCut, 14),
    (Kind::LongOutage, 4),
    (Kind::PowerCutAll, 3),
    (Kind::Kill, 8),
    (Kind::KillInComplete, 6),
    (Kind::Restart, 5),
    (Kind::ClockJump, 6),
    (Kind::DiskFull, 3),
    (Kind::DamagedLog, 5),
    (Kind::ChangeVoters, 6),
];

impl Kind {
    pub(super) fn choose(seed: &mut Seed) -> Self {
        let total = KINDS.iter().map(|(_, weight)| weight).sum();
        let mut at = seed.below(total);
        for (kind, weight) in KINDS {
            if at < weight {
                return kind;
            }
            at -= weight;
        }
        Self::Stall
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::LeaderInMinority => "leader_in_minority",
            Self::LeaderInMajority => "leader_in_majority",
            Self::Split => "split",
            Self::LeaderMute => "leader_mute",
            Self::LeaderDeaf => "leader_deaf",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Suspend => "suspend",
            Self::PowerCut => "power_cut",
            Self::LongOutage => "long_outage",
            Self::PowerCutAll => "power_cut_all",
            Self::Kill => "kill",
            Self::KillInComplete => "kill_in_complete",
            Self::Restart => "restart",
            Self::ClockJump => "clock_jump",
            Self::DiskFull => "disk_full",
            Self::DamagedLog => "damaged_log",
            Self::ChangeVoters => "change_voters",
        }
    }
}
