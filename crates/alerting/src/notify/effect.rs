//! What the notifier wants done, and what comes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Labels;

use super::{Alert, Fingerprint, Reason};

/// What the notifier wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A receiver is to be told. Whoever does it answers with [`super::Notifier::answered`].
    Send(Notification),
    /// A notification is not wanted any more: it took too long, or its receiver is gone. An answer
    /// to it is ignored.
    Abandon(NotificationId),
}

/// Tells notifications apart, also from those before a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NotificationId(pub u64);

/// What one receiver is to be told in one way.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// Its number. Attempts at the same notification have the same.
    pub id: NotificationId,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The receiver.
    pub receiver: Arc<str>,
    /// The place of the integration among all of the receiver.
    pub integration: usize,
    /// The integration's kind, such as `webhook`.
    pub kind: &'static str,
    /// The integration's place among those of its kind.
    pub index: usize,
    /// The group.
    pub group_key: Arc<str>,
    /// The labels all alerts of the group have in common by its definition.
    pub group_labels: Labels,
    /// The route.
    pub route_id: Arc<str>,
    /// The alerts to be told of, in order; never empty.
    pub alerts: Arc<[NotifiedAlert]>,
    /// Why now.
    pub reason: Reason,
    /// The moment of which it tells, in nanoseconds since 1970.
    pub now_ns: i64,
    /// How long the group waits before it repeats itself, in nanoseconds.
    pub repeat_interval_ns: i64,
    /// When this attempt must be over, in nanoseconds since 1970.
    pub deadline_ns: i64,
    /// What the integration kept from the last message about the group; empty for the first.
    pub store: BTreeMap<String, String>,
}

/// An alert as a receiver is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifiedAlert {
    /// The alert.
    pub alert: Arc<Alert>,
    /// What tells it from others.
    pub fingerprint: Fingerprint,
    /// Whether it had ended. While it fires, its end means nothing and is not told.
    pub resolved: bool,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver knows.
    Delivered {
        /// What the integration wants to keep for its next message about the group; what it kept
        /// before if `None`.
        store: Option<BTreeMap<String, String>>,
    },
    /// It may work later.
    Retry {
        /// What went wrong.
        message: String,
        /// How long to wait at least, in nanoseconds, if the receiver said so.
        after_ns: Option<i64>,
    },
    /// It will never work.
    Failed {
        /// What went wrong.
        message: String,
    },
}
