//! Agents, brokers and the link between them, killed and cut.

mod hour;
mod kills;
mod link;

use crate::harness::Group;

/// The group `tier`.
pub(crate) const GROUP: Group = Group {
    name: "tier",
    tests: &[("kills-and-cuts", kills::kills_and_cuts), ("hour-away", hour::hour_away)],
};
