//! Agents, brokers and the link between them, killed and cut.

mod console;
mod exemplars;
mod hour;
mod journal;
mod kills;
mod lines;
mod link;
mod replaced;
mod tenants;
mod wrong_places;

pub(crate) use kills::{check_passes, samples_of};

use crate::harness::Group;

/// The group `tier`.
pub(crate) const GROUP: Group = Group {
    name: "tier",
    tests: &[
        ("console-answers", console::same_answers),
        ("console-outage", console::outage),
        ("console-refusals", console::refusals),
        ("console-tenants", tenants::through_a_console),
        ("console-thinned-days", console::thinned_days),
        ("agent-exemplars", exemplars::through_an_outage),
        ("kills-and-cuts", kills::kills_and_cuts),
        ("lines-over-rotations", lines::over_rotations),
        ("lines-of-one-process", lines::all_in_one),
        ("lines-of-the-journal", journal::once_each),
        ("hour-away", hour::hour_away),
        ("replaced-broker", replaced::replaced_broker),
        ("wrong-places", wrong_places::wrong_places_are_named),
    ],
};
