//! Live push: what arrives, how soon, and what a reader that stops reading costs.

mod pushes;
mod slow_readers;
pub(crate) mod websocket;

use crate::harness::Group;

/// Tests of `/api/v1/live` and of the first second of a start.
pub(crate) const GROUP: Group = Group {
    name: "live",
    tests: &[
        ("first-data", pushes::first_data),
        ("host-each-second", pushes::host_each_second),
        ("latency", pushes::latency),
        ("expression", pushes::expression),
        ("values", pushes::values),
        ("errors-and-limits", pushes::errors_and_limits),
        ("slow-readers", slow_readers::slow_readers),
    ],
};
