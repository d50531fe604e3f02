//! Routes, groups, inhibition, silences and what is sent when: what Alertmanager does, as a state
//! machine without a clock, a socket or a disk.
//!
//! [`Notifier`] is the machine. An alert that is posted goes down the tree of [`routing`], into a
//! group of each route where it ends. When a group is due, what mutes its alerts is looked at
//! (inhibition, intervals of time, silences), then for each integration of its receiver what that
//! was told before ([`LogEntry`]). What remains are notifications ([`Effect`]), whose outcomes
//! come back.

mod alert;
mod dedup;
mod effect;
mod group;
mod inhibition;
mod limits;
mod log;
mod made_up;
mod notifier;
mod policy;
mod reload;
pub mod routing;
mod schedule;
mod sending;
mod shared_text;
mod silence;
mod silences;
mod snapshot;
#[cfg(test)]
mod tests;
mod view;

pub use alert::{Alert, AlertError, Fingerprint, PostedAlert};
pub use dedup::Reason;
pub use effect::{Effect, Notification, NotificationId, NotifiedAlert, Outcome};
use group::Group;
pub use group::{GroupPlace, IntegrationOutcome};
pub use limits::Limits;
pub use log::{LogEntry, LogKey};
pub use made_up::made_up_alert;
pub use notifier::{Counts, Notifier};
pub use policy::Policy;
pub use silence::{PostedSilence, Silence, SilenceError, SilenceMatcher, SilenceState};
pub use snapshot::{
    AlertRecord, Changes, GroupRecord, LogRecord, SNAPSHOT_VERSION, Snapshot, SnapshotError,
};
pub use view::{AlertState, AlertStatus, AlertView, Explanation, GroupView};
