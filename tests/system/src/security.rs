//! What must not leave the program: secrets, and requests to where none may go.

mod outgoing;
mod secrets;

use crate::harness::Group;

/// The group `security`.
pub(crate) const GROUP: Group = Group {
    name: "security",
    tests: &[
        ("secrets-stay-secret", secrets::stay_secret),
        ("no-request-to-metadata-services", outgoing::outgoing),
    ],
};
