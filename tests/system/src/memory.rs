//! The program in little memory: 512 MiB in a control group of its own, an explosion of series, heavy
//! queries. The kernel must never have to kill it.

mod control_group;
mod explosion;
mod heavy_queries;
mod limits;
mod stopping;

use crate::harness::Group;

/// The group `memory`.
pub(crate) const GROUP: Group = Group {
    name: "memory",
    tests: &[
        ("limits", limits::limits),
        ("query-stopped", stopping::by_number),
        ("query-abandoned", stopping::by_leaving),
        ("explosion", explosion::explosion),
    ],
};
