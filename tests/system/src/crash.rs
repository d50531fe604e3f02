//! What is acknowledged survives: kill -9 at any moment and at chosen system calls, and power cuts.

mod deletes;
mod exemplars;
mod kill;
mod power_cut;
mod remote_outage;
mod system_calls;

use crate::harness::Group;

/// The group `crash`.
pub(crate) const GROUP: Group = Group {
    name: "crash",
    tests: &[
        ("kill", kill::kill),
        ("deletes", deletes::deletes),
        ("kill-exemplars", exemplars::kill),
        ("sync-points", system_calls::syncs),
        ("directory-sync-points", system_calls::directory_syncs),
        ("rename-points", system_calls::renames),
        ("unlink-points", system_calls::unlinks),
        ("power-cut", power_cut::power_cut),
        ("remote-outage", remote_outage::outage),
        ("remote-away", remote_outage::bounded),
    ],
};

/// Writers in every test: more than one, so that syncs serve groups.
const WRITERS: u64 = 3;

/// Flushes and merges all the time, so that crashes hit them too.
const BUSY: &str = "storage:\n  flush_interval: 60ms\n  flush_bytes: 200000\n";
