//! Brokers of a cluster as real processes: founded and joined as the documentation says, killed,
//! restarted, refused. What needs no real process (partitions, clocks, thousands of seeds) is in
//! `tests/simulation`.

mod agents;
mod buckets;
mod full;
mod kills;
mod leaving;
mod moto;
mod moves;
mod network;
mod refusals;
mod restarts;
mod site;
mod tiers;

use crate::harness::Group;

/// The group `cluster`.
pub(crate) const GROUP: Group = Group {
    name: "cluster",
    tests: &[
        ("restart-one-by-one", restarts::one_by_one),
        ("kills", kills::kills),
        ("drain-and-start", leaving::drain_and_start),
        ("authority", leaving::authority),
        ("agent-fails-over", agents::fails_over),
        ("refusals", refusals::refusals),
        ("full-and-read-only", full::full_and_read_only),
        ("two-stores", tiers::two_stores),
        ("bucket", buckets::in_a_bucket),
        ("migrate", moves::one_machine),
        ("network", network::faults),
    ],
};
