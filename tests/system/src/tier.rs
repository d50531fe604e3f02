//! Agents, brokers and the link between them, killed and cut.

mod kills;
mod link;

use crate::harness::Group;

/// The group `tier`.
pub(crate) const GROUP: Group =
    Group { name: "tier", tests: &[("kills-and-cuts", kills::kills_and_cuts)] };
