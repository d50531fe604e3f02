//! Tenants: nobody reads what is another one's, by no route; limits are each one's own; a name stays
//! what it is.

mod credentials;
mod isolation;
mod limits;
mod names;
mod shares;

use crate::harness::Group;

/// The group `tenants`.
pub(crate) const GROUP: Group = Group {
    name: "tenants",
    tests: &[
        ("no-route-leaks", isolation::no_route_leaks),
        ("deletes-and-kills-stay-at-home", isolation::deletes_and_kills),
        ("credentials-are-bound", credentials::bound),
        ("live-ends-with-the-credential", credentials::live_ends),
        ("every-way-in-has-its-limits", limits::every_way_in),
        ("series-of-one-are-not-those-of-another", limits::series),
        ("names-survive-kill-9", names::kills),
        ("there-are-only-so-many", names::only_so_many),
        ("one-leaves-live-subscriptions-to-others", shares::live),
        ("one-leaves-metadata-to-others", shares::metadata),
        ("one-leaves-pushed-groups-to-others", shares::pushgateway),
    ],
};
