//! Brokers of a cluster as real processes: founded and joined as the documentation says, killed,
//! restarted, refused. What needs no real process (partitions, clocks, thousands of seeds) is in
//! `tests/simulation`.

mod agents;
mod alerting;
mod balanced;
mod buckets;
mod full;
mod garage;
mod gateway;
mod kills;
mod leaving;
mod lines;
mod moto;
mod moves;
mod network;
mod redis;
mod refusals;
mod restarts;
mod scrapes;
mod site;
mod tiers;
mod versions;
mod workers;
mod wrong_starts;

pub(crate) use site::join_token;

use crate::harness::Group;

/// What takes long, or programs that tests do not install: `watchfire-system cluster-by-hand/WORD`.
pub(crate) const BY_HAND: Group = Group {
    name: "cluster-by-hand",
    tests: &[
        ("garage", garage::bad_luck),
        ("balanced", balanced::seven_brokers),
        ("redis-primary-cut-off", redis::a_primary_is_cut_off),
        ("scrapes", scrapes::taken_over),
    ],
};

/// The group `cluster`.
pub(crate) const GROUP: Group = Group {
    name: "cluster",
    tests: &[
        ("restart-one-by-one", restarts::one_by_one),
        ("kills", kills::kills),
        ("lines", lines::kills),
        ("drain-and-start", leaving::drain_and_start),
        ("authority", leaving::authority),
        ("agent-fails-over", agents::fails_over),
        ("refusals", refusals::refusals),
        ("wrong-starts", wrong_starts::put_right),
        ("full-and-read-only", full::full_and_read_only),
        ("two-stores", tiers::two_stores),
        ("workers", workers::killed_and_frozen),
        ("migrate", moves::one_machine),
        ("versions", versions::beside_each_other),
        ("one-notifies", alerting::one_notifies),
    ],
};

/// The group `cluster-stores`: over programs of others, and over networks that break. It runs beside `cluster`.
pub(crate) const OVER_STORES: Group = Group {
    name: "cluster-stores",
    tests: &[
        ("bucket", buckets::in_a_bucket),
        ("network", network::faults),
        ("redis", redis::brokers_break),
        ("ceph", gateway::kill_and_ended_credentials),
    ],
};
